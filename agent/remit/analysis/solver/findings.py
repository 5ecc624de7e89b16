"""The result of a comparison: changes with their witnesses, changed approvers, and what is unsettled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from remit.analysis.solver.ruleset import RuleSet
from remit.core import Context, Rule, Verdict


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A request whose verdict changes, for each of `subjects`."""

    subjects: tuple[str, ...]
    resource: str
    context: Context


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Requests with the same change for the same reason: a witness for every subject, the plainest first.

    `removed` and `added` are the rows that cause the change. A row that exists on both sides can be among them: the
    subject lost or got a role. `out_of_reach` and `in_reach` are the patterns that left or entered the ceiling.
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
        return tuple(sorted({subject for witness in self.witnesses for subject in witness.subjects}, key=agents_first))

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
        """True if more is possible than before."""
        return RANK[self.after] > RANK[self.before]


RANK: Final[Mapping[Verdict, int]] = {"deny": 0, "ask": 1, "allow": 2}


@dataclass(frozen=True, kw_only=True)
class ApproverChange:
    """The users who gained or lost a role that some rule asks for approval."""

    role: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Unsettled:
    """What the analysis could not decide, and why. It may hide a change of any kind."""

    action: str
    subjects: tuple[str, ...]
    resource: str
    why: str


@dataclass(frozen=True, kw_only=True)
class PolicyDifference:
    """Everything in which two rule sets differ. If it is empty, they are proved equal for every request."""

    old: RuleSet = field(repr=False)
    new: RuleSet = field(repr=False)
    findings: tuple[Finding, ...]
    approvers: tuple[ApproverChange, ...]
    unsettled: tuple[Unsettled, ...]

    @property
    def equal(self) -> bool:
        return not (self.findings or self.approvers or self.unsettled)

    @property
    def no_wider(self) -> bool:
        """True if it is proved that nothing more is possible than before."""
        return not (
            any(item.wider for item in self.findings) or any(item.gained for item in self.approvers) or self.unsettled
        )

    def changed_to(self, after: Verdict) -> tuple[Finding, ...]:
        return tuple(item for item in self.findings if item.after == after)


def agents_first(subject: str) -> tuple[bool, str]:
    """A sort key: agents before users, then by name."""
    return not subject.startswith("agent:"), subject
