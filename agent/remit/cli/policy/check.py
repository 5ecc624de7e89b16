"""`remit policy check`, `test` and `fmt`: lint of the rules, cases with mutation testing, and the formatter."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.analysis import Coverage, MutationScore, PolicyCaseResult


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
@click.option(
    "--min-score", type=float, default=100.0, show_default=True, help="With --mutate: exit with 1 below this score, in percent."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_test_command(mutate: bool, min_score: float, as_json: bool) -> None:
    """Run the cases in policies/cases.yaml and those of teams, and list the rules and actions that no case covers.

    Remit's matcher and stock Casbin both decide every case. A case on which they differ fails.

    --mutate changes every rule in each way that fits: rule removed, allow and deny swapped, pattern widened, condition
    removed or negated, role replaced. A mutant that changes no verdict is proved equivalent and does not count. For each
    other mutant that no case catches, a case that would is printed, ready to paste.

    \b
    Examples:
      remit policy test
      remit policy test --mutate
      remit policy test --mutate --min-score 90
    """
    from remit.analysis import find_uncovered, run_tables, score_mutants
    from remit.analysis.diff import working_tree
    from remit.policy import read_case_tables, read_cases
    from remit.workspace import find_workspace, load_workspace_and_policy

    root = find_workspace(Path.cwd())
    _, rules = load_workspace_and_policy(root)
    tables = read_case_tables(root / "policies")
    results = run_tables(rules, tables)
    coverage = find_uncovered(rules, results)
    found = (
        score_mutants(
            working_tree(root).rule_set(),
            [case for file, text in tables for _, case in read_cases(rules, text, file)],
        )
        if mutate
        else None
    )
    failed = any(not result.passed for result in results)
    if found is not None:
        failed = failed or found.percent < min_score or bool(coverage.rules) or bool(coverage.actions)
    if as_json:
        echo(json_text({"ok": not failed, **_tested(results, coverage, found)}))
    else:
        _show_tested(results, coverage, found)
    sys.exit(1 if failed else 0)


def _tested(results: Iterable[PolicyCaseResult], coverage: Coverage, found: MutationScore | None) -> dict[str, Any]:
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
        }
    return body


def _show_tested(results: Iterable[PolicyCaseResult], coverage: Coverage, found: MutationScore | None) -> None:
    from remit.analysis import OPERATORS

    passed = failed = 0
    for result in results:
        passed, failed = passed + result.passed, failed + (not result.passed)
        if not result.passed:
            echo(f"{style('failed', fg='red')} {result.file}:{result.line} {result.note}\n    {result.message}")
    for rule in coverage.rules:
        where = f"{rule.file}:{rule.line} {rule.note or rule.text}"
        echo(f"{style('not covered', fg='yellow')} {where}: no case is decided by it")
    for action in coverage.actions:
        echo(f"{style('not covered', fg='yellow')} {action}: no case calls it")
    for mutant in found.survivors if found is not None else ():
        echo(f"{style('not caught', fg='red')} {mutant.file}:{mutant.line} {OPERATORS[mutant.operator]}: {mutant.text}")
        echo(mutant.case or f"    {mutant.why}")
    not_covered = f"{len(coverage.rules)} rules and {len(coverage.actions)} actions not covered"
    echo(f"{passed} passed, {failed} failed; {not_covered}")
    if found is not None:
        equivalent = len(found.mutants) - found.counted
        missed = found.counted - found.killed
        counts = f"{found.killed} mutants caught, {missed} not caught, {equivalent} equivalent (proved)"
        echo(f"mutation score {found.percent:.0f}%: {counts}")


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
