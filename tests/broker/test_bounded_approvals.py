"""Bounded approvals: this call, and up to N more like it, in this run, until a time; anything else is asked about."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import pytest

from remit.broker.approvals import requests as approval
from remit.broker.approvals import scope_of
from remit.core import Refusal
from remit.core.events import NANO, ApprovalGranted, ApprovalRequested, CallDecided, GrantScope
from remit.journal import StoredRecord
from remit.runtime import runner as run
from remit.workspace.session import open_session
from support.lifecycle import Killed, another, clock_of, dying, replayed, resumed
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, Played, turn

HOUR: Final = 3600 * NANO


def pays(*payments: tuple[str, int]) -> list[dict[str, Any]]:
    """One step for each payment, and the end."""
    return [*(turn(ledger__pay={"name": name, "amount": amount}) for name, amount in payments), DONE]


def grant(played: Played, more: int = 2, *, lasts: int = HOUR, resources: tuple[str, ...] = ()) -> ApprovalRequested:
    """Lea approves the one waiting call, and `more` like it."""
    (requested,) = played.ended.waiting
    record = StoredRecord(played.opened.journal, played.ended.run)
    decided = record.get(f"call.decided/{requested.step}/{requested.index}/0")
    assert isinstance(decided, CallDecided)
    assert decided.call is not None
    now = time.time_ns()
    given = approval.Approval(
        by=principal("lea"), role="role:lead", until=now + lasts, scope=scope_of(decided.call, more, resources)
    )
    approval.grant_approval(record, requested, given, roles_of=played.opened.policy.roles_of, now=now)
    return requested


def test_it_covers_so_many_further_calls_and_not_one_more(play: Play) -> None:
    played = play(pays(("ann", 5000), ("ann", 4000), ("ann", 5000), ("ann", 300)))
    grant(played, 2)
    after = resumed(played)
    assert [row["amount"] for row in after.effects] == [5000, 4000, 5000]
    assert [item.step for item in after.ended.waiting] == [3]
    given = [item.event for item in after.records if isinstance(item.event, ApprovalGranted)]
    assert [(event.approver, event.under) for event in given] == [
        ("user:lea", ""),
        ("user:lea", given[0].key),
        ("user:lea", given[0].key),
    ]
    assert replayed(after).reproduced


@pytest.mark.parametrize("second", [("ben", 5000), ("ann", 5001)], ids=["another resource", "a larger amount"])
def test_a_call_beyond_it_is_asked_about(play: Play, second: tuple[str, int]) -> None:
    played = play(pays(("ann", 5000), second))
    grant(played, 2)
    after = resumed(played)
    assert [row["amount"] for row in after.effects] == [5000]
    assert [item.step for item in after.ended.waiting] == [1]


def test_after_its_end_it_covers_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = clock_of(monkeypatch)
    played = play(pays(("ann", 5000), ("ann", 5000)), budget='wall = "90h"')
    grant(played, 2, lasts=HOUR)
    opened = open_session(played.folder)
    with suppress(Killed), dying(opened.journal, "call.answered"):
        asyncio.run(run.resume_run(opened, played.ended.run, by=OPERATOR))
    ahead[0] += HOUR
    after = resumed(played)
    assert len(after.effects) == 1
    assert [item.step for item in after.ended.waiting] == [1]


def test_after_the_run_has_read_what_the_approver_did_not_see_it_covers_nothing(play: Play) -> None:
    """The facts are part of what was approved."""
    look = turn(ledger__look={"name": "ann"})
    played = play([DONE])
    rules = played.folder / "policies/rules.csv"
    text = rules.read_text(encoding="utf-8")
    rules.write_text(text.replace("approved('role:lead')", "not 'private' in labels and approved('role:lead')"))
    first, second, done = pays(("ann", 5000), ("ann", 5000))
    asked = another(played, [first, look, second, done])
    grant(asked, 2)
    after = resumed(asked)
    assert len(after.effects) == 1
    assert [item.step for item in after.ended.waiting] == [2]


def test_once_it_is_revoked_it_covers_nothing_more(play: Play) -> None:
    """Also after the approved call was carried out."""
    played = play(pays(("ann", 5000), ("ben", 5000), ("ann", 5000)))
    requested = grant(played, 2)
    halfway = resumed(played)
    assert len(halfway.effects) == 1
    record = StoredRecord(halfway.opened.journal, halfway.ended.run)
    approval.revoke_approval(record, requested, by=principal("lea"), reason="enough")
    (second,) = halfway.ended.waiting
    roles_of = halfway.opened.policy.roles_of
    given = approval.Approval(by=principal("leo"), role="role:lead")
    approval.grant_approval(record, second, given, roles_of=roles_of, now=time.time_ns())
    after = resumed(halfway)
    assert [row["name"] for row in after.effects] == ["ann", "ben"]
    assert [item.step for item in after.ended.waiting] == [2]
    with pytest.raises(Refusal, match="no longer waiting"):
        approval.revoke_approval(record, requested, by=principal("lea"), reason="again")


def test_a_wider_pattern_covers_other_resources(play: Play) -> None:
    played = play(pays(("ann", 5000), ("anne", 5000), ("ben", 5000)))
    grant(played, 5, resources=("account:an*",))
    after = resumed(played)
    assert [row["name"] for row in after.effects] == ["ann", "anne"]


def test_a_scope_that_is_not_valid_or_has_no_end_is_refused(play: Play) -> None:
    played = play(pays(("ann", 5000)))
    (requested,) = played.ended.waiting
    record, roles_of = StoredRecord(played.opened.journal, played.ended.run), played.opened.policy.roles_of
    decided = record.get("call.decided/0/0/0")
    assert isinstance(decided, CallDecided)
    assert decided.call is not None
    for resources, condition, what in (
        (("account:[",), "", "not valid"),
        ((), "args.amount <=", "not valid"),
        ((), "'seen' in labels", "reads arguments only"),
        (("account:ben",), "", "does not cover the call itself"),
        ((), "args.amount < 5000", "does not cover the call itself"),
    ):
        with pytest.raises(Refusal, match=what):
            scope_of(decided.call, 2, resources, condition)
    with pytest.raises(Refusal, match="1 to 100"):
        scope_of(decided.call, 101)
    scope = GrantScope(more=2, resources=("account:ann",), condition="True")
    for until in (None, time.time_ns() + 25 * HOUR):
        given = approval.Approval(by=principal("lea"), role="role:lead", until=until, scope=scope)
        with pytest.raises(Refusal, match="must end within 24 hours"):
            approval.grant_approval(record, requested, given, roles_of=roles_of, now=time.time_ns())


def test_the_approver_reads_the_scope_and_examples_before_giving_it(play: Play, command: Command) -> None:
    """The lines come first; without a terminal, nothing is approved without --yes."""
    calls = [{"ledger__pay": {"name": name, "amount": amount}} for name, amount in (("ann", 5000), ("ben", 700))]
    played = play([{"say": "two", "calls": calls}, *pays(("ann", 200))])
    settings = played.folder / "remit.toml"
    settings.write_text(settings.read_text().replace('"*" = "user:operator"', '"*" = "user:lea"'))
    place = f"{played.ended.run[:8]}/0.0"
    line = ("approve", "grant", place, "--more", "3")
    asked = command(played.folder, *line)
    assert (asked.code, "add --yes" in asked.err) == (2, True)
    for shown in (
        "up to 3 more calls of ledger.pay in this run",
        "on account:ann",
        "if args.amount <= 5000",
        "not covered: call 0.1: account:ben amount = 700",
        "not covered: a call with amount = 5001",
    ):
        assert shown in asked.err, asked.err
    record = StoredRecord(played.opened.journal, played.ended.run)
    assert record.state.bounded == ()
    assert command(played.folder, *line, "--yes").code == 0
    (bound,) = StoredRecord(played.opened.journal, played.ended.run).state.bounded
    assert bound.granted.scope == GrantScope(more=3, resources=("account:ann",), condition="args.amount <= 5000")
