"""The guardrails of every other entry point hold for the calls that hooks ask about (the table is `tests/end_to_end/test_guardrails.py`).

Left out are those of carrying out a call, which the coding agent does: retries, the form of a result, the circuit of a failing tool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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


CONTENT: Final = """
[[phrase]]
note = "Project names stay inside"
text = ["Project Falcon"]
where = ["arguments", "result", "answer"]

[[personal]]
note = "Customers are not for agents"
kinds = ["email", "card"]
"""
RATE: Final = """
[[limit]]
of = "calls"
action = "claude_code.read"
most = 1
per = "1h"
note = "One read an hour"
"""
CARD: Final = "4111 1111 1111 1111"


def _content(folder: Path) -> None:
    (folder / "policies" / "content.toml").write_text(CONTENT)


def _rate(folder: Path) -> None:
    (folder / "policies" / "limits.toml").write_text(RATE)


def _budget(line: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        agent = folder / "agent" / "claude-code" / "agent.toml"
        text = agent.read_text().replace("calls = 1000\n", "")
        agent.write_text(text.replace("[budget]", f"[budget]\n{line}"))

    return write


def _held(folder: Path) -> None:
    with open_session(folder).journal as journal:
        set_hold(journal, "tool:claude_code", why="an incident", by=principal("operator"))


@dataclass(frozen=True, kw_only=True)
class Guardrail:
    """The calls after which the guardrail holds, and the code of the last one."""

    calls: Sequence[tuple[str, dict[str, Any]]]
    code: str
    setting: Callable[[Path], None] = lambda _: None


def read(name: str = "remit.toml") -> tuple[str, dict[str, Any]]:
    return "Read", {"file_path": name}


def write(text: str) -> tuple[str, dict[str, Any]]:
    return "Write", {"file_path": "notes.md", "content": text}


GUARDRAILS: Final = {
    "blocked phrase": Guardrail(calls=[write("about project  FALCON")], code="content_blocked", setting=_content),
    "rate limit": Guardrail(calls=[read(), read("a.md")], code="rate_limited", setting=_rate),
    "budget": Guardrail(calls=[read(), read("a.md")], code="budget_exhausted", setting=_budget("calls = 1")),
    "denial loop": Guardrail(
        calls=[("Read", {"file_path": "secrets/key", "offset": number}) for number in range(1, 5)],
        code="denial_loop",
        setting=_budget("tries = 3"),
    ),
    "escalation": Guardrail(calls=[("Bash", {"command": "git push"})], code="approval_required"),
    "hold": Guardrail(calls=[read()], code="held", setting=_held),
    "redaction": Guardrail(calls=[write("a text")], code="allow", setting=_content),
}


@pytest.mark.parametrize("name", GUARDRAILS)
async def test_a_guardrail_holds_for_hooks(packed: Path, name: str) -> None:
    guardrail = GUARDRAILS[name]
    folder = packed
    guardrail.setting(folder)
    async with serving(folder) as caller:
        hooks = Hooks(caller, folder)
        await hooks.prompt("Do it")
        codes = [await hooks.use(tool, response=CARD, **given) for tool, given in guardrail.calls]
        await hooks.stop()
    assert codes[-1] == guardrail.code, codes
    with open_session(folder).journal as journal:
        (run,) = list_runs(journal)
        text = "".join(item.event.model_dump_json() for item in journal.events(run.run) if item.event is not None)
    assert name != "redaction" or (CARD not in text and "card" in text)


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
