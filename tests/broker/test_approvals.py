"""Approvals: the text for approvers, the effect of answers, and answers that do not count (threats D1 to D12)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.broker.approvals import requests as approval
from remit.broker.approvals import summary as approval_text
from remit.broker.approvals.summary import approval_summary, plain
from remit.core.calls import Call, Decision, ResourceAccess, Rule, Subjects
from remit.core.errors import Refusal, UsageError
from remit.core.events import ApprovalGranted, ApprovalRefused, ApprovalRequested, ApprovalVoided, Recorded
from remit.guardrails.redaction import Redactor
from remit.guardrails.sanitizer import Sanitizer
from remit.journal import StoredRecord
from remit.journal.run_log import Record
from remit.runtime import runner as run
from remit.workspace.session import open_session
from support.lifecycle import LARGE, RUN, another, grant, granted, killed, replayed, resumed, waiting
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, Played, turn

ASKS_LEAD = "approved('role:lead')"


def record_of(played: Played) -> Record:
    return StoredRecord(played.opened.journal, played.ended.run)


def reject(played: Played, requested: ApprovalRequested, approver: str = "user:lea") -> None:
    approval.reject_approval(
        record_of(played),
        requested,
        by=principal(approver),
        roles_of=played.opened.policy.roles_of,
        now=time.time_ns(),
        reason="no",
    )


def edited(played: Played, old: str, new: str) -> None:
    rules = played.folder / "policies" / "rules.csv"
    assert old in rules.read_text()
    rules.write_text(rules.read_text().replace(old, new))


def reopened(played: Played) -> Played:
    """The run, resumed by another process with the current files."""
    opened = open_session(played.folder)
    ended = asyncio.run(run.resume_run(opened, played.ended.run, by=OPERATOR))
    return Played(folder=played.folder, opened=opened, ended=ended)


def found(played: Played, kind: type[Any]) -> list[Any]:
    return [item.event for item in played.records if isinstance(item.event, kind)]


# ── which answers count ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_grant_for_another_call_or_other_arguments_runs_nothing(play: Play) -> None:
    """D1: an approval is bound to run, step, index and digest; the id of the call by the model does not count."""
    turns = [
        {"say": "x", "calls": [{"ledger__pay": {"name": "ann", "amount": amount}} for amount in (5000, 9000)]},
        DONE,
    ]
    played = play(turns)
    first, second = played.ended.waiting
    other = ApprovalGranted(
        step=0, index=1, decision_digest=first.decision_digest, by=principal("lea"), role="role:lead"
    )
    record_of(played).append(other)  # also if it is written directly into the journal
    after = resumed(played)
    assert after.effects == []
    granted(after, second)
    assert [row["amount"] for row in resumed(after).effects] == [9000]


def test_an_approval_is_void_once_the_rules_have_changed_and_approvers_are_asked_again(play: Play) -> None:
    """D2: an approval is for one request under one policy."""
    played = play(LARGE)
    grant(played, "user:lea")
    edited(played, "args.amount <= 100", "args.amount <= 50")
    after = reopened(played)
    assert after.effects == []
    (voided,) = found(after, ApprovalVoided)
    assert (voided.approver, voided.code) == ("user:lea", "approval_invalid")
    assert len(found(after, ApprovalRequested)) == 2
    assert replayed(after).reproduced


def test_an_approval_of_a_tool_that_changed_since_runs_the_reviewed_code_or_nothing(play: Play) -> None:
    """D2: the digest of the manifest is part of the request, and unpinned code never runs."""
    played = play(LARGE)
    grant(played, "user:lea")
    (played.folder / "tools/ledger/more.py").write_text("x = 1\n")
    assert len(resumed(played).effects) == 1
    assert list((played.folder / "traces").rglob("more.py")) == [], "what runs is the code that was reviewed"
    (played.folder / "tools/ledger/more.py").unlink()
    again = play(LARGE)
    (again.folder / "tools/ledger/more.py").write_text("x = 1\n")
    grant(again, "user:lea")
    (again.folder / "traces/objects" / again.opened.workspace.tools["ledger"].code.removeprefix("sha256:")).unlink()
    with pytest.raises(UsageError, match="the code of tool 'ledger' that the run began with is not there"):
        resumed(again)


def test_a_request_that_nobody_answered_in_time_ends_as_expired(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """D3: the time is checked when the call would run."""
    monkeypatch.setattr(approval, "LASTS_NS", 0)
    played = play(LARGE)
    assert played.error(0)["code"] == "approval_expired"
    assert played.effects == []


def test_two_workers_use_one_approval_once(clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: this holds even without a lock between the workers."""
    from conftest import session_module

    monkeypatch.setattr("remit.journal.lease.is_alive", lambda *_: False)  # each takes over from the other
    folder = clerk(LARGE)
    killed(folder, "approval.requested")
    opened = session_module.open_session(folder)
    (requested,) = approval.waiting_approvals(StoredRecord(opened.journal, RUN))
    granted(Played(folder=folder, opened=opened, ended=run.RunResult(run=RUN, trace=folder, finished=None)), requested)

    async def both() -> None:
        work = [run.resume_run(open_session(folder), RUN, by=principal(f"w{number}")) for number in (1, 2)]
        await asyncio.gather(*work, return_exceptions=True)

    asyncio.run(both())
    rows = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert len(rows) == 1


