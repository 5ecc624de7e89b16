"""The run state is computed from events and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import pytest
from hypothesis import given, settings

from remit.broker.context import Moment
from remit.broker.context import policy_context as context_of
from remit.core.calls import Context, ResourceAccess
from remit.core.events import AnyEvent, CallAnswered, CallDecided, Recorded, RunFinished
from remit.journal.projections import run_row, summary
from remit.journal.reducer import apply_event
from remit.journal.run_state import RunState
from remit.policy.language import NO_ENTITIES
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


def context(state: RunState, *, step: int = 1, index: int = 0, digest: str | None = None) -> Context:
    return context_of(
        state,
        call(step, index, action="service.restart"),
        moment(lambda subject: LEADS.get(subject, frozenset()), digest),
    )


def moment(roles_of: Callable[[str], frozenset[str]], digest: str | None = None) -> Moment:
    return Moment(
        env="local", confinement="full", at=EPOCH, roles_of=roles_of, entities=NO_ENTITIES, decision_digest=digest
    )


@settings(max_examples=60, deadline=None)
@given(runs())
def test_the_same_events_give_the_same_state_however_they_are_split(events: list[AnyEvent]) -> None:
    """Live, resumed and replayed runs agree: the state is the same if it is continued from any event."""
    records = recorded(events)
    whole = reduce(apply_event, records, RunState())
    assert reduce(apply_event, records, RunState()) == whole
    for middle in range(len(records)):
        assert reduce(apply_event, records[middle:], reduce(apply_event, records[:middle], RunState())) == whole


@settings(max_examples=60, deadline=None)
@given(runs())
def test_applying_an_event_never_changes_an_earlier_state(events: list[AnyEvent]) -> None:
    """A decision can keep a state while other processes record further events."""
    state = RunState()
    for item in recorded(events):
        before, shown = state, repr(state)
        state = apply_event(state, item)
        assert repr(before) == shown


@settings(max_examples=60, deadline=None)
@given(runs())
def test_the_state_counts_what_a_person_would_count_in_the_events(events: list[AnyEvent]) -> None:
    """The counts of the state are compared with plain counts of the same events."""
    state = folded(events)
    answers = [event for event in events if isinstance(event, CallAnswered)]
    first = [event for event in events if isinstance(event, CallDecided) and event.round == 0]
    labels = {label for event in answers if event.result.ok for label in event.result.labels}
    assert state.attempted == len(first)
    assert state.answered == len(answers)
    assert len(state.open) == len(first) - len(answers)
    assert state.labels == labels
    assert state.finished == any(isinstance(event, RunFinished) for event in events)


def test_the_state_keeps_nothing_of_an_answered_call() -> None:
    """A thousand steps need no more memory than one: only open calls are kept one by one."""
    state = RunState()
    for step in range(50):
        for item in recorded([*turn(step), decided(step, 0), intended(step, 0), ended(step, 0), succeeded(step, 0)]):
            state = apply_event(state, item)
    assert state.open == {}
    assert state.calls() == {"files.read": 50}


def test_calls_count_those_that_succeeded_or_may_have_happened() -> None:
    """A call that certainly did not happen is not counted."""
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
    state = folded([started(), decided(0, 0, action="mail.send"), decided(0, 1, "ask", action="mail.send")])
    assert state.calls() == {"mail.send": 1}
    assert state.calls(but=(0, 0)) == {}


ASKED: list[AnyEvent] = [started(), decided(1, 0, "ask", action="service.restart"), requested(1, 0, count=2)]


@pytest.mark.parametrize(
    ("answers", "counted"),
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
        pytest.param([granted(1, 0), rejected(1, 0, "user:eve")], {}, id="one rejection is enough"),
        pytest.param([granted(1, 0), requested(1, 0, digest="new")], {}, id="requested again"),
        pytest.param([requested(1, 0, expires_at=EPOCH), granted(1, 0)], {}, id="too late"),
    ],
)
def test_only_valid_grants_count(answers: list[AnyEvent], counted: dict[str, int]) -> None:
    """Approvals are checked at each decision; that they were recorded does not make them valid."""
    assert context(folded([*ASKED, *answers])).approvals == counted


def test_a_grant_for_one_decision_is_not_one_for_another() -> None:
    """If the rules have changed since the request, its approvals no longer count."""
    state = folded([*ASKED, granted(1, 0)])
    assert context(state, digest="d/1/0").approvals == {"role:lead": 1}
    assert context(state, digest="d/other").approvals == {}


def test_grants_in_a_role_do_not_count_after_the_role_was_removed() -> None:
    """Roles are read when the call is decided, not when the grant was given."""
    state = folded([*ASKED, granted(1, 0)])
    nobody: Callable[[str], frozenset[str]] = lambda subject: frozenset()  # noqa: E731 - a function in one line
    made = context_of(state, call(1, 0), moment(nobody))
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
    """A resource in the output of a tool was not named by the user."""
    state = folded([started(task=task), *turn(0), succeeded(0, 0, value=resource)])
    touched = call(0, 0, touches=(ResourceAccess(access="use", resource=resource),))
    made = context_of(state, touched, moment(lambda _: frozenset()))
    assert made.named_by_user is named


def test_the_context_says_the_time_of_the_decision_in_utc() -> None:
    """Rules about office hours read the clock of the decision, so a replay reads the same."""
    assert context(folded([started()])).time == "08:00"  # 1.8e9 s after the epoch


def test_a_run_waits_only_while_an_approval_is_missing() -> None:
    """The list of runs shows on-call which runs wait for people."""
    states = [folded(a_whole_run()[:count]).status for count in range(len(a_whole_run()) + 1)]
    asked = next(number for number, event in enumerate(a_whole_run()) if event.type == "approval.requested")
    assert states[: asked + 1] == ["running"] * (asked + 1)
    assert states[asked + 1 : asked + 4] == ["waiting", "waiting", "waiting"]
    assert set(states[asked + 4 : -1]) == {"ready", "running"}
    assert states[-1] == "finished"


def test_a_summary_names_the_outcome_and_the_first_call_that_was_denied() -> None:
    """One line has the task of a run, its outcome and its first refusal."""
    made = summary(run_row(RUN, folded(a_whole_run())), "finished")
    assert (made.agent, made.user, made.model, made.scripted) == (
        "agent:triage",
        "user:ann",
        "script:script.yaml",
        True,
    )
    assert (made.state, made.outcome, made.steps, made.calls) == ("finished", "failed", 3, 5)
    assert (made.denied, made.first_denied) == (3, "service.restart at step 0: policy_denied")
    assert made.first_failed == made.first_denied
    slow = summary(run_row(RUN, folded([started(), *turn(0, ask()), decided(0, 0), failed(0, 0, "timeout")])), "ready")
    assert (slow.denied, slow.first_denied, slow.first_failed) == (0, None, "files.read at step 0: timeout")
    assert (made.started_at, made.ended_at) == (EPOCH, EPOCH + (len(a_whole_run()) - 1) * 1_000_000)


def test_requested_names_the_latest_request_of_each_open_call() -> None:
    """An approver sees the current request, not the one from before the rules changed."""

    def keys(*events: AnyEvent) -> list[str]:
        return [approval.requested.key for approval in folded([*ASKED, *events]).approvals]

    assert keys() == ["approval.requested/1/0/d/1/0/1"]
    assert keys(requested(1, 0, digest="new")) == ["approval.requested/1/0/new/1"]
    assert keys(failed(1, 0, "approval_expired")) == []


def test_a_finished_run_is_still_listed_when_every_body_was_erased() -> None:
    """An erased run can still be listed: its beginning and its end are known."""
    records = [
        Recorded.model_construct(**{**dict(item), "event": None, "salt": None}) for item in recorded(a_whole_run())
    ]
    state = reduce(apply_event, records, RunState())
    assert (state.status, state.started_at, summary(run_row(RUN, state), "finished").task) == ("finished", EPOCH, "")
