"""A read is answered from the record of its run while what it reads is unchanged, and never when that has changed."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core import Message, ModelTurn, ToolSpec, WorkspaceError
from remit.core.events import AttemptBegun, AttemptEnded, CallDecided, Recorded
from remit.runtime import runner as run
from remit.runtime.models import ScriptedModel
from remit.tracing.reports import build_timeline
from remit.workspace import load_workspace
from remit.workspace.session import open_session
from support.lifecycle import killed, replayed, resumed_after_kill
from support.postgres import journal_setting
from support.principals import OPERATOR
from support.runs import DONE, Played, turn
from support.workspaces.files import write_workspace
from support.workspaces.ledger import pin

TOOL: Final = """
name = "notes"
version = "1.0.0"
owner = "tests@example.com"
summary = "Reads and writes notes"
source = "python"

[at_most]
read = ["notes/**"]
write = ["notes/**"]

[actions.look]
summary = "Read one note"
touches = ["read file:{path}"]
effect = "read"
cache = true
adds_labels = ["untrusted"]
errors = ["not_found"]

[actions.search]
summary = "Read all notes below a folder"
touches = ["read file:{folder}/**"]
effect = "read"
cache = true

[actions.write]
summary = "Write one note"
touches = ["write file:{path}"]
effect = "idempotent"
"""
# `nonce` differs each time that the function runs.
CODE: Final = '''
import os
from pathlib import Path

class NotFound(Exception): pass

def look(path: str, why: str = "") -> dict[str, str]:
    """Read one note."""
    if not Path(path).exists():
        raise NotFound("there is no such note")
    return {"text": Path(path).read_text(), "nonce": os.urandom(8).hex()}

def search(folder: str) -> dict[str, str]:
    """Read all notes."""
    found = {str(path): path.read_text() for path in sorted(Path(folder).rglob("*")) if path.is_file()}
    return {"text": repr(found), "nonce": os.urandom(8).hex()}

def write(path: str, text: str) -> str:
    """Write one note."""
    Path(path).write_text(text)
    return path
'''
AGENT: Final = """
name = "clerk"
summary = "Keeps notes"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["notes"]
folder = "work/clerk"

