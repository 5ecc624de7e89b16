"""At-most-once execution: effects whose outcome is unknown, and how they are settled.

An `attempt.begun` event is on disk before the effect and an `attempt.ended` event after it. The first without the second means
that the process died in between. Only the outside system knows then if the effect happened, so the probe of the tool or a
person looks there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

from remit.broker.ports import AttemptOutcome, Question
from remit.core import Call, Json, Principal, Refusal, UsageError
from remit.core.events import AttemptEnded, EffectSettled, InDoubtEffect, QuestionAnswered, QuestionAsked
from remit.core.parsing import digest
from remit.guardrails import Sanitizer
from remit.journal import Record, RunState, effect_digest

LOST: Final = "the process that ran this attempt exited before it recorded the outcome"


def idempotency_key(call: Call, state: RunState) -> str:
    """The key that makes a service do this call only once.

    A call with the same request as an earlier call of unknown outcome reuses the key of that call.
    """
    for doubt in _doubts(state, call):
        if call.effect == "keyed" and doubt.request_digest == call.request_digest:
            return doubt.idempotency_key
    return digest({"run": call.run, "step": call.step, "index": call.index})


def check_repeated_effect(state: RunState, call: Call) -> None:
    """Raise `outcome_unknown` if an earlier call may have had this effect already, also if its arguments differ.

    Only an action with idempotency keys can be repeated, and only with the same arguments: its key then makes it harmless.
    """
    doubts = _doubts(state, call)
    same = (doubt for doubt in doubts if doubt.request_digest == call.request_digest and doubt.settled is None)
    if not doubts or (call.effect == "keyed" and any(same)):
        return
    doubt = doubts[0]
    where = f"at step {doubt.step}" + (f" of run {doubt.run[:8]}" if doubt.run else "")
    if doubt.settled is not None:
        raise Refusal(
            "outcome_unknown",
            f"{call.action} already had this effect {where}; {doubt.settled.source} confirmed it",
            details={"effect": "landed", "call": f"{doubt.step}.{doubt.index}"},
            next_step="treat the call as done, and do not repeat it",
        )
    arguments = f"repeat it with exactly the arguments of the call {where}"
    raise Refusal(
        "outcome_unknown",
        f"{call.action} may have had this effect already, {where}; it is not run a second time",
        details={"effect": "unknown", "call": f"{doubt.step}.{doubt.index}"},
        next_step=arguments
        if call.effect == "keyed"
        else "continue without it, and tell the user to run `remit settle`",
    )


def _doubts(state: RunState, call: Call) -> tuple[InDoubtEffect, ...]:
    if not state.doubts or not (effect := effect_digest(call)):
        return ()
    return tuple(doubt for doubt in state.doubts if doubt.effect_digest == effect)


def check_duplicate_in_step(calls: Sequence[Call], call: Call) -> None:
    """Raise `invalid_arguments` if an irreversible call occurs twice with the same arguments in one turn."""
    twin = next((other for other in calls if other.request_digest == call.request_digest), None)
    if call.effect == "once" and twin is not None:
        raise Refusal(
            "invalid_arguments",
            f"the turn contains the irreversible call of {call.action} twice; only the first one runs",
            details={"problem": "repeated_call", "call": f"{twin.step}.{twin.index}"},
            next_step="call it again in a later turn, only if it must happen twice",
        )


async def overtaken(record: Record, call: Call, admit: Callable[[Call], Awaitable[None]]) -> AttemptOutcome | None:
    """The outcome of an attempt that must not be carried out any more; None for one that may. It is asked right before the effect.

    If its record took long, because this process was stopped or cut off, another process may drive the run, or a hold may be in
    force.

    Raises:
        RunEnded: `unrecorded`: another process drives the run.
    """
    if call.effect == "read" or not await record.confirm():
        return None
    try:
        await admit(call)
    except Refusal as refusal:
        return AttemptOutcome(code=refusal.code, message=str(refusal), landed="not_landed")
    return None


def earlier_attempts(record: Record, call: Call) -> tuple[int, AttemptEnded | None]:
    """The number of recorded attempts of any process, and the end of the last one.

    An attempt without a recorded end was interrupted; its end is recorded here as lost. One that asks a person goes on: it does not count.
    """
    number = record.count(f"attempt.begun/{call.step}/{call.index}")
    if number == 0:
        return 0, None
    ended = record.get(f"attempt.ended/{call.step}/{call.index}/{number}")
    if isinstance(ended, AttemptEnded):
        return number, ended
    if open_question(record, call) is not None:
        before = record.get(f"attempt.ended/{call.step}/{call.index}/{number - 1}")
        return number - 1, before if isinstance(before, AttemptEnded) else None
    record.append(ended := lost_attempt(call, number), durable=True)
    return number, ended


class QuestionPending(Exception):
    """The call waits until a person answers what its tool has asked."""

    def __init__(self, asked: QuestionAsked) -> None:
        self.asked = asked
        super().__init__("a tool asks a person")


def open_question(record: Record, call: Call) -> QuestionAsked | None:
    """What the tool of the call has asked a person, who has not answered yet."""
    opened = record.state.open.get((call.step, call.index))
    return None if opened is None else opened.question


async def ask(record: Record, call: Call, number: int, question: Question, sanitizer: Sanitizer) -> QuestionPending:
    """Record the question of the tool. The attempt stays open until a person has answered it."""
    asked = QuestionAsked(
        step=call.step,
        index=call.index,
        attempt=number,
        number=record.count(f"question.asked/{call.step}/{call.index}") + 1,
        question=sanitizer.json(question.value, action=call.action),
        via=question.via,
        connections=question.connections,
    )
    record.append(asked, durable=True)
    await record.commit()
    return QuestionPending(asked)


def answers(record: Record, call: Call, sanitizer: Sanitizer, *, content: bool) -> Callable[[Json], Json] | None:
    """What people have answered to the server of the call, by question; None in a run in which nobody can answer.

    That is a run of an evaluation, and one whose record keeps no `content`: an answer could not reach it.
    INVARIANT: an answer counts once in an attempt, and only for the question that the person has read.
    """
    started = record.state.started
    if started is None or started.evaluation or not content:
        return None
    given: list[tuple[Json, Json]] = []
    place = f"{call.step}/{call.index}"
    while isinstance(answered := record.get(f"question.answered/{place}/{len(given) + 1}"), QuestionAnswered):
        asked = record.get(f"question.asked/{place}/{len(given) + 1}")
        given.append((asked.question if isinstance(asked, QuestionAsked) else None, answered.answer))

    def answer(question: Json) -> Json:
        text = sanitizer.json(question, action=call.action)
        at = next((at for at, (asked, _) in enumerate(given) if asked == text), None)
        return None if at is None else given.pop(at)[1]

    return answer


def lost_attempt(call: Call, number: int) -> AttemptEnded:
    """The end of an attempt whose process died. INVARIANT: only an effect that can be repeated is retried."""
    return AttemptEnded(
        step=call.step,
        index=call.index,
        attempt=number,
        code="outcome_unknown" if call.effect == "once" else "cancelled",
        cause="cancelled",
        message=LOST,
        landed="none" if call.effect == "read" else "unknown",
        lost=True,
        retry_in_s=None if call.effect == "once" else 0.0,
    )


def count_settlements(record: Record, step: int, index: int, who: Literal["probe", "person"]) -> int:
    """How often a probe or a person has settled that effect so far."""
    return record.count(f"effect.settled/{step}/{index}/{who}")


def settle_effect(
    record: Record,
    step: int,
    index: int,
    *,
    landed: Literal["landed", "not_landed"],
    by: Principal,
    reason: str,
) -> EffectSettled:
    """Record what a person found out about an effect.

    Raises:
        UsageError: the outcome of that effect is known, or the account belongs to no person.
    """
    if not by.is_person:
        raise UsageError(f"account {by.account!r} has no user: map it in [identity] of remit.toml")
    if not any((item.step, item.index) == (step, index) for item in record.state.in_doubt):
        raise UsageError(f"the outcome of call {step}.{index} is not unknown: `remit settle` lists the calls to settle")
    event = EffectSettled(
        step=step,
        index=index,
        number=count_settlements(record, step, index, "person") + 1,
        landed=landed,
        by=by,
        reason=reason,
    )
    record.append(event, durable=True)
    return event
