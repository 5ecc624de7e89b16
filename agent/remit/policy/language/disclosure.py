"""What of a refusal the model is told: a rule says it in its note block, as `# disclose: code`.

The operator's decision keeps everything. The model reads `Decision.told`, so that it cannot map the policy by asking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, cast, get_args

Disclosure: TypeAlias = Literal[
    "none",  # what it would read if there were no such rule
    "code",  # that a rule denies, not which
    "rule",  # the rule's note too
    "remedy",  # and what would be allowed instead
]

LEVELS: Final[tuple[Disclosure, ...]] = get_args(Disclosure)
DEFAULT: Final[Disclosure] = "rule"
DIRECTIVE: Final = "disclose:"
_MEANT: Final = re.compile(
    r"disclos\w*\s*[:=]", re.IGNORECASE
)  # a misspelled directive would tell more than its author wants


def disclosed(notes: Iterable[str]) -> tuple[Disclosure, str]:
    """The level that the comment lines above a rule set, and the note that the other lines are.

    Raises:
        ValueError: a level that there is not, or two of them.
    """
    levels: list[str] = []
    note: list[str] = []
    for line in notes:
        if line.startswith(DIRECTIVE):
            levels.append(line.removeprefix(DIRECTIVE).strip())
        elif is_directive(line):
            raise ValueError(f"{line!r} is not how the level is written: {DIRECTIVE} and one word")
        elif line:
            note.append(line)
    if len(levels) > 1:
        raise ValueError("the rule has two lines that begin with disclose:")
    if levels and levels[0] not in LEVELS:
        raise ValueError(f"{levels[0]!r} is nothing that disclose: knows")
    return cast("Disclosure", levels[0]) if levels else DEFAULT, " ".join(note)


def is_directive(line: str) -> bool:
    """Whether a comment line was meant to set a level, well written or not."""
    return _MEANT.match(line) is not None


def least(levels: Iterable[Disclosure]) -> Disclosure:
    """The level that tells least of all; `remedy` of none."""
    present = set(levels)
    for level in LEVELS:
        if level in present:
            return level
    return "remedy"
