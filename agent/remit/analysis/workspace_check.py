"""`remit check`: checks the whole workspace and reports every problem at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from remit.analysis.cases import run_cases
from remit.core import Problem, WorkspaceError
from remit.core.parsing import read_file, table_text
from remit.guardrails import CASES, check_content
from remit.policy import Policy
from remit.runtime.models import ScriptedModel, open_model
from remit.tools import read_tool_cases
from remit.workspace import Workspace, load_workspace_and_policy
from remit.workspace.manifest import LOCK


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """How many items of each kind were checked, and the problems found."""

    problems: tuple[Problem, ...]
    counts: Mapping[str, int]


def check_workspace(root: Path) -> CheckReport:
    """Load the whole workspace, and check rules, pins, scripts and tables of cases against each other."""
    try:
        workspace, policy = load_workspace_and_policy(root)
    except WorkspaceError as error:
        return CheckReport(problems=error.problems, counts={})
    cases, problems = _policy_cases(root, policy)
    problems += _pins(workspace)
    content_cases, wrong = _content_cases(root, workspace)
    problems += wrong
    tool_cases = 0
    for name in workspace.tools:
        found, wrong = _tool_cases(root, name)
        tool_cases += found
        problems += wrong
    problems += _scripts(root, workspace)
    observing = sum(agent.observe is not None for agent in workspace.agents.values())
    counts = {
        "tools": len(workspace.tools),
        "agents": len(workspace.agents),
        "rules": len(policy.rules),
        "policy cases": cases,
        "tool cases": tool_cases,
        **({"agents that observe": observing} if observing else {}),
        **({"content cases": content_cases} if content_cases else {}),
    }
    return CheckReport(problems=tuple(problems), counts=counts)


def edit_workspace(root: Path, files: Mapping[str, bytes], *, repin: Collection[str] = ()) -> None:
    """Write these files of the workspace. If it then has a problem that it did not have before, nothing is changed.

    The tools in `repin` may be other than the reviewed ones afterwards.

    Raises:
        WorkspaceError: with the new problems.
    """
    before = check_workspace(root).problems
    kept = {file: read_file(root / file, file=file) if (root / file).exists() else None for file in files}
    _write(root, files)
    expected = {(LOCK, _review(tool)) for tool in repin}
    after = (problem for problem in check_workspace(root).problems if problem not in before)
    problems = [problem for problem in after if (problem.file, problem.fix) not in expected]
    if problems:
        _write(root, kept)
        raise WorkspaceError(problems)


def _write(root: Path, files: Mapping[str, bytes | None]) -> None:
    for file, data in files.items():
        if data is None:
            (root / file).unlink()
        else:
            (root / file).write_bytes(data)


def _policy_cases(root: Path, policy: Policy) -> tuple[int, list[Problem]]:
    file = "policies/cases.yaml"
    path = root / file
    if not path.exists():
        return 0, [Problem(file=file, what="there is no table of policy cases", fix="write one case for each rule")]
    try:
        results = run_cases(policy, table_text(path, file=file), file)
    except WorkspaceError as error:
        return 0, list(error.problems)
    fix = "fix the rule, or the case if the rule is right"
    return len(results), [
        Problem(file=file, line=result.line, what=f"{result.note}: {result.message}", fix=fix)
        for result in results
        if not result.passed
    ]


def _pins(workspace: Workspace) -> list[Problem]:
    problems: list[Problem] = []
    for name, tool in workspace.tools.items():
        if not tool.pinned:
            what = (
                f"tool {name!r} is not pinned" if tool.pin is None else f"tool {name!r} has changed since it was pinned"
            )
            problems.append(Problem(file=LOCK, what=what, fix=_review(name)))
    return problems


def _review(tool: str) -> str:
    return f"review tools/{tool}, then run `remit tool pin {tool}`"


def _content_cases(root: Path, workspace: Workspace) -> tuple[int, list[Problem]]:
    try:
        return check_content(workspace.content, table_text(root / CASES, file=CASES))
    except WorkspaceError as error:
        return 0, list(error.problems)


def _tool_cases(root: Path, name: str) -> tuple[int, list[Problem]]:
    file = f"tools/{name}/cases.yaml"
    path = root / file
    if not path.exists():
        return 0, [Problem(file=file, what=f"tool {name!r} has no cases", fix="write one case for each action")]
    try:
        return len(read_tool_cases(table_text(path, file=file), file, name)), []
    except WorkspaceError as error:
        return 0, list(error.problems)


def _scripts(root: Path, workspace: Workspace) -> list[Problem]:
    """Report approvals in scripts for actions that the agent does not have."""
    problems: list[Problem] = []
    scripted = [
        (name, agent, spec)
        for name, agent in workspace.agents.items()
        for spec in agent.models
        if spec.startswith("script:")
    ]
    for name, agent, spec in scripted:
        try:
            model = open_model(spec, folder=root / "agent" / name)
        except WorkspaceError as error:
            problems.extend(error.problems)
            continue
        if isinstance(model, ScriptedModel):
            problems.extend(
                Problem(
                    file=f"agent/{name}/{spec.partition(':')[2]}",
                    what=f"approves {item.action!r}, which the agent does not have",
                    fix="name one of its actions",
                )
                for item in model.approvals
                if item.action not in agent.actions
            )
    return problems