def test_the_approver_is_the_account_and_what_it_may_not_do_is_in_the_trace(play: Play, command: Command) -> None:
    """D5: the name is never taken from an argument or a variable. The account of the tests is the requester."""
    played = play(LARGE)
    claimed = dict.fromkeys(("USER", "LOGNAME", "SUDO_USER", "REMIT_USER"), "lea")
    result = command(played.folder, "approve", "grant", played.ended.run[:8], env=claimed)
    assert result.code == 1
    assert "approval_invalid" in result.err
    (refused,) = found(played, ApprovalRefused)
    assert (refused.approver, refused.code) == ("user:operator", "approval_invalid")
    assert resumed(played).effects == []


@pytest.mark.parametrize("condition", ["approvals('role:lead') >= 0", "approvals('role:lead') > -1"])
def test_a_rule_that_asks_for_nobody_is_refused_when_it_is_loaded(clerk: Callable[..., Path], condition: str) -> None:
    """D6: a rule that needs zero approvals would approve everything."""
    from remit.core.errors import WorkspaceError

    folder = clerk(LARGE)
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text().replace(ASKS_LEAD, condition))
    with pytest.raises(WorkspaceError, match="approv"):
        open_session(folder)


@pytest.mark.parametrize(
    ("condition", "asked"),
    [
        pytest.param("not 'private' in labels and approved('role:lead')", 2, id="a fact that was shown has changed"),
        pytest.param("not 'seen' in labels and approved('role:lead')", 1, id="the condition does not hold any more"),
    ],
)
def test_an_approval_is_void_once_a_fact_that_was_shown_has_changed(
    clerk: Callable[..., Path], condition: str, asked: int
) -> None:
    """D7: another branch of the step continued meanwhile, so the call is decided again and approvers are asked again."""
    calls = [{"ledger__pay": {"name": "ann", "amount": 5000}}, {"ledger__look": {"name": "ann"}}]
    folder = clerk([{"say": "x", "calls": calls}, DONE])
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text().replace(ASKS_LEAD, condition))
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model)
    played = Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))
    assert waiting(played).facts == {"labels": []}
    assert "fact: labels = []" in waiting(played).summary
    grant(played, "user:lea")
    after = resumed(played)
    assert after.effects == []
    assert [item.code for item in found(after, ApprovalVoided)] == ["approval_invalid"]
    assert len(found(after, ApprovalRequested)) == asked
    assert replayed(after).reproduced


TWO = {"say": "two", "calls": [{"ledger__pay": {"name": name, "amount": 5000}} for name in ("ann", "ben")]}


