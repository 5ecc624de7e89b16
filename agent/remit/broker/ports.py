"""Interface to everything that a call reads from outside the record of its run, and how an attempt or a probe ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from remit.core import (
    Call,
    Change,
    Code,
    CodeLine,
    Connection,
    ContentObject,
    DeniedAccess,
    Failed,
    Json,
    Landed,
    ReachedLimit,
    Refusal,
    Request,
    ResourceUsage,
    SchemaMismatch,
)
from remit.core.events import BoundedApproval, QuestionAnswered, Usage
from remit.journal import Record, RunState
from remit.policy import Policy
from remit.workspace import Measure
from remit.workspace.manifest import Breaker


@dataclass(frozen=True, kw_only=True)
class ShadowRules:
    """Rules that are tried beside those in force, for the rollout of that id. Nothing follows from what they decide."""

    rollout: str
    policy: Policy


class ExecutionPorts(Protocol):
    """Everything that a call reads from outside the record of its run. A replay answers from the recording instead."""

    def clock(self, step: int, index: int) -> int:
        """The time in Unix nanoseconds for the next step of that call."""
        ...

    def policy(self, step: int, index: int) -> Policy:
        """The policy that is in force now."""
        ...

    def shadow_rules(self, step: int, index: int) -> ShadowRules | None:
        """The rules that are tried beside those in force; None without any. Never raises for a reason of the candidate."""
        ...

    def casbin_allows(self, call: Call, policy: Policy, request: Request) -> bool:
        """True if stock Casbin allows the request under that policy."""
        ...

    def quoted_by_user(self, step: int, index: int) -> bool | None:
        """The recorded value of `quoted_by_user` for a call with redacted arguments; None means: compute it."""
        ...

    def run_state(self, record: Record, call: Call, decision_digest: str) -> RunState:
        """The run state that the decision about the call is based on."""
        ...

    async def admit(self, call: Call) -> None:
        """Raise a refusal if something outside of this run prevents the call.

        That is an operator's hold, an open circuit, or a graph that continued without the call.
        """
        ...

    async def attempt_ended(self, call: Call, attempt: int, code: Code | None, breaker: Breaker) -> None:
        """Count how an attempt ended for the circuit breaker of the tool, which all runs share."""
        ...

    async def wait_until_stopped(self, call: Call, until: int) -> tuple[Code, str]:
        """Wait until a running call must be ended, then return the code and the reason. `until` is in Unix nanoseconds."""
        ...

    async def changed(self, seconds: float) -> None:
        """Return once a hold may have been set, or after so many seconds."""
        ...

    def awaits_answers(self, call: Call) -> bool:
        """True if a recorded approval answer is still to be applied (replay only; a live run reads answers from the journal).

        Raises:
            Refusal: the call was given up while it waited for approval.
        """
        ...

    def is_revoked(self, call: Call, bounded: BoundedApproval) -> bool:
        """True if a person has revoked this approval of further calls, which an earlier run of the conversation gave."""
        ...

    def lost_secret_result(self, step: int, index: int) -> Failed | None:
        """The recorded result of a call whose secret was lost with its process; None if there is none."""
        ...

    def answer(self, call: Call, number: int) -> QuestionAnswered | None:
        """The answer to that question of the call's tool; None: a person has still to answer."""
        ...

    async def sleep(self, call: Call, seconds: float) -> None:
        """Wait before the next attempt; a hold on the call ends the wait."""
        ...

    def cost(self, step: int, model: str, usage: Usage) -> Decimal | None:
        """The price of one turn of that model; None if the price or the tokens are not known."""
        ...

    async def reserve(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        """Reserve amounts of the shared limits, for a call or (None) for the model turn of the step. Repeating it is safe.

        Raises:
            Refusal: `rate_limited` or `budget_exhausted`, with the time to wait.
        """
        ...

    async def record_usage(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        """Replace a reservation by the amounts that were really used."""
        ...


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """The outcome of one attempt before it is sanitized. If `code` is None, `value` is the result.

    `read_digest` is the digest of what the call can read, after it ran; "" if its result is not cached.
    """

    code: Code | None
    value: Json = None
    error: str | None = None
    message: str = ""
    next_step: str | None = None
    retry_after_s: float | None = None
    landed: Landed = "none"
    changes: tuple[Change, ...] = ()
    objects: tuple[ContentObject, ...] = ()
    refused: tuple[DeniedAccess, ...] = ()
    connections: tuple[Connection, ...] = ()
    stderr: str = ""
    spent: ResourceUsage = ResourceUsage()
    limit: ReachedLimit | None = None
    frames: tuple[CodeLine, ...] = ()
    mismatch: SchemaMismatch | None = None
    lost: bool = False
    read_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class During:
    """What a running attempt asks, and what it reports.

    `decide` returns True if the call may follow a redirect to that URL; None allows no redirect. `on_print` gets what the tool prints,
    in the event loop of the broker. `answered` returns what a person has answered to a question of the tool, None if nobody has; without
    it, nobody can be asked.
    """

    decide: Callable[[str], bool] | None = None
    on_print: Callable[[bytes], None] | None = None
    answered: Callable[[Json], Json] | None = None


class Question(Exception):
    """A function of a tool asks a person, and returns without a result. It is called again, from its beginning, with the answer.

    `via` says where an external graph waits for the answer: which answers to earlier questions it repeats follows from it. `connections`
    are the network requests until then.
    """

    def __init__(self, value: Json, via: str, connections: tuple[Connection, ...] = ()) -> None:
        self.value = value
        self.via = via
        self.connections = connections
        super().__init__("a tool asks a person")


@dataclass(frozen=True, kw_only=True)
class ProbeOutcome:
    """The outcome of a probe of an effect. `value` is what the call would have returned; None unless it landed."""

    landed: Landed
    value: Json = None
    reason: str = ""


def landed(call: Call, code: Code | None, *, entered: bool = True) -> Landed:
    """What is known about the effect after an attempt that ended with `code`; `entered` is False if it ran no function.

    Files reach the working folder only when the broker commits them. A failed attempt that writes only files has therefore
    not landed. With a declared error the tool itself states that nothing happened.
    """
    if call.effect == "read":
        return "none"
    if not entered:
        return "not_landed"
    if code is None:
        return "landed"
    only_files = all(touch.access != "use" and touch.kind == "file" for touch in call.touches if touch.access != "read")
    if only_files or code in ("tool_failed", "sandbox_unavailable"):
        return "not_landed"
    return "unknown"


def result_refusal(call: Call, refusal: Refusal) -> str:
    """The message for a result that was refused: it says so if the function had returned, and what it did stays done."""
    after = "; the function had returned by then, so its effect has probably happened"
    return refusal.message + (after if landed(call, "invalid_output") == "unknown" else "")


def mismatch_of(refusal: Refusal) -> SchemaMismatch | None:
    """Where a refused result does not match its schema; None if it is no value at all."""
    found = refusal.details.get("mismatch")
    return None if found is None else SchemaMismatch.model_validate(found)
