"""The public Python API is the one that is written down, and code that uses it keeps working."""

from __future__ import annotations

import importlib.util
import os
import subprocess

import pytest

from support import ROOT

if importlib.util.find_spec("griffe") is None:
    if os.environ.get("CI"):
        raise ImportError("no griffe: run make docs")
    pytest.skip("no griffe: run make docs, and run the test again", allow_module_level=True)

from generator.api import SIGNATURES, breakages, public_api

AGAIN = "PYTHONPATH=docs .venv/bin/python -m generator.api"


def released() -> str | None:
    """The signatures of the last release; None before the first."""
    tag = subprocess.run(
        ["git", "describe", "--tags", "--match", "v*", "--abbrev=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    name = f"{tag.stdout.strip()}:{SIGNATURES.relative_to(ROOT).as_posix()}"
    shown = subprocess.run(["git", "show", name], cwd=ROOT, capture_output=True, text=True, check=False)
    return shown.stdout if tag.returncode == 0 and shown.returncode == 0 else None


def test_the_signatures_that_are_written_down_are_those_of_the_code_and_none_breaks() -> None:
    now = public_api()
    written = SIGNATURES.read_text("utf-8")
    assert breakages(written, now) == []
    assert written == now, f"the public API has changed without breaking: {AGAIN}"


def test_nothing_of_the_last_release_is_broken() -> None:
    before = released()
    if before is None:
        pytest.skip("there is no release yet")
    assert breakages(before, public_api()) == []


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ("def run(agent: str) -> int: ...\n", "def walk(agent: str) -> int: ...\n", "Public object was removed"),
        ("def run(agent: str): ...\n", "def run(agent: str, task: str): ...\n", "Parameter was added as required"),
        ("def run(agent: str, task: str = ''): ...\n", "def run(agent: str): ...\n", "Parameter was removed"),
        ("def run(agent: str = ''): ...\n", "def run(agent: str): ...\n", "Parameter is now required"),
        ("class A:\n    x: int\n", "class A:\n    y: int\n", "Public object was removed"),
    ],
)
def test_a_change_that_breaks_callers_is_found(before: str, now: str, found: str) -> None:
    (one,) = breakages(f"# module remit\n{before}", f"# module remit\n{now}")
    assert one.endswith(found)


def test_a_module_that_is_gone_is_found_and_an_addition_is_not() -> None:
    assert breakages("# module remit.testing\nx: int\n", "# module remit\nx: int\n") == [
        "remit.testing: the module was removed"
    ]
    assert breakages("# module remit\nx: int\n", "# module remit\nx: int\ny: int\n") == []
