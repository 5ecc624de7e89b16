"""A recorded run, run again: the same graph and the same broker, with every outside thing answered from the record.

Model, tools, clock, people and holds are recorded ones, and the rules are those that the run names by digest, so a replay
has no effect and needs nothing of the machine where the run was made. What the replay appends is compared, event by
event, with what was recorded; the first difference is the divergence.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast

from remit.attempt import Attempted
from remit.broker import Broker
from remit.call import Call, Confinement, Failed, Json, Succeeded
from remit.chain import Fault, seal
from remit.errors import UsageError
from remit.event import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    AttemptEnded,
    AttemptIntended,
    CallAnswered,
    CallDecided,
    ModelAnswered,
    ModelFailed,
    Recorded,
    RulesChanged,
    RunFinished,
    RunResumed,
    RunStarted,
)
from remit.facts import Facts, fold
from remit.graph import Agency, drive, forgotten
from remit.guard import Guard
from remit.model import Message, ModelError, ToolSpec, Turn
from remit.policy import Policy
from remit.record import MemoryLog, Record
from remit.redact import Redactor
from remit.rulebook import Rulebook, tool_specs

Kind: TypeAlias = Literal[
    "decision",  # policy says something else
    "model_input",  # the model would have read something else
    "request",  # the same words of the model make another call
    "result",  # a call ends otherwise
    "approval",  # people were asked or answered otherwise
    "outcome",  # the run ends otherwise
    "extra",  # the replay does something that is not recorded
    "missing",  # something recorded does not happen
    "tampered",  # the record is not the one that was written
]

KINDS: Final[Mapping[str, Kind]] = {
    "model.asked": "model_input",
    "model.answered": "model_input",
    "call.decided": "decision",
    "approval.requested": "approval",
    "approval.granted": "approval",
    "approval.rejected": "approval",
    "attempt.intended": "request",
    "attempt.ended": "result",
    "call.answered": "result",
    "run.finished": "outcome",
}

UNHEARD: Final = frozenset({"cancelled", "content_blocked"})  # said of a secret that no record holds
NOT_REPLAYED: Final = frozenset({"run.resumed", "rules.changed"})
# Measured, not decided: two runs of the same thing differ here.
VOLATILE: Final = frozenset({"spent", "expires_at"})
DIGESTS: Final = frozenset({"policy_digest", "decision_digest"})  # of course other ones under other rules
# What another policy may say in other words while it decides the same.
POLICY_WORDS: Final = DIGESTS | frozenset(
    {
        "rules",
        "nearest",
        "facts",
        "message",
        "reason",
        "remedy",
        "told",
        "input_digest",
    }
)


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Where the replay left the record. `diff` holds lines of a unified diff, recorded against replayed."""

    kind: Kind
    step: int | None
    index: int | None
    what: str
    diff: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay found. `complete` is False where the record itself ends before the run did."""

    run: str
    divergences: tuple[Divergence, ...]
    faults: tuple[Fault, ...]
    decisions: int
    turns: int
    results: int
    complete: bool

    @property
    def reproduced(self) -> bool:
        return not self.divergences and not self.faults


class Diverged(Exception):
    """The replay has left the record and cannot go on."""


class RecordEnds(Exception):
    """The run was cut off here: nothing that follows is recorded."""


@dataclass
class Comparison(MemoryLog):
    """The log of a replay: it keeps what the broker appends and compares it with what was recorded.

    `what_if` compares what was decided, not in which words.
    """

    recorded: Sequence[Recorded]
    what_if: bool = False
    divergences: list[Divergence] = field(default_factory=list[Divergence])

    def __post_init__(self) -> None:
        super().__init__()
        self.by_key = {item.key: item for item in self.recorded}
        self.complete = any(item.type == "run.finished" for item in self.recorded)
        self.reached: set[str] = set()  # the keys of the record, which under other rules are not the replay's own
        self._by_call: dict[tuple[int | None, int | None], list[Recorded]] = {}
        facts = Facts()
        self.facts_before: dict[int, Facts] = {}
        for item in self.recorded:
            self.facts_before[item.seq] = facts
            facts = fold(facts, item)
            if item.event is not None:
                self._by_call.setdefault((item.event.step, item.event.index), []).append(item)

    def append(self, run: str, event: AnyEvent, *, durable: bool = False) -> Recorded:
        key = self._key_then(event)
        recorded = self.by_key.get(key)
        if recorded is None or recorded.event is None:
            if not self.complete:
                raise RecordEnds
            if self.divergences:
                raise Diverged  # it follows from the decision that differs
            self._diverge("extra", event, f"{event.type} is not in the record", None)
            raise Diverged
        if not self._same(recorded.event, event):
            kind: Kind = KINDS.get(event.type, "extra")
            if isinstance(event, CallDecided) and isinstance(recorded.event, CallDecided):
                kind = "decision" if event.call == recorded.event.call else "request"
            self._diverge(kind, event, _what(recorded.event, event), recorded.event)
            if not (self.what_if and kind == "decision"):
                raise Diverged
        elif self.divergences and not isinstance(event, CallDecided):
            raise Diverged  # the step's decisions differ; what follows from them would be a guess
        self.reached.add(key)
        return self.keep(seal(run, len(self.events(run)), recorded.at, self.head, event, ""))

    def next_of(self, step: int | None, index: int | None) -> Recorded | None:
        """The first recorded event of that call that the replay has not reached."""
        return next((item for item in self._by_call.get((step, index), ()) if item.key not in self.reached), None)

    def unreached(self) -> list[Recorded]:
        """Recorded events that the replay never came to.

        A resumption is the process's, an edit of the rules a person's; and what people said of a call that was already
        answered changed nothing.
        """
        return [
            item
            for item in self.recorded
            if item.key not in self.reached and item.type not in NOT_REPLAYED and not self._came_too_late(item)
        ]

    def latest_decided(self, step: int, index: int) -> Recorded | None:
        """The last decision of that call that the replay has reached, or the first one that is recorded."""
        decided = [item for item in self._by_call.get((step, index), ()) if item.type == "call.decided"]
        return next((item for item in reversed(decided) if item.key in self.reached), decided[0] if decided else None)

    def _came_too_late(self, item: Recorded) -> bool:
        event = item.event
        if not isinstance(event, ApprovalGranted | ApprovalRejected):
            return False
        return f"call.answered/{event.step}/{event.index}/-" in self.reached

    def _key_then(self, event: AnyEvent) -> str:
        """The key under which the record has this event: approvals are keyed by the decision of their day."""
        if not self.what_if or not event.type.startswith("approval."):
            return event.key
        named = getattr(event, "approver", "") if event.type == "approval.granted" else ""
        prefix, suffix = f"{event.type}/{event.step}/{event.index}/", f"/{named}" if named else ""
        return next((key for key in self.by_key if key.startswith(prefix) and key.endswith(suffix)), event.key)

    def _same(self, recorded: AnyEvent, replayed: AnyEvent) -> bool:
        dropped = VOLATILE | POLICY_WORDS if self.what_if else VOLATILE
        if self.what_if and isinstance(recorded, CallAnswered) and isinstance(replayed, CallAnswered):
            return bool(_outcome(recorded) == _outcome(replayed))
        before, after = (without(event.model_dump(mode="json"), dropped) for event in (recorded, replayed))
        return bool(before == after)

    def _diverge(self, kind: Kind, event: AnyEvent, what: str, recorded: AnyEvent | None) -> None:
        dropped = VOLATILE | DIGESTS if self.what_if else VOLATILE
        before = [] if recorded is None else _lines(without(recorded.model_dump(mode="json"), dropped))
        after = _lines(without(event.model_dump(mode="json"), dropped))
        diff = tuple(difflib.unified_diff(before, after, "recorded", "replayed", lineterm="", n=1))
        self.divergences.append(Divergence(kind=kind, step=event.step, index=event.index, what=what, diff=diff))


class RecordedModel:
    """The model's turns as they were."""

    def __init__(self, log: Comparison, started: RunStarted) -> None:
        self._log = log
        self.name = started.model
        self.scripted = started.scripted

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Turn:
        answered = _event(self._log, f"model.answered/{step}/-/-")
        if isinstance(answered, ModelAnswered):
            return Turn(
                text=answered.text,
                asks=answered.asks,
                finish=answered.finish,
                usage=answered.usage,
                response_model=answered.response_model,
            )
        failed = _event(self._log, f"model.failed/{step}/-/-")
        if isinstance(failed, ModelFailed):
            message, _, fix = failed.message.partition("\n    fix: ")
            raise ModelError(message, fix=fix)
        raise RecordEnds


