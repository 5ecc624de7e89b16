"""Names of the other system as names here. Two of their names never become one of ours: that would give one the rights of the other."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from remit.analysis.importing.outcome import Unreadable
from remit.core import Refusal
from remit.core.parsing import canonical
from remit.policy.language import GlobError, parse_pattern

EVERYONE: Final = "role:everyone"  # the subject of rules that name none
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)
_ACTION: Final = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._+-]", re.ASCII)
_NO_ACTION: Final = re.compile(r"[^a-z0-9_]", re.ASCII)
_SUBJECT: Final = re.compile(r"(user|role|agent|service):(.+)", re.ASCII | re.DOTALL)


@dataclass
class Names:
    """Writes subjects, actions and resources as rules name them.

    `roles` are the names that have members, each with its domain, which is "" without domains. Resources whose names begin with / are
    of the kind `path_kind`, all others of the kind `kind`. `exact`: a name that must be written differently is refused.

    Every method raises Unreadable for a name that cannot be written, or that a different name has taken.
    """

    tool: str = "app"
    kind: str = "store"
    path_kind: str = "document"
    subjects: str = "user"
    actions: Mapping[str, str] = field(default_factory=dict[str, str])
    roles: Collection[tuple[str, str]] = frozenset()
    exact: bool = False
    _taken: dict[str, str] = field(default_factory=dict[str, str])  # ours → theirs

    @property
    def renamed(self) -> dict[str, str]:
        """The names that are written differently: theirs → ours."""
        return {
            theirs: ours
            for ours, theirs in self._taken.items()
            if theirs not in (ours, ours.partition(":")[2], ours.partition(".")[2])
        }

    def subject(self, name: str, domain: str = "") -> str:
        """A subject of a request in that domain."""
        prefix, plain = match.groups() if (match := _SUBJECT.fullmatch(name)) else ("", name)
        in_domain = (name, domain) in self.roles and domain != ""
        is_role = in_domain or (name, "") in self.roles
        kind = "role" if is_role or prefix == "role" else prefix or self.subjects
        written = plain if _NAME.fullmatch(plain) else _NO_NAME.sub("-", plain)
        if self.exact and written != plain:
            raise Unreadable(f"{name!r} is not a name that a subject can have here")
        if in_domain:
            written = f"{written}@{domain}"
        if not _NAME.fullmatch(written):
            raise Unreadable(f"{name!r} is not a name that a subject can have here")
        return self._own(f"{kind}:{written}", f"{name} in {domain}" if in_domain else name)

    def action(self, name: str, tool: str = "") -> str:
        """An action; `tool` is the kind of object that the other system's request names beside it."""
        theirs = f"{tool}.{name}" if tool else name
        if theirs in self.actions:
            return self._own(self.actions[theirs], theirs)
        return self._own(f"{self._tool(tool)}.{_written(name)}", theirs)

    def every_action(self, tool: str = "") -> list[str]:
        """Patterns of all actions, or of those on one kind of object."""
        of_tool = f"{tool}." if tool else ""
        return [
            f"{self._tool(tool)}.*",
            *sorted(ours for name, ours in self.actions.items() if name.startswith(of_tool)),
        ]

    def _tool(self, tool: str) -> str:
        return self._own(f"{_written(tool)}.*", f"{tool}.*").removesuffix(".*") if tool else self.tool

    def resource(self, name: str, domain: str = "") -> str:
        """One resource of a request."""
        if "*" in name:
            raise Unreadable(f"{name!r} cannot name one resource here")
        kind, rest = (self.path_kind, name[1:]) if name.startswith("/") else (self.kind, name)
        return checked_pattern(f"{kind}:{self.folder(domain)}{rest}")

    def folder(self, domain: str) -> str:
        """The folder that stands for a domain; "" without domains."""
        if domain and not _NAME.fullmatch(domain):
            raise Unreadable(f"{domain!r} is not a name that a domain can have here")
        return f"{domain}/" if domain else ""

    def _own(self, ours: str, theirs: str) -> str:
        if (other := self._taken.setdefault(ours, theirs)) != theirs:
            raise Unreadable(f"{theirs!r} and {other!r} would both be {ours}")
        return ours


def _written(name: str) -> str:
    written = name if _ACTION.fullmatch(name) else _NO_ACTION.sub("_", name.lower())
    if not _ACTION.fullmatch(written):
        raise Unreadable(f"{name!r} is not a name that an action can have here")
    return written


def checked_pattern(text: str) -> str:
    """The resource pattern, if a row of rules can hold it. Raises Unreadable."""
    if "," in text or '"' in text or text != text.strip():
        raise Unreadable(f"{text!r} holds a character that a rule cannot hold")
    kind, _, name = text.partition(":")
    try:
        if "*" not in text and name:
            canonical(kind, name)
        return parse_pattern(text).text
    except GlobError as error:
        raise Unreadable(str(error)) from None
    except Refusal as refusal:
        raise Unreadable(refusal.message) from None
