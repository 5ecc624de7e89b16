"""What the live sandbox of a run was given is known to each later call in it: decisions count it, and so does a replay."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core.events import AttemptBegun, CallDecided
from remit.runtime import runner
from remit.sandbox import Sandbox
from remit.workspace.session import open_session
from remit.workspace.template import starter_folder
from support.lifecycle import replayed
from support.principals import OPERATOR
from support.runs import DONE, Played, turn
from support.workspaces.ledger import pin

KIT: Final = """
name = "kit"
version = "1.0.0"
owner = "tests@example.com"
summary = "Reads files and posts figures"
source = "command"
{life}

[always]
programs = ["sh", "cat", "kill"]
hosts = ["crm.example.com:443"]

[at_most]
read = ["data/**"]

[actions.read]
summary = "Read a file"
run = ["cat", "--", "{{path}}"]
touches = ["read file:{{path}}"]
effect = "read"
adds_labels = ["untrusted"]

[actions.break]
summary = "End in the middle of the call"
run = ["sh", "-c", "cat < /work/$0 > /tmp/kept; kill -9 $PPID", "{{path}}"]
touches = ["read file:{{path}}"]
effect = "read"
adds_labels = ["untrusted"]

[actions.kept]
summary = "Show what an earlier call kept"
run = ["sh", "-c", "cat /tmp/kept 2>/dev/null || echo nothing"]
effect = "read"

[actions.post]
summary = "Send the figures of the day to the customer service"
run = ["sh", "-c", "echo posted"]
touches = ["use service:crm"]
effect = "once"
"""
DESK: Final = """
name = "desk"
version = "1.0.0"
owner = "tests@example.com"
summary = "Vouches for what was read"
source = "command"

[always]
programs = ["true"]

