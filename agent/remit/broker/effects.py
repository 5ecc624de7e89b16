"""At most once: which effects nobody saw the end of, what may still be done about them, and who may settle them.

An intent is on disk before its effect and an outcome after it, so an intent without an outcome means that the process died
in between. Whether the effect happened is then known to the outside world alone: the tool's probe looks there, or a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remit.core import Call, Refusal, UsageError
from remit.core.events import AttemptBegun, AttemptEnded, EffectSettled
from remit.core.parsing import digest
from remit.journal import InDoubtEffect, Journal, Record, RunState, effect_digest

LOST: Final = "the process that ran this attempt ended before it could tell what came of it"


@dataclass(frozen=True, kw_only=True)
class InDoubt:
    """One effect that may have happened. `answered`: its call is over, and the model was told so."""

    run: str
    step: int
    index: int
    action: str
    answered: bool


def idempotency_key(call: Call, facts: RunState) -> str:
    """The key under which a service does this only once: that of an earlier call of which nobody knows the end, if it is
    this very one."""
    for doubt in _doubts(facts, call):
        if call.effect == "keyed" and doubt.request == call.request_digest:
            return doubt.key
    return digest({"run": call.run, "step": call.step, "index": call.index})


def check_repeated_effect(facts: RunState, call: Call) -> None:
    """Raise `outcome_unknown` where an earlier call may have done this already, whatever its other arguments were.

    Only an action with keys may be asked again, and only in the very same words: then its key makes it harmless.
    """
    doubts = _doubts(facts, call)
    same = (doubt for doubt in doubts if doubt.request == call.request_digest and doubt.settled is None)
    if not doubts or (call.effect == "keyed" and any(same)):
        return
    doubt = doubts[0]
    if doubt.settled is not None:
        raise Refusal(
            "outcome_unknown",
            f"the same was asked at step {doubt.step}, and it has happened: {doubt.settled.by} has seen it",
            details={"effect": "landed", "call": f"{doubt.step}.{doubt.index}"},
            next_step="take it as done",
        )
    again = "ask with exactly the same arguments" if call.effect == "keyed" else "go on without it"
    raise Refusal(
        "outcome_unknown",
        f"the same was asked at step {doubt.step}, and it may have happened; it is not done a second time",
        details={"effect": "unknown", "call": f"{doubt.step}.{doubt.index}"},
        next_step=f"{again}, or have a person settle that call (remit settle)",
    )


def _doubts(facts: RunState, call: Call) -> tuple[InDoubtEffect, ...]:
    if not facts.doubts or not (effect := effect_digest(call)):
        return ()
    return tuple(doubt for doubt in facts.doubts if doubt.effect == effect)


def check_duplicate_in_step(calls: Sequence[Call], call: Call) -> None:
    """Raise `invalid_arguments` where an earlier call of the same turn is this very one and cannot be undone."""
    twin = next((other for other in calls if other.request_digest == call.request_digest), None)
    if call.effect == "once" and twin is not None:
        raise Refusal(
            "invalid_arguments",
            "the same irreversible call stands twice in one turn; it is carried out once",
            details={"problem": "repeated_call", "call": f"{twin.step}.{twin.index}"},
            next_step="ask again in a later turn if it is meant twice",
        )


def earlier_attempts(record: Record, call: Call) -> tuple[int, AttemptEnded | None]:
    """How many attempts were made, here or by a process that died, and how the last one ended."""
    number = record.count(f"attempt.begun/{call.step}/{call.index}")
    if number == 0:
        return 0, None
    ended = record.get(f"attempt.ended/{call.step}/{call.index}/{number}")
    if isinstance(ended, AttemptEnded):
        return number, ended
    record.append(ended := lost_attempt(call, number), durable=True)
    return number, ended


def lost_attempt(call: Call, number: int) -> AttemptEnded:
    """INVARIANT: an intent without an end means a process died in between; only repeatable effects are tried again."""
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
    """How often that effect was looked after so far."""
    return record.count(f"effect.settled/{step}/{index}/{who}")


def effects_in_doubt(record: Record) -> list[InDoubt]:
    """The effects of this run that may have happened, in order; also those whose process died and was not taken up."""
    found = [_open_effect(record, *place) for place in record.facts.open if _is_open(record, place)]
    found += [_answered_effect(record.run, doubt) for doubt in record.facts.doubts if doubt.settled is None]
    return sorted(found, key=lambda item: (item.step, item.index))


def runs_in_doubt(journal: Journal) -> list[str]:
    """The runs that have such an effect, or had one."""
    runs: dict[str, set[str]] = {}
    for item in journal.every("attempt.begun", "attempt.ended"):
        intents = runs.setdefault(item.run, set())
        event = item.event
        if isinstance(event, AttemptBegun) and event.effect_digest:
            intents.add(event.key.partition("/")[2])
        elif isinstance(event, AttemptEnded) and event.landed != "unknown":
            intents.discard(event.key.partition("/")[2])
    return [run for run, intents in runs.items() if intents]


def settle_effect(
    record: Record,
    step: int,
    index: int,
    *,
    landed: Literal["landed", "not_landed"],
    person: str,
    account: str,
    reason: str,
) -> EffectSettled:
    """Record what a person has found out about an effect.

    Raises UsageError where that effect is not in doubt, or where nobody is behind the account.
    """
    if not person.startswith("user:") or person == "user:none":
        raise UsageError(f"account {account!r} is no person here: map it in remit.toml, [identity]")
    if not any((item.step, item.index) == (step, index) for item in effects_in_doubt(record)):
        raise UsageError(f"the effect of call {step}.{index} is not in doubt: `remit settle` lists those that are")
    event = EffectSettled(
        step=step,
        index=index,
        number=count_settlements(record, step, index, "person") + 1,
        landed=landed,
        by=person,
        account=account,
        reason=reason,
    )
    record.append(event, durable=True)
    return event


def _is_open(record: Record, place: tuple[int, int]) -> bool:
    call = record.facts.open[place]
    if not call.effect or (call.settled is not None and call.settled.landed != "unknown"):
        return False
    number = record.count(f"attempt.begun/{place[0]}/{place[1]}")
    ended = record.get(f"attempt.ended/{place[0]}/{place[1]}/{number}")
    return number > 0 and (call.doubtful or ended is None)


def _open_effect(record: Record, step: int, index: int) -> InDoubt:
    action = record.facts.open[step, index].action
    return InDoubt(run=record.run, step=step, index=index, action=action, answered=False)


def _answered_effect(run: str, doubt: InDoubtEffect) -> InDoubt:
    return InDoubt(run=run, step=doubt.step, index=doubt.index, action=doubt.action, answered=True)
