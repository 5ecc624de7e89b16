"""The tools that a principal is offered: the actions of the agent that the rules may allow to both of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp_types import Tool, ToolAnnotations

from remit.analysis import list_permissions
from remit.client import AsyncRemit
from remit.core import action_matches, called_action
from remit.policy import Policy
from remit.workspace import tool_specs
from remit.workspace.manifest import Action

_TEXT: Final = {"type": "string"}
_LIST: Final = {"type": "array", "items": _TEXT}
_ERROR: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": _TEXT,
        "message": _TEXT,
        "retryable": {"type": "boolean"},
        "retry_after_s": {"type": ["number", "null"]},
        "attempts": {"type": "integer"},
        "details": {"type": "object"},
        "next_step": {"type": ["string", "null"]},
    },
}
# The result of every tool: a value, or why there is none. What the value is, the description of the tool says.
RESULT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["ok"],
    "properties": {
        "ok": {"type": "boolean", "description": "true: `value` is the result; false: `error` says why there is none"},
        "run": {"type": "string", "description": "The run that recorded the call"},
        "value": {"description": "What the tool returned"},
        "labels": {**_LIST, "description": "What Remit knows of the result: untrusted, private"},
        "error": _ERROR,
        "approval": {"type": "object", "description": "The request for approval for which the call waits"},
    },
}


def offered_tools(client: AsyncRemit, agent: str) -> list[Tool]:
    """The tools of the agent for this principal, in the order of the agent. A call of another one is refused all the same."""
    workspace, policy = client.session.workspace, client.policy
    allowed = [_actions(policy, subject) for subject in (f"agent:{agent}", client.principal.subject)]
    found: list[Tool] = []
    for spec in tool_specs(workspace, workspace.agents[agent]):
        name = called_action(spec.name)
        tool, action = workspace.action(name)
        if tool.pinned and all(any(action_matches(name, pattern) for pattern in patterns) for patterns in allowed):
            found.append(
                Tool(
                    name=spec.name,
                    title=name,
                    description=spec.description,
                    input_schema=dict(spec.input),
                    output_schema=dict(RESULT_SCHEMA),
                    annotations=_hints(action),
                )
            )
    return found


def _actions(policy: Policy, subject: str) -> frozenset[str]:
    """The patterns of the actions that some rule lets the subject do, under some condition."""
    return frozenset(
        item.action
        for item in list_permissions(policy, subject)
        if item.rule.effect == "allow" and item.standing != "never"
    )


def _hints(action: Action) -> ToolAnnotations:
    """What a client may show of the action: hints for people, and no promise."""
    return ToolAnnotations(
        read_only_hint=action.effect == "read",
        destructive_hint=action.effect == "once",
        idempotent_hint=action.effect != "once",
        open_world_hint="untrusted" in action.adds_labels,
    )