[actions.review]
summary = "A person looks at what was read, and vouches for it"
run = ["true"]
touches = ["use own:mailbox"]
removes_labels = ["untrusted"]
request_words = ["vouch"]
"""
# After what anybody may have written, the starter's rules for open agents ask the owner before anything that the task does not request.
RULES: Final = """# The user may do what the agent may
p, user:operator, *, **, True, allow
g, agent:helper, role:open
g, user:owner, role:owner
"""
AGENT: Final = """
name = "helper"
summary = "Helps"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["kit", "desk"]
folder = "work/helper"
"""
READ: Final[dict[str, Any]] = {"kit__read": {"path": "data/mail.md"}}
POST: Final[dict[str, Any]] = {"kit__post": {}}


def played(folder: Path, turns: Sequence[Mapping[str, object]], *, life: str = "") -> Played:
    """Run the turns in a workspace with the starter's rules for open agents."""
    texts = {
        "remit.toml": 'users = ["user:owner"]\n\n[identity]\n"*" = "user:operator"\n',
        "tools/kit/tool.toml": KIT.format(life=life),
        "tools/desk/tool.toml": DESK,
        "policies/rules.csv": RULES,
        "agent/helper/agent.toml": AGENT,
        "agent/helper/prompt.md": "Help.\n",
        "agent/helper/script.yaml": json.dumps({"turns": [*turns, DONE]}),
        "work/helper/data/mail.md": "from anybody",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("model.conf", "open/open.csv"):
        shutil.copy(starter_folder() / "policies" / name, folder / "policies")
    pin(folder)
    opened = open_session(folder)
    model = runner.open_model_of(opened, "helper")
    task = "Read the mail, and vouch for it"
    start = runner.RunRequest(agent="helper", task=task, subject="user:operator", by=OPERATOR, model=model)
    return Played(folder=folder, opened=opened, ended=asyncio.run(runner.start_run(opened, start)))


def in_order(folder: Path, turns: Sequence[Mapping[str, object]]) -> Played:
    """As `played`: one of a few runs in which the first call of the first turn got its turn in the sandbox first."""
    for number in range(10):
        run = played(folder / f"try {number}", turns)
        if attempts(run)[0][:2] == (0, 0):
            return run
    raise AssertionError("the first call never came first")


def verdict(run: Played, step: int, index: int = 0) -> str:
    (decided,) = [
        item.event
        for item in run.records
        if isinstance(item.event, CallDecided) and (item.event.step, item.event.index) == (step, index)
    ]
    assert decided.decision is not None
    return decided.decision.verdict


def attempts(run: Played) -> list[tuple[int, int, tuple[str, ...] | None]]:
    """Step, index and given labels of each attempt."""
    begun = [item.event for item in run.records if isinstance(item.event, AttemptBegun)]
    return [(event.step, event.index, event.given) for event in begun]


def test_what_call_1_read_forbids_the_network_to_call_2_of_the_same_turn(tmp_path: Path) -> None:
    """Both were allowed before either ran; the second would have run in a sandbox that has read what anybody may have written."""
    run = in_order(tmp_path, [turn(**READ, **POST)])
    assert run.result(0, 0)["value"] == "from anybody"
    assert verdict(run, 0, 1) == "allow"
    error = run.error(0, 1)
    assert (error["code"], error["attempts"]) == ("policy_denied", 0)
    assert "with what the sandbox of its tool was given" in error["message"]
    assert attempts(run) == [(0, 0, ("untrusted",))]
    assert not replayed(run).divergences


def test_the_other_order_and_a_sandbox_for_each_call_are_allowed(tmp_path: Path) -> None:
    run = in_order(tmp_path / "order", [turn(**POST, **READ)])
    assert [run.result(0, index)["ok"] for index in (0, 1)] == [True, True]
    assert attempts(run) == [(0, 0, ()), (0, 1, ("untrusted",))]
    apart = played(tmp_path / "apart", [turn(**READ, **POST)], life='life = "call"')
    assert [apart.result(0, index)["ok"] for index in (0, 1)] == [True, True]
    assert sorted(attempts(apart)) == [(0, 0, None), (0, 1, None)]
    assert not replayed(run).divergences


def test_a_sandbox_knows_what_it_read_also_once_the_label_is_removed_from_the_run(tmp_path: Path) -> None:
    turns = [turn(**READ), turn(desk__review={}), turn(**POST)]
    run = played(tmp_path / "kept", turns)
    assert run.result(1)["ok"]
    assert verdict(run, 2) == "ask"
    apart = played(tmp_path / "apart", turns, life='life = "call"')
    assert verdict(apart, 2) == "allow"


def test_what_a_later_call_returns_has_the_labels_of_what_its_sandbox_was_given(tmp_path: Path) -> None:
    """Otherwise it could bring back, without the label, what an earlier call has read."""
    turns = [turn(**READ), turn(desk__review={}), turn(kit__kept={})]
    run = played(tmp_path / "kept", turns)
    assert run.result(2)["labels"] == ["untrusted"]
    apart = played(tmp_path / "apart", turns, life='life = "call"')
    assert apart.result(2)["labels"] == []
    assert not replayed(run).divergences


def test_after_a_crash_the_sandbox_is_a_fresh_one_and_what_was_given_stays_known(tmp_path: Path) -> None:
    turns = [
        turn(kit__break={"path": "data/mail.md"}),
        turn(kit__kept={}),
        turn(desk__review={}),
        turn(**POST),
    ]
    run = played(tmp_path, turns)
    assert run.error(0)["code"] == "tool_crashed"
    assert run.result(1)["value"] == "nothing\n"
    assert verdict(run, 3) == "ask"
    assert not replayed(run).divergences


def test_the_end_of_a_run_ends_its_live_sandboxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    end = Sandbox.end_run

    def noted(self: Sandbox, run: str) -> None:
        end(self, run)
        ended.append(run)

    monkeypatch.setattr(Sandbox, "end_run", noted)
    run = played(tmp_path, [turn(**READ)])
    assert run.ended.run in ended
    assert Sandbox.shared(("full",)).live[0] == 0
