"""The result of an attack: which calls would get through, which rules allow them, and what would stop them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from remit.analysis.attacks.accepted import Acceptance
from remit.core import Effect, Rule

# Who chose the place that a call acts on.
Target: TypeAlias = Literal[
    "attacker",  # the untrusted text: neither the user nor the directory names it
    "fixed",  # the manifest: the call names no place
    "known",  # the untrusted text, from the directory
    "named",  # the user
]
TARGETS: Final[Mapping[Target, str]] = {
    "attacker": "at a place of the attacker's choice",
    "fixed": "at the only place that the action has",
    "known": "at a place of the attacker's choice in the directory",
    "named": "at a place that the user named",
}


@dataclass(frozen=True, kw_only=True)
class Read:
    """A call whose result puts labels on the run. `untrusted`: it holds text that others may have written. `assumed`: no such call was found that the rules allow."""

    action: str
    arguments: str
    labels: tuple[str, ...]
    untrusted: bool
    assumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Way:
    """One call that would get through, after these calls of a run with that task.

    `resources` are the places of the call that the model chose, or all of them if the manifest names each. `contains` are the kinds of
    values in its texts that the user did not name. `rules` allow it. `stop` is a rule that would stop it, with the comment above it; "" if
    none was found. `counted` is False if the user's own wish looks the same to the rules.
    """

    action: str
    effect: Effect
    target: Target
    requested: bool
    contains: tuple[str, ...]
    task: str
    reads: tuple[Read, ...]
    known: tuple[str, ...]
    arguments: str
    resources: tuple[str, ...]
    rules: tuple[Rule, ...]
    patterns: tuple[str, ...]
    stop: str
    counted: bool


@dataclass(frozen=True, kw_only=True)
class Untried:
    """An action of which no call could be made, and why: it counts as one that gets through."""

    action: str
    why: str


@dataclass(frozen=True, kw_only=True)
class AttackReport:
    """What became of every outward action of an agent.

    `ways` would get through, `words` would too but look like the user's own wish, and `accepted` would but a person accepted them.
    `unused` are acceptances of calls that no longer get through. `tried` counts decisions. `observed`:
    what the agent does with host tools is not enforced today, whatever is decided.
    """

    agent: str
    user: str
    observed: bool
    reads: tuple[Read, ...]
    actions: tuple[str, ...]
    tried: int
    ways: tuple[Way, ...] = ()
    words: tuple[Way, ...] = ()
    accepted: tuple[Way, ...] = ()
    untried: tuple[Untried, ...] = ()
    unused: tuple[Acceptance, ...] = ()

    @property
    def ok(self) -> bool:
        """True if nothing gets through that nobody accepted."""
        return not self.ways and not self.untried
