"""`remit secret`: the values that tools' secrets stand for, kept out of the workspace."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.workspace import Workspace


@click.group("secret", short_help="set and list the secrets of tools")
def secret_command() -> None:
    """Set and list the secrets that tools name in their manifests. No command ever prints a value.

    A secret is looked for in REMIT_SECRET_NAME, in the file that REMIT_SECRET_NAME_FILE names, and in this account's store.

    \b
    Examples:
      remit secret set jira
      remit secret list
    """


@secret_command.command("set")
@click.argument("name")
@click.option("--keyring", is_flag=True, help="Keep it in the desktop's keyring (pip install 'remit[keyring]').")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def set_command(name: str, keyring: bool, as_json: bool) -> None:
    """Store the secret NAME for this workspace: asked for on a terminal, else read from standard input.

    \b
    Examples:
      remit secret set jira
      remit secret set jira < token.txt
      remit secret set jira --keyring
    """
    from remit.core import UsageError
    from remit.guardrails import Secrets
    from remit.workspace import find_workspace, load_workspace

    root = find_workspace(Path.cwd())
    used = _used(load_workspace(root))
    if name not in used:
        raise UsageError(f"no tool here names a secret {name!r}; they name: {', '.join(sorted(used)) or 'none'}")
    if sys.stdin.isatty():
        value = click.prompt(f"value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read().rstrip("\r\n")
    source = Secrets(root).set(name, value, keyring=keyring)
    if as_json:
        echo(json_text({"ok": True, "name": name, "source": source}))
    else:
        echo(f"set {name} for this workspace, in the {source}")


@secret_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(as_json: bool) -> None:
    """List the secrets that tools name, where each is found, and where it may go. Ends with 1 where one is missing.

    \b
    Examples:
      remit secret list
      remit secret list --json
    """
    from remit.guardrails import Secrets
    from remit.workspace import find_workspace, load_workspace

    root = find_workspace(Path.cwd())
    used = _used(load_workspace(root))
    found = {name: Secrets(root).get(name).source for name in sorted(used)}
    if as_json:
        echo(json_text([{"name": name, "source": one, "goes_to": used[name]} for name, one in found.items()]))
    else:
        for name, one in found.items():
            state = style(f"{one:<12}", fg="red" if one == "missing" else "green")
            echo(f"{name:<16} {state} {', '.join(used[name])}")
        if not found:
            echo("no tool here names a secret")
        for name, one in found.items():
            if one == "missing":
                echo(f"    fix: remit secret set {name}", err=True)
    sys.exit(1 if "missing" in found.values() else 0)


def _used(workspace: Workspace) -> Mapping[str, list[str]]:
    """Every secret that a tool names, with where it goes: `jira, to acme.atlassian.net:443`."""
    used: dict[str, list[str]] = {}
    for name, tool in workspace.tools.items():
        for one in tool.manifest.credentials:
            used.setdefault(one.secret, []).append(f"{name}, to {one.name}:{one.port}")
        for exposed in tool.manifest.exposed:
            used.setdefault(exposed.secret, []).append(f"{name}, exposed in {exposed.env}")
    return used
