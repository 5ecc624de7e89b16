"""`remit policy check|test|fmt`: do the rules mean what they say, does the table hold, would it notice?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remit.analysis import Coverage, LintFinding, MutationScore, PolicyCaseResult


@click.command("check")
@click.option("--strict", is_flag=True, help="End with 1 for notes too.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_check_command(strict: bool, as_json: bool) -> None:
    """Load the rules as strictly as a run does, then name those that do nothing, or more than any tool reaches.

    What stock Casbin would drop or half-read is an error. A warning is a rule that does nothing, or not what it says; a
    note may be intended. "Does nothing" is exact: without the rule every request is decided as before.

    \b
    Examples:
      remit policy check
      remit policy check --strict
    """
    from remit.analysis import lint_rules
    from remit.analysis.diff import working_tree
    from remit.workspace import find_workspace, load_workspace_and_policy

    root = find_workspace(Path.cwd())
    workspace, rules = load_workspace_and_policy(root)
    remarks = lint_rules(working_tree(root).rule_set(), workspace)
    failed = any(strict or one.weight == "warning" for one in remarks)
    if as_json:
        told = [{**vars(one), "weight": one.weight} for one in remarks]
        body = {"ok": not failed, "rules": len(rules.rules), "digest": rules.digest, "remarks": told}
        echo(json_text(body))
        sys.exit(1 if failed else 0)
    _show_remarks(remarks)
    warnings = sum(one.weight == "warning" for one in remarks)
    echo(f"{len(rules.rules)} rules load; {warnings} warnings, {len(remarks) - warnings} notes; {rules.digest[:19]}…")
    sys.exit(1 if failed else 0)


def _show_remarks(remarks: Iterable[LintFinding]) -> None:
    for one in remarks:
        colour = "yellow" if one.weight == "warning" else "cyan"
        where = one.file if one.line is None else f"{one.file}:{one.line}"
        echo(f"{style(one.weight, fg=colour)} {where} {one.code}: {one.what}\n    fix: {one.fix}")


@click.command("test")
@click.option("--mutate", is_flag=True, help="Spoil every rule in a few fixed ways: does the table notice?")
@click.option(
    "--least", type=float, default=100.0, show_default=True, help="With --mutate: end with 1 below this score, in percent."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_test_command(mutate: bool, least: float, as_json: bool) -> None:
    """Run the table of cases in policies/cases.yaml, and name the rules and actions that no case pins.

    Every case is answered by Remit's matcher and by stock Casbin; a row on which they differ has failed.

    --mutate spoils every rule in each way that fits: removed, allow and deny exchanged, pattern opened, condition dropped or
    turned round, role swapped. A spoilt rule that changes nothing is proved to and does not count; for each other that no
    case notices, the case that would is printed, ready to paste.

    \b
    Examples:
      remit policy test
      remit policy test --mutate
      remit policy test --mutate --least 90
    """
    from remit.analysis import find_uncovered, run_cases, score_mutants
    from remit.analysis.diff import working_tree
    from remit.core.parsing import table_text
    from remit.policy import CASES, read_cases
    from remit.workspace import find_workspace, load_workspace_and_policy

    root = find_workspace(Path.cwd())
    _, rules = load_workspace_and_policy(root)
    table = table_text(root / CASES, file=CASES)
    results = run_cases(rules, table, CASES)
    coverage = find_uncovered(rules, results)
    found = (
        score_mutants(working_tree(root).rule_set(), [case for _, case in read_cases(rules, table, CASES)])
        if mutate
        else None
    )
    failed = any(not result.passed for result in results)
    if found is not None:
        failed = failed or found.percent < least or bool(coverage.rules) or bool(coverage.actions)
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
            "survivors": [vars(one) for one in found.survivors],
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
        echo(f"{style('not covered', fg='yellow')} {action}: no case asks for it")
    for one in found.survivors if found is not None else ():
        echo(f"{style('survived', fg='red')} {one.file}:{one.line} {OPERATORS[one.operator]}: {one.text}")
        echo(one.case or f"    {one.why}")
    open_ends = f"{len(coverage.rules)} rules and {len(coverage.actions)} actions not covered"
    echo(f"{passed} passed, {failed} failed; {open_ends}")
    if found is not None:
        equivalent = len(found.mutants) - found.counted
        noticed = f"{found.killed} of {found.counted} spoilt rules noticed, {equivalent} equivalent (proved)"
        echo(f"mutation score {found.percent:.0f}%: {noticed}")


@click.command("fmt")
@click.option("--check", is_flag=True, help="Change nothing; end with 1 where something would change.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_fmt_command(check: bool, as_json: bool) -> None:
    """Write policies/*.csv as everybody does: one space after a comma, no comment lost, nothing moved.

    \b
    Examples:
      remit policy fmt
      remit policy fmt --check
    """
    from remit.analysis import format_rules
    from remit.core.parsing import read_file
    from remit.workspace import find_workspace

    changed: list[str] = []
    for path in sorted((find_workspace(Path.cwd()) / "policies").glob("*.csv")):
        before = read_file(path, file=f"policies/{path.name}")
        after = format_rules(before.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if before != after:
            changed.append(f"policies/{path.name}")
            if not check:
                _replace(path, after)
    failed = check and bool(changed)
    if as_json:
        echo(json_text({"ok": not failed, "changed": changed}))
    else:
        for file in changed:
            echo(f"{'would format' if check else 'formatted'} {file}")
        if not changed:
            echo("all formatted")
    sys.exit(1 if failed else 0)


def _replace(path: Path, data: bytes) -> None:
    """Put a whole file in the old one's place: agents that run read the rules meanwhile, and must never read half."""
    making = path.with_name(f".{path.name}.new")
    try:
        making.write_bytes(data)
        making.chmod(path.stat().st_mode & 0o777)
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)
