"""Recorded decisions made again under other rules: which runs would have gone otherwise, and how many people be asked.

Facts are folded from the run's own events, so a decision is made on what was known then. What was not recorded whole
(erased, redacted, refused before it was a call) is counted first: a backtest says nothing of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from remit.analysis.solver.conditions import atoms_of
from remit.analysis.solver.ruleset import RuleSet
from remit.broker import Moment, policy_context
from remit.core import Context, Request, Verdict, action_matches
from remit.core.events import CallAnswered, CallDecided, Recorded, RunStarted
from remit.journal import RunState, apply_event
from remit.policy import SUBJECT, Policy, narrowed
from remit.policy.language import GlobError

# The events that change what a condition may read; folding the others would take most of the time.
BEARING: Final = frozenset(
    {
        "run.started",
        "model.responded",
        "call.decided",
        "call.answered",
        "attempt.begun",
        "attempt.ended",
        "approval.requested",
        "approval.granted",
        "approval.rejected",
        "approval.revoked",
        "effect.settled",
    }
)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One recorded decision, with the request as it is made again, and what was decided then."""

    run: str
    step: int
    index: int
    round: int
    request: Request
    verdict: Verdict
    redacted: bool
    succeeded: bool


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A decision that comes out otherwise. `unreachable`: an earlier flip took from the model what led to it."""

    run: str
    step: int
    index: int
    action: str
    resources: tuple[str, ...]
    before: Verdict
    after: Verdict
    message: str
    unreachable: bool = False


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """How recorded runs fare under other rules. `unreachable` are (run, first step that would not have come to be)."""

    runs: int
    calls: int
    decided: int
    covered: int
    uncovered: Mapping[str, int]
    flips: tuple[Flip, ...]
    unreachable: tuple[tuple[str, int], ...]
    approvals: Mapping[str, int] = field(default_factory=dict[str, int])


def recorded_decisions(records: Sequence[Recorded], side: RuleSet) -> tuple[list[Decided], Counter[str]]:
    """Every decision of one run as a request, and why others are none."""
    found: list[Decided] = []
    missing: Counter[str] = Counter()
    facts, started = RunState(), None
    answers = {
        (event.step, event.index): event.result.ok
        for recorded in records
        if recorded.type == "call.answered" and isinstance(event := recorded.event, CallAnswered)
    }
    for recorded in records:
        if recorded.type not in BEARING:
            continue
        event = recorded.event
        if isinstance(event, RunStarted):
            started = event
        elif event is None and recorded.type == "call.decided":
            missing["erased"] += 1
        elif isinstance(event, CallDecided):
            if event.call is None or event.decision is None or started is None:
                missing["refused before it was a call"] += event.round == 0
            else:
                hosted = side.vocabulary is not None and event.call.action in side.vocabulary.unconfined
                known = policy_context(
                    facts,
                    event.call,
                    Moment(
                        env=started.env,
                        confinement="none" if hosted else started.confinement,
                        at=recorded.at,
                        roles_of=side.policy.roles_of,
                    ),
                    means=() if side.vocabulary is None else side.vocabulary.means.get(event.call.action, ()),
                    quoted=event.quoted_by_user,
                )
                found.append(
                    Decided(
                        run=recorded.run,
                        step=event.step,
                        index=event.index,
                        round=event.round,
                        request=_request(event, known, scoped=started.scope is not None),
                        verdict=event.decision.verdict,
                        redacted=event.proposed.redacted,
                        succeeded=answers.get((event.step, event.index), False),
                    )
                )
        facts = apply_event(facts, recorded)
    return found, missing


def _request(event: CallDecided, known: Context, *, scoped: bool) -> Request:
    call = event.call
    assert call is not None
    resources = tuple(dict.fromkeys(touch.resource for touch in call.touches))
    subjects = (*call.subjects.all, SUBJECT) if scoped else call.subjects.all
    return Request(subjects=subjects, action=call.action, resources=resources, context=known)


def backtest_rules(runs: Iterable[Sequence[Recorded]], side: RuleSet) -> Backtest:
    """Decide every recorded decision of those runs again."""
    reading = _Reading(side)
    flips: list[Flip] = []
    missing: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    unreachable: list[tuple[str, int]] = []
    count = calls = decided = covered = 0
    for records in runs:
        found, uncounted = recorded_decisions(records, side)
        count += 1
        missing += uncounted
        calls += sum(one.round == 0 for one in found) + sum(uncounted.values())
        policy = _policy(side, records)
        lost: int | None = None
        waiting: set[tuple[int, int]] = set()
        for one in found:
            decided += 1
            if why := reading.uncovered(one):
                missing[why] += 1
                continue
            covered += 1
            verdict = one.verdict
            # Putting a decision into words takes most of its time, and what is allowed as before needs none.
            if verdict == "allow" and _allowed(policy, one.request):
                continue
            now = policy.decide(one.request)
            gone = lost is not None and one.step > lost
            if now.verdict == "ask" and not gone and (one.step, one.index) not in waiting:
                waiting.add((one.step, one.index))
                asked[one.run] += sum(item.count for item in now.missing)
            if now.verdict != verdict:
                flips.append(
                    Flip(
                        run=one.run,
                        step=one.step,
                        index=one.index,
                        action=one.request.action,
                        resources=one.request.resources,
                        before=verdict,
                        after=now.verdict,
                        message=now.message,
                        unreachable=gone,
                    )
                )
                # The model read this result; without it, whatever came in later steps is a guess.
                if now.verdict == "deny" and one.succeeded and lost is None:
                    lost = one.step
                    if any(later.step > one.step for later in found):
                        unreachable.append((one.run, one.step + 1))
        asked.setdefault(found[0].run, 0) if found else None
    return Backtest(
        runs=count,
        calls=calls,
        decided=decided,
        covered=covered,
        uncovered=dict(missing),
        flips=tuple(flips),
        unreachable=tuple(unreachable),
        approvals=dict(asked),
    )


def _policy(side: RuleSet, records: Sequence[Recorded]) -> Policy:
    """The side's rules, with those of the run's own scope."""
    started = next((item.event for item in records if isinstance(item.event, RunStarted)), None)
    return side.policy if started is None or started.scope is None else narrowed(side.policy, started.scope)


def _allowed(policy: Policy, request: Request) -> bool:
    try:
        return policy.judge(request).allowed
    except GlobError:
        return False


class _Reading:
    """Which facts the rules read for an action."""

    def __init__(self, side: RuleSet) -> None:
        self._side = side
        self._kinds = lru_cache(maxsize=None)(self._read)

    def uncovered(self, one: Decided) -> str:
        """Why the recording does not hold what the rules read of this call; "" where it does."""
        read = self._kinds(one.request.action)
        if one.redacted and "args" in read:
            return "arguments were redacted, and the rules read them"
        return ""

    def _read(self, action: str) -> frozenset[str]:
        texts = {row.condition.text for row in self._side.rows if action_matches(action, row.action)}
        found = {dim[0] for text in texts for atom in atoms_of(text) for dim in atom.dims}
        return frozenset(found | {atom.member for text in texts for atom in atoms_of(text)})


def allowed_pairs(found: Iterable[Decided]) -> Mapping[tuple[str, str, str], list[Decided]]:
    """Those decisions whose call went through or waits for people, by subject, action and resource."""
    pairs: defaultdict[tuple[str, str, str], list[Decided]] = defaultdict(list)
    for one in found:
        if one.verdict != "deny":
            for subject in one.request.subjects:
                for resource in one.request.resources or ("none:",):
                    pairs[subject, one.request.action, resource].append(one)
    return pairs
