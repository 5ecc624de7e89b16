"""Facts are a fold of events: what they say, and that nothing else decides it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import pytest
from hypothesis import given, settings

from remit.broker.context import Moment
from remit.broker.context import policy_context as context_of
from remit.core.calls import Context, ResourceAccess
from remit.core.events import AnyEvent, CallAnswered, CallDecided, HoldLifted, HoldSet, Recorded, RunFinished
from remit.journal.reducer import apply_event
from remit.journal.run_state import RunState, summary
from support.events import (
    EPOCH,
    RUN,
    a_whole_run,
    ask,
    call,
    decided,
    ended,
    failed,
    granted,
    intended,
    recorded,
    rejected,
    requested,
    runs,
    started,
    succeeded,
    turn,
)

LEADS = {
    "user:bob": frozenset({"role:lead"}),
    "user:eve": frozenset({"role:lead"}),
    "user:ann": frozenset({"role:lead"}),
}


def folded(events: Sequence[AnyEvent]) -> RunState:
    return reduce(apply_event, recorded(events), RunState())


def context(facts: RunState, *, step: int = 1, index: int = 0, digest: str | None = None) -> Context:
    return context_of(
        facts,
        call(step, index, action="service.restart"),
        moment(lambda subject: LEADS.get(subject, frozenset()), digest),
    )


def moment(roles_of: Callable[[str], frozenset[str]], digest: str | None = None) -> Moment:
    return Moment(env="local", confinement="full", at=EPOCH, roles_of=roles_of, decision_digest=digest)


@settings(max_examples=60, deadline=None)
@given(runs())
def test_the_same_events_give_the_same_facts_however_they_are_cut_into_pieces(events: list[AnyEvent]) -> None:
    """Live, resumed and replayed runs agree: a fold from the middle is the fold from the beginning."""
    records = recorded(events)
    whole = reduce(apply_event, records, RunState())
    assert reduce(apply_event, records, RunState()) == whole
    for middle in range(len(records)):
        assert reduce(apply_event, records[middle:], reduce(apply_event, records[:middle], RunState())) == whole


@settings(max_examples=60, deadline=None)
@given(runs())
def test_folding_never_changes_the_facts_that_were_there_before(events: list[AnyEvent]) -> None:
    """A decision that holds facts can trust them while others go on recording."""
    facts = RunState()
    for item in recorded(events):
        before, shown = facts, repr(facts)
        facts = apply_event(facts, item)
        assert repr(before) == shown


@settings(max_examples=60, deadline=None)
@given(runs())
def test_facts_count_what_a_person_would_count_in_the_events(events: list[AnyEvent]) -> None:
    """Counting is checked against a plain count of the same events."""
    facts = folded(events)
    answers = [event for event in events if isinstance(event, CallAnswered)]
    first = [event for event in events if isinstance(event, CallDecided) and event.round == 0]
    labels = {label for event in answers if event.result.ok for label in event.result.labels}
    assert facts.attempted == len(first)
    assert facts.answered == len(answers)
    assert len(facts.open) == len(first) - len(answers)
    assert facts.labels == labels
    assert facts.finished == any(isinstance(event, RunFinished) for event in events)


def test_facts_keep_nothing_of_a_call_that_has_its_answer() -> None:
    """A thousand steps cost no more memory than one: only open calls are kept one by one."""
    facts = RunState()
    for step in range(50):
        for item in recorded([*turn(step), decided(step, 0), intended(step, 0), ended(step, 0), succeeded(step, 0)]):
            facts = apply_event(facts, item)
    assert facts.open == {}
    assert facts.calls() == {"files.read": 50}


def test_calls_count_those_that_succeeded_or_may_have_happened() -> None:
    """A call that certainly did not happen spends nothing."""
    events: list[AnyEvent] = [
        started(),
        *[decided(0, index, action="mail.send", effect="once") for index in range(4)],
        ended(0, 0, landed="landed"),
        succeeded(0, 0),
        ended(0, 1, code="outcome_unknown", landed="unknown"),
        failed(0, 1, "outcome_unknown"),
        ended(0, 2, code="tool_failed", landed="not_landed"),
        failed(0, 2, "tool_failed"),
        failed(0, 3, "held"),
    ]
    assert folded(events).calls() == {"mail.send": 2}


def test_an_allowed_call_counts_before_it_has_run_but_not_against_itself() -> None:
    """Parallel calls of one step cannot all be the first: each is decided with the earlier ones counted."""
    facts = folded([started(), decided(0, 0, action="mail.send"), decided(0, 1, "ask", action="mail.send")])
    assert facts.calls() == {"mail.send": 1}
    assert facts.calls(but=(0, 0)) == {}


ASKED: list[AnyEvent] = [started(), decided(1, 0, "ask", action="service.restart"), requested(1, 0, count=2)]


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        pytest.param([granted(1, 0)], {"role:lead": 1}, id="one lead"),
        pytest.param([granted(1, 0), granted(1, 0, "user:eve")], {"role:lead": 2}, id="two leads"),
        pytest.param(
            [granted(1, 0), granted(1, 0, role="role:owner")], {"role:lead": 1}, id="one person in two roles is one"
        ),
        pytest.param([granted(1, 0, "user:ann")], {}, id="the requester"),
        pytest.param([granted(1, 0, "agent:triage")], {}, id="an agent"),
        pytest.param([granted(1, 0, "user:none")], {}, id="nobody"),
        pytest.param([granted(1, 0, "user:mallory")], {}, id="someone without the role"),
        pytest.param([granted(1, 0, digest="another")], {}, id="for another decision"),
        pytest.param([granted(1, 1)], {}, id="for another call"),
        pytest.param([granted(1, 0), rejected(1, 0, "user:eve")], {}, id="one no is enough"),
        pytest.param([granted(1, 0), requested(1, 0, digest="new")], {}, id="asked anew"),
        pytest.param([requested(1, 0, expires_at=EPOCH), granted(1, 0)], {}, id="too late"),
    ],
)
def test_a_grant_counts_only_where_it_was_given_rightly(said: list[AnyEvent], counted: dict[str, int]) -> None:
    """Approvals are read from events at each decision, and never trusted for having been recorded."""
    assert context(folded([*ASKED, *said])).approvals == counted


def test_a_grant_for_one_decision_is_not_one_for_another() -> None:
    """Where the rules have changed since people were asked, what they said no longer fits."""
    facts = folded([*ASKED, granted(1, 0)])
    assert context(facts, digest="d/1/0").approvals == {"role:lead": 1}
    assert context(facts, digest="d/other").approvals == {}


def test_a_role_that_was_taken_away_takes_its_grants_along() -> None:
    """Roles are read when the call is decided, not when the grant was given."""
    facts = folded([*ASKED, granted(1, 0)])
    nobody: Callable[[str], frozenset[str]] = lambda subject: frozenset()  # noqa: E731 - a function in one line
    made = context_of(facts, call(1, 0), moment(nobody))
    assert made.approvals == {}


@pytest.mark.parametrize(
    ("task", "resource", "named"),
    [
        ("read docs/a.md.", "file:docs/a.md", True),
        ("docs/a.md", "file:docs/a.md", True),
        ("read (docs/a.md), please", "file:docs/a.md", True),
        ("read secret/docs/a.md", "file:docs/a.md", False),
        ("read docs/a.md.bak", "file:docs/a.md", False),
        ("read docs/a.mdx", "file:docs/a.md", False),
        ("mail ann@example.com", "mail:ann@example.com", True),
        ("mail joann@example.com", "mail:ann@example.com", False),
        ("restart service checkout", "service:checkout", True),
        ("restart checkout", "service:checkout", False),
        ("restart service checkout-db", "service:checkout", False),
        ("search docs/**", "file:docs/**", True),
        ("search docs", "file:docs/**", False),
        ("", "file:docs/a.md", False),
    ],
)
def test_a_resource_is_named_only_by_the_users_own_whole_word(task: str, resource: str, named: bool) -> None:
    """What a tool's output names is not what the user named."""
    facts = folded([started(task=task), *turn(0), succeeded(0, 0, value=resource)])
    touched = call(0, 0, touches=(ResourceAccess(access="use", resource=resource),))
    made = context_of(facts, touched, moment(lambda _: frozenset()))
    assert made.named is named


