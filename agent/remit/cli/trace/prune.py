"""`remit trace prune`: what retention lets go."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click

from remit.cli.output import echo, json_text, progress

SHOWN = 10  # runs on a terminal


@click.command("prune")
@click.option(
    "--older", metavar="AGE", help="Runs that ended longer ago: 12h, 90d, 8w; `keep` of remit.toml if left out."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def prune_command(older: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Let finished runs go that are older than retention says, except golden ones and emergency approvals to review.

    There is no way back.

    A run goes whole: events, file, checkpoints, and rules that no other run stands on. That it was there, and the head of
    its chain, stays recorded.

    \b
    Examples:
      remit trace prune --dry-run --older 90d
      remit trace prune --yes
    """
    from remit.runtime import prunable, prune, retention_seconds
    from remit.workspace import open_session, os_account

    opened = open_session()
    age = older or opened.workspace.settings.keep
    if age is None:
        raise click.UsageError('say how old: --older 90d, or write `keep = "90d"` under [traces] in remit.toml')
    rows = prunable(opened, retention_seconds(age))
    if dry_run or not rows:
        if as_json:
            echo(json_text({"ok": True, "dry_run": dry_run, "runs": [row.run for row in rows]}))
        else:
            echo(f"{_counted(rows)} ended more than {age} ago, not golden and with nothing to review")
            for row in rows[:SHOWN]:
                echo(f"  {row.run[:8]}  {row.agent}")
            if len(rows) > SHOWN:
                echo(f"  … and {len(rows) - SHOWN} more")
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here: add --yes, or look first with --dry-run")
        click.confirm(f"let {_counted(rows)} go that ended more than {age} ago?", abort=True)
    done = asyncio.run(prune(opened, rows, account=os_account(), on_progress=_progress))
    if as_json:
        echo(json_text({"ok": True, "dry_run": False, **vars(done)}))
    else:
        echo(f"{_counted(done.runs)} and {done.objects} objects are gone, {done.bytes / 1e6:.1f} MB of files")


def _progress(gone: int, of: int) -> None:
    """Tells on a terminal how far it is, where there are many."""
    if of > SHOWN and sys.stderr.isatty():
        progress(f"{gone} of {of} runs are gone")
        if gone == of:
            echo("; giving back their room …", err=True)


def _counted(runs: Sequence[object]) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
