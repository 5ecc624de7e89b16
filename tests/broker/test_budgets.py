"""Budgets and shared limits: checked before the effect, charged once, and counted across processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.claims import Claim, Exhausted
from remit.core.errors import Problem, WorkspaceError
from remit.core.events import BudgetSpent, Usage
from remit.journal import open_journal
from remit.workspace.limits import read_limits
from support.events import claim
from support.lifecycle import PRICE, TAKES, another, grant, metered, replayed, resumed
from support.runs import DONE, Play, Played, turn


def pays(*names: str) -> dict[str, Any]:
    return {"say": "x", "calls": [{"ledger__pay": {"name": name, "amount": 1}} for name in names]}


def limit(of: str, most: Any, per: str = "1h", **more: str) -> str:
    rest = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return f'[[limit]]\nnote = "So much is enough"\nof = "{of}"\nmost = {json.dumps(most)}\nper = "{per}"\n{rest}\n'


def names(played: Played) -> list[str]:
    return sorted(row["name"] for row in played.effects)


def test_calls_beyond_a_shared_limit_are_refused_in_the_models_order_with_the_time_to_wait(play: Play) -> None:
    played = play([pays("a", "b", "c", "d"), DONE], limits=limit("calls", 2, action="ledger.*"))
    assert names(played) == ["a", "b"]
    assert [played.error(0, index)["code"] for index in (2, 3)] == ["rate_limited"] * 2
    error = played.error(0, 2)
    assert (error["retryable"], 3500 < error["retry_after_s"] <= 3660.1) == (True, True)
    assert error["message"] == "the limit of 2 calls in 3600 s is used up: So much is enough"
    assert replayed(played).reproduced


def test_a_limit_is_shared_by_all_runs_and_by_none_that_it_does_not_cover(play: Play) -> None:
    played = play([pays("a"), DONE], limits=limit("calls", 1, action="ledger.pay"))
    other = another(
        played, [{"say": "x", "calls": [*pays("b")["calls"], {"ledger__wire": {"name": "c", "amount": 1}}]}, DONE]
    )
    assert names(other) == ["a", "c"]
    assert other.error(0, 0)["code"] == "rate_limited"
    assert replayed(other).reproduced


def test_a_limit_for_each_run_is_counted_for_each(play: Play) -> None:
    played = play([pays("a", "b"), DONE], limits=limit("calls", 1, each="run"))
    assert names(another(played, [pays("c", "d"), DONE])) == ["a", "c"]


@pytest.mark.parametrize(
    ("whom", "passed"),
    [
        pytest.param({}, "a", id="all together"),
        pytest.param({"each": "user"}, "ad", id="each user"),
        pytest.param({"each": "action"}, "ac", id="each action"),
        pytest.param({"user": "user:lea"}, "abcd", id="one user"),
        pytest.param({"action": "ledger.pay", "each": "user"}, "acd", id="one action of each user"),
    ],
)
def test_a_limit_is_counted_for_the_subjects_that_it_names(play: Play, whom: dict[str, str], passed: str) -> None:
    """Three runs: one of the operator, another one of the operator with two actions, and one of Lea."""
    played = play([pays("a"), DONE], limits=limit("calls", 1, **whom))
    wire = {"ledger__wire": {"name": "c", "amount": 1}}
    another(played, [{"say": "x", "calls": [*pays("b")["calls"], wire]}, DONE])
    assert names(another(played, [pays("d"), DONE], user="user:lea")) == list(passed)


def test_a_call_that_is_refused_uses_no_budget(play: Play) -> None:
    """A budget is charged for executed calls, not for proposed ones (F4)."""
    played = play([pays("vault"), pays("a"), pays("a"), DONE], limits=limit("calls", 2))
    assert [played.result(step)["ok"] for step in (0, 1, 2)] == [False, True, True]


def test_an_approved_call_spends_when_it_is_approved_and_only_once(play: Play) -> None:
    large = turn(ledger__pay={"name": "ann", "amount": 5000})
    played = play([large, pays("ben"), DONE], limits=limit("calls", 1))
    assert [item for item in played.records if isinstance(item.event, BudgetSpent)] == []
    grant(played, "user:lea")
    after = resumed(played)
    assert names(after) == ["ann"]
    assert after.error(1)["code"] == "rate_limited"
    assert replayed(after).reproduced


def test_time_and_bytes_are_reserved_at_their_maximum_and_returned_after_the_call(play: Play) -> None:
    """Each call reserves one of two seconds, so the third call of one step is refused and a later one runs."""
    looks = {"say": "x", "calls": [{"ledger__look": {"name": name}} for name in "abc"]}
    played = play(
        [looks, turn(ledger__look={"name": "d"}), DONE], limits=limit("seconds", "2s") + limit("bytes", "1MiB")
    )
    assert [played.result(0, index)["ok"] for index in range(3)] == [True, True, False]
    assert played.error(0, 2)["code"] == "budget_exhausted"
    assert played.result(1)["ok"]
    spent = [item.event for item in played.records if isinstance(item.event, BudgetSpent)]
    used = {
        key.partition("/")[0]: amount for one in spent if one.phase == "used" for key, amount in one.amounts.items()
    }
    assert used["seconds"] < 1000
    assert 0 < used["bytes"] < 100
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    ("budget", "limits", "turns"),
    [
        pytest.param("tokens = 3000", "", 3, id="tokens of a run"),
        pytest.param("money = 0.0037", "", 2, id="money of a run"),
        pytest.param("", limit("tokens", 2000), 2, id="tokens of all runs"),
        pytest.param("", limit("money", 0.005, agent="clerk"), 3, id="money of one agent"),
    ],
)
def test_a_run_ends_when_its_model_has_spent_enough(
    clerk: Callable[..., Path], budget: str, limits: str, turns: int
) -> None:
    played = metered(clerk([DONE], budget=budget, limits=limits, prices=PRICE), TAKES)
    assert played.ended.finished is not None
    assert (played.ended.finished.outcome, played.ended.finished.code) == ("exhausted", "budget_exhausted")
    assert sum(item.type == "model.responded" for item in played.records) == turns
    assert replayed(played).reproduced


def test_a_model_that_reports_no_tokens_is_not_called_again_under_a_limit(clerk: Callable[..., Path]) -> None:
    played = metered(clerk([DONE], budget="tokens = 1000000"), Usage())
    assert played.ended.finished is not None
    assert "does not report its tokens" in played.ended.finished.message


def test_results_of_one_step_cannot_pass_a_budget_of_bytes_together(play: Play) -> None:
    """Each can return 64 KiB: two fit into 128 KiB, whatever they really return."""
    looks = {"say": "x", "calls": [{"ledger__look": {"name": name}} for name in "abc"]}
    played = play([looks, turn(ledger__look={"name": "d"}), DONE], budget='output = "130KiB"')
    assert [played.result(0, index)["ok"] for index in range(3)] == [True, True, False]
    assert played.error(0, 2)["details"]["limit"] == "output"
    assert played.result(1)["ok"]


# ── the store ────────────────────────────────────────────────────────────────────────────────────────────────────────

WORKER = """
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from remit.core.events import BudgetSpent
from remit.journal import StoredRecord, open_journal
from remit.core.claims import Claim, Exhausted

