"""Conversations of BFCL under an agent that observes, and then enforced action by action: `make bench-observe`.

The calls of the ground truth of BFCL's multi-turn tasks are made by a LangChain agent whose model is a script, with a
checkpointer and streamed, on the tools of the classes that the task needs (about 40).

1. Each conversation is played without Remit, and with the middleware in `mode = "observe"` and no rule at all: every message and the
   final state of every instance must be equal.
2. `remit report` suggests rules from what was recorded; they are written.
3. Action after action is enforced. The conversations that call it are played again: no call that is enforced may be refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

import bfcl
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.checkpoint.memory import InMemorySaver

from remit.analysis import added, edit_workspace, observed_work
from remit.analysis.diff import working_tree
from remit.core.events import CallDecided
from remit.journal import list_runs
from remit.langchain import RemitMiddleware
from remit.workspace import policy_files
from remit.workspace.manifest import with_enforced
from remit.workspace.session import open_session
from suites.fetch import BENCH, fetch
from suites.stage import HostTool, Stage, scratch
from support.workspaces.langchain import Scripted, says

AGENT = "agent/bfcl/agent.toml"
OBSERVING = 'accept_parsed_arguments = true\nmode = "observe"\nobserve_until = "2099-12-31"\n'


def tools_of(name: str) -> list[BaseTool]:
    """The methods of a class as LangChain tools. What a method raises, the model reads."""
    return [
        tool_of(bfcl.action_of(method), bfcl.function_of(name, method, function))
        for method, function in bfcl.methods(name).items()
    ]


def tool_of(name: str, function: Callable[..., Any]) -> BaseTool:
    def act(**arguments: Any) -> Any:
        try:
            return function(**arguments)
        except bfcl.Failed as failure:
            raise ToolException(str(failure)) from failure

    act.__signature__ = function.__signature__  # type: ignore[attr-defined]
    act.__annotations__, act.__doc__, act.__name__ = function.__annotations__, function.__doc__ or name, name
    return StructuredTool.from_function(
        act, name=name, description=(function.__doc__ or name)[:500], handle_tool_error=True
    )


def build(folder: Path, tools: dict[str, list[BaseTool]]) -> None:
    """A workspace with the eight classes as host tools, an agent that observes, and a rule about nothing."""
    hosted = {
        bfcl.tool_of(name): HostTool(
            manifest=bfcl.manifest(name).replace('errors = ["failed"]', 'errors = ["tool_error"]'),
            functions=cast("Any", found),
        )
        for name, found in tools.items()
    }
    rules = "# Nobody calls this\np, agent:bfcl, math_api.none, service:none, True, deny\n"
    Stage(agent="bfcl", tools=hosted, rules=rules, prompt="Do the task.\n", budget={}).build(folder)
    text = (folder / AGENT).read_text()
    (folder / AGENT).write_text(text.replace("\n\n[budget]", f"\n{OBSERVING}\n[budget]", 1))


@dataclass(kw_only=True)
class Player:
    """Plays conversations with tools of BFCL, without or with Remit."""

    tools: dict[str, list[BaseTool]]
    plays: int = 0
    unequal: list[str] = field(default_factory=list[str])

    def play(self, task: bfcl.Task, category: str, remit: RemitMiddleware | None) -> tuple[list[Any], Any]:
        """The messages of the conversation, and what the instances hold at its end."""
        self.plays += 1
        bfcl.NOW.instances = bfcl.instances(task, category)
        turns = [
            says((bfcl.action_of(step.method), step.arguments), text=str(at)) for at, step in enumerate(task.steps)
        ]
        agent = create_agent(
            Scripted(turns=turns),
            [tool for name in task.classes for tool in self.tools[name]],
            middleware=[] if remit is None else [remit],
            checkpointer=InMemorySaver(),
        )
        config: Any = {"configurable": {"thread_id": f"{task.id}-{self.plays}"}, "recursion_limit": 1000}
        *_, state = agent.stream({"messages": [HumanMessage(task.id)]}, config, stream_mode="values")
        return [shown(message) for message in state["messages"]], bfcl.state_of(bfcl.NOW.instances)


def shown(message: Any) -> Any:
    fields = ("name", "status", "artifact", "tool_call_id")
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return [message.type, message.content, calls, *(getattr(message, name, None) for name in fields)]


def suggest(folder: Path) -> tuple[int, int]:
    """Write the rules that the report suggests. Returns how many, and how many calls lack a rule even so."""
    opened = open_session(folder)
    runs = (opened.journal.events(row.run) for row in list_runs(opened.journal))
    found = observed_work(working_tree(folder).rule_set(), policy_files(folder), opened.workspace, runs)
    before = policy_files(folder)["policies/rules.csv"].decode()
    edit_workspace(folder, {"policies/rules.csv": added(before, found.suggested.rules).encode()})
    return len(found.suggested.missing), found.suggested.still_refused


def enforce(folder: Path, action: str) -> None:
    text = (folder / AGENT).read_text()
    (folder / AGENT).write_text(with_enforced(text, action, file=AGENT))


def refusals(folder: Path, since: int) -> tuple[int, int]:
    """The enforced calls since then, and those of them that were not allowed."""
    journal = open_session(folder).journal
    decided = [
        item.event
        for row in list_runs(journal)
        if row.started_at >= since
        for item in journal.events(row.run)
        if isinstance(item.event, CallDecided) and item.event.enforced
    ]
    return len(decided), sum(not event.allowed for event in decided)


def conversations(most: int) -> list[tuple[str, bfcl.Task]]:
    each = -(-most // len(bfcl.CATEGORIES))
    return [(name, task) for name in bfcl.CATEGORIES for task in bfcl.tasks(name)[:each]][:most]


def action_names(task: bfcl.Task) -> set[str]:
    return {f"{bfcl.tool_of(step.of)}.{bfcl.action_of(step.method)}" for step in task.steps}


def measure(folder: Path, most: int) -> dict[str, Any]:
    tools = {name: tools_of(name) for name in bfcl.CLASSES}
    build(folder, tools)
    player, played = Player(tools=tools), conversations(most)
    began = time.perf_counter()
    with RemitMiddleware("bfcl", workspace=folder, mode="observe") as remit:
        for category, task in played:
            if player.play(task, category, None) != player.play(task, category, remit):
                player.unequal.append(task.id)
    observed_s = time.perf_counter() - began
    rules, still = suggest(folder)
    actions = sorted(set().union(*(action_names(task) for _, task in played)))
    since, began = time.time_ns(), time.perf_counter()
    for action in actions:
        enforce(folder, action)
        with RemitMiddleware("bfcl", workspace=folder) as remit:
            for category, task in played:
                if action in action_names(task):
                    player.play(task, category, remit)
    enforced, refused = refusals(folder, since)
    return {
        "conversations": len(played),
        "calls": sum(len(task.steps) for _, task in played),
        "changed": player.unequal,
        "observed_s": observed_s,
        "rules": rules,
        "still_refused": still,
        "actions": len(actions),
        "enforced_calls": enforced,
        "unforeseen_refusals": refused,
        "enforced_s": time.perf_counter() - began,
    }


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=int, default=500)
    most = parser.parse_args(given).conversations
    sys.path.append(str(fetch("bfcl", bfcl.PACKAGES)))  # last: nothing of it stands before what Remit itself imports
    with scratch() as folder:
        found = measure(folder, most)
    print(
        f"{len(found['changed'])} changed answers in {found['conversations']} conversations with {found['calls']} calls; {found['observed_s']:.0f} s"
    )
    print(f"{found['rules']} suggested rules; {found['still_refused']} calls lack a rule with them")
    print(
        f"{found['actions']} actions enforced, one after the other: {found['unforeseen_refusals']} refusals in {found['enforced_calls']} enforced calls; {found['enforced_s']:.0f} s"
    )
    for name in found["changed"][:10]:
        print(f"changed: {name}")
    (BENCH / "observe.json").write_text(json.dumps(found, indent=2))
    return 1 if found["changed"] or found["still_refused"] or found["unforeseen_refusals"] else 0


if __name__ == "__main__":
    sys.exit(main())
