"""What a hook of a coding agent asks, and what it is answered: the formats of Claude Code and of Codex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from remit.core import Error, Failed, Json, Result
from remit.core.parsing import canonical_json, digest
from remit.server.hooks.conversations import SessionOf
from remit.server.hooks.hooked_run import Verdict
from remit.server.hooks.naming import proposed_call, unknown_arguments
from remit.server.hooks.places import Project
from remit.server.http.answers import HttpRefusal, json_response
from remit.server.http.route import Asked

LONGEST_WAIT_S: Final = 50.0  # less than the longest time of a request, and that of a hook
MOST_OF_RESULT: Final = 100_000  # characters of each text of a result in the record
_LONGEST_ANSWER: Final = 200_000


class HookEvent(BaseModel):
    """One event of a coding agent, as its hooks get it. Members that are not listed here are ignored.

    `project` is the folder of the project, which `remit hook run` adds; without it, the folder in which the coding agent works. `wait` is
    how many seconds a call waits for approval.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    hook_event_name: Annotated[str, Field(min_length=1, max_length=60)]
    session_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    cwd: Annotated[str, Field(max_length=4096)] = "/"
    project: Annotated[str, Field(max_length=4096)] = ""
    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = LONGEST_WAIT_S
    prompt: Annotated[str, Field(max_length=200_000)] = ""
    tool_name: Annotated[str, Field(max_length=200)] = ""
    tool_input: dict[str, Any] = {}
    tool_use_id: Annotated[str, Field(max_length=200)] = ""
    tool_response: Any = None
    error: Annotated[str, Field(max_length=200_000)] = ""
    last_assistant_message: str | None = None


async def claude_code(asked: Asked) -> Response:
    return await _answered(asked, "claude-code")


async def codex(asked: Asked) -> Response:
    return await _answered(asked, "codex")


async def _answered(asked: Asked, client: str) -> Response:
    """INVARIANT: an event that is not known here is refused: it may be one that lets something run."""
    event: HookEvent = asked.body
    asked.authorize_agent(client)
    of = SessionOf(client=client, agent=client, id=event.session_id, by=asked.principal)
    sessions = asked.workspace.hooks
    match event.hook_event_name:
        case "PreToolUse":
            return json_response(await _decided(asked, of, event))
        case "PostToolUse" | "PostToolUseFailure":
            run = await sessions.open_run(of)
            value = {"error": _cut(event.error)} if event.error else _cut(event.tool_response)
            result = None if run is None else await run.report(_id_of(event), value)
            return json_response(_after(event.hook_event_name, result))
        case "UserPromptSubmit":
            await sessions.prompted(of, event.prompt)
        case "Stop":
            await sessions.ended(of, (event.last_assistant_message or "")[:_LONGEST_ANSWER])
        case "SessionEnd":
            await sessions.ended(of, "")
        case "SessionStart":
            await sessions.open_run(of)  # refused if the session is of another person
        case _:
            message = f"the event {event.hook_event_name!r} is not one of those that Remit answers"
            raise HttpRefusal("invalid_request", message, next_step="write the hooks by `remit hook install`")
    return json_response({})


async def _decided(asked: Asked, of: SessionOf, event: HookEvent) -> Json:
    """The answer to a call of a native tool."""
    if not event.tool_name:
        raise HttpRefusal("invalid_request", "the event names no tool")
    project = Project(folder=event.project or event.cwd, cwd=event.cwd)
    proposed = proposed_call(of.client, event.tool_name, event.tool_input, project, event.tool_use_id)
    run = await asked.workspace.hooks.run_for(of, proposed)
    wait = min(event.wait, asked.service.longest_wait)
    verdict = await run.propose(proposed, _id_of(event), wait=wait)
    if verdict.result is None:
        # What is only observed goes its usual way: the coding agent asks its user as it would without Remit.
        return _decision("allow", "") if verdict.enforced and of.client == "claude-code" else {}
    text = _text_of(verdict, run.record.run)
    if unknown := unknown_arguments(proposed):
        text = (
            f"{event.tool_name} has an argument that this version of Remit does not know: {', '.join(unknown)}. {text}"
        )
    return _decision("deny", text)


def _decision(decision: str, reason: str) -> Json:
    named = {"hookEventName": "PreToolUse", "permissionDecision": decision}
    return {"hookSpecificOutput": named | ({"permissionDecisionReason": reason} if reason else {})}


def _text_of(verdict: Verdict, run: str) -> str:
    """The refusal as the coding agent's model reads it: Remit's error, and where a person answers."""
    assert verdict.result is not None
    error, asked = verdict.result.error, verdict.asked
    if asked is None:
        return _shown(error)
    name, roles = f"{run}/{asked.step}.{asked.index}", ", ".join(item.role for item in asked.missing)
    step = (
        f"the user of this session cannot approve it: tell them `remit approve show {name}`, for another person; "
        "after the approval, make exactly this call again"
    )
    waiting = error.model_copy(update={"message": f"waits for {roles}", "next_step": step})
    return _shown(waiting, approval={"id": name})


def _shown(error: Error, **beside: Json) -> str:
    body = {"ok": False, "error": error.model_dump(mode="json"), **beside}
    return f"Remit: {canonical_json(body).decode()}"


def _after(name: str, result: Result | None) -> Json:
    """The answer to a reported result. A result that a content rule blocks is still read: the model reads that it must not use it."""
    if not isinstance(result, Failed) or result.error.code != "content_blocked":
        return {}
    return {"decision": "block", "reason": _shown(result.error)}


def _id_of(event: HookEvent) -> str:
    """The id of the call; of a coding agent without one, what the call is."""
    if event.tool_use_id:
        return event.tool_use_id
    return digest({"tool": event.tool_name, "input": event.tool_input})


def _cut(value: object, deep: int = 0) -> Json:
    """The value with long texts cut, for the record."""
    if isinstance(value, str) and len(value) > MOST_OF_RESULT:
        return f"{value[:MOST_OF_RESULT]}… ({len(value)} characters)"
    if isinstance(value, list) and deep < 8:
        return [_cut(item, deep + 1) for item in cast("Sequence[Any]", value)[:2000]]
    if isinstance(value, dict) and deep < 8:
        return {key: _cut(item, deep + 1) for key, item in cast("Mapping[str, Any]", value).items()}
    return cast("Json", value)
