"""`remit notify`: notifies people of what waits for them, without a service."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text

if TYPE_CHECKING:
    from remit.core import RemitError
    from remit.notifications import Delivery


@click.command("notify", short_help="notify people of what waits for them: chat, mail, webhook")
@click.option("--watch", is_flag=True, help="Go on and send notifications as they come up, until it is interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print each attempt as JSON.")
def notify_command(watch: bool, as_json: bool) -> None:
    """Send the notifications that are due to the channels [notify.NAME] of remit.toml: approvals that wait, lost runs, effects in doubt, holds.

    A notification is one sentence with a link or a command, and has no arguments and no content. Each attempt is recorded, and a failed
    one is made again after a growing pause, by whichever process of `remit notify` or `remit serve` comes first. Exit code 1 if an
    attempt failed.

    \b
    Examples:
      remit notify
      remit notify --watch
    """
    from remit.core import RemitError, UsageError
    from remit.guardrails import Secrets
    from remit.notifications import Notifier
    from remit.workspace import authorize, open_session, principal_of_process, run_resource

    opened = open_session()
    settings = opened.workspace.settings
    by = principal_of_process(settings)
    for agent in sorted(opened.workspace.agents):  # a notification says what an agent did, also for other people
        authorize(opened.policy, by, "remit.read", run_resource(agent, own=False), f"send notifications about {agent}")
    if not settings.notify:
        raise UsageError("remit.toml has no channel for notifications: add a table [notify.NAME]")
    notifier = Notifier(opened.journal, settings.notify, Secrets(opened.root, settings.secrets))

    def report(item: Delivery | RemitError) -> None:
        if isinstance(item, RemitError):
            echo(str(item), err=True)
        else:
            echo(json_text(asdict(item), indent=None) if as_json else _line(item))

    if watch:
        asyncio.run(notifier.watch(report))
    made = asyncio.run(notifier.send_due())
    if as_json:
        echo(json_text([asdict(item) for item in made]))
    else:
        for item in made:
            report(item)
        if not made:
            echo("no notification is due")
    raise SystemExit(1 if any(item.outcome != "sent" for item in made) else 0)


def _line(item: Delivery) -> str:
    again = ""
    if item.again_at is not None:
        at = datetime.fromtimestamp(item.again_at / 1e9, UTC).strftime("%H:%M:%S UTC")
        again = f"; attempt {item.number + 1} at {at}"
    return f"{item.channel}: {item.subject}: {item.outcome}{': ' if item.reason else ''}{item.reason}{again}"
