"""The semantic diff: what it reports is true, and what a search by brute force finds it has reported."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.analysis.difference import difference
from remit.analysis.findings import Difference
from remit.analysis.side import Side, read_side
from remit.analysis.witness import counterpart, verify
from remit.call import Context, Request
from remit.policy import Vocabulary

MODEL = (Path(__file__).parents[1] / "policies" / "model.conf").read_bytes()

SUBJECTS = ("agent:a", "agent:b", "user:u", "user:v", "user:w")
ROLES = tuple(f"role:{n}" for n in range(6))
ACTIONS = ("files.read", "files.write", "mail.send", "mail.list")
SEGMENTS = ("a", "ab", ".a", "b.c", "ba", "aba", "zz")
PATTERN_SEGMENTS = ("a", "ab", ".a", "*", "a*", "*b*", "*a", "**", "**", "b*a")
ATOMS = (
    "args.n < 3", "args.n == 2", "args.n <= 3", "args.gone == 1", "args.text in labels", "'a' in args.text", "len(args.list) >= 2",
    "args.n < 'x'", "args.flag", "'x' in args.list", "args.null == 'a'", "args.text < args.other", "args.n < args.m", "named",
    "'l' in labels", "'l' not in labels", "args.text in directory", "calls('mail.send') < 2", "env == 'prod'", "confinement != 'none'",
    "'09:00' <= time < '17:00'", "True", "False", "args.text == 'a'", "len(args.text) > 2", "1 <= args.n <= 2", "args.text != args.other",
    "'bc' in args.text", "args.text in 'abc'", "time in labels",
)  # fmt: skip


VOCABULARY = Vocabulary(actions=dict.fromkeys(ACTIONS))


def side(text: str, vocabulary: Vocabulary | None = VOCABULARY) -> Side:
    return read_side("rules", {"policies/model.conf": MODEL, "policies/rules.csv": text.encode()}, vocabulary)


def condition(dice: random.Random, effect: str, depth: int = 2) -> str:
    if depth == 0 or dice.random() < 0.5:
        if dice.random() < 0.25:
            approval = dice.choice(("approved('role:0')", "approvals('role:1') >= 2", "approvals('role:0') >= 2"))
            return approval if effect == "allow" else f"not {approval}"
        atom = dice.choice(ATOMS)
        return f"not ({atom})" if dice.random() < 0.2 else atom
    joined = dice.choice((" and ", " or ")).join(condition(dice, effect, depth - 1) for _ in range(2))
    return f"({joined})"


def pattern(dice: random.Random) -> str:
    kind = dice.choice(("file", "file", "file", "file", "https", "ticket", "none", "all"))
    if kind == "all":
        return "**"
    if kind == "none":
        return dice.choice(("none:", "none:*", "none:**"))
    if kind == "ticket":
        return f"ticket:{dice.choice(('a', 'INC-*', '*', '**', '*-1'))}"
    segments = [dice.choice(PATTERN_SEGMENTS) for _ in range(dice.randint(1, 3))]
    kept = [one for at, one in enumerate(segments) if one != "**" or at == 0 or segments[at - 1] != "**"]
    return f"file:{'/'.join(kept)}" if kind == "file" else f"https://h.example/{'/'.join(kept)}"


def resource(dice: random.Random) -> str:
    path = "/".join(dice.choice(SEGMENTS) for _ in range(dice.randint(1, 3)))
    ticket = dice.choice(("a", "INC-1", "INC-2", "X-1", "b"))
    return dice.choice(
        (f"file:{path}", f"file:{path}", f"file:{path}/**", "file:**", "file:.", f"https://h.example/{path}",
         "https://h.example/", f"https://h.example/{path}/", "none:", f"ticket:{ticket}", "mail:a@b.example")
    )  # fmt: skip


def rows(dice: random.Random) -> list[str]:
    links = [f"g, {dice.choice((*SUBJECTS, *ROLES[:4]))}, {dice.choice(ROLES)}" for _ in range(dice.randint(0, 7))]
    links = [
        row
        for row in links
        if not row.startswith("g, role") or int(row.split(":")[1].split(",")[0]) < int(row.rsplit(":", 1)[1])
    ]
    return links + [rule(dice) for _ in range(dice.randint(1, 9))]


def rule(dice: random.Random) -> str:
    effect = dice.choice(("allow", "allow", "deny"))
    who = dice.choice((*SUBJECTS, *ROLES[:4]))
    what = dice.choice((*ACTIONS, "files.*", "mail.*", "*", "*"))
    return f"p, {who}, {what}, {pattern(dice)}, {dice.choice(('True', condition(dice, effect)))}, {effect}"


def edited(dice: random.Random, before: list[str]) -> list[str]:
    """One to three rows removed, added or replaced; now and then another policy altogether."""
    if dice.random() < 0.15:
        return rows(dice)
    after = list(before)
    for _ in range(dice.randint(1, 3)):
        if after and dice.random() < 0.5:
            del after[dice.randrange(len(after))]
        if dice.random() < 0.7:
            after.append(rule(dice) if dice.random() < 0.8 else f"g, {dice.choice(SUBJECTS)}, {dice.choice(ROLES)}")
    return after


def context(dice: random.Random) -> Context:
    args = {
        "n": dice.choice((0, 1, 2, 2.5, 3, 4, "w", "y", None)),
        "m": dice.choice((0, 1, 2, 3, "x")),
        "text": dice.choice(("a", "l", "xyz", "bc", "abc", "", 3)),
        "other": dice.choice(("a", "b", "l", "")),
        "list": dice.choice((["x"], [], ["x", "y"], ["y", "z"], [[], "x"], "abc", {"k": 1})),
        "flag": dice.choice((True, False, 1)),
        "null": dice.choice((None, "a")),
    }
    return Context(
        args={name: value for name, value in args.items() if dice.random() < 0.9},
        labels=frozenset(dice.sample(("l", "a", "09:00"), dice.randint(0, 3))),
        named=dice.random() < 0.5,
        directory=frozenset(dice.sample(("l", "a"), dice.randint(0, 2))),
        calls={"mail.send": dice.randint(0, 3)},
        approvals={role: dice.choice((0, 0, 1, 2)) for role in ("role:0", "role:1")},
        env=dice.choice(("local", "prod")),
        confinement=dice.choice(("full", "none")),
        time=dice.choice(("08:59", "09:00", "16:59", "17:00")),
    )  # fmt: skip


RANK = {"deny": 0, "ask": 1, "allow": 2}


def explained(found: Difference, request: Request, before: str, after: str) -> bool:
    """Whether the diff reports, for one of the subjects, a change in that direction; or says that it does not know."""
    wider = RANK[after] > RANK[before]
    return (
        any(
            one.action == request.action and one.wider is wider and set(one.subjects) & set(request.subjects)
            for one in found.findings
        )
        or any(one.action == request.action and set(one.subjects) & set(request.subjects) for one in found.unsettled)
        or any(one.gained if wider else one.lost for one in found.approvers)
    )


@pytest.mark.parametrize("seed", range(int(os.environ.get("REMIT_SEEDS", "2"))))
def test_brute_force_finds_nothing_that_the_diff_does_not_report(seed: int) -> None:
    """Random policies, random edits, random requests of one or two subjects on one or two resources."""
    dice = random.Random(seed)
    differed = reported = unsettled = 0
    for _ in range(20):
        before = rows(dice)
        after = edited(dice, before)
        try:
            found = difference(side("\n".join(before)), side("\n".join(after)))
        except Exception as error:
            if "circle" in str(error):
                continue
            raise
        reported += len(found.findings)
        unsettled += len(found.unsettled)
        assert verify(found).wrong == (), (before, after)
        for _ in range(150):
            request = Request(
                subjects=tuple(dice.sample(SUBJECTS, dice.choice((1, 1, 2)))),
                action=dice.choice(ACTIONS),
                resources=tuple(resource(dice) for _ in range(dice.choice((1, 1, 2)))),
                context=context(dice),
            )
            was, now = found.old.policy.decide(request).verdict, found.new.policy.decide(request).verdict
            if was != now:
                differed += 1
                assert explained(found, request, was, now), (before, after, request, was, now, found)
    assert differed + reported > 20
    assert unsettled < reported / 4


RULES = (Path(__file__).parents[1] / "policies" / "rules.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "before", "after", "action", "resource", "facts"),
    [
        pytest.param("ticket:INC-*, calls", "ticket:*, calls", "deny", "allow", "tickets.create", "ticket:other", {}, id="a pattern"),
        pytest.param("<= 20000", "<= 20001", "deny", "allow", "files.write", "file:reports/other", {"length": 20001}, id="a number by one"),
        pytest.param("approved('role:oncall-lead')", "True", "ask", "allow", "tickets.close", "ticket:INC-1", {}, id="an approval"),
        pytest.param("< 1, allow", "< 1 and 'untrusted' not in labels, allow", "allow", "deny", "tickets.create", "ticket:INC-1", {"labels": ["untrusted"]}, id="a label"),
        pytest.param("approved('role:oncall-lead')", "approvals('role:oncall-lead') >= 2", "ask", "deny", "tickets.close", "ticket:INC-1", {}, id="more people than there are"),
    ],
)  # fmt: skip
def test_an_edit_is_told_with_a_request_that_shows_it(
    old: str, new: str, before: str, after: str, action: str, resource: str, facts: dict[str, object]
) -> None:
    """And with one close by that stays refused."""
    assert old in RULES
    found = difference(side(RULES, None), side(RULES.replace(old, new, 1), None))
    change = next(one for one in found.findings if (one.before, one.after) == (before, after))
    assert (change.subject, change.action, change.resource) == ("agent:triage", action, resource)
    if "length" in facts:
        assert len(change.context.args["text"]) == facts["length"]
    assert sorted(change.context.labels) == facts.get("labels", [])
    assert verify(found).wrong == ()
    assert found.unsettled == ()
    stays = counterpart(found, change)
    assert stays is not None
    assert {
        one.verdict(stays.subject, stays.action, stays.resource, stays.context) for one in (found.old, found.new)
    } == {"deny"}


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda rows: "\n".join(reversed(rows.split("\n"))), id="another order"),
        pytest.param(lambda rows: rows.replace("True, allow", "1 < 2, allow"), id="another way to say true"),
        pytest.param(lambda rows: rows + "\np, agent:triage, files.read, file:logs/checkout.log, True, allow\n", id="a redundant allow"),
        pytest.param(lambda rows: rows + "\np, role:nobody, *, **, True, allow\n", id="a role without members"),
        pytest.param(lambda rows: rows.replace("calls('tickets.create') < 1", "not (calls('tickets.create') >= 1)"), id="a condition turned twice"),
        pytest.param(lambda rows: rows.replace("p, agent:triage, *, file:secrets/**, True, deny\n", ""), id="a deny of what nothing allows"),
    ],
)  # fmt: skip
def test_an_edit_that_changes_no_decision_is_proved_to_change_none(edit: Callable[[str], str]) -> None:
    """By the automata and the solver, not by trying."""
    assert difference(side(RULES), side(edit(RULES))).equal


def test_a_new_approver_is_told_although_no_request_changes() -> None:
    """Who may grant is authority too."""
    found = difference(side(RULES), side(RULES + "\ng, user:eve, role:oncall-lead\n"))
    assert [(one.role, one.gained, one.lost) for one in found.approvers] == [("role:oncall-lead", ("user:eve",), ())]
    assert not found.no_wider


def test_what_cannot_be_analysed_is_said_and_never_counted_as_safe() -> None:
    """Arguments looked for in each other are beyond the cells; where nothing hangs on them, that is still proved."""
    odd = "p, agent:a, mail.send, mail:*, args.text in args.list and args.list in args.text and args.text != args.list, allow"
    unclear = difference(side(""), side(odd))
    assert unclear.findings or unclear.unsettled
    assert not unclear.equal
    assert not unclear.no_wider
    everything = "p, agent:a, mail.send, mail:*, True, allow\n"
    assert difference(side(everything), side(everything + odd)).equal


def test_a_set_of_files_is_told_apart_from_its_members() -> None:
    """Two patterns that cover every file do not cover the folder as a whole."""
    parts = "p, agent:a, files.read, file:d/*, True, allow\np, agent:a, files.read, file:d/*/**, True, allow"
    found = difference(side(parts), side("p, agent:a, files.read, file:d/**, True, allow"))
    assert [(one.before, one.after, one.resource) for one in found.findings] == [("deny", "allow", "file:d/**")]


def many(count: int, seed: int) -> list[str]:
    """Agents, teams, departments and organisations, and that many rules; a third with conditions."""
    dice = random.Random(seed)
    links = [f"g, agent:a{n}, role:t{dice.randrange(100)}" for n in range(500)]
    links += [f"g, role:t{n}, role:d{n % 30}" for n in range(100)] + [f"g, role:d{n}, role:o{n % 8}" for n in range(30)]
    rules: list[str] = []
    for _ in range(count):
        who = dice.choice(
            (f"agent:a{dice.randrange(500)}", f"role:t{dice.randrange(100)}", f"role:d{dice.randrange(30)}", f"role:o{dice.randrange(8)}")
        )  # fmt: skip
        facts = dice.choice((f"args.size <= {dice.randrange(1000)}", "env == 'prod'", "'untrusted' not in labels"))
        what = f"t{dice.randrange(12)}.a{dice.randrange(10)}"
        where = f"file:projects/p{dice.randrange(count // 25)}/{dice.choice(('src/**', 'docs/*', 'x/*.csv', '*'))}"
        effect = "allow" if dice.random() < 0.85 else "deny"
        rules.append(f"p, {who}, {what}, {where}, {'True' if dice.random() < 0.7 else facts}, {effect}")
    return links + rules


def test_one_edit_among_many_rules_is_found_alone() -> None:
    """The rest of the rules costs nothing but their reading."""
    before = many(1000, 1)
    row = next(
        n for n, text in enumerate(before) if "role:o" in text and text.endswith("True, allow") and "docs/*" in text
    )
    after = [*before[:row], before[row].replace("docs/*", "**"), *before[row + 1 :]]
    found = difference(side("\n".join(before), None), side("\n".join(after), None))
    assert {one.after for one in found.findings} == {"allow"}
    assert {rule.line for one in found.findings for rule in one.added} == {row + 1}
    assert verify(found).wrong == ()
