"""Verifies a recorded run: its hash chain, and that its events do not contradict each other.

The hash chain shows changes to sealed events. An attacker who can seal a new chain can make one that verifies. Then the
events must still agree: one digest from decision to approval to attempt, one outcome from attempt to result, and every
policy must be one of the run's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from remit.broker.approvals import shown_facts
from remit.core import Call, Decision, Refusal, Succeeded, UsageError, WorkspaceError, decision_digest, request_digest
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    EffectSettled,
    ModelResponded,
    PasskeyEnrolled,
    PasskeyProof,
    PolicyChanged,
    Recorded,
    RunResumed,
    RunStarted,
)
from remit.journal import Chain, ChainFault, verify_chain
from remit.passkeys import challenge_of, check_assertion, statement_of
from remit.tracing import Trace
from remit.tracing.reports.reconciliation import compare_copies

_OfCall: TypeAlias = (
    ApprovalRequested
    | ApprovalGranted
    | ApprovalRejected
    | ApprovalRevoked
    | ApprovalVoided
    | AttemptBegun
    | AttemptEnded
    | EffectSettled
    | CallAnswered
)


def verify(
    trace: Trace, *, original: Chain | None = None, head: tuple[int, str] | None = None
) -> tuple[ChainFault, ...]:
    """Every fault of a record. `original` is the chain in the journal; `head` is the last event, as kept elsewhere."""
    faults = [*trace.faults()]
    head = head or (original.head if original is not None else None)
    if head is not None and trace.chain.head is None:
        faults += [fault for fault in verify_chain(trace.chain.links, head=head) if fault not in faults]
    if original is not None:
        faults += [
            fault for fault in compare_copies(trace.chain, original) if fault.seq not in {known.seq for known in faults}
        ]
    if any(fault.broken for fault in faults):
        return tuple(faults)
    return (*faults, *_bundle_faults(trace), *find_contradictions(trace.records))


def find_contradictions(records: Iterable[Recorded]) -> list[ChainFault]:
    """The contradictions between the events of a run. Events after an erased event are not checked."""
    checker = _RunChecker()
    for item in records:
        if item.event is None:
            checker.erased = True
        elif not checker.erased:  # later events can depend on the erased one, whose content is unknown
            checker.faults += [
                ChainFault(seq=item.seq, kind="contradicted", what=f"{item.key}: {what}")
                for what in checker.add(item.run, item.event)
            ]
    return checker.faults


def passkey_faults(records: Iterable[Recorded], enrolled: Callable[[str], PasskeyEnrolled | None]) -> list[ChainFault]:
    """The approvals that were signed by a passkey which the journal does not have, or has for another person or with another key."""
    faults: list[ChainFault] = []
    for item in records:
        if isinstance(item.event, ApprovalGranted) and (proof := item.event.passkey) is not None:
            known = enrolled(proof.id)
            if known is None or (known.by.subject, known.public_key) != (item.event.approver, proof.public_key):
                what = f"{item.key}: {item.event.approver} has not enrolled the passkey {proof.id[:8]} in this journal"
                faults.append(ChainFault(seq=item.seq, kind="contradicted", what=what))
    return faults


def _bundle_faults(trace: Trace) -> Iterator[ChainFault]:
    """Faults of the policy bundles that the run names: an object is missing, or its content does not match its digest."""
    try:
        trace.bundles()
    except (UsageError, WorkspaceError) as failure:
        yield ChainFault(seq=0, kind="missing" if "no object" in str(failure) else "edited", what=str(failure))


@dataclass
class _CallHistory:
    """The events of one call so far, as far as later events must agree with them.

    `digests` are the digests of its decisions, `requested` those for which people were asked to approve.
    """

    decided: CallDecided
    allowed: bool = False
    digests: set[str] = field(default_factory=set[str])
    requested: set[str] = field(default_factory=set[str])
    begun: AttemptBegun | None = None
    ended: AttemptEnded | None = None
    settled: EffectSettled | None = None


class _RunChecker:
    """Checks the events of a run in order, each against the earlier ones."""

    def __init__(self) -> None:
        self.faults: list[ChainFault] = []
        self.erased = False
        self._policies: set[str] = set()
        self._whole = True
        self._bound = True
        self._imported = False
        self._turns: dict[int, ModelResponded] = {}
        self._calls: dict[tuple[int, int], _CallHistory] = {}
        self._signed: set[tuple[str, str]] = set()

    def add(self, run: str, event: AnyEvent) -> Iterator[str]:
        """Add one event; yields each contradiction to earlier events."""
        match event:
            case RunStarted() | RunResumed() | PolicyChanged():
                self._policies.add(event.policy_digest)
                if isinstance(event, RunStarted):
                    self._whole = event.content == "complete"
                    self._imported = event.imported is not None  # another tool ran the calls, so no attempt is recorded
                    self._bound = event.content != "anonymized"  # an anonymized copy has placeholders for digests too
            case ModelResponded():
                self._turns[event.step] = event
            case CallDecided():
                yield from self._decided(run, event)
            case ApprovalGranted(passkey=PasskeyProof() as proof) if self._bound:
                yield from self._signature(run, event, proof)
                yield from self._of_call(event)
            case (
                ApprovalRequested()
                | ApprovalGranted()
                | ApprovalRejected()
                | ApprovalRevoked()
                | ApprovalVoided()
                | AttemptBegun()
                | AttemptEnded()
                | EffectSettled()
                | CallAnswered()
            ):
                yield from self._of_call(event)
            case _:
                pass

    def _of_call(self, event: _OfCall) -> Iterator[str]:
        history = self._calls.get((event.step, event.index))
        if history is None:
            yield "there is no decision about this call"
        elif not (self._imported and isinstance(event, CallAnswered)):
            yield from _contradictions_of_call(history, event)

    def _signature(self, run: str, granted: ApprovalGranted, proof: PasskeyProof) -> Iterator[str]:
        """The passkey of an approval has signed exactly that approval, and no other one with the same nonce."""
        if (proof.id, proof.nonce) in self._signed:
            yield f"{granted.approver} has used one signature of a passkey twice"
        self._signed.add((proof.id, proof.nonce))
        try:
            check_assertion(proof, challenge_of(statement_of(run, granted)))
        except Refusal as refusal:
            yield f"{granted.approver}: {refusal.message}"

    def _decided(self, run: str, event: CallDecided) -> Iterator[str]:
        turn = self._turns.get(event.step)
        if (
            turn is None
            or event.index >= len(turn.proposed_calls)
            or turn.proposed_calls[event.index] != event.proposed
        ):
            yield "the model did not propose this call"
        history = self._calls.setdefault((event.step, event.index), _CallHistory(decided=event))
        history.allowed = event.allowed
        call, decision = event.call, event.decision
        if call is None or decision is None:
            return
        if (call.run, call.step, call.index) != (run, event.step, event.index):
            yield "the decision belongs to another call"
        if self._whole and call.request_digest != request_digest(
            call.subjects, call.action, call.arguments, call.manifest
        ):
            yield "the digest of the request does not match the recorded request"
        if self._bound and not self._is_bound(history, call, decision):
            yield "the digest of the decision does not match this request and these rules"
        history.digests.add(decision.decision_digest)
        if decision.policy_digest not in self._policies:
            yield "the decision uses a policy that the run never had"

    def _is_bound(self, history: _CallHistory, call: Call, decision: Decision) -> bool:
        """True if the decision's digest is made from this request and policy, and from the facts if approval is needed."""
        needs_approval = decision.verdict == "ask"
        if not self._whole and needs_approval:
            return True  # the facts are omitted, so the digest cannot be computed
        # An approver sees some facts and approves them too. So their digest covers the facts, and after the approval the
        # decision keeps the digest that was approved.
        shown = shown_facts(decision.facts) if needs_approval else {}
        expected = decision_digest(call.request_digest, decision.policy_digest, shown)
        return decision.decision_digest == expected or (
            not needs_approval and decision.decision_digest in history.requested
        )


