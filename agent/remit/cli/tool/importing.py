"""`remit tool import`: a tool from a server that exists."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from remit.cli.output import echo, json_text
from remit.cli.tool.making import relative

if TYPE_CHECKING:
    from remit.tools import ImportedServer


@click.group("import")
def import_group() -> None:
    """Write a tool for a server that exists.

    \b
    Examples:
      remit tool import mcp uvx mcp-server-time
    """


class _Given(TypedDict):
    """The options of the command, as they are given."""

    tool_name: str
    program: tuple[str, ...]
    secret: str
    per_user: bool
    ranges: tuple[str, ...]
    variables: tuple[str, ...]


@import_group.command("mcp", context_settings={"ignore_unknown_options": True})
@click.option("--name", "tool_name", default="", help="The name of the tool. Default: from the package.")
@click.option("--program", multiple=True, metavar="NAME", help="A program that the server starts, such as git.")
@click.option(
    "--secret", default="", metavar="NAME", help="The token of a server at a URL; its value is in REMIT_SECRET_NAME."
)
@click.option("--per-user", is_flag=True, help="Each user has a token of their own; --secret names it.")
@click.option("--range", "ranges", multiple=True, metavar="RANGE", help="The private range of its address.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of its environment.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def import_mcp_command(command: tuple[str, ...], as_json: bool, **given: Unpack[_Given]) -> None:
    """Write a tool for an MCP server, from the COMMAND that starts it, or from the URL of one that runs elsewhere.

    Its packages are locked and installed. It is started confined, without network and files, and lists its tools. What a
    person has to decide stands behind `# decide:` in tool.toml; such an action does not load. The argument `.` stands for
    the folder with the files of a call.

    \b
    Examples:
      remit tool import mcp uvx mcp-server-time
      remit tool import mcp npx -y @modelcontextprotocol/server-filesystem .
      remit tool import mcp --program git uvx mcp-server-git
      remit tool import mcp --name notes uvx --with "mcp<2" mcp-server-sqlite
      remit tool import mcp https://mcp.example.com/mcp
      remit tool import mcp --secret tickets https://mcp.example.com/mcp
    """
    from remit.sandbox import Sandbox
    from remit.tools import Elsewhere, import_remote, import_server, name_of_server
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    name = given["tool_name"] or name_of_server(command)
    env = _env(given["variables"])
    secret, per_user, ranges, programs = given["secret"], given["per_user"], given["ranges"], given["program"]
    at_url = command[0].startswith(("https://", "http://"))
    _check_options(at_url, started=bool(command[1:] or programs or env), reached=bool(secret or ranges or per_user))
    if per_user and not secret:
        raise click.UsageError("--per-user needs --secret NAME, the name of the token")
    place = Elsewhere(url=command[0], secret=secret, per_user=per_user, ranges=ranges)

    async def made() -> ImportedServer:
        async with Sandbox(accept=("full",)) as sandbox:
            if at_url:
                return await import_remote(root, name, place, sandbox)
            return await import_server(root, name, command, sandbox, programs=programs, env=env)

    found = asyncio.run(made())
    files = [str(relative(root / "tools" / name / file)) for file in found.texts]
    _show(name, files, found.actions, found.undecided, as_json=as_json)


def _env(variables: tuple[str, ...]) -> dict[str, str]:
    env = dict(variable.split("=", 1) for variable in variables if "=" in variable)
    if len(env) < len(variables):
        raise click.UsageError("write each --env as NAME=VALUE, with a name of its own")
    return env


def _check_options(at_url: bool, *, started: bool, reached: bool) -> None:
    """Refuse options of the other kind of server: of one that is started here, or of one that is reached at a URL."""
    if at_url and started:
        what = "a server at a URL has no arguments, no --program and no --env: nothing is started for it"
        raise click.UsageError(what)
    if not at_url and reached:
        raise click.UsageError("--secret, --per-user and --range are for a server at a URL")


def _show(name: str, files: list[str], actions: int, undecided: int, *, as_json: bool) -> None:
    if as_json:
        echo(json_text({"ok": True, "name": name, "files": files, "actions": actions, "undecided": undecided}))
        return
    for file in files:
        echo(f"wrote {file}")
    echo(f"{actions} actions; {undecided} lines to decide")
    decide = f"decide the lines with `# decide:` in tools/{name}/tool.toml; then " if undecided else ""
    echo(f"next:  {decide}remit tool pin {name}")
