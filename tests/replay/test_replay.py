"""Replay: each kind of divergence is named and shown, live reads execute only reads, and git bisect finds the commit."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from remit.core.calls import Failed
from remit.core.events import (
    AnyEvent,
    ApprovalRequested,
    CallAnswered,
    ModelRequested,
    ModelResponded,
    Recorded,
    RunFinished,
    RunStarted,
)
from remit.journal import open_journal
from remit.journal.hash_chain import link
from remit.policy import engine as policy
from remit.replay.divergence import Divergence, DivergenceKind
from remit.replay.recorded import WhatIf
from remit.replay.replayer import replay
from remit.tracing import open_trace, write_portable
from remit.workspace import loader as workspace
from remit.workspace.bundle import open_bundle, vocabulary
from remit.workspace.session import policy_files
from remit.workspace.template import starter_folder
from support.runs import DONE, Command, Play, Played, turn
from support.workspaces.ledger import TOOL, pin

APPROVALS = [{"action": "ledger.pay", "approver": "user:lea", "role": "role:lead"}]
TURNS = [
    turn(ledger__look={"name": "ann", "text": "one\ntwo"}),
    turn(ledger__pay={"name": "ben", "amount": 500}),
    DONE,
]


@pytest.fixture
def whole(play: Play) -> Played:
    """A run with a read, an approved payment and an answer."""
    return play(TURNS, approvals=APPROVALS)


def again(played: Played, events: Sequence[AnyEvent] | None = None, what_if: WhatIf | None = None) -> Divergence | None:
    """The first divergence of the run, or of a run sealed again from other events."""
    trace = open_trace(played.opened.traces, played.opened.journal, played.ended.run)
    books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    records: Sequence[Recorded] = trace.records
    if events is not None:
        made: list[Recorded] = []
        for seq, event in enumerate(events):
            prev, salt = made[-1].hash if made else "", f"{seq:032x}"
            made.append(link(trace.run, seq, trace.records[0].at + seq, prev, event, salt).of(event))
        records = made
    found = asyncio.run(replay(records, books, what_if=what_if or WhatIf()))
    return found.divergences[0] if found.divergences else None


def edited(played: Played, change: Callable[[AnyEvent], AnyEvent | None]) -> list[AnyEvent]:
    """The run's events, with some changed or removed."""
    events = [item.event for item in played.records]
    return [now for event in events if event is not None and (now := change(event)) is not None]


def changed(kind: type[AnyEvent], **update: Any) -> Callable[[AnyEvent], AnyEvent | None]:
    return lambda event: event.model_copy(update=update) if isinstance(event, kind) else event


def with_tool(played: Played, old: str, new: str) -> WhatIf:
    """The tools of another version."""
    manifest = played.folder / "tools" / "ledger" / "tool.toml"
    assert old in TOOL
    manifest.write_text(TOOL.replace(old, new))
    pin(played.folder)
    return WhatIf(tools=workspace.load_workspace(played.folder))


def sides(found: Divergence | None) -> tuple[list[str], list[str]]:
    """What was removed and what was added, without the heads of the diff."""
    assert found is not None
    lines = [line for line in found.diff if not line.startswith(("---", "+++", "@@"))]
    return [line[1:].strip() for line in lines if line[0] == "-"], [
        line[1:].strip() for line in lines if line[0] == "+"
    ]


def test_an_unchanged_run_is_reproduced_also_if_it_was_sealed_again(whole: Played) -> None:
    assert again(whole) is None
    assert again(whole, edited(whole, lambda event: event)) is None


def test_another_decision_is_a_divergence_that_names_its_rule(whole: Played) -> None:
    rules = dict(policy_files(whole.folder))
    rules["policies/rules.csv"] += b"\n# Ben moved away\np, agent:clerk, ledger.pay, account:ben, True, deny\n"
    other = policy.load_policy(rules, vocabulary(whole.opened.workspace))
    found = again(whole, what_if=WhatIf(policy=other))
    assert found is not None
    assert (found.kind, found.step, found.index) == ("decision", 1, 0)
    assert "(Ben moved away)" in found.what
    assert '"verdict": "ask"' in sides(found)[0]
    assert '"verdict": "deny"' in sides(found)[1]


