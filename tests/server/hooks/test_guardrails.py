"""What else holds for the calls that hooks ask about: holds, observing, and labels of files.

The guardrails of every entry point are in the table of `tests/end_to_end/test_guardrails.py`, where hooks have a column.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.broker import set_hold
from remit.journal import list_runs
from remit.workspace import open_session
from support.hooked import Hooks, with_pack
from support.principals import principal
from support.served import serving


@pytest.fixture
def packed(session: Path) -> Path:
    """The starter workspace with the tool pack of Claude Code."""
    return with_pack(session)


async def test_a_hold_stops_the_calls_of_a_coding_agent(packed: Path) -> None:
    async with serving(packed) as caller:
        hooks = Hooks(caller, packed)
        await hooks.prompt("Do it")
        assert await hooks.use("Read", file_path="remit.toml") == "allow"
        with open_session(packed).journal as journal:
            set_hold(journal, "tool:claude_code", why="an incident", by=principal("operator"))
        assert await hooks.use("Read", file_path="remit.toml") == "held"
        await hooks.stop()


async def test_an_agent_that_observes_is_recorded_and_left_alone(packed: Path) -> None:
    folder = packed
    agent = folder / "agent" / "claude-code" / "agent.toml"
    observed = 'mode = "observe"\nobserve_until = "2099-12-31"\nenforce = ["claude_code.mcp"]\n\n[budget]'
    agent.write_text(agent.read_text().replace("[budget]", observed))
    async with serving(folder) as caller:
        hooks = Hooks(caller, folder)
        await hooks.prompt("Do it")
        assert await hooks.use("Read", file_path="secrets/key") == "unchanged", "the coding agent asks its own user"
        assert (await hooks.after("Read", "the key")).status == 200
        assert await hooks.use("mcp__github__push") == "approval_required", "enforced already"
        await hooks.stop()
    with open_session(folder).journal as journal:
        (run,) = list_runs(journal)
        decided = [item.event for item in journal.events(run.run) if item.type == "call.decided"]
    assert [(event.decision.verdict, event.enforced) for event in decided if event is not None][:1] == [("deny", False)]  # type: ignore[union-attr]


async def test_a_private_file_labels_the_session(packed: Path) -> None:
    folder = packed
    (folder / "policies" / "labels.toml").write_text(
        '[[label]]\nnote = "Salaries"\nlabels = ["private"]\nfiles = ["people/**"]\n'
    )
    rules = folder / "policies" / "claude-code.csv"
    rules.write_text(
        f"{rules.read_text()}# What is private does not leave\n"
        "p, agent:claude-code, claude_code.fetch, https://**, 'private' in labels, deny\n"
    )
    async with serving(folder) as caller:
        hooks = Hooks(caller, folder)
        await hooks.prompt("Do it")
        assert await hooks.use("WebFetch", url="https://example.com/", prompt="p") == "allow"
        assert await hooks.use("Read", file_path="people/salaries.csv") == "allow"
        assert await hooks.use("WebFetch", url="https://example.com/", prompt="p") == "policy_denied"
