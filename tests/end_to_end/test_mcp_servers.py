"""A tool that is an MCP server runs confined: it has the files of the call, and a run that is replayed does not start it."""

from __future__ import annotations

from pathlib import Path

from support.lifecycle import replayed
from support.runs import turn
from support.workspaces.mcp import played, told


def test_a_server_answers_the_calls_of_a_run_and_a_replay_does_not_start_it(tmp_path: Path) -> None:
    turns = [turn(kit__echo={"text": "hello"}), turn(kit__count={}), turn(kit__count={})]
    run = played(tmp_path, turns)
    assert told(run, 0) == "hello"
    assert run.result(0)["labels"] == ["untrusted"]
    assert [run.result(step)["value"]["structured"] for step in (1, 2)] == [{"calls": 1}, {"calls": 2}]
    (tmp_path / "tools/kit/server.py").unlink()
    assert not replayed(run).divergences


def test_a_server_has_the_decided_file_for_as_long_as_the_call_runs(tmp_path: Path) -> None:
    turns = [
        turn(kit__read_file={"path": "data/a.md"}),
        turn(kit__do={"text": "open /work/files/data/a.md"}),
        turn(kit__do={"text": "folder /work"}),
        turn(kit__write_file={"path": "out/x.md", "text": "new"}),
        turn(kit__read_file={"path": "data/missing.md"}),
    ]
    run = played(tmp_path, turns)
    assert told(run, 0) == "decided"
    assert told(run, 1).startswith("FileNotFoundError")
    assert told(run, 2) == "[]"
    assert run.result(3)["ok"], run.result(3)
    assert (tmp_path / "work/helper/out/x.md").read_text() == "new"
    assert run.error(4)["code"] == "tool_failed"
