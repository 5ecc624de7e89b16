"""The starter's `python` tool: it runs untrusted code that a model wrote, and its results are untrusted data."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remit.sandbox import Output
from remit.tools.workbench import run_tool_cases
from remit.workspace.loader import load_workspace
from remit.workspace.template import starter_folder
from support.runs import Remit
from support.sandbox import ToolHarness, sandbox

TOOL = starter_folder() / "tools" / "python"


async def run(harness: ToolHarness, code: str, *files: str, **given: Any) -> Output:
    profile = replace(harness.profile("run", reads=files, trust="none", **given), code=TOOL)
    return await sandbox(harness.tier).run(profile, {"code": code, "files": list(files)}, declared={"not_python": ""})


def test_the_cases_of_the_python_tool_hold_in_the_sandbox() -> None:
    results = asyncio.run(run_tool_cases(load_workspace(starter_folder()), "python", sandbox("full")))
    assert [(result.note, result.message) for result in results if not result.passed] == []
    assert len(results) >= 10


ATTACK = """
import os, socket, subprocess, ctypes, gc
def attempt(name, what):
    try:
        what()
    except BaseException:
        print(name, 'held')
    else:
        print(name, 'ESCAPED')
attempt('neighbour', lambda: open(ROOT + '/logs/other').read())
attempt('system', lambda: open('/etc/passwd').read())
attempt('change', lambda: open('logs/a', 'w').write('x'))
attempt('remove', lambda: os.unlink(ROOT + '/logs/a'))
attempt('connect', lambda: socket.create_connection(('127.0.0.1', 9)))
attempt('resolve', lambda: socket.getaddrinfo('example.com', 80))
attempt('unix', lambda: socket.socket(socket.AF_UNIX))
attempt('program', lambda: subprocess.run(['/bin/true']))
attempt('fork', os.fork)
attempt('library', lambda: ctypes.CDLL(None).system(b'true') and [][0])
attempt('signal', lambda: os.kill(os.getppid(), 9))
attempt('variable', lambda: os.environ['REMIT_TEST_SECRET'])
open('mine', 'w').write('scratch')
print(open('logs/a').read(), open('mine').read())
"""


async def test_code_of_a_model_reaches_scratch_and_the_decided_files_only(
    harness: ToolHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_TEST_SECRET", "sk-not-a-key")
    decided, other = harness.file("logs/a", "decided"), harness.file("logs/other", "other")
    output = await run(harness, f"ROOT = {harness.seen!r}\n{ATTACK}", "logs/a")
    assert output.code is None, output.message + output.stderr
    *lines, last = output.value["output"].splitlines()
    assert len(lines) == 12
    assert [line for line in lines if not line.endswith(" held")] == []
    assert last == "decided scratch"
    assert (decided.read_text(), other.read_text()) == ("decided", "other")
    assert not (harness.root / "mine").exists()


async def test_one_call_of_model_written_code_leaves_nothing_for_the_next(harness: ToolHarness) -> None:
    leave = (
        "import tempfile, os, sys\nopen('left', 'w').write('x')\nopen(tempfile.gettempdir() + '/left', 'w').write('x')"
    )
    assert (await run(harness, leave)).code is None
    look = "import tempfile, os\n[name for folder in ('.', tempfile.gettempdir()) for name in os.listdir(folder)]"
    assert (await run(harness, look)).value["result"] == "[]"


@pytest.mark.parametrize(
    ("code", "expected", "message"),
    [
        ("while True: pass", "resource_exhausted", "more than 1 s of processor time"),
        ("import time\ntime.sleep(60)", "timeout", "no result within 2 s"),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", "resource_exhausted", "of memory"),
        ("import os\nos._exit(3)", "tool_crashed", "status 3"),
        ("open('/etc/passwd', 'w')", "sandbox_violation", "this call does not grant"),
        ("print('\\ud800')\nclass E(Exception): __str__ = lambda s: 1 / 0\nraise E", None, ""),
        ("print('\\0' * 99999)\n_ = 1 / 0", None, ""),
        ("(" * 100_000, "tool_failed", "line 1: too many nested parentheses"),
        ("a\0b", "tool_failed", "null byte"),
    ],
)
async def test_every_ending_of_the_code_has_its_code(
    tmp_path: Path, code: str, expected: str | None, message: str
) -> None:
    wall = 2.0 if expected == "timeout" else 60.0
    limits = {"cpu": 1.0, "memory": 128 << 20, "output": 256 << 10}
    output = await run(ToolHarness(base=tmp_path, tier="full"), code, wall=wall, **limits)
    assert output.code == expected, output
    assert message in output.message
    if expected is None:
        assert output.value["error"]


def test_what_model_written_code_returns_is_labelled_as_untrusted(remit: Remit) -> None:
    output = remit("call", "python.run", '{"code": "21 * 2"}', "--agent", "triage", "--json").json
    assert (output["ok"], output["value"]["result"], output["labels"]) == (True, "42", ["untrusted"]), output
