"""Whom a rule asks for its approvals, and until when: a comment line of the rule, as `# asks: role:lead, then role:owner after 30m`.

The condition says which approvals are enough, and Casbin decides by it. This line adds only an order in time: a later role may
answer too once its time has come. No answer is never a yes: after `expires after 2h`, the request is over.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from remit.core import Escalation

DIRECTIVE: Final = "asks:"
DEFAULT_EXPIRY_S: Final = 3600
LONGEST_S: Final = 30 * 86_400
GRAMMAR: Final = "write # asks: role:lead, then role:owner after 30m, expires after 2h"
# Also matches misspellings: a directive that is read as a plain comment would ask other people than its author intends.
_LIKE_DIRECTIVE: Final = re.compile(r"asks?\s*[:=]", re.IGNORECASE)
_ROLE: Final = r"role:[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"
_AGE: Final = r"([1-9][0-9]{0,3})([mhd])"
_FIRST: Final = re.compile(_ROLE)
_THEN: Final = re.compile(rf"then ({_ROLE}) after {_AGE}")
_EXPIRES: Final = re.compile(rf"expires after {_AGE}")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Whom a rule asks first, who may answer too after some time, and after how many seconds the request expires."""

    first: str
    later: tuple[Escalation, ...] = ()
    expires_s: int = DEFAULT_EXPIRY_S

    @property
    def text(self) -> str:
        """Its canonical form: part of the digest of the rules."""
        later = "".join(f", then {item.role} after {item.after_s}s" for item in self.later)
        return f"{DIRECTIVE} {self.first}{later}, expires after {self.expires_s}s"


def is_asking(line: str) -> bool:
    """True if a comment line is meant to say whom a rule asks, correctly written or not."""
    return _LIKE_DIRECTIVE.match(line) is not None


def parse_asking(comments: Iterable[str], roles: Collection[str]) -> tuple[Asking | None, list[str]]:
    """What the comment lines above a rule say, and the other lines. `roles` are those that the condition of the rule names.

    Raises:
        ValueError: the line is not complete, there are two of them, or it names a role that the condition does not name.
    """
    lines, rest = list[str](), list[str]()
    for line in comments:
        (lines if is_asking(line) else rest).append(line)
    if not lines:
        return None, rest
    if len(lines) > 1:
        raise ValueError("the rule has two lines that begin with asks:")
    asking = _parsed(lines[0])
    for role in (asking.first, *(item.role for item in asking.later)):
        if role not in roles:
            raise ValueError(f"asks: names {role}, and the condition has no approved('{role}')")
    return asking, rest


def _parsed(line: str) -> Asking:
    first, *parts = (part.strip() for part in line.removeprefix(DIRECTIVE).split(","))
    if not line.startswith(DIRECTIVE) or not _FIRST.fullmatch(first):
        raise ValueError(f"{line!r} does not name the role that is asked first")
    expires = DEFAULT_EXPIRY_S
    if parts and (match := _EXPIRES.fullmatch(parts[-1])):
        expires = _seconds(match[1], match[2])
        parts.pop()
    later = [_escalation(part) for part in parts]
    times = [0, *(item.after_s for item in later), expires]
    if times != sorted(set(times)):
        raise ValueError(
            f"{line!r}: each time must be later than the one before, and the last before the request expires"
        )
    if expires > LONGEST_S:
        raise ValueError(f"{line!r}: a request expires after at most {LONGEST_S // 86_400}d")
    names = [first, *(item.role for item in later)]
    if len(set(names)) < len(names):
        raise ValueError(f"{line!r} names a role twice")
    return Asking(first=first, later=tuple(later), expires_s=expires)


def _escalation(part: str) -> Escalation:
    match = _THEN.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} says neither who is asked then nor when the request expires")
    return Escalation(role=match[1], after_s=_seconds(match[2], match[3]))


def _seconds(number: str, unit: str) -> int:
    return int(number) * _SECONDS[unit]
