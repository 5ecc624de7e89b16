"""`Policy.decide` against stock pycasbin on the same files: the same answer, by the same rows."""

from __future__ import annotations

import os
import random
import re
from itertools import pairwise

import pytest

from remit.analysis.cases import run_cases
from remit.core.calls import Context, Request, action_matches
from remit.core.errors import UsageError, WorkspaceError
from remit.policy import engine as policy
from remit.policy import index
from remit.policy.casbin_reference import stock
from remit.policy.cases import read_cases
from remit.policy.engine import Policy
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()

SUBJECTS = ("agent:a", "agent:b", "user:u", "user:v", "user:none")
ROLES = tuple(f"role:{n}" for n in range(12))
ACTIONS = ("files.read", "files.write", "mail.send", "clock.now")
SEGMENTS = ("a", "ab", ".a", "b.c", "zz", "a b", "é", "aab")
PATTERN_SEGMENTS = (*SEGMENTS[:4], "é", "*", "a*", "*b*", "a*b", ".*", "*.c", "*a*b*", "**", "**")
ATOMS = (
    "args.n < 3", "args.n == 2", "args.gone == 1", "args.text in labels", "'a' in args.text", "len(args.list) >= 2", "args.n < 'x'", "args.flag",
    "'x' in args.list", "args.null == 'a'", "args.text < args.n", "named", "'l' in labels", "'l' not in labels", "args.text in carries",
    "calls('mail.send') < 2", "env == 'prod'", "confinement != 'none'", "'09:00' <= time < '17:00'", "True", "False",
)  # fmt: skip


def condition(dice: random.Random, effect: str, depth: int = 2) -> str:
    if depth == 0 or dice.random() < 0.5:
        if dice.random() < 0.15:
            approval = dice.choice(("approved('role:0')", "approvals('role:1') >= 2"))
            return approval if effect == "allow" else f"not {approval}"
        atom = dice.choice(ATOMS)
        return f"not ({atom})" if dice.random() < 0.2 else atom
    parts = [condition(dice, effect, depth - 1) for _ in range(2)]
    joined = dice.choice((" and ", " or ")).join(parts)
    return f"({joined})"


def pattern(dice: random.Random) -> str:
    kind = dice.choice(("file", "file", "file", "https", "ticket", "none", "all", "all"))
    if kind == "all":
        return "**"
    if kind == "none":
        return dice.choice(("none:", "none:*", "none:**"))
    if kind == "ticket":
        return f"ticket:{dice.choice(('a', 'INC-*', '*', '**'))}"
    segments = [dice.choice(PATTERN_SEGMENTS) for _ in range(dice.choice((1, 2, 2, 3, 3, 4, 5)))]
    kept = [one for at, one in enumerate(segments) if one != "**" or at == 0 or segments[at - 1] != "**"]
    return (
        f"file:{'/'.join(kept)}"
        if kind == "file"
        else f"https://h.example/{'/'.join(kept).replace('é', 'e').replace(' ', '')}"
    )


def resource(dice: random.Random) -> str:
    path = "/".join(dice.choice(SEGMENTS) for _ in range(dice.choice((1, 1, 2, 2, 3, 4))))
    odd = dice.choice(
        ("file:a//b", "file:../a", "file:a*", "a", "file:a\n", "none:", "none:", "ticket:INC-1", "ticket:a",
         "ticket:INC-", ":a", "", "file:", "file:.", "file:/a", "file:a/", "file:./a", "https://h.example/", "x:a", "filea", "none:**")
    )  # fmt: skip
    return dice.choice(
        (f"file:{path}", f"file:{path}", f"file:{path}", f"file:{path}/**", "file:**", "file:./**",
         f"https://h.example/{path}", f"https://h.example/{path}/", f"https://h.example/{path}/**", odd)
    )  # fmt: skip


def links(dice: random.Random, *, circles: bool) -> list[str]:
    """Roles at random, a sixth of them one chain as deep as Casbin follows, or one too many; in circles only where these are wanted.

    Without circles a role's number grows along every chain. With them few enough roles take part that Casbin follows all.
    """
    roles = ROLES[:8] if circles else ROLES
    found = [f"g, {dice.choice((*SUBJECTS, *roles[:9]))}, {dice.choice(roles)}" for _ in range(dice.randint(0, 14))]
    if dice.random() < 1 / 6:
        chain = [dice.choice(SUBJECTS), *(f"role:{n}" for n in range(dice.choice((5, 9, 10)) if not circles else 7))]
        return [f"g, {member}, {role}" for member, role in pairwise(chain)]
    if circles:
        return found
    return [
        row
        for row in found
        if not row.startswith("g, role") or int(row.split(":")[1].split(",")[0]) < int(row.rsplit(":", 1)[1])
    ]


