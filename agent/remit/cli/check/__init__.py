"""`remit check`: one command for everything that can be found wrong in a workspace without running it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from remit.cli.output import echo, style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from remit.analysis.check import CheckReport, Format
    from remit.core import Finding, Level

# Lines of text output without --all: a large workspace must not hide its errors behind notes.
MOST_SHOWN: Final = 80
MOST_OF_ONE: Final = 10  # warnings, or notes, of one code
COLOURS: Final = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command("check", short_help="check the whole workspace")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github", "sarif", "junit"]),
    default="text",
    show_default=True,
    help="text for people; github: annotations of a workflow; sarif: SARIF 2.1.0; junit: JUnit XML.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "note"]),
    help="Exit with 1 for a finding of this level or a graver one. Default: fail_on below [check] in remit.toml.",
)
@click.option("--all", "show_all", is_flag=True, help="Print every finding, notes included.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def check_command(form: Format, fail_on: Level | None, show_all: bool, as_json: bool) -> None:
    """Check the whole workspace: manifests and code of tools, agents, rules, pins, tables of cases, and scenarios.

    An error: nothing starts, or a case does not hold. A warning: something does other than its author means. A note may be intended; it
    is only counted without --all. Exit code 0, or 2 with errors, or 1 for --fail-on.

    \b
    Examples:
      remit check
      remit check --all --fail-on warning
      remit check --format sarif > remit.sarif
    """
    from remit.analysis.check import check_workspace, report_text
    from remit.core import finding_of
    from remit.evals import check_scenarios
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    report = check_workspace(root)
    if report.workspace is not None:
        scenarios, wrong = check_scenarios(report.workspace)
        found = (finding_of(problem, "scenario") for problem in wrong)
        report = report.with_findings(found, {"scenarios": scenarios} if scenarios else {})
    at = fail_on or report.fail_on
    if as_json or form != "text":
        echo(report_text(report, "json" if as_json else form, fail_on=at))
    else:
        _show(report, show_all)
    sys.exit(2 if report.errors else 1 if report.fails(at) else 0)


def _show(report: CheckReport, show_all: bool) -> None:
    shown = [item for item in report.findings if show_all or item.level != "note"]
    for line in finding_lines(shown, show_all=show_all):
        echo(line, err=True)
    counts = {**report.counts, "errors": report.count("error"), "warnings": report.count("warning")}
    if not counts["errors"] and not counts["warnings"]:
        counts = {**report.counts, "problems": 0}
    if notes := report.count("note"):
        counts["notes"] = notes
    more = " (--all)" if notes and not show_all else ""
    echo(
        ", ".join(f"{number} {what.removesuffix('s') if number == 1 else what}" for what, number in counts.items())
        + more
    )


def finding_lines(findings: Iterable[Finding], *, show_all: bool) -> Iterator[str]:
    """Two lines for each finding; without `show_all`, at most `MOST_OF_ONE` of a code that is no error, and `MOST_SHOWN` in all."""
    every = list(findings)
    seen: Counter[str] = Counter()
    shown = 0
    for item in every:
        seen[item.code] += 1
        many = item.level != "error" and seen[item.code] > MOST_OF_ONE
        if not show_all and (many or shown >= MOST_SHOWN):
            continue
        shown += 1
        code = "" if item.level == "error" else f" [{item.code}]"
        yield f"{style(item.level, fg=COLOURS[item.level])}: {item.place}: {item.what}{code}\n    fix: {item.fix}"
    if shown < len(every):
        left = ", ".join(f"{count} {code}" for code, count in seen.most_common(MOST_OF_ONE))
        yield f"… {len(every) - shown} more; in all: {left}. --all shows every one"
