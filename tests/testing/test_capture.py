"""Captured runs: real ones, and those with a fake executor, which leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit import Remit
from remit.core import RunEnded, UsageError, WorkspaceError
from remit.core.events import CallAnswered, RunStarted
from remit.journal import WORKSPACE_RUN, list_runs
from remit.sandbox import Sandbox
from remit.testing import FakeCall, FakeExecutor, ScriptedModel, capture_run, read_run, turn
from remit.workspace import open_session
from support.principals import principal

PAY = turn("I pay", ledger__pay={"name": "ann", "amount": 5})
LARGE = turn(ledger__pay={"name": "ann", "amount": 5000})
LOOK = turn(ledger__look={"name": "ann"})
DONE = turn("done")
LEAD = {"action": "ledger.pay", "approver": "user:lea", "role": "role:lead"}
READ = {"name": "ann", "text": ""}

Clerk = Callable[..., Path]


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


# Turns


def test_a_turn_is_the_data_that_a_script_in_yaml_has() -> None:
    assert turn("hello", ledger__look={"name": "a"}, shell="{") == {
        "say": "hello",
        "calls": [{"ledger__look": {"name": "a"}}, {"shell": "{"}],
    }
    assert turn(finish="length", ledger__look=[{"name": "a"}, "{"])["calls"] == [
        {"ledger__look": {"name": "a"}},
        {"ledger__look": "{"},
    ]


async def test_turns_of_python_and_of_yaml_make_the_same_model(tmp_path: Path) -> None:
    text = 'turns: [{say: hi, calls: [{a__b: {n: 1}}, {c: "{"}]}, {say: bye, finish: length}]\napprovals: []\n'
    (tmp_path / "script.yaml").write_text(text)
    read = ScriptedModel.read(tmp_path / "script.yaml", name="script:turns")
    made = ScriptedModel([turn("hi", a__b={"n": 1}, c="{"), turn("bye", finish="length")])
    assert [await read.think(step, (), ()) for step in (0, 1)] == [await made.think(step, (), ()) for step in (0, 1)]


@pytest.mark.parametrize(
    ("turns", "approvals", "what"),
    [
        ([{"speak": "a"}], [], r"turns\[0\]: unknown key 'speak'"),
        ([DONE, turn(a__b={"when": object()})], [], r"turns\[1\]\.calls\[0\]: '<object"),
        ([turn(a__b=7)], [], r"turns\[0\]\.calls\[0\]: the arguments of 'a__b' are neither a mapping nor text"),  # type: ignore[arg-type]
        ([DONE], [{"action": "a.b"}], r"approvals\[0\]: approval: 'approver': field required"),
    ],
)
def test_a_wrong_turn_is_named_by_its_place(turns: Any, approvals: Any, what: str) -> None:
    with pytest.raises((WorkspaceError, TypeError)) as raised:
        ScriptedModel(turns, approvals=approvals)
    assert re.search(what, str(raised.value))


# Real runs


def test_a_captured_run_has_its_calls_effects_answer_and_trace(clerk: Clerk) -> None:
    run = capture_run(clerk([]), "clerk", "keep the ledger", model=[LOOK, PAY, DONE])
    assert (run.outcome, run.answer, run.waiting, run.held) == ("completed", "done", (), None)
    assert [call.action for call in run.calls()] == ["ledger.look", "ledger.pay"]
    assert run.calls("ledger.pay") == [run.call(1)]
    (paid,) = run.effects
    assert (paid.action, paid.resources, paid.step) == ("ledger.pay", ("account:ann",), 1)
    assert paid.arguments == {"name": "ann", "amount": 5, "memo": ""}
    assert isinstance(run.events[0], RunStarted)
    assert run.trace is not None
    assert run.trace.name == f"{run.run}.jsonl"
    assert run.trace.is_file()
    assert repr(run) == f"<CapturedRun {run.run[:8]}: completed, 2 calls, 1 landed>"


@pytest.mark.parametrize("how", ["path", "text", "session", "client"])
def test_a_workspace_is_a_path_a_session_or_a_client(clerk: Clerk, how: str) -> None:
    folder = clerk([{"say": "from the script of the agent"}])
    session = open_session(folder)
    given: Any = {"path": folder / "agent", "text": str(folder), "session": session, "client": Remit(session)}[how]
    assert capture_run(given, "clerk", "x").answer == "from the script of the agent"
    session.journal.close()


async def test_a_run_is_captured_in_a_coroutine_too(clerk: Clerk) -> None:
    assert capture_run(clerk([]), "clerk", "x", model=[DONE]).outcome == "completed"


def test_a_run_that_waits_says_for_whom_and_a_scripted_approval_continues_it(clerk: Clerk) -> None:
    folder = clerk([])
    run = capture_run(folder, "clerk", "x", model=[LARGE, DONE])
    assert (run.outcome, run.effects, [item.role for item in run.waiting[0].missing]) == ("waiting", [], ["role:lead"])
    assert "0.0 ledger.pay of account:ann: waits for 1 × role:lead" in run.describe()
    approved = capture_run(folder, "clerk", "x", model=ScriptedModel([LARGE, DONE], approvals=[LEAD]))
    assert (approved.outcome, len(approved.effects)) == ("completed", 1)


def test_an_agent_acts_for_every_user_that_a_test_names(clerk: Clerk) -> None:
    folder = clerk([])
    for user, code in (("user:lea", None), ("bea", "policy_denied")):
        run = capture_run(folder, "clerk", "x", model=[PAY, DONE], user=user)
        assert (None if (error := run.call(0).error) is None else error.code) == code


def test_a_call_that_a_run_did_not_make_is_a_failure_that_lists_its_calls(clerk: Clerk) -> None:
    run = capture_run(clerk([]), "clerk", "x", model=[LOOK, DONE])
    with pytest.raises(AssertionError) as raised:
        run.call(3, 1)
    assert str(raised.value) == (
        f"the run has no call 3.1\nrun {run.run[:8]}: completed\n  0.0 ledger.look of account:ann: ok\n"
        f"  trace: {run.trace}"
    )


# Runs with a fake executor


def test_a_fake_executor_answers_and_nothing_real_happens(clerk: Clerk) -> None:
    folder = clerk([])
    before = files_below(folder)
    fake = FakeExecutor({"ledger.look": READ, "ledger.pay": lambda call: f"paid {call.arguments['amount']}"})
    run = capture_run(folder, "clerk", "x", model=[LOOK, PAY, DONE], executor=fake)
    assert (run.outcome, run.answer, run.trace) == ("completed", "done", None)
    assert run.call(1).result.value == "paid 5"
    assert [effect.action for effect in run.effects] == ["ledger.pay"]
    assert [(call.action, call.resources, call.attempt) for call in fake.calls] == [
        ("ledger.look", ("account:ann",), 1),
        ("ledger.pay", ("account:ann",), 1),
    ]
    kept = {path: data for path, data in files_below(folder).items() if not path.startswith("traces/journal.db")}
    assert kept == before
    session = open_session(folder)
    assert list(list_runs(session.journal)) == []
    assert not (folder / "ledger.jsonl").exists()
    assert not (folder / "work").exists()
    session.journal.close()


def test_a_run_with_a_fake_executor_uses_no_shared_limit_and_is_bound_by_it(clerk: Clerk) -> None:
    limit = '[[limit]]\nnote = "One call an hour"\nof = "calls"\nmost = 1\nper = "1h"\n'
    folder = clerk([], limits=limit)
    for _ in range(2):
        fake = FakeExecutor({"ledger.look": READ})
        both = turn(ledger__look=[{"name": "ann"}, {"name": "ben"}])
        run = capture_run(folder, "clerk", "x", model=[both, DONE], executor=fake)
        assert [call.error.code if call.error else None for call in run.calls()] == [None, "rate_limited"]
    real = capture_run(folder, "clerk", "x", model=[LOOK, DONE])
    assert real.call(0).error is None


def test_failures_of_a_fake_executor_open_no_circuit_of_the_workspace(clerk: Clerk) -> None:
    folder = clerk([])
    looks = turn(ledger__look=[{"name": f"a{number}"} for number in range(6)])
    run = capture_run(folder, "clerk", "x", model=[looks, DONE], executor=FakeExecutor({"ledger.look": RuntimeError()}))
    assert {call.error.code for call in run.calls() if call.error} >= {"tool_crashed"}
    session = open_session(folder)
    assert session.journal.events(WORKSPACE_RUN) == []
    session.journal.close()


def test_a_run_with_a_fake_executor_sends_nothing_to_a_collector(
    clerk: Clerk, backend: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, bodies = backend
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    folder = clerk([])
    capture_run(folder, "clerk", "x", model=[LOOK, DONE], executor=FakeExecutor({"ledger.look": READ}))
    assert bodies == []
    capture_run(folder, "clerk", "x", model=[LOOK, DONE])
    assert bodies != []


def test_a_fake_executor_needs_no_sandbox(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMIT_BWRAP", "/nonexistent/bwrap")
    monkeypatch.setattr(Sandbox, "confinement", property(lambda _: pytest.fail("the sandbox was probed")))
    fake = FakeExecutor({"files.list": {"files": []}})
    run = capture_run(session, "triage", "x", model=[turn(files__list={"folder": "logs"}), DONE], executor=fake)
    assert (run.outcome, len(fake.calls)) == ("completed", 1)


def test_without_a_fake_executor_a_machine_without_a_sandbox_ends_the_run(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(_: Sandbox) -> str:
        raise RunEnded("sandbox_unavailable", "no bubblewrap", fix="install it")

    monkeypatch.setattr(Sandbox, "confinement", property(unavailable))
    with pytest.raises(RunEnded, match="no bubblewrap"):
        capture_run(session, "triage", "x", model=[DONE])


def test_a_denied_call_does_not_reach_the_fake_executor(clerk: Clerk) -> None:
    fake = FakeExecutor({"ledger.pay": "paid"})
    run = capture_run(
        clerk([]), "clerk", "x", model=[turn(ledger__pay={"name": "vault", "amount": 1}), DONE], executor=fake
    )
    assert run.call(0).error.code == "policy_denied"
    assert (fake.calls, run.effects) == ([], [])


def test_a_call_without_an_answer_fails_the_test_and_names_it(clerk: Clerk) -> None:
    fake = FakeExecutor({"ledger.look": READ})
    with pytest.raises(AssertionError) as raised:
        capture_run(clerk([]), "clerk", "x", model=[PAY, DONE], executor=fake)
    assert str(raised.value) == (
        "call 0.0, ledger.pay of account:ann, reached the FakeExecutor, which has no answer for it (answers: ledger.look).\n"
        "  fix: add an answer for 'ledger.pay' if the call is right; otherwise find the rule that allowed it"
    )
    assert raised.value.__cause__ is None
    assert [call.action for call in fake.calls] == ["ledger.pay"]


def test_an_answer_for_an_action_that_no_tool_has_is_refused_before_the_run(clerk: Clerk) -> None:
    with pytest.raises(UsageError, match=r"answers 'ledger\.loook', which no tool has; actions: ledger\.book, "):
        capture_run(clerk([]), "clerk", "x", model=[DONE], executor=FakeExecutor({"ledger.loook": READ}))


class Busy(Exception):
    """The name of a declared error of the ledger."""


@pytest.mark.parametrize(
    ("answer", "code", "error", "attempts"),
    [
        (Busy("locked"), "tool_failed", "busy", 3),
        (Busy, "tool_failed", "busy", 3),
        (lambda _: Busy("locked"), "tool_failed", "busy", 3),
        (RuntimeError("a private detail"), "tool_crashed", None, 1),
        ({"name": "ann"} | {"text": 5}, "invalid_output", None, 1),
        (object(), "invalid_output", None, 1),
    ],
)
def test_exceptions_and_wrong_values_fail_as_those_of_a_real_tool(
    clerk: Clerk, answer: object, code: str, error: str | None, attempts: int
) -> None:
    fake = FakeExecutor({"ledger.look": answer})
    run = capture_run(clerk([]), "clerk", "x", model=[LOOK, DONE], executor=fake)
    failed = run.call(0).error
    assert failed is not None
    assert (failed.code, failed.details.get("error"), len(fake.calls)) == (code, error, attempts)
    assert "a private detail" not in str([event for event in run.events if isinstance(event, CallAnswered)])


def test_a_result_that_fails_its_schema_after_an_effect_says_that_the_effect_has_probably_happened(
    clerk: Clerk,
) -> None:
    sentence = "the function had returned by then, so its effect has probably happened"
    run = capture_run(clerk([]), "clerk", "x", model=[PAY, DONE], executor=FakeExecutor({"ledger.pay": 5}))
    failed = run.call(0).error
    assert failed is not None
    assert failed.code == "outcome_unknown"
    assert (
        failed.message
        == f"the result of the tool does not match its schema: the value: wrong_type, expected string, got integer; {sentence}"
    )
    read = (
        capture_run(clerk([]), "clerk", "x", model=[LOOK, DONE], executor=FakeExecutor({"ledger.look": 5}))
        .call(0)
        .error
    )
    assert read is not None
    assert sentence not in read.message


def test_answers_one_after_another_show_a_retry_and_too_few_of_them_fail_the_test(clerk: Clerk) -> None:
    folder = clerk([])
    answers = iter([Busy("locked"), READ])
    fake = FakeExecutor({"ledger.look": lambda _: next(answers)})
    run = capture_run(folder, "clerk", "x", model=[LOOK, DONE], executor=fake)
    assert (run.call(0).error, [call.attempt for call in fake.calls]) == (None, [1, 2])
    with pytest.raises(AssertionError, match=r"call 0\.0, ledger\.look, attempt 1, .* used all its answers"):
        capture_run(folder, "clerk", "x", model=[LOOK, DONE], executor=fake)


def test_an_assertion_in_an_answer_fails_the_test(clerk: Clerk) -> None:
    def answer(call: FakeCall) -> object:
        assert call.arguments["amount"] == 6, "the wrong amount"
        return "paid"

    with pytest.raises(AssertionError, match="the wrong amount"):
        capture_run(clerk([]), "clerk", "x", model=[PAY, DONE], executor=FakeExecutor({"ledger.pay": answer}))


def test_an_answer_cannot_change_what_was_decided(clerk: Clerk) -> None:
    def answer(call: FakeCall) -> object:
        call.arguments["amount"] = 1_000_000
        return "paid"

    run = capture_run(clerk([]), "clerk", "x", model=[PAY, DONE], executor=FakeExecutor({"ledger.pay": answer}))
    assert run.effects[0].arguments["amount"] == 5


def test_attempts_of_one_call_have_one_idempotency_key(clerk: Clerk) -> None:
    answers = iter([Busy("locked"), "booked"])
    fake = FakeExecutor({"ledger.book": lambda _: next(answers)})
    book = turn(ledger__book={"name": "ann", "amount": 1})
    capture_run(clerk([]), "clerk", "x", model=[book, DONE], executor=fake)
    assert len(fake.calls) == 2
    assert len({call.idempotency_key for call in fake.calls}) == 1
    assert fake.calls[0].idempotency_key


def test_an_effect_whose_outcome_is_unknown_is_probed_and_else_in_doubt(clerk: Clerk) -> None:
    folder = clerk([])
    wire = turn(ledger__wire={"name": "ann", "amount": 1})
    for wired, landed, in_doubt in (("wired", 1, 0), (None, 0, 0), (RuntimeError(), 0, 1)):
        fake = FakeExecutor({"ledger.wire": RuntimeError(), "ledger.wired": wired})
        run = capture_run(folder, "clerk", "x", model=[wire, DONE], executor=fake)
        assert [call.action for call in fake.calls] == ["ledger.wire", "ledger.wired"]
        assert (len(run.effects), len(run.in_doubt)) == (landed, in_doubt)


def test_a_wrong_value_of_an_action_that_is_done_once_leaves_its_outcome_unknown(clerk: Clerk) -> None:
    run = capture_run(clerk([]), "clerk", "x", model=[PAY, DONE], executor=FakeExecutor({"ledger.pay": object()}))
    failed = run.call(0).error
    assert failed is not None
    assert (run.call(0).effect, failed.code, run.call(0).landed) == ("once", "outcome_unknown", "unknown")


@pytest.mark.parametrize("confinement", ["full", "landlock"])
def test_rules_read_the_confinement_that_the_fake_executor_claims(session: Path, confinement: Any) -> None:
    rules = session / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text()
        + "\n# Logs are listed under full confinement only\np, agent:triage, files.list, file:logs/**, confinement != 'full', deny\n"
    )
    fake = FakeExecutor({"files.list": {"files": []}}, confinement=confinement)
    run = capture_run(session, "triage", "x", model=[turn(files__list={"folder": "logs"}), DONE], executor=fake)
    assert (run.call(0).error is None) is (confinement == "full")


# Recorded runs


def test_a_recorded_run_is_read_as_it_stands_after_an_approval_and_a_resume(clerk: Clerk) -> None:
    folder = clerk([LARGE, DONE])
    with Remit.open(folder) as client:
        waiting = capture_run(client, "clerk", "x")
        before = read_run(client, waiting.run[:8])
        assert (before.run, before.outcome, before.trace) == (waiting.run, "waiting", waiting.trace)
        client.acting_as(principal("lea")).approve(waiting.run)
        client.resume(waiting.run)
    assert waiting.outcome == "waiting"
    after = read_run(folder, waiting.run)
    assert (after.outcome, len(after.effects), after.waiting) == ("completed", 1, ())


def test_a_held_run_says_why(clerk: Clerk) -> None:
    folder = clerk([])
    with Remit.open(folder) as client:
        client.hold("agent:clerk", reason="an audit")
        run = capture_run(client, "clerk", "x", model=[DONE])
    assert run.outcome == "held"
    assert "an audit" in (run.held or "")
    fake = capture_run(folder, "clerk", "x", model=[DONE], executor=FakeExecutor({}))
    assert (fake.outcome, fake.held) == ("completed", None)


def test_a_run_that_is_not_recorded_cannot_be_read(clerk: Clerk) -> None:
    with pytest.raises(UsageError, match="the journal has no run 'abc'"):
        read_run(clerk([]), "abc")
