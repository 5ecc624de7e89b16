"""`remit targets` compares times and costs with what they should be, and names the action whose target is passed."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core import WorkspaceError
from remit.evals.monitoring import forecast
from remit.workspace import load_workspace
from support.events import EPOCH
from support.live_runs import NANO, LiveRun, write_runs
from support.runs import Remit

DAY_NS: Final = 86400 * NANO


def with_target(folder: Path, *, agent: str = "", action: str = "") -> None:
    """Write these targets into the files of `triage`, and of the action `files.read`."""
    if agent:
        path = folder / "agent/triage/agent.toml"
        path.write_text(f"{path.read_text()}\n[target]\n{agent}\n")
    if action:
        path = folder / "tools/files/tool.toml"
        path.write_text(f"{path.read_text()}\n[actions.read.target]\n{action}\n")


def recent(count: int, **changes: Any) -> list[LiveRun]:
    now = time.time_ns()
    return [LiveRun(number=number, begin=now - (count - number) * 60 * NANO, **changes) for number in range(count)]


def compared(remit: Remit, *args: str) -> tuple[int, dict[str, tuple[str, float | None]]]:
    """The exit code; and by target its state and the value."""
    done = remit("targets", "--json", *args)
    rows = done.json["targets"]
    return done.code, {f"{row['measure']} of {row['action']}": (row["state"], row["value"]) for row in rows}


def test_a_target_that_is_passed_exits_1_raises_an_alert_and_names_the_action(session: Path, remit: Remit) -> None:
    with_target(session, agent='p95 = "2s"', action='p95 = "250ms"')
    write_runs(session, recent(30, call_s=0.4))
    code, states = compared(remit, "--alert")
    assert code == 1
    assert states == {"p95 of runs": ("met", 1.0), "p95 of files.read": ("passed", pytest.approx(0.4))}
    (alert,) = remit("alert", "list", "--json").json
    assert alert["alert"] == "target:triage:p95 of files.read"
    assert alert["text"] == "p95 of files.read is 0.4 s, and its target is 0.25 s"
    assert "passed    triage: p95 of files.read is 0.4 s" in remit("targets").out


def test_an_alert_ends_when_its_target_is_met_again(session: Path, remit: Remit) -> None:
    with_target(session, action='p95 = "250ms"')
    write_runs(session, recent(30, call_s=0.4))
    assert remit("targets", "--alert").code == 1
    path = session / "tools/files/tool.toml"
    path.write_text(path.read_text().replace('p95 = "250ms"', 'p95 = "1s"'))
    assert remit("targets", "--alert").code == 0
    assert remit("alert", "list", "--json").json == []


def test_a_target_is_no_permission_so_its_change_needs_no_review(session: Path) -> None:
    with_target(session, action='p95 = "250ms"')
    assert load_workspace(session).tools["files"].pinned


def test_too_few_runs_and_costs_that_are_not_known_meet_no_target(session: Path, remit: Remit) -> None:
    with_target(session, agent='p95 = "2s"\nmoney_per_month = 5')
    write_runs(session, recent(19, cost=None))
    assert compared(remit) == (0, {"p95 of runs": ("unknown", None), "money_per_month of runs": ("unknown", None)})


def test_money_of_a_run_and_of_a_month_are_compared(session: Path, remit: Remit) -> None:
    with_target(session, agent="money_per_run = 0.2\nmoney_per_month = 5", action="money_per_month = 7")
    write_runs(session, recent(30, cost=Decimal("0.25")))
    code, states = compared(remit)
    assert code == 1
    assert states == {
        "money_per_run of runs": ("passed", 0.25),
        "money_per_month of runs": ("passed", 7.5),
        "money_per_month of files.read": ("passed", 7.5),
    }


def test_a_month_that_will_be_too_expensive_is_expected(session: Path, remit: Remit) -> None:
    """The first three weeks cost 10, 10 and 40; the next 30 days may have more weeks like the last one."""
    with_target(session, agent="money_per_month = 70")
    now = time.time_ns()
    costs = [*("10",) * 2, "40"]
    write_runs(
        session,
        [
            LiveRun(number=week, begin=now - (3 - week) * 7 * DAY_NS, cost=Decimal(cost))
            for week, cost in enumerate(costs)
        ],
    )
    done = remit("targets", "--json")
    (row,) = done.json["targets"]
    assert (done.code, row["state"], row["value"]) == (1, "expected", 60)
    assert row["forecast"] > 70


def of_weeks(costs: Sequence[str | None]) -> float | None:
    """The forecast after one run a week, the oldest first."""
    runs = [
        LiveRun(number=week, begin=EPOCH + week * 7 * DAY_NS, cost=None if cost is None else Decimal(cost)).summary
        for week, cost in enumerate(costs)
    ]
    return forecast(runs, EPOCH + len(costs) * 7 * DAY_NS)


def test_a_forecast_needs_two_weeks_and_every_cost() -> None:
    assert of_weeks([]) is None
    assert of_weeks(["10"]) is None
    assert of_weeks(["10", None]) is None
    assert of_weeks(["10", "10"]) == pytest.approx(10 * 30 / 7)


def test_a_forecast_lies_above_nine_of_ten_months_of_such_weeks() -> None:
    chance = random.Random(0)
    weeks = [f"{chance.uniform(5, 15):.2f}" for _ in range(8)]
    expected = of_weeks(weeks)
    assert expected is not None
    months = [
        sum(float(chance.choice(weeks)) for _ in range(4)) + float(chance.choice(weeks)) * 2 / 7 for _ in range(4000)
    ]
    assert 0.87 <= sum(month <= expected for month in months) / len(months) <= 0.93


def test_a_target_that_is_no_time_or_no_amount_is_an_error_with_its_line(session: Path) -> None:
    with_target(session, agent='p95 = "soon"\nmoney_per_run = 0')
    with pytest.raises(WorkspaceError) as refused:
        load_workspace(session)
    assert [(problem.file, problem.line is not None) for problem in refused.value.problems] == [
        ("agent/triage/agent.toml", True)
    ] * 2


def test_an_agent_without_targets_exits_0(session: Path, remit: Remit) -> None:
    write_runs(session, recent(3))
    done = remit("targets")
    assert (done.code, done.out) == (0, "no agent with runs has a target: write [target] in agent.toml\n")
