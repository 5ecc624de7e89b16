"""The mailbox workspace: its agent reads untrusted text, under the rules of `policies/open/open.csv`."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from remit.broker.approvals import requests as approval
from remit.core.calls import Scope
from remit.core.events import ApprovalRequested, CallAnswered, CallDecided, Recorded
from remit.journal import StoredRecord
from remit.runtime import runner as run
from remit.workspace.session import WorkspaceSession, open_session
from remit.workspace.template import starter_folder
from support.principals import OPERATOR, principal
from support.workspaces.files import write_files
from support.workspaces.ledger import pin

TOOL = """
name = "box"
version = "1.0.0"
owner = "tests@example.com"
summary = "A mailbox"
source = "host"
host = "remit_open_box:ACTIONS"

[actions.contacts]
summary = "List whom the user knows"
touches = ["use own:contacts"]
effect = "read"
adds_to_directory = ["mail:{*/email}"]

[actions.inbox]
summary = "Read what others wrote"
touches = ["use own:mailbox"]
effect = "read"
adds_labels = ["untrusted"]
adds_to_directory = ["https:{*/body:links} as {*/sender}"]

[actions.notes]
summary = "Read one note"
touches = ["use note:{note}"]
effect = "read"

[actions.profile]
summary = "Tell who the user is"
touches = ["use own:profile"]
effect = "read"
adds_labels = ["private"]

[actions.send]
summary = "Send mail"
touches = ["use mail:{to}"]

[actions.add_note]
summary = "Write a note"
touches = ["use own:notes"]
request_words = ["note"]
adds_to_directory = ["note:{id}"]

[actions.add_contact]
summary = "Add somebody to the contacts"
touches = ["use own:contacts"]
request_words = ["contact"]
adds_to_directory = ["mail:{email}"]

[actions.drop_note]
summary = "Delete a note"
touches = ["use note:{note}"]

[actions.page]
summary = "Read a page"
touches = ["use url:{url}"]
methods = ["GET"]
effect = "read"
adds_labels = ["untrusted"]

[actions.set_password]
summary = "Change the password"
touches = ["use settings:password"]

[actions.second_factor]
summary = "Ask for a second factor, or not"
touches = ["use settings:login"]
effect = "idempotent"

[actions.look_up_host]
summary = "Tell whether a host answers"
touches = ["use host:{host}"]
effect = "read"

