"""`remit policy check`, `test` and `fmt`: lint of the rules, cases with mutation testing, and the formatter."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import counted, echo, fitting, json_text, style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from remit.analysis import Coverage, Mutant, MutationScore, NewCase, PolicyCaseResult

# Lines of each part without --all.
_MOST_FAILED: Final = 40
_MOST_UNCOVERED: Final = 20
_MOST_NOT_CAUGHT: Final = 30
_MOST_CASES: Final = 70


@click.command("check")
@click.option("--strict", is_flag=True, help="Exit with 1 for notes as well.")
@click.option("--all", "show_all", is_flag=True, help="Print every finding of a kind.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_check_command(strict: bool, show_all: bool, as_json: bool) -> None:
    """Load the rules as strictly as a run does, and report rules without effect or wider than any tool.

    A row that stock Casbin would ignore or misread is an error. A warning is a rule without effect, or with another one
    than it seems. A note may be intended. "Without effect" is exact: without the rule every verdict is the same.

    \b
    Examples:
      remit policy check
      remit policy check --strict
    """
    from remit.analysis import lint_rules
    from remit.analysis.diff import working_tree
    from remit.cli.check import finding_lines
    from remit.workspace import find_workspace, load_workspace_and_policy

    root = find_workspace(Path.cwd())
    workspace, rules = load_workspace_and_policy(root)
    findings = lint_rules(working_tree(root).rule_set(), workspace)
    failed = any(strict or item.level == "warning" for item in findings)
    if as_json:
        body = {
            "ok": not failed,
            "rules": len(rules.rules),
            "digest": rules.digest,
            "findings": list(map(vars, findings)),
        }
        echo(json_text(body))
        sys.exit(1 if failed else 0)
    for line in finding_lines(findings, show_all=show_all):
        echo(line)
    warnings = sum(item.level == "warning" for item in findings)
    echo(
        f"{len(rules.rules)} rules loaded; {warnings} warnings, {len(findings) - warnings} notes; {rules.digest[:19]}…"
    )
    sys.exit(1 if failed else 0)


@click.command("test")
@click.option("--mutate", is_flag=True, help="Mutation testing: change every rule and see if a case fails.")
@click.option("--write", is_flag=True, help="As --mutate, and add the cases that are missing to the tables of cases.")
@click.option(
    "--min-score", type=float, default=100.0, show_default=True, help="With --mutate: exit with 1 below this score, in percent."
)  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help="Print everything that is not covered or not caught.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_test_command(mutate: bool, write: bool, min_score: float, show_all: bool, as_json: bool) -> None:
    """Run the cases in policies/cases.yaml and those of teams, and list the rules and actions that no case covers.

    Remit's matcher and stock Casbin both decide every case. A case on which they differ fails.

    --mutate changes every rule in each way that fits: rule removed, allow and deny swapped, pattern widened, condition
    removed or negated, role replaced. A mutant that changes no verdict is proved equivalent and does not count. The others that no
    case catches are listed, with few cases that catch them all. Such a case says what the rules decide now: look if that is right.

    \b
    Examples:
      remit policy test
      remit policy test --mutate
      remit policy test --write
    """
    from remit.analysis import edit_workspace, find_uncovered, new_cases, run_tables, score_mutants, with_new_cases
    from remit.analysis.diff import working_tree
    from remit.policy import read_case_tables, read_cases
    from remit.workspace import find_workspace, load_workspace_and_policy

    root = find_workspace(Path.cwd())
    workspace, rules = load_workspace_and_policy(root)
    tables = read_case_tables(root / "policies")
    results = run_tables(rules, tables)
    coverage = find_uncovered(rules, results)
    found: MutationScore | None = None
    missing: tuple[NewCase, ...] = ()
    if mutate or write:
        rule_set = working_tree(root).rule_set()
        cases = [case for file, text in tables for _, case in read_cases(rules, text, file)]
        found = score_mutants(rule_set, cases)
        missing = new_cases(rule_set, workspace, found, coverage, tables)
    failed = any(not result.passed for result in results)
    if write:
        edit_workspace(root, {file: text.encode() for file, text in with_new_cases(missing, tables).items()})
    elif found is not None:
        failed = failed or found.percent < min_score or bool(coverage.rules) or bool(coverage.actions)
    if as_json:
        echo(json_text({"ok": not failed, **_tested(results, coverage, found, missing)}))
    else:
        _show_tested(_Shown(results, coverage, found, missing, written=write, show_all=show_all))
    sys.exit(1 if failed else 0)


def _tested(
    results: Iterable[PolicyCaseResult],
    coverage: Coverage,
    found: MutationScore | None,
    missing: Iterable[NewCase],
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "cases": [asdict(result) for result in results],
        "uncovered": [rule.model_dump(mode="json") for rule in coverage.rules],
        "unused": list(coverage.actions),
    }
    if found is not None:
        body["mutation"] = {
            "percent": found.percent,
            "killed": found.killed,
            "counted": found.counted,
            "equivalent": len(found.mutants) - found.counted,
            "survivors": [vars(mutant) for mutant in found.survivors],
            "missing": [asdict(case) for case in missing],
        }
    return body


@dataclass(frozen=True)
class _Shown:
    """What `remit policy test` prints."""

    results: Sequence[PolicyCaseResult]
    coverage: Coverage
    found: MutationScore | None
    missing: Sequence[NewCase]
    written: bool
    show_all: bool

    def print_part(self, blocks: Sequence[Sequence[str]], most: int, more: str, *, whole: bool = False) -> None:
        """Print the blocks that fit into that many lines, and how many are left out."""
        lines, left = fitting(blocks, most, show_all=self.show_all, whole=whole)
        for line in lines:
            echo(line)
        if left:
            echo(f"… and {left} more {more}: --all shows them")


def _show_tested(shown: _Shown) -> None:
    failed = [result for result in shown.results if not result.passed]
    shown.print_part([_failed_lines(result) for result in failed], _MOST_FAILED, "cases that failed")
    uncovered = [
        [
            f"{style('not covered', fg='yellow')} {rule.file}:{rule.line} {rule.note or rule.text}: no case is decided by it"
        ]
        for rule in shown.coverage.rules
    ]
    shown.print_part(uncovered, _MOST_UNCOVERED, "rules")
    calls = [[f"{style('not covered', fg='yellow')} {action}: no case calls it"] for action in shown.coverage.actions]
    shown.print_part(calls, _MOST_UNCOVERED, "actions")
    if shown.found is not None:
        shown.print_part(list(_not_caught(shown.found)), _MOST_NOT_CAUGHT, "rules with mutants that are not caught")
        _show_missing(shown)
    passed = len(shown.results) - len(failed)
    rules, actions = len(shown.coverage.rules), len(shown.coverage.actions)
    before = "without the added cases: " if shown.written and shown.missing else ""
    step = "; `remit policy test --write` adds cases" if shown.found is None and (rules or actions) else ""
    not_covered = f"{counted(rules, 'rule')} and {counted(actions, 'action')} not covered{step}"
    echo(f"{before}{passed} passed, {len(failed)} failed; {not_covered}")
    if (found := shown.found) is not None:
        equivalent, missed = len(found.mutants) - found.counted, found.counted - found.killed
        counts = f"{found.killed} mutants caught, {missed} not caught, {equivalent} equivalent (proved)"
        echo(f"mutation score {found.percent:.0f}%: {counts}")


def _failed_lines(result: PolicyCaseResult) -> list[str]:
    return [f"{style('failed', fg='red')} {result.file}:{result.line} {result.note}", f"    {result.message}"]


def _not_caught(found: MutationScore) -> Iterator[list[str]]:
    """A line for each rule with mutants that no case catches, and one for each of these without a case that would."""
    from remit.analysis import OPERATORS

    rules: dict[tuple[str, int], list[Mutant]] = {}
    for mutant in found.survivors:
        rules.setdefault((mutant.file, mutant.line), []).append(mutant)
    for (file, line), mutants in rules.items():
        what = ", ".join(dict.fromkeys(OPERATORS[mutant.operator] for mutant in mutants))
        yield [
            f"{style('not caught', fg='red')} {file}:{line} {what}",
            *(f"    {mutant.text}: {mutant.why}" for mutant in mutants if mutant.why),
        ]


def _why(case: NewCase) -> str:
    more = f"; and {len(case.why) - 3} more" if len(case.why) > 3 else ""
    return "; ".join(case.why[:3]) + more


def _show_missing(shown: _Shown) -> None:
    if not shown.missing:
        return
    tables = ", ".join(dict.fromkeys(case.table for case in shown.missing))
    if shown.written:
        noted = [[f"added to {case.table}: {case.note.removeprefix('- note: ')}"] for case in shown.missing]
        shown.print_part(noted, _MOST_CASES, "cases")
        echo(f"{counted(len(shown.missing), 'case')} added to {tables}: look if each decides what it should")
        return
    blocks = [[f"# {_why(case)}", *case.text.rstrip().splitlines()] for case in shown.missing]
    shown.print_part(blocks, _MOST_CASES, "cases", whole=True)
    echo(
        f"{counted(len(shown.missing), 'case')} would catch and cover the above; `remit policy test --write` adds them to {tables}"
    )


@click.command("fmt")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a file is not formatted.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_fmt_command(check: bool, as_json: bool) -> None:
    """Format the rules of the organization and of teams: one space after each comma, one empty line between groups. Lines keep their order.

    \b
    Examples:
      remit policy fmt
      remit policy fmt --check
    """
    from remit.analysis import format_rules
    from remit.core.parsing import read_file
    from remit.policy import rule_files
    from remit.workspace import find_workspace

    changed: list[str] = []
    for file, path in rule_files(find_workspace(Path.cwd()) / "policies"):
        if path.suffix != ".csv":
            continue
        before = read_file(path, file=file)
        after = format_rules(before.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if before != after:
            changed.append(file)
            if not check:
                _replace(path, after)
    failed = check and bool(changed)
    if as_json:
        echo(json_text({"ok": not failed, "changed": changed}))
    else:
        for file in changed:
            echo(f"{'would format' if check else 'formatted'} {file}")
        if not changed:
            echo("all files are formatted")
    sys.exit(1 if failed else 0)


def _replace(path: Path, data: bytes) -> None:
    """Replace the file atomically: running agents read the rules, and must never read half a file."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(data)
        temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
