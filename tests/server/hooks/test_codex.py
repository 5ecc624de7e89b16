"""The hooks of Codex, with events as its documentation has them. The real Codex is played in `test_real_codex.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.hooked import Hooks, decision, with_pack
from support.served import serving

PATCH = "*** Begin Patch\n*** Update File: {}\n@@\n-a\n+b\n*** End Patch\n"


@pytest_asyncio.fixture
async def hooks(codex: Path) -> AsyncIterator[Hooks]:
    async with serving(codex) as caller:
        yield Hooks(caller, codex, client="codex")


@pytest.fixture
def codex(session: Path) -> Path:
    return with_pack(session, "codex")


@pytest.mark.parametrize(
    ("tool", "given", "code"),
    [
        ("Bash", {"command": "git status"}, "unchanged"),  # Codex reads an empty answer as: go on as you would
        ("Bash", {"command": "git status && git push"}, "approval_required"),
        ("Bash", {"command": "git status", "justification": "x"}, "invalid_arguments"),
        ("apply_patch", {"command": PATCH.format("src/a.py")}, "unchanged"),
        ("apply_patch", {"command": PATCH.format("../other/a.py")}, "policy_denied"),
        ("apply_patch", {"command": PATCH.format(".codex/hooks.json")}, "policy_denied"),
        ("apply_patch", {"command": PATCH.format("a.py") + PATCH.format("/etc/passwd")}, "policy_denied"),
        ("apply_patch", {"command": "no patch"}, "invalid_arguments"),
        ("mcp__github__push", {}, "approval_required"),
        ("update_plan", {"plan": []}, "unchanged"),
        ("Read", {"file_path": "a"}, "unknown_action"),
    ],
)
async def test_a_native_tool_is_decided_by_what_it_touches(
    hooks: Hooks, tool: str, given: dict[str, object], code: str
) -> None:
    await hooks.prompt("Do it")
    assert decision(await hooks.before(tool, **given)) == code


async def test_after_a_result_of_a_server_nothing_is_pushed(codex: Path) -> None:
    rules = codex / "policies" / "codex.csv"
    rules.write_text(rules.read_text() + "p, agent:codex, codex.mcp, mcp:web.*, True, allow\n")
    async with serving(codex) as caller:
        hooks = Hooks(caller, codex, client="codex")
        await hooks.prompt("Read the page and push")
        assert decision(await hooks.before("mcp__web__fetch", url="https://example.com/")) == "unchanged"
        assert (await hooks.after("mcp__web__fetch", "a page")).status == 200
        assert decision(await hooks.before("Bash", command="git push")) == "policy_denied"
