"""Approvals as one state machine: whatever people, clocks, rules and kills do, every view says the same, and nothing runs without consent."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from remit.broker.approvals import requests as approval
from remit.client import waiting_approvals_of
from remit.core import BREAK_GLASS, Refusal
from remit.core.events import (
    NANO,
    ApprovalGranted,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalState,
    ApprovalVoided,
    AttemptBegun,
    Recorded,
)
from remit.journal import Journal, StoredRecord, approvals_in_state, check_projections
from remit.journal.projections import approval_rows
from remit.journal.storage.core_tables import APPROVAL
from remit.runtime import runner as run
from remit.tracing.reports.timeline import build_timeline
from remit.tracing.spans import Spans
from remit.workspace.session import WorkspaceSession, open_session
from support.lifecycle import LARGE, Killed, another, clock_of, dying, replayed
from support.principals import OPERATOR, principal
from support.runs import DONE, Play, Played

INTERLEAVINGS: Final = int(os.environ.get("REMIT_INTERLEAVINGS", "12"))  # `make kills` plays 600
ACTS: Final = 9
ASKS: Final = (
    "# asks: role:lead, then role:boss after 30m, expires after 2h\n"
    "p, agent:clerk, ledger.pay, account:*, approved('role:lead') or approved('role:boss') "
    f"or approved('{BREAK_GLASS}'), allow\n"
)
PEOPLE: Final = {"lea": "role:lead", "leo": "role:lead", "bea": "role:boss", "bob": BREAK_GLASS}
HAS_ROLE: Final = "".join(f"g, user:{name}, {role}\n" for name, role in PEOPLE.items() if name in ("bea", "bob"))
KILLED_AT: Final = ("call.decided", "approval.requested", "approval.voided", "attempt.begun", "call.answered")


def asks(folder: Path) -> None:
    """Large payments ask a lead, after half an hour also the boss, and in an emergency bob."""
    rules = folder / "policies" / "rules.csv"
    text = rules.read_text(encoding="utf-8")
    old = "p, agent:clerk, ledger.pay, account:*, approved('role:lead'), allow\n"
    assert old in text
    rules.write_text(text.replace(old, ASKS) + HAS_ROLE, encoding="utf-8")


@dataclass
class History:
    """Random acts on one run with one call that needs approval."""

    played: Played
    ahead: list[int]
    draw: random.Random
    acts: list[str] = field(default_factory=list[str])

    @property
    def journal(self) -> Journal:
        return self.played.opened.journal

    @property
    def record(self) -> StoredRecord:
        return StoredRecord(self.journal, self.played.ended.run)

    @property
    def state(self) -> ApprovalState | None:
        call = self.record.state.open.get((0, 0))
        return None if call is None else call.approval

    def act(self) -> None:
        name, *rest = self.draw.choice(
            [
                *(("grant", who) for who in PEOPLE),
                *(("revoke", who) for who in ("lea", "leo", "bea")),
                ("reject", "leo"),
                ("later", str(31 * 60)),
                ("later", str(20 * 60)),
                ("rules", ""),
                ("role", "leo"),
                ("resume", ""),
                ("resume", ""),
                ("kill", self.draw.choice(KILLED_AT)),
            ]
        )
        self.acts.append(" ".join([name, *rest]))
        getattr(self, name)(*rest)

    def grant(self, who: str) -> None:
        """An approval counts if the request is open, waits, accepts the role now, and nobody gave it twice."""
        state, now, role = self.state, time.time_ns(), PEOPLE[who]
        if state is None:
            return
        policy = open_session(self.played.folder).policy
        accepted = role in (*state.accepts(now), BREAK_GLASS) and role in policy.roles_of(f"user:{who}")
        given = any(grant.approver == f"user:{who}" for grant in state.counted(now))
        open_call = self.record.state.open[0, 0]
        free = state.end is None and not open_call.allowed and now < state.requested.expires_at
        until = now + 600 * NANO if role == BREAK_GLASS else None
        until = min(until, state.requested.expires_at) if until else None
        answer = approval.Approval(by=principal(who), role=role, reason="INC-7" if until else "", until=until)
        refused: Refusal | None = None
        try:
            approval.grant_approval(self.record, state.requested, answer, roles_of=policy.roles_of, now=now)
        except Refusal as refusal:
            refused = refusal
        assert (refused is None) == (accepted and free and not given), (refused, self.acts)

    def revoke(self, who: str) -> None:
        if (state := self.state) is not None:
            with suppress(Refusal):
                approval.revoke_approval(self.record, state.requested, by=principal(who), reason="misread")
                assert all(grant.approver != f"user:{who}" for grant in self.state.grants)  # type: ignore[union-attr]

    def reject(self, who: str) -> None:
        if (state := self.state) is not None and self.draw.random() < 0.5:
            roles_of = open_session(self.played.folder).policy.roles_of
            with suppress(Refusal):
                approval.reject_approval(
                    self.record, state.requested, by=principal(who), roles_of=roles_of, now=time.time_ns(), reason="no"
                )

    def later(self, seconds: str) -> None:
        self.ahead[0] += int(seconds) * NANO

    def rules(self, _: str) -> None:
        """Another limit, or the one from before: a decision may come back."""
        self._swap("args.amount <= 100", "args.amount <= 50")

    def role(self, who: str) -> None:
        """A person loses the role, or has it again."""
        self._swap(f"g, user:{who}, role:lead\n", f"g, user:{who}, role:people\n")

    def _swap(self, one: str, other: str) -> None:
        rules = self.played.folder / "policies" / "rules.csv"
        text = rules.read_text(encoding="utf-8")
        rules.write_text(text.replace(one, other) if one in text else text.replace(other, one), encoding="utf-8")

    def resume(self, _: str = "") -> None:
        self._drive(open_session(self.played.folder))

    def kill(self, at: str) -> None:
        opened = open_session(self.played.folder)
        with suppress(Killed), dying(opened.journal, at):
            self._drive(opened)

    def _drive(self, opened: WorkspaceSession) -> None:
        with suppress(Exception) if self.record.state.finished else _nothing():
            ended = asyncio.run(run.resume_run(opened, self.played.ended.run, by=OPERATOR))
            self.played = Played(folder=self.played.folder, opened=opened, ended=ended)

    # ── what must always hold ────────────────────────────────────────────────────────────────────────────────────────

    def check_views(self) -> None:
        """The fold, the rows, the list, the timeline and the spans agree."""
        record, events = self.record, self.journal.events(self.played.ended.run)
        call = record.state.open.get((0, 0))
        state = None if call is None else call.approval
        names = [column.name for column in APPROVAL.columns]
        stored = self.journal.read(sa.select(APPROVAL).where(APPROVAL.c.run == record.run).order_by(APPROVAL.c.seq))
        computed = sorted(approval_rows(record.run, record.state), key=lambda row: row["seq"])
        assert [dict(zip(names, row, strict=True)) for row in stored] == computed, self.acts
        listed = {(where, body) for where, _, body in approvals_in_state(self.journal, "waiting")}
        waits = call is not None and call.waiting
        assert (self.played.ended.run in {where for where, _ in listed}) == waits, self.acts
        if state is not None and call is not None and not call.allowed and state.waits(time.time_ns()):
            assert self.played.ended.run in {item.run for item in waiting_approvals_of(self.played.opened)}, self.acts
        assert (record.state.status == "waiting") == waits, self.acts
        timeline = build_timeline(events)
        (shown,) = [item for item in timeline.calls if item.place == "0.0"]
        assert shown.waiting == waits, self.acts
        if state is not None:
            assert shown.approval == state, self.acts
            if call is not None and not call.allowed and state.end is None:
                assert _state_in_span(events) == state.status(), self.acts

    def check_consent(self) -> None:
        """By a count of its own: what ran had enough approvals of the decision that ran, none of them revoked or void."""
        events = self.journal.events(self.played.ended.run)
        if not any(isinstance(item.event, AttemptBegun) for item in events):
            assert self.played.effects == [], self.acts
            return
        assert _agreed(events), self.acts
        paid = [row for row in self.played.effects if row["name"] == self.name]
        assert len(paid) <= 1, self.acts

    name: str = ""

    def finish(self) -> None:
        """People who may answer can always end the wait: the run comes to its end, or an effect is in doubt after a kill."""
        self._restore()
        for _ in range(4):
            self.resume()
            self.check_views()
            if self.record.state.finished or self.record.state.in_doubt:
                break
            assert self.state is not None, self.acts
            assert self.state.waits(time.time_ns()), (self.state.status(), self.acts)
            for who in ("lea", "leo"):
                self.grant(who)
            self.check_views()
        assert self.record.state.finished or self.record.state.in_doubt, self.acts

    def _restore(self) -> None:
        rules = self.played.folder / "policies" / "rules.csv"
        text = rules.read_text(encoding="utf-8").replace("<= 50", "<= 100")
        rules.write_text(text.replace("g, user:leo, role:people\n", "g, user:leo, role:lead\n"), encoding="utf-8")


class _nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _state_in_span(events: list[Recorded]) -> Any:
    """The state that the last span of a request for approval has."""
    spans = Spans(events[0].run)
    for item in events:
        spans.see(item)
    (last,) = [span for span in spans.unfinished() if span.name == "remit.approval"]
    return last.attributes["remit.approval.state"]


def _agreed(events: list[Recorded]) -> bool:
    """True if the approvals before the first attempt were enough, counted without the state machine."""
    latest, given = "", dict[str, ApprovalGranted]()
    for item in events:
        match item.event:
            case ApprovalRequested() as event:
                latest, given = event.decision_digest, {}
            case ApprovalGranted() as event if event.decision_digest == latest:
                given[event.approver] = event
            case ApprovalRevoked() | ApprovalVoided() as event if event.decision_digest == latest:
                given.pop(event.approver, None)
            case AttemptBegun():
                return any(one.until is None or item.at < one.until + 60 * NANO for one in given.values())
            case _:
                pass
    return False


def test_every_view_of_an_approval_agrees_at_every_point_of_random_histories(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: no call runs without a valid approval, and a run never waits for something that cannot come."""
    ahead = clock_of(monkeypatch)
    played = play([DONE], budget='wall = "90h"')
    asks(played.folder)
    for seed in range(INTERLEAVINGS):
        (played.folder / "ledger.jsonl").unlink(missing_ok=True)
        history = History(another(played, LARGE), ahead, random.Random(seed), name="ann")
        for _ in range(ACTS):
            history.act()
            history.check_views()
            history.check_consent()
        history.finish()
        history.check_consent()
        if seed % 100 == 0:  # it reads every run so far
            assert check_projections(history.journal) == [], history.acts
        assert replayed(history.played).reproduced, history.acts


