"""What the installed version of Remit would refuse, or read otherwise than its author meant: files, journal and traces of a workspace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from remit import __version__
from remit.analysis.check.workspace import CheckReport, check_workspace
from remit.core import Finding, RemitError, RunEnded, UsageError
from remit.journal import SCHEMA, journal_format
from remit.tracing import newer_format, trace_format
from remit.workspace import JOURNAL, Settings

INSTALL: Final = "install the version of Remit that wrote it, or a newer one"
_OLDER: Final = "read it with the version that wrote it, and see the changelog for how its tables are changed; or move it away to begin a new one"


def check_upgrade(root: Path) -> CheckReport:
    """The findings that matter to a change of the version: errors are what this version refuses, warnings what it reads otherwise.

    Nothing is written. `counts` says how many events and trace files were looked at.
    """
    report = check_workspace(root)
    settings = Settings() if report.workspace is None else report.workspace.settings
    found, events = _check_journal(root, settings)
    files = sorted((root / "traces").rglob("*.jsonl"))
    found += [finding for path in files for finding in _check_trace(root, path)]
    kept = [item for item in report.findings if item.level != "note"]
    return CheckReport(findings=tuple(kept), counts=report.counts, workspace=report.workspace).with_findings(
        found, {"events": events, "trace files": len(files)}
    )


def _check_journal(root: Path, settings: Settings) -> tuple[list[Finding], int]:
    """The findings on the journal, and how many events it has."""
    name = "the journal" if settings.journal else JOURNAL.as_posix()
    try:
        found = journal_format(settings.journal or root / JOURNAL, tenant=settings.tenant, group=settings.journal_group)
    except (RunEnded, UsageError) as failure:
        return [_refused("journal", name, str(failure), _fix(failure))], 0
    if found is None:
        return [], 0
    findings: list[Finding] = []
    if found.version > SCHEMA:
        what = f"its tables have version {found.version}, and Remit {__version__} reads {SCHEMA}"
        findings.append(_refused("newer_journal", name, what, INSTALL))
    elif found.version < SCHEMA:
        what = f"its tables have version {found.version or '0000'}, and Remit {__version__} reads {SCHEMA}"
        findings.append(_refused("older_journal", name, what, _OLDER))
    for kind, count in sorted(found.unknown.items()):
        what = f"it has events {kind!r} ({count}), which Remit {__version__} does not know: their runs are not read"
        findings.append(_refused("unknown_event", name, what, INSTALL))
    return findings, sum(found.events.values())


def _check_trace(root: Path, path: Path) -> Iterator[Finding]:
    name = path.relative_to(root).as_posix()
    try:
        if what := newer_format(trace_format(path)):
            yield _refused("newer_trace", name, f"it {what}", INSTALL)
    except UsageError as failure:
        yield _refused("trace", name, str(failure), "let this account read it")


def _fix(failure: RemitError) -> str:
    return failure.fix if isinstance(failure, RunEnded) else "see the message"


def _refused(code: str, file: str, what: str, fix: str) -> Finding:
    return Finding(level="error", code=code, file=file, what=what, fix=fix)