def test_a_different_input_of_the_model_is_shown_as_a_diff_of_what_it_reads(whole: Played) -> None:
    """A diff of two digests would not help a person."""
    changes = changed(RunStarted, prompt="Keep quiet.\n")
    found = again(whole, [*edited(whole, changes)][:1] + edited(whole, lambda event: event)[1:])
    assert found is not None
    assert (found.kind, found.step) == ("model_input", 0)
    events = edited(whole, lambda event: event)
    at = next(at for at, event in enumerate(events) if isinstance(event, ModelRequested) and event.step == 1)
    events[at] = events[at].model_copy(update={"input_digest": "sha256:0"})
    assert again(whole, events) is not None
    assert again(whole, events).kind == "model_input"  # type: ignore[union-attr]


def test_another_call_from_the_same_model_text_is_a_request_divergence(whole: Played) -> None:
    """The new version of the tool touches another resource."""
    touched = 'it cannot be undone"\ntouches = ["use account:{name}"]'
    found = again(whole, what_if=with_tool(whole, touched, touched.replace("account:{name}", "vault:{name}")))
    assert found is not None
    assert (found.kind, found.step, found.index) == ("request", 1, 0)
    assert '"resource": "account:ben"' in sides(found)[0]
    assert '"resource": "vault:ben"' in sides(found)[1]


def test_a_result_that_does_not_fit_the_schema_of_another_version_is_a_result_divergence(whole: Played) -> None:
    (whole.folder / "hosted" / "ledger_host.py").write_text(
        (whole.folder / "hosted" / "ledger_host.py").read_text().replace("-> dict[str, str]", "-> list[str]")
    )
    sys.modules.pop("ledger_host", None)
    found = again(whole, what_if=with_tool(whole, "Read an account", "Read an account"))
    assert found is not None
    assert (found.kind, found.step, found.index) == ("result", 0, 0)
    assert found.what.startswith(
        "attempt 1: was ok; now invalid_output: the result of the tool does not match its schema"
    )
    assert '"code": "invalid_output",' in sides(found)[1]


def test_labels_that_another_version_adds_are_a_result_divergence(whole: Played) -> None:
    found = again(whole, what_if=with_tool(whole, 'adds_labels = ["seen"]', 'adds_labels = ["seen", "secret"]'))
    assert found is not None
    assert (found.kind, found.step) == ("result", 0)
    assert '"secret"' in sides(found)[1]


def test_a_changed_tool_specification_is_a_model_input_divergence(whole: Played) -> None:
    found = again(whole, what_if=with_tool(whole, "Read an account", "Look an account up"))
    assert found is not None
    assert (found.kind, found.what) == (
        "model_input",
        "the specification of ledger.look that the model reads is different now",
    )
    assert sides(found)[1] == ['"description": "Look an account up. Read an account.",']


def test_a_removed_action_is_a_model_input_divergence(whole: Played) -> None:
    found = again(
        whole,
        what_if=with_tool(whole, TOOL[TOOL.index("[actions.look]") : TOOL.index("[actions.pay]")], "\n"),
    )
    assert found is not None
    assert (found.kind, found.what) == (
        "model_input",
        "the specification of ledger.look that the model reads is different now",
    )


def test_each_other_difference_has_its_own_kind_and_diff(whole: Played) -> None:
    """An attacker who can seal a record again can change anything in it; each change is found where it first has an effect."""
    other = Failed.model_validate({"error": {"code": "timeout", "message": "late"}})
    same = edited(whole, lambda event: event)
    first = [at for at, event in enumerate(same) if event.type.startswith("attempt.") and event.step == 0]
    without_attempt = [event for at, event in enumerate(same) if at not in first]
    without_end = [event for at, event in enumerate(same) if at != first[1]]
    more = [*same[:-1], ModelRequested(step=9, model="m", input_digest="i"), same[-1]]
    cases: list[tuple[str, list[AnyEvent], str, str]] = [
        ("approval", edited(whole, changed(ApprovalRequested, summary="something else")), "something", "ledger.pay"),
        ("result", edited(whole, changed(CallAnswered, result=other)), "late", '"ok": true'),
        ("outcome", edited(whole, changed(RunFinished, answer="all is well")), "all is well", '"answer": "done"'),
        ("model_input", edited(whole, changed(ModelResponded, text="hello")), "input_digest", "input_digest"),
        ("extra", without_attempt, "", '"type": "attempt.begun"'),
        ("missing", without_end, "", ""),
        ("missing", more, '"input_digest": "i"', ""),
    ]
    for kind, events, recorded, replayed in cases:
        found = again(whole, events)
        assert found is not None, kind
        assert found.kind == kind, (kind, found)
        removed, added = sides(found)
        assert any(recorded in line for line in [*removed, ""]), (kind, found.diff)
        assert any(replayed in line for line in [*added, ""]), (kind, found.diff)