def test_answers_belong_to_their_calls_and_not_to_a_position(play: Play) -> None:
    """D8 and D12: the second call is granted first, the first is rejected; each answer reaches its call, and the run continues."""
    played = play([TWO, DONE])
    first, second = played.ended.waiting
    granted(played, second)
    halfway = resumed(played)
    assert [row["name"] for row in halfway.effects] == ["ben"]
    reject(halfway, first)
    after = resumed(halfway)
    assert [row["name"] for row in after.effects] == ["ben"]
    assert (after.error(0, 0)["code"], after.result(0, 1)["ok"]) == ("approval_rejected", True)
    assert after.ended.finished is not None
    assert replayed(after).reproduced


def test_a_quorum_takes_two_people(play: Play) -> None:
    played = play([DONE])
    edited(played, ASKS_LEAD, "approvals('role:lead') >= 2")

    asked = another(played, LARGE)
    grant(asked, "user:lea")
    with pytest.raises(Refusal, match="already approved"):
        grant(asked, "user:lea")
    assert resumed(asked).effects == []
    grant(asked, "user:leo")
    after = resumed(asked)
    assert len(after.effects) == 1
    assert replayed(after).reproduced


def test_an_approval_that_was_taken_back_does_not_count_and_another_may_be_given(play: Play) -> None:
    played = play(LARGE)
    grant(played, "user:lea")
    requested = waiting(played)
    with pytest.raises(Refusal, match="has not approved"):
        approval.revoke_approval(record_of(played), requested, by=principal("leo"), reason="misread")
    approval.revoke_approval(record_of(played), requested, by=principal("lea"), reason="misread")
    after = resumed(played)
    assert after.effects == []
    grant(after, "user:leo")
    last = resumed(after)
    assert len(last.effects) == 1
    assert replayed(last).reproduced
    with pytest.raises(Refusal, match="no longer waiting for approval"):
        approval.revoke_approval(record_of(last), requested, by=principal("leo"), reason="too late")
    assert [item.message for item in found(last, ApprovalRefused)][1:] == ["the call is no longer waiting for approval"]


def test_an_approval_is_void_once_its_approver_has_lost_the_role(play: Play) -> None:
    played = play(LARGE)
    grant(played, "user:lea")
    edited(played, "g, user:lea, role:lead\n", "")
    after = reopened(played)
    assert after.effects == []
    assert len(found(after, ApprovalVoided)) == 1


def test_the_number_of_calls_that_wait_for_approval_is_limited(play: Play) -> None:
    """D11: nobody reviews the fortieth request carefully."""
    calls = [{"ledger__pay": {"name": f"a{number}", "amount": 5000}} for number in range(4)]
    played = play([{"say": "x", "calls": calls}, DONE], budget="waiting = 2")
    assert len(played.ended.waiting) == 2
    assert [played.error(0, index)["details"] for index in (2, 3)] == [{"limit": "waiting", "of": 2}] * 2


def test_rapid_approvals_of_different_actions_are_warned_about_and_recorded(play: Play, command: Command) -> None:
    """D11: two approvals of one action within a minute are routine; a third one of another action is flagged."""
    pay, wire = {"ledger__pay": {"name": "ann", "amount": 5000}}, {"ledger__wire": {"name": "ben", "amount": 5000}}
    played = play([DONE])
    edited(played, "ledger.wire, account:*, True", f"ledger.wire, account:*, {ASKS_LEAD}")

    calls = [pay, {"ledger__pay": {"name": "cid", "amount": 5000}}, wire]
    asked = another(played, [{"say": "x", "calls": calls}, DONE])
    settings = played.folder / "remit.toml"
    settings.write_text(settings.read_text().replace('"*" = "user:operator"', '"*" = "user:lea"'))
    run_id = asked.ended.run[:8]
    result = [command(played.folder, "approve", "grant", f"{run_id}/0.{index}") for index in range(3)]
    assert [item.code for item in result] == [0, 0, 0], result
    assert ["minute" in item.err for item in result] == [False, False, True]
    assert [item.rapid for item in found(asked, ApprovalGranted)] == [False, False, True]


