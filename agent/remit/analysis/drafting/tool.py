"""Drafts rules for a tool that has none, from its manifest: for the agent and for the user that it acts for."""

from __future__ import annotations

from collections.abc import Iterator

from remit.analysis.drafting.rows import chosen_approver, row_text
from remit.analysis.reach import reach_of
from remit.analysis.solver.ruleset import RuleSet
from remit.core import UsageError, one_of, spelled
from remit.workspace import Workspace
from remit.workspace.manifest import Action, Manifest


def draft_for_tool(
    workspace: Workspace, rule_set: RuleSet, tool: str, *, agent: str, user: str, approver: str = ""
) -> str:
    """Rows for a reviewer to edit: what the manifest reaches, with an approval for each action that cannot be undone.

    `agent` and `user` are subjects. Without an `approver`, a role is asked that another user has.

    Raises:
        UsageError: the tool or the agent does not exist, or nobody could approve.
    """
    if tool not in workspace.tools:
        raise UsageError(f"there is no tool {spelled(tool)}: {one_of(tool, workspace.tools)}")
    workspace.agent(agent.removeprefix("agent:"))
    manifest, reach = workspace.tools[tool].manifest, reach_of(workspace)
    lines: list[str] = [f"# --- {tool}: {manifest.summary} ---", ""]
    for action in manifest.actions.values():
        patterns = reach[f"{tool}.{action.name}"].patterns
        for subject in (agent, user):
            for pattern, asks in _asked(action, patterns):
                role = chosen_approver(rule_set, [user], approver) if asks else ""
                lines += _row(manifest, action, subject, pattern, role)
    return "\n".join(lines) + "\n"


def _asked(action: Action, patterns: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Each pattern, and whether a row for it asks: those that an argument names, or all if no argument names one."""
    fixed = {f"{one.kind}:{one.constant}" for one in action.templates if one.form == "constant"}
    for pattern in patterns:
        yield pattern, action.effect == "once" and (pattern not in fixed or len(fixed) == len(patterns))


def _row(manifest: Manifest, action: Action, subject: str, pattern: str, role: str) -> tuple[str, str]:
    note = f"# {action.summary}{'; it cannot be undone, so it needs approval' if role else ''}"
    condition = f"approved('{role}')" if role else "True"
    return note, row_text(subject, f"{manifest.name}.{action.name}", pattern, condition)