def test_a_changed_file_is_tampered_and_shown_beside_the_journal(whole: Played, command: Command) -> None:
    file = whole.folder / "traces" / f"{whole.ended.run}.jsonl"
    file.write_text(file.read_text().replace("paid", "lent"))
    done = command(whole.folder, "replay", str(file), "--json")
    found = done.json["divergences"][0]
    assert (done.code, found["kind"]) == (1, "tampered")
    assert [line.strip() for line in found["diff"] if line[0] in "+-"] == [
        "--- journal",
        "+++ file",
        '-  "value": "paid"',
        '+  "value": "lent"',
    ]


def test_every_class_of_divergence_has_a_test_here() -> None:
    text = Path(__file__).read_text()
    assert [kind for kind in get_args(DivergenceKind) if f'"{kind}"' not in text] == []


# -- live reads, in a real sandbox ----------------------------------------------------------------------------------------

SCRIPT = {
    "turns": [
        {
            "say": "read",
            "calls": [{"files__read": {"path": "runbooks/a.md"}}, {"files__read": {"path": "secrets/payments.env"}}],
        },
        {"say": "write", "calls": [{"files__write": {"path": "reports/r.md", "text": "one"}}]},
        {"say": "done"},
    ]
}


@pytest.fixture
def read_once(session: Path, command: Command) -> tuple[Path, str]:
    """A run of the starter that read one file, was refused another, and wrote a third."""
    (session / "agent/triage/incident/runbooks/a.md").write_text("as it was\n")
    (session / "agent/triage/script.yaml").write_text(json.dumps(SCRIPT))
    run = "00000000000000000000000000000fee"
    done = command(session, "run", "triage", "look", "--run-id", run)
    assert done.code == 0, done.out + done.err
    return session, run


def test_live_reads_repeat_the_reads_and_nothing_else(read_once: tuple[Path, str], command: Command) -> None:
    session, run = read_once
    work = session / "work" / "triage" / run
    (work / "reports" / "r.md").unlink()
    done = command(session, "replay", run, "--live-reads", "--json")
    assert (done.code, done.json["ok"]) == (0, True)
    assert done.json["live_reads"]["read"] == 1
    assert done.json["live_reads"]["kept"] == {"from the record: the call has an effect": 1}
    assert not (work / "reports" / "r.md").exists()
    journal = open_journal(session / "traces" / "journal.db")
    events = [item.event for item in journal.events(done.json["live_reads"]["run"])]
    assert [event.type for event in events if event is not None and event.type == "attempt.begun"] == ["attempt.begun"]

    (work / "runbooks" / "a.md").write_text("as it is now\n")
    done = command(session, "replay", run, "--live-reads")
    assert done.code == 1
    assert "diverged at step 0.0, result: files.read file:runbooks/a.md returns a different result now" in done.out
    assert '-    "text": "as it was' in done.out
    assert '+    "text": "as it is now' in done.out


