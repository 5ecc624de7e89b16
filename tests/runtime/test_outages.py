"""A run outlives its provider: it waits, asks again, or asks the next model, and nothing that landed is done again."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from remit.broker import holds as hold
from remit.core.events import NANO, ModelFailed, Recorded
from remit.core.messages import Message, ModelError, ModelTurn, ToolSpec
from remit.journal import RunQuery, find_run, list_runs
from remit.runtime import runner as run
from remit.runtime.models import model_list
from remit.runtime.models.model_list import ModelList
from remit.tracing import open_trace
from remit.tracing.reports import incident_report
from remit.workspace.session import open_session
from support.lifecycle import RUN, resumed_after_kill
from support.openai_server import Reply
from support.outages import (
    LOOK,
    PAY,
    BackLater,
    Unsteady,
    asked,
    busy,
    completed,
    ended,
    failures_of,
    replayed_from_journal,
    replies,
    started,
)
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Played, turn
from support.wire_player import WirePlayer, call, calls, delta, document, says, stream

pytestmark = pytest.mark.usefixtures("soon")

Clerk = Callable[..., Path]
PAID = ("ledger__pay", '{"name": "ann", "amount": 5}')


# -- it waits, and goes on by itself -----------------------------------------------------------------------------------


def test_a_run_goes_on_by_itself_after_its_provider_failed_in_passing(clerk: Clerk) -> None:
    """Before the first turn, twice after a payment, and before the answer."""
    failing = {0: busy(), 2: busy("dropped"), 3: busy("529"), 5: busy()}
    played = ended(clerk([PAY, LOOK, DONE]), failing)
    completed(played)
    assert [(item.step, item.attempt, item.passing) for item in failures_of(played)] == [
        (0, None, True),
        (1, None, True),
        (1, 2, True),
        (2, None, True),
    ]
    assert [step for step, _ in asked(played)] == [0, 0, 1, 1, 1, 2, 2]


def test_the_time_that_the_provider_states_is_waited(clerk: Clerk) -> None:
    played = ended(clerk([PAY, DONE]), {1: busy(after=0.6)})
    completed(played)
    (failed,) = [item for item in played.records if isinstance(item.event, ModelFailed)]
    (again,) = [item for item in played.records if item.key == "model.requested/1/-/2"]
    assert isinstance(failed.event, ModelFailed)
    assert failed.event.again_at is not None
    assert 0.5 * NANO < failed.event.again_at - failed.at <= 0.6 * NANO
    assert again.at >= failed.event.again_at


def test_waiting_for_a_model_does_not_use_the_time_budget(clerk: Clerk) -> None:
    """Neither while it waits, nor at a later turn."""
    played = ended(clerk([PAY, LOOK, LOOK, DONE], budget='wall = "1s"'), {1: busy(after=1.3)})
    completed(played)


def test_the_time_budget_still_ends_a_run_whose_model_is_slow(clerk: Clerk) -> None:
    """The model fails, comes back, and then does not answer."""

    class Slow(Unsteady):
        async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
            if self.asked >= 2:
                await asyncio.sleep(30)
            return await super().think(step, messages, tools)

    folder = clerk([PAY, DONE], budget='wall = "1s"')
    opened = open_session(folder)
    model = Slow(run.open_model_of(opened, "clerk"), {1: busy()})
    request = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model, run=RUN)
    result = asyncio.run(run.start_run(opened, request))
    assert (result.outcome, result.finished.code if result.finished else "") == ("exhausted", "budget_exhausted")
    assert replayed_from_journal(opened).divergences == ()


def test_each_further_failure_is_waited_twice_as_long_and_an_answer_starts_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_list, "FIRST_S", 1.0)

    class Named:
        name, scripted = "openai:x", False

    model: Any = Named()
    models = ModelList([model])

    def pause(failure: ModelError) -> float:
        again = models.failed(0, None, model, failure)
        assert again is not None
        return (again - time.time_ns()) / NANO

    pauses = [pause(busy()) for _ in range(9)]
    for count, seconds in enumerate(pauses):
        assert min(2**count, 60) * 0.7 < seconds < min(2**count, 60) * 1.3
    assert models.choose(0, None, "") is None
    models.answered(model)
    assert pause(busy()) < 1.3
    assert 86399 < pause(busy(after=86400.0)) <= 86400
    assert pause(busy(after=1e12)) <= 30 * 86400
    for meaningless in (0.0, -5.0, float("nan")):
        models.answered(model)
        assert 0.7 < pause(busy(after=meaningless)) < 1.3


# -- over HTTP ---------------------------------------------------------------------------------------------------------


def served(clerk: Clerk, address: str, monkeypatch: pytest.MonkeyPatch, *, budget: str = "") -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    folder = clerk([], budget=budget)
    agent = folder / "agent/clerk/agent.toml"
    named = f'model = "openai:any"\nbase_url = "{address}"'
    agent.write_text(agent.read_text().replace('model = "script:script.yaml"', named))
    return folder


OUTAGES = {
    "529": Reply(status=529, message="Overloaded"),
    "503": Reply(status=503, message="Service Unavailable"),
    "429": Reply(status=429, message="Rate limit reached"),
    "dropped": Reply(text="I will now look at", ending="broken"),
}


@pytest.mark.parametrize("failure", OUTAGES.values(), ids=OUTAGES)
def test_an_outage_after_a_payment_is_waited_for_and_the_payment_is_made_once(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch, failure: Reply
) -> None:
    with BackLater(replies(PAID), failure=failure, seconds=0.5) as server:
        folder = served(clerk, server.base_url, monkeypatch)
        opened = open_session(folder)
        request = run.RunRequest(
            agent="clerk",
            task="pay ann",
            subject="user:operator",
            by=OPERATOR,
            model=run.open_model_of(opened, "clerk"),
            run=RUN,
        )
        result = asyncio.run(run.start_run(opened, request))
    played = Played(folder=folder, opened=opened, ended=result)
    completed(played)
    assert server.failures == len(failures_of(played)) >= 1
    assert server.failures + server.played == len(asked(played))


def test_an_error_in_the_middle_of_a_stream_and_a_stated_time_are_waited_for(
    clerk: Clerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream begins with 200 and ends with an error event; then the provider says when to come back."""
    overloaded = {"error": {"message": "Overloaded", "type": "overloaded_error"}}
    answers = [
        calls(call("ledger__pay", '{"name": "ann", "amount": 5}', index=0, id="c1")),
        stream(delta(content="I will now look at"), overloaded),
        document(overloaded, status=429, retry_after="1"),
        says("done"),
    ]
    with WirePlayer(answers) as player:
        folder = served(clerk, player.base_url, monkeypatch)
        opened = open_session(folder)
        model = run.open_model_of(opened, "clerk")
        request = run.RunRequest(
            agent="clerk", task="pay ann", subject="user:operator", by=OPERATOR, model=model, run=RUN
        )
        result = asyncio.run(run.start_run(opened, request))
    played = Played(folder=folder, opened=opened, ended=result)
    completed(played)
    first, second = failures_of(played)
    assert "Overloaded" in first.message
    (at,) = [item.at for item in played.records if item.event == second]
    assert second.again_at is not None
    assert 0.5 * NANO < second.again_at - at < 1.5 * NANO


