"""Random policies, edits and requests, from a universe so small that every request can be tried."""

from __future__ import annotations

import random

from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core.calls import Context
from remit.policy.language.loader import Vocabulary
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()

SUBJECTS = ("agent:a", "agent:b", "user:u", "user:v", "user:w")
ROLES = tuple(f"role:{n}" for n in range(6))
ACTIONS = ("files.read", "files.write", "mail.send", "mail.list")
SEGMENTS = ("a", "ab", ".a", "b.c", "ba", "aba", "zz")
PATTERN_SEGMENTS = ("a", "ab", ".a", "*", "a*", "*b*", "*a", "**", "**", "b*a")
DOCUMENTS = ("a", "b", "a/b", "a/a", "b/ab", "a/b/a")
# Every resource of the small universe: files in at most two folders, folders as sets, and other kinds.
_PATHS = [*SEGMENTS, *(f"{folder}/{name}" for folder in SEGMENTS[:5] for name in SEGMENTS[:5]), "a/ab/zz", ".a/a/b.c"]
RESOURCES = (
    *(f"file:{path}" for path in _PATHS), *(f"file:{path}/**" for path in _PATHS[:20]), "file:**", "file:.", "none:",
    *(f"ticket:{name}" for name in ("a", "INC-1", "X-1", "b")), *(f"document:{name}" for name in DOCUMENTS), *(f"https://h.example/{path}" for path in ("", "a", "ab/a", "zz/")),
    "mail:a@b.example",
)  # fmt: skip
ATOMS = (
    "args.n < 3", "args.n == 2", "args.n <= 3", "args.gone == 1", "args.text in labels", "'a' in args.text", "len(args.list) >= 2",
    "args.n < 'x'", "args.flag", "'x' in args.list", "args.null == 'a'", "args.text < args.other", "args.n < args.m", "named_by_user",
    "'l' in labels", "'l' not in labels", "args.text in contains", "calls('mail.send') < 2", "env == 'prod'", "confinement != 'none'",
    "'09:00' <= time < '17:00'", "True", "False", "args.text == 'a'", "len(args.text) > 2", "1 <= args.n <= 2", "args.text != args.other",
    "'bc' in args.text", "args.text in 'abc'", "time in labels", "has(args.gone)", "has(args.n)", "has(args.n) and args.n == 2",
    "subject.id == args.text", "resource.owner == subject.id", "has(resource.owner)", "resource.owner == 'a'", "subject.level >= 2",
    "subject.level < args.n", "has(resource.owner) and resource.owner != subject.id", "'a' in resource.tags", "len(resource.owner) > 1",
)  # fmt: skip


UNCLEAR = ("subject.id", "subject.level", "resource.owner", "resource.*")
VOCABULARY = Vocabulary(actions=dict.fromkeys(ACTIONS))


def side(text: str, vocabulary: Vocabulary | None = VOCABULARY) -> RuleSet:
    return read_rule_set("rules", {"policies/model.conf": MODEL, "policies/rules.csv": text.encode()}, vocabulary)


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
    kind = dice.choice(("file", "file", "file", "file", "https", "ticket", "document", "none", "all"))
    if kind == "all":
        return "**"
    if kind == "none":
        return dice.choice(("none:", "none:*", "none:**"))
    if kind == "ticket":
        return f"ticket:{dice.choice(('a', 'INC-*', '*', '**', '*-1'))}"
    if kind == "document":
        return f"document:{dice.choice(('a', 'a/b', 'a/*', 'a/**', '*', '**', '*/b', '**/a'))}"
    segments = [dice.choice(PATTERN_SEGMENTS) for _ in range(dice.randint(1, 3))]
    kept = [part for at, part in enumerate(segments) if part != "**" or at == 0 or segments[at - 1] != "**"]
    return f"file:{'/'.join(kept)}" if kind == "file" else f"https://h.example/{'/'.join(kept)}"


def resource(dice: random.Random) -> str:
    path = "/".join(dice.choice(SEGMENTS) for _ in range(dice.randint(1, 3)))
    ticket = dice.choice(("a", "INC-1", "INC-2", "X-1", "b"))
    return dice.choice(
        (f"file:{path}", f"file:{path}", f"file:{path}/**", "file:**", "file:.", f"https://h.example/{path}",
         "https://h.example/", f"https://h.example/{path}/", "none:", f"ticket:{ticket}", f"document:{dice.choice(DOCUMENTS)}", "mail:a@b.example")
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
    """Remove, add or replace one to three rows; sometimes return a new policy instead."""
    if dice.random() < 0.15:
        return rows(dice)
    after = list(before)
    for _ in range(dice.randint(1, 3)):
        if after and dice.random() < 0.5:
            del after[dice.randrange(len(after))]
        if dice.random() < 0.7:
            after.append(rule(dice) if dice.random() < 0.8 else f"g, {dice.choice(SUBJECTS)}, {dice.choice(ROLES)}")
    return after


def kept(dice: random.Random, values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if dice.random() < 0.9}


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
        args=kept(dice, args),
        labels=frozenset(dice.sample(("l", "a", "09:00"), dice.randint(0, 3))),
        named_by_user=dice.random() < 0.5,
        contains=frozenset(dice.sample(("l", "a"), dice.randint(0, 2))),
        calls={"mail.send": dice.randint(0, 3)},
        approvals={role: dice.choice((0, 0, 1, 2)) for role in ("role:0", "role:1")},
        env=dice.choice(("local", "prod")),
        confinement=dice.choice(("full", "none")),
        time=dice.choice(("08:59", "09:00", "16:59", "17:00")),
        subject=kept(dice, {"id": dice.choice(("a", "u", "v")), "level": dice.choice((1, 2, 3, "2"))}),
        resource=kept(dice, {"owner": dice.choice(("a", "u", "", 3, None)), "tags": dice.choice((["a"], [], "a", [["a"]]))}),
        unclear=frozenset(name for name in UNCLEAR if dice.random() < 0.1),
    )  # fmt: skip
