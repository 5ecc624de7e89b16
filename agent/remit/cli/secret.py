"""`remit secret`: set and list the values of secrets, which are stored outside the workspace."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.workspace import Workspace


@click.group("secret", short_help="set and list the secrets that tools use")
def secret_command() -> None:
    """Set and list the secrets that tools name in their manifests, and channels in [notify.NAME] of remit.toml. No command prints a value.

    The value of secret NAME comes from the variable REMIT_SECRET_NAME, else from the file that REMIT_SECRET_NAME_FILE names,
    else from the file or command in [secrets.NAME] of remit.toml, else from the secret store of this account.

    \b
    Examples:
      remit secret set jira
      remit secret list
    """


@secret_command.command("set")
@click.argument("name")
@click.option("--user", default="", metavar="USER", help="Whose it is, of a secret with per_user: user:ana.")
@click.option("--keyring", is_flag=True, help="Store it in the desktop's keyring (pip install 'remit[keyring]').")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def set_command(name: str, user: str, keyring: bool, as_json: bool) -> None:
    """Store the secret NAME for this workspace. On a terminal you are asked for it; otherwise it is read from standard input.

    \b
    Examples:
      remit secret set jira
      remit secret set jira < token.txt
      remit secret set jira --keyring
      remit secret set jira --user user:ana
    """
    from remit.core import UsageError, one_of, spelled
    from remit.core.events import SecretSet
    from remit.guardrails import Secrets
    from remit.journal import note_act
    from remit.workspace import check_enabled, find_workspace, load_workspace, open_journal_of, principal_of_process

    root = find_workspace(Path.cwd())
    workspace = load_workspace(root)
    used = _used(workspace)
    if name not in used:
        raise UsageError(
            f"no tool and no channel here uses a secret {spelled(name)}: {one_of(name, used) if used else 'none is in use'}"
        )
    if name in workspace.settings.secrets:
        raise UsageError(
            f"the value of {name!r} comes from [secrets.{name}] in remit.toml: remove that table to set it here"
        )
    name = _stored_name(workspace, name, user)
    if sys.stdin.isatty():
        value = click.prompt(f"value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().rstrip("\r\n")
    by = principal_of_process(workspace.settings)
    with open_journal_of(root, workspace.settings) as journal:  # recorded first: no secret changes without a record
        check_enabled(journal, by)
        note_act(journal, lambda number: SecretSet(number=number, name=name, by=by), durable=True)
    source = Secrets(root, workspace.settings.secrets).set(name, value, keyring=keyring)
    if as_json:
        echo(json_text({"ok": True, "name": name, "source": source}))
    else:
        echo(f"stored {name} for this workspace in the {source}")


@secret_command.command("list")
@click.option("--read", "reading", is_flag=True, help="Also read the files and run the commands of [secrets], now.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def secret_list_command(reading: bool, as_json: bool) -> None:
    """List the secrets that tools and channels of notifications use.

    Shows where the value of each comes from and where it may be sent. Exit code 1 if one is missing. No command of [secrets] in
    remit.toml runs without --read.

    \b
    Examples:
      remit secret list
      remit secret list --read
    """
    from remit.guardrails import Secrets
    from remit.workspace import find_workspace, load_workspace

    root = find_workspace(Path.cwd())
    workspace = load_workspace(root)
    used, own = _used(workspace), _own(workspace)
    secrets = Secrets(root, workspace.settings.secrets, own=own)
    users = {name: secrets.users(name) if name in own else () for name in sorted(used)}
    sources = {
        name: "per user" if name in own else secrets.get(name).source if reading else secrets.source(name)
        for name in users
    }
    if as_json:
        rows = [
            {"name": name, "source": source, "goes_to": used[name], "users": users[name]}
            for name, source in sources.items()
        ]
        echo(json_text(rows))
    else:
        for name, source in sources.items():
            state = style(f"{source:<12}", fg="red" if source == "missing" else "green")
            whose = f"; set for {', '.join(users[name])}" if users[name] else ""
            echo(f"{name:<16} {state} {', '.join(used[name])}{whose}")
        if not sources:
            echo("no tool and no channel here uses a secret")
        for name, source in sources.items():
            if source == "missing":
                echo(f"    fix: remit secret set {name}", err=True)
    sys.exit(1 if "missing" in sources.values() else 0)


def _stored_name(workspace: Workspace, name: str, user: str) -> str:
    """The name under which the store has it. Raises UsageError if a user is named for a secret of all, or none for one of each."""
    from remit.core import NAME_OF_SUBJECT, UsageError, spelled
    from remit.guardrails import of_user

    if user and name not in _own(workspace):
        raise UsageError(
            f"all users share the secret {name!r}: leave --user out, or write per_user = true in tool.toml"
        )
    if not user and name in _own(workspace):
        variable = f"REMIT_SECRET_{name.upper()}"
        what = f"each user has their own secret {name!r}: add --user user:NAME"
        raise UsageError(f"{what}. The import, the pin and `remit tool try` use the one in {variable}")
    if user and re.fullmatch(f"(?:user|service):{NAME_OF_SUBJECT}", user, re.ASCII) is None:
        raise UsageError(f"{spelled(user)} is no user: write user:NAME")
    return of_user(name, user) if user else name


def _own(workspace: Workspace) -> frozenset[str]:
    """The secrets of which each user has one of their own."""
    return frozenset(name for tool in workspace.tools.values() for name in tool.manifest.own_secrets)


def _used(workspace: Workspace) -> Mapping[str, list[str]]:
    """Every secret that a tool or a channel uses, with its recipients, such as `jira, to acme.atlassian.net:443`."""
    used: dict[str, list[str]] = {}
    for name, tool in workspace.tools.items():
        for credential in tool.manifest.credentials:
            used.setdefault(credential.secret, []).append(f"{name}, to {credential.name}:{credential.port}")
        for exposed in tool.manifest.exposed:
            used.setdefault(exposed.secret, []).append(f"{name}, exposed in {exposed.env}")
    for channel in workspace.settings.notify:
        used.setdefault(channel.needs, []).append(f"notifications of {channel.name}")
    return used
