"""Metrics are computed from events alone, and their names follow the conventions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from ruamel.yaml import YAML

from remit.broker import holds as hold
from remit.cli import COMMANDS
from remit.core.errors import CODES
from remit.core.events import AlertRaised, ModelFailed
from remit.journal import WORKSPACE_RUN, StoredRecord
from remit.tracing import Export, GaugeReader
from remit.tracing.gauges import STATES
from remit.tracing.metrics import GAUGES, INSTRUMENTS
from remit.tracing.otel_metrics import Meter
from remit.workspace.template import starter_folder
from support import CORPORA
from support.events import a_whole_run, recorded, started
from support.principals import principal
from support.runs import DONE, Play, Remit, turn

TRACES = starter_folder() / "traces"
OURS = {"agent", "action", "code", "outcome", "model", "passing"}


def points(reader: InMemoryMetricReader) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Name, attributes and value of everything that would be sent."""
    data = reader.get_metrics_data()
    assert data is not None
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = point.sum if hasattr(point, "bucket_counts") else point.value
                    yield metric.name, dict(point.attributes or {}), value


@pytest.fixture
def sent() -> list[tuple[str, dict[str, Any], Any]]:
    """The metrics of one run with one event of every kind."""
    reader = InMemoryMetricReader()
    export = Export(None, Meter(None, reader))
    for item in recorded(a_whole_run()):
        export.see(item)
    return list(points(reader))


def test_calls_runs_tokens_and_time_are_counted(sent: list[tuple[str, dict[str, Any], Any]]) -> None:
    def of(name: str) -> list[tuple[dict[str, Any], Any]]:
        return sorted(
            ((attributes, value) for found, attributes, value in sent if found == name), key=lambda item: str(item[0])
        )

    triage = {"agent": "triage"}
    assert of("remit.calls") == [
        (triage | {"action": "_OTHER", "code": "invalid_arguments"}, 1),
        (triage | {"action": "files.read", "code": "ok"}, 1),
        (triage | {"action": "service.restart", "code": "approval_rejected"}, 1),
        (triage | {"action": "service.restart", "code": "outcome_unknown"}, 1),
        (triage | {"action": "service.restart", "code": "policy_denied"}, 1),
    ]
    assert of("remit.runs") == [(triage | {"outcome": "failed", "code": "ok"}, 1)]
    assert of("remit.model.failures") == [(triage | {"model": "script:script.yaml", "passing": "false"}, 1)]
    tokens = {attributes["gen_ai.token.type"]: value for attributes, value in of("gen_ai.client.token.usage")}
    assert tokens == {"input": 200, "output": 14}
    assert sum(value for _, value in of("gen_ai.client.operation.duration")) == pytest.approx(0.003)
    (ok,) = [value for attributes, value in of("gen_ai.execute_tool.duration") if "error.type" not in attributes]
    assert ok == pytest.approx(0.008)


def test_every_metric_name_is_from_the_conventions_or_starts_with_remit(
    sent: list[tuple[str, dict[str, Any], Any]],
) -> None:
    file = CORPORA / "semconv_1_41.json"
    registered = json.loads(file.read_text())["attributes"] if file.exists() else {"error.type": {"deprecated": None}}
    assert {name for name, _, _ in sent} == set(INSTRUMENTS)
    for name, attributes, _ in sent:
        for key in attributes:
            if name.startswith("remit."):
                assert key in OURS
            else:
                assert key in registered or key.startswith("gen_ai.")
                assert not registered.get(key, {"deprecated": None})["deprecated"]


