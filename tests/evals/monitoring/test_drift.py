"""`remit drift` names what changed, since which run, and which change of the workspace fits; an alert stays until it is closed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from remit.evals.monitoring import NO_CAUSE, Definitions, Drift, find_drifts
from remit.journal import check_projections, open_journal
from remit.tracing import MemoryObjects, ObjectStore
from support.live_runs import NANO, LiveRun, stored_bundle, write_runs
from support.runs import Remit

STREAMS: Final = int(os.environ.get("REMIT_DRIFT_STREAMS", "40"))
RUNS: Final = int(os.environ.get("REMIT_DRIFT_RUNS", "60"))
CHANGED: Final = 200

Changed = Callable[[random.Random], dict[str, Any]]

# What each run of the second part has with some chance, and the measure that has to be named.
DRIFTS: Final[dict[str, tuple[str, bool, Changed]]] = {
    "refusals": ("refusals", True, lambda chance: {"refused": chance.random() < 0.4}),
    "failures": ("failures", True, lambda chance: {"outcome": "failed" if chance.random() < 0.4 else "completed"}),
    "approvals": ("approvals", True, lambda chance: {"asked": chance.random() < 0.5}),
    "latency": ("latency", True, lambda chance: {"seconds": 3 * chance.lognormvariate(0, 0.3)}),
    "cost": ("cost", True, lambda chance: {"cost": Decimal(str(round(3 * chance.lognormvariate(0, 0.3), 4)))}),
    "a new action": ("use of sql.query", True, lambda chance: {"actions": ("files.read", "sql.query")}),
    "an action that is no longer used": ("use of files.list", False, lambda chance: {"actions": ("files.read",)}),
}


def usual(number: int, chance: random.Random, **changes: Any) -> LiveRun:
    """A run as most are: rarely refused, failed or asked; of varying time and cost."""
    values: dict[str, Any] = {
        "seconds": chance.lognormvariate(0, 0.3),
        "cost": Decimal(str(round(chance.lognormvariate(0, 0.3), 4))),
        "refused": chance.random() < 0.03,
        "asked": chance.random() < 0.05,
        "outcome": "failed" if chance.random() < 0.03 else "completed",
        "actions": ("files.read", "files.list") if chance.random() < 0.7 else ("files.read",),
    }
    return LiveRun(number=number, **{**values, **changes})


def drifts_of(runs: list[LiveRun], one_in: float = 1000) -> list[Drift]:
    return find_drifts([run.summary for run in runs], Definitions(MemoryObjects()), one_in=one_in)


def history(chance: random.Random, changed: Changed, *, before: str = "", after: str = "") -> list[LiveRun]:
    """Runs as usual, then as many that differ; `before` and `after` are the bundles of the two parts."""
    runs = [usual(number, chance, bundle=before) for number in range(CHANGED)]
    return [
        *runs,
        *(usual(number, chance, **changed(chance), bundle=after) for number in range(CHANGED, 2 * CHANGED)),
    ]


@pytest.mark.parametrize(("measure", "more", "changed"), DRIFTS.values(), ids=DRIFTS)
def test_a_drift_of_each_measure_is_named_with_its_direction(measure: str, more: bool, changed: Changed) -> None:
    found = [drift for drift in drifts_of(history(random.Random(1), changed)) if drift.measure == measure]
    first = LiveRun(number=CHANGED)
    assert [(drift.agent, drift.more) for drift in found] == [("triage", more)]
    assert abs(int(found[0].since[8:], 16) - int(first.run[8:], 16)) <= 10
    assert found[0].before
    assert found[0].after
    assert found[0].text.startswith(f"{measure} {'rose' if more else 'fell'}: ")


def test_all_measures_of_an_agent_together_raise_at_most_one_false_alarm_in_the_stated_number() -> None:
    alarms = 0
    for seed in range(STREAMS):
        chance = random.Random(seed)
        alarms += len(drifts_of([usual(seed * 10_000 + number, chance) for number in range(4 * RUNS)], RUNS))
    assert alarms <= STREAMS * 4


def test_latency_and_cost_are_those_of_completed_runs() -> None:
    """Runs that are refused early are short and cheap: no improvement."""
    cut = {"seconds": 0.01, "cost": Decimal("0.0001"), "outcome": "stopped"}
    found = drifts_of(history(random.Random(2), lambda chance: cut if chance.random() < 0.6 else {}))
    assert "failures" in {drift.measure for drift in found}
    assert not {drift.measure for drift in found} & {"latency", "cost"}


# -- the change that fits ----------------------------------------------------------------------------------------------

FILES: Final = {
    "agent/triage/agent.toml": "model",
    "agent/triage/prompt.md": "find out why",
    "agent/other/prompt.md": "something else",
    "policies/rules.csv": "p, a, b, c",
    "tools/files/tool.toml": "name",
}


def refused_later(chance: random.Random) -> dict[str, Any]:
    return {"refused": chance.random() < 0.4}


def causes_of(change: dict[str, str], codes: dict[str, str] | None = None, **changes: Any) -> tuple[str, ...]:
    """The causes of a drift at the run from which on these files, this code or this model differ."""
    objects = MemoryObjects()
    before, after = stored_bundle(objects, FILES), stored_bundle(objects, {**FILES, **change}, codes)
    runs = history(random.Random(3), lambda chance: refused_later(chance) | changes, before=before, after=after)
    found = find_drifts([run.summary for run in runs], Definitions(objects), one_in=1000)
    (drift,) = [drift for drift in found if drift.measure == "refusals"]
    return drift.causes


@pytest.mark.parametrize("path", ["agent/triage/prompt.md", "policies/rules.csv", "tools/files/tool.toml"])
def test_the_changed_file_is_named(path: str) -> None:
    (cause,) = causes_of({path: "changed"})
    assert cause.startswith(f"{path}: sha256:")


def test_the_changed_code_of_a_tool_is_named() -> None:
    (cause,) = causes_of({}, {"files": "sha256:" + "d" * 64})
    assert cause == "tools/files (code): sha256:dddddddddddd (other runs: sha256:cccccccccccc)"


def test_the_changed_model_is_named() -> None:
    assert causes_of({}, model="openai:gpt-5-mini") == ("model: openai:gpt-5-mini (other runs: openai:gpt-5)",)


def test_a_model_that_the_provider_changed_is_named() -> None:
    (cause,) = causes_of({}, response_model="gpt-5-2026-06")
    assert cause == "model of the provider: gpt-5-2026-06 (other runs: gpt-5-2026-01)"


def test_changes_that_came_together_are_all_named() -> None:
    causes = causes_of({"agent/triage/prompt.md": "x", "policies/rules.csv": "y"})
    assert [cause.partition(":")[0] for cause in causes] == ["agent/triage/prompt.md", "policies/rules.csv"]


def test_a_change_of_another_agent_is_no_cause() -> None:
    assert causes_of({"agent/other/prompt.md": "changed"}) == (NO_CAUSE,)


def test_a_change_long_before_is_no_cause() -> None:
    objects = MemoryObjects()
    old, new = stored_bundle(objects, FILES), stored_bundle(objects, {**FILES, "policies/rules.csv": "y"})
    chance = random.Random(4)
    runs = [usual(number, chance, bundle=old if number < 100 else new) for number in range(CHANGED)]
    runs += [usual(number, chance, refused=chance.random() < 0.4, bundle=new) for number in range(200, 400)]
    found = find_drifts([run.summary for run in runs], Definitions(objects), one_in=1000)
    assert [drift.causes for drift in found if drift.measure == "refusals"] == [(NO_CAUSE,)]


def test_a_change_that_only_some_runs_have_is_named() -> None:
    """As while a rollout goes on: both definitions are in use at the same time."""
    objects = MemoryObjects()
    old, new = stored_bundle(objects, FILES), stored_bundle(objects, {**FILES, "policies/rules.csv": "y"})
    chance = random.Random(5)
    runs = [usual(number, chance, bundle=old) for number in range(CHANGED)]
    for number in range(CHANGED, 500):
        has = chance.random() < 0.3
        changed = {"bundle": new, "refused": chance.random() < 0.8} if has else {"bundle": old}
        runs.append(usual(number, chance, **changed))
    found = find_drifts([run.summary for run in runs], Definitions(objects), one_in=1000)
    causes = [drift.causes for drift in found if drift.measure == "refusals"]
    assert [cause.partition(":")[0] for cause in causes[0]] == ["policies/rules.csv"]


def test_a_bundle_that_was_removed_has_its_digest() -> None:
    runs = history(random.Random(6), refused_later, before="sha256:" + "1" * 64, after="sha256:" + "2" * 64)
    (drift,) = [drift for drift in drifts_of(runs) if drift.measure == "refusals"]
    assert drift.causes == ("definition: sha256:222222222222 (other runs: sha256:111111111111)",)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def drifted(session: Path) -> Path:
    """A workspace whose agent has been refused more often since its rules changed, two hours ago."""
    objects = ObjectStore(session / "traces" / "objects")
    old, new = stored_bundle(objects, FILES), stored_bundle(objects, {**FILES, "policies/rules.csv": "y"})
    chance, now = random.Random(7), time.time_ns()
    write_runs(
        session,
        [
            LiveRun(
                number=number,
                begin=now - (360 - 2 * number) * 60 * NANO,
                refused=chance.random() < (0.02 if number < 120 else 0.5),
                bundle=old if number < 120 else new,
            )
            for number in range(170)
        ],
    )
    return session


def test_the_command_names_the_change_and_exits_1(drifted: Path, remit: Remit) -> None:
    done = remit("drift", "triage", "--one-in", "200", "--json")
    assert done.code == 1
    (drift,) = done.json["drifts"]
    assert (drift["measure"], drift["more"]) == ("refusals", True)
    assert drift["causes"][0].startswith("policies/rules.csv: ")
    assert remit("trace", "show", drift["after"][0]).code == 0
    text = remit("drift").out
    assert "triage: refusals rose: " in text
    assert "fits: policies/rules.csv: " in text


def test_a_drift_of_last_week_is_not_one_of_today(drifted: Path, remit: Remit) -> None:
    done = remit("drift", "--since", "1s")
    assert (done.code, done.out) == (0, "nothing has drifted since 1s\n")


def test_an_agent_that_does_not_exist_is_an_error(remit: Remit) -> None:
    assert "there is no agent 'nobody' here" in remit("drift", "nobody").err


def test_a_drift_raises_one_alert_until_a_person_closes_it(drifted: Path, remit: Remit) -> None:
    name = "drift:triage:refusals"
    assert remit("drift", "--alert", "--json").json["alerts"] == [name]
    assert remit("drift", "--alert", "--json").json["alerts"] == []
    (alert,) = remit("alert", "list", "--json").json
    assert (alert["alert"], alert["changes"][0].partition(":")[0]) == (name, "policies/rules.csv")
    assert remit("alert", "close", name).out == f"closed {name}\n"
    assert remit("alert", "list").out == "no alert is in force\n"
    assert remit("drift", "--alert", "--json").json["alerts"] == []  # it is known
    assert "no alert 'drift:triage:refusals' is in force" in remit("alert", "close", name).err
    with open_journal(drifted / "traces" / "journal.db") as journal:
        assert check_projections(journal) == []