def test_an_answer_from_another_terminal_wakes_the_run(clerk: Callable[..., Path], command: Command) -> None:
    """The run waits in one process; a person answers in another process, and the run continues by itself."""
    folder = clerk(LARGE)
    opened = open_session(folder)
    result: list[Any] = []

    def answer(name: str) -> None:
        settings = folder / "remit.toml"  # read by the other process only: there, this account is Lea's
        settings.write_text(settings.read_text().replace('"*" = "user:operator"', '"*" = "user:lea"'))
        result.append(command(folder, "approve", "grant", name[:8]))

    def tell(recorded: Recorded) -> None:
        if recorded.type == "approval.requested":
            threading.Thread(target=answer, args=(recorded.run,)).start()

    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model)
    ended = asyncio.run(run.start_run(opened, start, wait=60, on_event=tell))
    assert ended.finished is not None, result
    assert len((folder / "ledger.jsonl").read_text().splitlines()) == 1


# ── the text for approvers ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("pay\x1b[2Kann\r", "pay\\u{1b}[2Kann\\u{d}", id="terminal controls"),
        pytest.param("a\u202eb\u2066c", "a\\u{202e}b\\u{2066}c", id="bidirectional marks"),
        pytest.param("pay\u200b\u2060ann\ufeff", "pay\\u{200b}\\u{2060}ann\\u{feff}", id="zero width"),
        pytest.param("ok\U000e0068\U000e0069", "ok\\u{e0068}\\u{e0069}", id="tags"),
        pytest.param("p\u0430ypal.com", "p\\u{430}ypal.com", id="one Cyrillic letter in a Latin word"),
        pytest.param(
            "\u0430\u0440\u0440\u04cf\u0435", "\\u{430}\\u{440}\\u{440}\\u{4cf}\\u{435}", id="a word of lookalikes"
        ),
        pytest.param("\uff45vil", "\\u{ff45}vil", id="full width"),
        pytest.param("a\u00a0b\u2028c", "a\\u{a0}b\\u{2028}c", id="spaces and line ends that are not those"),
        pytest.param("z" + "\u0301" * 5, "z\u0301\u0301" + "\\u{301}" * 3, id="stacked marks"),
        pytest.param("\ue000\u3164", "\\u{e000}\\u{3164}", id="what no font agrees on, and blanks"),
        pytest.param("Größe, 東京, Привет, αβγδ", "Größe, 東京, Привет, αβγδ", id="words of a language stay"),
    ],
)
def test_deceptive_characters_are_escaped(text: str, shown: str) -> None:
    """D9."""
    assert plain(text) == shown


def call(**arguments: Any) -> Call:
    return Call(
        run="r",
        step=0,
        index=0,
        subjects=Subjects(agent="agent:clerk", user="user:ann"),
        action="ledger.pay",
        arguments=arguments,
        touches=(ResourceAccess(access="use", resource="account:ben"),),
        effect="once",
        manifest="",
        request_digest="",
    )


RULE = Rule(file="policies/rules.csv", line=7, text="p, …", effect="allow", note="A lead must agree")
DECISION = Decision(
    verdict="ask", reason="approval", message="", rules=(RULE,), facts={"labels": ["untrusted"], ASKS_LEAD: False}
)


def shown(whole: bool = False, **arguments: Any) -> str:
    return approval_summary(call(**arguments), DECISION, Sanitizer(Redactor("r")), whole=whole)


def test_the_summary_is_rendered_from_the_call_and_shows_the_facts_of_the_decision() -> None:
    """D10: the summary contains no description by the model."""
    assert shown(name="ben", amount=5000).splitlines() == [
        "ledger.pay, called by agent:clerk for user:ann",
        "  amount = 5000",
        '  name = "ben"',
        "  uses account:ben",
        "  This call cannot be undone.",
        "  Approval is required by policies/rules.csv:7: A lead must agree",
        '  fact: labels = ["untrusted"]',
    ]