def rows(dice: random.Random, *, circles: bool = False) -> list[str]:
    given = links(dice, circles=circles)
    rules: list[str] = []
    for _ in range(dice.randint(0, 16)):
        effect = dice.choice(("allow", "allow", "deny"))
        who = dice.choice((*SUBJECTS, *ROLES))
        what = dice.choice((*ACTIONS, "files.*", "mail.*", "*", "*"))
        rules.append(f"p, {who}, {what}, {pattern(dice)}, {dice.choice(('True', condition(dice, effect)))}, {effect}")
    return dice.sample(given + rules, len(given) + len(rules))


def context(dice: random.Random) -> Context:
    args = {
        "n": dice.randint(0, 4),
        "text": dice.choice(("a", "l", "xyz")),
        "list": ["x"] * dice.randint(0, 3),
        "flag": dice.choice((True, False, 1)),
        "null": None,
    }
    return Context(
        args={name: value for name, value in args.items() if dice.random() < 0.9},
        labels=frozenset(dice.sample(("l", "a"), dice.randint(0, 2))),
        named=dice.random() < 0.5,
        carries=frozenset(dice.sample(("l", "a"), dice.randint(0, 2))),
        calls={"mail.send": dice.randint(0, 3)},
        approvals={role: dice.randint(0, 2) for role in ("role:0", "role:1")},
        env=dice.choice(("local", "prod")),
        confinement=dice.choice(("full", "none")),
        time=dice.choice(("08:59", "09:00", "16:59", "17:00")),
    )  # fmt: skip


def aimed(dice: random.Random, rules: Policy) -> tuple[str, str, str]:
    """Who, what and on which resource, near what some rule is about: most requests that are made up match none."""
    row = dice.choice(rules.rows)
    who = dice.choice([row.subject, *sorted(rules.members_of(row.subject))])
    action = dice.choice([one for one in (*ACTIONS, "files") if action_matches(one, row.action)] or ACTIONS)
    kind = row.pattern.kind or "file"
    segments: list[str] = []
    for segment in row.pattern.segments or ("**",):
        if segment == "**":
            segments += [dice.choice(SEGMENTS) for _ in range(dice.choice((0, 1, 1, 2)))]
        else:
            segments.append("".join(dice.choice(("", "a", "b", ".", "ab")) if one == "*" else one for one in segment))
    if segments and dice.random() < 0.2:
        segments[dice.randrange(len(segments)) :] = [dice.choice(SEGMENTS)]
    name = f"{kind}:{'/'.join(segments)}"
    return who, action, f"{name.rpartition('/')[0] or kind + ':'}/**" if dice.random() < 0.15 else name


# A slice in every run; `make exact` tries 10,400 (312,000 requests, some four minutes of two cores).
POLICIES = int(os.environ.get("REMIT_EXACT_POLICIES", "440"))


