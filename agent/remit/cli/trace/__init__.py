"""`remit trace`: lists, shows, verifies, exports, compares, shrinks and prunes recorded runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, paged, style
from remit.cli.run_argument import open_run
from remit.cli.trace.diff import diff_command
from remit.cli.trace.erase import erase_command
from remit.cli.trace.filters import RunFilter, with_run_filter
from remit.cli.trace.imports import import_command
from remit.cli.trace.prune import prune_command
from remit.cli.trace.reads import note_read
from remit.cli.trace.shrink import shrink_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remit.journal import Journal, RunSummary
    from remit.tracing import Trace
    from remit.workspace import WorkspaceSession

LISTED = 20  # runs, if --limit is not given
WORD = 20  # characters for the state of a run: `completed, 3 refused`


@click.group("trace", short_help="read, compare, shrink, verify and export recorded runs")
def trace_command() -> None:
    """Read, compare, shrink, verify and export recorded runs. RUN is a run id, the first characters of one, or a trace file.

    \b
    Examples:
      remit trace list
      remit trace show 3f2a
      remit trace export 3f2a -o incident.jsonl
      remit trace verify incident.jsonl
    """


@trace_command.command("list")
@with_run_filter
@click.option("--limit", type=click.IntRange(min=1), help="Show the newest N runs; default 20, with --decisions all.")
@click.option("--decisions", is_flag=True, help="Print every decision of these runs instead: the audit export.")
@click.option("--format", "shape", type=click.Choice(["csv", "jsonl"]), help="Format of --decisions; default jsonl.")
@click.option("--stats", is_flag=True, help="Print latency, tokens and cost by agent and action, over all runs.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def trace_list_command(
    run_filter: RunFilter, limit: int | None, decisions: bool, shape: str | None, stats: bool, as_json: bool
) -> None:
    """List runs, newest first; or with --decisions every decision, oldest first, with user, rules and approvers.

    \b
    Examples:
      remit trace list --limit 5
      remit trace list --failed --since 2h
      remit trace list --code policy_denied --action 'files.*' --agent triage
      remit trace list --conversation 3f2a
      remit trace list --decisions --format csv > decisions.csv
      remit trace list --stats --since 24h
    """
    from remit.cli.trace.stats import show_stats
    from remit.tracing.reports import utc
    from remit.workspace import open_session

    if stats:
        if run_filter != RunFilter(
            since=run_filter.since, evaluation=run_filter.evaluation, imported=run_filter.imported
        ):
            raise click.UsageError(
                "--stats counts all runs: it accepts the filters --since, --evaluation and --imported only"
            )
        show_stats(run_filter.since, run_filter.apart, as_json)
        return
    if shape is not None and not decisions:
        raise click.UsageError("--format is the format of the decisions: add --decisions")
    opened = open_session()
    rows = run_filter.choose(opened, limit or (None if decisions else LISTED))
    if decisions:
        _export_decisions(opened.journal, rows, shape or "jsonl")
        return
    if as_json:
        echo(json_text([asdict(row) for row in rows], default=lambda amount: format(amount, "f")))
        return
    for row in rows:
        failed = row.state == "lost" or row.outcome not in (None, "completed")
        colour = "red" if failed else "yellow" if row.outcome is None else "green"
        why = style(f"  {_why(row)}".rstrip(), fg="red" if failed else "yellow")
        what = _short(row.task) if row.content == "complete" else f"(content {row.content}: not replayable)"
        who = f"{row.agent} for {row.user}"
        echo(f"{row.run[:8]}  {utc(row.started_at)}  {style(f'{row.word:<{WORD}}', fg=colour)} {who}  {what}{why}")
    if not rows:
        echo("no runs yet" if run_filter == RunFilter() else "no runs match the filters")


def _why(row: RunSummary) -> str:
    """What ended or endangers a run, or until when it waits, in a few words; "" if nothing did."""
    from remit.tracing.reports import utc

    doubts = [f"{item.action} at step {item.step}.{item.index}" for item in row.in_doubt if not item.answered]
    if row.state == "lost" and doubts:
        return f"during {', '.join(doubts)}: outcome unknown"
    if row.outcome == "failed" and row.code is None:
        return f"the model failed at step {max(0, row.steps - 1)}"
    if row.waits_until and row.state.startswith("waiting"):
        return f"until {utc(row.waits_until)}"
    return row.code or row.first_denied or row.first_failed or ""


def _export_decisions(journal: Journal, runs: Sequence[RunSummary], shape: str) -> None:
    from remit.tracing.reports import decision_as_csv, decision_as_json, decision_csv_header, decision_rows

    if shape == "csv":
        echo(decision_csv_header())
    for run in reversed(runs):
        for row in decision_rows(journal.events(run.run)):
            echo(decision_as_csv(row) if shape == "csv" else decision_as_json(row))


@trace_command.command("show")
@click.argument("run")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file as one HTML page.")
@click.option("--all", "every", is_flag=True, help="Show all steps, not only those around the root cause.")
@click.option("--step", type=click.IntRange(min=0), help="Show this step only, with arguments and results.")
@click.option("--failures", is_flag=True, help="Show the steps in which something failed or was refused.")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON.")
def trace_show_command(
    run: str, html: Path | None, every: bool, step: int | None, failures: bool, as_json: bool
) -> None:
    """Show a run: outcome, root cause, first difference from the last good run, side effects, timeline, next commands.

    Equal steps are shown once. A damaged file is shown as far as it can be read, and the exit status is 1.

    \b
    Examples:
      remit trace show 3f2a
      remit trace show 3f2a --step 12
      remit trace show incident.jsonl --failures
      remit trace show 3f2a --html incident.html
    """
    from remit.cli.trace.show import show_run
    from remit.cli.trace.steps import StepChoice
    from remit.client import open_trace_of
    from remit.tracing import is_trace_file, read_trace
    from remit.tracing.reports import incident_report
    from remit.workspace import open_session, principal_of_process

    if (every, step is not None, failures).count(True) > 1:
        raise click.UsageError("--all, --step and --failures each choose steps: use one of them")
    opened = None if is_trace_file(run) else open_session()
    trace = (
        read_trace(Path(run), damaged=True)
        if opened is None
        else open_trace_of(opened, run, by=principal_of_process(opened.workspace.settings), damaged=True)
    )
    note_read(opened, trace.run, "show" if html is None else "page")
    report = incident_report(trace, opened)
    if html is not None:
        from remit.tracing.reports.html import write_page

        write_page(report, html)
        echo(json_text({"ok": True, "file": str(html)}) if as_json else f"wrote {html}")
    elif as_json:
        echo(json_text([item.model_dump(mode="json") for item in trace.records]))
    else:
        with paged():
            show_run(report, StepChoice(every=every, step=step, failures=failures))
    if report.damage:
        if as_json or html is not None:
            echo(f"integrity check failed: {report.damage[0]}", err=True)
        sys.exit(1)


@trace_command.command("export")
@click.argument("run")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file; default RUN.jsonl."
)
@click.option(
    "--for",
    "whom",
    type=click.Choice(["colleague", "vendor"]),
    default="colleague",
    show_default=True,
    help="A colleague gets everything; a vendor gets placeholders instead of values, and no rules.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def export_command(run: str, output: Path | None, whom: str, as_json: bool) -> None:
    """Write a run and its policy bundle into one file (OTLP JSON Lines) that replays anywhere.

    For a vendor, every value is replaced by a placeholder, equal values by equal placeholders. The file shows what happened
    and when, but not the data. It cannot be replayed.

    \b
    Examples:
      remit trace export 3f2a -o incident.jsonl
      remit trace export 3f2a --for vendor -o shapes.jsonl
    """
    from remit.tracing import is_trace_file, write_portable

    trace = open_run(run)
    note_read(
        None if is_trace_file(run) else _session(), trace.run, "export" if whom == "colleague" else "export for vendor"
    )
    if whom == "vendor":
        trace = _for_vendor(trace)
    target = output or Path(f"{trace.run}.jsonl")
    write_portable(trace, target)
    usage = f"replay it with: remit replay {target}" if whom != "vendor" else f"read it with: remit trace show {target}"
    echo(json_text({"ok": True, "file": str(target), "run": trace.run}) if as_json else f"wrote {target}; {usage}")


def _for_vendor(trace: Trace) -> Trace:
    """The run with its values replaced, under another id."""
    from remit.core import UsageError
    from remit.runtime import new_run_id
    from remit.tracing import Trace
    from remit.tracing.reports import KeptWords, anonymize_run, declared_words
    from remit.workspace import open_bundles

    try:
        words = declared_words(open_bundles(trace.bundles()).values())
    except UsageError:
        words = KeptWords()  # without the policy bundle no name is known to be declared, so all names are replaced
    chain = anonymize_run(trace.records, words, run=new_run_id())
    return Trace(run=chain.run, records=tuple(link.recorded() for link in chain.links), chain=chain)


@trace_command.command("verify")
@click.argument("run")
@click.option(
    "--head",
    metavar="SEQ:HASH",
    help="The last event, as you kept it elsewhere. It shows a file whose end was cut off.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify_command(run: str, head: str | None, as_json: bool) -> None:
    """Verify the hash chain and the internal consistency of a recorded run, and name each fault.

    It checks the chain of events, the spans made from them, the file against the journal if this workspace has the run, the
    policy bundles, the digests from decision to approval, attempt and result, and the signatures of passkeys.

    \b
    Examples:
      remit trace verify 3f2a
      remit trace verify incident.jsonl
      remit trace verify incident.jsonl --head 41:sha256:9d0c…
    """
    from remit.client import open_trace_of
    from remit.journal import enrolled_passkey
    from remit.tracing import is_trace_file
    from remit.tracing.reports import passkey_faults, reconcile, verify
    from remit.workspace import principal_of_process

    opened = _session_if_any() if is_trace_file(run) else _session()
    trace = (
        open_run(run)
        if opened is None
        else open_trace_of(opened, run, by=principal_of_process(opened.workspace.settings))
    )
    original = opened.journal.chain(trace.run) if opened is not None and is_trace_file(run) else None
    kept = _parsed_head(head) or (_pruned_head(opened, trace.run) if opened is not None else None)
    faults = list(verify(trace, original=original if original and original.links else None, head=kept))
    if opened is not None and not is_trace_file(run):
        faults += reconcile(opened.traces, opened.journal, trace.chain).faults
        faults += passkey_faults(trace.records, lambda id: enrolled_passkey(opened.journal, id))
    broken = any(fault.broken for fault in faults)
    last = f"{trace.chain.links[-1].seq}:{trace.chain.links[-1].hash}"
    if as_json:
        rows = [{"broken": fault.broken, **asdict(fault)} for fault in faults]
        echo(json_text({"ok": not broken, "events": len(trace.records), "head": last, "faults": rows}))
    else:
        for fault in faults:
            echo(f"{style(fault.kind, fg='red' if fault.broken else 'yellow')}: {fault.what}")
        word = style("integrity check failed", fg="red") if broken else "integrity check passed"
        echo(f"{len(trace.records)} events: {word}\nhead {last}")
    sys.exit(1 if broken else 0)


def _session() -> WorkspaceSession:
    from remit.workspace import open_session

    return open_session()


def _session_if_any() -> WorkspaceSession | None:
    """The workspace of the current folder, whose journal may have the run; None if there is no workspace."""
    from remit.core import RemitError

    try:
        return _session()
    except RemitError:
        return None


def _pruned_head(opened: WorkspaceSession, run: str) -> tuple[int, str] | None:
    """The head of a run that the retention policy deleted; a copy of its file may still exist."""
    from remit.core.events import RunPruned
    from remit.journal import WORKSPACE_RUN

    recorded = opened.journal.get(WORKSPACE_RUN, f"run.pruned/{run}")
    return _parsed_head(recorded.event.head) if recorded and isinstance(recorded.event, RunPruned) else None


def _parsed_head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    seq, _, sealed = text.partition(":")
    if not seq.isdecimal() or not sealed:
        raise click.BadParameter("copy it from the output of `remit trace verify`: 41:sha256:…", param_hint="--head")
    return int(seq), sealed


def _short(text: str) -> str:
    from remit.cli.live_output import short

    return short(text, 60)


for _command in (diff_command, import_command, shrink_command, prune_command, erase_command):
    trace_command.add_command(_command)