def test_live_reads_are_decided_by_todays_rules_and_pins(read_once: tuple[Path, str], command: Command) -> None:
    """A record can come from anyone; it gives no access that today's rules and pins do not give."""
    session, run = read_once
    rules = session / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "\n# Closed\np, agent:triage, files.read, file:runbooks/**, True, deny\n")
    done = command(session, "replay", run, "--live-reads", "--json")
    assert done.json["live_reads"]["read"] == 0
    assert "from the record: refused by today's rules (policy_denied)" in done.json["live_reads"]["kept"]

    main = session / "tools" / "files" / "main.py"
    main.write_text(main.read_text().replace('"""Text files of', '"""The text files of'))
    done = command(session, "replay", run, "--live-reads", "--json")
    assert done.json["live_reads"] == {
        "run": "",
        "read": 0,
        "kept": {
            "from the record: this workspace has no pinned version of the tool": 1,
            "from the record: the call has an effect": 1,
        },
    }


def test_another_version_of_a_tool_runs_only_if_the_user_asks_for_it(
    read_once: tuple[Path, str], command: Command
) -> None:
    session, run = read_once
    main = session / "tools" / "files" / "main.py"
    main.write_text(main.read_text().replace('"".join(page)', '"fixed " + "".join(page)'))
    assert "fixed " in main.read_text()
    assert command(session, "tool", "pin", "files").code == 0
    kept = command(session, "replay", run, "--live-reads", "--json").json["live_reads"]["kept"]
    assert any("another version" in why for why in kept)
    done = command(session, "replay", run, "--tools", ".", "--live-reads")
    assert "result: files.read file:runbooks/a.md returns a different result now" in done.out
    assert '+    "text": "fixed as it was' in done.out
    assert command(session, "replay", run, "--tools", "/", "--live-reads").code == 2


def test_a_failure_that_is_fixed_outside_the_rules_is_fixed_with_live_reads(session: Path, command: Command) -> None:
    (session / "agent/triage/script.yaml").write_text(json.dumps({"turns": [SCRIPT["turns"][0], {"say": "done"}]}))
    run = "00000000000000000000000000000fee"
    assert command(session, "run", "triage", "look", "--run-id", run).code == 0
    ask = ["replay", run, "--live-reads", "--fixed", "code=tool_failed:files.read"]
    assert command(session, *ask).out.startswith(
        "not fixed: the failure code=tool_failed:files.read still occurs at step 0.0"
    )
    (session / "work" / "triage" / run / "runbooks" / "a.md").write_text("here it is\n")
    done = command(session, *ask)
    assert (done.code, done.out) == (0, "fixed: the failure code=tool_failed:files.read no longer occurs\n")


def test_host_tools_are_never_run_by_a_replay(whole: Played, command: Command) -> None:
    done = command(whole.folder, "replay", whole.ended.run, "--live-reads", "--json")
    assert done.json["live_reads"]["run"] == ""
    assert done.json["live_reads"]["kept"]["from the record: the tool runs unconfined"] == 1
    assert len(whole.effects) == 1


# -- bisect ---------------------------------------------------------------------------------------------------------------


def test_git_bisect_finds_the_commit_that_changed_a_decision(
    clerk: Callable[..., Path], play: Play, tmp_path: Path
) -> None:
    """Runs the command of traces/README.md as it is written there."""
    recipe = next(
        line.removeprefix("$ ").split("  #")[0]
        for line in (starter_folder() / "traces" / "README.md").read_text().splitlines()
        if line.startswith("$ git bisect")
    )
    played = play(TURNS, approvals=APPROVALS)
    folder, git = (
        played.folder,
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(played.folder)],
    )
    exported = open_trace(played.opened.traces, played.opened.journal, played.ended.run)
    write_portable(exported, folder / "incident.jsonl")
    (folder / ".gitignore").write_text("traces/\nwork/\nincident.jsonl\nledger*\n")
    subprocess.run([*git, "init", "-q"], check=True)
    rules = folder / "policies" / "rules.csv"
    edits = ["# a comment\n", "# Ben moved away\np, agent:clerk, ledger.pay, account:ben, True, deny\n", "# another\n"]
    for number, edit in enumerate(["", *edits]):
        rules.write_text(rules.read_text() + edit)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", f"change {number}"], check=True)
    subprocess.run([*git, "tag", "GOOD", "HEAD~3"], check=True)
    bin = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-ec", recipe],
        cwd=folder,
        env={**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is the first bad commit" in done.stdout
    assert "    change 2" in done.stdout
