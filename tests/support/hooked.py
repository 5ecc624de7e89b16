"""A workspace for Claude Code, and its hooks as a service gets them."""

from __future__ import annotations

import asyncio
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from remit.sandbox import Sandbox
from remit.tools import pin_tools
from remit.workspace import load_workspace
from support.served import Answer, Caller

PEOPLE = "\ng, user:operator, role:developer\ng, user:dana, role:code-approver\n"


def with_pack(folder: Path, client: str = "claude-code", *, people: str = PEOPLE) -> Path:
    """The workspace, with the tool pack of that coding agent, pinned."""
    copy_pack(folder, client, people=people)
    asyncio.run(pin_tools(load_workspace(folder), (client.replace("-", "_"),), Sandbox()))
    return folder


def copy_pack(folder: Path, client: str, *, people: str = PEOPLE) -> None:
    """Copy the tool pack into the workspace. Until its tool is pinned, no call of it runs."""
    pack, name = Path(str(files("remit.server.hooks"))) / "packs" / client, client.replace("-", "_")
    for place, named in (("tools", name), ("agent", client)):
        (folder / place / named).mkdir()
    shutil.copy(pack / "tool.toml", folder / "tools" / name)
    for file in ("agent.toml", "prompt.md"):
        shutil.copy(pack / file, folder / "agent" / client)
    (folder / "policies" / f"{client}.csv").write_text((pack / "rules.csv").read_text() + people)


class Hooks:
    """The hooks of one session."""

    def __init__(self, caller: Caller, project: Path, *, session: str = "s1", client: str = "claude-code") -> None:
        self.caller, self.project, self._session, self._client = caller, project, session, client
        self._number = 0

    async def event(self, name: str, **fields: Any) -> Answer:
        place = {"cwd": str(self.project), "project": str(self.project), "wait": 0}
        named = {"hook_event_name": name, "session_id": self._session}
        return await self.caller.post(f"/hooks/{self._client}", {**place, **named, **fields})

    async def prompt(self, text: str) -> None:
        assert (await self.event("UserPromptSubmit", prompt=text)).body == {}

    async def stop(self, answer: str = "done") -> None:
        assert (await self.event("Stop", last_assistant_message=answer)).body == {}

    async def before(self, tool: str, /, **given: Any) -> Answer:
        self._number += 1
        return await self.event("PreToolUse", tool_name=tool, tool_input=given, tool_use_id=f"t{self._number}")

    async def after(self, tool: str, response: Any) -> Answer:
        return await self.event("PostToolUse", tool_name=tool, tool_use_id=f"t{self._number}", tool_response=response)

    async def failed(self, tool: str, error: str) -> Answer:
        return await self.event("PostToolUseFailure", tool_name=tool, tool_use_id=f"t{self._number}", error=error)

    async def use(self, tool: str, /, response: Any = "ok", **given: Any) -> str:
        """Make a call: "allow", or the code of its refusal."""
        answered = decision(await self.before(tool, **given))
        if answered == "allow":
            assert (await self.after(tool, response)).status == 200
        return answered


def decision(answer: Answer) -> str:
    """ "allow", or the code of the refusal that the model reads."""
    assert answer.status == 200, answer.body
    answered = answer.body.get("hookSpecificOutput", {})
    if answered.get("permissionDecision") != "deny":
        return str(answered.get("permissionDecision", "unchanged"))
    return str(error_of(answer)["code"])


def error_of(answer: Answer) -> Any:
    return refusal_of(answer)["error"]


def refusal_of(answer: Answer) -> Any:
    """What the model reads of a refused call: Remit's `error`, and the `approval` for which the call waits."""
    reason: str = answer.body["hookSpecificOutput"]["permissionDecisionReason"]
    return json.loads(reason[reason.index("{") :])
