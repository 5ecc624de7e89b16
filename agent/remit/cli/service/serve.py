"""`remit serve`: the HTTP service."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text
from remit.cli.service.login import login_command
from remit.cli.service.mcp import mcp_command

if TYPE_CHECKING:
    from remit.server import LocalSocket
    from remit.workspace import WorkspaceSession


class _Services(click.Group):
    """A group in which `remit serve [WORKSPACE]...` is `remit serve http [WORKSPACE]...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["http", *args]
        return super().parse_args(ctx, args)


@click.group("serve", cls=_Services, short_help="answer requests of programs and people over HTTP")
def serve_command() -> None:
    """Answer requests over HTTP, or the calls of one MCP client: `remit serve` is `remit serve http`.

    \b
    Examples:
      remit serve
      remit serve /srv/agents/shop /srv/agents/support
      remit serve mcp triage
      remit serve login
    """


serve_command.add_command(mcp_command)
serve_command.add_command(login_command)


@serve_command.command("http", short_help="answer requests of programs and people over HTTP")
@click.argument("workspaces", nargs=-1, metavar="[WORKSPACE]...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as JSON.")
def http_command(workspaces: tuple[Path, ...], as_json: bool) -> None:
    """Answer requests over HTTP until Ctrl-C or SIGTERM. Without WORKSPACE, that of the current folder.

    Each WORKSPACE is of another tenant; who asks is of one tenant, and sees that workspace only. [serve] in the remit.toml of the first one
    says where it listens, and its limits. GET /openapi.json describes the routes. Runs that still go on at the end pause, and can be
    resumed.

    \b
    Examples:
      remit serve http
      remit serve http /srv/agents/shop /srv/agents/support
    """
    from remit.core import UsageError
    from remit.workspace import open_session, principal_of_process

    if missing := [
        name
        for name in ("starlette", "uvicorn", "httptools", "jinja2", "joserfc")
        if importlib.util.find_spec(name) is None
    ]:
        raise UsageError(f"`remit serve` needs {', '.join(missing)}: pip install 'remit[serve]'")
    from remit.server import Access, Service, serve

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sessions = [open_session(path) for path in workspaces or (None,)]
    settings = sessions[0].workspace.settings
    access = Access(sessions, secure=bool(settings.serve.certificate) or settings.serve.behind_proxy)
    service = Service(sessions, access)

    def listening(url: str) -> None:
        lines = {"listening": url}
        if settings.serve.is_local and not access.has_login:
            own = principal_of_process(settings).model_copy(update={"authenticated": "link"})
            lines["log in once"] = f"{url}/login/link/{access.sessions.link(own)}"
        echo(json_text(lines) if as_json else "\n".join(f"{name}: {value}" for name, value in lines.items()))

    with ExitStack() as local:
        requests = [item for session in sessions if (item := _answer_commands(local, session)) is not None]
        asyncio.run(serve(service, listening=listening, local=requests))


def _answer_commands(local: ExitStack, session: WorkspaceSession) -> LocalSocket | None:
    """Carry out commands of this machine in the workspace; if that is not possible, they do by themselves what they can.

    Returns the socket by which programs of this machine send requests; None if there is none.
    """
    from remit.cli.local.answering import local_commands
    from remit.cli.local.requests_socket import account_at, requests_socket
    from remit.core import UsageError
    from remit.server import LocalSocket

    settings = session.workspace.settings
    try:
        local.enter_context(local_commands(session.root, group=settings.serve.group))
        listener = local.enter_context(requests_socket(session.root))
        return LocalSocket(listener=listener, tenant=settings.tenant, account=account_at)
    except UsageError as failure:
        echo(f"commands of this machine are not answered: {failure}", err=True)
        return None
