"""`remit policy test --write` adds few distinct cases, with which nothing is left uncovered or uncaught; outputs are short."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.analysis.cases import find_uncovered, run_tables
from remit.analysis.covering import minimal_cover
from remit.analysis.diff.revisions import working_tree
from remit.analysis.missing_cases import NewCase, new_cases, with_new_cases
from remit.analysis.mutation import MutationScore, score_mutants
from remit.cli.output import fitting
from remit.core.parsing import read_rows
from remit.policy.cases import read_cases
from remit.policy.folder import read_case_tables
from support.runs import Remit


def scored(folder: Path) -> tuple[MutationScore, tuple[NewCase, ...]]:
    here = working_tree(folder)
    rule_set = here.rule_set()
    tables = read_case_tables(folder / "policies")
    cases = [case for file, text in tables for _, case in read_cases(rule_set.policy, text, file)]
    score = score_mutants(rule_set, cases)
    coverage = find_uncovered(rule_set.policy, run_tables(rule_set.policy, tables))
    return score, new_cases(rule_set, here.workspace, score, coverage, tables)


@pytest.fixture
def thinned(session: Path) -> Path:
    """The starter without two of three cases."""
    path = session / "policies/cases.yaml"
    rows = path.read_text().split("\n- ")
    path.write_text("\n- ".join(row for number, row in enumerate(rows) if number % 3 == 0))
    return session


def test_the_written_cases_leave_nothing_uncovered_or_uncaught_and_are_distinct(thinned: Path, remit: Remit) -> None:
    before, missing = scored(thinned)
    assert len(before.survivors) > len(missing) > 10
    assert "not covered; `remit policy test --write` adds cases" in remit("policy", "test").out
    done = remit("policy", "test", "--write")
    assert done.code == 0, done
    assert f"{len(missing)} cases added to policies/cases.yaml: look if each decides what it should" in done.out
    assert "without the added cases: " in done.out
    rows = [row.value for row in read_rows((thinned / "policies/cases.yaml").read_text(), file="")]
    assert len({str({**row, "note": ""}) for row in rows}) == len({row["note"] for row in rows}) == len(rows)
    after = remit("policy", "test", "--mutate")
    assert after.code == 0, after
    assert "0 failed; 0 rules and 0 actions not covered\nmutation score 100%" in after.out
    assert remit("check").code == 0


def test_no_written_case_can_be_left_out(thinned: Path) -> None:
    """For the cases that catch mutants: without any of them, a mutant is not caught."""
    tables = read_case_tables(thinned / "policies")
    _, missing = scored(thinned)
    catching = [case for case in missing if not case.why[0].startswith("no case") and "no case is" not in case.why[0]]
    assert len(catching) > 5
    rule_set = working_tree(thinned).rule_set()
    for left_out in catching[::4]:
        kept = [case for case in catching if case is not left_out]
        texts = {table.file: table.text for table in tables} | with_new_cases(kept, tables)
        cases = [case for file, text in texts.items() for _, case in read_cases(rule_set.policy, text, file)]
        assert score_mutants(rule_set, cases).survivors, left_out


def test_a_case_pins_the_rule_that_it_is_about_or_none(thinned: Path) -> None:
    """A case for a rule of an agent never names the rule of the operators, which decides too."""
    rule_set = working_tree(thinned).rule_set()
    notes = {f"{rule.file}:{rule.line}": rule.note or rule.text for rule in rule_set.policy.rules}
    _, missing = scored(thinned)
    pinned = 0
    for case in missing:
        value = next(iter(read_rows(case.text, file=""))).value
        about = {notes[place] for part in case.why if (place := part.partition(" ")[0]) in notes}
        if about and "rule" in value:
            pinned += 1
            assert value["rule"] in about
    assert pinned > 3


def test_a_case_of_a_team_is_written_beside_its_rules(session: Path, remit: Remit) -> None:
    folder = session / "policies/desk"
    folder.mkdir()
    (folder / "team.toml").write_text(
        'summary = "Desk"\nagents = ["agent:support"]\nroles = ["role:clerk"]\ntools = ["tickets"]\nresources = ["ticket:HR-*"]\n'
    )
    (folder / "rules.csv").write_text(
        "p, role:clerk, tickets.get, ticket:HR-*, True, allow\n"
        "p, agent:support, tickets.get, ticket:HR-*, True, allow\ng, user:operator, role:clerk\n"
    )
    before = (session / "policies/cases.yaml").read_text()
    done = remit("policy", "test", "--write")
    assert (done.code, "added to policies/desk/cases.yaml: " in done.out) == (0, True), done
    assert (session / "policies/cases.yaml").read_text() == before
    assert remit("policy", "test", "--mutate").code == 0


def test_nothing_is_written_where_nothing_is_missing(session: Path, remit: Remit) -> None:
    before = (session / "policies/cases.yaml").read_bytes()
    done = remit("policy", "test", "--write")
    assert (done.code, "added" in done.out) == (0, False)
    assert (session / "policies/cases.yaml").read_bytes() == before


def test_without_any_case_the_output_fits_into_200_lines(session: Path, remit: Remit) -> None:
    (session / "policies/cases.yaml").write_text("")
    short, whole = remit("policy", "test", "--mutate"), remit("policy", "test", "--mutate", "--all")
    assert short.code == whole.code == 1
    assert len(short.out.splitlines()) <= 200 < len(whole.out.splitlines())
    assert "more cases: --all shows them" in short.out
    assert "more rules: --all shows them" in short.out
    assert "--all" not in whole.out


def test_titles_come_before_details_and_whole_blocks_are_not_cut() -> None:
    blocks = [["a", "1", "2"], ["b", "1"], ["c", "1"]]
    assert fitting(blocks, 7, show_all=False) == (["a", "1", "2", "b", "1", "c", "1"], 0)
    assert fitting(blocks, 5, show_all=False) == (["a", "1", "2", "b", "c"], 0)
    assert fitting(blocks, 2, show_all=False) == (["a", "b"], 1)
    assert fitting(blocks, 5, show_all=False, whole=True) == (["a", "1", "2", "b", "1"], 1)
    assert fitting(blocks, 1, show_all=False, whole=True) == (["a", "1", "2"], 2)
    assert fitting(blocks, 1, show_all=True, whole=True) == (["a", "1", "2", "b", "1", "c", "1"], 0)
    assert fitting([], 1, show_all=False, whole=True) == fitting([], 1, show_all=False) == ([], 0)


def test_a_cover_meets_every_need_and_has_no_number_too_many() -> None:
    needs = {frozenset({1, 2}), frozenset({2, 3}), frozenset({3}), frozenset({4, 1})}
    kept = minimal_cover(needs)
    assert all(kept & need for need in needs)
    assert all(any(not (kept - {one}) & need for need in needs) for one in kept)