class RecordedAttempts:
    """The tools' outcomes as they were; nothing runs."""

    def __init__(self, log: Comparison) -> None:
        self._log = log

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        intended = _event(self._log, f"attempt.intended/{call.step}/{call.index}/{number}")
        if isinstance(intended, AttemptIntended):
            return intended.profile_digest, intended.confinement
        return "", "none"  # not in the record: the append that follows says so

    async def attempt(self, call: Call, number: int, *, idempotency_key: str) -> Attempted:
        ended = _event(self._log, f"attempt.ended/{call.step}/{call.index}/{number}")
        if not isinstance(ended, AttemptEnded):
            raise RecordEnds
        return Attempted(
            code=ended.code,
            value=ended.value,
            error=ended.error,
            message=ended.message,
            landed=ended.landed,
            changes=ended.changes,
            refused=ended.refused,
            stderr=ended.stderr,
            spent=ended.spent,
            lost=ended.lost,
        )


class RecordedWorld:
    """The clock, the rules and the holds as they were; `policy` puts other rules in their place."""

    def __init__(self, log: Comparison, rulebooks: Mapping[str, Rulebook], policy: Policy | None) -> None:
        self._log = log
        self._policy = policy
        self._books = [
            (item.seq, rulebooks[item.event.rulebook].policy)
            for item in log.recorded
            if isinstance(item.event, RunStarted | RunResumed | RulesChanged) and item.event.rulebook
        ]

    def clock(self, step: int, index: int) -> int:
        following = self._log.next_of(step, None if index < 0 else index)
        return following.at if following is not None else self._log.recorded[-1].at

    def policy(self, step: int, index: int) -> Policy:
        if self._policy is not None:
            return self._policy
        items = (self._log.next_of(step, index), self._log.latest_decided(step, index))
        for item in items:
            if item is not None and isinstance(item.event, CallDecided) and item.event.decision is not None:
                digest = item.event.decision.policy_digest
                before = [policy for seq, policy in self._books if seq < item.seq and policy.digest == digest]
                return before[-1] if before else self._books[0][1]
        return self._books[0][1]

    def facts(self, record: Record, call: Call, decision_digest: str) -> Facts:
        """The facts as they stood when this decision was recorded, whatever order parallel calls ended in.

        Under other rules the recorded approvals are taken as given for the same question.
        """
        following = self._log.next_of(call.step, call.index)
        facts = record.facts if following is None else self._log.facts_before[following.seq]
        place = (call.step, call.index)
        if self._policy is None or place not in facts.open:
            return facts
        return replace(facts, open={**facts.open, place: replace(facts.open[place], request=decision_digest)})

    def held(self, call: Call) -> str | None:
        following = self._log.next_of(call.step, call.index)
        answered = following.event if following is not None else None
        if isinstance(answered, CallAnswered) and isinstance(answered.result, Failed):
            return answered.result.error.message if answered.result.error.code == "held" else None
        return None

    def waits(self, call: Call) -> bool:
        following = self._log.next_of(call.step, call.index)
        return following is not None and isinstance(following.event, ApprovalGranted | ApprovalRejected)

    def unheard(self, step: int, index: int) -> Failed | None:
        following = self._log.next_of(step, index)
        event = following.event if following is not None else None
        said = event.refused if isinstance(event, CallDecided) else None
        said = event.result if isinstance(event, CallAnswered) else said
        return said if isinstance(said, Failed) and said.error.attempts == 0 and said.error.code in UNHEARD else None

    async def sleep(self, seconds: float) -> None:
        return None


