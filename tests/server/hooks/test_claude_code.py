"""The hooks of Claude Code: what is let pass, what is refused, and what the record says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from remit.client import AsyncRemit
from remit.core import Succeeded
from remit.core.events import CallAnswered, CallDecided
from remit.journal import StoredRecord, list_runs
from support.hooked import Hooks, decision, error_of, refusal_of, with_pack
from support.served import person, serving


@pytest.fixture
def packed(session: Path) -> Path:
    """The starter workspace with the tool pack of Claude Code."""
    return with_pack(session)


@pytest_asyncio.fixture
async def hooks(packed: Path) -> AsyncIterator[Hooks]:
    async with serving(packed) as caller:
        yield Hooks(caller, packed)


def client_of(hooks: Hooks, name: str = "operator") -> AsyncRemit:
    return hooks.caller.service.workspaces["default"].client(person(name))


def records(hooks: Hooks) -> list[StoredRecord]:
    """The runs, the latest first."""
    journal = hooks.caller.service.workspaces["default"].journal
    return [StoredRecord(journal, item.run) for item in list_runs(journal)]


async def test_a_call_that_the_rules_allow_runs_and_its_result_is_recorded(hooks: Hooks) -> None:
    await hooks.prompt("Read the settings")
    assert await hooks.use("Read", response={"text": "env"}, file_path=str(hooks.project / "remit.toml")) == "allow"
    await hooks.stop("I have read them.")
    (record,) = records(hooks)
    answered = record.get("call.answered/0/0/-")
    assert isinstance(answered, CallAnswered)
    assert isinstance(answered.result, Succeeded)
    assert answered.result.value == {"text": "env"}
    assert record.state.task == "Read the settings"
    assert record.state.finished


async def test_a_call_that_the_rules_deny_is_recorded_and_the_model_reads_the_error(hooks: Hooks) -> None:
    await hooks.prompt("Read the key")
    refused = await hooks.before("Read", file_path=str(hooks.project / "secrets" / "payments.env"))
    assert error_of(refused)["code"] == "policy_denied"
    assert error_of(refused)["details"]["resources"] == ["file:secrets/payments.env"]
    decided = records(hooks)[0].get("call.decided/0/0/0")
    assert isinstance(decided, CallDecided)
    assert decided.call is not None
    assert [touch.resource for touch in decided.call.touches] == ["file:secrets/payments.env"]


@pytest.mark.parametrize(
    ("tool", "given", "code"),
    [
        ("Read", {"file_path": "remit.toml"}, "allow"),
        ("Read", {"file_path": "docs/../secrets/payments.env"}, "policy_denied"),
        ("Read", {"file_path": "/etc/passwd"}, "policy_denied"),
        ("Read", {"file_path": "~/.ssh/id_rsa"}, "policy_denied"),
        ("Read", {"file_path": "remit.toml", "as_root": True}, "invalid_arguments"),
        ("Read", {}, "invalid_arguments"),
        ("Read", {"file_path": ["remit.toml"]}, "invalid_arguments"),
        ("Edit", {"file_path": "a.py", "old_string": "a", "new_string": "b"}, "allow"),
        ("Write", {"file_path": ".claude/settings.json", "content": "{}"}, "policy_denied"),
        ("Write", {"file_path": "policies/rules.csv", "content": ""}, "policy_denied"),
        ("Glob", {"pattern": "**/*.py", "path": "tools"}, "allow"),
        ("Glob", {"pattern": "**/*.py"}, "policy_denied"),  # it would search secrets/, which the starter rules deny
        ("Glob", {"pattern": "../*"}, "policy_denied"),
        ("Grep", {"pattern": "/etc", "path": "tools"}, "allow"),
        ("Grep", {"pattern": "root", "path": "/etc"}, "policy_denied"),
        ("Bash", {"command": "git status"}, "allow"),
        ("Bash", {"command": "cat remit.toml"}, "allow"),
        ("Bash", {"command": "cat ./tools/../secrets/payments.env"}, "policy_denied"),
        ("Bash", {"command": "cat /etc/passwd"}, "policy_denied"),
        ("Bash", {"command": "git push"}, "approval_required"),
        ("Bash", {"command": "git status; git push"}, "approval_required"),
        ("Bash", {"command": "git status\ngit push"}, "approval_required"),
        ("Bash", {"command": "git $(echo status)"}, "approval_required"),
        ("Bash", {"command": "sh -c 'git status'"}, "approval_required"),
        ("Bash", {"command": "git status", "dangerouslyDisableSandbox": True}, "approval_required"),
        ("WebFetch", {"url": "https://example.com/a?b=c", "prompt": "p"}, "allow"),
        ("WebFetch", {"url": "file:///etc/passwd", "prompt": "p"}, "invalid_arguments"),
        ("WebSearch", {"query": "remit"}, "allow"),
        ("mcp__tracker__close", {"id": 7}, "approval_required"),
        ("Task", {"description": "d", "prompt": "p", "subagent_type": "Explore"}, "allow"),
        ("TodoWrite", {"todos": []}, "allow"),
        ("NewTool", {"anything": 1}, "unknown_action"),
        ("mcp__../x__y", {}, "unknown_action"),
    ],
)
async def test_a_native_tool_is_decided_by_what_it_touches(
    hooks: Hooks, tool: str, given: dict[str, object], code: str
) -> None:
    (hooks.project / "secrets").mkdir(exist_ok=True)
    (hooks.project / "secrets" / "payments.env").write_text("KEY=1")
    await hooks.prompt("Do it")
    assert decision(await hooks.before(tool, **given)) == code


async def test_a_link_out_of_the_project_counts_as_outside(hooks: Hooks) -> None:
    (hooks.project / "notes").symlink_to("/etc")
    await hooks.prompt("Read it")
    refused = await hooks.before("Read", file_path="notes/passwd")
    assert decision(refused) == "policy_denied"
    assert error_of(refused)["details"]["resources"] == ["outside:etc"]


async def test_an_approved_call_runs_and_only_the_approval_of_another_person_counts(hooks: Hooks) -> None:
    await hooks.prompt("Push it")
    name = refusal_of(await hooks.before("Bash", command="git push"))["approval"]["id"]
    with pytest.raises(Exception, match="did not start the run"):
        await client_of(hooks).approve(name)
    await client_of(hooks, "dana").approve(name)
    await hooks.prompt("Dana has approved it, go on")
    assert decision(await hooks.before("Bash", command="git push --force")) == "approval_required"
    assert await hooks.use("Bash", command="git push") == "approval_required", "the other call was made in between"


async def test_a_call_that_was_approved_runs_when_it_is_made_again(hooks: Hooks) -> None:
    await hooks.prompt("Push it")
    asked = refusal_of(await hooks.before("Bash", command="git push"))
    await hooks.stop("It waits for approval.")
    await client_of(hooks, "dana").approve(asked["approval"]["id"])
    await hooks.prompt("Dana has approved it, go on")
    assert await hooks.use("Bash", command="git push") == "allow"
    assert await hooks.use("Bash", command="git push") == "approval_required", "an approval is for one call"
    assert [record.state.task for record in records(hooks)] == ["Dana has approved it, go on", "Push it"]


async def test_a_hook_waits_for_the_approval(hooks: Hooks) -> None:
    await hooks.prompt("Push it")
    waiting = asyncio.ensure_future(
        hooks.event("PreToolUse", tool_name="Bash", tool_input={"command": "git push"}, wait=30)
    )
    client = client_of(hooks, "dana")
    while not (asked := await client.approvals()):
        await asyncio.sleep(0.02)
    await client.approve(asked[0])
    assert decision(await waiting) == "allow"


async def test_after_a_page_was_read_nothing_is_pushed_by_any_tool(packed: Path) -> None:
    rules = packed / "policies" / "claude-code.csv"
    rules.write_text(rules.read_text() + "p, agent:claude-code, claude_code.mcp, mcp:github.*, True, allow\n")
    async with serving(packed) as caller:
        before = Hooks(caller, packed, session="s0")
        await before.prompt("Push it")
        assert await before.use("mcp__github__push_files", branch="main") == "allow", "nothing was read before it"
        await _pushes_nothing(Hooks(caller, packed))


async def _pushes_nothing(hooks: Hooks) -> None:
    await hooks.prompt("Read the page, then push")
    assert await hooks.use("WebFetch", url="https://example.com/", prompt="p") == "allow"
    assert await hooks.use("Bash", command="git status") == "allow"
    assert await hooks.use("Bash", command="git push") == "policy_denied"
    assert await hooks.use("mcp__github__push_files", branch="main") == "approval_required"
    await hooks.stop()
    await hooks.prompt("Push it now")
    assert await hooks.use("Bash", command="git push") == "policy_denied", "the session has read the page"


async def test_a_session_belongs_to_the_person_who_began_it(hooks: Hooks) -> None:
    await hooks.prompt("Read it")
    other = Hooks(hooks.caller.as_("mara"), hooks.project)
    refused = await other.before("Read", file_path="remit.toml")
    assert refused.status == 403
    assert refused.code == "forbidden"
    own = Hooks(hooks.caller.as_("mara"), hooks.project, session="s2")
    assert (await own.event("SessionStart")).status == 200
    assert await hooks.use("Read", file_path="remit.toml") == "allow"


async def test_a_call_is_decided_when_the_one_before_it_has_its_result(hooks: Hooks) -> None:
    await hooks.prompt("Read the page and push")
    assert decision(await hooks.before("WebFetch", url="https://example.com/", prompt="p")) == "allow"
    busy = await hooks.event("PreToolUse", tool_name="Bash", tool_input={"command": "git log"}, tool_use_id="b")
    assert decision(busy) == "cancelled"
    pushes = asyncio.ensure_future(
        hooks.event("PreToolUse", tool_name="Bash", tool_input={"command": "git push"}, tool_use_id="c", wait=10)
    )
    await asyncio.sleep(0.05)
    assert not pushes.done()
    await hooks.after("WebFetch", "a page")
    assert decision(await pushes) == "policy_denied"


async def test_calls_of_a_sub_agent_are_decided_while_it_runs(hooks: Hooks) -> None:
    await hooks.prompt("Delegate it")
    assert decision(await hooks.before("Task", description="d", prompt="p")) == "allow"
    assert await hooks.use("WebFetch", url="https://example.com/", prompt="p") == "allow"
    assert await hooks.use("Bash", command="git push") == "policy_denied"


async def test_a_call_without_a_reported_result_has_an_unknown_outcome(hooks: Hooks) -> None:
    await hooks.prompt("Commit it")
    assert decision(await hooks.before("Bash", command="git commit -m 'Fix it'")) == "allow"
    await hooks.stop()
    (record,) = records(hooks)
    assert record.state.finished
    assert [doubt.action for doubt in record.state.doubts] == ["claude_code.program"]


async def test_a_session_goes_on_in_another_process_of_the_service(packed: Path) -> None:
    async with serving(packed) as caller:
        hooks = Hooks(caller, packed)
        await hooks.prompt("Read the page")
        assert await hooks.use("WebFetch", url="https://example.com/", prompt="p") == "allow"
    async with serving(packed) as caller:
        hooks = Hooks(caller, packed)
        assert await hooks.use("Bash", command="git push") == "policy_denied"
        await hooks.stop()
        assert len(records(hooks)) == 1


@pytest.mark.parametrize("name", ["PermissionRequest", "pretooluse", "X"])
async def test_an_event_that_is_not_known_is_refused(hooks: Hooks, name: str) -> None:
    refused = await hooks.event(name, tool_name="Read", tool_input={"file_path": "remit.toml"})
    assert (refused.status, refused.code) == (400, "invalid_request")


async def test_who_may_not_run_the_agent_gets_no_decision(hooks: Hooks) -> None:
    (hooks.project / "policies" / "remit.csv").write_text("p, user:operator, remit.*, **, True, allow\n")
    async with serving(hooks.project) as caller:
        refused = await Hooks(caller.as_("mara"), hooks.project).event("SessionStart")
        assert (refused.status, refused.code) == (403, "forbidden")
        assert (await Hooks(caller, hooks.project).event("SessionStart")).status == 200


async def test_a_tool_of_a_coding_agent_runs_for_no_other_caller(hooks: Hooks) -> None:
    arguments: dict[str, object] = {"input": {}, "paths": ["remit.toml"], "outside": []}
    body = {"agent": "claude-code", "action": "claude_code.read", "arguments": arguments}
    refused = await hooks.caller.post("/v1/calls", body)
    assert (refused.status, refused.code) == (403, "policy_denied")
    assert refused.body["error"]["details"] == {"reason": "only_by_hook"}
