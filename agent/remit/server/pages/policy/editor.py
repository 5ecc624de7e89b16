"""The editor of rules: a person changes a file, and reads what the change would do. The result is a patch, never a change of rules in force."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from remit.core import UsageError, WorkspaceError
from remit.policy import cases_beside
from remit.server.apart import LONGEST_S
from remit.server.authentication import Access, BrowserSession
from remit.server.http.answers import HttpRefusal
from remit.server.http.route import EVERY_RUN
from remit.server.pages.assets import string, strings
from remit.server.pages.forms import refusal_text
from remit.server.pages.html import HEADERS, BadForm, checked_form, message, page, redirect
from remit.server.pages.policy.drafts import PARTS, Draft, Drafts, changed_files, editable
from remit.server.pages.policy.questions import AREA

if TYPE_CHECKING:
    from remit.server.service import Service

LARGEST_TEXT: Final = 1 << 20  # bytes of a form with two files, as they are encoded
WAIT_S: Final = 3.0  # how long the page of a draft waits for its report


class EditorPages:
    """The pages about drafts of rules of a service."""

    def __init__(self, service: Service, access: Access, drafts: Drafts) -> None:
        self._service = service
        self._access = access
        self._drafts = drafts

    async def edit(self, request: Request) -> Response:
        """A file of rules with its table of cases, to change."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/policy")
        if not self._may(session):
            return _not_allowed(session)
        files = await asyncio.to_thread(self._files, session)
        file = request.query_params.get("file", "") or next(_rules_of(files), "")
        if file not in _rules_of(files):
            return message(string("message", "no_page"), status=404, session=session, back="/policy")
        return _editor(session, files, file)

    async def save(self, request: Request) -> Response:
        """Keep what the person wrote as a draft, and begin its report."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/policy")
        try:
            fields = await checked_form(request, self._access, session, largest=LARGEST_TEXT)
        except BadForm:
            return message(string("message", "refused"), status=403, session=session)
        if not self._may(session):
            return _not_allowed(session)
        files, file = await asyncio.to_thread(self._files, session), fields.get("file", "")
        if file not in _rules_of(files):
            return message(string("message", "no_page"), status=404, session=session, back="/policy")
        sent = {name: fields[key] for key, name in _fields_of(files, file).items() if key in fields}
        if fields.get("base") != _base(files, file):
            return _editor(session, {**files, **sent}, file, base=files, problem=string("editor", "stale"), status=409)
        workspace, client = self._service.client(session.principal)
        try:
            changes = changed_files(files, sent)
            draft = self._drafts.begin(workspace.session, client.policy, session.principal, changes)
        except (UsageError, HttpRefusal) as refused:
            return _editor(session, {**files, **sent}, file, base=files, problem=refusal_text(refused), status=409)
        return redirect(f"/policy/drafts/{draft.id}")

    async def show(self, request: Request) -> Response:
        """A draft, with the parts of its report that are known."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/policy")
        if (draft := self._drafts.find(request.path_params["id"], session.principal)) is None:
            return _no_draft(session)
        if draft.task is not None:
            await asyncio.wait({draft.task}, timeout=WAIT_S)
        parts = [_part(draft, name) for name in PARTS]
        file = next((change.file for change in draft.changes if change.file.endswith(".csv")), "")
        return page("draft", session=session, area=AREA, draft=draft, parts=parts, file=file)

    async def patch(self, request: Request) -> Response:
        """The change as a file for `git apply`, with its report above it."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/policy")
        if (draft := self._drafts.find(request.path_params["id"], session.principal)) is None:
            return _no_draft(session)
        head = string("draft", "patch_head", by=session.principal.subject)
        text = f"# {head}\n{draft.report(strings()['draft'], string('draft', 'missing'))}\n{draft.patch}"
        headers = {**HEADERS, "content-disposition": f'attachment; filename="rules-{draft.id[:8]}.patch"'}
        return Response(text, headers=headers, media_type="text/x-diff; charset=utf-8")

    def _may(self, session: BrowserSession) -> bool:
        """True for who may read every run: a report says what the rules decide on recorded calls."""
        _, client = self._service.client(session.principal)
        return client.may("remit.read", EVERY_RUN)

    def _files(self, session: BrowserSession) -> dict[str, str]:
        workspace, _ = self._service.client(session.principal)
        try:
            return editable(workspace.session.root)
        except WorkspaceError:
            return {}


def _rules_of(files: Mapping[str, str]) -> Iterator[str]:
    return (file for file in files if file.endswith(".csv"))


def _fields_of(files: Mapping[str, str], file: str) -> dict[str, str]:
    """The files of the form, by the name of their field."""
    return {"rules": file, **({"cases": cases} if (cases := cases_beside(file)) in files else {})}


def _base(files: Mapping[str, str], file: str) -> str:
    """What names the text from which a person began."""
    texts = [files[name] for name in _fields_of(files, file).values()]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _editor(
    session: BrowserSession,
    files: Mapping[str, str],
    file: str,
    *,
    base: Mapping[str, str] | None = None,
    problem: str = "",
    status: int = 200,
) -> Response:
    texts = {key: {"file": name, "text": files[name]} for key, name in _fields_of(files, file).items()}
    return page(
        "editor",
        status,
        session=session,
        area=AREA,
        file=file,
        files=list(_rules_of(files)),
        texts=texts,
        base=_base(files if base is None else base, file),
        problem=problem,
    )


def _part(draft: Draft, name: str) -> dict[str, Any]:
    """One part of the report: its state, and what the command has printed."""
    found = draft.parts.get(name)
    if found is None:
        state = "computes" if draft.computes else "missing"
        return {"name": name, "state": state, "text": ""}
    state = "late" if found.code is None else "good" if found.code == 0 else "bad"
    return {"name": name, "state": state, "text": found.text.strip(), "seconds": round(LONGEST_S)}


def _not_allowed(session: BrowserSession) -> Response:
    return message(string("editor", "title"), string("policy", "not_allowed"), 403, session, back="/policy")


def _no_draft(session: BrowserSession) -> Response:
    return message(string("draft", "no_such"), string("draft", "no_such_text"), 404, session, back="/policy")
