"""`remit key`: creates, lists and revokes API keys of services."""

from __future__ import annotations

import time
from typing import Any

import click

from remit.cli.output import echo, json_text


@click.group("key", short_help="create, list and revoke API keys of services")
def key_command() -> None:
    """Create, list and revoke API keys of services, for `remit serve`.

    A key can only do what it names, and only what the rules allow its service. It never approves anything.

    \b
    Examples:
      remit key create service:ci --action remit.run --action remit.read --agent triage --days 90
      remit key list
      remit key revoke 3f2a91c04b5d6e7f
    """


@key_command.command("create")
@click.argument("subject")
@click.option("--action", "actions", multiple=True, help="What it is for: remit.run, remit.resume, remit.read or remit.hold.")  # fmt: skip
@click.option("--agent", "agents", multiple=True, help="An agent whose runs it is for.")
@click.option(
    "--point", "points", multiple=True, help="An enforcement point of remit.toml for which it asks for decisions."
)
@click.option("--days", type=click.IntRange(1, 3650), help="When it expires. Default: never.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def create_command(
    subject: str,
    actions: tuple[str, ...],
    agents: tuple[str, ...],
    points: tuple[str, ...],
    days: int | None,
    as_json: bool,
) -> None:
    """Create an API key of the service SUBJECT, and print it: this once, because only its hash is kept.

    \b
    Examples:
      remit key create service:ci --action remit.run --agent triage
      remit key create service:ci --action remit.read --agent triage --days 30 --json
      remit key create service:todo --point todo
    """
    from remit.client import create_key
    from remit.core import KeyScope
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    scope = KeyScope(
        actions=tuple(dict.fromkeys(actions)),
        agents=tuple(dict.fromkeys(agents)),
        points=tuple(dict.fromkeys(points)),
    )
    made = create_key(opened, subject, scope, by=by, lasts_s=None if days is None else days * 86_400)
    if as_json:
        echo(json_text({"ok": True, "id": made.created.id, "key": made.text}))
        return
    echo(made.text)
    echo(f"keep it now: it is not shown again; to revoke it: remit key revoke {made.created.id}", err=True)


@key_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def key_list_command(as_json: bool) -> None:
    """List the keys that are not revoked.

    \b
    Examples:
      remit key list
      remit key list --json
    """
    from remit.client import list_keys
    from remit.workspace import open_session

    keys = list_keys(open_session().journal)
    if as_json:
        echo(json_text([_row(key.model_dump(mode="json")) for key in keys]))
        return
    for key in keys:
        runs = f"{', '.join(key.scope.actions)} with {', '.join(key.scope.agents)}" if key.scope.actions else ""
        decisions = f"decisions for {', '.join(key.scope.points)}" if key.scope.points else ""
        scope = "; ".join(part for part in (runs, decisions) if part)
        echo(f"{key.id}  {key.subject}  {scope}  {_until(key.expires_at)}  created by {key.by.subject}")
    if not keys:
        echo("there are no keys")


@key_command.command("revoke")
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def key_revoke_command(id: str, as_json: bool) -> None:
    """Revoke the key with that ID, for ever.

    \b
    Examples:
      remit key revoke 3f2a91c04b5d6e7f
    """
    from remit.client import revoke_key
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    key = revoke_key(opened, id, by=principal_of_process(opened.workspace.settings))
    echo(json_text({"ok": True, "id": key.id}) if as_json else f"the key {key.id} of {key.subject} is revoked")


def _row(key: dict[str, Any]) -> dict[str, Any]:
    """A key as JSON, without the digest of its secret, which nobody needs."""
    return {name: value for name, value in key.items() if name not in ("digest", "step", "index", "attempt", "type")}


def _until(expires_at: int | None) -> str:
    if expires_at is None:
        return "never expires"
    left = expires_at / 1e9 - time.time()
    return f"expires in {left / 86_400:.0f} days" if left > 0 else "expired"
