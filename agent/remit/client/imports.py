"""Imports traces of other tools into the journal of a workspace."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.core import Principal, Refusal, UsageError
from remit.journal import record_run
from remit.runtime import agent_of, sanitizer_of
from remit.tracing import Converter, Coverage, ImportedAs, group_spans, read_spans
from remit.workspace import WorkspaceSession, authorize

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_USER: Final = re.compile(r"user:[A-Za-z0-9._@-]{1,128}")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import recorded. `runs` are new; `known` traces were imported before, under the same name."""

    name: str
    runs: tuple[str, ...]
    known: int
    coverage: Coverage


def import_traces(
    session: WorkspaceSession,
    files: Sequence[Path],
    what: ImportedAs,
    *,
    by: Principal,
    progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Record each trace of the files as a run. Nothing of it runs. `progress` gets the number of traces that are done.

    Raises:
        Refusal: `policy_denied`: the rules do not let the person start runs of the agent.
        UsageError: a name is not valid, or the workspace does not record content.
        WorkspaceError: a file is damaged. Nothing is imported then.
    """
    _check(session, what)
    words = f"import runs of {what.agent}"
    authorize(session.policy, by, "remit.run", f"agent:{what.agent}", words, journal=session.journal)
    traces = group_spans(span for file in files for span in read_spans(file))
    workspace = session.workspace
    converter = Converter(what=what, workspace=workspace, by=by, sanitizer=lambda run: sanitizer_of(workspace, run, ()))
    runs: list[str] = []
    for number, trace in enumerate(traces, start=1):
        chain = converter.convert(trace)
        if session.journal.head(chain.run) is None:
            record_run(session.journal, chain)
            runs.append(chain.run)
        progress(number)
    return Imported(name=what.name, runs=tuple(runs), known=len(traces) - len(runs), coverage=converter.coverage)


def _check(session: WorkspaceSession, what: ImportedAs) -> None:
    agent_of(session, what.agent)
    if not _NAME.fullmatch(what.name):
        raise UsageError(f"{what.name!r} is not a name of an import: write lower-case letters, digits, _ and -")
    if not _USER.fullmatch(what.user):
        raise UsageError(f"{what.user!r} is not a user: write user:NAME")
    if not session.workspace.settings.content:
        raise UsageError(
            "this workspace does not record content, so imported calls could not be decided: see remit.toml"
        )
    for tool, action in what.actions.items():
        try:
            session.workspace.action(action)
        except Refusal as refusal:
            raise UsageError(f"{tool} cannot stand for {action}: {refusal.message}") from refusal
