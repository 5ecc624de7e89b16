"""A Casbin model file, read strictly: a section that is missing, unknown or repeated is refused.

Source: https://casbin.org/docs/syntax-for-models
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from remit.analysis.importing.expression import Alternatives, alternatives_of
from remit.analysis.importing.outcome import Unreadable

Dimension: TypeAlias = Literal["subject", "domain", "action", "resource", "type"]
Decides: TypeAlias = Literal["allow", "deny", "both", "first"]  # which rows decide: see EFFECTS

LARGEST: Final = 65_536  # characters
_SECTIONS: Final = {
    "request_definition": "r",
    "policy_definition": "p",
    "role_definition": "g",
    "policy_effect": "e",
    "matchers": "m",
}
EFFECTS: Final[dict[str, Decides]] = {
    "some(where (p.eft == allow))": "allow",
    "!some(where (p.eft == deny))": "deny",
    "some(where (p.eft == allow)) && !some(where (p.eft == deny))": "both",
    "priority(p.eft) || deny": "first",
}
_DIMENSIONS: Final[dict[str, Dimension]] = {
    **dict.fromkeys(("sub", "subject", "user", "who", "role"), "subject"),
    **dict.fromkeys(("dom", "domain", "tenant", "org"), "domain"),
    **dict.fromkeys(("act", "action", "method"), "action"),
    **dict.fromkeys(("obj", "object", "res", "resource", "path", "url", "endpoint"), "resource"),
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model: for each field of a request what it stands for, the columns of a row, and the matcher.

    `roles` are the kinds of g rows, each with its number of fields. `evaluates`: the matcher contains text of the rows.
    """

    fields: dict[str, Dimension]
    columns: tuple[str, ...]
    roles: dict[str, int]
    decides: Decides
    matcher: str
    evaluates: bool

    def alternatives(self, row: dict[str, str] | None = None) -> Alternatives:
        """The matcher with the `eval` columns of that row. Raises Unreadable."""

        def column(name: str) -> str:
            if row is None or name not in row:
                raise Unreadable(f"eval() names the column {name!r}, which rows do not have")
            return row[name]

        return alternatives_of(self.matcher, column)


def read_model(text: str) -> Model:
    """Read the text of a model file.

    Raises:
        Unreadable: it is not a model, or it decides in a way that has no counterpart.
    """
    if len(text) > LARGEST:
        raise Unreadable(f"the model has more than {LARGEST} characters")
    found = _definitions(text)
    if missing := [name for name, key in _SECTIONS.items() if key != "g" and key not in found]:
        raise Unreadable(f"the model has no [{missing[0]}]")
    fields = _names(found["r"])
    dimensions: dict[str, Dimension] = {name: _dimension(name, fields) for name in fields}
    if len(set(dimensions.values())) < len(fields):
        raise Unreadable(f"two fields of a request stand for the same thing: {', '.join(fields)}")
    if (decides := EFFECTS.get(found["e"])) is None:
        raise Unreadable(f"the effect {found['e']!r} has no counterpart")
    roles = {key: len(_names(value)) for key, value in found.items() if key.startswith("g")}
    model = Model(
        fields=dimensions,
        columns=_names(found["p"]),
        roles=roles,
        decides=decides,
        matcher=found["m"],
        evaluates="eval(" in found["m"],
    )
    if not model.evaluates:
        model.alternatives()
    return model


def _dimension(name: str, fields: tuple[str, ...]) -> Dimension:
    if name in ("res", "resource") and ("obj" in fields or "object" in fields):
        return "type"  # as in Argo CD: the kind of object, which is a part of the action here
    if name not in _DIMENSIONS:
        raise Unreadable(f"the field {name!r} of a request has no counterpart")
    return _DIMENSIONS[name]


def _definitions(text: str) -> dict[str, str]:
    """Each key with its value. A line that ends in a backslash goes on in the next one."""
    found: dict[str, str] = {}
    section = ""
    for number, line in enumerate(_lines(text), start=1):
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
            if section not in _SECTIONS:
                raise Unreadable(f"[{section}] is not a section of a model")
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        expected = _SECTIONS.get(section, "")
        numbered = section == "role_definition" and key[1:].isdecimal() and key[:1] == "g"
        if not equals or not section or (key != expected and not numbered):
            raise Unreadable(f"line {number}: {line[:100]!r} is not understood")
        if key in found:
            raise Unreadable(f"line {number}: {key} is defined twice")
        found[key] = value
    return found


def _lines(text: str) -> list[str]:
    lines = [""]
    goes_on = False
    for line in text.split("\n"):
        stripped = line.strip()
        lines[-1 if goes_on else len(lines) :] = [f"{lines[-1]} {stripped}" if goes_on else stripped]
        goes_on = lines[-1].endswith("\\")
        lines[-1] = lines[-1].removesuffix("\\").strip() if goes_on else lines[-1]
    return lines[1:]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(name == "_" or name.isidentifier() for name in names):
        raise Unreadable(f"{text!r} is not a list of names")
    return names
