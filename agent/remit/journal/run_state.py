"""Facts: what policy, budgets and people read of a run. A fold of its events, and nothing else.

Live, resumed and replayed runs agree because none of them knows anything that is not here. Only calls between decision
and answer are kept one by one, so a long run costs no more per event than a short one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from remit.core import Call, Code, Grant, MissingApproval
from remit.core.events import NANO, Content, EffectSettled, HoldSet, Outcome, RunStarted
from remit.core.parsing import digest

# The codes of a call that was refused before anything of it ran.
REFUSED: Final[frozenset[Code]] = frozenset(
    {
        "unknown_action",
        "invalid_arguments",
        "policy_denied",
        "approval_required",
        "approval_rejected",
        "approval_expired",
        "approval_invalid",
        "held",
        "budget_exhausted",
        "rate_limited",
        "denial_loop",
        "circuit_open",
        "content_blocked",
    }
)

# Refusals that say nothing of the call itself: asking again later is no fault of whoever asks.
PASSING: Final[frozenset[Code]] = frozenset({"held", "budget_exhausted", "rate_limited", "circuit_open"})

RunStatus: TypeAlias = Literal["running", "waiting", "finished"]


def effect_digest(call: Call) -> str:
    """What the call acts on: its action and what it writes or uses, whatever else the model wrote; "" for no lasting effect.

    An action that may be repeated at will has no such digest: nothing is lost when it happens twice.
    """
    if call.effect not in ("once", "keyed"):
        return ""
    return digest({"action": call.action, "on": sorted(t.resource for t in call.touches if t.access != "read")})


def meant(call: Call) -> str:
    """What the model is after with a call, however it words the rest: the action, and all that it touches."""
    return "\n".join((call.action, *sorted({touch.resource for touch in call.touches})))


@dataclass(frozen=True, kw_only=True)
class Tries:
    """How often in a row one thing was tried in vain: attempts that failed, and calls that were refused."""

    failed: int = 0
    refused: int = 0

    @property
    def count(self) -> int:
        return self.failed + self.refused


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """How a tool stands that failed. `opened_at` is 0 while it is still called; Unix nanoseconds, as is `tried_at`.

    `openings` counts its rests since it last worked, `trials` the calls let through since the last one began.
    """

    failures: int = 0
    rest_s: float = 0.0
    opened_at: int = 0
    openings: int = 0
    trials: int = 0
    tried_at: int = 0

    @property
    def rests_until(self) -> int:
        """Unix nanoseconds; each rest is twice as long as the one before, up to 32 times the first."""
        return self.opened_at + int(self.rest_s * 2 ** min(self.openings - 1, 5) * NANO) if self.opened_at else 0


@dataclass(frozen=True, kw_only=True)
class InDoubtEffect:
    """An effect that was answered without anyone knowing whether it happened; `settled` once a person has said so.

    `effect` is the digest of what it acts on; `request` and `key` are the call's request digest and idempotency key.
    """

    step: int
    index: int
    action: str
    effect_digest: str
    request_digest: str
    idempotency_key: str
    settled: EffectSettled | None = None


@dataclass(frozen=True, kw_only=True)
class OpenCall:
    """A call between its first decision and its answer. `trusted`: nothing untrusted had been read when it was decided.

    `request` is the decision digest of the latest approval request, "" where nobody was asked; `grants` are those for
    that request only, the first of each person, given before `expires_at` (Unix nanoseconds). `doubtful`: its effect may
    have happened, unless `settled` says otherwise; `effect` is the digest of what it acts on. `since` are the labels of what
    was read after it was decided, which it may not have looked at.
    """

    action: str
    meant: str = ""
    trusted: bool = False
    labels_since: frozenset[str] = frozenset()
    needs_approval: bool = False
    allowed: bool = False
    happened: bool = False
    requested_decision: str = ""
    missing: tuple[MissingApproval, ...] = ()
    expires_at: int = 0
    grants: tuple[Grant, ...] = ()
    rejected: bool = False
    effect_digest: str = ""
    request_digest: str = ""
    idempotency_key: str = ""
    doubtful: bool = False
    settled: EffectSettled | None = None

    @property
    def waiting(self) -> bool:
        """Whether people have still to answer."""
        return not self.allowed and not self.rejected and sum(item.count for item in self.missing) > len(self.grants)


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What is known of a run after some of its events. `started_at` and `ended_at` are Unix nanoseconds.

    `unseen` is the last step that was Remit's own, whose results the model never reads. `directory` are the resources that results named before anything untrusted was read, or that the run made; `values` what results under each
    other label held, to be looked for in what goes out. `attempted` counts every call that the model asked for, refused ones too; `settled` counts by action the calls that
    succeeded or may have happened; `streak` counts the calls refused in a row before the current step. `doubts` are effects that may have happened. `tries` counts by what is meant, and `retried` adds
    up the tries beyond the first, whoever made them: the broker again, or the model anew. `unmetered` counts the turns of
    which the model did not say how many tokens they took.
    """

    started: RunStarted | None = None
    started_at: int | None = None
    ended_at: int | None = None
    finished: bool = False
    outcome: Outcome | None = None
    code: Code | None = None
    resumed: int = 0
    step: int = -1
    internal: int = -1
    labels: frozenset[str] = frozenset()
    directory: frozenset[str] = frozenset()
    values: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    attempted: int = 0
    answered: int = 0
    denied: int = 0
    first_denied: str | None = None
    first_failed: str | None = None
    answers_rejected: int = 0
    streak: int = 0
    refused_in_step: int = 0
    worked_in_step: bool = False
    tries: Mapping[str, Tries] = field(default_factory=dict[str, Tries])
    retried: int = 0
    settled: Mapping[str, int] = field(default_factory=dict[str, int])
    open: Mapping[tuple[int, int], OpenCall] = field(default_factory=dict[tuple[int, int], OpenCall])
    holds: Mapping[str, HoldSet] = field(default_factory=dict[str, HoldSet])
    doubts: tuple[InDoubtEffect, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    unmetered: int = 0
    output_bytes: int = 0
    circuits: Mapping[str, Circuit] = field(default_factory=dict[str, Circuit])

    @property
    def task(self) -> str:
        """The user's own words: the task as it was given."""
        return self.started.task if self.started else ""

    @property
    def refused_in_a_row(self) -> int:
        """The calls refused since the last step in which one was carried out."""
        return 0 if self.worked_in_step else self.streak + self.refused_in_step

    @property
    def requested(self) -> tuple[str, ...]:
        """The keys of the latest approval request of each call that has no answer yet."""
        return tuple(
            f"approval.requested/{step}/{index}/{call.requested_decision}"
            for (step, index), call in self.open.items()
            if call.requested_decision
        )

    @property
    def status(self) -> RunStatus:
        """`waiting` where at least one call waits for people; `running` also where no process is at it just now."""
        if self.finished:
            return "finished"
        return "waiting" if any(call.waiting for call in self.open.values()) else "running"

    def calls(self, *, but: tuple[int, int] | None = None) -> dict[str, int]:
        """Calls by action that succeeded, may have happened, or are allowed and not yet answered, except `but`.

        Counting allowed calls before they run is what lets only one of three parallel calls win a budget of one.
        """
        counts = dict(self.settled)
        for place, call in self.open.items():
            if place != but and (call.allowed or call.happened):
                counts[call.action] = counts.get(call.action, 0) + 1
        return counts


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One line of the list of runs. `started_at` and `ended_at` are Unix nanoseconds.

    `first_failed` names the call that first got a code, refused or not: `files.read at step 0: timeout`.
    """

    run: str
    started_at: int
    ended_at: int | None
    agent: str
    user: str
    task: str
    model: str
    scripted: bool
    state: RunStatus
    outcome: Outcome | None
    code: Code | None
    steps: int
    calls: int
    denied: int
    first_denied: str | None
    first_failed: str | None
    content: Content = "complete"


# The events that a summary is made of.
SUMMARISED: Final = (
    "run.started",
    "run.finished",
    "model.requested",
    "call.decided",
    "approval.requested",
    "approval.granted",
    "approval.rejected",
    "call.answered",
)


def summary(run: str, facts: RunState) -> RunSummary:
    """What the list of runs says of one; empty where its first event was erased."""
    started = facts.started
    return RunSummary(
        run=run,
        started_at=facts.started_at or 0,
        ended_at=facts.ended_at,
        agent=started.subjects.agent if started else "",
        user=started.subjects.user if started else "",
        task=started.task if started else "",
        model=started.model if started else "",
        scripted=started.scripted if started else False,
        state=facts.status,
        outcome=facts.outcome,
        code=facts.code,
        steps=facts.step + 1,
        calls=facts.attempted,
        denied=facts.denied,
        first_denied=facts.first_denied,
        first_failed=facts.first_failed,
        content=started.content if started else "complete",
    )
