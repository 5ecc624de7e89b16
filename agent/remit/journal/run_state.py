"""The state of a run: what policy, budgets and people read of it. It is computed from the run's events and from nothing else.

A live, a resumed and a replayed run agree because none of them reads anything that is not in this state. Only calls
between decision and answer are kept one by one, so an event of a long run costs no more than one of a short run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from remit.core import Call, Code
from remit.core.events import (
    NANO,
    ApprovalState,
    BoundedApproval,
    Content,
    ConversationRun,
    EffectSettled,
    InDoubtEffect,
    ModelFailed,
    Outcome,
    QuestionAsked,
    RolloutFinished,
    RolloutOpened,
    RolloutRolledBack,
    RunArm,
    RunStarted,
    Stage,
)
from remit.core.parsing import digest

# A call that fails with one of these codes never reached its tool. Other codes mean that it may have had an effect.
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

MODEL_FAILED: Final = "model_failed"  # in place of a code, in `RunState.recent`
PART_NS: Final = 300 * NANO  # `RunState.recent` counts in parts of so many nanoseconds
PARTS_KEPT: Final = 12  # and keeps so many of them

# Refusals that depend on time or on an operator, not on the call. Asking again later is correct, so they do not count
# as a try in `RunState.tries`, which would block the call.
PASSING: Final[frozenset[Code]] = frozenset({"held", "budget_exhausted", "rate_limited", "circuit_open"})

ROLLOUT_STREAM: Final = "rollout:"  # the beginning of the name of the stream of one rollout

Outcomes: TypeAlias = tuple[int, str, str, str]  # number of the part of the time, code, rule, action
# What the events of a run say of it. `waiting` is for people; a `ready` run was answered and has not gone on yet.
RecordedStatus: TypeAlias = Literal["running", "waiting", "waiting: model", "ready", "finished"]
# What a run does now, by its events, its lease, the holds in force and the time; see `lease.status_now`.
RunStatus: TypeAlias = Literal[
    "running",  # a process drives it
    "lost",  # the process that drove it ended before it could record why
    "waiting",  # for people
    "waiting: model",  # for a model that failed for now
    "waiting: hold",  # for the end of a hold
    "waiting: graph",  # for the next invocation of the external graph that drives it
    "ready",  # it can go on, and no process drives it
    "finished",
]
RolloutStatus: TypeAlias = Literal["open", "rolled_back", "finished"]


def effect_digest(call: Call) -> str:
    """The digest of what the call changes: its action, and every resource that it writes or uses.

    Two calls with one digest would have the same effect twice, even if the model wrote other arguments. "" for effects
    `read` and `idempotent`, which may be repeated without harm.
    """
    if call.effect not in ("once", "keyed"):
        return ""
    # Sorted: the same resources in another order are the same effect. Reads are left out: they change nothing.
    return digest({"action": call.action, "on": sorted(t.resource for t in call.touches if t.access != "read")})


def retry_key(call: Call) -> str:
    """The key under which tries of a call are counted: its action and every resource that it touches.

    Other arguments are left out: a model that rewords a failed call still tries the same thing.
    """
    return "\n".join((call.action, *sorted({touch.resource for touch in call.touches})))


@dataclass(frozen=True, kw_only=True)
class Tries:
    """How often in a row calls with one `retry_key` did not succeed: attempts that failed, and calls that were refused."""

    failed: int = 0
    refused: int = 0

    @property
    def count(self) -> int:
        return self.failed + self.refused


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """The circuit breaker of one tool that failed. A tool without failures has none.

    `failures` counts its failures since it last succeeded; `rest_s` is the length of its first rest in seconds. `opened_at` is when
    its current rest began and `tried_at` when its last trial began (Unix nanoseconds; 0: the circuit is closed, or there was
    no trial). `openings` counts its rests since it last succeeded; `trials` the calls allowed since the current rest began.
    """

    failures: int = 0
    rest_s: float = 0.0
    opened_at: int = 0
    openings: int = 0
    trials: int = 0
    tried_at: int = 0

    @property
    def rests_until(self) -> int:
        """When the rest ends, in Unix nanoseconds: each rest is twice as long as the one before, up to 32 times the first."""
        return self.opened_at + int(self.rest_s * 2 ** min(self.openings - 1, 5) * NANO) if self.opened_at else 0


@dataclass(frozen=True, kw_only=True)
class RolloutState:
    """A rollout after some of its events: how it was opened, its stage, and the event that ended it, None while it is open.

    `opened_at` is Unix nanoseconds; `number` is that of the stage, from 0.
    """

    id: str
    opened: RolloutOpened
    opened_at: int
    number: int = 0
    ended: RolloutRolledBack | RolloutFinished | None = None

    @property
    def stage(self) -> Stage:
        """The stage that it is in, or was in when it ended."""
        return self.opened.stages[self.number]

    @property
    def status(self) -> RolloutStatus:
        """`open` while runs may have the candidate."""
        if self.ended is None:
            return "open"
        return "rolled_back" if isinstance(self.ended, RolloutRolledBack) else "finished"


@dataclass(frozen=True, kw_only=True)
class InDoubt:
    """An effect whose outcome is unknown; `answered` is False while its call has no answer, because its run was interrupted."""

    step: int
    index: int
    action: str
    answered: bool


@dataclass(frozen=True, kw_only=True)
class EmergencyApproval:
    """An approval in `role:break-glass`: the number, the key and the time of its event, its end (Unix nanoseconds), and if it is reviewed."""

    seq: int
    key: str
    at: int
    until: int
    reviewed: bool = False


@dataclass(frozen=True, kw_only=True)
class OpenCall:
    """A call between its first decision and its answer.

    `retry_key` is what its tries are counted by. `trusted` is True if the run had read nothing untrusted when the call was
    decided; `labels_then` are the labels of the run at its latest decision, `labels_since` are the labels of what the run read after that, which a declassifier cannot have looked at.
    `needs_approval` and `allowed` are the latest verdict. `approval` is the latest request for approval, None without one.
    `attempting` is True while an attempt has begun and not ended. `question` is what its tool has asked a person, None without one.
    `rule` is what denied it, "" if nothing did: `policies/rules.csv:12`, or the reason if no rule decided. `happened` is True if the effect has or may have happened; `doubtful` if that
    is unknown; `settled` is the latest statement of its outcome. `enforced` is that of `CallDecided`.
    """

    action: str
    retry_key: str = ""
    trusted: bool = False
    labels_then: frozenset[str] = frozenset()
    labels_since: frozenset[str] = frozenset()
    needs_approval: bool = False
    allowed: bool = False
    happened: bool = False
    approval: ApprovalState | None = None
    effect_digest: str = ""
    request_digest: str = ""
    idempotency_key: str = ""
    rule: str = ""
    attempting: bool = False
    question: QuestionAsked | None = None
    replied: bool = False  # a person has answered it, and the call has not gone on yet
    doubtful: bool = False
    settled: EffectSettled | None = None
    enforced: bool = True

    @property
    def in_doubt(self) -> bool:
        """True if the call may have had an effect, and it is not known: its attempt has no end, or an unknown outcome."""
        known = self.settled is not None and self.settled.landed != "unknown"
        return self.effect_digest != "" and not known and (self.attempting or self.doubtful)

    @property
    def waiting(self) -> bool:
        """True if people have still to approve or reject the call, or to answer its tool."""
        asked = not self.allowed and self.approval is not None and self.approval.waits()
        return asked if self.question is None else not self.replied

    @property
    def pending(self) -> bool:
        """True if people were asked about the call and it has not begun, whatever they have answered: made again, it goes on."""
        return self.waiting or (self.approval is not None and self.approval.end != "used")


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What is known of a run after some of its events.

    `started_at` and `ended_at` are Unix nanoseconds. `step` is the current step, -1 before the first; `internal` is the last
    step that Remit itself made before the model's first turn, -1 without one: the model never reads its results.
    `labels` are what the run has read; `given` are, by tool, the labels of everything that the live sandbox of the run for that tool
    was ever given: they stay, also when a label is removed from the run or another sandbox is started. `directory` are the resources that results named before anything untrusted was read,
    or that the run created. `values` holds, by label other than "untrusted", the texts that results with it contained: the
    arguments of later calls are searched for them.
    `attempted` counts every proposed call, also refused ones; `answered`, `denied` and `answers_rejected` count what their
    names say. `first_denied` and `first_failed` are one line each. `streak` counts the calls refused in a row before the
    current step, `refused_in_step` those in it, and `worked_in_step` is True once a call of it was not refused.
    `tries` counts by `retry_key`; `retried` counts all tries beyond the first, by the broker or by the model. `settled`
    counts, by action, the answered calls that succeeded or may have happened. `open` holds the calls between decision and
    answer by (step, index), `doubts` the effects of unknown outcome, `emergencies` the emergency approvals, `bounded` the approvals of further calls that nobody revoked. `bundles` are the digests of the policy bundles that the run used. `unmetered` counts the model's turns that reported no number of tokens. `cost` is the sum of the costs of its turns, of which `unpriced` have no known cost.
    `model_failures` counts the failed requests of the current step; `model_wait` is the last of them while the run waits to ask
    again, and `model_failed_at` when it was recorded. `waited` is how long the run has waited in all, for its
    model, for people or for a process, and `waits_since` when it began to wait for people or the process that drove it ended, 0 while it
    does not (both Unix nanoseconds). `asked` counts the calls for which people were asked, `let_through` those of `CallDecided.let_through`; `violations` the attempts that tried to reach what was not
    authorized. `response_model` is the last model that answered, as its provider names it. `reads` has, by request digest, the
    last attempt (step, index, attempt) whose result may answer a later call. `user_answers` are those of the user to questions of tools. `recent` counts the answers of its last hour and the
    failures of its model, by (part of the time, code, rule that denied, action): see `PART_NS`.
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
    given: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
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
    doubts: tuple[InDoubtEffect, ...] = ()
    emergencies: tuple[EmergencyApproval, ...] = ()
    bounded: tuple[BoundedApproval, ...] = ()
    bundles: tuple[str, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    unmetered: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    output_bytes: int = 0
    model_failures: int = 0
    model_wait: ModelFailed | None = None
    model_failed_at: int = 0
    waited: int = 0
    waits_since: int = 0
    asked: int = 0
    let_through: int = 0
    violations: int = 0
    response_model: str = ""
    user_answers: tuple[str, ...] = ()
    reads: Mapping[str, tuple[int, int, int]] = field(default_factory=dict[str, tuple[int, int, int]])
    recent: Mapping[Outcomes, int] = field(default_factory=dict[Outcomes, int])

    @property
    def task(self) -> str:
        """The task as the user wrote it; "" before the run began."""
        return self.started.task if self.started else ""

    @property
    def conversation(self) -> ConversationRun | None:
        """The place of the run in its conversation, and what the runs before left to it; None for a run on its own."""
        return self.started.conversation if self.started else None

    @property
    def words(self) -> str:
        """What the user has written in the conversation: earlier messages, the task, and answers to questions of tools."""
        earlier, own = self.conversation.words if self.conversation else "", "\n".join((self.task, *self.user_answers))
        return f"{earlier}\n\n{own}" if earlier and not earlier.endswith(own) else earlier or own

    @property
    def refused_in_a_row(self) -> int:
        """How many calls were refused since the last step in which one was not."""
        return 0 if self.worked_in_step else self.streak + self.refused_in_step

    @property
    def approvals(self) -> tuple[ApprovalState, ...]:
        """The latest request for approval of each call that has no answer yet."""
        return tuple(call.approval for call in self.open.values() if call.approval is not None)

    @property
    def in_doubt(self) -> tuple[InDoubt, ...]:
        """The effects whose outcome is unknown, in the order of the calls."""
        found = [
            InDoubt(step=step, index=index, action=call.action, answered=False)
            for (step, index), call in self.open.items()
            if call.in_doubt
        ]
        found += [
            InDoubt(step=doubt.step, index=doubt.index, action=doubt.action, answered=True)
            for doubt in self.doubts
            if doubt.settled is None and not doubt.run  # that of an earlier run is listed and settled there
        ]
        return tuple(sorted(found, key=lambda item: (item.step, item.index)))

    @property
    def status(self) -> RecordedStatus:
        """`waiting` if at least one call waits for people, `waiting: model` if the run waits to ask its model again.

        `running` while a call is carried out, whatever other calls wait for; also if no process executes the run at present.
        """
        if self.finished:
            return "finished"
        if self.model_wait is not None:
            return "waiting: model"
        waiting = answered = False
        for call in self.open.values():  # in one pass: it is asked after each event of a call
            if call.attempting:
                return "running"
            if call.approval is None and call.question is None:  # as nearly all: nobody was asked
                continue
            approved = call.needs_approval and call.approval is not None and not call.allowed
            waiting, answered = waiting or call.waiting, answered or call.replied or approved
        return "waiting" if waiting else "ready" if answered else "running"

    @property
    def waits_until(self) -> int:
        """When a waiting run goes on without an answer, in Unix nanoseconds: it asks its model again, or a request expires.

        0: it does not wait, or it waits for the answer to a question.
        """
        match self.status:
            case "waiting: model":
                return (self.model_wait and self.model_wait.again_at) or 0
            case "waiting":
                return min((one.requested.expires_at for one in self.approvals if one.waits()), default=0)
            case _:
                return 0

    def calls(self, *, but: tuple[int, int] | None = None) -> dict[str, int]:
        """How many calls of each action succeeded, may have happened, or are allowed and not yet answered, without `but`.

        Calls count as soon as they are allowed: of three parallel calls with a budget of one, only one is allowed.
        """
        counts = dict(self.settled)  # answered calls; the open ones follow
        for place, call in self.open.items():
            if place != but and (call.allowed or call.happened):
                counts[call.action] = counts.get(call.action, 0) + 1
        return counts


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One line of the list of runs.

    `started_at` and `ended_at` are Unix nanoseconds. `task` is the beginning of the task; two runs of one `task_digest` have
    the same task. `first_failed` names the first call that failed or was refused, with its code: `files.read at step 0:
    timeout`. `in_doubt` are the effects of unknown outcome. `asked` counts the calls for which people were asked. `cost` is None
    if it is not known. `violations` counts the attempts that tried to reach what was not authorized. `arm` is its side of a rollout.
    `evaluation` is the id of the evaluation of the run, "import:NAME" for an imported run, and "" for a live run. `actions` counts the calls that succeeded, by action.
    `response_model` is the last model that answered, as its provider names it. `bundles` are the digests of the policy bundles that
    the run used, in order. `driver` is the framework whose graph drives the run, "" for Remit's own graph. `priority` is that of
    a run which workers drive, 0 for another one. `waits_until` is when a waiting run goes on without an answer, in Unix nanoseconds, 0 if it does not wait. `holder` names the process that drives the
    run, or drove it until it was lost: "process 412 on host web-3"; "" if none does. `observe_until` is when an agent that observes
    is enforced again, in Unix nanoseconds, 0 for one that is enforced; `let_through` counts the calls that enforcement would have stopped.
    """

    run: str
    started_at: int
    ended_at: int | None
    tenant: str
    agent: str
    user: str
    task: str
    task_digest: str
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
    labels: tuple[str, ...] = ()
    in_doubt: tuple[InDoubt, ...] = ()
    asked: int = 0
    cost: Decimal | None = None
    violations: int = 0
    arm: RunArm | None = None
    evaluation: str = ""
    actions: Mapping[str, int] = field(default_factory=dict[str, int])
    response_model: str = ""
    bundles: tuple[str, ...] = ()
    driver: str = ""
    priority: int = 0
    waits_until: int = 0
    observe_until: int = 0
    let_through: int = 0
    holder: str = ""

    @property
    def word(self) -> str:
        """How the run ended, or else its state: `completed, 1 refused`; `completed, 2 let through` if it was observed."""
        refused = f", {self.denied} refused" if self.denied and self.outcome == "completed" else ""
        observed = f", {self.let_through} let through" if self.observe_until else ""
        return f"{self.outcome or self.state}{refused}{observed}"
