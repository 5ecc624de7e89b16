"""`remit metrics`: the gauges of the workspace once, or over HTTP."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Queue

import pytest

from remit.core import CODES, SOURCES, RunEnded
from remit.tracing import prometheus_text, serve_metrics
from remit.tracing.metrics import GAUGES, Measurement
from support.runs import Remit

LINE = re.compile(r'remit_[a-z_]+(\{([a-z]+="(\\["\\n]|[^"\\])*",?)+\})? -?\d+(\.\d+)?')


def test_the_command_prints_each_gauge_and_zeros_for_each_agent(remit: Remit) -> None:
    done = remit("metrics", "--once")
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == [
        name.replace(".", "_") for name in GAUGES
    ]
    samples = [line for line in lines if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in samples)
    assert 'remit_runs_unfinished{agent="triage",state="lost"} 0' in samples
    assert 'remit_errors_recent{agent="triage",source="tool"} 0' in samples
    shown = remit("metrics", "--json").json
    assert {"name": "remit.runs.unfinished", "value": 0, "attributes": {"agent": "triage", "state": "lost"}} in shown


def test_without_a_collector_the_command_says_what_to_do(remit: Remit) -> None:
    done = remit("metrics")
    assert done.code == 2
    assert "set OTEL_EXPORTER_OTLP_ENDPOINT" in done.err
    assert remit("metrics", "--listen", "metrics").code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = remit("metrics", "--listen", str(taken.getsockname()[1]))
        assert (done.code, "cannot listen on" in done.err) == (2, True)


def test_a_label_cannot_end_its_line() -> None:
    text = prometheus_text({"remit.calls.recent": [_measured('a"b\\c\nremit_runs_lost 7')]})
    assert text.splitlines()[2:] == ['remit_calls_recent{rule="a\\"b\\\\c\\nremit_runs_lost 7"} 1']


def _measured(rule: str) -> Measurement:
    return Measurement(name="remit.calls.recent", value=1, attributes={"rule": rule})


@pytest.fixture
def server() -> tuple[int, list[Exception]]:
    """The port of a server of one gauge, and errors that the next readings raise."""
    errors: list[Exception] = []
    ready: Queue[str] = Queue()

    def read() -> Mapping[str, Sequence[Measurement]]:
        if errors:
            raise errors.pop()
        return {"remit.calls.recent": [_measured("r")]}

    threading.Thread(target=serve_metrics, args=(read, "127.0.0.1", 0, ready.put), daemon=True).start()
    return int(ready.get(timeout=10).rpartition(":")[2].removesuffix("/metrics")), errors


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_prometheus_scrapes_one_page_and_learns_of_a_journal_that_cannot_be_read(
    server: tuple[int, list[Exception]],
) -> None:
    port, errors = server
    assert get(port, "/metrics") == (200, prometheus_text({"remit.calls.recent": [_measured("r")]}))
    assert get(port, "/")[0] == 404
    errors.append(RunEnded("unrecorded", "the journal cannot be read", fix=""))
    assert get(port, "/metrics") == (503, "the journal cannot be read\n")
    assert get(port, "/metrics")[0] == 200


def test_the_command_ends_without_a_trace_when_it_is_interrupted(session: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "remit", "metrics", "--listen", "0"],
        cwd=session,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening: http://127.0.0.1:")
        process.send_signal(2)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_every_code_has_one_source() -> None:
    assert set(SOURCES) == set(CODES)
    assert {SOURCES["timeout"], SOURCES["unrecorded"], SOURCES["invalid_arguments"], SOURCES["policy_denied"]} == {
        "tool",
        "remit",
        "model",
        "policy",
    }
