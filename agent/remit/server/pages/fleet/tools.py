"""The tools of a workspace: which are pinned, what each may touch, its environment, its last failures and its times."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from remit.core import WorkspaceError
from remit.core.events import CODE
from remit.sandbox.packages import Environment, find_environment
from remit.server.authentication import Access, BrowserSession
from remit.server.http.route import EVERY_RUN
from remit.server.pages.assets import string
from remit.server.pages.fleet.figures import Over, figures_of
from remit.server.pages.fleet.plots import line_plot
from remit.server.pages.html import message, page, redirect
from remit.tools import permission_card
from remit.tracing.reports import utc
from remit.workspace import Tool, Workspace

if TYPE_CHECKING:
    from remit.server.service import Service

AREA: Final = "tools"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,60}", re.ASCII)


class ToolPages:
    """The pages about tools of a service."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access

    async def overview(self, request: Request) -> Response:
        """Every tool, with its pin and what it did in the latest runs."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/tools")
        return await asyncio.to_thread(self._listed, session)

    async def show(self, request: Request) -> Response:
        """One tool: its permission card and its latest calls."""
        name = request.path_params["name"]
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/tools")
        return await asyncio.to_thread(self._shown, session, name)

    def _listed(self, session: BrowserSession) -> Response:
        workspace, client = self._service.client(session.principal)
        if not client.may("remit.read", EVERY_RUN):
            return not_allowed(session, string("tools", "title"))
        defined = workspace.session.workspace
        figures = figures_of(workspace.session, client.policy, session.principal)
        rows = [
            {
                "name": name,
                "version": tool.manifest.version,
                "summary": tool.manifest.summary,
                "pin": _pin_state(tool),
                "actions": [_action(item) for item in figures.of_tool(name)[0]],
                "failed": len(figures.of_tool(name)[1]),
            }
            for name, tool in sorted(defined.tools.items())
        ]
        return page("tools", session=session, area=AREA, tools=rows, env=defined.settings.env, runs=figures.runs)

    def _shown(self, session: BrowserSession, name: str) -> Response:
        workspace, client = self._service.client(session.principal)
        if not client.may("remit.read", EVERY_RUN):
            return not_allowed(session, string("tools", "title"))
        defined = workspace.session.workspace
        tool = defined.tools.get(name) if _NAME.fullmatch(name) else None
        if tool is None:
            return message(string("tools", "no_such"), status=404, session=session, back="/tools")
        packages, problem = _environment(defined, tool)
        actions, failures = figures_of(workspace.session, client.policy, session.principal).of_tool(name)
        holds = workspace.journal.holds()
        revoked = holds.get(f"{CODE}{tool.code}")
        values: dict[str, Any] = {
            "name": name,
            "card": "\n".join(permission_card(tool, packages)),
            "pin": _pin_state(tool),
            "tool": {"version": tool.manifest.version, "code": tool.code, "manifest": tool.manifest.digest},
            "pinned": None if tool.pin is None else tool.pin.model_dump(include={"version", "code", "manifest"}),
            "packages": sorted(packages.packages.items()) if packages is not None else [],
            "problem": problem,
            "revoked": revoked.reason if revoked is not None else "",
            "held": [hold.reason for scope, hold in holds.items() if scope in ("all", f"tool:{name}")],
            "actions": [_action(item) for item in actions],
            "failures": [
                {
                    "run": one.run,
                    "place": one.place,
                    "action": one.action,
                    "code": one.code,
                    "message": one.message,
                    "at": utc(one.at),
                }
                for one in failures
            ],
        }
        return page("tool", session=session, area=AREA, env=defined.settings.env, **values)


def not_allowed(session: BrowserSession, title: str) -> Response:
    """The answer to a person who may not read every run."""
    return message(title, string("policy", "not_allowed"), 403, session)


def _environment(workspace: Workspace, tool: Tool) -> tuple[Environment | None, str]:
    """The packages of the tool, and why they cannot be read."""
    if tool.manifest.source != "python" or workspace.root is None:
        return None, ""
    try:
        return find_environment(workspace.code(tool.manifest.name)), ""
    except WorkspaceError as error:
        return None, str(error)


def _pin_state(tool: Tool) -> str:
    """The name of a string: whether the tool is as it was reviewed, and what has changed since."""
    if tool.pin is None:
        return "never_pinned"
    manifest, code = tool.pin.manifest != tool.manifest.digest, tool.pin.code != tool.code
    return {(False, False): "is_pinned", (True, False): "manifest_changed", (False, True): "code_changed"}.get(
        (manifest, code), "both_changed"
    )


def _action(item: Over) -> dict[str, Any]:
    """The figures of one agent and action, as a row of a table."""
    one = item.all
    title = string("fleet", "p95_plot", agent=one.agent, action=one.action)
    return {
        "agent": one.agent,
        "action": one.action,
        "calls": one.calls,
        "refused": one.refused,
        "failed": one.failed,
        "p50": f"{one.p50_s:.3f} s" if one.calls else "",
        "p95": f"{one.p95_s:.3f} s" if one.calls else "",
        "plot": line_plot(item.p95, title),
    }
