"""Retries: only if the effect allows them, within one budget for broker and model, and never while the circuit is open."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.broker import circuit_breaker as circuit
from remit.broker import holds as hold
from remit.broker import retries as retry
from remit.broker.retries import FIRST_DELAY_S, LONGEST_DELAY_S
from remit.core.calls import Call, Subjects
from remit.core.errors import Code, Refusal
from remit.core.events import AttemptBegun, AttemptEnded, Recorded
from remit.journal import Journal, open_journal
from remit.runtime import runner as run
from remit.workspace.manifest.manifest import Breaker
from remit.workspace.session import WorkspaceSession, open_session
from support.lifecycle import another, replayed
from support.principals import OPERATOR, principal
from support.runs import DONE, Play, Played, turn
from support.sandbox import below, command
from support.workspaces.web import add

VAULT = turn(ledger__pay={"name": "vault", "amount": 1})
STUCK = turn(ledger__look={"name": "stuck"})


def attempts(played: Played) -> int:
    return sum(isinstance(item.event, AttemptBegun) for item in played.records)


def codes(played: Played, steps: int) -> list[str]:
    return [played.error(step)["code"] for step in range(steps)]


def test_delays_grow_have_full_jitter_and_never_exceed_the_cap() -> None:
    """Full jitter: between zero and the backoff; the highest attempt number does not overflow (F6)."""
    for attempt in (*range(1, 11), 10_000):
        waits = [retry.retry_delay("r", step, 0, attempt) for step in range(200)]
        most = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt - 1, 30))
        assert 0 <= min(waits) < most * 0.1
        assert most * 0.9 < max(waits) <= most
    assert retry.retry_delay("r", 0, 0, 1, asked_s=7.5) == 7.5


def test_a_tool_is_not_retried_before_the_time_that_it_names(play: Play) -> None:
    played = play([turn(ledger__look={"name": "later2"}), DONE])
    waits = [item.event.retry_in_s for item in played.records if isinstance(item.event, AttemptEnded)]
    assert [wait is None or wait >= 0.2 for wait in waits] == [True, True, True]
    assert played.error(0)["retry_after_s"] == 0.2


def test_a_time_too_long_to_wait_for_is_left_to_the_model(play: Play) -> None:
    played = play([turn(ledger__look={"name": "later9000"}), DONE])
    assert attempts(played) == 1
    assert (played.error(0)["retryable"], played.error(0)["retry_after_s"]) == (True, 900.0)
    assert replayed(played).reproduced


def test_the_retries_of_the_broker_and_of_the_model_share_one_budget(play: Play) -> None:
    """Three attempts of each of twenty calls would be sixty; the tool runs six times in all (F2, F5)."""
    jittered = [turn(ledger__look={"name": "stuck", "text": f"please {number}"}) for number in range(9)]
    played = play([*jittered, DONE])
    assert attempts(played) == 6
    assert codes(played, 9) == ["tool_failed"] * 2 + ["budget_exhausted"] * 7
    assert played.error(2)["details"] == {"limit": "tries", "of": 6}
    assert replayed(played).reproduced


def test_failed_tries_of_one_call_do_not_block_another(play: Play) -> None:
    played = play([STUCK, STUCK, STUCK, turn(ledger__look={"name": "ann"}), DONE])
    assert played.result(3)["ok"]


def test_a_success_resets_the_count_of_tries(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two failures and a success the count starts again: only consecutive tries count."""
    played = play([turn(ledger__look={"name": f"busy{n}"}) for n in range(5)] + [DONE], budget="tries = 2")
    assert all(played.result(step)["ok"] for step in range(5))


def test_the_number_of_retries_of_a_run_is_limited(play: Play) -> None:
    turns = [turn(ledger__look={"name": f"stuck{number}"}) for number in range(4)]
    played = play([*turns, turns[0], DONE], budget="retries = 3")
    assert attempts(played) == 4 + 3
    assert played.error(4)["details"] == {"limit": "retries", "of": 3}


def test_a_refused_call_that_is_repeated_ends_as_denial_loop(play: Play) -> None:
    """Calls with other arguments count too; the code changes to `denial_loop`, and the run ends (F3)."""
    jittered = [turn(ledger__pay={"name": "vault", "amount": amount}) for amount in range(1, 13)]
    played = play([*jittered, DONE])
    assert codes(played, 10) == ["policy_denied"] * 6 + ["denial_loop"] * 4
    assert played.ended.finished is not None
    assert (played.ended.finished.outcome, played.ended.finished.code) == ("stopped", "denial_loop")
    assert played.effects == []
    assert replayed(played).reproduced


