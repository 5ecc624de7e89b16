"""What the author of a rule probably meant: the fix for each mistake that people make in files of rules."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from remit.core import called_action, near_names, one_of

P_ROW: Final = "write p, subject, action, resource, condition, allow or deny"
G_ROW: Final = "write g, member, role:<name>"
GRAMMAR: Final = "write facts, 'text', numbers, and, or, not, comparisons and in"
SUBJECT: Final = "write agent:<name>, user:<name>, service:<name> or role:<name>, without wildcards"
_EFFECTS: Final = ("allow", "deny")
# What other languages write in a condition, and what to write here.
_SIGNS: Final = {
    "=": "write == for a comparison",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`",
    "+": "compare a fact with a value: nothing is computed",
    "*": "compare a fact with a value: nothing is computed",
    "/": "compare a fact with a value: nothing is computed",
    **dict.fromkeys("‘’‚‛“”„`´", "write texts in straight single quotes: 'text'"),
}
_WORDS: Final = re.compile(r"'[^']*'|\b(AND|OR|NOT|IN)\b")


def subject_fix(subject: str, known: Collection[str]) -> str:
    """What to write in place of a text that is no subject."""
    if (near := near_names(subject, known) or near_names(subject.lower(), known)) and not subject.endswith("*"):
        return f"did you mean {near[0]}? Every subject has a kind: agent:, user:, service: or role:"
    return SUBJECT


def action_fix(action: str, known: Iterable[str]) -> str:
    """What to write in place of an action that no tool has."""
    actions = sorted(known)
    every = [*actions, *dict.fromkeys(f"{name.partition('.')[0]}.*" for name in actions)]
    for reading in (called_action(action), action.lower(), f"{action}.*", action.replace("/", ".", 1)):
        if reading in every:
            return f"did you mean {reading}?"
    near = near_names(action, every)
    return f"did you mean {near[0]}?" if near else one_of(action, actions)


def effect_fix(effect: str) -> str:
    """What to write in place of an effect of a row that is none."""
    if "#" in effect:
        return "write the comment on a line of its own, above the row"
    near = near_names(effect.lower(), _EFFECTS)
    return (
        f"did you mean {near[0]}? {'It is' if effect.lower() == near[0] else 'Write it'} in lower case"
        if near
        else "write allow or deny"
    )


def fields_fix(fields: Sequence[str], row: str) -> str:
    """What is wrong with a row that has too many or too few fields. `row` says how a row is written."""
    if len(fields) < 6 and fields[0] == "p":
        joined = next((field for field in fields[1:4] if " " in field), "")
        return f"a comma is missing in {joined!r}: {row}" if joined else row
    if fields[0] == "p" and any(sign in field for field in fields[4:-1] for sign in "()'"):
        return f"a condition has no comma: write (args.x == 'a' or args.x == 'b') for one of several values; {row}"
    return f"{row}, with no comma inside a field"


def begin_fix(first: str) -> str:
    """What to write in place of the first field of a row that is neither p nor g."""
    if first.lower() in ("p", "g"):
        return f"write {first.lower()} in lower case"
    if ";" in first or "|" in first:
        return f"separate the fields by commas: {P_ROW}"
    return f"{P_ROW}; or {G_ROW}; or # a comment"


def link_fix(member: str, role: str) -> str:
    """What to write in place of a g row whose last field is no role."""
    if member.startswith("role:") and role.startswith(("user:", "agent:", "service:")):
        return f"the member comes first: write g, {role}, {member}"
    if ":" not in role:
        return f"did you mean role:{role}? Write role:<name>, of letters, digits and . _ @ + -"
    return "write role:<name>, of letters, digits and . _ @ + -"


def syntax_fix(text: str, at: int) -> str:
    """What to write at the place of a condition where its grammar ends."""
    return _SIGNS.get(text[at], GRAMMAR)


def word_fix(text: str) -> str:
    """What is wrong with a condition whose parts are valid and that is not one expression."""
    word = next((found[1] for found in _WORDS.finditer(text) if found[1]), "")
    return f"write `{word.lower()}` in lower case" if word else GRAMMAR


def approver_fix(role: str) -> str:
    """What to write in place of the name of an approver that is no role."""
    return (
        f"write 'role:{role}'"
        if role.isascii() and role.replace("-", "").isalnum()
        else "write role:<name> in single quotes"
    )


def fact_fix(shown: str, facts: Iterable[str], arguments: Collection[str], renamed: str = "") -> str:
    """What to write in place of something that is not a fact. `arguments` are those of the row's actions."""
    names = list(facts)
    if shown.lower() in ("true", "false"):
        return f"write {shown.capitalize()}"
    if shown in arguments:
        return f"write args.{shown}"
    near = [renamed] if renamed else near_names(shown, names)
    if near:
        return f"write {near[0]}"
    quoted = f"; a text stands in single quotes: '{shown}'" if shown.isidentifier() else ""
    return f"use one of args.<name>, subject.<name>, resource.<name>, calls('tool.action'), {', '.join(names)}{quoted}"


def kind_fix(pattern: str, known: Collection[str] | None) -> str:
    """What to write in place of a pattern without a valid kind."""
    kind, colon, name = pattern.partition(":")
    if colon and known and (near := near_names(kind.lower(), known)):
        return f"did you mean {near[0]}:{name}?"
    return "write kind:name, as file:docs/**, or ** for every resource"