def test_an_approval_that_was_revoked_can_be_given_again_by_the_same_person(play: Play) -> None:
    """One lead is enough: revoking is no trap."""
    played = play(LARGE)
    (requested,) = played.ended.waiting
    record, roles_of = StoredRecord(played.opened.journal, played.ended.run), played.opened.policy.roles_of
    answer = approval.Approval(by=principal("lea"), role="role:lead")
    for _ in range(2):
        approval.grant_approval(record, requested, answer, roles_of=roles_of, now=time.time_ns())
        approval.revoke_approval(record, requested, by=principal("lea"), reason="misread")
        assert record.state.approvals[0].status() == "revoked"
    assert [item.requested for item in record.state.approvals] == [requested]
    assert record.state.status == "waiting"
    approval.grant_approval(record, requested, answer, roles_of=roles_of, now=time.time_ns())
    ended = asyncio.run(run.resume_run(played.opened, played.ended.run, by=OPERATOR))
    assert len(played.effects) == 1
    assert replayed(Played(folder=played.folder, opened=played.opened, ended=ended)).reproduced


def test_a_decision_that_comes_back_is_asked_again(clerk: Callable[..., Path]) -> None:
    """The rules change and change back: the old approvals do not count, and people can answer the new request."""
    folder = clerk(LARGE)
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
    played = Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))
    history = History(played, [0], random.Random(0))
    history.grant("lea")
    for _ in range(2):
        history.rules("")
        history.resume()
        history.check_views()
    assert history.played.effects == []
    asked = [item.event for item in history.played.records if isinstance(item.event, ApprovalRequested)]
    assert [event.number for event in asked] == [1, 1, 2]
    assert asked[0].decision_digest == asked[2].decision_digest
    history.grant("leo")
    history.resume()
    assert len(history.played.effects) == 1
    assert replayed(history.played).reproduced


def test_a_later_role_may_answer_once_its_time_has_come_and_no_answer_is_no(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = clock_of(monkeypatch)
    played = play([DONE], budget='wall = "90h"')
    asks(played.folder)
    played = another(played, LARGE)
    history = History(played, ahead, random.Random(0))
    (requested,) = played.ended.waiting
    assert [(item.role, item.after_s) for item in requested.escalations] == [("role:boss", 1800)]
    roles_of, boss = played.opened.policy.roles_of, approval.Approval(by=principal("bea"), role="role:boss")
    with pytest.raises(Refusal, match="once nobody has answered it for 30 minutes"):
        approval.grant_approval(history.record, requested, boss, roles_of=roles_of, now=time.time_ns())
    history.later("1860")
    history.grant("bea")
    history.resume()
    assert len(history.played.effects) == 1
    silent = History(another(played, LARGE), ahead, random.Random(0))
    silent.later("7260")
    silent.resume()
    assert silent.played.error(0)["code"] == "approval_expired"
    assert len(silent.played.effects) == 1
