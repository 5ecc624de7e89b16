"""A baseline is a reviewed file: complete, one line for each scenario, and an error with its line if it is not valid."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.core import UsageError, WorkspaceError
from remit.evals import read_baseline, write_baseline
from remit.evals.statistics import outcomes_of
from support.evaluations import evaluation

FILE = "agent/triage/evals/baseline.json"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "baseline.json"


def test_a_baseline_is_read_as_it_was_written_with_one_line_for_each_scenario(path: Path) -> None:
    done = evaluation(a="ppf", b="pp", **{"näme": "p"})
    write_baseline(path, done)
    assert read_baseline(path, file=FILE) == outcomes_of(done, "now")
    lines = path.read_text("utf-8").splitlines()
    assert [name for name in ("a", "b", "näme") if sum(f'"name": "{name}"' in line for line in lines) == 1] == [
        "a",
        "b",
        "näme",
    ]
    write_baseline(path, evaluation(a="ppp", b="pp", **{"näme": "p"}))
    after = path.read_text("utf-8").splitlines()
    assert [at for at, (old, new) in enumerate(zip(lines, after, strict=True)) if old != new] == [4]


def test_only_the_definition_on_disk_becomes_the_baseline(path: Path) -> None:
    write_baseline(path, evaluation({"short": {"a": "ff"}}, a="pp"))
    assert read_baseline(path, file=FILE).scenarios[0].outcomes == ("passed", "passed")


@pytest.mark.parametrize("letters", ["pp-", "ppi"])
def test_a_baseline_needs_a_grade_for_every_repeat(path: Path, letters: str) -> None:
    with pytest.raises(UsageError, match=r"2 of 3 repeats of scenario 'a' have a grade.*--resume e0123"):
        write_baseline(path, evaluation(a=letters))
    assert not path.exists()


def test_a_baseline_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_baseline(tmp_path / "nowhere" / "baseline.json", evaluation(a="p"))


BROKEN: dict[str, tuple[Callable[[str], str], int | None, str]] = {
    "no JSON": (lambda text: text.replace(" [\n", " [,\n"), 4, "not valid JSON"),
    "not a number": (lambda text: text.replace('"repeats": 2', '"repeats": NaN'), None, "not valid JSON"),
    "an outcome that does not exist": (
        lambda text: text.replace('"failed"', '"pased"'),
        6,
        "'scenarios.1.outcomes.1' is not valid",
    ),
    "an unknown key": (lambda text: text.replace('"digest"', '"digests"'), 5, "'scenarios.0.digest"),
    "no agent": (lambda text: text.replace('"agent"', '"agents"'), None, "'agent"),
    "a list": (lambda _: "[]", None, "is not valid"),
    "half a character": (lambda text: text.replace("triage", "\\ud800"), None, "half a character"),
}


@pytest.mark.parametrize(("change", "line", "what"), list(BROKEN.values()), ids=list(BROKEN))
def test_a_baseline_that_is_not_valid_is_one_problem_with_its_line_and_what_to_do(
    path: Path, change: Callable[[str], str], line: int | None, what: str
) -> None:
    write_baseline(path, evaluation(a="pp", b="pf"))
    text = path.read_text("utf-8")
    assert change(text) != text
    path.write_text(change(text), "utf-8")
    with pytest.raises(WorkspaceError) as refused:
        read_baseline(path, file=FILE)
    (problem,) = refused.value.problems
    assert (problem.file, problem.line) == (FILE, line)
    assert what in problem.what
    assert "--write-baseline" in problem.fix


def test_a_baseline_may_be_formatted_in_another_way(path: Path) -> None:
    done = evaluation(a="pp")
    write_baseline(path, done)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")), indent=4), "utf-8")
    assert read_baseline(path, file=FILE) == outcomes_of(done, "now")
