"""`remit eval AGENT`: plays every scenario, and exits with 1 if one fails."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.core import Json
    from remit.evals import Evaluation, Grade, Selection
    from remit.evals.reports import EvaluationReport
    from remit.evals.statistics import VariantOutcomes
    from remit.journal import Journal

COLOURS = {"passed": "green", "failed": "red", "infrastructure": "yellow"}
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)
NEW_FOLDER = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """The arguments and options of `remit eval play`."""

    agent: str | None
    scenarios: tuple[str, ...]
    repeats: int | None
    models: tuple[str, ...]
    prompts: tuple[Path, ...]
    policies: tuple[Path, ...]
    tools: tuple[Path, ...]
    settings: tuple[str, ...]
    parallel: int | None
    resumed: str | None
    against: Path | None
    write_baseline: bool
    html: Path | None
    junit: Path | None
    markdown: Path | None
    inspect: Path | None
    as_json: bool

    @property
    def selects(self) -> bool:
        """True if an option says what is played."""
        variants = (self.models, self.prompts, self.policies, self.tools, self.settings)
        return any((self.agent, self.scenarios, self.repeats, *variants))

    def selection(self) -> Selection:
        """What is played."""
        from remit.evals import Selection, matrix

        if self.agent is None:
            raise click.UsageError("name an agent, as in: remit eval triage")
        return Selection(
            agent=self.agent,
            scenarios=self.scenarios,
            repeats=self.repeats,
            variants=matrix(self.models, self.prompts, self.policies, self.tools, [*map(_settings, self.settings)]),
        )


@click.command("play", short_help="play the scenarios of an agent")
@click.argument("agent", required=False)
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Only this scenario; may be repeated.")
@click.option("--repeats", type=click.IntRange(1, 1000), help="Play each scenario so often, whatever its row says.")
@click.option("--model", "models", multiple=True, help="A variant with another model: openai:gpt-5, script:FILE.")
@click.option("--prompt", "prompts", multiple=True, type=FILE, help="A variant with the prompt in this file.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=FOLDER,
    help="A variant with the rules of this folder or workspace.",
)
@click.option(
    "--tools",
    multiple=True,
    type=FOLDER,
    help="A variant with the tools of another workspace: its folder `tools`.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="A variant with other settings of the model: temperature=0.",
)
@click.option("--parallel", type=click.IntRange(1, 256), help="Runs at a time; default: one for each core.")
@click.option("--resume", "resumed", metavar="ID", help="Play what an interrupted evaluation has not played yet.")
@click.option(
    "--against", type=FILE, help="Compare with this baseline; default: agent/NAME/evals/baseline.json, if it exists."
)
@click.option("--write-baseline", is_flag=True, help="Write the outcomes to agent/NAME/evals/baseline.json, to commit.")
@click.option("--html", type=NEW_FILE, help="Write the report to this file as one HTML page.")
@click.option("--junit", type=NEW_FILE, help="Write the report to this file as JUnit XML.")
@click.option("--markdown", type=NEW_FILE, help="Write the report to this file as a comment for a pull request.")
@click.option("--inspect", type=NEW_FOLDER, help="Write a log of Inspect AI for each variant into this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the report with all grades as JSON.")
def play_command(**options: Any) -> None:
    """Play every scenario of AGENT as often as its row says, and grade each run. Nothing of a run leaves its world.

    The definition on disk is always played. Options for variants may be repeated: every combination is one more variant.

    \b
    Examples:
      remit eval triage
      remit eval triage --scenario injected-notice --repeats 20
      remit eval triage --model openai:gpt-5 --set temperature=0 --set temperature=1
      remit eval triage --policy ../draft/policies
      remit eval play triage
      remit eval --resume 3f2a9c01d4e5b6f7 --inspect logs
    """
    from remit.evals import play, read_evaluation, record_evaluation
    from remit.workspace import authorize_runs, open_session, principal_of_process

    given = EvalOptions(**options)
    write_logs = None if given.inspect is None else _inspect_writer()
    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    if given.resumed is None:
        evaluation = record_evaluation(opened, given.selection(), by=by)
    elif given.selects:
        raise click.UsageError("--resume allows no AGENT and no option of what is played: they are recorded")
    else:
        evaluation = given.resumed
    baseline = _baseline(opened.root, read_evaluation(opened.journal, evaluation).agent, given)
    try:
        played = asyncio.run(play(opened, evaluation, by=by, parallel=given.parallel, on_grade=_show_grade))
    except KeyboardInterrupt:
        echo(f"\nto continue it: remit eval --resume {evaluation}", err=True)
        raise
    report = _report(opened.root, played, given, baseline)
    if write_logs is not None and given.inspect is not None:
        runs = [grade.run for grade in played.grades if grade.run]
        authorize_runs(opened.policy, opened.journal, runs, by, "remit.read", "export")
        write_logs(opened.journal, played, given.inspect)
    sys.exit(0 if report.verdict == "passed" else 1)


def _inspect_writer() -> Callable[[Journal, Evaluation, Path], list[Path]]:
    """What writes logs of Inspect. Raises UsageError before anything is played, if its package is missing."""
    from remit.core import UsageError

    try:
        from remit.inspect_ai import write_logs
    except ImportError as missing:
        raise UsageError(f"--inspect cannot write logs: {missing}") from missing
    return write_logs


def _baseline(root: Path, agent: str, given: EvalOptions) -> VariantOutcomes | None:
    """What the evaluation is compared with; None: with nothing, or it becomes the new baseline."""
    from remit.evals import baseline_file, read_baseline

    own = baseline_file(root, agent)
    path = given.against or (own if own.is_file() and not given.write_baseline else None)
    return None if path is None else read_baseline(path, file=str(path))


def _report(root: Path, played: Evaluation, given: EvalOptions, baseline: VariantOutcomes | None) -> EvaluationReport:
    """Write and print the reports that are asked for, and the baseline."""
    from remit.evals import baseline_file, write_baseline
    from remit.evals.reports import render_html, render_junit, render_markdown, render_text, report_on

    report = report_on(played, baseline)
    for file, render in ((given.html, render_html), (given.junit, render_junit), (given.markdown, render_markdown)):
        if file is not None:
            file.write_text(render(report), encoding="utf-8")
    if given.write_baseline:
        write_baseline(baseline_file(root, played.agent), played)
    echo(json_text(report.model_dump(mode="json")) if given.as_json else render_text(report))
    return report


def _show_grade(grade: Grade) -> None:
    """One line of progress, on standard error."""
    word = style(f"{grade.outcome:<14}", fg=COLOURS[grade.outcome])
    echo(
        f"{word} {grade.scenario} [{grade.variant}] {grade.repeat + 1}  {grade.seconds:.2f} s  {grade.run[:8]}",
        err=True,
    )


def _settings(text: str) -> dict[str, Json]:
    """`temperature=0,seed=1` as settings by name."""
    from remit.core.parsing import load_json

    found: dict[str, Json] = {}
    for part in text.split(","):
        key, equal, value = part.partition("=")
        if not key or not equal:
            raise click.BadParameter(f"{part!r} is not KEY=VALUE: write temperature=0", param_hint="--set")
        try:
            found[key] = load_json(value)
        except ValueError:
            found[key] = value
    return found
