"""The tools that a principal is offered: the actions of the agent that the rules may allow to both of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mcp_types import Tool, ToolAnnotations

from remit.client import AsyncRemit
from remit.core import action_matches, called_action, tool_name
from remit.core.parsing import URL_KINDS
from remit.policy import Policy
from remit.workspace import Workspace, tool_specs
from remit.workspace.manifest import Action

_ARGUMENT: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)")  # in a resource of a manifest
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


class OfferedTools:
    """The tools that one principal is offered, as long as nothing changes: the library asks for them at each call."""

    def __init__(self) -> None:
        self._of: tuple[Workspace, str, tuple[str, ...]] | None = None
        self._tools: list[Tool] = []

    def now(self, client: AsyncRemit, agent: str) -> list[Tool]:
        """The tools by the rules, roles and definitions of now."""
        workspace, digest, roles = client.session.workspace, client.policy.digest, client.principal.roles
        if self._of is None or self._of[0] is not workspace or self._of[1:] != (digest, roles):
            self._tools, self._of = offered_tools(client, agent), (workspace, digest, roles)
        return self._tools


def offered_tools(client: AsyncRemit, agent: str) -> list[Tool]:
    """The tools of the agent for this principal, in the order of the agent. A call of another one is refused all the same."""
    workspace, by = client.session.workspace, client.principal
    policy = client.policy.with_roles(by.subject, by.roles)
    names = tool_names(workspace.agents[agent].actions)
    found: list[Tool] = []
    for spec in tool_specs(workspace, workspace.agents[agent]):
        name = called_action(spec.name)
        tool, action = workspace.action(name)
        kinds = _kinds(action, spec.input)
        subjects = (f"agent:{agent}", by.subject)
        if tool.pinned and all(_may_be_allowed(policy, subject, name, kinds) for subject in subjects):
            found.append(
                Tool(
                    name=names[name],
                    title=name,
                    description=spec.description,
                    input_schema=dict(spec.input),
                    output_schema=dict(RESULT_SCHEMA),
                    annotations=_hints(action),
                )
            )
    return found


def tool_names(actions: Sequence[str]) -> dict[str, str]:
    """The name of the tool of each action, `files_read` for `files.read`; with two underscores where two would be the same."""
    short = {action: action.replace(".", "_") for action in actions}
    counted = Counter(short.values())
    return {action: name if counted[name] == 1 else tool_name(action) for action, name in short.items()}


def action_called(actions: Sequence[str], name: str) -> str:
    """The action that a client calls by that name: of its tool, or its own. An unknown name is returned as it is, and refused later."""
    named = {tool: action for action, tool in tool_names(actions).items()}
    return named.get(name, name)


def _kinds(action: Action, schema: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of the resources that every call of the action touches: those that no optional argument names."""
    required = set(schema.get("required", ()))
    resources = [touch.partition(" ")[2] for touch in action.touches]
    return frozenset(item.partition(":")[0] for item in resources if required.issuperset(_ARGUMENT.findall(item)))


def _may_be_allowed(policy: Policy, subject: str, action: str, kinds: frozenset[str]) -> bool:
    """True if some rules let the subject do it on some resource of each kind, under some condition."""
    names = {subject, *policy.roles_of(subject)}
    rows = [row for row in policy.rows if row.subject in names and action_matches(action, row.action)]
    if any(row.rule.effect == "deny" and row.condition.constant and not row.pattern.kind for row in rows):
        return False
    allows = [row for row in rows if row.rule.effect == "allow" and row.condition.constant is not False]
    found = {row.pattern.kind for row in allows}
    urls = {"url"} if found.intersection(URL_KINDS) else set[str]()
    return "" in found or (bool(found) and kinds <= found | urls)


def _hints(action: Action) -> ToolAnnotations:
    """What a client may show of the action: hints for people, and no promise."""
    return ToolAnnotations(
        read_only_hint=action.effect == "read",
        destructive_hint=action.effect == "once",
        idempotent_hint=action.effect != "once",
        open_world_hint="untrusted" in action.adds_labels,
    )