@pytest.mark.parametrize("seed", range(8))
def test_random_policies_decide_as_stock_casbin_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles, wildcards, dotfiles, sets, odd resources, conditions that cannot be read; every row that mattered too."""
    if seed % 2:
        monkeypatch.setattr(index, "CROWDED", 1)  # as if many rules lay in each place
    circles = seed >= 6  # nobody can load them; decided alike all the same
    if circles:
        monkeypatch.setattr("remit.policy.language.loader.check_links", lambda _: ())
    dice = random.Random(seed)
    counts = dict.fromkeys(("policies", "requests", "allowed", "denied", "asked", "several", "refused_to_load"), 0)
    while counts["policies"] < max(1, POLICIES // 8):
        text = "\n".join(rows(dice, circles=circles))
        files = {"policies/model.conf": MODEL, "policies/rules.csv": text.encode()}
        try:
            rules = policy.load_policy(files)
        except WorkspaceError:
            counts["refused_to_load"] += 1  # chains deeper than Casbin follows
            continue
        reference = stock(files)
        counts["policies"] += 1
        for _ in range(30):
            subject, action, name, facts = dice.choice(SUBJECTS), dice.choice(ACTIONS), resource(dice), context(dice)
            if rules.rows and dice.random() < 0.75:
                subject, action, name = aimed(dice, rules)
            request = Request(subjects=(subject,), action=action, resources=(name,), context=facts)
            decision = rules.decide(request)
            found = (text, request, decision)
            allowed, explained = reference.explained(subject, action, name, facts)
            matched = reference.matched(subject, action, name, facts)
            deciding = [tuple(field.strip() for field in rule.text.split(","))[1:] for rule in decision.rules]
            counts["requests"] += 1
            counts["several"] += len(matched) > 1
            assert (decision.verdict == "allow") is allowed, found
            if decision.verdict == "allow":
                counts["allowed"] += 1
                assert deciding == matched, found
                assert explained == deciding[-1], found
            elif decision.reason in ("denied_by_rule", "error") and decision.rules:
                counts["denied"] += 1
                assert deciding == [row for row in matched if row[4] == "deny"], found
                assert explained in deciding, found
            elif decision.verdict == "ask":
                counts["asked"] += 1
            elif decision.reason == "no_rule_allows":
                assert (explained, matched) == ((), []), found
    assert min(counts["allowed"], counts["denied"]) > 20
    assert (counts["refused_to_load"] > 0) is not circles
    if POLICIES > 1000:
        print(f"\nseed {seed}: {counts}")


@pytest.mark.parametrize(
    "links",
    [
        pytest.param(["g, role:a, role:b", "g, role:b, role:a"], id="a circle"),
        pytest.param([f"g, role:{n}, role:{n + 1}" for n in range(10)], id="deeper than Casbin follows"),
    ],
)
def test_roles_that_casbin_follows_only_in_part_do_not_load(links: list[str]) -> None:
    """So nothing is ever decided by them."""
    with pytest.raises(WorkspaceError):
        policy.load_policy({"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(links).encode()})


def test_several_subjects_and_resources_are_allowed_only_if_casbin_allows_each() -> None:
    """The conjunction over pairs is Remit's own; each pair is Casbin's."""
    dice = random.Random(8)
    allowed = 0
    for _ in range(60):
        files = {
            "policies/model.conf": MODEL,
            "policies/rules.csv": "\n".join([*rows(dice), "p, role:0, *, **, True, allow"]).encode(),
        }
        try:
            rules, reference = policy.load_policy(files), stock(files)
        except WorkspaceError:  # a chain deeper than Casbin follows
            continue
        for _ in range(20):
            request = Request(
                subjects=tuple(dice.sample((*SUBJECTS, "role:0"), dice.randint(0, 2))),
                action=dice.choice(ACTIONS),
                resources=tuple(resource(dice) for _ in range(dice.randint(0, 2))),
                context=context(dice),
            )
            allowed += reference.allows(request)
            assert (rules.decide(request).verdict == "allow") is reference.allows(request), (files, request)
    assert allowed > 20


def test_the_shipped_rules_load_in_stock_casbin_and_its_cases_decide_alike() -> None:
    """Who leaves Remit keeps the policy."""
    folder = ROOT / "policies"
    files = {f"policies/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    rules, reference = policy.load_policy(files), stock(files)
    results = run_cases(rules, files["policies/cases.yaml"].decode(), "policies/cases.yaml")
    requests = [case.request() for _, case in read_cases(rules, files["policies/cases.yaml"].decode(), "")]
    assert [reference.allows(request) for request in requests] == [result.verdict == "allow" for result in results]
    assert len(requests) > 20


def test_only_the_second_opinion_asks_casbin() -> None:
    """`enable_enforce(False)` allows everything: so Casbin may take a permission away, and never gives one."""
    package = ROOT / "agent" / "remit"
    found = {
        (str(path.relative_to(package)), match[1])
        for path in package.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if (match := re.match(r"\s*(?:from|import) (casbin|remit\.policy\.casbin_reference)\b", line))
    }
    assert found == {
        ("policy/casbin_reference.py", "casbin"),
        ("policy/second_opinion.py", "remit.policy.casbin_reference"),
    }


def test_the_other_distribution_of_casbin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`casbin` 1.43 overwrites pycasbin's files and matches otherwise."""
    monkeypatch.setattr("remit.policy.casbin_reference.version", lambda name: "1.43.0")
    with pytest.raises(UsageError, match="overwritten"):
        stock({"policies/model.conf": MODEL})
