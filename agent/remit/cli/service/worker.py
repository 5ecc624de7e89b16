"""`remit worker`: a process that drives the runs of the queue."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.workers import DroveRun, Worker

COLOURS = {"completed": "green", "waiting": "yellow", "on hold": "yellow"}


@click.command("worker", short_help="drive the runs that wait in the queue")
@click.argument("workspaces", nargs=-1, metavar="[WORKSPACE]...", type=click.Path(path_type=Path))
@click.option("--slots", type=click.IntRange(1, 1000), help="Runs that it drives at one time; default: [worker] slots.")
@click.option(
    "--drain",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="At the end, how long runs may go on; then they pause.",
)
@click.option("--until-idle", is_flag=True, help="End when no run is left that can go on.")
@click.option("--json", "as_json", is_flag=True, help="Print each run that was driven as a line of JSON.")
def worker_command(
    workspaces: tuple[Path, ...], slots: int | None, drain: float, until_idle: bool, as_json: bool
) -> None:
    """Drive runs of `remit enqueue` until Ctrl-C or SIGTERM. Without WORKSPACE, those of the current folder.

    Each WORKSPACE is of another tenant; the tenant with the fewest runs under way comes first. Start as many workers as there are
    cores, on machines that share the journal (PostgreSQL) and the folder of the workspace. A run that waits for people or for its model
    holds no worker: the worker that is free when the answer is recorded continues it. If a worker dies, another one takes its runs over.

    \b
    Examples:
      remit worker
      remit worker --slots 4 /srv/agents/shop /srv/agents/support
      remit worker --until-idle
    """
    from remit.workers import Worker
    from remit.workspace import open_session, principal_of_process

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sessions = [open_session(path) for path in workspaces or (None,)]
    most = slots or sessions[0].workspace.settings.worker.slots
    opened = [(session, principal_of_process(session.workspace.settings)) for session in sessions]
    worker = Worker(opened, slots=most, report=_print_json if as_json else _print_line)
    try:
        asyncio.run(_work(worker, drain, until_idle=until_idle))
    finally:
        for session in sessions:
            session.journal.close()


async def _work(worker: Worker, drain: float, *, until_idle: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, worker.end)
    await worker.run(drain=drain, until_idle=until_idle)


def _print_line(drove: DroveRun) -> None:
    why = f": {drove.error}" if drove.error else ""
    echo(f"{drove.run[:8]}  {style(drove.word, fg=COLOURS.get(drove.word, 'red'))}{why}")


def _print_json(drove: DroveRun) -> None:
    echo(json_text({"run": drove.run, "tenant": drove.tenant, "state": drove.word, "error": drove.error or None}))
