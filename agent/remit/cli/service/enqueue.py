"""`remit enqueue`: start a run that a worker drives."""

from __future__ import annotations

import click

from remit.cli.output import echo, json_text


@click.command("enqueue", short_help="start a run that a worker drives")
@click.argument("agent")
@click.argument("task")
@click.option("--model", help="Use another model than the agent's own: script:FILE, openai:gpt-5, …")
@click.option("--user", help="Act for another user, if the rules allow you the action remit.impersonate.")
@click.option("--scope", metavar="FILE", help="A TOML file of actions and resources: the run may use only these.")
@click.option("--priority", type=click.IntRange(1, 9), default=5, show_default=True, help="Runs of 9 come first.")
@click.option("--json", "as_json", is_flag=True, help="Print the id of the run as JSON.")
def enqueue_command(
    agent: str, task: str, model: str | None, user: str | None, scope: str | None, priority: int, as_json: bool
) -> None:
    """Start a run of AGENT on TASK and leave it to the workers (`remit worker`). Prints its id.

    Everything that `remit run` checks at the start is checked now, and the start is recorded.

    \b
    Examples:
      remit enqueue triage "Checkout is failing: find out why"
      remit enqueue triage "…" --priority 9 --json
    """
    from remit.cli.run import scope_of
    from remit.client import Remit

    with Remit.open() as client:
        run = client.enqueue(
            agent,
            task,
            model=model,
            user=user,
            scope=None if scope is None else scope_of(scope),
            priority=priority,
        )
    echo(json_text({"run": run}) if as_json else f"{run}\nto follow it: remit trace show {run[:8]}")
