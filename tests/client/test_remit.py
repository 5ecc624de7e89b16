"""The Python client: what a program can do, and that it does the same as the command line."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import remit
from remit import AsyncRemit, Policy, Refusal, Remit, Request, RunEnded, Scope, ScopeEntry, UsageError, WorkspaceError
from remit.broker import Broker
from remit.core.events import NANO
from remit.runtime import one_call
from support.runs import DONE, TASK, Command, Play, turn

READ = {"path": "runbooks/payments-pool.md", "lines": 1}
SECRET = {"path": "secrets/payments.env"}


@pytest.fixture
def client(session: Path) -> Iterator[Remit]:
    with Remit.open(session) as opened:
        yield opened


def events(client: Remit) -> list[str]:
    return [summary.run for summary in client.runs()]


def test_a_call_returns_the_value_of_the_tool_and_is_recorded(client: Remit) -> None:
    called = client.call("files.read", READ, agent="triage")
    assert called.ok
    assert called.error is None
    assert called.value["text"] == "# payments: connection pool exhausted\n"
    assert events(client) == [called.run]
    assert called.trace.is_file()


def test_a_refused_call_is_a_result_with_a_code_and_not_an_exception(client: Remit) -> None:
    called = client.call("files.read", SECRET, agent="triage")
    assert not called.ok
    assert called.value is None
    assert called.error is not None
    assert called.error.code == "policy_denied"
    assert client.call("files.read", '{"path": ', agent="triage").error is not None, "JSON text as a model writes it"


def test_the_client_and_the_command_line_give_the_same_result(client: Remit, session: Path, command: Command) -> None:
    for action, arguments in (("files.read", READ), ("files.read", SECRET), ("files.gone", {}), ("files.read", {})):
        printed = command(session, "call", action, json.dumps(arguments), "--agent", "triage", "--json").json
        del printed["run"], printed["trace"]
        assert client.call(action, arguments, agent="triage").result.model_dump(mode="json") == printed


def test_a_decision_runs_nothing_and_records_nothing(client: Remit) -> None:
    assert client.decide("files.read", READ, agent="triage").verdict == "allow"
    denied = client.decide("files.read", SECRET, agent="triage")
    assert (denied.verdict, denied.reason) == ("deny", "denied_by_rule")
    assert events(client) == []


def test_a_call_that_no_rule_can_decide_raises_its_refusal(client: Remit) -> None:
    for action, arguments, code in (
        ("files.read", {"path": "../a"}, "invalid_arguments"),
        ("files.gone", {}, "unknown_action"),
    ):
        for ask in (client.decide, client.explain):
            with pytest.raises(Refusal) as refused:
                ask(action, arguments, agent="triage")
            assert refused.value.code == code
            assert refused.value.next_step


def test_an_explanation_has_the_resources_and_every_rule_that_matches(client: Remit) -> None:
    explained = client.explain("files.read", SECRET, agent="triage")
    assert [touch.resource for touch in explained.call.touches] == ["file:secrets/payments.env"]
    assert explained.decision == client.decide("files.read", SECRET, agent="triage").model_copy(
        update={"decision_digest": explained.decision.decision_digest}
    )
    assert {rule.says for rule in explained.rules} == {"allows", "denies"}
    assert events(client) == []


def test_the_same_question_has_the_same_answer_while_the_rules_the_user_and_the_minute_are_the_same(
    client: Remit, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    decide = Broker.decide

    def counted(self: Broker, *given: Any, **named: Any) -> Any:
        made.append("one")
        return decide(self, *given, **named)

    def asked(arguments: dict[str, Any] = READ, **named: Any) -> str:
        return client.decide("files.read", arguments, agent="triage", **named).verdict

    now = [1_800_000_000 * NANO]
    monkeypatch.setattr(one_call, "KEPT_S", 1e9)
    monkeypatch.setattr(Broker, "decide", counted)
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    assert [asked() for _ in range(3)] == ["allow"] * 3
    assert len(made) == 1
    assert asked(SECRET) == "deny"
    assert asked({**READ, "lines": 2}) == "allow"
    assert len(made) == 3
    now[0] += 61 * NANO  # a rule may name the time
    assert asked() == "allow"
    assert len(made) == 4
    rules = session / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "p, agent:triage, files.read, file:runbooks/**, True, deny\n")
    monkeypatch.undo()
    until = time.monotonic() + 20
    while asked() == "allow" and time.monotonic() < until:  # an edit is read once it has settled
        time.sleep(0.05)
    assert asked() == "deny"


def test_a_run_is_replayed_from_its_record(client: Remit) -> None:
    ran = client.run("triage", TASK)
    assert ran.outcome == "completed"
    assert "INC-2041" in ran.answer
    assert client.replay(ran.run).reproduced
    assert client.replay(str(ran.trace)).reproduced
    assert remit.build_timeline(client.trace(ran.run).records).outcome == "completed"


def test_a_replay_under_other_rules_differs_where_they_decide_otherwise(client: Remit, session: Path) -> None:
    ran = client.run("triage", TASK)
    rules = session / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "p, agent:triage, files.read, file:logs/**, True, deny\n")
    assert not client.replay(ran.run, policy=Policy.load(session / "policies")).reproduced
    assert client.replay(ran.run).reproduced


def test_a_scope_bounds_one_run(client: Remit) -> None:
    ran = client.run("triage", TASK, scope=Scope(allow=(ScopeEntry(action="files.list"),)))
    timeline = remit.build_timeline(client.trace(ran.run).records)
    assert {call.action for call in timeline.calls if call.error is None} <= {"files.list"}
    assert any(call.error is not None and call.error.code == "policy_denied" for call in timeline.calls)


def test_the_turns_of_a_model_can_be_data(client: Remit) -> None:
    ran = client.run("triage", "look", model=[turn("look", files__read=READ), {"say": "It is the pool."}])
    assert (ran.outcome, ran.answer) == ("completed", "It is the pool.")


class Unfinished:
    name = "mine"

    async def think(self, step: int, messages: Any, tools: Any) -> Any: ...


class Waiting(Unfinished):
    scripted = True

    def think(self, step: int, messages: Any, tools: Any) -> Any: ...


@pytest.mark.parametrize(
    ("model", "what"),
    [(object(), "no name and no scripted and no think"), (Unfinished(), "no scripted"), (Waiting(), "no coroutine")],
)
def test_an_object_that_is_no_model_is_an_error_before_anything_is_recorded(
    client: Remit, model: Any, what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        client.run("triage", TASK, model=model)
    assert events(client) == []


def test_a_closed_client_says_that_it_is_closed(session: Path) -> None:
    with Remit.open(session) as client:
        pass
    for ask in (client.runs, lambda: client.call("files.read", READ, agent="triage")):
        with pytest.raises(UsageError, match="is closed: open its workspace again"):
            ask()


def test_a_stream_yields_each_event_in_order_and_then_has_the_result(client: Remit) -> None:
    with client.stream("triage", TASK) as stream:
        with pytest.raises(UsageError, match="read all events"):
            _ = stream.result
        seen = list(stream)
    assert [item.seq for item in seen] == list(range(len(seen)))
    assert stream.result.outcome == "completed"
    assert tuple(seen) == client.trace(stream.result.run).records
    assert list(stream) == []


def test_a_stream_that_is_left_early_leaves_a_run_that_can_be_resumed(client: Remit) -> None:
    with client.stream("triage", TASK) as stream:
        for item in stream:
            if item.event is not None and item.event.type == "call.answered":
                break
    (left,) = client.runs()
    assert left.state == "ready"
    assert client.resume(left.run[:8]).outcome == "completed"


def test_an_error_before_the_first_event_reaches_the_reader_of_the_stream(client: Remit) -> None:
    with client.stream("triage", TASK, run_id="a" * 32) as first:
        assert len(list(first)) > 1
    with client.stream("triage", TASK, run_id="a" * 32) as second, pytest.raises(UsageError, match="exists already"):
        next(second)


def test_coroutines_use_the_asynchronous_client_with_the_same_methods(session: Path) -> None:
    def public(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in methods if name[0] != "_"}

    assert public(Remit) == public(AsyncRemit)

    async def several() -> list[bool]:
        async with AsyncRemit.open(session) as client:
            async with client.stream("triage", TASK) as stream:
                types = [item.event.type async for item in stream if item.event is not None]
            assert types[0] == "run.started"
            assert types[-1] == "run.finished"
            calls = await asyncio.gather(*(client.call("files.read", READ, agent="triage") for _ in range(4)))
            with Remit.open(session) as waiting, pytest.raises(UsageError, match="AsyncRemit"):
                waiting.runs()
            return [called.ok for called in calls]

    assert asyncio.run(several()) == [True] * 4


def test_a_waiting_call_is_approved_by_name_and_the_run_continues(play: Play) -> None:
    played = play([turn("pay", ledger__pay={"name": "ann", "amount": 5000}), DONE])
    with Remit.open(played.folder) as client:
        (waiting,) = client.approvals()
        assert waiting.place == f"{played.ended.run}/0.0"
        assert 0 < waiting.expires_in_s <= 3600
        with pytest.raises(Refusal, match="approval_invalid"):
            client.approve(waiting, role="role:nobody")
        with pytest.raises(Refusal, match="approval_invalid"):
            client.reject(waiting.place, reason="not mine to say")
        assert client.approvals(), "a refused answer changes nothing"
        with pytest.raises(UsageError, match="matches 0 requests"):
            client.approve(f"{played.ended.run[:8]}/7.0")


def test_a_held_agent_makes_no_call_until_the_hold_is_lifted(client: Remit) -> None:
    client.hold("agent:triage", reason="wrong cluster")
    assert set(client.holds()) == {"agent:triage"}
    held = client.call("files.read", READ, agent="triage")
    assert held.error is not None
    assert held.error.code == "held"
    assert "wrong cluster" in held.error.message
    client.lift("agent:triage")
    with pytest.raises(UsageError, match="make the call again"):  # its arguments are recorded once the agent may act
        client.resume(held.run)
    assert client.call("files.read", READ, agent="triage").ok


@pytest.mark.parametrize("scope", ["agent:triag", "tool:gone", "everything", "", "run:ffff"])
def test_a_hold_on_something_that_does_not_exist_is_an_error(client: Remit, scope: str) -> None:
    with pytest.raises(UsageError):
        client.hold(scope, reason="why")
    assert not client.holds()


def test_a_hold_needs_a_reason(client: Remit) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        client.hold("all", reason="")


def test_rules_that_change_are_in_force_for_an_open_client(client: Remit, session: Path) -> None:
    before = client.policy.digest
    rules = session / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "p, agent:triage, files.read, file:runbooks/**, True, deny\n")
    called = client.call("files.read", READ, agent="triage")
    for _ in range(40):
        if called.error is not None:
            break
        called = client.call("files.read", READ, agent="triage")
    assert called.error is not None
    assert called.error.code == "policy_denied"
    assert client.policy.digest != before


def test_a_workspace_that_is_not_valid_reports_every_problem(session: Path) -> None:
    (session / "policies" / "rules.csv").write_text("p, agent:triage\nnonsense\n")
    (session / "remit.toml").write_text("[run]\nunknown = 1\n")
    with pytest.raises(WorkspaceError) as wrong:
        Remit.open(session)
    assert {problem.file for problem in wrong.value.problems} >= {"policies/rules.csv", "remit.toml"}
    assert all(problem.fix for problem in wrong.value.problems)


@pytest.mark.parametrize("arguments", [{"path": {1, 2}}, {"path": object()}])
def test_arguments_that_are_not_json_data_are_an_error_of_the_caller(
    client: Remit, arguments: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match="not JSON data"):
        client.call("files.read", arguments, agent="triage")
    assert events(client) == []


def test_a_policy_decides_without_a_workspace(session: Path) -> None:
    policy = Policy.load(session / "policies")
    asked = Request(
        subjects=("agent:triage", "user:operator"),
        action="files.read",
        resources=("file:secrets/payments.env",),
        context=remit.Context(),
    )
    assert policy.decide(asked).verdict == "deny"
    assert policy.decide(asked.model_copy(update={"resources": ("file:logs/a.log",)})).verdict == "allow"
    with pytest.raises(UsageError, match="no policy folder"):
        Policy.load(session / "nowhere")


def test_a_sandbox_runs_a_function_without_a_broker(tmp_path: Path) -> None:
    tool, work = tmp_path / "tool", tmp_path / "work"
    for folder in (tool, work):
        folder.mkdir()
    (tool / "main.py").write_text("def size(path: str) -> int:\n    return len(open(path).read())\n")
    (work / "a.txt").write_text("12345")
    (work / "b.txt").write_text("12345")

    async def run() -> tuple[remit.Output, remit.Output]:
        async with remit.Sandbox() as sandbox:
            profile = remit.Profile(
                tool="sizes", action="size", source="python", code=tool, root=work, reads=("a.txt",)
            )
            return await sandbox.run(profile, {"path": "a.txt"}), await sandbox.run(profile, {"path": "b.txt"})

    granted, other = asyncio.run(run())
    assert (granted.code, granted.value) == (None, 5)
    assert other.code is not None


def test_every_error_of_the_package_is_a_remit_error() -> None:
    errors = [getattr(remit, name) for name in remit.__all__]
    kinds = [kind for kind in errors if isinstance(kind, type) and issubclass(kind, Exception)]
    assert RunEnded in kinds
    assert all(issubclass(kind, remit.RemitError) for kind in kinds)
