"""The pages of runs: the list, what needs a person first, and one run as it happens, with what a person may do with it.

The content of the page of a run is that of the page which `remit trace show --html` writes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from remit.client import AsyncRemit, SharedLists, readable_page, settle, who_continues
from remit.core import Principal, Refusal, UsageError
from remit.core.events import ContentRead
from remit.journal import RunQuery, RunStatus, RunSummary, StoredRecord, find_run, note_act
from remit.server.authentication import Access, BrowserSession
from remit.server.handlers.runs import resume_here
from remit.server.http.answers import HttpRefusal
from remit.server.http.route import apart
from remit.server.pages.assets import string
from remit.server.pages.forms import one_line, refusal_text
from remit.server.pages.html import HEADERS, BadForm, checked_form, fragment, message, page, redirect
from remit.server.pages.live import Following, LivePages
from remit.server.workspaces import ServedWorkspace
from remit.tracing import open_trace
from remit.tracing.reports import IncidentReport, incident_report, utc
from remit.tracing.reports.html import render_body, render_page
from remit.workspace import resource_of

if TYPE_CHECKING:
    from remit.server.service import Service

AREA: Final = "runs"
SHOWN: Final = 50  # runs of one page
LONGEST_TASK: Final = 200  # characters of a task in the list
STATES: Final[tuple[str, ...]] = get_args(RunStatus)
# What needs a person comes first, in this order.
_ATTENTION: Final = ("lost", "waiting", "waiting: hold", "waiting: model", "ready")
_RUN: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9:][A-Za-z0-9:._@+-]{0,140}", re.ASCII)
_CURSOR: Final = re.compile(r"([0-8]?[0-9]{1,18})\.([0-9a-f]{0,32})", re.ASCII)
VIEWS: Final = (
    ("all", ""),
    ("waiting", "?state=waiting"),
    ("lost", "?state=lost"),
    ("running", "?state=running"),
    ("failed", "?failed=1"),
    ("denied", "?denied=1"),
    ("in_doubt", "?in_doubt=1"),
)
_FIELDS: Final = ("agent", "user", "state", "failed", "denied", "in_doubt", "before")


class RunPages:
    """The pages about runs of a service."""

    def __init__(self, service: Service, access: Access, live: LivePages) -> None:
        self._service = service
        self._access = access
        self._live = live

    async def overview(self, request: Request) -> Response:
        """The runs that the person may read."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/runs")
        asked = _asked(request)
        values = await asyncio.to_thread(self._list, session.principal, asked)
        return page("runs", session=session, area=AREA, **values)

    async def follow(self, request: Request) -> Response:
        """The list, each time that it changes."""
        asked = _asked(request)
        if (session := self._access.session(request)) is None:
            return Response(status_code=403, headers=HEADERS)
        workspace, _ = self._service.client(session.principal)
        listed: Following[SharedLists] = Following(
            what=f"{AREA} {urlencode(asked)}",
            read=lambda: SharedLists(workspace.journal),
            seen=lambda by, lists: self._list(by, asked, lists),
            render=lambda values, _, __: fragment("runs_list", **values),
        )
        return self._live.stream(request, listed)

    async def show(self, request: Request) -> Response:
        """One run."""
        run = request.path_params["run"]
        if (session := self._access.session(request)) is None:
            return redirect(f"/login?next=/runs/{run}" if _RUN.fullmatch(run) else "/login")
        found = await asyncio.to_thread(self._opened, session, run, "show")
        if found is None:
            return _nothing(session)
        report, values = found
        title = f"{report.state} {run[:8]}"
        return page("run", session=session, area=AREA, title=title, live=report.timeline.finished is None, **values)

    async def follow_one(self, request: Request) -> Response:
        """The run, each time that something of it is recorded."""
        run, session = request.path_params["run"], self._access.session(request)
        if session is None or await asyncio.to_thread(self._readable, session.principal, run) is None:
            return Response(status_code=403, headers=HEADERS)
        workspace, _ = self._service.client(session.principal)

        def read() -> tuple[IncidentReport, str]:
            report = _report_of(workspace, run)
            return report, render_body(report)

        def seen(by: Principal, found: tuple[IncidentReport, str]) -> dict[str, Any]:
            if not self._may_read(by, found[0]):
                raise UsageError("the run is not for this person")
            return self._acts(by, run, found[0])

        def rendered(acts: dict[str, Any], found: tuple[IncidentReport, str], token: str) -> str:
            return fragment("run_body", session={"form_token": token}, run=run, body=found[1], acts=acts)

        following = Following(what=f"run {run}", read=read, seen=seen, render=rendered)
        return self._live.stream(request, following, lambda by: self._noted(by, run, "page"))

    async def file(self, request: Request) -> Response:
        """The page as one file that needs nothing else."""
        run = request.path_params["run"]
        if (session := self._access.session(request)) is None:
            return redirect("/login")
        found = await asyncio.to_thread(self._opened, session, run, "page")
        if found is None:
            return _nothing(session)
        headers = {**HEADERS, "content-disposition": f'attachment; filename="{run[:8]}.html"'}
        return Response(render_page(found[0]), headers=headers, media_type="text/html; charset=utf-8")

    async def hold(self, request: Request) -> Response:
        """Hold the run."""

        async def act(workspace: ServedWorkspace, client: AsyncRemit, run: str, fields: Mapping[str, str]) -> str:
            await apart(client.hold(f"run:{run}", reason=one_line(fields, "reason")))
            return string("run", "held")

        return await self._act(request, act)

    async def release(self, request: Request) -> Response:
        """Lift the hold on the run."""

        async def act(workspace: ServedWorkspace, client: AsyncRemit, run: str, fields: Mapping[str, str]) -> str:
            await apart(client.lift(f"run:{run}"))
            return string("run", "released")

        return await self._act(request, act)

    async def resume(self, request: Request) -> Response:
        """Let the service drive the run."""

        async def act(workspace: ServedWorkspace, client: AsyncRemit, run: str, fields: Mapping[str, str]) -> str:
            if not await asyncio.to_thread(client.may, "remit.resume", client.run_resource(run)):
                raise Refusal("policy_denied", "the rules do not allow it")
            await resume_here(workspace, client, run)
            return string("run", "resumed")

        return await self._act(request, act)

    async def settle(self, request: Request) -> Response:
        """Record whether an effect has happened."""

        async def act(workspace: ServedWorkspace, client: AsyncRemit, run: str, fields: Mapping[str, str]) -> str:
            landed = {"yes": True, "no": False}.get(fields.get("landed", ""))
            state = StoredRecord(workspace.journal, run).state
            doubt = next((one for one in state.in_doubt if f"{one.step}.{one.index}" == fields.get("place")), None)
            if landed is None or doubt is None:
                raise UsageError("the outcome of that effect is known")
            by, reason = client.principal, one_line(fields, "reason")
            await asyncio.to_thread(
                settle, workspace.session, client.policy, run, doubt, landed=landed, by=by, reason=reason
            )
            return string("run", "settled")

        return await self._act(request, act)

    async def _act(self, request: Request, act: Act) -> Response:
        """Carry out what a form of the page of a run asks for, for who may read the run."""
        run = request.path_params["run"]
        if (session := self._access.session(request)) is None:
            return redirect("/login")
        try:
            fields = await checked_form(request, self._access, session)
            if await asyncio.to_thread(self._readable, session.principal, run) is None:
                return _nothing(session)
            workspace, client = self._service.client(session.principal)
            text = await act(workspace, client, run, fields)
        except BadForm:
            return message(string("message", "refused"), status=403, session=session)
        except (Refusal, UsageError, HttpRefusal) as refused:
            return message(string("run", "failed"), refusal_text(refused), 403, session)
        return message(string("run", "done"), text, session=session, back=f"/runs/{run}")

    def _list(self, by: Principal, asked: Mapping[str, str], lists: SharedLists | None = None) -> dict[str, Any]:
        workspace, client = self._service.client(by)
        session, policy = workspace.session, client.policy
        lists = lists or SharedLists(workspace.journal)
        needs = () if asked else (RunQuery(unfinished=True), RunQuery(in_doubt=True))
        earlier = [row for one in needs for row in readable_page(policy, by, lists.runs(one), SHOWN).runs]
        found = readable_page(policy, by, lists.runs(_query(asked), _before(asked)), SHOWN)
        # A run may change between two readings: the last one counts, so that both lists show the same state.
        last = {row.run: row for row in (*earlier, *found.runs)}.values() if needs else ()
        attention = sorted((row for row in last if row.state in _ATTENTION or row.in_doubt), key=_urgency)
        more = {**asked, "before": f"{found.next[0]}.{found.next[1]}"} if found.next else {}
        return {
            "attention": [_line(row) for row in attention],
            "runs": [_line(row) for row in found.runs],
            "next": f"?{urlencode(more)}" if more else "",
            "here": f"?{urlencode(asked)}" if asked else "",
            "asked": {name: asked.get(name, "") for name in _FIELDS},
            "agents": sorted(session.workspace.agents),
            "states": STATES,
            "views": VIEWS,
        }

    def _readable(self, by: Principal, run: str) -> RunSummary | None:
        """The run; None if it does not exist or the person may not read it: nobody can tell these apart."""
        workspace, client = self._service.client(by)
        row = find_run(workspace.journal, run) if _RUN.fullmatch(run) else None
        return row if row is not None and client.may("remit.read", client.run_resource(run)) else None

    def _may_read(self, by: Principal, report: IncidentReport) -> bool:
        """True while the rules let the person read the run, which they follow."""
        _, client = self._service.client(by)
        return client.may("remit.read", resource_of(report.timeline.started, by))

    def _report(self, by: Principal, run: str) -> IncidentReport | None:
        if self._readable(by, run) is None:
            return None
        return _report_of(self._service.client(by)[0], run)

    def _opened(self, session: BrowserSession, run: str, how: Any) -> tuple[IncidentReport, dict[str, Any]] | None:
        """The report of the run and the values of its page. INVARIANT: what is not recorded is not read."""
        by = session.principal
        if not self._noted(by, run, how):
            return None
        report = self._report(by, run)
        return None if report is None else (report, self._values(by, run, report))

    def _noted(self, by: Principal, run: str, how: Any) -> bool:
        """Record that the person reads the run; False if they may not."""
        if self._readable(by, run) is None:
            return False
        workspace, _ = self._service.client(by)
        note_act(workspace.journal, lambda number: ContentRead(number=number, run=run, how=how, by=by))
        return True

    def _values(self, by: Principal, run: str, report: IncidentReport) -> dict[str, Any]:
        return {"run": run, "body": render_body(report), "acts": self._acts(by, run, report)}

    def _acts(self, by: Principal, run: str, report: IncidentReport) -> dict[str, Any]:
        """What the person may do with the run now."""
        workspace, client = self._service.client(by)
        row, resource = report.row, resource_of(report.timeline.started, by)
        if row is None:
            return {"any": False}
        goes_on = row.state in ("lost", "ready", "waiting: model") and not row.driver and not row.priority
        is_held = f"run:{run}" in workspace.journal.holds()
        may_hold = row.state != "finished" and client.may("remit.hold", resource)
        found: dict[str, Any] = {
            "requests": [{"place": call.place, "action": call.action} for call in report.timeline.waiting],
            "doubts": [_doubt(one) for one in row.in_doubt] if client.may("remit.settle", resource) else [],
            "resume": goes_on and not is_held and client.may("remit.resume", resource),
            "release": is_held and may_hold,
            "next": who_continues(workspace.session, run) if is_held and may_hold else "",
            "hold": may_hold and not is_held,
        }
        return {**found, "any": any(found.values())}


