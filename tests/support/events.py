"""Synthetic runs: events as the broker would record them, from short descriptions or at random."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from remit.core.attempts import Change, DeniedAccess
from remit.core.calls import (
    Call,
    Decision,
    Error,
    Failed,
    MissingApproval,
    ProposedCall,
    ResourceAccess,
    Rule,
    Subjects,
    Succeeded,
)
from remit.core.claims import Claim
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
    Usage,
)
from remit.journal import Journal, StoredRecord
from remit.journal.hash_chain import link
from remit.tracing import TraceFile
from support.principals import principal

RUN: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
EPOCH: Final = 1_800_000_000_000_000_000  # Unix nanoseconds
SUBJECTS: Final = Subjects(agent="agent:triage", user="user:ann")
RULE: Final = Rule(file="policies/rules.csv", line=3, text="p, agent:triage, *, **, , allow", effect="allow", note="ok")


def append(journal: Journal, run: str, event: AnyEvent, *, durable: bool = False) -> Recorded:
    """Record one event of a run, as a process outside of the run does."""
    return StoredRecord(journal, run).append(event, durable=durable)


def claim(journal: Journal, run: str, event: AnyEvent, *claims: Claim) -> None:
    """Record one event that takes from shared limits, or raise Exhausted."""
    asyncio.run(StoredRecord(journal, run).append_claimed(event, claims))


def started(**changes: Any) -> RunStarted:
    event = RunStarted(
        subjects=SUBJECTS,
        by=principal("ann"),
        task="read docs/a.md and restart checkout",
        prompt="You find out why.",
        model="script:script.yaml",
        scripted=True,
        actions=("files.read", "service.restart"),
        bundle="sha256:" + "0" * 64,
        policy_digest="sha256:" + "1" * 64,
        confinement="full",
        env="local",
        folder="work/triage",
        version="0.1.0",
    )
    return event.model_copy(update=changes)


def ask(action: str = "files.read", arguments: str | None = '{"path":"docs/a.md"}') -> ProposedCall:
    return ProposedCall(name=action.replace(".", "__"), arguments=arguments)


def call(step: int, index: int, *, action: str = "files.read", effect: str = "read", **changes: Any) -> Call:
    made = Call(
        run=RUN,
        step=step,
        index=index,
        subjects=SUBJECTS,
        action=action,
        arguments={"path": "docs/a.md"},
        touches=(ResourceAccess(access="read", resource="file:docs/a.md"),),
        effect="read",
        manifest="sha256:" + "2" * 64,
        request_digest=f"sha256:{step:032x}{index:032x}",
    )
    return made.model_copy(update={"effect": effect, **changes})


def decided(step: int, index: int, verdict: str = "allow", *, round: int = 0, **changes: Any) -> CallDecided:
    missing = (MissingApproval(role="role:lead"),) if verdict == "ask" else ()
    reasons: dict[str, Any] = {"allow": "allowed", "ask": "approval", "deny": "denied_by_rule"}
    decision = Decision(
        verdict="allow", reason=reasons[verdict], message="as the rule says", rules=(RULE,), missing=missing
    )
    decision = decision.model_copy(update={"verdict": verdict, "decision_digest": f"d/{step}/{index}"})
    made = call(step, index, **changes)
    return CallDecided(step=step, index=index, proposed=ask(made.action), round=round, call=made, decision=decision)


def requested(
    step: int, index: int, *, digest: str | None = None, count: int = 1, expires_at: int = 0
) -> ApprovalRequested:
    return ApprovalRequested(
        step=step,
        index=index,
        decision_digest=digest or f"d/{step}/{index}",
        missing=(MissingApproval(role="role:lead", count=count),),
        summary="files.read, called by agent:triage for user:ann",
        expires_at=expires_at or EPOCH * 2,
    )


def granted(
    step: int, index: int, approver: str = "user:bob", *, digest: str | None = None, **changes: Any
) -> ApprovalGranted:
    made = ApprovalGranted(
        step=step,
        index=index,
        decision_digest=digest or f"d/{step}/{index}",
        by=principal(approver),
        role="role:lead",
    )
    return made.model_copy(update=changes)


def rejected(step: int, index: int, approver: str = "user:bob") -> ApprovalRejected:
    return ApprovalRejected(
        step=step, index=index, decision_digest=f"d/{step}/{index}", by=principal(approver), reason="not now"
    )


def intended(step: int, index: int, attempt: int = 1) -> AttemptBegun:
    return AttemptBegun(
        step=step,
        index=index,
        attempt=attempt,
        request_digest="r",
        decision_digest=f"d/{step}/{index}",
        profile_digest="p",
        confinement="full",
    )


def ended(step: int, index: int, attempt: int = 1, **changes: Any) -> AttemptEnded:
    made = AttemptEnded(step=step, index=index, attempt=attempt, code=None, value={"text": "hello"})
    return made.model_copy(update=changes)


def succeeded(step: int, index: int, *labels: str, value: Any = "hello") -> CallAnswered:
    return CallAnswered(step=step, index=index, result=Succeeded(value=value, labels=labels))


def failed(step: int, index: int, code: Any = "policy_denied") -> CallAnswered:
    return CallAnswered(step=step, index=index, result=Failed(error=Error(code=code, message="no rule allows it")))


def turn(step: int, *proposed_calls: ProposedCall) -> list[AnyEvent]:
    return [
        ModelRequested(step=step, model="script:script.yaml", input_digest=f"i/{step}"),
        ModelResponded(
            step=step,
            text="let me see",
            proposed_calls=proposed_calls,
            finish="tool_calls" if proposed_calls else "stop",
            usage=Usage(input_tokens=100, output_tokens=7),
        ),
    ]


def a_whole_run() -> list[AnyEvent]:
    """One call of every kind: allowed, denied, invalid, approved, rejected, retried, with unknown outcome."""
    return [
        started(),
        *turn(0, ask(), ask("service.restart"), ask("files.read", "{")),
        decided(0, 0),
        decided(0, 1, "deny", action="service.restart", effect="once"),
        CallDecided(
            step=0,
            index=2,
            proposed=ask("files.read", "{"),
            refusal=Failed(error=Error(code="invalid_arguments", message="it is not JSON")),
        ),
        intended(0, 0),
        ended(0, 0, code="timeout", message="no result within 5 s", stderr="slow\n", retry_in_s=0.5),
        intended(0, 0, 2),
        ended(0, 0, 2),
        failed(0, 1),
        succeeded(0, 0, "untrusted"),
        failed(0, 2, "invalid_arguments"),
        *turn(1, ask("service.restart"), ask("service.restart")),
        decided(1, 0, "ask", action="service.restart", effect="once"),
        decided(1, 1, "ask", action="service.restart", effect="once"),
        requested(1, 0),
        requested(1, 1),
        granted(1, 0),
        rejected(1, 1),
        decided(1, 0, "allow", round=1, action="service.restart", effect="once"),
        intended(1, 0),
        RunResumed(count=1, by=principal("ann"), bundle="sha256:" + "0" * 64, policy_digest="sha256:" + "1" * 64),
        ended(
            1,
            0,
            code="outcome_unknown",
            landed="unknown",
            changes=(Change(resource="file:reports/a.md", digest="sha256:" + "3" * 64, size=5),),
            denied_accesses=(DeniedAccess(access="read", what="/etc/passwd", allow='read = ["…"]'),),
        ),
        failed(1, 0, "outcome_unknown"),
        failed(1, 1, "approval_rejected"),
        ModelRequested(step=2, model="script:script.yaml", input_digest="i/2"),
        ModelFailed(step=2, message="the model has nothing more to say"),
        RunFinished(outcome="failed", answer="", message="the model failed"),
    ]


def recorded(events: Sequence[AnyEvent], *, run: str = RUN) -> list[Recorded]:
    """The events as a journal would have recorded them, one millisecond apart."""
    found: list[Recorded] = []
    prev = ""
    for seq, event in enumerate(events):
        found.append(link(run, seq, EPOCH + seq * 1_000_000, prev, event, f"{seq:032x}").of(event))
        prev = found[-1].hash
    return found


def written(folder: Path, records: Sequence[Recorded]) -> Path:
    """The trace file that a run leaves which ends normally."""
    file = TraceFile(folder, RUN)
    for item in records:
        file.see(item)
    file.close()
    return file.path


def spans(path: Path) -> list[dict[str, Any]]:
    """The spans of a trace file, as any reader of OTLP sees them."""
    lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return [span for line in lines for scope in line["resourceSpans"][0]["scopeSpans"] for span in scope["spans"]]


def _one_call(draw: st.DrawFn, step: int, index: int) -> tuple[CallDecided, list[AnyEvent]]:
    """The first decision of a random call, and the events that follow it."""
    action = draw(st.sampled_from(["files.read", "mail.send", "service.restart"]))
    effect = "read" if action == "files.read" else "once"
    verdict = draw(st.sampled_from(["allow", "allow", "deny", "ask"]))
    first = decided(step, index, verdict, action=action, effect=effect)
    if verdict == "deny":
        return first, [failed(step, index)]
    after: list[AnyEvent] = []
    if verdict == "ask":
        after.append(requested(step, index))
        if draw(st.booleans()):
            return first, [*after, rejected(step, index), failed(step, index, "approval_rejected")]
        after += [granted(step, index), decided(step, index, "allow", round=1, action=action, effect=effect)]
    for attempt in range(1, draw(st.integers(1, 3))):
        after += [intended(step, index, attempt), ended(step, index, attempt, code="timeout", value=None)]
    last = 1 + sum(isinstance(event, AttemptBegun) for event in after)
    good = draw(st.booleans())
    landed = draw(st.sampled_from(["landed", "unknown", "not_landed"])) if effect == "once" else "none"
    after.append(intended(step, index, last))
    after.append(ended(step, index, last, code=None if good else "tool_failed", landed=landed))
    labels = draw(st.sets(st.sampled_from(["untrusted", "private"])))
    after.append(succeeded(step, index, *sorted(labels)) if good else failed(step, index, "tool_failed"))
    return first, after


@st.composite
def runs(draw: st.DrawFn) -> list[AnyEvent]:
    """A random run with interleaved calls, cut off after a random event."""
    events: list[AnyEvent] = [started()]
    for step in range(draw(st.integers(0, 3))):
        calls = [_one_call(draw, step, index) for index in range(draw(st.integers(1, 3)))]
        events += turn(step, *[first.proposed for first, _ in calls])
        events += [first for first, _ in calls]
        rest = [after for _, after in calls]
        while any(rest):
            chosen = draw(st.sampled_from([after for after in rest if after]))
            events.append(chosen.pop(0))
    if draw(st.booleans()):
        events.append(RunFinished(outcome="completed", answer="done"))
        return events
    return events[: draw(st.integers(1, len(events)))]
