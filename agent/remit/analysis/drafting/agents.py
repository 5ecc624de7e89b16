"""Drafts a new agent with the rules that let it use its tools, and a case for each."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.analysis.drafting.changes import FileChange, diff_of
from remit.analysis.drafting.rows import CASES, RULES, added, cases_text, chosen_approver, pairs_without_rule, row_text
from remit.analysis.reach import reach_of
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Context, Request, UsageError, one_of, spelled
from remit.policy import read_cases_text
from remit.tools.making import VALID_NAME
from remit.workspace import Workspace, WorkspaceSession, load_files, vocabulary
from remit.workspace.manifest import Action

_EXAMPLE: Final = "example"


@dataclass(frozen=True, kw_only=True)
class NewAgent:
    """The files as they would be. `unpinned`: tools of the agent that do not run before a review."""

    changes: tuple[FileChange, ...]
    unpinned: tuple[str, ...]

    @property
    def diff(self) -> str:
        """A unified diff of the files."""
        return diff_of(self.changes)

    @property
    def files(self) -> dict[str, bytes]:
        """The changed files, as they would be."""
        return {change.file: change.after.encode() for change in self.changes}


@dataclass(frozen=True, kw_only=True)
class _Use:
    """Who is to use which tools; `approver` is the role that an action which cannot be undone asks, "" for one that another user has."""

    agent: str
    user: str
    tools: tuple[str, ...]
    approver: str


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request on one resource of a pattern that an action reaches."""

    action: Action
    pattern: str
    request: Request


def draft_agent(
    session: WorkspaceSession, name: str, tools: Sequence[str], *, user: str, approver: str = ""
) -> NewAgent:
    """A new agent with these tools, rules for it and for the user that it acts for, and a case for each rule that decides.

    The rules allow what the manifests reach, and ask a role for each action that cannot be undone: `approver`, or one that another user
    has. A row that would allow nothing new is left out.

    Raises:
        UsageError: the name is taken or not valid, a tool does not exist, or nobody could approve.
    """
    workspace = session.workspace
    unknown = next((tool for tool in tools if tool not in workspace.tools), None)
    if unknown is not None:
        raise UsageError(f"there is no tool {spelled(unknown)}: {one_of(unknown, workspace.tools)}")
    made = agent_files(workspace, name, tools)
    files = {**workspace.files, **{file: text.encode() for file, text in made.items()}}
    code = {tool: item.code for tool, item in workspace.tools.items()}
    drafted = load_files(files, root=None, code=code)  # the script is not on disk yet
    use = _Use(agent=f"agent:{name}", user=user, tools=tuple(tools), approver=approver)
    rules = _draft_use(drafted, files, read_cases_text(session.policies), use)
    own = {file: workspace.files.get(file, b"").decode() for file in made}
    return NewAgent(
        changes=(*(FileChange(file=file, before=own[file], after=text) for file, text in made.items()), *rules),
        unpinned=tuple(tool for tool in tools if not workspace.tools[tool].pinned),
    )


def draft_use(
    session: WorkspaceSession, agent: str, tool: str, *, user: str, approver: str = ""
) -> tuple[FileChange, ...]:
    """Rules with which an agent and its user may use a tool, and a case for each rule that decides, as `draft_agent` has them.

    Raises:
        UsageError: the agent or the tool does not exist, the agent lacks the tool, or nobody could approve.
    """
    workspace = session.workspace
    if tool not in workspace.tools:
        raise UsageError(f"there is no tool {spelled(tool)}: {one_of(tool, workspace.tools)}")
    if not any(action.startswith(f"{tool}.") for action in workspace.agent(agent).actions):
        raise UsageError(
            f"agent {agent!r} does not have the tool: add {json.dumps(tool)} to tools in agent/{agent}/agent.toml"
        )
    use = _Use(agent=f"agent:{agent}", user=user, tools=(tool,), approver=approver)
    changes = _draft_use(workspace, workspace.files, read_cases_text(session.policies), use)
    return changes if any(change.file == RULES for change in changes) else ()  # the rules that decide have their cases