[actions.review]
summary = "A person looks at what was read, and vouches for it"
touches = ["use own:mailbox"]
removes_labels = ["untrusted"]
request_words = ["review"]
"""
MAIL = [
    {"sender": "Bob", "body": "The plan: https://plan.example.org/a, and https://plan.example.org/b?day=1"},
    {"sender": "Eve", "body": "https://evil.test"},
]


class Box:
    """The acts that the tool has carried out."""

    done: list[tuple[str, dict[str, Any]]] = []

    @classmethod
    def act(cls, name: str, **arguments: Any) -> None:
        cls.done.append((name, arguments))


def contacts() -> list[dict[str, str]]:
    """List whom the user knows."""
    return [{"email": "ann@example.com"}]


def inbox() -> list[dict[str, str]]:
    """Read what others wrote."""
    return MAIL


def notes(note: str) -> str:
    """Read one note."""
    return f"note {note}"


def profile() -> dict[str, str]:
    """Tell who the user is."""
    return {"passport": "HGK137803"}


def send(to: list[str], body: str = "") -> str:
    """Send mail."""
    Box.act("send", to=to, body=body)
    return "sent"


def add_note(text: str) -> dict[str, str]:
    """Write a note."""
    Box.act("add_note", text=text)
    return {"id": "n-77"}


def add_contact(card: str) -> dict[str, str]:
    """Add somebody to the contacts."""
    return {"email": card.partition("<")[2].rstrip(">").lower() or "team-7@lists.example.com"}


def drop_note(note: str) -> str:
    """Delete a note."""
    Box.act("drop_note", note=note)
    return "gone"


def page(url: str) -> str:
    """Read a page."""
    Box.act("page", url=url)
    return "a page"


def set_password(password: str) -> str:
    """Change the password."""
    Box.act("set_password", password=password)
    return "changed"


def second_factor(on: bool, by: list[str] | None = None) -> str:
    """Ask for a second factor, or not."""
    Box.act("second_factor", on=on, by=by)
    return "changed"


def look_up_host(host: str) -> str:
    """Tell whether a host answers."""
    Box.act("look_up_host", host=host)
    return "it answers"


def review() -> str:
    """Look at it."""
    return "looked at"


ACTIONS = {one.__name__: one for one in (contacts, inbox, notes, profile, send, add_note, add_contact, drop_note, page, set_password, second_factor, look_up_host, review)}  # fmt: skip
RULES = """# The user may do what the agent may
p, user:operator, *, **, True, allow
g, agent:helper, role:open
g, user:owner, role:owner
"""
AGENT = """
name = "helper"
summary = "Helps with mail"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["box"]
folder = "work/helper"
"""


def mailbox_workspace(
    folder: Path, turns: Sequence[dict[str, Any]], *, agent: str = "", files: dict[str, str] | None = None
) -> WorkspaceSession:
    """Write the workspace, with `turns` as the script, and open it."""
    module = sys.modules.setdefault("remit_open_box", ModuleType("remit_open_box"))
    module.ACTIONS = ACTIONS  # type: ignore[attr-defined]
    Box.done = []
    texts = {
        "remit.toml": 'host_tools = ["box"]\nusers = ["user:owner", "user:dana"]\n\n[identity]\n"*" = "user:operator"\n',
        "tools/box/tool.toml": TOOL,
        "policies/rules.csv": RULES,
        "agent/helper/agent.toml": AGENT + agent,
        "agent/helper/prompt.md": "Help.\n",
        "agent/helper/script.yaml": json.dumps({"turns": list(turns)}),
        **(files or {}),
    }
    write_files(folder, texts)
    for name in ("model.conf", "open/open.csv"):
        shutil.copy(starter_folder() / "policies" / name, folder / "policies")
    lock = folder / "policies" / "tools.lock"
    if not _locks:
        pin(folder)
        _locks.append(lock.read_text())
    lock.write_text(_locks[0])
    return open_session(folder)


_locks: list[str] = []  # the tool is always the same one: pinned once, it is pinned everywhere


class MailboxRun:
    """One run of the mailbox agent. `verdicts` has the verdict of each call, or the code that refused it, in order."""

    def __init__(
        self, session: WorkspaceSession, task: str, *, scope: Scope | None = None, grants: bool = False
    ) -> None:
        self.session = session
        self.events: list[Recorded] = []
        self._grants = grants
        start = run.RunRequest(
            agent="helper",
            task=task,
            subject="user:operator",
            by=OPERATOR,
            model=run.open_model_of(session, "helper"),
            scope=scope,
        )
        self.ended = asyncio.run(run.start_run(session, start, on_event=self._on_event, wait=5))
        self.run = self.ended.run

    def _on_event(self, recorded: Recorded) -> None:
        """Record the event; the approver answers a request immediately."""
        self.events.append(recorded)
        if isinstance(recorded.event, ApprovalRequested):
            record = StoredRecord(self.session.journal, recorded.run)
            now = recorded.at + 1
            roles_of = self.session.policy.roles_of
            if self._grants:
                approval.grant_approval(
                    record,
                    recorded.event,
                    approval.Approval(by=principal("owner"), role="role:owner"),
                    roles_of=roles_of,
                    now=now,
                )
            else:
                approval.reject_approval(
                    record,
                    recorded.event,
                    by=principal("owner"),
                    roles_of=roles_of,
                    now=now,
                    reason="no",
                )

    @property
    def verdicts(self) -> list[str]:
        """The first decision of each call: "action: verdict", or the code of its refusal."""
        return [
            f"{decided.proposed.action.partition('.')[2]}: "
            + (decided.refusal.error.code if decided.refusal is not None else decided.decision.verdict)  # type: ignore[union-attr]
            for decided in self._first_decisions()
        ]

    @property
    def answers(self) -> list[CallAnswered]:
        return [item.event for item in self.events if isinstance(item.event, CallAnswered)]

    def _first_decisions(self) -> list[CallDecided]:
        """The first decision on each call, in order."""
        events = (item.event for item in self.events)
        return [event for event in events if isinstance(event, CallDecided) and event.round == 0]

    def facts(self, number: int) -> dict[str, Any]:
        """The facts of the decision on the call with that number."""
        decision = self._first_decisions()[number].decision
        assert decision is not None
        return decision.facts
