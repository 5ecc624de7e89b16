"""Backtesting: decide recorded calls again under other rules, and report which verdicts change and how many approvals.

The facts of each decision are computed from the run's own events, so it is decided on what was known then. Decisions
whose facts were not recorded completely (erased, redacted, refused before they were a call) are counted, and left out:
a backtest says nothing about them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from remit.analysis.solver.conditions import atoms_of
from remit.analysis.solver.ruleset import RuleSet
from remit.broker import COSTLY, Moment, policy_context
from remit.core import Context, Request, Verdict, action_matches
from remit.core.events import CallAnswered, CallDecided, Recorded, RunFinished, RunStarted
from remit.journal import RunState, apply_event
from remit.policy import SUBJECT, Policy, policy_for, token_roles
from remit.policy.language import GlobError

# The events that change facts that a condition may read. Applying the others as well would take most of the time.
RELEVANT_EVENTS: Final = frozenset(
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
        "approval.voided",
        "effect.settled",
    }
)

EVERYTHING: Final = COSTLY | {"args", "confinement"}


@dataclass(frozen=True, kw_only=True)
class RecordedDecision:
    """One recorded decision: the request to decide again, and the verdict of that time."""

    run: str
    step: int
    index: int
    round: int
    request: Request
    verdict: Verdict
    redacted: bool
    succeeded: bool
    narrowed: bool = False  # it got what the rules permitted of a set
    imported: bool = False  # another tool ran it, so its confinement is not known


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A decision with another verdict. `unreachable`: after an earlier flip the model may never have made this call."""

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
class LostSource:
    """A claim of a recorded answer, counted from 1, whose source the rules no longer permit to the call that returned it."""

    run: str
    claim: int
    call: str
    document: str
    version: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """The result of a backtest. `unreachable` are (run, first step that may not happen under these rules).

    `grounded` counts the runs whose answer has sources; `lost_sources` are those that the rules do not permit.
    """

    runs: int
    calls: int
    decided: int
    covered: int
    uncovered: Mapping[str, int]
    flips: tuple[Flip, ...]
    unreachable: tuple[tuple[str, int], ...]
    approvals: Mapping[str, int] = field(default_factory=dict[str, int])
    grounded: int = 0
    lost_sources: tuple[LostSource, ...] = ()


