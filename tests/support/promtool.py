"""Prometheus' own tool for its rules, and the gauges of a workspace as Prometheus stores them after it received them by OTLP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from remit.tracing import Export, GaugeReader
from support.browser import lacking
from support.otlp_collector import collecting

PROMTOOL: Final = os.environ.get("REMIT_PROMTOOL") or shutil.which("promtool")
FIRING: Final = 'ALERTS{alertstate="firing"}'

Series = Mapping[str, float]  # by name and labels


def play_rules(file: Path) -> subprocess.CompletedProcess[str]:
    """Play a file of tests of rules."""
    if PROMTOOL is None:
        lacking("promtool", "install the package prometheus, or set REMIT_PROMTOOL")
    return subprocess.run(
        [PROMTOOL, "test", "rules", file.name],
        cwd=file.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sent_by_otlp(gauges: GaugeReader, monkeypatch: Any) -> Series:
    """What one export of the gauges makes of Prometheus' series: dots are underscores, attributes are labels."""
    with collecting() as (endpoint, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)  # the exporter reads it itself
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}
        export = Export.from_environment(environment, gauges=gauges)
        assert export is not None
        export.close()
    found: dict[str, float] = {}
    for body in bodies:
        request = ExportMetricsServiceRequest.FromString(body)
        for metric in (
            item for one in request.resource_metrics for scope in one.scope_metrics for item in scope.metrics
        ):
            for point in metric.gauge.data_points:
                labels = {label.key: label.value.string_value for label in point.attributes}
                value = point.as_double if point.HasField("as_double") else float(point.as_int)
                found[metric.name.replace(".", "_") + "{" + _pairs({**labels, "job": "agents"}) + "}"] = value
    return found


def alerts_of(
    folder: Path, rules: Path, states: Mapping[str, Series], expected: Mapping[str, Sequence[Mapping[str, str]]]
) -> str:
    """Play each state of a workspace for 90 minutes; "" if exactly the expected alerts fire then, or what promtool says."""
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": series, "values": f"{value:g}x90"} for series, value in states[name].items()],
            "promql_expr_test": [
                {
                    "expr": FIRING,
                    "eval_time": "85m",
                    "exp_samples": [
                        {"labels": "ALERTS{" + _pairs({**labels, "alertstate": "firing"}) + "}", "value": 1}
                        for labels in expected[name]
                    ],
                }
            ],
        }
        for name in states
    ]
    file = folder / "incidents.test.yaml"
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    done = play_rules(file)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