def test_the_context_says_the_time_of_the_decision_in_utc() -> None:
    """Rules about office hours read the clock of the decision, so a replay reads the same."""
    assert context(folded([started()])).time == "08:00"  # 1.8e9 s after the epoch


def test_a_run_waits_only_while_people_have_still_to_answer() -> None:
    """The list of runs tells on-call who holds a run up."""
    states = [folded(a_whole_run()[:count]).status for count in range(len(a_whole_run()) + 1)]
    asked = next(number for number, event in enumerate(a_whole_run()) if event.type == "approval.requested")
    assert states[: asked + 1] == ["running"] * (asked + 1)
    assert states[asked + 1 : asked + 4] == ["waiting", "waiting", "waiting"]
    assert set(states[asked + 4 : -1]) == {"running"}
    assert states[-1] == "finished"


def test_a_summary_names_the_outcome_and_the_first_call_that_was_denied() -> None:
    """One line tells what a run was for, how it ended and what was refused."""
    made = summary(RUN, folded(a_whole_run()))
    assert (made.agent, made.user, made.model, made.scripted) == (
        "agent:triage",
        "user:ann",
        "script:script.yaml",
        True,
    )
    assert (made.state, made.outcome, made.steps, made.calls) == ("finished", "failed", 3, 5)
    assert (made.denied, made.first_denied) == (3, "service.restart at step 0: policy_denied")
    assert made.first_failed == made.first_denied
    slow = summary(RUN, folded([started(), *turn(0, ask()), decided(0, 0), failed(0, 0, "timeout")]))
    assert (slow.denied, slow.first_denied, slow.first_failed) == (0, None, "files.read at step 0: timeout")
    assert (made.started_at, made.ended_at) == (EPOCH, EPOCH + (len(a_whole_run()) - 1) * 1_000_000)


def test_requested_names_the_latest_request_of_each_open_call() -> None:
    """Whoever approves sees what is asked now, not what was asked before the rules changed."""
    assert folded(ASKED).requested == ("approval.requested/1/0/d/1/0",)
    assert folded([*ASKED, requested(1, 0, digest="new")]).requested == ("approval.requested/1/0/new",)
    assert folded([*ASKED, failed(1, 0, "approval_expired")]).requested == ()


def test_a_hold_stands_until_it_is_lifted() -> None:
    """Holds fold like everything else."""
    hold = HoldSet(number=0, scope="agent:triage", reason="looks wrong", account="ann")
    assert folded([hold]).holds == {"agent:triage": hold}
    assert folded([hold, HoldLifted(number=1, scope="agent:triage", account="ann")]).holds == {}


def test_a_finished_run_still_folds_when_every_body_was_erased() -> None:
    """An erased run can be listed: when it began and that it is over stay known."""
    records = [
        Recorded.model_construct(**{**dict(item), "event": None, "salt": None}) for item in recorded(a_whole_run())
    ]
    facts = reduce(apply_event, records, RunState())
    assert (facts.status, facts.started_at, summary(RUN, facts).task) == ("finished", EPOCH, "")
