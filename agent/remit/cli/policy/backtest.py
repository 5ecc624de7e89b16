"""`remit policy backtest|suggest`: the rules against what agents really did."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remit.core.events import Recorded

NOTHING_RECORDED = "no run is recorded here: let an agent run first, or name trace files"


@click.command("backtest")
@click.argument("traces", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--policy", "candidate", default=None, help="The rules to try: a folder or git:REV; this workspace's if left out."
)
@click.option("--fail-on-flips", is_flag=True, help="End with 1 where a decision comes out otherwise.")
@click.option("--limit", default=20, show_default=True, help="How many flips to show.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def backtest_command(
    traces: tuple[Path, ...], candidate: str | None, fail_on_flips: bool, limit: int, as_json: bool
) -> None:
    """Make recorded decisions again, under other rules. TRACES are files; all of this workspace's runs if left out.

    \b
    Examples:
      remit policy backtest --policy ../candidate/policies
      remit policy backtest traces/*.jsonl --policy git:main --fail-on-flips
    """
    from dataclasses import asdict

    from remit.analysis import backtest_rules
    from remit.analysis.diff import open_source, working_tree
    from remit.core import UsageError
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    here = working_tree(root)
    source = here if candidate is None else open_source(candidate, root)
    found = backtest_rules(_runs(root, traces), source.side(here.side().vocabulary))
    if not found.runs:
        raise UsageError(NOTHING_RECORDED)
    failed = fail_on_flips and bool(found.flips)
    if as_json:
        echo(json_text({"ok": not failed, **asdict(found)}))
        sys.exit(1 if failed else 0)
    share = 100.0 * found.covered / found.decided if found.decided else 100.0
    echo(
        f"{found.runs} runs, {found.calls} calls, {found.decided} decisions; {share:.0f}% of these recorded all that the rules read"
    )
    for why, count in found.uncovered.items():
        echo(f"  not tried: {count} ({why})")
    for flip in found.flips[:limit]:
        after = f" {style('unreachable', fg='magenta')}" if flip.unreachable else ""
        echo(
            f"{flip.run[:8]} step {flip.step}/{flip.index} {flip.action} {', '.join(flip.resources)}: {flip.before} → {flip.after}{after}"
        )
        echo(f"    {flip.message}")
    if len(found.flips) > limit:
        echo(f"… and {len(found.flips) - limit} more: --limit {len(found.flips)} shows all")
    for run, step in found.unreachable:
        echo(f"{run[:8]} steps from {step} on are unreachable: they followed a result that is now denied")
    people = sum(found.approvals.values())
    echo(
        f"{len(found.flips)} flips; {people / found.runs if found.runs else 0:.1f} approvals in a run, {max(found.approvals.values(), default=0)} at most"
    )
    sys.exit(1 if failed else 0)


def _runs(root: Path, traces: tuple[Path, ...]) -> Iterator[Sequence[Recorded]]:
    """The events of each run: of the files named, else of everything that this workspace has recorded."""
    from remit.tracing import read_trace

    if traces:
        yield from (read_trace(path).records for path in traces)
        return
    from remit.journal import Journal

    journal, seen = root / "traces" / "journal.db", set[str]()
    if journal.exists():
        opened = Journal(journal)
        for run in opened.runs():
            seen.add(run.run)
            yield opened.events(run.run)
    for path in sorted((root / "traces").glob("*.jsonl")):
        if path.stem not in seen:
            yield read_trace(path).records


@click.command("suggest")
@click.argument("traces", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--tool", help="Write first rules for this tool instead, from its manifest.")
@click.option("--agent", default="triage", show_default=True, help="With --tool: the agent that gets them.")
@click.option(
    "--approver",
    default="role:reviewer",
    show_default=True,
    help="With --tool: who is asked where nothing can be undone.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Write the rules into this folder."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def suggest_command(
    traces: tuple[Path, ...], tool: str | None, agent: str, approver: str, output: Path | None, as_json: bool
) -> None:
    """The least of today's rules that keeps every recorded call, proved to allow nothing more than today's.

    \b
    Examples:
      remit policy suggest -o /tmp/suggested
      remit policy suggest --tool files --agent triage
    """
    from remit.analysis import first_policy, recorded_decisions, suggest
    from remit.analysis.diff import working_tree
    from remit.core import UsageError
    from remit.workspace import find_workspace, policy_files

    root = find_workspace(Path.cwd())
    here = working_tree(root)
    if tool is not None:
        text = first_policy(here.workspace, tool, agent, approver)
        echo(json_text({"ok": True, "rules": text}) if as_json else text, nl=as_json)
        return
    side, files = here.side(), policy_files(root)
    recorded = [one for records in _runs(root, traces) for one in recorded_decisions(records, side)[0]]
    if not recorded:
        raise UsageError(NOTHING_RECORDED)
    found = suggest(side, files, recorded)
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
                },
            )
        )  # fmt: skip
        sys.exit(0 if ok else 1)
    for text in found.dropped:
        echo(f"{style('drop', fg='green')}   {text}")
    for before, after in found.narrowed:
        echo(f"{style('narrow', fg='green')} {before}\n    to {after}")
    proof = "proved to allow nothing more than today's" if found.proved else "NOT proved to be a subset of today's"
    echo(f"{found.calls} recorded decisions kept by {found.kept} rules that allow, {len(found.lost)} lost; {proof}")
    sys.exit(0 if ok else 1)
