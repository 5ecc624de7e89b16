"""Executes one allowed call, from its first attempt to its result.

admit ─► decode ─► record begin ─► run in sandbox ─► check ─► sanitize ─► record end ─► settle ─► result
    ▲                                                                   │
    └───────────────────────────── retry? ◄─────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from remit.broker import budgets, effects, retries
from remit.broker.attempts import DecodedCall, Progress, ToolExecutor
from remit.broker.cached_reads import CachedRead, cached_read
from remit.broker.context import known_labels
from remit.broker.host import ResultReader
from remit.broker.ports import AttemptOutcome, During, ExecutionPorts, Question, landed
from remit.core import (
    NEXT_STEPS,
    READ_RESULT,
    Call,
    Code,
    Connection,
    ContentObject,
    Decision,
    Error,
    Failed,
    Json,
    Landed,
    Refusal,
    Result,
    RunEnded,
    Succeeded,
    in_thread_uninterrupted,
    request_digest,
)
from remit.core.events import NANO, AttemptBegun, AttemptEnded, EffectSettled, QuestionAnswered
from remit.guardrails import Sanitizer
from remit.journal import Record, effect_digest
from remit.workspace import Agent, Workspace, labels_in, labels_of
from remit.workspace.manifest import Action, check_decoded, named_arguments

LONGEST_TEXT: Final = 2000  # characters of tool-written text in one field that the model reads
UNBOUNDED_NS: Final = 10 * 365 * 86_400 * NANO  # added to the time limit of a call that is only observed
QUICK_S: Final = 0.05  # a call that ends within this time is not watched for holds and the time limit

_RETRY: Final = "call it again with the same arguments, or continue without it"

# The codes whose message the tool wrote. It can contain untrusted text.
WRITTEN_BY_TOOL: Final[frozenset[Code]] = frozenset(
    {"tool_failed", "tool_crashed", "sandbox_violation", "invalid_output"}
)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Executes the calls of one run; an irreversible call at most once.

    `allows_redirect` returns True if a call may follow a redirect to a URL that its decision does not contain. `check_sandbox` returns the
    labels of what the live sandbox of a call was given, and raises Refusal if that forbids the call since its decision. With `enforced` False,
    the call is only observed: it is attempted once, without regard to budgets and to earlier effects.
    """

    workspace: Workspace
    agent: Agent
    record: Record
    executor: ToolExecutor
    ports: ExecutionPorts
    sanitizer: Sanitizer
    allows_redirect: Callable[[Call, str], bool]
    check_sandbox: Callable[[Call], frozenset[str]]
    enforced: bool = True

    async def run(
        self, call: Call, decision: Decision, *, arguments_complete: bool, lost_secret: Callable[[], Failed | None]
    ) -> Result:
        """Attempt the call until it succeeds, fails permanently, or must not be retried. A second call repeats nothing.

        `arguments_complete` is False if a secret in the arguments was not recorded and its process has exited. `lost_secret`
        is called before each new attempt and returns the result of such a call; None means that the attempt can start.
        """
        _, action = self.workspace.action(call.action)
        number, ended = effects.earlier_attempts(self.record, call)
        while True:
            if ended is not None:
                settled = await self._settled(call, action, ended, arguments_complete)
                again = settled is not None and settled.landed == "not_landed" and ended.lost
                if ended.retry_in_s is None and not again:
                    return result_of(action, ended, settled, self.labels(call, action, ended.value))
                await self.ports.sleep(call, ended.retry_in_s or 0.0)
            try:
                if (failed := lost_secret()) is not None:
                    return failed
                await self.ports.admit(call)
                if self.enforced:
                    budgets.check_wall(self.record.state, self.agent.budget, self.ports.clock(call.step, call.index))
                number += 1
                ended = await self._attempt(call, decision, action, number)
            except Refusal as refusal:
                return refusal_result(self.sanitizer, refusal, ended)

    async def _settled(
        self, call: Call, action: Action, ended: AttemptEnded, arguments_complete: bool
    ) -> EffectSettled | None:
        """The outcome of an effect that was unknown: a person settled it, or the probe of the tool does; None if neither."""
        open_call = self.ports.run_state(self.record, call, "").open.get((call.step, call.index))
        if (
            ended.landed != "unknown"
            or ended.retry_in_s is not None
            or open_call is None
            or not open_call.effect_digest
        ):
            return None
        if open_call.settled is not None and open_call.settled.landed != "unknown":
            return open_call.settled
        if not action.probe or not arguments_complete:  # a probe needs the original arguments
            return None
        number = effects.count_settlements(self.record, call.step, call.index, "probe") + 1
        probed = await self.executor.probe(call, number, idempotency_key=open_call.idempotency_key)
        tool, _, _ = call.action.partition(".")
        settled = EffectSettled(
            step=call.step,
            index=call.index,
            number=number,
            landed=probed.landed,
            probe=f"{tool}.{action.probe}",
            reason=self.sanitizer.text(probed.reason)[:LONGEST_TEXT],
            value=self.sanitizer.json(probed.value),
        )
        self.record.append(settled, durable=True)
        return settled

    async def _attempt(self, call: Call, decision: Decision, action: Action, number: int) -> AttemptEnded:
        """Run one attempt. INVARIANT: `attempt.begun` is recorded before the tool runs, so no effect is without a record.

        The arguments are decoded before. What fails there has no effect, so nothing is in doubt.
        """
        state = self.ports.run_state(self.record, call, "")
        if number == 1 and self.enforced:
            effects.check_repeated_effect(state, call)
        executor = ResultReader(self.record) if call.action == READ_RESULT else self.executor
        profile, confinement = executor.prepare(call, number)
        check_arguments_unchanged(call, self.sanitizer)
        key = effects.idempotency_key(call, state)
        answer = self._answer(call)
        read, cached = await self._cached(executor, call, number, profile)
        async with self._decoded(cached or executor, call, number, key) as decoded:
            given: tuple[str, ...] | None = None
            if cached is None and self._is_live(call):
                await self.ports.admit(call)  # it may have waited for its turn
                given = tuple(sorted(self.check_sandbox(call).union(self.labels(call, action))))
            begun = AttemptBegun(
                step=call.step,
                index=call.index,
                attempt=number,
                request_digest=call.request_digest,
                decision_digest=decision.decision_digest,
                profile_digest=profile,
                confinement=confinement,
                idempotency_key=key if executor.keyed(call) else "",
                effect_digest=effect_digest(call),
                read_digest=read,
                cached=cached.place if cached else "",
                given=given,
            )
            await self.record.copy(begun)
            self.record.append(answer or begun, durable=call.effect != "read")
            await self.record.commit()
            try:
                overtaken = await effects.overtaken(self.record, call, self.ports.admit)
                attempted = overtaken or await self._bounded(call, number, decoded)
            except Question as question:
                question.connections = tuple(map(self._sanitized, question.connections))
                raise await effects.ask(self.record, call, number, question, self.sanitizer) from None
        attempted = replace(attempted, read_digest=read if attempted.read_digest == read else "")
        ended = await self._ended(call, action, number, attempted)
        self.record.append(ended, durable=call.effect != "read")
        if call.effect != "read":
            await self.record.commit()
        tool, _ = self.workspace.action(call.action)
        if cached is None:  # the tool did not run, so this says nothing of its health
            await self.ports.attempt_ended(call, number, attempted.code, tool.manifest.breaker)
        if attempted.code in ("sandbox_unavailable", "unrecorded"):
            raise RunEnded("sandbox_unavailable", attempted.message, fix="run `remit doctor`")
        return ended

    def _is_live(self, call: Call) -> bool:
        return call.action != READ_RESULT and self.workspace.action(call.action)[0].manifest.life == "run"

    def _answer(self, call: Call) -> QuestionAnswered | None:
        """The answer with which an attempt goes on that asked a person; None for a new attempt. Raises QuestionPending without it."""
        if (asked := effects.open_question(self.record, call)) is None:
            return None
        if (answer := self.ports.answer(call, asked.number)) is None:
            raise effects.QuestionPending(asked)
        return answer.model_copy(update={"answer": self.sanitizer.json(answer.answer)})

    async def _cached(
        self, executor: ToolExecutor, call: Call, number: int, profile: str
    ) -> tuple[str, CachedRead | None]:
        """The digest of what the call can read, and the earlier call that answers it; "" and None for a call that is not cached."""
        read = await executor.read_digest(call, number)
        # The digest of a request covers redacted arguments, so two requests with different secrets look the same.
        if not read or not _is_exact(call, call.arguments):
            return "", None
        return read, cached_read(self.record, call, profile, read)

    @asynccontextmanager
    async def _decoded(
        self, executor: ToolExecutor | CachedRead, call: Call, number: int, key: str
    ) -> AsyncGenerator[DecodedCall]:
        """The call with its arguments decoded, and what the decision is about unchanged."""
        tool, action = self.workspace.action(call.action)
        assert tool.pin is not None  # the broker refuses unpinned tools before it decides
        schema = tool.pin.schemas[action.name]
        read = self.ports.policy(call.step, call.index).arguments_read(call.action)
        read = read.intersection(schema.input.get("properties", {}))
        named = named_arguments(action) | read
        async with executor.decode(call, number, named=named, idempotency_key=key) as decoded:
            check_decoded(action, schema, call.arguments, decoded.arguments, read=read)
            yield decoded

    async def _bounded(self, call: Call, number: int, decoded: DecodedCall) -> AttemptOutcome:
        """Run one attempt; its processes are killed when the run's time ends or an operator puts the call on hold."""
        until = budgets.wall_end(self.record.state, self.agent.budget) + (0 if self.enforced else UNBOUNDED_NS)
        progress = Progress(record=self.record, sanitizer=self.sanitizer, call=call, attempt=number)
        during = During(
            decide=lambda url: self.allows_redirect(call, url),
            on_print=progress.see,
            answered=effects.answers(self.record, call, self.sanitizer, content=self.workspace.settings.content),
        )
        work = asyncio.ensure_future(decoded.attempt(during))
        stop: asyncio.Future[tuple[Code, str]] | None = None
        try:
            await asyncio.wait({work}, timeout=QUICK_S)
            if work.done():
                return work.result()
            stop = asyncio.ensure_future(self.ports.wait_until_stopped(call, until))
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
            if not work.cancelled():
                return work.result()
            code, message = stop.result()
            return AttemptOutcome(code=code, message=message, landed=landed(call, code))
        finally:
            if stop is not None:
                stop.cancel()
            # If this task is cancelled too, it still waits until no process of the call is left.
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def _ended(self, call: Call, action: Action, number: int, attempted: AttemptOutcome) -> AttemptEnded:
        """The end of the attempt as it is recorded: checked against the content rules, and sanitized."""
        if attempted.lost:
            return effects.lost_attempt(call, number)
        note = None
        if attempted.code is None:
            size = attempted.spent.output_bytes
            note = await in_thread_uninterrupted(size, self.sanitizer.blocked, attempted.value, "result", call.action)
        if note is not None:
            message = f"a content rule blocks the result of {call.action}: {note}"
            attempted = replace(attempted, code="content_blocked", value=None, message=message)
        code = attempted.code
        # If the effect of an irreversible call may have happened, that matters more than how the attempt failed.
        if attempted.landed == "unknown" and call.effect == "once":
            code = "outcome_unknown"
        retried = code is not None and self._may_retry(call, action, number, code, attempted)
        size = attempted.spent.output_bytes + len(attempted.stderr) + len(attempted.message)
        size += sum(item.size for item in attempted.objects)
        return await in_thread_uninterrupted(size, self._cleaned, call, action, attempted, (number, code, retried))

    def _cleaned(
        self, call: Call, action: Action, attempted: AttemptOutcome, outcome: tuple[int, Code | None, bool]
    ) -> AttemptEnded:
        number, code, retried = outcome
        return AttemptEnded(
            step=call.step,
            index=call.index,
            attempt=number,
            code=code,
            cause=attempted.code if attempted.code not in (code, None) else None,
            error=attempted.error,
            message=self.sanitizer.text(attempted.message, action=call.action)[:LONGEST_TEXT],
            next_step=None if attempted.next_step is None else self.sanitizer.text(attempted.next_step),
            labels=self.labels(call, action) if attempted.code in WRITTEN_BY_TOOL and not retried else (),
            value=self.sanitizer.json(attempted.value, action=call.action),
            landed=attempted.landed,
            changes=attempted.changes,
            objects=tuple(map(self._without_secrets, attempted.objects)) if code is None else (),
            denied_accesses=tuple(
                access.model_copy(
                    update={"what": self.sanitizer.text(access.what), "allow": self.sanitizer.text(access.allow)}
                )
                for access in attempted.refused
            ),
            connections=tuple(self._sanitized(connection) for connection in attempted.connections),
            stderr=self.sanitizer.text(attempted.stderr, action=call.action),
            spent=attempted.spent,
            limit=attempted.limit,
            # Where a tool raises an error that it declares is for its author alone: `remit tool try`.
            frames=attempted.frames if attempted.code == "tool_crashed" else (),
            mismatch=attempted.mismatch,
            retry_in_s=retries.retry_delay(call.run, call.step, call.index, number, attempted.retry_after_s)
            if retried
            else None,
            retry_after_s=attempted.retry_after_s,
            read_digest=attempted.read_digest if code is None else "",
        )

    def labels(self, call: Call, action: Action, value: Json = None) -> tuple[str, ...]:
        """The labels of the action, of the resources that the call touched, in its result, and of what it could read besides.

        That is an earlier result that it reads again, and what its live sandbox was given.
        """
        read = ResultReader(self.record).labels(call) if call.action == READ_RESULT else ()
        return tuple(
            dict.fromkeys(
                (
                    *action.adds_labels,
                    *labels_of(self.workspace.labels, call.touches),
                    *labels_in(action, value),
                    *read,
                    *known_labels(self.record, call),
                )
            )
        )

    def _without_secrets(self, item: ContentObject) -> ContentObject:
        """The image or file; without its bytes if they contain a known secret, which cannot be replaced in them."""
        text = base64.b64decode(item.data).decode("latin-1")
        known = self.sanitizer.without_known_secrets(text) != text
        return item.model_copy(update={"data": ""}) if known else item

    def _sanitized(self, connection: Connection) -> Connection:
        path, why = self.sanitizer.text(connection.path), self.sanitizer.text(connection.why)
        return connection.model_copy(update={"path": path, "why": why})

    def _may_retry(self, call: Call, action: Action, number: int, code: Code, attempted: AttemptOutcome) -> bool:
        state = self.ports.run_state(self.record, call, "")
        open_call = state.open.get((call.step, call.index))
        return (
            self.enforced
            and retries.allows_retry(call.effect, action.retry, attempt=number, code=code, error=attempted.error)
            and (attempted.retry_after_s or 0.0) <= retries.LONGEST_WAIT_S
            and (open_call is None or retries.has_tries_left(state, self.agent.budget, open_call.retry_key))
        )


