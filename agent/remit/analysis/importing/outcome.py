"""What an import has made of each row of the other system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from remit.core.parsing import visible

Status: TypeAlias = Literal[
    "kept",  # the same requests are allowed
    "narrowed",  # fewer requests are allowed, or more are denied
    "asks",  # a person must approve, as in the other system
    "refused",  # nothing was made of it
]
LONGEST: Final = 16_384  # characters of a row
MOST_ROWS: Final = 20_000


class Unreadable(ValueError):
    """A part of a row or of a model has no counterpart here; the text says which part, and why."""


@dataclass(frozen=True, kw_only=True)
class ImportedRow:
    """One row of the other system. `rules` are the rows of `rules.csv` that stand for it; none if it is refused.

    `why` is the reason, "" for a row that is kept as it is. `line` is 0 for what the model itself allows.
    """

    line: int
    text: str
    status: Status
    why: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Every row of a file, in its order, and the names that had to be written differently here: theirs → ours."""

    file: str
    rows: Sequence[ImportedRow]
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def rules_text(self) -> str:
        """The rules as text of a file of rules; each p row has the row that it stands for as its note."""
        lines: list[str] = []
        seen: set[str] = set()
        for row in self.rows:
            for rule in row.rules:
                if rule not in seen:
                    seen.add(rule)
                    note = visible(f"{self.file}:{row.line} {row.text.strip()}", but="")[:250]
                    lines += [f"# {note}"] if rule.startswith("p,") else []
                    lines.append(rule)
        return "\n".join([*lines, ""]) if lines else ""

    @property
    def counts(self) -> dict[Status, int]:
        """How many rows there are of each status."""
        found: dict[Status, int] = {"kept": 0, "narrowed": 0, "asks": 0, "refused": 0}
        for row in self.rows:
            found[row.status] += 1
        return found


def allow_row(subject: str, action: str, resource: str, condition: str = "True") -> str:
    """A row of `rules.csv` that allows."""
    return f"p, {subject}, {action}, {resource}, {condition}, allow"


def deny_row(subject: str, action: str, resource: str, condition: str = "True") -> str:
    """A row of `rules.csv` that denies."""
    return f"p, {subject}, {action}, {resource}, {condition}, deny"
