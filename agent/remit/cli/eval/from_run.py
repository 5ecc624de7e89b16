"""`remit eval from`: lets another model, prompt, policy or tools go on from a step of a recorded run."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, progress, style
from remit.cli.run_argument import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.core import Model
    from remit.core.events import Recorded
    from remit.evals.counterfactual import Candidate, Counterfactual, RecordedRun, WrittenRow
    from remit.tracing import Trace
    from remit.tracing.reports import RunDiff
    from remit.workspace import WorkspaceSession


@click.command("from", short_help="go on from a step of a recorded run with another model, prompt, policy or tools")
@click.argument("run")
@click.option("--step", type=int, required=True, metavar="N", help="The first step that is played again, from 0.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="The model that goes on: script:FILE (its first turn is step N), openai:gpt-5, …; with several, the next one is "
    "asked when one fails. Without it, the recorded turns are repeated while the model reads what it read then.",
)
@click.option(
    "--prompt", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Use the prompt in this file."
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Use the rules of this policy folder or workspace (`.` is today's).",
)
@click.option(
    "--tools",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Use the tools of this workspace (`.` is today's).",
)
@click.option(
    "--write", is_flag=True, help="Write the run as a scenario of its agent, which expects what is played here."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def from_command(**options: Any) -> None:
    """Play RUN again from one of its steps, and compare it with the record. Nothing lands.

    A call gets its recorded answer while everything that it touches is in the recorded version. Other calls run, confined, in a
    copy of the agent's seed. An effect outside of the copy would have landed: its answer is assumed, and the run has no grade.

    Exit codes: 0 the run has an end that rests on nothing assumed, 1 it has not, 2 it cannot be played.

    \b
    Examples:
      remit eval from 3f2a --step 3 --model openai:gpt-5
      remit eval from 3f2a --step 3 --prompt shorter.md
      remit eval from incident.jsonl --step 0 --policy .
      remit eval from 3f2a --step 3 --model script:careful.yaml --write
    """
    from remit.evals.counterfactual import RecordedRun
    from remit.workspace import open_session

    chosen = _Options(**options)
    trace, session = open_run(chosen.run), open_session()
    run = RecordedRun.of(trace)
    candidate = _candidate(session, run, chosen)
    ok = asyncio.run(_play(trace, run, session, candidate, chosen))
    sys.exit(0 if ok else 1)


@dataclass(frozen=True, kw_only=True)
class _Options:
    """The arguments and options of `remit eval from`."""

    run: str
    step: int
    models: tuple[str, ...]
    prompt: Path | None
    policy: Path | None
    tools: Path | None
    write: bool
    as_json: bool

    @property
    def changes(self) -> bool:
        """True if anything is not as recorded."""
        return bool(self.models) or (self.prompt, self.policy, self.tools) != (None, None, None)


def _candidate(session: WorkspaceSession, run: RecordedRun, options: _Options) -> Candidate:
    from remit.cli.replay import policy_in, tools_in
    from remit.core.parsing import read_text
    from remit.evals.counterfactual import Candidate
    from remit.runtime import open_model_of
    from remit.runtime.models import ScriptedModel

    models = [open_model_of(session, run.agent, name) for name in options.models]
    return Candidate(
        definition=run.with_changes(
            prompt=None if options.prompt is None else read_text(options.prompt, file=str(options.prompt)),
            policy=None if options.policy is None else policy_in(options.policy),
            tools=None if options.tools is None else tools_in(options.tools),
        ),
        models=models,
        otherwise=None if models else _recorded_model(session, run, options),
        approvals=[item for model in models if isinstance(model, ScriptedModel) for item in model.approvals],
    )


def _recorded_model(session: WorkspaceSession, run: RecordedRun, options: _Options) -> Model | None:
    """The model of the record, for turns that it does not have; None for a script, and if nothing else is changed."""
    from remit.runtime import open_model_of

    if run.started.scripted or not options.changes:
        return None
    return open_model_of(session, run.agent, run.started.model)


async def _play(
    trace: Trace, run: RecordedRun, session: WorkspaceSession, candidate: Candidate, options: _Options
) -> bool:
    from remit.cli.replay import tools_in
    from remit.core import UsageError
    from remit.evals import World
    from remit.evals.counterfactual import Place, play_from, write_row
    from remit.tracing.reports import build_timeline, diff_runs

    place = Place(
        workspace=session.workspace if options.tools is None else tools_in(options.tools),
        world=World(seed=candidate.definition.workspace.agents[run.agent].seed),
        root=session.root,
    )
    async with play_from(run, options.step, candidate, place, on_event=_progress(options)) as played:
        pass
    diff = diff_runs(build_timeline(trace.records), build_timeline(played.records))
    written = None
    if options.write:
        if played.ungraded:
            raise UsageError(f"no scenario is written, because the run has no grade: {played.ungraded}")
        better = played.records if options.changes else None
        written = write_row(trace, options.step, better, session.root / "agent" / run.agent)
    if options.as_json:
        echo(json_text(_body(played, diff, written)))
    else:
        _show(played, diff, written)
    return not played.ungraded


def _progress(options: _Options) -> Callable[[Recorded], None]:
    """A function that shows on a terminal which step is played: a model takes a while."""
    is_shown = sys.stderr.isatty() and not options.as_json

    def show(recorded: Recorded) -> None:
        if is_shown and recorded.event is not None and recorded.event.step is not None:
            progress(f"step {recorded.event.step}  ")

    return show


def _body(played: Counterfactual, diff: RunDiff, written: WrittenRow | None) -> dict[str, Any]:
    return {
        "ok": not played.ungraded,
        "run": played.run,
        "step": played.step,
        "outcome": None if played.finished is None else played.finished.outcome,
        "answer": None if played.finished is None else played.finished.answer,
        "ungraded": played.ungraded,
        "sources": played.sources.model_dump(),
        "calls": [
            {
                "place": answer.name,
                "action": answer.call.action,
                "resources": [touch.resource for touch in answer.call.touches],
                "source": answer.source,
                "recorded": None if answer.place is None else f"{answer.place[0]}.{answer.place[1]}",
                "why": answer.why,
            }
            for answer in played.answers
        ],
        "differences": [asdict(difference) for difference in diff.differences],
        "written": [] if written is None else [str(written.file), str(written.copy)],
    }


def _show(played: Counterfactual, diff: RunDiff, written: WrittenRow | None) -> None:
    from remit.cli.trace.diff import show_differences

    echo(f"run {played.run[:8]} from step {played.step}")
    for answer in played.answers:
        resources = " ".join(touch.resource for touch in answer.call.touches)
        origin = "" if answer.place is None else f" at {answer.place[0]}.{answer.place[1]}"
        echo(f"  {answer.name}  {style(answer.source + origin, dim=True)}  {answer.call.action} {resources}")
    show_differences(diff)
    counts = played.sources
    echo(f"\nanswers of tools: {counts.recorded} recorded, {counts.rerun} re-run, {counts.assumed} assumed")
    if played.finished is not None:
        echo(f"outcome: {played.finished.outcome}")
    if played.ungraded:
        echo(f"{style('no grade', fg='yellow')}: {played.ungraded}")
    if written is not None:
        echo(f"wrote {written.file}\nwrote {written.copy}")
        if not written.fails_now:
            echo("the recorded run meets every expectation of the scenario: write in `expect` what it must do better")