def test_occasional_denials_do_not_end_the_run(play: Play) -> None:
    look = turn(ledger__look={"name": "ann"})
    played = play([VAULT, look] * 5 + [DONE])
    assert played.ended.finished is not None
    assert played.ended.finished.outcome == "completed"


def test_calls_with_invalid_arguments_are_counted_too(play: Play) -> None:
    broken = [{"say": "x", "calls": [{"ledger__pay": "{" * number}]} for number in range(1, 9)]
    assert codes(play([*broken, DONE]), 8) == ["invalid_arguments"] * 6 + ["denial_loop"] * 2


# ── circuit breakers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_circuit_of_a_failing_tool_is_open_in_every_run(play: Play) -> None:
    crashes = [turn(ledger__look={"name": "crash", "text": str(number)}) for number in range(5)]
    played = play([*crashes, turn(ledger__look={"name": "ann"}), DONE])
    assert codes(played, 6) == ["tool_crashed"] * 5 + ["circuit_open"]
    assert 0 < played.error(5)["retry_after_s"] <= 30.1
    other = another(played, [turn(ledger__look={"name": "ann"}), DONE])
    assert other.error(0)["code"] == "circuit_open"
    assert attempts(other) == 0
    assert replayed(played).reproduced
    assert replayed(other).reproduced


def test_a_success_in_between_keeps_the_circuit_closed(play: Play) -> None:
    crash, look = turn(ledger__look={"name": "crash"}), turn(ledger__look={"name": "ann"})
    played = play([*[crash] * 3, look, *[crash] * 2, look, DONE])
    assert played.result(6)["ok"]


def test_a_half_open_circuit_admits_exactly_one_trial_call(tmp_path: Path) -> None:
    """Two processes share one journal. A failed trial opens the circuit for twice as long."""
    call = Call(
        run="a" * 32,
        step=0,
        index=0,
        subjects=Subjects(agent="agent:a", user="user:b"),
        action="web.get",
        arguments={},
        touches=(),
        effect="read",
        manifest="",
        request_digest="",
    )
    now = [time.time_ns()]
    workers = [open_journal(tmp_path / "journal.db", clock=lambda: now[0]) for _ in range(2)]

    def admitted() -> list[bool]:
        found: list[bool] = []
        for worker in workers:
            try:
                asyncio.run(circuit.check_circuit(worker, call, now[0]))
                found.append(True)
            except Refusal as refusal:
                found.append(refusal.code != "circuit_open")
        return found

    def ended(worker: Journal, attempt: int, code: Code | None) -> None:
        asyncio.run(circuit.count_attempt(worker, call, attempt, code, Breaker(failures=2, rest=10.0)))

    for attempt in (1, 2):
        ended(workers[attempt % 2], attempt, "timeout")
    assert admitted() == [False, False]
    now[0] += 10_000_000_000
    assert admitted() == [True, False]
    ended(workers[0], 3, "timeout")
    opened = workers[1].circuits()["web"]
    assert (opened.openings, opened.rests_until - now[0]) == (2, 20_000_000_000)
    assert admitted() == [False, False]
    now[0] += 20_000_000_000
    assert admitted() == [True, False]
    ended(workers[0], 4, None)
    assert admitted() == [True, True]


# ── calls that are ended ───────────────────────────────────────────────────────────────────────────────────────────────


def stopped(folder: Path, scope: str) -> tuple[Played, float]:
    """A run that is put on hold when its call begins, and the seconds until the call ended."""
    opened = open_session(folder)
    began: list[float] = []

    def tell(recorded: Recorded) -> None:
        if recorded.type == "attempt.begun":
            hold.set_hold(opened.journal, scope, why="wrong cluster", by=principal("op"))
            began.append(time.monotonic())
        if recorded.type == "attempt.ended":
            began.append(time.monotonic())

    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model, run="e" * 32)
    ended = asyncio.run(run.start_run(opened, start, on_event=tell))
    return Played(folder=folder, opened=opened, ended=ended), began[1] - began[0]


@pytest.mark.parametrize("scope", ["all", "tool:ledger", "agent:clerk", f"run:{'e' * 32}"])
def test_stop_ends_a_call_that_is_running(clerk: Callable[..., Path], scope: str) -> None:
    """A hold ends a running call too. Its effect stays unknown, so it is not repeated."""
    folder = clerk([turn(ledger__pay={"name": "slow", "amount": 1}), DONE])
    played, seconds = stopped(folder, scope)
    ended = played.opened.journal.get("e" * 32, "attempt.ended/0/0/1")
    assert ended is not None
    assert isinstance(ended.event, AttemptEnded)
    assert (ended.event.code, ended.event.cause, ended.event.landed) == ("outcome_unknown", "cancelled", "unknown")
    assert "wrong cluster" in ended.event.message
    assert seconds < 1.0  # less than the call's own limit
    assert replayed(played).reproduced


