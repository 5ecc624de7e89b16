"""`remit journal`: checks the rows that lists and checks read against the events, writes them again, and restores lost events."""

from __future__ import annotations

import sys

import click

from remit.cli.output import echo, json_text, runs_read

SHOWN = 20  # differences on a terminal


@click.group("journal", short_help="check the journal, and restore what a backup lacks")
def journal_command() -> None:
    """Check the journal's projections, compute them again, and restore what a backup lacks.

    A projection is what `remit trace list`, `remit approve list` and limits read instead of all events.

    \b
    Examples:
      remit journal check
      remit journal rebuild
      remit journal restore
    """


@journal_command.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def check_command(as_json: bool) -> None:
    """Compare every row of the projections with the events. Exit code 1 if one differs.

    \b
    Examples:
      remit journal check
    """
    from remit.journal import check_projections
    from remit.workspace import open_session

    found = [str(item) for item in check_projections(open_session().journal, runs_read())]
    if as_json:
        echo(json_text({"ok": not found, "differences": found}))
    else:
        for line in found[:SHOWN]:
            echo(line)
        if len(found) > SHOWN:
            echo(f"… and {len(found) - SHOWN} more")
        echo(f"{len(found)} rows differ: `remit journal rebuild`" if found else "every row agrees with the events")
    sys.exit(1 if found else 0)


@journal_command.command("restore")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def restore_command(as_json: bool) -> None:
    """Bring back what shared storage has and the journal lacks, after its database was put back from a backup.

    Runs are then where their last copy was made, and effects that may have happened since the backup are in doubt, not repeated. Workers do
    the same when they start, and for each run before it goes on.

    \b
    Examples:
      remit journal restore
    """
    from remit.core import UsageError
    from remit.journal import bring_back
    from remit.workspace import open_session

    opened = open_session()
    if opened.storage is None:
        raise UsageError("there are no copies of the record: remit.toml names no [storage]")
    found = bring_back(opened.journal)
    shown = {"ok": not found.damaged, "runs": list(found.runs), "streams": list(found.streams), "events": found.events}
    shown["damaged"] = list(found.damaged)
    echo(json_text(shown) if as_json else str(found) if found else "the journal has everything that was copied")
    if found.damaged:
        names = ", ".join(run[:8] for run in found.damaged)
        raise UsageError(f"a copy of these runs is damaged, and they do not go on: {names}; the log names each copy")


@journal_command.command("rebuild")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def rebuild_command(as_json: bool) -> None:
    """Write every row that differs from the events again. Runs may go on meanwhile; their rows are right afterwards, too.

    \b
    Examples:
      remit journal rebuild
    """
    from remit.journal import rebuild_projections
    from remit.workspace import open_session

    written = rebuild_projections(open_session().journal, runs_read())
    echo(json_text({"ok": True, "written": written}) if as_json else f"{written} rows were written again")
