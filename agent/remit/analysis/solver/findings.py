"""What a comparison found: changes with their witnesses, new approvers, and what could not be settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from remit.analysis.solver.ruleset import RuleSet
from remit.core import Context, Rule, Verdict


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A request that changes, whichever of `subjects` makes it."""

    subjects: tuple[str, ...]
    resource: str
    context: Context


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Requests that change alike, for the same reason: one witness for every subject, the plainest first.

    `removed` and `added` are the rows that make the change; a row that stands on both sides came or went with a role.
    `out_of_reach` and `in_reach` are the patterns that the tools lost and gained, where their reach is compared too.
    """

    action: str
    before: Verdict
    after: Verdict
    witnesses: tuple[Witness, ...]
    removed: tuple[Rule, ...] = ()
    added: tuple[Rule, ...] = ()
    out_of_reach: tuple[str, ...] = ()
    in_reach: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted({who for one in self.witnesses for who in one.subjects}, key=agents_first))

    @property
    def subject(self) -> str:
        """The subject of the first witness."""
        return self.witnesses[0].subjects[0]

    @property
    def resource(self) -> str:
        return self.witnesses[0].resource

    @property
    def context(self) -> Context:
        return self.witnesses[0].context

    @property
    def wider(self) -> bool:
        """Whether more is possible than before."""
        return RANK[self.after] > RANK[self.before]


RANK: Final[Mapping[Verdict, int]] = {"deny": 0, "ask": 1, "allow": 2}


@dataclass(frozen=True, kw_only=True)
class WitnessApprovers:
    """Who may newly, or no longer, approve in a role that a rule asks."""

    role: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Unsettled:
    """What could not be decided, and why: it may hide a difference of any kind."""

    action: str
    subjects: tuple[str, ...]
    resource: str
    why: str


@dataclass(frozen=True, kw_only=True)
class PolicyDifference:
    """Everything in which two sides differ. Empty means: proved equal, for every request."""

    old: RuleSet = field(repr=False)
    new: RuleSet = field(repr=False)
    findings: tuple[Finding, ...]
    approvers: tuple[WitnessApprovers, ...]
    unsettled: tuple[Unsettled, ...]

    @property
    def equal(self) -> bool:
        return not (self.findings or self.approvers or self.unsettled)

    @property
    def no_wider(self) -> bool:
        """Whether it is proved that nothing more is possible than before."""
        return not (
            any(one.wider for one in self.findings) or any(one.gained for one in self.approvers) or self.unsettled
        )

    def changed_to(self, after: Verdict) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.after == after)


def agents_first(subject: str) -> tuple[bool, str]:
    """Sorts agents before users, then by name."""
    return not subject.startswith("agent:"), subject
