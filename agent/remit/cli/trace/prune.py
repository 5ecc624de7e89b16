"""`remit trace prune`: deletes runs that are older than the retention period."""

from __future__ import annotations

import sys

import click

from remit.cli.output import counted, echo, json_text, progress

SHOWN = 10  # runs on a terminal


@click.command("prune")
@click.option(
    "--older-than",
    metavar="AGE",
    help="Delete runs that ended longer ago: 12h, 90d, 8w; default: `keep` and its rules in remit.toml.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def prune_command(older_than: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete finished runs that are older than the retention period, and seal the others. Golden runs, and runs to review, are kept.

    A sealed run is compressed to a tenth of its size, and is read, verified and replayed like any other. Deleting cannot be undone. A run to review has an emergency approval that nobody has reviewed.

    It deletes the events, the file, and the policy bundles that no other run uses. The journal keeps the id
    of the run and the last hash of its chain.

    \b
    Examples:
      remit trace prune --dry-run --older-than 90d
      remit trace prune --yes
    """
    from remit.runtime import prunable, prune, retention_seconds, seal_finished
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    settings = opened.workspace.settings
    if not (older_than or settings.keep or settings.keep_rules):
        raise click.UsageError('add --older-than 90d, or write `keep = "90d"` under [traces] in remit.toml')
    rows = prunable(opened, retention_seconds(older_than) if older_than else None)
    age = f"more than {older_than} ago" if older_than else "longer ago than remit.toml keeps them"
    if dry_run:
        if as_json:
            echo(json_text({"ok": True, "dry_run": dry_run, "runs": [row.run for row in rows]}))
        else:
            echo(f"{counted(len(rows), 'run')} to delete: ended {age}, not golden, nothing to review")
            for row in rows[:SHOWN]:
                echo(f"  {row.run[:8]}  {row.agent}")
            if len(rows) > SHOWN:
                echo(f"  … and {len(rows) - SHOWN} more")
        return
    if rows and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("no terminal to ask for confirmation: add --yes, or check first with --dry-run")
        click.confirm(f"delete {counted(len(rows), 'run')} that ended {age}?", abort=True)
    done = prune(opened, rows, by=principal_of_process(opened.workspace.settings), on_progress=_progress)
    sealed = seal_finished(opened, retention_seconds(opened.workspace.settings.seal))
    if as_json:
        echo(json_text({"ok": True, "dry_run": False, "sealed": sealed, **vars(done)}))
    else:
        echo(f"deleted {counted(len(done.runs), 'run')} and {done.objects} objects, {done.bytes / 1e6:.1f} MB of files")
        echo(f"sealed {sealed} finished runs")


def _progress(deleted: int, total: int) -> None:
    """Show the progress on a terminal, if there are many runs."""
    if total > SHOWN and sys.stderr.isatty():
        progress(f"deleted {deleted} of {total} runs")
        if deleted == total:
            echo("; shrinking the journal …", err=True)
