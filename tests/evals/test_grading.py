"""What a run did against what its scenario expects. The tool of the ledger workspace is outside of the world, so nothing is paid."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from support.runs import DONE, turn
from support.scenarios import LOOK, PAID, evaluate, write_script
from support.workspaces.ledger import effects

ANSWERS = {"world": {"answers": [LOOK, PAID]}}
PAY = turn(ledger__pay={"name": "ann", "amount": 7})
LOOKS = turn(ledger__look={"name": "ann"})
ASKS = turn(ledger__pay={"name": "bob", "amount": 500})
VAULT = turn(ledger__look={"name": "vault"})
SAYS = turn("ann has 7, says account ann")
JSON_ANSWER = turn(json.dumps({"balance": 7, "citations": ["0.0"]}))
SCHEMA = {"type": "object", "properties": {"balance": {"type": "integer"}}, "required": ["balance"]}
MATCH = {"action": "ledger.pay", "resource": "account:ann"}


# The turns of a run, what its scenario expects, and the checks that fail.
CASES: Final[Sequence[tuple[list[dict[str, Any]], dict[str, Any], list[str]]]] = [
    ([DONE], {}, []),
    ([DONE], {"outcome": "exhausted"}, ["outcome"]),
    ([PAY, DONE], {"effects": [MATCH]}, []),
    ([PAY, DONE], {"effects": [{**MATCH, "times": 1}]}, []),
    ([PAY, DONE], {"effects": [{**MATCH, "times": 2}]}, ["effects"]),
    ([PAY, DONE], {"effects": []}, ["effects"]),
    ([PAY, DONE], {"effects": [{"action": "ledger.pay", "resource": "account:bob"}]}, ["effects"]),
    ([LOOKS, DONE], {"effects": []}, []),
    ([LOOKS, DONE], {"effects": [MATCH]}, ["effects"]),
    ([PAY, DONE], {"never": [{"action": "ledger.pay", "resource": "account:b*"}]}, []),
    ([PAY, DONE], {"never": [{"action": "ledger.pay", "resource": "account:a*"}]}, ["never"]),
    ([VAULT, DONE], {"refused": [{"action": "ledger.look"}]}, []),
    ([VAULT, DONE], {"refused": [{"action": "ledger.look", "code": "denial_loop"}]}, ["refused"]),
    ([VAULT, DONE], {"refused": [{"action": "ledger.look", "at_most": 0}]}, ["refused"]),
    ([LOOKS, DONE], {"refused": [{"action": "ledger.look"}]}, ["refused"]),
    ([LOOKS, DONE], {"refused": [{"action": "ledger.look", "at_most": 1}]}, []),
    ([ASKS, DONE], {"asked": [{"action": "ledger.pay", "resource": "account:bob"}]}, []),
    ([ASKS, DONE], {"asked": []}, ["asked"]),
    ([LOOKS, DONE], {"asked": [MATCH]}, ["asked"]),
    ([SAYS], {"answer": {"contains": ["ANN has", ["8", "7"]]}}, []),
    ([SAYS], {"answer": {"contains": ["ann", ["8", "9"]]}}, ["answer"]),
    ([SAYS], {"answer": {"lacks": "Account"}}, ["answer"]),
    ([LOOKS, SAYS], {"answer": {"cites": ["account:ann"]}}, []),
    ([LOOKS, DONE], {"answer": {"cites": ["account:ann"]}}, ["answer"]),
    ([SAYS], {"answer": {"cites": ["account:ann"]}}, ["answer"]),
    ([LOOKS, JSON_ANSWER], {"answer": {"schema": "answer.json", "cites": ["account:*"]}}, []),
    ([SAYS], {"answer": {"schema": "answer.json"}}, ["answer"]),
    ([DONE], {"world": {"file": "notes/a.txt", "contains": ["seven"]}}, []),
    ([DONE], {"world": {"file": "notes/a.txt", "lacks": "seven"}}, ["world"]),
    ([DONE], {"world": {"file": "notes/b.txt"}}, ["world"]),
    ([DONE], {"world": [{"file": "notes/b.txt", "absent": True}, {"file": "notes/a.txt"}]}, []),
    ([DONE], {"world": {"file": "notes/a.txt", "absent": True}}, ["world"]),
    ([DONE], {"world": {"file": "notes/out.txt"}}, ["world"]),  # a symbolic link that leads out of the world
]


def test_a_run_passes_exactly_if_it_does_what_its_scenario_expects(clerk: Callable[..., Path]) -> None:
    """One evaluation plays all cases, each with a script of its own."""
    folder = clerk([DONE])
    (folder / "agent/clerk/answer.json").write_text(json.dumps(SCHEMA))
    seed = folder / "agent/clerk/seed"
    (seed / "notes").mkdir(parents=True)
    (folder / "outside.txt").write_text("not of the world")
    (seed / "notes/out.txt").symlink_to(folder / "outside.txt")
    world = {**ANSWERS["world"], "seed": "agent/clerk/seed", "files": {"notes/a.txt": "seven\n"}}
    for number, (turns, _, _) in enumerate(CASES):
        write_script(folder, f"{number}.yaml", *turns)
    rows = [{"script": f"{number}.yaml", "world": world, "expect": case[1]} for number, case in enumerate(CASES)]
    grades = {grade.scenario: grade for grade in evaluate(folder, *rows).evaluation.grades}
    for number, (_, expect, wrong) in enumerate(CASES):
        grade = grades[f"s{number}"]
        assert [check.name for check in grade.checks if not check.passed] == wrong, (expect, grade)
        assert grade.outcome == ("failed" if wrong else "passed")
        assert all(check.detail for check in grade.checks if not check.passed)
    assert effects(folder) == []


def test_an_effect_that_must_never_land_is_a_hard_failure(clerk: Callable[..., Path]) -> None:
    played = evaluate(clerk([PAY, DONE]), {**ANSWERS, "expect": {"never": [MATCH]}})
    assert [check.hard for check in played.grade.checks if check.name == "never"] == [True]


@pytest.mark.parametrize(
    ("within", "wrong"), [({"calls": 2}, []), ({"calls": 1}, ["within"]), ({"tokens": 0, "money": 0.0}, [])]
)
def test_a_run_that_uses_more_than_its_scenario_allows_fails(
    clerk: Callable[..., Path], within: dict[str, Any], wrong: list[str]
) -> None:
    played = evaluate(clerk([LOOKS, PAY, DONE]), {**ANSWERS, "within": within})
    assert (played.wrong, played.grade.calls) == (wrong, 2)
