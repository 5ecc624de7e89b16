"""What a command imports when it starts: each import makes everybody wait who types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from remit.runtime import open_model_of
from remit.workspace import open_session
from support.journal_history import history_workspace, play

COMMAND: Final = """
import json, runpy, sys
there = set(sys.modules)  # what a distribution loads into every interpreter
sys.argv = ["remit", *sys.argv[1:]]
code = 0
try:
    runpy.run_module("remit", run_name="__main__")
except SystemExit as ended:
    code = ended.code
print(json.dumps([code, sorted(set(sys.modules) - there)]), file=sys.stderr)
"""
GRAPH: Final = {"langgraph", "langchain_core", "langsmith"}
REST: Final = {"cryptography", "opentelemetry", "rich", "sqlmodel"}
CALL: Final = ("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage")
EXPLAIN: Final = (
    "policy",
    "explain",
    "files.read",
    "file:runbooks/payments-pool.md",
    "--agent",
    "triage",
    "--user",
    "user:operator",
)


def loaded_by(folder: Path, *words: str) -> list[str]:
    """The names of the modules that the command imported, in a process of its own."""
    command = [sys.executable, "-c", COMMAND, *words]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=True
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code in (0, None), done.stderr
    return list(modules)


@pytest.mark.parametrize(
    ("words", "without", "most"),
    [
        (EXPLAIN, GRAPH | REST | {"casbin", "sqlalchemy"}, 340),
        (("approve", "list"), GRAPH | REST | {"casbin", "ruamel"}, 530),
        (("trace", "list"), GRAPH | REST | {"casbin", "ruamel"}, 515),
        (CALL, GRAPH | REST | {"remit.cli.policy", "remit.cli.tool"}, 985),
    ],
    ids=["policy explain", "approve list", "trace list", "call"],
)
def test_a_command_imports_only_what_it_needs(
    session: Path, words: tuple[str, ...], without: set[str], most: int
) -> None:
    """A single call needs no graph, a list no rules of stock Casbin, and the explanation of a rule no database."""
    open_session(session).journal.close()  # to create one takes SQLModel
    modules = loaded_by(session, *words)
    assert without & {*modules, *(name.partition(".")[0] for name in modules)} == set()
    assert {"sqlalchemy.orm", "sqlalchemy.dialects.postgresql"} & set(modules) == set()
    # requests loads chardet where something else has installed it.
    assert sum(not name.startswith(("chardet", "_codecs_")) for name in modules) <= most


def test_a_list_of_waiting_requests_loads_neither_sandbox_nor_models(tmp_path: Path) -> None:
    """Whether a waiting run can go on is looked up without what would drive it."""
    folder = history_workspace(tmp_path / "ledger")
    opened = open_session(folder)
    assert play(opened, open_model_of(opened, "clerk")).waiting
    modules = loaded_by(folder, "approve", "list")
    assert (GRAPH | REST | {"casbin", "ruamel"}) & {name.partition(".")[0] for name in modules} == set()
    assert {"remit.sandbox.sandbox", "remit.runtime.models.selection", "sqlalchemy.orm"} & set(modules) == set()
    assert len(modules) <= 640


def test_python_does_not_look_for_garbage_when_a_command_has_ended(session: Path) -> None:
    """That takes a sixth of a short command. The count is read after everything that the command registered for its end."""
    at_exit = "import atexit, gc; atexit.register(lambda: print('frozen', gc.get_freeze_count()))"
    command = [sys.executable, "-c", f"{at_exit}\nfrom remit.cli import main\nmain()", "approve", "list"]
    done = subprocess.run(command, cwd=session, capture_output=True, text=True, check=True)
    word, _, count = done.stdout.splitlines()[-1].partition(" ")
    assert word == "frozen"
    assert int(count) > 10_000


def test_a_plugin_of_pydantic_is_not_part_of_a_command(session: Path, tmp_path: Path) -> None:
    """It could change what a model accepts, and to look for one takes as long as reading the rules."""
    (tmp_path / "seen.py").write_text("import sys\nprint('a plugin was loaded', file=sys.stderr)\nplugin = object()\n")
    about = tmp_path / "seen-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: seen\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pydantic]\nseen = seen:plugin\n")
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    environment = {name: value for name, value in os.environ.items() if name != "PYDANTIC_DISABLE_PLUGINS"}
    own = [sys.executable, "-m", "remit", *EXPLAIN]
    other = [sys.executable, "-c", "import pydantic; type('M', (pydantic.BaseModel,), {'__module__': 'm'})"]
    errors = [
        subprocess.run(
            command, cwd=session, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True
        ).stderr
        for command in (own, other)
    ]
    assert ["a plugin was loaded" in text for text in errors] == [False, True]


def test_a_person_who_reads_a_trace_does_not_load_what_plays_it_again(session: Path) -> None:
    loaded_by(session, *CALL)
    (trace,) = (session / "traces").glob("*.jsonl")
    modules = loaded_by(session, "trace", "show", trace.stem)
    assert (GRAPH | REST | {"casbin"}) & {name.partition(".")[0] for name in modules} == set()
    assert "remit.replay.replayer" not in modules
    assert "sqlalchemy.orm" not in modules
    assert len(modules) <= 548