Act: TypeAlias = Callable[[ServedWorkspace, AsyncRemit, str, Mapping[str, str]], Awaitable[str]]


def _report_of(workspace: ServedWorkspace, run: str) -> IncidentReport:
    session = workspace.session
    return incident_report(open_trace(session.traces, session.journal, run, damaged=True), session)


def _asked(request: Request) -> dict[str, str]:
    """The filters of the address. What is none of them, or cannot be one, is left out."""
    given = {name: request.query_params.get(name, "").strip() for name in _FIELDS}
    good = {
        "agent": _NAME,
        "user": _NAME,
        "state": re.compile("|".join(map(re.escape, STATES))),
        "before": _CURSOR,
        **dict.fromkeys(("failed", "denied", "in_doubt"), re.compile("1")),
    }
    return {name: value for name, value in given.items() if value and good[name].fullmatch(value)}


def _query(asked: Mapping[str, str]) -> RunQuery:
    user, state = asked.get("user", ""), asked.get("state", "")
    return RunQuery(
        agent=f"agent:{asked['agent'].removeprefix('agent:')}" if "agent" in asked else "",
        user=user if ":" in user or not user else f"user:{user}",
        state=next((name for name in get_args(RunStatus) if name == state), ""),
        failed="failed" in asked,
        denied="denied" in asked,
        in_doubt="in_doubt" in asked,
    )


