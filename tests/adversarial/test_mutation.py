"""A small check of `make ablate`: every mutation still matches the code, and one is played for real."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from adversarial.mutation import box, play, take_away
from adversarial.mutations import MUTATIONS, Mutation
from support import ROOT, TESTS


@pytest.mark.parametrize("row", MUTATIONS, ids=lambda row: row.name)
def test_every_mutation_matches_the_code_and_its_tests_exist(
    row: Mutation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        take_away(row.name, patch)
    for test in (*row.tests, *row.still):
        file, _, name = test.partition("[")[0].partition("::")  # without the parameters of a case
        assert name in {
            node.name
            for node in ast.walk(ast.parse((TESTS / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }


def test_every_attack_on_approvals_identity_and_retries_has_a_mutation() -> None:
    """D1 to D12, E1 to E12, F1 to F8; the attacks are described in the tests."""
    attacks = {f"{kind}{number}" for kind, last in (("D", 12), ("E", 12), ("F", 8)) for number in range(1, last + 1)}
    assert {threat for row in MUTATIONS for threat in row.threats} == attacks


def test_a_removed_protection_is_caught_by_its_test_and_not_by_another() -> None:
    """Without narrowing, a tool reads a file that was not decided; a test of something else still passes."""
    with tempfile.NamedTemporaryFile() as file:
        if subprocess.run([*box(file.name), "true"], check=False, capture_output=True).returncode:
            pytest.skip("no box can be created on this machine")
    (row,) = (row for row in MUTATIONS if row.name == "each call is narrowed to its decision")
    caught_by, unrelated = row.tests[0], "sandbox/test_sandbox.py::test_an_asynchronous_action_is_awaited"
    played = play(replace(row, tests=(caught_by, unrelated)))
    assert (set(played.failed), played.passed, played.broken) == ({caught_by}, (unrelated,), {})
    assert not played.caught


def test_no_mutation_runs_without_a_box(tmp_path: Path) -> None:
    """The plug-in is used directly: its tests would do real harm to this machine."""
    given = [
        "-p",
        "adversarial.mutation",
        "--without",
        "Landlock limits the files that a tool can open",
        "--results",
        str(tmp_path / "results"),
        "-p",
        "no:cacheprovider",
        "--noconftest",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *given, str(TESTS / "sandbox/test_escapes.py"), "-k", "nothing_is_written"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "which boxes them" in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