journal, number = open_journal(Path(sys.argv[1])), int(sys.argv[2])
one = Claim(scope="calls/*", amount=1, most=100, window_ns=3600 * 10**9)
print("ready", flush=True)
sys.stdin.readline()

def spend(call):
    try:
        spent = BudgetSpent(step=0, index=0, phase="reserved", at=1, amounts={"calls/*": 1}, windows={})
        asyncio.run(StoredRecord(journal, f"{number}-{call}").append_claimed(spent, [one]))
    except Exhausted:
        return 0
    return 1

with ThreadPoolExecutor(16) as pool:
    print(sum(pool.map(spend, range(500))), flush=True)
"""


def test_of_a_thousand_concurrent_calls_in_two_processes_exactly_a_hundred_pass(tmp_path: Path) -> None:
    store = tmp_path / "journal.db"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(store), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready\n"] * 2
    passed = [int(worker.communicate("go\n", timeout=120)[0]) for worker in workers]
    assert sum(passed) == 100


def test_a_limit_frees_up_as_its_window_moves_on(tmp_path: Path) -> None:
    """A sliding window, so there is no burst of twice the limit at the edge of two windows."""
    now = [time.time_ns()]
    journal = open_journal(tmp_path / "journal.db", clock=lambda: now[0])
    one = Claim(scope="s", amount=1, most=2, window_ns=10)

    def spend(number: int) -> int | None:
        try:
            spent = BudgetSpent(step=0, index=0, phase="reserved", at=1, amounts={"s": 1}, windows={})
            claim(journal, f"r{number}", spent, one)
        except Exhausted as exhausted:
            return (exhausted.free_at or 0) - now[0]
        return None

    assert [spend(1), spend(2)] == [None, None]
    now[0] += 4
    assert spend(3) == 6
    now[0] += 6
    assert [spend(4), spend(5), spend(6)] == [None, None, 10]
    assert journal.events("r3") == []  # a refused claim is not recorded


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def problems(text: str) -> list[Problem]:
    with pytest.raises(WorkspaceError) as error:
        read_limits(text, actions=["ledger.pay"], agents=["clerk"])
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (limit("calls", "many"), 4, "'most' is 'many', which is not an amount of calls"),
        (limit("calls", -1), 4, "'most' is -1, which is not an amount of calls"),
        (limit("seconds", 5), 4, "'most' is 5, which is not an amount of seconds"),
        (limit("bytes", "10MB"), 4, "'most' is '10MB', which is not an amount of bytes"),
        (limit("calls", 1, per="soon"), 5, "not a duration"),
        (limit("calls", 1, action="ledger.burn"), 6, "'action' is 'ledger.burn', which no tool has"),
        (limit("calls", 1, agent="nobody"), 6, "'agent' is 'nobody', which is not an agent"),
        (limit("tokens", 1, action="ledger.pay"), 3, "turns of the model use tokens"),
        (limit("calls", 1, whom="all"), 6, "whom"),
        ("[[limit]]\nof = 'calls'\n", 1, "note"),
        ("[[limits]]\n", 1, "limits"),
    ],
)
def test_a_limit_that_limits_nothing_is_reported_with_its_line(text: str, line: int, what: str) -> None:
    found = problems(text)
    assert what in " ".join(problem.what for problem in found)
    assert line in [problem.line for problem in found]
    assert all(problem.fix for problem in found)