def _before(asked: Mapping[str, str]) -> tuple[int, str] | None:
    matched = _CURSOR.fullmatch(asked.get("before", ""))
    return None if matched is None else (int(matched[1]), matched[2])


def _urgency(row: RunSummary) -> tuple[int, int]:
    """Lost runs and effects in doubt first, then who waits longest."""
    order = 0 if row.in_doubt else _ATTENTION.index(row.state)
    return order, row.started_at


def _line(row: RunSummary) -> dict[str, Any]:
    tone = "good" if row.outcome == "completed" else "warn" if row.state.startswith(("waiting", "ready")) else "bad"
    return {
        "run": row.run,
        "word": row.word,
        "tone": "" if row.state == "running" else tone,
        "agent": row.agent,
        "user": row.user,
        "task": row.task[:LONGEST_TASK],
        "started": utc(row.started_at),
        "calls": row.calls,
        "denied": row.denied,
        "steps": row.steps,
        "doubts": len(row.in_doubt),
        "failed": row.first_failed or "",
    }


def _doubt(one: Any) -> dict[str, str]:
    return {"place": f"{one.step}.{one.index}", "id": f"{one.step}-{one.index}", "action": one.action}


def _nothing(session: BrowserSession) -> Response:
    return message(string("runs", "no_such"), string("runs", "no_such_text"), 404, session)
