"""`remit upgrade --check`: what the installed version would refuse of a workspace, before it is used with it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from remit.cli.check import finding_lines
from remit.cli.output import echo


@click.command("upgrade", short_help="say what this version would refuse of a workspace")
@click.option(
    "--check", "only_check", is_flag=True, help="Look at the files, the journal and the traces; nothing is changed."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def upgrade_command(only_check: bool, as_json: bool) -> None:
    """Say what the installed version of Remit would refuse of this workspace: of its files, its journal and its traces.

    Run it with the new version before a service or an agent uses that, for example by `uvx`. Nothing is changed. Exit code 0, or 1 if
    something is refused. Warnings are what this version reads otherwise than its author meant.

    \b
    Examples:
      remit upgrade --check
      uvx remit@0.2.0 upgrade --check --json
    """
    from remit import __version__
    from remit.analysis.check import check_upgrade, report_text
    from remit.core import UsageError
    from remit.workspace import find_workspace

    if not only_check:
        raise UsageError(
            "a package manager installs Remit: write `remit upgrade --check` to see what this version would refuse"
        )
    report = check_upgrade(find_workspace(Path.cwd()))
    refused = len(report.errors)
    if as_json:
        echo(report_text(report, "json", fail_on="error"))
    else:
        for line in finding_lines(report.findings, show_all=True):
            echo(line, err=True)
        counts = ", ".join(f"{count} {kind}" for kind, count in report.counts.items())
        echo(
            f"Remit {__version__} " + (f"refuses {refused} of this" if refused else "reads all of this") + f": {counts}"
        )
    sys.exit(1 if refused else 0)