def test_gauges_of_approvals_and_holds_are_read_from_the_workspace(play: Play) -> None:
    """Also what other processes left behind."""
    played = play([turn(ledger__pay={"name": "ann", "amount": 500}, ledger__look={"name": "ann"}), DONE])
    journal = played.opened.journal
    hold.set_hold(journal, "tool:other", why="audit", by=principal("op"))
    raised = AlertRaised(kind="drift", agent="clerk", subject="refusals", run="f" * 32, text="refusals rose")
    journal.append_shared(WORKSPACE_RUN, raised)
    StoredRecord(journal, "f" * 32).append(started())
    StoredRecord(journal, "f" * 32).append(ModelFailed(step=0, message="busy", passing=True, again_at=2**62))
    reader = InMemoryMetricReader()
    Meter(GaugeReader(journal, ["clerk", "idle"]), reader)
    found: dict[str, dict[str, float]] = {}
    for name, attributes, value in points(reader):
        found.setdefault(name, {})["/".join(attributes.values())] = value
    nothing = dict.fromkeys(("clerk", "idle", "triage"), 0)
    sources = ("remit", "tool", "model", "policy")
    assert found == {
        "remit.approvals.waiting": {"under_5m": 1, "under_30m": 0, "under_4h": 0, "older": 0},
        "remit.holds": {"": 1},
        "remit.alerts": {"": 1},
        "remit.emergencies.unreviewed": {"": 0},
        "remit.runs.unfinished": {
            f"{agent}/{state}": int((agent, state) in (("clerk", "waiting"), ("triage", "waiting: model")))
            for agent in nothing
            for state in STATES
        },
        "remit.effects.in_doubt": nothing,
        "remit.engines.disagreements": nothing,
        "remit.errors.recent": {
            f"{agent}/{source}": int((agent, source) == ("triage", "model")) for agent in nothing for source in sources
        },
        "remit.calls.recent": {"clerk/ledger.look/ok/": 1},
    }
    assert set(found) == set(GAUGES) - {"remit.runs.recent"}  # no run has ended


def test_a_real_collector_receives_metrics_and_spans(remit: Remit, backend: tuple[str, list[bytes]]) -> None:
    """From the command line, by the standard variables; also of a run that ends before its first call."""
    endpoint, bodies = backend
    done = remit("run", "triage", "x", env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "REMIT_BWRAP": "/nonexistent"})
    assert done.code == 1
    whole = b"".join(bodies)
    for name in (
        b"remit.runs",
        b"remit.approvals.waiting",
        b"remit.holds",
        b"sandbox_unavailable",
        b"invoke_agent triage",
    ):
        assert name in whole


# -- the rules for alerts, and the page behind each -----------------------------------------------------------------------


def sections() -> dict[str, str]:
    page = (TRACES / "codes.md").read_text()
    return {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in page.split("\n## ")[1:]}


def test_every_code_has_a_section_that_begins_with_its_description() -> None:
    found = sections()
    assert list(found) == list(CODES)
    for code, text in CODES.items():
        assert found[code].replace("\n", " ").lower().startswith(text.lower() + "."), code


def test_every_command_of_the_codes_page_exists(remit: Remit) -> None:
    named = {
        tuple(word for word in found.split() if word.islower() and not word.startswith("-"))[:3]
        for found in re.findall(r"`(remit [^`]+)`", (TRACES / "codes.md").read_text().replace("\n", " "))
    }
    assert len(named) > 8
    for words in named:
        assert words[1] in COMMANDS, words
        assert remit(*words[1:], "--help").code == 0 or remit(words[1], "--help").code == 0


def test_every_alert_reads_a_metric_that_is_sent_and_links_the_page_of_its_code() -> None:
    rules = YAML(typ="safe").load((TRACES / "alerts.yaml").read_text())["groups"][0]["rules"]
    known = {name.replace(".", "_") for name in GAUGES}
    seen: set[str] = set()
    for rule in rules:
        named = set(re.findall(r"\bremit_[a-z_]+(?=\)|\{|\[)", rule["expr"]))
        assert named, rule["alert"]
        assert named <= known, (rule["alert"], named - known)
        seen |= named
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        if page.endswith("traces/README.md"):
            assert f"## {anchor.replace('-', ' ').capitalize()}\n" in (TRACES / "README.md").read_text()
        else:
            assert anchor in CODES or anchor == "{{ $labels.code }}"
        assert rule["annotations"]["find"].split()[1] in COMMANDS
    assert seen == known


def test_a_new_workspace_has_the_alert_rules_and_the_codes_page(session: Path) -> None:
    assert (session / "traces" / "alerts.yaml").exists()
    assert (session / "traces" / "alerts.test.yaml").exists()
    assert (session / "traces" / "codes.md").exists()