def _draft_use(workspace: Workspace, files: Mapping[str, bytes], cases: str, use: _Use) -> tuple[FileChange, ...]:
    """The changes of the rules and of their cases."""
    user, approver = use.user, use.approver
    before = read_rule_set("before", files, vocabulary(workspace))
    if approver and not before.approvers(chosen_approver(before, [user], approver)) - {user}:
        raise UsageError(f"no user but {user} has {approver}: write g, user:<name>, {approver} in {RULES}")
    rules = files.get(RULES, b"").decode()
    every = tuple(_requests(workspace, use.agent, user, use.tools))

    def with_rows_for(asked: Collection[_Asked]) -> tuple[str, RuleSet]:
        lines = "\n".join(line for row in dict.fromkeys(_rows(before, asked, user, approver)) for line in row)
        text = added(rules, f"{lines}\n") if lines else rules
        return text, read_rule_set("after", {**files, RULES: text.encode()}, vocabulary(workspace))

    _, first = with_rows_for(every)
    # What a rule denies anyway gets no row.
    asked = tuple(item for item in every if first.policy.decide(item.request).verdict != "deny")
    text, after = with_rows_for(asked)
    own = [row for row in text.removeprefix(rules).splitlines() if row.startswith("p,")]
    lines = cases_text(after, (item.request for item in asked), own)
    table = added(cases, lines) if lines else cases
    changes = (FileChange(file=RULES, before=rules, after=text), FileChange(file=CASES, before=cases, after=table))
    return tuple(change for change in changes if change.after != change.before)


def agent_files(workspace: Workspace, name: str, tools: Iterable[str], *, host: bool = False) -> dict[str, str]:
    """The files of a new agent. `host`: the model is in a graph of LangChain, else a script stands for it.

    Raises:
        UsageError: the name is taken or not valid.
    """
    if VALID_NAME.fullmatch(name) is None:
        fix = "use at most 31 lower-case letters, digits and single underscores, a letter first"
        raise UsageError(f"{name!r} is not a valid name: {fix}")
    if name in workspace.agents or (workspace.root is not None and (workspace.root / "agent" / name).exists()):
        raise UsageError(f"the agent {name!r} exists already in agent/{name}: choose another name")
    model = (
        'model = "langchain:graph"         # the model is in your graph'
        if host
        else 'model = "script:script.yaml"      # later: "openai:gpt-5", "anthropic:…", "ollama:…"'
    )
    settings = [
        "#:schema ../../.remit/schemas/agent.schema.json",
        f'name = "{name}"',
        f'summary = "The agent {name}"',
        model,
        'prompt = "prompt.md"',
        f"tools = {json.dumps(list(tools))}",
        "accept_parsed_arguments = true    # LangChain hides the text of the arguments"
        if host
        else f'folder = "work/{name}/{{run}}"{" " * max(34 - len(name) - 22, 1)}# each run has its own working folder',
        *(
            []
            if host
            else ['# seed = "data"                  # a folder of the workspace: each run begins with a copy of it']
        ),
    ]
    files = {
        f"agent/{name}/agent.toml": "\n".join(settings) + "\n",
        f"agent/{name}/prompt.md": "Do what the user asks, with your tools.\n",
    }
    if not host:
        files[f"agent/{name}/script.yaml"] = (
            "# This script stands for the model. Write a real one in agent.toml.\nturns:\n  - say: I have no model yet.\n"
        )
    return files


def _requests(workspace: Workspace, agent: str, user: str, tools: Sequence[str]) -> Iterator[_Asked]:
    """For each action and each pattern of what it reaches, a request on one resource of the pattern."""
    reach = reach_of(workspace)
    for tool in tools:
        for action in workspace.tools[tool].manifest.actions.values():
            name = f"{tool}.{action.name}"
            for pattern in reach[name].patterns:
                resource = pattern.replace("**", _EXAMPLE).replace("*", _EXAMPLE)
                context = Context(effect=action.effect)
                request = Request(subjects=(agent, user), action=name, resources=(resource,), context=context)
                yield _Asked(action=action, pattern=pattern, request=request)


def _rows(rule_set: RuleSet, asked: Iterable[_Asked], user: str, approver: str) -> Iterator[tuple[str, str]]:
    """The rows that are missing, each behind its note."""
    for item in asked:
        for subject, _ in pairs_without_rule(rule_set, item.request):
            role = chosen_approver(rule_set, [user], approver) if item.action.effect == "once" else ""
            ending = "; it cannot be undone, so it needs approval" if role else ""
            condition = f"approved('{role}')" if role else "True"
            row = row_text(subject, item.request.action, item.pattern, condition)
            yield f"# {item.action.summary}{ending}", row
