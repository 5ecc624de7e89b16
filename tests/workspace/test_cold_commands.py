"""What a command imports when it starts: each import makes everybody wait who types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

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
REST: Final = {"cryptography", "opentelemetry", "rich"}
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
        (EXPLAIN, GRAPH | REST | {"casbin", "sqlalchemy"}, 450),
        (("approve", "list"), GRAPH | REST | {"casbin"}, 800),
        (("trace", "list"), GRAPH | REST | {"casbin"}, 700),
        (CALL, GRAPH | REST, 1000),
    ],
    ids=["policy explain", "approve list", "trace list", "call"],
)
def test_a_command_imports_only_what_it_needs(
    session: Path, words: tuple[str, ...], without: set[str], most: int
) -> None:
    """A single call needs no graph, a list no rules of stock Casbin, and the explanation of a rule no database."""
    modules = loaded_by(session, *words)
    assert without & {name.partition(".")[0] for name in modules} == set()
    assert len(modules) <= most


def test_a_person_who_reads_a_trace_does_not_load_what_plays_it_again(session: Path) -> None:
    loaded_by(session, *CALL)
    (trace,) = (session / "traces").glob("*.jsonl")
    modules = loaded_by(session, "trace", "show", trace.stem)
    assert (GRAPH | REST | {"casbin"}) & {name.partition(".")[0] for name in modules} == set()
    assert "remit.replay.replayer" not in modules
    assert len(modules) <= 700
