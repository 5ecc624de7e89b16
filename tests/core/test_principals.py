"""Who asks: what is recorded of them, and when two of them may be one person."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from remit.core.calls import Subjects
from remit.core.events import EVENT, HoldSet, RunStarted
from remit.core.principals import NAME_OF_SUBJECT, NOBODY, Authentication, Principal, same_person
from remit.journal import WORKSPACE_RUN, open_journal
from support.events import started
from support.principals import principal

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PRINCIPALS = st.builds(
    Principal,
    subject=st.builds(
        "{}:{}".format,
        st.sampled_from(["user", "service", "agent"]),
        st.from_regex(rf"\A{NAME_OF_SUBJECT}\Z"),
    ),
    authenticated=st.sampled_from(get_args(Authentication)),
    account=TEXTS,
    issuer=TEXTS,
    roles=st.lists(TEXTS, max_size=3).map(tuple),
    tenant=TEXTS,
    session=TEXTS,
)


@given(by=PRINCIPALS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_principal_is_read_as_it_was_recorded(by: Principal, tmp_path: Path) -> None:
    event = HoldSet(number=0, scope="all", reason="x", by=by)
    assert EVENT.validate_json(event.model_dump_json()) == event
    with open_journal(tmp_path / "journal.db") as journal:
        number = len(journal.events(WORKSPACE_RUN))
        recorded = journal.append_shared(WORKSPACE_RUN, event.model_copy(update={"number": number}))
        (read,) = journal.events(WORKSPACE_RUN, number - 1)
    assert read == recorded
    assert isinstance(read.event, HoldSet)
    assert read.event.by == by


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(principal("ann"), True, id="the same"),
        pytest.param(principal("ann", account="root"), True, id="the same name, another account"),
        pytest.param(principal("bob", account="ann"), True, id="another name, the same account"),
        pytest.param(principal("ann", issuer="https://id"), True, id="the same name, another authority"),
        pytest.param(principal("bob", account="ann", issuer="https://id"), False, id="an account of another authority"),
        pytest.param(principal("bob"), False, id="another person"),
    ],
)
def test_two_principals_may_be_one_person_if_their_name_or_their_account_agrees(other: Principal, same: bool) -> None:
    ann = principal("ann")
    assert same_person(ann, other) is same
    assert same_person(other, ann) is same


@pytest.mark.parametrize(
    ("subject", "person"), [("ann", True), (NOBODY, False), ("service:ci", False), ("agent:a", False)]
)
def test_only_a_named_user_is_a_person(subject: str, person: bool) -> None:
    assert principal(subject).is_person is person


@pytest.mark.parametrize("subject", ["ann", "role:lead", "user:", "user:a b", "user:ann\nuser:root", "user:ann\n"])
def test_a_subject_that_rules_cannot_name_is_no_principal(subject: str) -> None:
    with pytest.raises(ValidationError):
        Principal(subject=subject, authenticated="oidc", account="1")


def test_a_run_is_requested_by_its_user_and_by_the_person_who_started_it() -> None:
    run: RunStarted = started(subjects=Subjects(agent="agent:triage", user="user:ann"), by=principal("bob"))
    requesters = [principal("ann"), principal("bob"), principal("eve", account="bob"), principal("bob", account="eve")]
    assert all(run.is_requested_by(who) for who in requesters)
    assert not run.is_requested_by(principal("eve"))
    assert not run.is_requested_by(principal("eve", account="ann")), "the account of the run's user is not recorded"