def recorded_decisions(
    records: Sequence[Recorded], rule_set: RuleSet, facts_read: FactsRead | None = None
) -> tuple[list[RecordedDecision], Counter[str]]:
    """List every decision of one run as a request, and count the others by the reason why they are left out.

    With `facts_read`, a request has of the costly facts only those that the rules read of its action.
    """
    found: list[RecordedDecision] = []
    missing: Counter[str] = Counter()
    facts, started = RunState(), None
    answers = {
        (event.step, event.index): event.result.ok
        for recorded in records
        if recorded.type == "call.answered" and isinstance(event := recorded.event, CallAnswered)
    }
    for recorded in records:
        if recorded.type not in RELEVANT_EVENTS:
            continue
        event = recorded.event
        if isinstance(event, RunStarted):
            started = event
        elif event is None and recorded.type == "call.decided":
            missing["erased"] += 1
        elif isinstance(event, CallDecided):
            if event.call is None or event.decision is None or started is None:
                missing["refused before it was a call"] += event.round == 0
            elif not event.call.manifest:
                missing["imported without an action, arguments or resources that this workspace knows"] += 1
            else:
                hosted = rule_set.vocabulary is not None and event.call.action in rule_set.vocabulary.unconfined
                known = policy_context(
                    facts,
                    event.call,
                    Moment(
                        env=started.env,
                        confinement="none" if hosted else started.confinement,
                        at=recorded.at,
                        roles_of=rule_set.policy.roles_of,
                        entities=rule_set.entities,
                    ),
                    means=() if rule_set.vocabulary is None else rule_set.vocabulary.means.get(event.call.action, ()),
                    quoted=event.quoted_by_user,
                    read=COSTLY if facts_read is None else facts_read.of(event.call.action),
                )
                found.append(
                    RecordedDecision(
                        run=recorded.run,
                        step=event.step,
                        index=event.index,
                        round=event.round,
                        request=_request(event, known, scoped=started.scope is not None),
                        verdict=event.decision.verdict,
                        redacted=event.proposed.redacted,
                        succeeded=answers.get((event.step, event.index), False),
                        narrowed=event.call.narrowing is not None,
                        imported=started.imported is not None,
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


def backtest_rules(runs: Iterable[Sequence[Recorded]], rule_set: RuleSet) -> Backtest:
    """Decide every recorded decision of those runs again, under the rules of `rule_set`."""
    facts_read = FactsRead(rule_set)
    flips: list[Flip] = []
    missing: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    unreachable: list[tuple[str, int]] = []
    count = calls = decided = covered = grounded = 0
    lost_sources: list[LostSource] = []
    for records in runs:
        found, uncounted = recorded_decisions(records, rule_set, facts_read)
        count += 1
        missing += uncounted
        calls += sum(one.round == 0 for one in found) + sum(uncounted.values())
        policy = _policy(rule_set, records)
        lost: int | None = None
        waiting: set[tuple[int, int]] = set()
        for one in found:
            decided += 1
            if why := facts_read.uncovered(one):
                missing[why] += 1
                continue
            covered += 1
            verdict = one.verdict
            # Writing the message of a decision takes most of its time, and a call that is still allowed needs none.
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
                # The model read this result. What it would do in later steps without it is unknown.
                if now.verdict == "deny" and one.succeeded and lost is None:
                    lost = one.step
                    if any(later.step > one.step for later in found):
                        unreachable.append((one.run, one.step + 1))
        asked.setdefault(found[0].run, 0) if found else None
        if ended := _grounded_end(records):
            grounded += 1
            lost_sources.extend(_lost_sources(ended, found, policy))
    return Backtest(
        runs=count,
        calls=calls,
        decided=decided,
        covered=covered,
        uncovered=dict(missing),
        flips=tuple(flips),
        unreachable=tuple(unreachable),
        approvals=dict(asked),
        grounded=grounded,
        lost_sources=tuple(lost_sources),
    )


def _grounded_end(records: Sequence[Recorded]) -> RunFinished | None:
    """The end of a run whose answer has sources."""
    ended = next((item.event for item in reversed(records) if item.type == "run.finished"), None)
    return ended if isinstance(ended, RunFinished) and ended.sources else None


def _lost_sources(ended: RunFinished, found: Sequence[RecordedDecision], policy: Policy) -> Iterator[LostSource]:
    """The sources of an answer that the rules do not permit to the calls that returned them, on the facts of that time."""
    decisions = {f"{one.step}.{one.index}": one for one in found}
    for number, source in enumerate(ended.sources, start=1):
        document, one = source.citation.document, decisions.get(source.call)
        if one is None:
            continue
        resources = one.request.resources
        if one.narrowed:  # the rules decide each store and each document by itself
            collection = document.partition("/")[0]
            own = [name for name in resources if not name.startswith("store:") or name.endswith(f"/{collection}")]
            resources = (*own, f"document:{document}")
        now = policy.decide(policy.entities.of(one.request.model_copy(update={"resources": resources})))
        if now.verdict != "allow":
            yield LostSource(
                run=one.run,
                claim=number,
                call=source.call,
                document=document,
                version=source.citation.version,
                message=now.message,
            )


def _policy(rule_set: RuleSet, records: Sequence[Recorded]) -> Policy:
    """The policy for the calls of the run: with the roles of its token, and narrowed by its scope."""
    started = next((item.event for item in records if isinstance(item.event, RunStarted)), None)
    if started is None:
        return rule_set.policy
    user = started.subjects.user
    return policy_for(rule_set.policy, user, token_roles(started.by, user), started.scope)


def _allowed(policy: Policy, request: Request) -> bool:
    try:
        return policy.judge(request).allowed
    except GlobError:
        return False


class FactsRead:
    """Which facts the rules read for an action; computed once for each action."""

    def __init__(self, rule_set: RuleSet) -> None:
        self._side = rule_set
        self.of = lru_cache(maxsize=None)(self._read)

    def uncovered(self, one: RecordedDecision) -> str:
        """Say why the recording lacks what the rules read of this call; "" if it has all of it."""
        read = self.of(one.request.action)
        if one.redacted and "args" in read:
            return "the rules read arguments that are redacted"
        if one.imported and "confinement" in read:
            return "the rules read the confinement, which an imported call does not have"
        return ""

    def _read(self, action: str) -> frozenset[str]:
        texts = {row.condition.text for row in self._side.rows if action_matches(action, row.action)}
        atoms = [atom for text in texts for atom in atoms_of(text)]
        if any(not atom.facts and not atom.searched_set for atom in atoms):  # whatever it reads, it must find it
            return EVERYTHING
        found = {fact[0] for atom in atoms for fact in atom.facts}
        return frozenset(found | {atom.searched_set for atom in atoms})


def allowed_pairs(found: Iterable[RecordedDecision]) -> Mapping[tuple[str, str, str], list[RecordedDecision]]:
    """Group the decisions that allowed a call or asked for approval, by subject, action and resource."""
    pairs: defaultdict[tuple[str, str, str], list[RecordedDecision]] = defaultdict(list)
    for one in found:
        if one.verdict != "deny":
            for subject in one.request.subjects:
                for resource in one.request.resources or ("none:",):
                    pairs[subject, one.request.action, resource].append(one)
    return pairs