def test_a_provider_that_is_back_after_five_seconds_costs_five_seconds(
    clerk: Clerk, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the waits of a user: the command line, in a process of its own."""
    with BackLater(replies(PAID), failure=OUTAGES["529"], seconds=5.0) as server:
        result = command(served(clerk, server.base_url, monkeypatch), "run", "clerk", "pay ann", timeout=60)
    assert result.code == 0, result.out + result.err
    assert "the model failed: 'openai:any'" in result.out
    assert "asks again in" in result.out
    assert 2 <= server.failures <= 5
    assert server.played == 2


# -- it is killed, or pauses, and is resumed ---------------------------------------------------------------------------


@pytest.mark.parametrize("dies_at", ["model.failed", "model.requested", "attempt.ended"])
def test_a_run_that_is_killed_around_an_outage_is_resumed_and_pays_once(clerk: Clerk, dies_at: str) -> None:
    folder = clerk([PAY, DONE])
    assert started(folder, {0: busy(), 2: busy(after=3600.0)}, dies_at=dies_at) is None
    completed(resumed_after_kill(folder))


def test_a_process_that_is_killed_while_it_waits_loses_nothing(clerk: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of a process that waits for its provider, after the payment."""
    with BackLater(replies(PAID), failure=OUTAGES["503"], seconds=3600.0) as server:
        folder = served(clerk, server.base_url, monkeypatch)
        path = os.pathsep.join([str(folder / "hosted"), *filter(None, sys.path)])
        with subprocess.Popen(
            [sys.executable, "-m", "remit", "run", "clerk", "pay ann", "--run-id", RUN],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
        ) as process:
            until = time.monotonic() + 60
            while time.monotonic() < until and not is_waiting(folder):
                assert process.poll() is None
                time.sleep(0.1)
            process.kill()
        assert is_waiting(folder)
        server.seconds = 0.0
        completed(resumed_after_kill(folder))


def is_waiting(folder: Path) -> bool:
    if not (folder / "traces").exists():
        return False
    opened = open_session(folder)
    try:
        row = find_run(opened.journal, RUN)
        return row is not None and row.state == "waiting: model"
    finally:
        opened.journal.close()


def test_a_run_that_waits_is_listed_and_shown_as_waiting_for_its_model(clerk: Clerk, command: Command) -> None:
    folder = clerk([PAY, DONE])
    assert started(folder, {1: busy("over capacity", after=3600.0)}, dies_at="model.failed") is None
    opened = open_session(folder)
    row = find_run(opened.journal, RUN)
    assert row is not None
    assert row.state == "waiting: model"
    assert [run.run for run in list_runs(opened.journal, RunQuery(state="waiting: model"))] == [RUN]
    listed = command(folder, "trace", "list", "--state", "waiting: model").out
    assert listed.startswith(RUN[:8])
    assert "waiting: model" in listed
    assert command(folder, "trace", "list", "--state", "finished").out == "no runs match the filters\n"
    shown = command(folder, "trace", "show", RUN).out
    assert shown.startswith("waiting: model")
    assert "for script:script.yaml, which failed: over capacity" in shown
    assert "again after 36" in shown
    assert f"remit run --resume {RUN[:8]}" in shown
    assert incident_report(open_trace(opened.traces, opened.journal, RUN), opened).state == "waiting: model"
    result = replayed_from_journal(opened)
    assert (result.divergences, result.complete) == ((), False)


def test_a_run_waits_no_longer_than_its_agent_allows_and_is_then_paused(clerk: Clerk, command: Command) -> None:
    """A quota that is back in an hour: the process does not wait for it, the run is not lost, and a person can go on at once."""
    played = ended(clerk([PAY, DONE]), {1: busy("quota", after=3600.0)})
    assert (played.ended.outcome, played.ended.finished) == (None, None)
    assert played.ended.model_wait is not None
    assert played.ended.model_wait.message.startswith("quota")
    completed(resumed_after_kill(played.folder))


def test_the_waits_of_several_steps_together_are_no_longer_than_the_agent_allows(clerk: Clerk) -> None:
    """The second wait alone would be short enough. Another process may wait again."""
    failing = {0: busy(after=0.6), 2: busy("still busy", after=0.6)}
    played = ended(clerk([PAY, DONE], budget='model_wait = "1s"'), failing)
    assert played.ended.model_wait is not None
    assert played.ended.model_wait.step == 1
    assert played.ended.model_wait.message.startswith("still busy")
    completed(resumed_after_kill(played.folder))


def test_several_failures_in_one_step_are_waited_for_no_longer_than_the_agent_allows(clerk: Clerk) -> None:
    failing = {number: busy() for number in range(1, 50)}
    began = time.monotonic()
    played = ended(clerk([PAY, DONE], budget='model_wait = "300ms"'), failing)
    assert time.monotonic() - began < 5
    assert played.ended.model_wait is not None
    assert 2 <= len(failures_of(played)) <= 6
    completed(resumed_after_kill(played.folder))


def test_a_paused_run_says_until_when_it_waits_and_how_to_go_on(
    clerk: Clerk, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BackLater(replies(PAID), failure=OUTAGES["503"], seconds=3600.0) as server:
        folder = served(clerk, server.base_url, monkeypatch, budget='model_wait = "1ms"')
        result = command(folder, "run", "clerk", "pay ann")
        assert result.code == 1
        assert "\nwaiting\n" in result.out
        assert "waits until 20" in result.out
        assert "remit run --resume" in result.out
        name = result.out.split()[1]
        server.seconds = 0.0
        again = command(folder, "run", "--resume", name, "--json")
        assert (again.code, again.json["outcome"], again.json["model_wait"]) == (0, "completed", None)


def test_a_program_reads_that_a_run_waits_for_its_model(
    clerk: Clerk, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BackLater(replies(PAID), failure=OUTAGES["503"], seconds=3600.0) as server:
        folder = served(clerk, server.base_url, monkeypatch, budget='model_wait = "1ms"')
        paused = command(folder, "run", "clerk", "pay ann", "--json")
    assert (paused.code, paused.json["outcome"], paused.json["held"]) == (1, "waiting: model", None)
    assert paused.json["model_wait"]["model"] == "openai:any"


def test_a_hold_ends_the_wait_for_a_model(clerk: Clerk) -> None:
    folder = clerk([PAY, DONE])

    def seen(recorded: Recorded) -> None:
        if isinstance(recorded.event, ModelFailed):
            threading.Timer(0.5, stop).start()

    def stop() -> None:
        hold.set_hold(open_session(folder).journal, "agent:clerk", why="audit", by=principal("op"))

    began = time.monotonic()
    played = started(folder, {1: busy(after=60.0)}, seen=seen)
    assert played is not None
    assert time.monotonic() - began < 30
    assert (played.ended.outcome, played.ended.held is not None) == (None, True)
    hold.lift_hold(played.opened.journal, "agent:clerk", by=principal("op"))
    completed(resumed_after_kill(folder))


@pytest.mark.parametrize("seed", range(20))
def test_runs_with_random_outages_and_kills_pay_each_payment_once_and_are_reproduced(clerk: Clerk, seed: int) -> None:
    """Up to five failures, and a process that dies at some event, then up to five resumptions."""
    payments = [turn(ledger__pay={"name": name, "amount": 5}) for name in ("ann", "ben", "cid")]
    kinds = ["model.requested", "model.failed", "model.responded", "call.decided", "call.answered"]
    chance = random.Random(seed)
    folder = clerk([*payments, DONE])
    failing = {chance.randrange(9): busy() for _ in range(5)}
    played = started(folder, failing, dies_at=chance.choice(kinds))
    for _ in range(5):
        if played is not None and played.ended.finished is not None:
            break
        played = resumed_after_kill(folder)
    assert played is not None
    completed(played, payments=3)
