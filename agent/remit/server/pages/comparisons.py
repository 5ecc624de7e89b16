"""A run compared with another one, replayed, or tried with the rules or tools of now. It is computed apart, from files of the runs."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from remit.client import open_trace_of
from remit.core import Principal, Refusal, RemitError, UsageError
from remit.core.events import ContentRead
from remit.journal import find_run, note_act
from remit.server.apart import LONGEST_S, CommandAnswer
from remit.server.authentication import Access, BrowserSession, Expiring
from remit.server.http.answers import HttpRefusal
from remit.server.pages.assets import string
from remit.server.pages.forms import refusal_text
from remit.server.pages.html import BadForm, checked_form, message, page, redirect
from remit.tracing import write_portable
from remit.tracing.reports import last_good_run
from remit.workspace import WorkspaceSession

if TYPE_CHECKING:
    from remit.server.service import Service

AREA: Final = "runs"
KEPT_S: Final = 3600.0
WAIT_S: Final = 3.0  # how long the page of a result waits for it
_OTHER: Final = re.compile(r"[0-9a-f]{4,32}", re.ASCII)
# What a person may ask for, as `remit` does it; the exit code 0 says that nothing differs.
WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "good": ("trace", "diff", "{other}", "{run}"),
    "other": ("trace", "diff", "{other}", "{run}"),
    "replay": ("replay", "{run}"),
    "rules": ("replay", "{run}", "--policy", "{root}"),
    "tools": ("replay", "{run}", "--tools", "{root}"),
}


@dataclass(kw_only=True)
class Comparison:
    """One comparison of a run that a person asked for. `answer` is None while it is computed, and `other` "" without another run."""

    run: str
    other: str
    way: str
    by: Principal
    answer: CommandAnswer | None = None
    task: asyncio.Task[None] | None = None


class ComparisonPages:
    """The pages of comparisons of a service."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access
        self._kept: Expiring[Comparison] = Expiring(KEPT_S, access.clock)

    async def begin(self, request: Request) -> Response:
        """Begin what the form asks for. Nothing has an effect: model and tools are answered from the record."""
        run = request.path_params["run"]
        if (session := self._access.session(request)) is None:
            return redirect("/login")
        try:
            fields = await checked_form(request, self._access, session)
            found = await asyncio.to_thread(self._asked, session.principal, run, fields)
            found.task = self._service.apart.begin(self._compute(found))
        except BadForm:
            return message(string("message", "refused"), status=403, session=session)
        except (RemitError, HttpRefusal) as refused:
            return _refused(session, run, refused)
        return redirect(f"/runs/{run}/compared/{self._kept.keep(found)}")

    async def show(self, request: Request) -> Response:
        """The result, for who asked for it."""
        if (session := self._access.session(request)) is None:
            return redirect("/login")
        found, by = self._kept.find(request.path_params["id"]), session.principal
        if found is None or (found.by.tenant, found.by.subject) != (by.tenant, by.subject):
            return message(string("compared", "no_such"), status=404, session=session, back="/runs")
        if found.task is not None:
            await asyncio.wait({found.task}, timeout=WAIT_S)
        return page(
            "compared", session=session, area=AREA, seconds=round(LONGEST_S), here=request.url.path, **_shown(found)
        )

    def _asked(self, by: Principal, run: str, fields: Mapping[str, str]) -> Comparison:
        """What the form asks for, once it is recorded that the person reads these runs. Raises RemitError if they may not."""
        way, other = fields.get("way", ""), fields.get("other", "").strip()
        if way not in WAYS:
            raise UsageError(string("compared", "no_way"))
        workspace, _ = self._service.client(by)
        session = workspace.session
        first = _readable(session, run, by)
        if way == "good":
            row = find_run(session.journal, first)
            assert row is not None  # it was opened
            other = last_good_run(session.journal, row).run
        elif way != "other":
            other = ""
        elif not _OTHER.fullmatch(other):
            raise UsageError(string("compared", "no_other"))
        second = _readable(session, other, by) if other else ""
        for read in filter(None, (first, second)):
            _note(session, read, by)
        return Comparison(run=first, other=second, way=way, by=by)

    async def _compute(self, found: Comparison) -> None:
        workspace, _ = self._service.client(found.by)
        session = workspace.session
        with tempfile.TemporaryDirectory(prefix="remit-compared-") as name:
            files = {"{root}": str(session.root)}
            for key, run in (("{run}", found.run), ("{other}", found.other)):
                if run:
                    files[key] = f"{name}/{run}.jsonl"
                    await asyncio.to_thread(_write, session, run, found.by, Path(files[key]))
            words = [files.get(word, word) for word in WAYS[found.way]]
            found.answer = await self._service.apart.command(*words, folder=session.root)


def _readable(session: WorkspaceSession, run: str, by: Principal) -> str:
    """The whole id of the run. Raises UsageError if there is none, or if the person may not read it: nobody can tell these apart."""
    try:
        return open_trace_of(session, run, by=by).run
    except (Refusal, UsageError) as why:
        raise UsageError(string("runs", "no_such_text")) from why


def _note(session: WorkspaceSession, run: str, by: Principal) -> None:
    note_act(session.journal, lambda number: ContentRead(number=number, run=run, how="page", by=by))


def _write(session: WorkspaceSession, run: str, by: Principal, path: Path) -> None:
    write_portable(open_trace_of(session, run, by=by), path)


def _shown(found: Comparison) -> dict[str, Any]:
    answer = found.answer
    computes = answer is None and found.task is not None and not found.task.done()
    state = "computes" if computes else "missing" if answer is None else "late" if answer.code is None else "done"
    return {
        "run": found.run,
        "other": found.other,
        "way": found.way,
        "state": state,
        "same": answer is not None and answer.code == 0,
        "text": "" if answer is None else answer.text.strip(),
    }


def _refused(session: BrowserSession, run: str, refused: RemitError | HttpRefusal) -> Response:
    return message(string("compared", "failed"), refusal_text(refused), 403, session, back="/runs")
