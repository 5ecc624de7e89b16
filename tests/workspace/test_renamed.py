"""A workspace with a former name: `remit check` prints the new name as the fix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from remit.core import RENAMED
from support.runs import Remit

# The value of a former key in a case, by its new name; any other is true.
CASE_VALUES: Final[Mapping[str, str]] = {"unidentified": "[mail]", "contains": "[link]"}
CASE: Final = '- {note: n, agent: triage, action: files.read, resources: ["file:logs/a"], expect: deny, %s: %s}\n'
RULE: Final = "p, agent:triage, files.read, file:logs/**, %s, deny\n"
SETS: Final = ("unidentified", "contains")


def append(path: Path, text: str) -> int:
    """Append text, and return the line on which it starts."""
    before = path.read_text()
    path.write_text(before + text)
    return before.count("\n") + 1


def lines_after(text: str, place: str) -> str:
    """The problem at `place` in the output of `remit check`, with its fix."""
    assert place in text, text
    return "\n".join(text.partition(place)[2].splitlines()[:2])


def checked(remit: Remit) -> str:
    result = remit("check")
    assert result.code == 2
    assert "Traceback" not in result.err
    return result.out + result.err


@pytest.mark.parametrize(("old", "new"), RENAMED["fact"].items())
def test_a_former_fact_in_a_rule_is_a_problem_with_the_new_name_as_its_fix(
    remit: Remit, session: Path, old: str, new: str
) -> None:
    condition = f"'link' in {old}" if new in SETS else old
    line = append(session / "policies/rules.csv", RULE % condition)
    problem = lines_after(checked(remit), f"policies/rules.csv:{line}: ")
    assert problem == f"{old!r} is not a fact\n    fix: write {new}"


@pytest.mark.parametrize(("old", "new"), RENAMED["case"].items())
def test_a_former_key_in_a_policy_case_is_a_problem_with_the_new_name_as_its_fix(
    remit: Remit, session: Path, old: str, new: str
) -> None:
    line = append(session / "policies/cases.yaml", CASE % (old, CASE_VALUES.get(new, "true")))
    problem = lines_after(checked(remit), f"policies/cases.yaml:{line}: ")
    assert problem == f"unknown key {old!r}\n    fix: write {new}"


@pytest.mark.parametrize(("old", "new"), RENAMED["manifest"].items())
def test_a_former_key_in_a_manifest_is_a_problem_with_the_new_name_as_its_fix(
    remit: Remit, session: Path, old: str, new: str
) -> None:
    manifest = session / "tools/tickets/tool.toml"
    header = "[actions.get]\n"
    text = manifest.read_text()
    assert header in text
    manifest.write_text(text.replace(header, f'{header}{old} = ["private"]\n'))
    line = text.partition(header)[0].count("\n") + 2
    problem = lines_after(checked(remit), f"tools/tickets/tool.toml:{line}: ")
    assert problem == f"unknown key 'actions.get.{old}'\n    fix: write {new!r}"


def test_former_names_in_rules_and_manifests_are_reported_together(remit: Remit, session: Path) -> None:
    """The cases are checked once the rules load."""
    append(session / "policies/rules.csv", RULE % " and ".join(old for old in RENAMED["fact"] if old != "unknown"))
    manifest = session / "tools/tickets/tool.toml"
    manifest.write_text(manifest.read_text().replace("[actions.get]\n", "[actions.get]\nclears = []\nwords = []\n"))
    output = checked(remit)
    for new in (*RENAMED["fact"].values(), "'removes_labels'", "'request_words'"):
        assert new == "unidentified" or f"fix: write {new}" in output


def test_a_misspelled_name_is_a_problem_with_the_nearest_name_as_its_fix(remit: Remit, session: Path) -> None:
    append(session / "policies/rules.csv", RULE % "named_by_usr")
    assert "fix: write named_by_user" in checked(remit)
