"""Conversations of BFCL under an agent that observes, and then enforced action by action: `make bench-observe`.

The calls of the ground truth of BFCL's multi-turn tasks are made by a LangChain agent whose model is a script. It has the tools of the
classes that the task needs, up to 40, its answers are streamed, and its threads are in PostgreSQL.

1. Each conversation is played without Remit, and with the middleware in `mode = "observe"` and no rule that allows anything: all that is
   streamed, every message and the final state of every instance must be equal.
2. `remit report` suggests rules from what was recorded; they are written.
3. Action after action is enforced. The conversations that call it are played again: no call that is enforced may be refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

import bfcl
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.checkpoint.postgres import PostgresSaver

from suites.fetch import BENCH, fetch
from suites.stage import HostTool, Stage, scratch
from support.observing import OBSERVING, Talk, observe_and_enforce
from support.postgres import shared_server

AGENT = "agent/bfcl/agent.toml"
RULES = "# Nobody calls this\np, agent:bfcl, math_api.add, service:none, True, deny\n"


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
    Stage(agent="bfcl", tools=hosted, rules=RULES, prompt="Do the task.\n", budget={}).build(folder)
    text = (folder / AGENT).read_text()
    lines = f"accept_parsed_arguments = true\n{OBSERVING}"
    (folder / AGENT).write_text(text.replace("\n\n[budget]", f"\n{lines}\n[budget]", 1))


def talk_of(task: bfcl.Task, category: str, tools: dict[str, list[BaseTool]]) -> Talk:
    def begin() -> Callable[[], Any]:
        made = bfcl.NOW.instances = bfcl.instances(task, category)
        return lambda: bfcl.state_of(made)

    left = iter(task.steps)
    return Talk(
        name=f"{category} {task.id}",
        tools=[tool for name in task.classes for tool in tools[name]],
        messages=[
            (text or "Go on.", [(bfcl.action_of(step.method), step.arguments) for step in islice(left, count)])
            for text, count in task.messages
        ],
        actions=frozenset(f"{bfcl.tool_of(step.of)}.{bfcl.action_of(step.method)}" for step in task.steps),
        begin=begin,
    )


@contextmanager
def checkpointer_in_postgresql(folder: Path) -> Iterator[Any]:
    with (
        shared_server(folder, fsync=False) as server,
        server.database() as url,
        PostgresSaver.from_conn_string(url) as checkpointer,
    ):
        checkpointer.setup()
        yield checkpointer


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--conversations", type=int, default=500)
    parser.add_argument("--part", default="1/1", help="play only that part of them: 2/5")
    options = parser.parse_args(given)
    most, (part, parts) = options.conversations, map(int, options.part.split("/"))
    sys.path.append(str(fetch("bfcl", bfcl.PACKAGES)))  # last: nothing of it stands before what Remit itself imports
    tools = {name: tools_of(name) for name in bfcl.CLASSES}
    each = -(-most // len(bfcl.CATEGORIES))
    talks = [talk_of(task, name, tools) for name in bfcl.CATEGORIES for task in bfcl.tasks(name)[:each]][:most]
    talks = talks[part - 1 :: parts]
    with scratch() as folder, checkpointer_in_postgresql(folder) as checkpointer:
        build(folder / "workspace", tools)
        found = observe_and_enforce(folder / "workspace", "bfcl", talks, checkpointer)
    sizes = sorted(len(talk.tools) for talk in talks)
    print(
        f"{len(found.changed)} changed answers in {found.conversations} conversations with {found.calls} calls, by agents of "
        f"{sizes[0]} to {sizes[-1]} tools; {found.observed_s:.0f} s"
    )
    print(f"{found.rules} suggested rules; {found.still_refused} calls lack a rule with them")
    print(
        f"{found.actions} actions enforced, one after the other: {found.refused} refusals in {found.enforced} enforced calls; "
        f"{found.enforced_s:.0f} s"
    )
    for name in found.changed[:10]:
        print(f"changed: {name}")
    (BENCH / "observe.json").write_text(json.dumps(found.as_json(), indent=2))
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