def without(value: Json, dropped: frozenset[str]) -> Json:
    """The value without the members named in `dropped`, at any depth."""
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {key: without(item, dropped) for key, item in members.items() if key not in dropped}
    if isinstance(value, list):
        return [without(item, dropped) for item in cast("list[object]", value)]
    return value


async def replay(
    records: Sequence[Recorded],
    rulebooks: Mapping[str, Rulebook],
    *,
    faults: Iterable[Fault] = (),
    policy: Policy | None = None,
) -> Replayed:
    """Run the recorded run again. `rulebooks` are those it names, by digest; `policy` asks what other rules would do.

    Raises UsageError where the record does not hold what a replay needs.
    """
    found = tuple(faults)
    if not records or not isinstance(records[0].event, RunStarted):
        raise UsageError("the trace does not begin with the start of a run, or that was erased: it cannot be replayed")
    if any(item.event is None for item in records):
        raise UsageError("parts of the trace were erased: it can be read, not replayed")
    started = records[0].event
    log = Comparison(recorded=records, what_if=policy is not None)
    book = rulebooks[started.rulebook]
    agent = book.workspace.agents[started.subjects.agent.partition(":")[2]]
    record = Record(log, records[0].run)
    broker = Broker(
        workspace=book.workspace,
        agent=agent,
        subjects=started.subjects,
        record=record,
        attempts=RecordedAttempts(log),
        world=RecordedWorld(log, rulebooks, policy),
        guard=Guard(Redactor(records[0].run)),
        confinement=started.confinement,
        forgetful=False,
    )
    agency = Agency(
        broker=broker,
        model=RecordedModel(log, started),
        record=record,
        tools=tool_specs(book.workspace, agent),
        stopped=lambda: None,
    )
    try:
        record.append(started)
        _finish_unstarted(log, record)
        await drive(agency, forgotten(), _people(log, record, broker))
        _check_unreached(log)
    except Diverged:
        pass
    except RecordEnds:
        pass
    reached = [item.event for item in log.events("")]
    return Replayed(
        run=records[0].run,
        divergences=tuple(log.divergences),
        faults=found,
        decisions=sum(isinstance(event, CallDecided) for event in reached),
        turns=sum(isinstance(event, ModelAnswered) for event in reached),
        results=sum(isinstance(event, CallAnswered) for event in reached),
        complete=log.complete,
    )


