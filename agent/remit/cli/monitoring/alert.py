"""`remit alert`: lists the alerts in force, and closes one."""

from __future__ import annotations

import click

from remit.cli.output import echo, json_text, style
from remit.cli.run_argument import open_for_person


@click.group("alert", short_help="list and close alerts of drift and of targets")
def alert_command() -> None:
    """List the alerts in force, and close one. `remit drift --alert` and `remit targets --alert` raise them.

    \b
    Examples:
      remit alert list
      remit alert close drift:triage:refusals
    """


@alert_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def alert_list_command(as_json: bool) -> None:
    """List the alerts in force, the oldest first.

    \b
    Examples:
      remit alert list
      remit alert list --json
    """
    from remit.journal import alerts_in_force

    alerts = alerts_in_force(open_for_person().journal)
    if as_json:
        echo(json_text([{"alert": alert.alert, **alert.model_dump(mode="json")} for alert in alerts]))
        return
    for alert in alerts:
        echo(f"{style(alert.alert, bold=True)}  {alert.text}")
        for change in alert.changes:
            echo(f"  fits: {change}")
    if not alerts:
        echo("no alert is in force")


@alert_command.command("close")
@click.argument("alert")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def alert_close_command(alert: str, as_json: bool) -> None:
    """Close ALERT: what it says is known. A drift that is seen later raises a new one, and so does a target that is still passed.

    \b
    Examples:
      remit alert close drift:triage:refusals
      remit alert close "target:triage:p95 of files.read"
    """
    from remit.evals.monitoring import close_alert
    from remit.workspace import authorize, open_session, principal_of_process

    opened = open_session()
    by, (_, agent, *_) = principal_of_process(opened.workspace.settings), [*alert.split(":"), ""]
    authorize(
        opened.policy,
        by,
        "remit.alert",
        f"agent:{agent or 'unknown'}",
        f"close the alert {alert!r}",
        journal=opened.journal,
    )
    closed = close_alert(opened.journal, alert, by)
    echo(json_text(closed.model_dump(mode="json")) if as_json else f"closed {closed.alert}")
