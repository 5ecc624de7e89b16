"""What of an agent's recorded work was refused by something else than the rules, with the file that says so and what to do.

That is a line of a manifest, `tools` in agent.toml, or a tool that is not the reviewed one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remit.core import Error, Failed, Result
from remit.core.events import AttemptEnded, CallAnswered, CallDecided, Recorded, RunStarted
from remit.workspace import Workspace


def refused_outside_rules(records: Sequence[Recorded], workspace: Workspace) -> list[str]:
    """One sentence for each call of a run that something else than the rules refused, and for each access that the sandbox refused."""
    agent, actions = "", dict[tuple[int, int], str]()
    found: dict[tuple[int, int, str], None] = {}
    for recorded in records:
        event = recorded.event
        if isinstance(event, RunStarted):
            agent = event.agent
        if isinstance(event, CallDecided):
            actions[event.step, event.index] = event.proposed.action if event.call is None else event.call.action
        if isinstance(event, CallDecided | CallAnswered | AttemptEnded):
            place = event.step, event.index
            found.update(
                dict.fromkeys((*place, text) for text in _texts(event, actions.get(place, ""), workspace, agent))
            )
    return [text for *_, text in found]


def _texts(
    event: CallDecided | CallAnswered | AttemptEnded, action: str, workspace: Workspace, agent: str
) -> Iterator[str]:
    if isinstance(event, AttemptEnded):
        for denied in event.denied_accesses:
            yield f"{_manifest(action)}: {action} may not {denied.access} {denied.what}: add {denied.allow}"
        return
    result: Result | None = event.refusal if isinstance(event, CallDecided) else event.result
    if isinstance(result, Failed) and (text := _text(result.error, action, workspace, agent)):
        yield text


def _text(error: Error, action: str, workspace: Workspace, agent: str) -> str:
    """Where the refusal comes from, and what to do; "" if a rule, a limit or a person refused."""
    tool, _, name = action.partition(".")
    reason = error.details.get("reason")
    if error.code == "unknown_action":
        known = tool in workspace.tools and name in workspace.tools[tool].manifest.actions
        fix = "add it" if known else "no tool of the workspace has it"
        return f"agent/{agent}/agent.toml: `tools` does not name {action[:64]!r}: {fix}"
    if reason == "outside_manifest":
        return f"{_manifest(action)}: {error.message}"
    if reason == "not_decided":
        return error.message
    if reason == "not_pinned":
        return f"policies/tools.lock: {error.message}: review it, then run `remit tool pin {tool}`"
    return ""


def _manifest(action: str) -> str:
    return f"tools/{action.partition('.')[0]}/tool.toml"
