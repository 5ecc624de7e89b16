"""The rows of `agent/NAME/evals/*.yaml` are read strictly: every problem has its file, its line and its fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from remit.core import WorkspaceError
from remit.evals import read_scenarios
from remit.workspace import load_workspace
from support.runs import DONE

ROW = """
- name: one
  note: a note
  task: a task
"""


@pytest.mark.parametrize(
    ("row", "line", "what", "fix"),
    [
        (ROW + "  expcet: {}\n", 5, "unknown key 'expcet'", "write one of: expect"),
        (
            ROW + "  expect: {outcome: completed, efects: []}\n",
            5,
            "unknown key 'expect.efects'",
            "write one of: effects",
        ),
        (ROW + "  repeat: 0\n", 5, "repeat: input should be greater than or equal to 1", "a scenario has name, note"),
        (ROW + "  within: {p95: soon}\n", 5, "within.p95 is 'soon', which is not a duration", "write a number and ms"),
        (
            ROW + "  world: {files: {../a: text}}\n",
            5,
            "names '../a', which is not a plain relative path",
            "folder/file",
        ),
        (ROW + "  world: elsewhere\n", 5, "the seed 'elsewhere' is not a folder", "write such a folder"),
        (ROW + "  world: {seed: seed, without: [b.txt]}\n", 5, "has no 'b.txt'", "remove it from `without`"),
        (
            ROW + "  world: {answers: [{action: ledger.look}]}\n",
            5,
            "exactly one of `value` and `error`",
            "write one of them",
        ),
        (
            ROW + "  expect: {never: [{action: ledger.pya}]}\n",
            5,
            "has the action 'ledger.pya'",
            "did you mean ledger.pay",
        ),
        (ROW + "  expect: {effects: [{action: ledger.pay, resource: ann}]}\n", 5, "has no kind", "write kind:name"),
        (ROW + "  expect: {world: {contains: a}}\n", 5, "exactly one of `file` and `program`", "write one of them"),
        (ROW + "  expect: {world: {program: no.py}}\n", 5, "names 'no.py', which is not a file", "write that file"),
        (ROW + "  script: no.yaml\n", 5, "'script' is 'no.yaml', which is not a file", "write that file"),
        (ROW + ROW, 6, "evals/all.yaml:2 has the same name 'one'", "give it another name"),
        ("- name: One\n  note: n\n  task: t\n", 1, "is 'One', which is not a name", "lower-case letters"),
        ("- name: one\n  task: t\n", 1, "note: field required", "a scenario has name, note, task"),
        ("name: one\n", 1, "the table is not a list of rows", "begin each row"),
    ],
)
def test_a_row_that_is_not_valid_is_reported_with_its_line_and_its_fix(
    clerk: Callable[..., Path], row: str, line: int, what: str, fix: str
) -> None:
    folder = clerk([DONE])
    (folder / "seed").mkdir()
    (folder / "agent/clerk/evals").mkdir()
    (folder / "agent/clerk/evals/all.yaml").write_text(row)
    with pytest.raises(WorkspaceError) as failed:
        read_scenarios(load_workspace(folder), "clerk")
    (problem,) = failed.value.problems
    assert (problem.file, problem.line) == ("agent/clerk/evals/all.yaml", line)
    assert what in problem.what
    assert fix in problem.fix


def test_the_digest_of_a_scenario_covers_its_row_and_its_world_and_not_its_script(clerk: Callable[..., Path]) -> None:
    folder = clerk([DONE])
    (folder / "seed").mkdir()
    (folder / "seed/a.txt").write_text("1")
    (folder / "agent/clerk/evals").mkdir()

    def digest(row: str) -> str:
        (folder / "agent/clerk/evals/all.yaml").write_text(row)
        (scenario,) = read_scenarios(load_workspace(folder), "clerk")
        return scenario.digest

    base = digest(ROW + "  world: seed\n")
    assert digest(ROW + "  world: {seed: seed}\n") != base  # the row, as it is written
    assert digest(ROW.replace("a task", "another task") + "  world: seed\n") != base
    assert digest(ROW + "  world: seed\n  script: script.yaml\n  repeat: 9\n") == base
    (folder / "seed/a.txt").write_text("2")
    assert digest(ROW + "  world: seed\n") != base


def test_remit_check_reports_scenarios(clerk: Callable[..., Path], command: Callable[..., object]) -> None:
    folder = clerk([DONE])
    (folder / "agent/clerk/evals").mkdir()
    (folder / "agent/clerk/evals/all.yaml").write_text(ROW + "  repeat: many\n")
    assert "agent/clerk/evals/all.yaml:5: repeat:" in str(command(folder, "check"))
    (folder / "agent/clerk/evals/all.yaml").write_text(ROW + "  script: turns.yaml\n")
    (folder / "agent/clerk/turns.yaml").write_text("trns: []\n")
    assert "turns.yaml:1: unknown key 'trns'" in str(command(folder, "check"))
