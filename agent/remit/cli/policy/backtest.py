"""`remit policy backtest` and `remit policy suggest`: the rules applied to recorded runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import counted, echo, json_text, style
from remit.cli.run_argument import open_for_person

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from remit.analysis import Draft, Evidence
    from remit.analysis.diff import PolicySource
    from remit.core.events import Recorded

NOTHING_RECORDED = "no run is recorded here: run an agent first, or name trace files"


@click.command("backtest")
@click.argument("traces", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--policy", "candidate", default=None, help="The rules to test: a folder or git:REV. Default: this workspace."
)
@click.option("--fail-on-flips", is_flag=True, help="Exit with 1 if a verdict changes or an answer loses a source.")
@click.option("--imported", default="", metavar="NAME", help="Decide the runs of this import: `remit trace import`.")
@click.option("--limit", default=20, show_default=True, help="How many changed verdicts to show.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_backtest_command(
    traces: tuple[Path, ...], candidate: str | None, fail_on_flips: bool, imported: str, limit: int, as_json: bool
) -> None:
    """Decide recorded calls again under other rules. TRACES are files. Default: all runs of this workspace.

    \b
    Examples:
      remit policy backtest --policy ../candidate/policies
      remit policy backtest traces/*.jsonl --policy git:main --fail-on-flips
      remit policy backtest --imported july
    """
    from dataclasses import asdict

    from remit.analysis import backtest_rules
    from remit.analysis.diff import open_source, working_tree
    from remit.core import UsageError
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    here = working_tree(root)
    source = here if candidate is None else open_source(candidate, root)
    found = backtest_rules(_runs(root, traces, imported), source.rule_set(here.rule_set().vocabulary))
    if not found.runs:
        raise UsageError(NOTHING_RECORDED)
    failed = fail_on_flips and bool(found.flips or found.lost_sources)
    if as_json:
        echo(json_text({"ok": not failed, **asdict(found)}))
        sys.exit(1 if failed else 0)
    decisions = found.covered + sum(found.uncovered.values())
    share = 100.0 * found.covered / decisions if decisions else 100.0
    echo(
        f"{counted(found.runs, 'run')}, {counted(found.calls, 'call')}, {counted(decisions, 'decision')}, of which {share:.0f}% have complete inputs"
    )
    for why, count in found.uncovered.items():
        echo(f"  skipped: {count} ({why})")
    for flip in found.flips[:limit]:
        note = f" {style('unreachable', fg='magenta')}" if flip.unreachable else ""
        echo(
            f"{flip.run[:8]} step {flip.step}/{flip.index} {flip.action} {', '.join(flip.resources)}: {flip.before} → {flip.after}{note}"
        )
        echo(f"    {flip.message}")
    if len(found.flips) > limit:
        echo(f"… and {len(found.flips) - limit} more: --limit {len(found.flips)} shows all")
    for run, step in found.unreachable:
        echo(f"{run[:8]} steps from {step} on are unreachable: they follow a call that is now denied")
    for lost in found.lost_sources[:limit]:
        echo(
            f"{lost.run[:8]} claim {lost.claim} loses its source {lost.document} version {lost.version}: {lost.message}"
        )
    if found.grounded:
        answers = len({lost.run for lost in found.lost_sources})
        echo(f"{answers} of {found.grounded} grounded answers lose a source")
    approvals = sum(found.approvals.values())
    echo(
        f"{counted(len(found.flips), 'changed verdict')}; {approvals / found.runs if found.runs else 0:.1f} approvals per run, {max(found.approvals.values(), default=0)} at most"
    )
    sys.exit(1 if failed else 0)


def _runs(root: Path, traces: tuple[Path, ...], imported: str) -> Iterator[Sequence[Recorded]]:
    """Yield the events of each run: of the named files, of the import of that name, or else of all runs of this workspace."""
    from remit.tracing import read_trace

    if traces and imported:
        raise click.UsageError("name trace files or an import, not both")
    if traces:
        yield from (read_trace(path).records for path in traces)
        return
    from remit.core.events import IMPORTS
    from remit.journal import RunQuery, list_runs

    journal, seen = open_for_person(root).journal, set[str]()
    if imported:
        yield from (journal.events(run.run) for run in list_runs(journal, RunQuery(evaluation=f"{IMPORTS}{imported}")))
        return
    for run in list_runs(journal):
        seen.add(run.run)
        yield journal.events(run.run)
    for path in sorted((root / "traces").glob("*.jsonl")):
        if path.stem not in seen and journal.head(path.stem) is None:  # neither of an evaluation nor imported
            yield read_trace(path).records


@click.command("suggest")
@click.argument("traces", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--imported", default="", metavar="NAME", help="Draft rules for the calls of this import that no rule allows."
)
@click.option("--tool", help="Draft rules for this tool instead, from its manifest.")
@click.option("--agent", default="triage", show_default=True, help="With --tool: the agent that the rules are for.")
@click.option("--user", help="With --tool: the user that the agent acts for. Default: the user of this account.")
@click.option(
    "--approver",
    default="",
    help="With --tool or --imported: the role that approves actions that cannot be undone. Default: one that another user has.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Write the rules into this folder."
)
@click.option("--write", is_flag=True, help="With --tool: write the rules and their cases into policies/.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_suggest_command(
    traces: tuple[Path, ...],
    imported: str,
    tool: str | None,
    output: Path | None,
    write: bool,
    as_json: bool,
    **who: str | None,
) -> None:
    """Suggest a minimal subset of the rules that keeps every recorded call, proved to allow nothing more.

    \b
    Examples:
      remit policy suggest -o suggested
      remit policy suggest --tool files --agent triage --write
      remit policy suggest --imported july -o suggested
    """
    from dataclasses import asdict

    from remit.analysis import recorded_decisions, suggest_rules
    from remit.analysis.diff import working_tree
    from remit.core import UsageError
    from remit.workspace import find_workspace, policy_files

    root = find_workspace(Path.cwd())
    if write:
        _write_use(tool, who, as_json)
        return
    here = working_tree(root)
    if tool is not None:
        _draft_tool(here, tool, who, output, as_json)
        return
    rule_set, files = here.rule_set(), policy_files(root)
    if imported:
        _draft(here, files, _runs(root, traces, imported), who["approver"] or "", output, as_json)
        return
    recorded = [one for records in _runs(root, traces, "") for one in recorded_decisions(records, rule_set)[0]]
    if not recorded:
        raise UsageError(NOTHING_RECORDED)
    found = suggest_rules(rule_set, files, recorded)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for file, text in {**{name: data.decode() for name, data in files.items()}, **found.files}.items():
            (output / Path(file).name).write_text(text, encoding="utf-8")
    ok = found.proved and not found.lost
    if as_json:
        echo(
            json_text(
                {
                    "ok": ok, "calls": found.calls, "kept": found.kept, "dropped": found.dropped, "narrowed": found.narrowed,
                    "lost": len(found.lost), "proved": found.proved, "files": found.files,
                    "evidence": {**asdict(found.evidence), "missed": found.evidence.missed},
                },
            )
        )  # fmt: skip
        sys.exit(0 if ok else 1)
    for text in found.dropped:
        echo(f"{style('drop', fg='green')}   {text}")
    for before, after in found.narrowed:
        echo(f"{style('narrow', fg='green')} {before}\n    to {after}")
    proof = (
        "proved to allow nothing more than the current rules" if found.proved else "NOT proved to allow nothing more"
    )
    echo(f"{found.kept} allow rules keep {found.calls} recorded decisions, {len(found.lost)} are lost; {proof}")
    for line in _evidence_lines(found.evidence):
        echo(line)
    sys.exit(0 if ok else 1)


def _evidence_lines(evidence: Evidence) -> Iterator[str]:
    """How thin the evidence is: what nothing in these runs needed, other runs may need."""
    share = f"{100 * evidence.missed:.0f}%"
    yield f"evidence: {counted(evidence.runs, 'run')}; up to {share} of runs may need a rule that is dropped (95% confidence)"
    if evidence.single:
        yield f"  {counted(evidence.single, 'kept rule')} used by one recorded call only"
    for agent in evidence.unrecorded:
        yield f"  no run of {agent} is recorded: its rules are dropped without evidence"


def _write_use(tool: str | None, who: Mapping[str, str | None], as_json: bool) -> None:
    """Write rules for a tool, with their cases, and show them."""
    from remit.analysis import diff_of, draft_use, edit_workspace
    from remit.cli.run_argument import open_for_person
    from remit.cli.tool.changes import show_diff
    from remit.runtime import acting_subject
    from remit.workspace import principal_of_process

    if tool is None:
        raise click.UsageError("--write writes rules for a tool: name it by --tool")
    opened = open_for_person()
    user = acting_subject(opened, principal_of_process(opened.workspace.settings), who["user"])
    agent = (who["agent"] or "").removeprefix("agent:")
    changes = draft_use(opened, agent, tool, user=user, approver=who["approver"] or "")
    edit_workspace(opened.root, {change.file: change.after.encode() for change in changes})
    if as_json:
        echo(json_text({"ok": True, "files": [change.file for change in changes], "diff": diff_of(changes)}))
        return
    show_diff(diff_of(changes))
    echo("written" if changes else "nothing is missing: the rules decide each action already")


def _draft_tool(
    here: PolicySource, tool: str, who: Mapping[str, str | None], output: Path | None, as_json: bool
) -> None:
    """Print, or write, rules for a tool: for the agent and for a user."""
    from remit.analysis import draft_for_tool
    from remit.workspace import principal_of_process

    agent, approver = (who["agent"] or "").removeprefix("agent:"), who["approver"] or ""
    named = who["user"]
    user = (
        principal_of_process(here.workspace.settings).subject
        if named is None
        else f"user:{named.removeprefix('user:')}"
    )
    text = draft_for_tool(here.workspace, here.rule_set(), tool, agent=f"agent:{agent}", user=user, approver=approver)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{tool}.csv").write_text(text, encoding="utf-8")
    shown = text if output is None else f"wrote {output}/{tool}.csv\n"
    echo(json_text({"ok": True, "rules": text}) if as_json else shown, nl=as_json)


def _draft(
    here: PolicySource,
    files: Mapping[str, bytes],
    runs: Iterable[Sequence[Recorded]],
    approver: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Print, or write, rules and cases for the imported calls that no rule allows; their coverage comes first."""
    from collections import Counter
    from dataclasses import asdict

    from remit.analysis import RecordedDecision, draft_rules, recorded_decisions
    from remit.core import UsageError

    recorded, missing = list[RecordedDecision](), Counter[str]()
    for records in runs:
        found, uncounted = recorded_decisions(records, here.rule_set())
        recorded += found
        missing += uncounted
    if not recorded and not missing:
        raise UsageError("no run of that import is recorded here: `remit trace import` records them")
    draft = draft_rules(here.workspace, here.rule_set(), files, recorded, approver)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in {"drafted.csv": draft.rules, "drafted_cases.yaml": draft.cases}.items():
            (output / name).write_text(text, encoding="utf-8")
    if as_json:
        echo(json_text({"ok": True, "calls": len(recorded) + missing.total(), "skipped": missing, **asdict(draft)}))
        return
    for line in _coverage_lines(draft, len(recorded), missing):
        echo(line)
    echo(
        draft.rules if output is None else f"wrote {output}/drafted.csv and {output}/drafted_cases.yaml",
        nl=output is not None,
    )


def _coverage_lines(draft: Draft, decided: int, missing: Counter[str]) -> Iterator[str]:
    calls = decided + missing.total()
    yield f"{counted(calls, 'call')}, of which {100 * decided / calls:.0f}% can be decided"
    yield from (f"  skipped: {count} ({why})" for why, count in missing.most_common())
    for label, found in (("rules in force", draft.before), ("with the draft", draft.after)):
        yield (
            f"{label}: {found.allowed} allowed, {found.asks} ask, {found.denied} denied by a rule,"
            f" {found.unmentioned} that no rule allows"
        )
