"""`remit trace`: the on-call engineer's room."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style
from remit.cli.run_argument import is_file, open_run, open_run_of
from remit.cli.trace.diff import diff_command
from remit.cli.trace.filters import RunFilter, filtered
from remit.cli.trace.prune import prune_command
from remit.cli.trace.shrink import shrink_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remit.journal import Journal, RunSummary
    from remit.tracing import Trace
    from remit.workspace import WorkspaceSession

LISTED = 20  # runs, where nobody says how many


@click.group("trace", short_help="read, verify and export what runs did")
def trace_command() -> None:
    """Read, verify and export what runs did. RUN is a run id, a unique beginning of one, or a trace file.

    \b
    Examples:
      remit trace list
      remit trace show 3f2a
      remit trace export 3f2a -o incident.jsonl
      remit trace verify incident.jsonl
    """


@trace_command.command("list")
@filtered
@click.option("--limit", type=click.IntRange(min=1), help="How many, newest first: 20, or with --decisions all.")
@click.option("--decisions", is_flag=True, help="Every decision of these runs instead: the audit export.")
@click.option("--format", "shape", type=click.Choice(["csv", "jsonl"]), help="With --decisions: jsonl if left out.")
@click.option("--stats", is_flag=True, help="Latency, tokens and cost by agent and action, over all runs.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(
    wanted: RunFilter, limit: int | None, decisions: bool, shape: str | None, stats: bool, as_json: bool
) -> None:
    """List runs, newest first; or every decision, oldest first: who, what, by which rules, approved by whom.

    \b
    Examples:
      remit trace list --limit 5
      remit trace list --failed --since 2h
      remit trace list --code policy_denied --action 'files.*' --agent triage
      remit trace list --decisions --format csv > decisions.csv
      remit trace list --stats --since 24h
    """
    from remit.cli.trace.stats import show_stats
    from remit.tracing.reports import utc
    from remit.workspace import open_session

    if stats:
        if wanted != RunFilter(since=wanted.since):
            raise click.UsageError("--stats counts every run; --since is all that chooses with it")
        show_stats(wanted.since, as_json)
        return
    if shape is not None and not decisions:
        raise click.UsageError("--format goes with --decisions")
    opened = open_session()
    runs = opened.journal.runs()
    rows = wanted.choose(opened, runs, limit or (None if decisions else LISTED))
    if decisions:
        _export_decisions(opened.journal, rows, shape or "jsonl")
        return
    if as_json:
        echo(json_text([asdict(row) for row in rows]))
        return
    for row in rows:
        word = row.outcome or row.state
        colour = "green" if word == "completed" else "yellow" if row.outcome is None else "red"
        why = style(f"  {row.code or row.first_failed or ''}".rstrip(), fg="red")
        what = _short(row.task) if row.content == "complete" else f"(content {row.content}: not replayable)"
        named = f"{row.agent} for {row.user}  {what}"
        echo(f"{row.run[:8]}  {utc(row.started_at)}  {style(f'{word:<10}', fg=colour)} {named}{why}")
    if not rows:
        echo("no run is like that" if runs else "no runs yet")


def _export_decisions(journal: Journal, runs: Sequence[RunSummary], shape: str) -> None:
    from remit.broker.approvals import emergencies
    from remit.tracing.reports import decision_as_csv, decision_as_json, decision_csv_header, decision_rows

    reviewers = {
        (one.run, one.granted.key): one.review.reviewer for one in emergencies(journal) if one.review is not None
    }
    if shape == "csv":
        echo(decision_csv_header())
    for run in reversed(runs):
        for row in decision_rows(journal.events(run.run), reviewers):
            echo(decision_as_csv(row) if shape == "csv" else decision_as_json(row))


@trace_command.command("show")
@click.argument("run")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write one page to attach to an incident."
)
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON.")
def show_command(run: str, html: Path | None, as_json: bool) -> None:
    """Show a run: verdict, first cause, where it left the last good run, effects, whom it waits for, then the waterfall.

    \b
    Examples:
      remit trace show 3f2a
      remit trace show incident.jsonl
      remit trace show 3f2a --html incident.html
    """
    from remit.cli.trace.show import show_brief
    from remit.tracing.reports import incident_report
    from remit.workspace import open_session

    opened = None if is_file(run) else open_session()
    trace = open_run(run) if opened is None else open_run_of(opened, run)
    if html is not None:
        from remit.tracing.reports.html import write_page

        write_page(incident_report(trace, opened), html)
        echo(json_text({"ok": True, "file": str(html)}) if as_json else f"wrote {html}")
    elif as_json:
        echo(json_text([item.model_dump(mode="json") for item in trace.records]))
    else:
        show_brief(incident_report(trace, opened))


@trace_command.command("export")
@click.argument("run")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write; RUN.jsonl if left out."
)
@click.option(
    "--for",
    "whom",
    type=click.Choice(["colleague", "vendor"]),
    default="colleague",
    show_default=True,
    help="A colleague gets everything; a vendor shapes without values, and no rules.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def export_command(run: str, output: Path | None, whom: str, as_json: bool) -> None:
    """Pack a run and its rulebook into one portable file, still OTLP JSON Lines, that replays anywhere.

    For a vendor, every value is replaced by a placeholder of its shape, equal ones by equal ones: it can be read, and says
    how things went, but not about what.

    \b
    Examples:
      remit trace export 3f2a -o incident.jsonl
      remit trace export 3f2a --for vendor -o shapes.jsonl
    """
    from remit.tracing import write_portable

    trace = open_run(run)
    if whom == "vendor":
        trace = _for_vendor(trace)
    target = output or Path(f"{trace.run}.jsonl")
    write_portable(trace, target)
    then = f"replay it with: remit replay {target}" if whom != "vendor" else f"read it with: remit trace show {target}"
    echo(json_text({"ok": True, "file": str(target), "run": trace.run}) if as_json else f"wrote {target}; {then}")


def _for_vendor(trace: Trace) -> Trace:
    """The run with its values replaced, under another id."""
    from remit.cli.replay import open_bundles
    from remit.core import UsageError
    from remit.runtime import new_run_id
    from remit.tracing import Trace
    from remit.tracing.reports import KeptWords, anonymized, declared

    try:
        words = declared(open_bundles(trace).values())
    except UsageError:
        words = KeptWords()  # without the rulebook no name is known to be the tools' own, and all are replaced
    chain = anonymized(trace.records, words, run=new_run_id())
    return Trace(run=chain.run, records=tuple(link.recorded() for link in chain.links), chain=chain)


@trace_command.command("verify")
@click.argument("run")
@click.option(
    "--head", metavar="SEQ:HASH", help="The last event as somebody kept it elsewhere: a cut tail is seen then."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify_command(run: str, head: str | None, as_json: bool) -> None:
    """Is the record what was written, and does it agree with itself? Each kind of damage is named.

    The chain of events, the spans that show them, the file against the journal where that is here, the rules that the run
    names, and the digests from decision over approval to attempt and result.

    \b
    Examples:
      remit trace verify 3f2a
      remit trace verify incident.jsonl
      remit trace verify incident.jsonl --head 41:sha256:9d0c…
    """
    from remit.tracing.reports import reconcile, verify

    opened = _session_if_any() if is_file(run) else _session()
    trace = open_run(run) if opened is None else open_run_of(opened, run)
    original = opened.journal.chain(trace.run) if opened is not None and is_file(run) else None
    kept = _parsed_head(head) or (_pruned_head(opened, trace.run) if opened is not None else None)
    faults = list(verify(trace, original=original if original and original.links else None, head=kept))
    if opened is not None and not is_file(run):
        faults += reconcile(opened.traces, trace.chain).faults
    broken = any(fault.broken for fault in faults)
    last = f"{trace.chain.links[-1].seq}:{trace.chain.links[-1].hash}"
    if as_json:
        told = [{"broken": fault.broken, **asdict(fault)} for fault in faults]
        echo(json_text({"ok": not broken, "events": len(trace.records), "head": last, "faults": told}))
    else:
        for fault in faults:
            echo(f"{style(fault.kind, fg='red' if fault.broken else 'yellow')}: {fault.what}")
        word = style("the record is not what was written", fg="red") if broken else "the record holds"
        echo(f"{len(trace.records)} events, {word}\nhead {last}")
    sys.exit(1 if broken else 0)


def _session() -> WorkspaceSession:
    from remit.workspace import open_session

    return open_session()


def _session_if_any() -> WorkspaceSession | None:
    """The workspace around here, whose journal may know the run; a file can be verified without one."""
    from remit.core import RemitError

    try:
        return _session()
    except RemitError:
        return None


def _pruned_head(opened: WorkspaceSession, run: str) -> tuple[int, str] | None:
    """The head of a run that retention let go, whose copy may still be somewhere."""
    from remit.core.events import RunPruned
    from remit.journal import WORKSPACE_RUN

    recorded = opened.journal.get(WORKSPACE_RUN, f"run.pruned/{run}")
    return _parsed_head(recorded.event.head) if recorded and isinstance(recorded.event, RunPruned) else None


def _parsed_head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    seq, _, sealed = text.partition(":")
    if not seq.isdecimal() or not sealed:
        raise click.BadParameter("write it as `remit trace verify` printed it: 41:sha256:…", param_hint="--head")
    return int(seq), sealed


def _short(text: str) -> str:
    from remit.cli.live_output import short

    return short(text, 60)


for _command in (diff_command, shrink_command, prune_command):
    trace_command.add_command(_command)