def check_arguments_unchanged(call: Call, sanitizer: Sanitizer) -> None:
    """Raise `policy_denied` if the arguments changed after the decision (threat E7)."""

    # The digest covers redacted arguments. Most calls contain no secret, so the unredacted ones are compared first.
    if not _is_exact(call, call.arguments) and not _is_exact(call, sanitizer.arguments(call.arguments)):
        raise Refusal(
            "policy_denied",
            f"the arguments of {call.action} changed after the call was decided",
            details={"reason": "not_decided"},
            next_step="send the call again",
        )


def _is_exact(call: Call, arguments: Mapping[str, Json]) -> bool:
    """True if the digest of the request is that of these arguments."""
    return request_digest(call.subjects, call.action, arguments, call.manifest) == call.request_digest


def result_of(action: Action, ended: AttemptEnded, settled: EffectSettled | None, labels: tuple[str, ...]) -> Result:
    """The result of a call that was attempted; `labels` are those of a successful result."""
    if ended.code is None:
        return Succeeded(value=ended.value, labels=labels)
    if settled is not None and settled.landed == "landed" and settled.value is not None:
        return Succeeded(value=settled.value, labels=labels)
    code, landed, message = ended.code, ended.landed, ended.message
    retryable = retries.model_may_retry(action.effect, action.retry, code=code, error=ended.error)
    if settled is not None and settled.landed == "landed":
        landed, message = "landed", f"{settled.source} confirmed that the effect happened; its result is not available"
    elif settled is not None and settled.landed == "not_landed":
        code, landed, retryable = ended.cause or code, "not_landed", True
    assert code != "sandbox_unavailable"  # this code and the next one end the run
    assert code != "unrecorded"
    error = Error(
        code=code,
        message=message,
        retryable=retryable,
        retry_after_s=ended.retry_after_s if retryable else None,
        attempts=ended.attempt or 0,
        details=_details(ended, landed),
        next_step=(ended.next_step if code == ended.code else None) or (_RETRY if retryable else NEXT_STEPS[code]),
    )
    return Failed(error=error)