SLEEPY = {
    "tool.toml": """
name = "sleepy"
version = "1"
owner = "tests@example.com"
summary = "Begins a file, and sleeps"
[at_most]
write = ["reports/**"]
[limits]
wall = "60s"
[actions.write]
summary = "Begin the file, and sleep before its end"
touches = ["write file:{path}"]
""",
    "main.py": """
import time

def write(path: str) -> str:
    print("begun", flush=True)
    open(path, "w").write("half of it")
    time.sleep(50)
    return "written"
""",
}


def test_stop_reaches_into_the_sandbox_and_leaves_no_process_and_no_half_file(session: Path) -> None:
    """The call is ended while its process sleeps, and its unfinished file is never committed."""
    rules = "p, agent:web, sleepy.*, **, True, allow\np, role:operator, sleepy.*, **, True, allow\n"
    add(session, "sleepy", SLEEPY, rules, [turn(sleepy__write={"path": "reports/a.md"})])
    opened = open_session(session)
    at: dict[str, float] = {}
    alive: list[int] = []
    earlier = set(below(os.getpid()))  # warm tools of other tests

    def stop() -> None:
        alive.extend(set(below(os.getpid())) - earlier)
        hold.set_hold(opened.journal, "tool:sleepy", why="wrong cluster", by=principal("op"))

    def tell(recorded: Recorded) -> None:
        at[recorded.type] = time.monotonic()
        if recorded.type == "attempt.begun":
            threading.Timer(1.0, stop).start()

    model = run.open_model_of(opened, "web")
    start = run.RunRequest(agent="web", task="write", subject="user:operator", by=OPERATOR, model=model)
    played = Played(folder=session, opened=opened, ended=asyncio.run(run.start_run(opened, start, on_event=tell)))
    assert at["attempt.ended"] - at["attempt.begun"] < 20
    error = played.error(0)
    assert (error["code"], error["details"]["effect"], "wrong cluster" in error["message"]) == (
        "cancelled",
        "not_landed",
        True,
    )
    assert not (session / "work/web/reports/a.md").exists()
    assert [pid for pid in alive if pid in below(os.getpid()) and b"bwrap" in command(pid)] == []


def test_stop_ends_the_wait_between_two_attempts(clerk: Callable[..., Path]) -> None:
    """F6: the tool asked for a delay of four seconds; a hold ends the delay."""
    folder = clerk([turn(ledger__look={"name": "later40"}), DONE])
    opened = open_session(folder)
    at: dict[str, float] = {}

    def tell(recorded: Recorded) -> None:
        at.setdefault(recorded.type, time.monotonic())
        if recorded.type == "attempt.ended":
            hold.set_hold(opened.journal, "tool:ledger", why="wrong cluster", by=principal("op"))

    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="look", subject="user:operator", by=OPERATOR, model=model)
    played = Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start, on_event=tell)))
    assert at["call.answered"] - at["attempt.ended"] < 2.0
    assert (played.error(0)["code"], attempts(played)) == ("held", 1)
    assert replayed(played).reproduced


def test_a_call_is_ended_when_the_time_limit_of_the_run_passes(play: Play) -> None:
    played = play([turn(ledger__look={"name": "slow"}), DONE], budget='wall = "300ms"')
    assert played.error(0)["code"] in ("timeout", "budget_exhausted")
    assert played.ended.finished is not None
    assert (played.ended.finished.outcome, played.ended.finished.code) == ("exhausted", "budget_exhausted")
    assert replayed(played).reproduced


class SilentModel:
    """A model that never answers."""

    name = "script:script.yaml"
    scripted = True

    async def think(self, step: int, messages: Any, tools: Any) -> Any:
        await asyncio.Event().wait()


@pytest.mark.parametrize("held", [True, False])
def test_a_model_that_never_answers_is_cancelled(clerk: Callable[..., Path], held: bool) -> None:
    """By a hold of an operator, or by the time limit of the run. Calling the model again repeats no effect."""
    folder = clerk([DONE], budget="" if held else 'wall = "300ms"')
    opened: WorkspaceSession = open_session(folder)

    def tell(recorded: Recorded) -> None:
        if held and recorded.type == "model.requested":
            hold.set_hold(opened.journal, "all", why="look", by=principal("op"))

    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=SilentModel())
    ended = asyncio.run(run.start_run(opened, start, on_event=tell))
    assert (ended.finished is None) is held
    assert ended.finished is None or ended.finished.code == "budget_exhausted"
    assert replayed(Played(folder=folder, opened=opened, ended=ended)).reproduced