def _people(log: Comparison, record: Record, broker: Broker) -> Any:
    """What people said, told again when the run waits for it."""

    moved: set[int] = set()

    async def settle() -> bool:
        told = False
        for item in log.recorded:
            event = item.event
            if not isinstance(event, ApprovalGranted | ApprovalRejected):
                continue
            assert event.step is not None
            assert event.index is not None
            decided = broker.latest(event.step, event.index)
            if decided is None or decided.decision is None or decided.decision.verdict != "ask":
                continue
            now = event.model_copy(update={"decision_digest": decided.decision.decision_digest})
            if (log.what_if or event == now) and record.get(now.key) is None:
                record.append(now)
                told = True
        if not told:
            for (step, index), call in record.facts.open.items():
                following = log.next_of(step, index)
                if call.waiting and following is not None and following.type in ("call.decided", "call.answered"):
                    told = told or following.seq not in moved  # nobody spoke: time or the rules moved it on
                    moved.add(following.seq)
        return told

    return settle


def _finish_unstarted(log: Comparison, record: Record) -> None:
    """A run that ended before its first step, for want of a sandbox, has nothing to drive."""
    finished = log.by_key.get("run.finished/-/-/-")
    if len(log.recorded) == 2 and finished is not None and isinstance(finished.event, RunFinished):
        record.append(finished.event)


def _check_unreached(log: Comparison) -> None:
    for item in log.unreached()[:1]:
        event = item.event
        assert event is not None
        log.divergences.append(
            Divergence(
                kind="missing", step=event.step, index=event.index, what=f"{item.type} is recorded and did not happen"
            )
        )


def _event(log: Comparison, key: str) -> AnyEvent | None:
    recorded = log.by_key.get(key)
    return recorded.event if recorded else None


def _outcome(answered: CallAnswered) -> Json:
    return answered.result.value if isinstance(answered.result, Succeeded) else answered.result.error.code


def _lines(value: Json) -> list[str]:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()


def _what(recorded: AnyEvent, replayed: AnyEvent) -> str:
    """One sentence for a person."""
    match recorded, replayed:
        case CallDecided(), CallDecided():
            return f"recorded {_said(recorded)}; now {_said(replayed)}"
        case CallAnswered(), CallAnswered():
            return "the call's result is not the recorded one"
        case _:
            return f"{recorded.type} is not as recorded"


def _said(decided: CallDecided) -> str:
    action = decided.call.action if decided.call else decided.ask.action
    if decided.decision is None:
        code = decided.refused.error.code if isinstance(decided.refused, Failed) else "refused"
        return f"{action} {code}"
    rules = decided.decision.rules or decided.decision.nearest
    where = f" by {rules[0].file}:{rules[0].line}" + (f" ({rules[0].note})" if rules[0].note else "") if rules else ""
    return f"{action} {decided.decision.verdict}{where}: {decided.decision.message}"
