"""Random policies and requests: roles, wildcards, dotfiles, sets, unusual resources and unreadable conditions."""

from __future__ import annotations

import random
from itertools import pairwise

from remit.core.calls import Context, action_matches
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
    "'x' in args.list", "args.null == 'a'", "args.text < args.n", "named_by_user", "'l' in labels", "'l' not in labels", "args.text in contains",
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
    kept = [part for at, part in enumerate(segments) if part != "**" or at == 0 or segments[at - 1] != "**"]
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
    """Random role links. One result in six is a single chain, about as deep as Casbin follows or one link deeper.

    Without `circles` there are no cycles: the number of a role grows along every chain. With `circles`, so few roles are used
    that Casbin follows every chain.
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
        named_by_user=dice.random() < 0.5,
        contains=frozenset(dice.sample(("l", "a"), dice.randint(0, 2))),
        calls={"mail.send": dice.randint(0, 3)},
        approvals={role: dice.randint(0, 2) for role in ("role:0", "role:1")},
        env=dice.choice(("local", "prod")),
        confinement=dice.choice(("full", "none")),
        time=dice.choice(("08:59", "09:00", "16:59", "17:00")),
    )  # fmt: skip


def aimed(dice: random.Random, rules: Policy) -> tuple[str, str, str]:
    """A subject, an action and a resource close to some rule, because most random requests match no rule."""
    row = dice.choice(rules.rows)
    who = dice.choice([row.subject, *sorted(rules.members_of(row.subject))])
    action = dice.choice([name for name in (*ACTIONS, "files") if action_matches(name, row.action)] or ACTIONS)
    kind = row.pattern.kind or "file"
    segments: list[str] = []
    for segment in row.pattern.segments or ("**",):
        if segment == "**":
            segments += [dice.choice(SEGMENTS) for _ in range(dice.choice((0, 1, 1, 2)))]
        else:
            segments.append(
                "".join(
                    dice.choice(("", "a", "b", ".", "ab")) if character == "*" else character for character in segment
                )
            )
    if segments and dice.random() < 0.2:
        segments[dice.randrange(len(segments)) :] = [dice.choice(SEGMENTS)]
    name = f"{kind}:{'/'.join(segments)}"
    return who, action, f"{name.rpartition('/')[0] or kind + ':'}/**" if dice.random() < 0.15 else name