def _details(ended: AttemptEnded, landed: Landed) -> dict[str, object]:
    """What a failed attempt tried to reach, which limit it hit, where it failed, and what is known of its effect."""
    details: dict[str, object] = {}
    if ended.error is not None:
        details["error"] = ended.error
    if ended.denied_accesses:
        details["refused"] = [item.model_dump(mode="json") for item in ended.denied_accesses]
    if ended.limit is not None:
        details["limit"] = ended.limit.model_dump(mode="json")
    if ended.frames:
        details["frames"] = [frame.model_dump(mode="json") for frame in ended.frames]
    if ended.mismatch is not None:
        details["mismatch"] = ended.mismatch.model_dump(mode="json")
    if landed != "none":
        details["effect"] = landed
    return details


def refusal_result(sanitizer: Sanitizer, refusal: Refusal, ended: AttemptEnded | None = None) -> Failed:
    """The result of a refused call; `ended` is the end of its last attempt, if there was one."""
    details = dict(refusal.details)
    if ended is not None and ended.landed != "none":
        details["effect"] = ended.landed
    error = Error(
        code=refusal.code,
        message=sanitizer.text(refusal.message)[:LONGEST_TEXT],
        retryable=refusal.retryable,
        retry_after_s=refusal.retry_after_s,
        attempts=0 if ended is None else ended.attempt or 0,
        details=sanitizer.json(details),
        next_step=refusal.next_step or NEXT_STEPS[refusal.code],
    )
    return Failed(error=error)
