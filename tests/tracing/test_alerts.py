"""Every alert of `traces/alerts.yaml` fires on its incident, and none on a quiet day. Prometheus' own promtool plays the rules."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from remit.broker import holds
from remit.core import BREAK_GLASS
from remit.core.events import AlertRaised, AnyEvent, ModelFailed, RunFinished
from remit.journal import WORKSPACE_RUN, Journal, StoredRecord
from remit.tracing import GaugeReader
from remit.workspace.session import open_session
from support import ROOT
from support.events import decided, failed, granted, requested, started
from support.principals import principal
from support.promtool import Series, alerts_of, play_rules, sent_by_otlp
from support.runs import DONE, Play, turn

TRACES: Final = ROOT / "traces"
RULES: Final = TRACES / "alerts.yaml"
TICKET: Final = {"severity": "ticket"}
PAGE: Final = {"severity": "page"}
CLERK: Final = {"agent": "clerk"}


def fired() -> dict[str, set[str]]:
    """The alerts that the committed tests expect, by the name of the test."""
    tests = YAML(typ="safe").load((TRACES / "alerts.test.yaml").read_text())["tests"]
    return {test["name"]: {name for item in test["promql_expr_test"] for name in names_of(item)} for test in tests}


def names_of(expected: Any) -> list[str]:
    return [sample["labels"].partition('alertname="')[2].partition('"')[0] for sample in expected["exp_samples"]]


def alerts() -> set[str]:
    groups = YAML(typ="safe").load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_each_alert_fires_on_its_incident_and_is_silent_on_a_quiet_day() -> None:
    done = play_rules(TRACES / "alerts.test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    expected = fired()
    assert set().union(*expected.values()) == alerts()
    assert [name for name, names in expected.items() if not names] == ["a quiet day, with refusals as every day"]


def test_an_alert_that_does_not_fire_is_noticed(tmp_path: Path) -> None:
    """So the test above can fail."""
    (tmp_path / "alerts.yaml").write_text(RULES.read_text().replace('{state="lost"}) > 0', '{state="lost"}) > 1'))
    (tmp_path / "alerts.test.yaml").write_text((TRACES / "alerts.test.yaml").read_text())
    assert play_rules(tmp_path / "alerts.test.yaml").returncode != 0


def gauges(folder: Path, *, later_s: float = 0.0) -> GaugeReader:
    """The gauges of a workspace, as another process reads them so much later."""
    opened = open_session(folder)
    journal = opened.journal
    now = journal.clock
    object.__setattr__(journal, "clock", lambda: now() + int(later_s * 1e9))
    return GaugeReader(journal, opened.workspace.agents)


def kill_a_run(folder: Path) -> None:
    """Kill a run with -9 while its payment is in flight."""
    script = {"turns": [turn(ledger__pay={"name": "slow", "amount": 5}), DONE]}
    (folder / "agent/clerk/script.yaml").write_text(json.dumps(script))
    path = os.pathsep.join([str(folder / "hosted"), *sys.path])
    ledger = Path(os.environ["LEDGER"])
    before = len(ledger.read_text()) if ledger.exists() else 0
    with subprocess.Popen(
        [sys.executable, "-m", "remit", "run", "clerk", "pay"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 60
        while not ledger.exists() or len(ledger.read_text()) == before:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)


def record(journal: Journal, *events: AnyEvent) -> None:
    """A run of the clerk with these events."""
    written = StoredRecord(journal, os.urandom(16).hex())
    begun = started()
    written.append(begun.model_copy(update={"subjects": begun.subjects.model_copy(update={"agent": "agent:clerk"})}))
    for event in events:
        written.append(event)


def disputed() -> AnyEvent:
    """A decision that only stock Casbin denies."""
    event = decided(0, 0, "deny")
    assert event.decision is not None
    return event.model_copy(update={"decision": event.decision.model_copy(update={"reason": "engines_disagree"})})


def test_alerts_fire_on_what_real_runs_send(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed among them: nothing else runs on the machine, and its own process can send nothing any more."""
    states: dict[str, Series] = {}

    def look(name: str, folder: Path, later_s: float = 0.0) -> None:
        states[name] = sent_by_otlp(gauges(folder, later_s=later_s), monkeypatch)

    folder = play(
        [turn(ledger__look=[{"name": "ann"}, {"name": "gone"}]), turn(ledger__pay={"name": "ann", "amount": 5}), DONE]
    ).folder
    look("a quiet day", folder)
    kill_a_run(folder)
    look("killed", folder, 20)
    books = [{"name": f"n{number}", "amount": 1} for number in range(9)]
    turns = [
        turn(ledger__look=[{"name": "crash"}] * 3),
        turn(ledger__book=books),
        turn(ledger__pay={"name": "a", "amount": 500}),
        DONE,
    ]
    folder = play(turns).folder
    look("denied", folder)
    look("waits", folder, 2400)
    assert alerts_of(tmp_path, RULES, states, EXPECTED_OF_RUNS) == ""


EXPECTED_OF_RUNS: Final[dict[str, list[dict[str, str]]]] = {
    "a quiet day": [],
    "killed": [
        {"alertname": "RemitRunLost", **PAGE, **CLERK},
        {"alertname": "RemitEffectUnknown", **PAGE, **CLERK},
    ],
    "denied": [
        {"alertname": "RemitRunLost", **PAGE, **CLERK},
        {"alertname": "RemitEffectUnknown", **PAGE, **CLERK},
        {"alertname": "RemitDenied", **TICKET, **CLERK, "action": "ledger.book", "rule": "no_rule_allows"},
        {"alertname": "RemitToolFails", **TICKET, **CLERK, "action": "ledger.look", "code": "tool_crashed"},
    ],
    "waits": [
        {"alertname": "RemitRunLost", **PAGE, **CLERK},
        {"alertname": "RemitEffectUnknown", **PAGE, **CLERK},
        {"alertname": "RemitApprovalWaits", **TICKET},
    ],
}


def test_alerts_fire_on_what_is_rare(
    clerk: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clerk([DONE])
    journal = open_session(folder).journal
    record(journal, RunFinished(outcome="failed", code="sandbox_unavailable"))
    record(journal, RunFinished(outcome="exhausted", code="budget_exhausted"))
    record(journal, disputed(), failed(0, 0), RunFinished(outcome="completed"))
    emergency = granted(0, 0, "user:dana", role=BREAK_GLASS, reason="INC-7", until=2**62)
    record(journal, decided(0, 0, "ask"), requested(0, 0), emergency, RunFinished(outcome="stopped"))
    failures = [
        ModelFailed(step=0, attempt=number, message="busy", passing=True, again_at=2**62) for number in range(2, 24)
    ]
    record(journal, *failures)
    holds.set_hold(journal, "tool:other", why="audit", by=principal("op"))
    raised = AlertRaised(kind="drift", agent="clerk", subject="refusals", run="f" * 32, text="refusals rose")
    journal.append_shared(WORKSPACE_RUN, raised)
    sent = {"rare": sent_by_otlp(gauges(folder), monkeypatch)}
    expected = [
        *({"alertname": name, **PAGE, **CLERK} for name in ("RemitFails", "RemitEnginesDisagree")),
        *({"alertname": name, **TICKET, **CLERK} for name in ("RemitLoops", "RemitModelFails")),
        *(
            {"alertname": name, **TICKET}
            for name in ("RemitEmergency", "RemitModelWaits", "RemitHeld", "RemitDriftOrTarget")
        ),
    ]
    assert alerts_of(tmp_path, RULES, sent, {"rare": expected}) == ""
