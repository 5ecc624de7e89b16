"""Export: what the standard variables send to a backend; a run never waits for it and never fails because of it."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from remit.broker.approvals import requests as approval
from remit.journal import StoredRecord
from remit.runtime import runner as run
from remit.tracing import Export
from remit.tracing.export import trace_id_of_part
from remit.tracing.otel_spans import Collector
from remit.tracing.spans import Span, Spans
from support.events import RUN, a_whole_run, recorded
from support.principals import OPERATOR, principal
from support.runs import DONE, Play, turn

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test sets."""
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_EXPORTER", ENDPOINT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")


def exported() -> InMemorySpanExporter:
    """The whole run, sent as the environment says."""
    kept = InMemorySpanExporter()
    export = Export(Collector(kept))
    for item in recorded(a_whole_run()):
        export.see(item)
    export.close()
    return kept


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_nothing_is_exported_unless_a_collector_is_named(environment: dict[str, str]) -> None:
    """No variable, no thread, no library."""
    assert Export.from_environment(environment) is None


def test_a_real_collector_receives_the_run(backend: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the wire, in the standard's own encoding: the same ids and names as in the file."""
    endpoint, bodies = backend
    monkeypatch.setenv(ENDPOINT, endpoint)
    export = Export.from_environment()
    assert export is not None
    expected = Spans(RUN)
    records = recorded([event for event in a_whole_run() if event.type != "run.resumed"])  # one process, one part
    for item in records:
        export.see(item)
    export.close()
    made = {span.span_id: span.name for item in records for span in expected.see(item)}
    sent = [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {span.span_id.hex(): span.name for span in sent} == made
    assert {span.trace_id.hex() for span in sent} == {RUN}


def test_a_dead_collector_fails_no_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Spans are dropped and a warning is logged; the run neither waits nor knows."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    caplog.set_level(logging.CRITICAL)
    export = Export.from_environment()
    assert export is not None
    for item in recorded(a_whole_run()):
        export.see(item)
    export.close()


def test_texts_are_exported_only_if_the_operator_enables_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch of the GenAI conventions decides; the trace file always has all texts."""
    quiet = repr([(span.attributes, span.events, span.status.description) for span in exported().get_finished_spans()])
    assert "hello" not in quiet
    assert "no rule allows it" not in quiet
    assert "service.restart" in quiet
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    with_content = repr([dict(span.attributes or {}) for span in exported().get_finished_spans()])
    assert "hello" in with_content


def test_the_standard_settings_control_what_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampler, limits and resource, as an operator knows them from other programs."""
    names = {span.resource.attributes["service.name"] for span in exported().get_finished_spans()}
    assert names == {"remit"}
    monkeypatch.setenv("OTEL_SERVICE_NAME", "triage-bot")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")
    sent = exported().get_finished_spans()
    assert {span.resource.attributes["service.name"] for span in sent} == {"triage-bot"}
    assert max(len(span.attributes or {}) for span in sent) == 3
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert exported().get_finished_spans() == ()


def test_spans_that_have_not_ended_are_sent_when_the_process_ends() -> None:
    """A run that waits for people shows in the backend too."""
    kept = InMemorySpanExporter()
    export = Export(Collector(kept))
    for item in recorded(a_whole_run())[:7]:
        export.see(item)
    export.close()
    marked = [span.name for span in kept.get_finished_spans() if (span.attributes or {}).get("remit.unfinished")]
    assert "invoke_agent triage" in marked


def test_a_resumed_run_is_exported_as_a_new_trace_linked_to_the_first(play: Play) -> None:
    """The first trace has the run's id; a later process sends a new trace with a link to it."""
    played = play([turn(ledger__pay={"name": "ann", "amount": 500}), DONE])
    first = played.records
    record = StoredRecord(played.opened.journal, played.ended.run)
    approved = approval.Approval(by=principal("lea"), role="role:lead")
    roles_of = played.opened.policy.roles_of
    approval.grant_approval(record, played.ended.waiting[0], approved, roles_of=roles_of, now=time.time_ns())
    asyncio.run(run.resume_run(played.opened, played.ended.run, by=OPERATOR))
    parts: list[InMemorySpanExporter] = []
    for number, (earlier, events) in enumerate([([], first), (first, played.records[len(first) :])]):
        kept = InMemorySpanExporter()
        parts.append(kept)
        export = Export(Collector(kept))
        export.recall(earlier)
        for item in events:
            export.see(item)
        export.close()
        traces = {f"{span.context.trace_id:032x}" for span in kept.get_finished_spans() if span.context is not None}
        assert traces == {trace_id_of_part(played.ended.run, number)}
    later = parts[1].get_finished_spans()
    assert {span.name for span in later} >= {"invoke_agent clerk", "execute_tool ledger.pay", "remit.attempt"}
    (root,) = [span for span in later if span.parent is None]
    first_root = next(span for span in parts[0].get_finished_spans() if span.parent is None)
    assert [link.context for link in root.links] == [first_root.context]
    assert not first_root.links
    ids = [{span.context.span_id for span in part.get_finished_spans() if span.context} for part in parts]
    assert all(span.parent.span_id in ids[1] for span in later if span.parent is not None)


def test_a_collector_that_never_answers_slows_no_call_and_lost_spans_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every event is added while the collector does not answer; closing waits a limited time, and lost spans are counted."""
    monkeypatch.setattr("remit.tracing.otel_spans.CLOSING_S", 0.2)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    caplog.set_level(logging.CRITICAL)
    answer, asked = threading.Event(), threading.Event()

    class Silent(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            asked.set()
            answer.wait(60)
            return super().export(spans)

    export = Export(Collector(Silent()))
    for item in recorded(a_whole_run()):
        export.see(item)
    export.close()
    assert asked.is_set()
    assert export.lost == len(spans_of_a_whole_run())
    answer.set()


def spans_of_a_whole_run() -> list[Span]:
    growing = Spans(RUN)
    ended = [span for item in recorded(a_whole_run()) for span in growing.see(item)]
    return [*ended, *growing.unfinished()]


def test_all_spans_that_arrive_are_counted_as_arrived() -> None:
    export = Export(Collector(InMemorySpanExporter()))
    for item in recorded(a_whole_run()):
        export.see(item)
    export.close()
    assert export.lost == 0


def test_a_decision_has_the_openinference_kind_guardrail() -> None:
    kinds = {
        span.name: (span.attributes or {}).get("openinference.span.kind") for span in exported().get_finished_spans()
    }
    assert kinds["remit.decide"] == "GUARDRAIL"
    assert {name for name, kind in kinds.items() if kind} == {"remit.decide"}


def test_without_a_collector_opentelemetry_is_not_imported() -> None:
    """The trace file needs none of it, and a command that starts does not pay for it."""
    code = "import sys, remit.tracing; remit.tracing.Export.from_environment({}); print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
