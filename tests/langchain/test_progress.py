"""What a tool prints or yields is seen while it runs: in the run's events, and in the custom stream of the graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from remit.core.events import AttemptEnded, AttemptProgressed
from support.langchain_agents import ASKED, THREAD, LangChainWorkspace, results
from support.workspaces.langchain import AGENT, RULES, says

MANIFEST = """
name = "slow"
version = "1.0.0"
owner = "tests@example.com"
summary = "Work that takes long"

[actions.count]
summary = "Count"
effect = "read"

[actions.chat]
summary = "Print very much"
effect = "read"
"""
MAIN = '''
import time
from collections.abc import Iterator


def count(to: int) -> Iterator[dict[str, int]]:
    """Count."""
    print("begin")
    for number in range(to):
        time.sleep(0.05)
        yield {"number": number}


def chat(lines: int) -> str:
    """Print."""
    for number in range(lines):
        print("line", number, "AKIAIOSFODNN7EXAMPLE")
    return "done"
'''
ALLOWED = "# The desk counts\np, agent:desk, slow.*, **, True, allow\np, role:people, slow.*, **, True, allow\n"


def slow_workspace(folder: Path, new_workspace: Callable[..., LangChainWorkspace]) -> LangChainWorkspace:
    tool = folder / "desk" / "tools" / "slow"
    tool.mkdir(parents=True)
    (tool / "tool.toml").write_text(MANIFEST)
    (tool / "main.py").write_text(MAIN)
    return new_workspace(AGENT=AGENT.replace('["desk"]', '["desk", "slow"]'), RULES=RULES + ALLOWED)


def test_what_a_generator_yields_is_its_result_and_is_seen_while_it_runs(
    tmp_path: Path, new_workspace: Callable[..., LangChainWorkspace]
) -> None:
    workspace = slow_workspace(tmp_path, new_workspace)
    agent = workspace.agent(says(("slow__count", {"to": 3})), checkpointer=InMemorySaver())
    parts: list[tuple[str, Any]] = list(agent.stream(ASKED, THREAD, stream_mode=["custom", "updates"]))
    shown = [part["remit"] for mode, part in parts if mode == "custom"]
    lines = ["begin", '{"number": 0}', '{"number": 1}', '{"number": 2}']
    assert shown == [{"call": "0.0", "progress": line} for line in lines]
    assert [mode for mode, _ in parts].index("custom") < len(parts) - 1
    state = agent.get_state(THREAD).values
    assert results(state)[0]["value"] == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert [event.text for event in workspace.events(AttemptProgressed)] == lines
    workspace.reproduced()


def test_of_a_tool_that_prints_much_only_the_first_lines_are_reported_and_none_with_a_secret(
    tmp_path: Path, new_workspace: Callable[..., LangChainWorkspace]
) -> None:
    workspace = slow_workspace(tmp_path, new_workspace)
    workspace.agent(says(("slow__chat", {"lines": 3000})), checkpointer=InMemorySaver()).invoke(ASKED, THREAD)
    reported = [event.text for event in workspace.events(AttemptProgressed)]
    assert len(reported) == 100
    assert "AKIAIOSFODNN7EXAMPLE" not in "".join(reported)
    (ended,) = workspace.events(AttemptEnded)
    assert "line 2000" in ended.stderr
