"""How much of a denial the model reads: a rule sets it in its comment lines, as `# disclose: code`.

The decision for the operator is always complete. The model reads `Decision.for_model`, so that it cannot map the policy by asking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, cast, get_args

Disclosure: TypeAlias = Literal[
    "none",  # what the model would read without this rule
    "code",  # that a rule denies, not which one
    "rule",  # also the rule's note
    "remedy",  # also the next step: a change that would be allowed
]

LEVELS: Final[tuple[Disclosure, ...]] = get_args(Disclosure)  # from least to most
DEFAULT: Final[Disclosure] = "rule"
DIRECTIVE: Final = "disclose:"
# Also matches misspellings: a directive that is read as a plain comment would disclose more than its author intends.
_LIKE_DIRECTIVE: Final = re.compile(r"disclos\w*\s*[:=]", re.IGNORECASE)


def parse_disclosure(comments: Iterable[str]) -> tuple[Disclosure, str]:
    """The level that the comment lines above a rule set, and the note: all other comment lines.

    Raises:
        ValueError: the level does not exist, or there are two of them.
    """
    levels: list[str] = []
    note: list[str] = []
    for line in comments:
        if line.startswith(DIRECTIVE):
            levels.append(line.removeprefix(DIRECTIVE).strip())
        elif is_directive(line):
            raise ValueError(f"{line!r} does not set a level: write {DIRECTIVE} and one word")
        elif line:
            note.append(line)
    if len(levels) > 1:
        raise ValueError("the rule has two lines that begin with disclose:")
    if levels and levels[0] not in LEVELS:
        raise ValueError(f"{levels[0]!r} is not a level of disclosure")
    return cast("Disclosure", levels[0]) if levels else DEFAULT, " ".join(note)


def is_directive(line: str) -> bool:
    """True if a comment line is meant to set a level, correctly written or not."""
    return _LIKE_DIRECTIVE.match(line) is not None


def least_disclosure(levels: Iterable[Disclosure]) -> Disclosure:
    """The level that discloses least; `remedy` if there are none."""
    present = set(levels)
    for level in LEVELS:
        if level in present:
            return level
    return "remedy"