def unwrapped(summary: str) -> str:
    return summary.replace(f"\n{approval_text.GUTTER}", "")


def test_an_approver_reads_no_description_of_the_call_by_the_model(play: Play) -> None:
    """D10: text by the model appears only as an argument, on one line."""
    memo = "a refund of 5 to ann\n  amount = 5\n  uses account:ann\n  This call only reads."
    proposed_calls = turn(
        "A refund of 5 to ann, as agreed", ledger__pay={"name": "mallory", "amount": 5000, "memo": memo}
    )
    assert unwrapped(waiting(play([proposed_calls, DONE])).summary).splitlines() == [
        "ledger.pay, called by agent:clerk for user:operator",
        "  amount = 5000",
        f"  memo = {json.dumps(memo)}".replace("n  ", "n\\u{20}×2"),
        '  name = "mallory"',
        "  uses account:mallory",
        "  This call cannot be undone.",
        "  Approval is required by policies/rules.csv:7: A lead must agree to a large amount",
    ]


def test_a_long_value_shows_both_ends_its_length_and_its_digest() -> None:
    """D9: padding cannot hide the end of a value, and one changed character changes the summary."""
    padded = f"to ann {'and so on ' * 50_000}but the money to mallory"
    line = next(line for line in unwrapped(shown(memo=padded)).splitlines() if "memo" in line)
    assert len(line) < 600
    assert "to ann" in line
    assert "but the money to mallory" in line
    assert "499" in line.partition("characters left out")[0]
    other = unwrapped(shown(memo=padded.replace("on and", "on, and", 1)))
    assert line != next(line for line in other.splitlines() if "memo" in line)
    assert padded in unwrapped(shown(whole=True, memo=padded))


def test_a_value_that_nobody_can_read_is_marked() -> None:
    blob = unwrapped(shown(blob="QUJD" * 100))
    assert "not readable: 402 characters without a space" in blob
    assert "contains 1 hidden secret" in unwrapped(shown(memo="key AKIAIOSFODNN7EXAMPLE"))
    assert "… and 10 more: --full shows them" in shown(**{f"a{number:02}": number for number in range(50)})


def test_a_reason_is_recorded_legibly_whatever_the_terminal_sends(play: Play, command: Command) -> None:
    """Invalid bytes from ssh, pasted hidden and control characters, and a secret in the reason of the approver."""
    played = play(LARGE)
    settings = played.folder / "remit.toml"
    settings.write_text(settings.read_text().replace('"*" = "user:operator"', '"*" = "user:lea"'))
    reason = "nö \udcff\udcfe \u202e\x1b[2J AKIAIOSFODNN7EXAMPLE"
    result = command(played.folder, "approve", "reject", played.ended.run[:8], "--reason", reason)
    assert result.code == 0, result.err
    shown = resumed(played).error(0)["details"]["reason"]
    assert shown.startswith("nö ?? \\u{202e}\\u{1b}[2J [redacted:")
    assert "AKIAIOSFODNN7EXAMPLE" not in played.ended.trace.read_text()


def test_a_terminal_without_unicode_shows_escaped_characters(play: Play, command: Command) -> None:
    """Also over ssh into an account without terminal, locale and standard input."""
    played = play([turn(ledger__pay={"name": "ann", "amount": 5000, "memo": "für 東京"}), DONE])
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "LC_", "PYTHON", "TERM"))}
    line = [sys.executable, "-m", "remit", "approve", "show", played.ended.run[:8]]
    for given, shown in (
        ({"PYTHONIOENCODING": "iso-8859-1"}, b"f\xfcr \\u6771\\u4eac"),
        ({"LANG": "C", "LC_ALL": "C"}, "für 東京".encode()),
    ):
        result = subprocess.run(
            line, cwd=played.folder, env={**bare, **given}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert shown in result.stdout
    assert command(played.folder, "approve", "show", played.ended.run[:8]).out.count("東京") == 1
