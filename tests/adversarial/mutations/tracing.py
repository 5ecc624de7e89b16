"""Protections of reports, each with the tests that must fail without it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from typing import Final

from adversarial.mutations.row import Mutation, brokered, replaced
from remit.analysis.drafting import recorded as drafting
from remit.core.events import RunStarted
from remit.journal import lease, mark_sent
from remit.sandbox import outcome
from remit.tracing.audit import records, sinks, stream
from remit.tracing.imported import conversion, documents
from remit.tracing.imported.conventions import Known, ToolRun
from remit.tracing.reports import audit, incident, root_cause


def _moved_first(self: stream.AuditStream, found: list[records.Record], reached: dict[str, int]) -> int:
    """The cursor moves before the records have arrived."""
    mark_sent(self._journal, reached)
    self._sink.write(found)
    return len(found)


def _with_arguments(*given: object, **_: object) -> records.Record | None:
    return _audit_record(*given, arguments=True)  # type: ignore[arg-type]


def _as_if_all_ran(known: Sequence[Known]) -> list[conversion._Step]:
    """Each call that a model asked for counts as one that a tool ran."""
    found = _steps(known)
    for step in found:
        for number, (asked, ran) in enumerate(step.calls):
            if ran is None and step.turn is not None:
                span, given = step.turn.span, asked.arguments
                ran = ToolRun(span=span, id=asked.id, name=asked.name, arguments=given, value=None, failed=None)
            step.calls[number] = asked, ran
    return found


_steps = conversion._steps
_audit_record = records.audit_record
_AUDIT = "tracing/test_audit_stream.py"
_READING = "tracing/test_reading.py"
_IMPORTED = "tracing/test_imported_traces.py"
_TWICE = (f"{_IMPORTED}::test_nothing_is_imported_twice",)

ROWS: Final = (
    Mutation(
        name="no cell of a table is a formula",
        remove=(replaced(audit, "_FORMULA", re.compile(r"(\A)([=+@-])")),),
        tests=("tracing/test_way_out.py::test_no_cell_is_a_formula_with_any_separator",),
        still=("core/parsing/test_bounded_readers.py::test_ordinary_texts_are_read_as_before",),
    ),
    Mutation(
        name="the cursor of the audit stream moves once the records have arrived",
        remove=(replaced(stream.AuditStream, "_arrive", _moved_first),),
        fixtures=True,
        tests=(f"{_AUDIT}::test_records_arrive_although_the_collector_is_away_and_the_process_is_killed_twice",),
        still=(f"{_AUDIT}::test_an_emergency_says_who_why_and_until_when",),
    ),
    Mutation(
        name="audit records have no arguments unless asked for",
        remove=(replaced(records, "audit_record", _with_arguments),),
        fixtures=True,
        tests=(f"{_AUDIT}::test_arguments_of_calls_are_left_out_unless_asked_for",),
        still=(f"{_AUDIT}::test_an_emergency_says_who_why_and_until_when",),
    ),
    Mutation(
        name="a line of an audit file that was cut off is removed",
        remove=(replaced(sinks, "_complete_end", lambda file: file.seek(0, 2)),),
        fixtures=True,
        tests=(f"{_AUDIT}::test_the_last_line_of_a_file_that_a_killed_process_left_unfinished_is_written_again",),
        still=(f"{_AUDIT}::test_an_emergency_says_who_why_and_until_when",),
    ),
    Mutation(
        name="the lines of a crash are lines of the tool's files",
        remove=(replaced(outcome, "_lines_of", lambda *_: 10**9),),
        fixtures=True,
        tests=("tracing/test_failure_details.py::test_a_tool_cannot_write_text_into_the_lines_that_it_reports",),
        still=("tracing/test_failure_details.py::test_only_the_lines_of_the_tools_own_files_are_named",),
    ),
    Mutation(
        name="the verdict on a damaged record comes first",
        remove=(replaced(incident, "_damage", lambda _: []),),
        fixtures=True,
        tests=(f"{_READING}::test_a_cut_or_edited_file_is_shown_as_far_as_it_goes_with_the_verdict_first",),
        still=(f"{_READING}::test_a_lasting_failure_comes_before_a_recovered_one",),
    ),
    Mutation(
        name="a refused injection comes before an error that the run recovered from",
        remove=(replaced(root_cause, "_injection", lambda _: None),),
        fixtures=True,
        tests=(f"{_READING}::test_the_root_cause_is_the_refused_injection_and_not_an_error_that_the_run_recovered_from",),
        still=(f"{_READING}::test_a_lasting_failure_comes_before_a_recovered_one",),
    ),
    Mutation(
        name="a compressed file of another tool is bounded once it is decompressed, too",
        remove=(replaced(documents, "_decompressed", lambda data, _: gzip.decompress(data) if data[:1] == b"\x1f" else data),),
        fixtures=True,
        tests=(f"{_IMPORTED}::test_a_small_file_that_decompresses_to_a_huge_one_is_refused",),
        still=(f"{_IMPORTED}::test_every_shape_of_a_file_has_the_same_spans",),
    ),
    Mutation(
        name="an imported call that no tool ran is not decided",
        remove=(replaced(conversion, "_steps", _as_if_all_ran),),
        fixtures=True,
        tests=(f"{_IMPORTED}::test_a_call_that_no_tool_ran_is_never_decided_nor_suggested",),
        still=_TWICE,
    ),
    Mutation(
        name="live runs and imported ones are apart",
        remove=(replaced(RunStarted, "apart", property(lambda started: started.evaluation)),),
        fixtures=True,
        tests=(f"{_IMPORTED}::test_nothing_mistakes_an_imported_run_for_a_live_one",),
        still=(f"{_IMPORTED}::test_the_names_of_an_import_are_checked_first",),
    ),
    Mutation(
        name="drafted rules work against no deny",
        remove=(replaced(drafting, "_unmentioned", lambda decision: decision.verdict == "deny"),),
        fixtures=True,
        tests=(f"{_IMPORTED}::test_a_month_of_calls_gives_a_rulebook_with_coverage",),
        still=_TWICE,
    ),
    brokered(
        "a run whose process was killed is counted as lost",
        replaced(lease, "is_alive", lambda *_: True),
        tests=("tracing/test_alerts.py::test_alerts_fire_on_what_real_runs_send",),
    ),
)  # fmt: skip