[budget]
steps = 200
calls = 400
"""
Look: Final = {"path": "notes/a.txt"}


class Watched(ScriptedModel):
    """A script that says before which step it is."""

    def __init__(self, turns: Sequence[Mapping[str, Any]], before: Callable[[int], None]) -> None:
        super().__init__(turns)
        self._before = before

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        self._before(step)
        return await super().think(step, messages, tools)


@dataclass(frozen=True, kw_only=True)
class Notes:
    """The workspace, before its run."""

    folder: Path

    @property
    def notes(self) -> Path:
        return self.folder / "work/clerk/notes"

    def play(
        self,
        *turns: Mapping[str, Any],
        before: Callable[[int], None] = lambda _: None,
        on_event: Callable[[Recorded], None] = lambda _: None,
    ) -> Played:
        """Run a script of these turns. `before` is called before each step, `on_event` when an event is recorded."""
        opened = open_session(self.folder)
        model = Watched([*turns, DONE], before)
        start = run.RunRequest(agent="clerk", task="keep notes", subject="user:operator", by=OPERATOR, model=model)
        return Played(
            folder=self.folder, opened=opened, ended=asyncio.run(run.start_run(opened, start, on_event=on_event))
        )

    def script(self, *turns: Mapping[str, Any]) -> None:
        (self.folder / "agent/clerk/script.yaml").write_text(json.dumps({"turns": [*turns, DONE]}))


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pinned")
    files = {
        "remit.toml": journal_setting() + '[identity]\n"*" = "user:operator"\n',
        "tools/notes/tool.toml": TOOL,
        "tools/notes/main.py": CODE,
        "policies/rules.csv": "p, agent:clerk, notes.*, file:notes/**, True, allow\n"
        "p, role:people, notes.*, file:notes/**, True, allow\ng, user:operator, role:people\n",
        "agent/clerk/agent.toml": AGENT,
        "agent/clerk/prompt.md": "Keep notes.\n",
        "agent/clerk/script.yaml": json.dumps({"turns": [DONE]}),
        "work/clerk/notes/a.txt": "one",
        "work/clerk/notes/deep/b.txt": "two",
    }
    write_workspace(folder, files)
    pin(folder)
    return folder


@pytest.fixture
def notes(pinned: Path, tmp_path: Path) -> Notes:
    return Notes(folder=Path(shutil.copytree(pinned, tmp_path / "notes")))


def look(path: str = "notes/a.txt", **more: Any) -> dict[str, Any]:
    return turn(notes__look={"path": path, **more})


def search(folder: str = "notes") -> dict[str, Any]:
    return turn(notes__search={"folder": folder})


def write(text: str, path: str = "notes/a.txt") -> dict[str, Any]:
    return turn(notes__write={"path": path, "text": text})


def cached(played: Played) -> list[str]:
    """Of each attempt, the call whose result it has; "" if the tool ran."""
    return [item.event.cached for item in played.records if isinstance(item.event, AttemptBegun)]


def values(played: Played) -> list[Any]:
    return [item.event.value for item in played.records if isinstance(item.event, AttemptEnded)]


def test_the_same_read_of_the_same_files_runs_once_and_both_calls_are_decided_and_recorded(notes: Notes) -> None:
    played = notes.play(look(), search(), look(), search())
    assert cached(played) == ["", "", "0.0", "1.0"]
    one, two, again, same = values(played)
    assert (one, two) == (again, same)
    assert played.result(2) == played.result(0)
    assert played.result(2)["labels"] == ["untrusted"]
    assert sum(isinstance(item.event, CallDecided) for item in played.records) == 4
    assert build_timeline(played.records).calls[2].attempts[0].cached == "0.0"


def test_a_run_with_cached_reads_reproduces(notes: Notes) -> None:
    played = notes.play(look(), look(), write("new"), look(), look())
    assert replayed(played).reproduced


def test_a_read_after_a_write_of_the_run_runs_again(notes: Notes) -> None:
    played = notes.play(look(), search(), write("changed"), look(), search(), look())
    assert cached(played) == ["", "", "", "", "", "3.0"]
    assert [value["text"] for value in (values(played)[0], values(played)[3])] == ["one", "changed"]


def test_a_file_of_the_set_that_is_added_or_removed_makes_the_read_run_again(notes: Notes) -> None:
    def before(step: int) -> None:
        if step == 1:
            (notes.notes / "deep/c.txt").write_text("three")
        if step == 2:
            (notes.notes / "a.txt").unlink()

    played = notes.play(search(), search(), search(), search(), before=before)
    assert cached(played) == ["", "", "", "2.0"]


def test_calls_of_one_step_run_both(notes: Notes) -> None:
    """They run at the same time, so neither has a result that the other could have."""
    both = {"say": "", "calls": [{"notes__look": dict(Look)}, {"notes__look": dict(Look)}]}
    played = notes.play(both, look())
    assert cached(played)[:2] == ["", ""]
    assert cached(played)[2] in ("0.0", "0.1")
    assert replayed(played).reproduced


def test_a_failed_read_is_not_cached(notes: Notes) -> None:
    played = notes.play(look("notes/none.txt"), look("notes/none.txt"))
    assert cached(played) == ["", ""]


def test_a_file_that_changes_while_it_is_read_is_read_again(notes: Notes) -> None:
    """It changes after its digest was taken and before the tool runs, and is then as it was before."""

    def on_event(item: Recorded) -> None:
        if item.key == "attempt.begun/0/0/1":
            (notes.notes / "a.txt").write_text("changed")
        if item.key == "call.answered/0/0/-":
            (notes.notes / "a.txt").write_text("one")

    played = notes.play(look(), look(), on_event=on_event)
    assert cached(played) == ["", ""]
    assert [value["text"] for value in values(played)] == ["changed", "one"]


def test_reads_with_different_secrets_are_different_reads(notes: Notes) -> None:
    """The record has the same redacted words for both."""
    secrets = ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLF")
    played = notes.play(*(look(why=f"the key is {secret}") for secret in secrets))
    assert cached(played) == ["", ""]


def test_another_process_that_resumes_the_run_finds_the_earlier_read(notes: Notes) -> None:
    notes.script(look(), look())
    killed(notes.folder, "attempt.ended/0/0/1").journal.close()
    assert cached(resumed_after_kill(notes.folder)) == ["", "0.0"]


@pytest.mark.parametrize("seed", range(3))
def test_a_cached_result_is_always_what_a_fresh_read_would_be(notes: Notes, seed: int) -> None:
    """Reads and writes of the run, and changes from outside, in a random order."""
    chance = random.Random(seed)
    turns: list[dict[str, Any]] = []
    for _ in range(40):
        path = chance.choice(["notes/a.txt", "notes/deep/b.txt"])
        turns.append(
            chance.choice([look(path), look(path), search(), search("notes/deep"), write(chance.choice("xy"), path)])
        )
    outside = {step: chance.choice("xyz") for step in range(40) if chance.random() < 0.2}
    now: dict[int, tuple[str, str]] = {}

    def before(step: int) -> None:
        if step in outside:
            (notes.notes / "a.txt").write_text(outside[step])
        now[step] = ((notes.notes / "a.txt").read_text(), (notes.notes / "deep/b.txt").read_text())

    played = notes.play(*turns, before=before)
    assert played.ended.outcome == "completed"
    assert sum(bool(place) for place in cached(played)) > 3
    for step, (call, (first, second)) in enumerate(zip(turns, (now[step] for step in range(40)), strict=True)):
        if "notes__look" in json.dumps(call):
            assert played.result(step)["value"]["text"] == (first if "a.txt" in json.dumps(call) else second), step
        elif '"notes__search": {"folder": "notes"}' in json.dumps(call):
            assert played.result(step)["value"]["text"] == repr({"notes/a.txt": first, "notes/deep/b.txt": second}), (
                step
            )
    assert replayed(played).reproduced


NOT_CACHED: Final = {
    "an effect": ('effect = "read"\ncache', 'effect = "idempotent"\ncache', "effect = 'idempotent'"),
    "a host": ('source = "python"', 'source = "python"\n[always]\nhosts = ["a.example:443"]', "'always.hosts'"),
    "a variable": ('source = "python"', 'source = "python"\n[always]\nenv = ["HOME"]', "'always.env'"),
    "URLs": ("[at_most]", '[at_most]\nhosts = ["a.example:443"]', "'at_most.hosts'"),
    "a process without confinement": ('source = "python"', 'source = "host"\nhost = "a:B"', "source = 'host'"),
}


@pytest.mark.parametrize(("text", "instead", "why"), NOT_CACHED.values(), ids=NOT_CACHED)
def test_what_reads_more_than_its_files_cannot_be_cached(notes: Notes, text: str, instead: str, why: str) -> None:
    path = notes.folder / "tools/notes/tool.toml"
    path.write_text(path.read_text().replace(text, instead, 1))
    with pytest.raises(WorkspaceError) as refused:
        load_workspace(notes.folder)
    found = [problem for problem in refused.value.problems if "'cache'" in problem.what]
    assert found
    assert (found[0].file, found[0].what) == ("tools/notes/tool.toml", f"'cache' on an action with {why}")
    assert path.read_text().splitlines()[(found[0].line or 0) - 1] == "cache = true"
