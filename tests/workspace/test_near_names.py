"""A misspelled name is answered with the near one, wherever a person or a program writes a name."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from remit.client.remit import Remit as Client
from remit.core import Refusal, UsageError
from remit.workspace.loader import load_workspace
from support.principals import OPERATOR
from support.runs import Remit

COMMANDS = {
    "the action of a call": ("call files.raed '{}' --agent triage", "files__read"),
    "the agent of a call": ("call files.read '{}' --agent traige", "did you mean triage?"),
    "an argument of an action": ("tool try files.read pth=a", "known arguments: "),
    "the agent of a run": ("run traige x", "did you mean triage?"),
    "the agent of a task for workers": ("enqueue traige x", "did you mean triage?"),
    "an agent to hold": ("stop --agent traige --reason x", "did you mean triage?"),
    "a tool to hold": ("stop --tool fils --reason x", "did you mean files?"),
    "a tool": ("tool show fils", "did you mean files?"),
    "a tool whose schema is shown": ("tool schema fils", "did you mean files?"),
    "a tool to pin": ("tool pin fils", "did you mean files?"),
    "a tool to test": ("tool test fils", "did you mean files?"),
    "a tool whose code is revoked": ("tool revoke fils --reason x", "did you mean files?"),
    "an action to try": ("tool try files.raed path=a", "did you mean files.read?"),
    "an action to allow": ("allow files.raed '{}' --agent triage", "did you mean files.read?"),
    "an agent to attack": ("attack traige", "did you mean triage?"),
    "an action in a question about rules": ("policy who files.raed file:a", "did you mean files.read?"),
    "an agent in a question about rules": ("policy can agent:traige", "did you mean agent:triage?"),
    "an agent in an evaluation": ("eval play traige", "did you mean triage?"),
    "an agent for targets": ("targets traige", "did you mean triage?"),
    "an agent for drift": ("drift traige", "did you mean triage?"),
    "an agent that observes": ("report traige", "did you mean triage?"),
    "an agent in a list": ("trace list --agent traige", "did you mean triage?"),
    "an action in a list": ("trace list --action files.raed", "did you mean files.read?"),
    "a code in a list": ("trace list --code policy_deny", "did you mean 'policy_denied'?"),
    "a user": ("principal disable user:danna --reason x", "did you mean user:dana?"),
    "an agent of a key": ("key create service:ci --action remit.read --agent traige", "did you mean triage?"),
    "the provider of a model": ("doctor --model opnai:x", "did you mean openai?"),
    "a command": ("polcy check", "Did you mean policy?"),
    "a command of a group": ("tool lst", "Did you mean"),
    "an option": ("tool list --jsn", "Did you mean '--json'?"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "near"), list(COMMANDS.values()), ids=list(COMMANDS))
def test_a_command_answers_a_misspelled_name_with_the_near_one(remit: Remit, line: str, near: str) -> None:
    done = remit(*shlex.split(line))
    shown = done.out + done.err
    assert near in shown, shown
    assert "Traceback" not in shown


def test_a_held_name_a_run_and_a_rollout_are_answered_with_the_near_one(remit: Remit) -> None:
    made = remit("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage", "--json").json[
        "run"
    ]
    wrong = made[:6] + ("0" if made[6] != "0" else "1") + made[7]
    assert f"did you mean {made[:8]}?" in remit("trace", "show", wrong).err
    assert remit("stop", "--agent", "triage", "--reason", "x").code == 0
    assert "did you mean agent:triage?" in remit("start", "--agent", "traige").err
    assert "there is no rollout 'nothing': none is open" in remit("rollout", "show", "nothing").err


FILES = {
    "a tool of an agent": ("agent/triage/agent.toml", '"files"', '"fils"', "write 'files'"),
    "a key of an agent": ("agent/triage/agent.toml", "prompt =", "promt =", "prompt"),
    "an action of a rule": ("policies/rules.csv", "files.read,", "files.raed,", "did you mean files.read?"),
    "an agent of a rule": ("policies/rules.csv", "agent:triage,", "agent:traige,", "did you mean agent:triage?"),
    "a key of a manifest": ("tools/files/tool.toml", "touches =", "touchs =", "touches"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "near"), list(FILES.values()), ids=list(FILES))
def test_a_file_answers_a_misspelled_name_with_the_near_one(
    remit: Remit, session: Path, file: str, old: str, new: str, near: str
) -> None:
    path = session / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    done = remit("check")
    assert done.code == 2
    assert near in done.err, done.err


def test_the_python_api_answers_a_misspelled_name_with_the_near_one(session: Path) -> None:
    with Client.open(session, principal=OPERATOR) as client:
        with pytest.raises(UsageError, match=r"did you mean triage\?"):
            client.call("files.read", {"path": "a"}, agent="traige")
        with pytest.raises(UsageError, match=r"did you mean triage\?"):
            client.hold("agent:traige", reason="x")
        with pytest.raises(UsageError, match=r"did you mean files\?"):
            client.hold("tool:fils", reason="x")
    with pytest.raises(Refusal) as unknown:
        load_workspace(session).action("files.raed")
    assert unknown.value.next_step == "did you mean files.read?"
