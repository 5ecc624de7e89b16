"""`remit trace erase`: erases what people, models and tools wrote in finished runs."""

from __future__ import annotations

import sys

import click

from remit.cli.output import echo, json_text, progress

SHOWN = 10  # from so many runs on, the progress is shown


@click.command("erase")
@click.argument("run", required=False)
@click.option("--user", help="Erase every finished run for this user.")
@click.option("--tenant", help="Erase every finished run of this tenant.")
@click.option("--dry-run", is_flag=True, help="Print what would be erased, and erase nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def erase_command(
    run: str | None, user: str | None, tenant: str | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Erase what people, models and tools wrote in a finished RUN, or in all runs of a user or a tenant.

    This cannot be undone. Tasks, prompts, arguments, results and answers are removed from the journal, the list of runs and the
    trace files. The kinds, times and hashes of the events stay, so that the chain can still be verified. Backups, exported
    files, golden traces and working folders are not reached. With a RUN of a conversation, its later runs are erased too: each has
    what the person wrote before.

    \b
    Examples:
      remit trace erase 3f2a
      remit trace erase --user ann --dry-run
      remit trace erase --user ann --yes
    """
    from remit.journal import RunQuery, resolve_run
    from remit.runtime import erasable, erase_runs
    from remit.workspace import open_session, principal_of_process

    if sum(value is not None for value in (run, user, tenant)) != 1:
        raise click.UsageError("give exactly one of: RUN, --user NAME, --tenant NAME")
    opened = open_session()
    query = RunQuery(
        evaluation=None,
        run=resolve_run(opened.journal, run) if run else "",
        user="" if user is None else user if user.startswith("user:") else f"user:{user}",
        tenant=tenant or "",
    )
    found = erasable(opened, query)
    report = {
        "runs": [row.run for row in found.finished],
        "unfinished": [row.run for row in found.unfinished],
        "golden": list(found.golden),
    }
    if dry_run or not found.finished:
        _print(report, as_json, "to erase", dry_run=dry_run)
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("no terminal to ask for confirmation: add --yes, or check first with --dry-run")
        click.confirm(f"erase the content of {len(found.finished)} runs?", abort=True)
    by = principal_of_process(opened.workspace.settings)
    erase_runs(opened, report["runs"], by=by, on_progress=_progress)
    _print(report, as_json, "erased", dry_run=False)


def _print(report: dict[str, list[str]], as_json: bool, what: str, *, dry_run: bool) -> None:
    if as_json:
        echo(json_text({"ok": True, "dry_run": dry_run, **report}))
        return
    echo(f"{len(report['runs'])} finished runs {what}")
    for run in report["unfinished"]:
        echo(f"  {run[:8]} has not finished and is left: finish it, then erase it")
    for run in report["golden"]:
        echo(f"  a golden trace of {run[:8]} is a file in traces/golden, and is left: delete it there")


def _progress(erased: int, total: int) -> None:
    if total > SHOWN and sys.stderr.isatty():
        progress(f"erased {erased} of {total} runs")