def _contradictions_of_call(history: _CallHistory, event: AnyEvent) -> Iterator[str]:
    """The contradictions of an event to earlier events of its call; adds the event to the history of the call."""
    match event:
        case ApprovalRequested() | ApprovalGranted() | ApprovalRejected() | ApprovalRevoked() | ApprovalVoided():
            yield from _approval(history, event)
        case AttemptBegun():
            yield from _attempt_begun(history, event)
        case AttemptEnded():
            yield from _attempt_ended(history, event)
        case EffectSettled():
            yield from _effect_settled(history, event)
        case CallAnswered():
            yield from _answered(history, event)
        case _:
            pass


def _approval(
    history: _CallHistory,
    event: ApprovalRequested | ApprovalGranted | ApprovalRejected | ApprovalRevoked | ApprovalVoided,
) -> Iterator[str]:
    """An approval is requested for a decision of this call, and answered only after that."""
    if isinstance(event, ApprovalRequested):
        history.requested.add(event.decision_digest)
        if event.decision_digest not in history.digests:
            yield "the approval was requested for another decision"
    elif event.decision_digest not in history.requested:
        yield f"{event.approver} answered a request for approval that does not exist"


def _attempt_begun(history: _CallHistory, event: AttemptBegun) -> Iterator[str]:
    """An attempt needs a decision that allows exactly its request."""
    history.begun, history.settled = event, None
    call = history.decided.call
    if not history.allowed:
        yield "the attempt began, but no decision allows the call"
    if call is None or event.request_digest != call.request_digest:
        yield "the attempt executed another request than the decided one"
    if event.decision_digest not in history.digests:
        yield "the attempt names a decision of another call"


def _attempt_ended(history: _CallHistory, event: AttemptEnded) -> Iterator[str]:
    if history.begun is None or history.begun.attempt != event.attempt:
        yield "the attempt ended, but never began"
    history.ended = event


def _effect_settled(history: _CallHistory, event: EffectSettled) -> Iterator[str]:
    """An effect may be settled only if its last attempt has no recorded end, or ended with an unknown outcome."""
    history.settled = event
    begun, ended = history.begun, history.ended
    if begun is not None and ended is not None and ended.attempt != begun.attempt:
        ended = None  # it belongs to an earlier attempt
    if begun is None or (ended is not None and ended.landed != "unknown"):
        yield "the effect was settled, but its outcome was not unknown"


def _answered(history: _CallHistory, event: CallAnswered) -> Iterator[str]:
    ended, settled, result = history.ended, history.settled, event.result
    not_landed = settled is not None and settled.landed == "not_landed"
    if isinstance(result, Succeeded):
        landed = settled is not None and settled.landed == "landed"
        if ended is None or (ended.code is not None and not landed):
            yield "the call succeeded, but no attempt did"
        elif result.value != (settled.value if ended.code is not None and settled is not None else ended.value):
            yield "the result differs from what the attempt returned"
    elif result.error.attempts and ended is None:
        yield "the error of the call differs from the end of its attempt"
    elif result.error.attempts and ended is not None:
        codes = {ended.code, ended.cause} if not_landed else {ended.code}
        # Remit can refuse the next attempt, for example because of a hold: then the call has the code of that refusal.
        may_refuse_retry = ended.retry_in_s is not None or (not_landed and ended.lost)
        if result.error.code not in codes and not may_refuse_retry:
            yield "the error of the call differs from the end of its attempt"
