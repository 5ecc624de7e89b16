"""`remit run` and `remit call`: run an agent, or make one call."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, style

LINE = 240  # characters; a longer value is printed on several lines
PRINTED = 3  # lines of what a failed tool wrote

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remit.cli.live_output import LiveOutput
    from remit.client import CallResult
    from remit.core import Scope
    from remit.runtime import RunResult
    from remit.workspace import WorkspaceSession


@click.command("run", short_help="run an agent on a task")
@click.argument("agent", required=False)
@click.argument("task", required=False)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Use another model than the agent's own: script:FILE, openai:gpt-5, anthropic:…, ollama:…; "
    "with several, the next one is asked when one fails.",
)
@click.option("--user", help="Act for another user, if the rules allow you the action remit.impersonate.")
@click.option("--scope", metavar="FILE", help="A TOML file of actions and resources: the run may use only these.")
@click.option("--resume", "resumed", metavar="RUN", help="Resume a run where its last process stopped.")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="With --resume: go on with the agent and the tools on disk, not with those that the run had. The record names what changed.",
)
@click.option(
    "--run-id", metavar="HEX", help="Set the run id (32 hex digits). A second run with the same id is refused."
)
@click.option(
    "--wait",
    type=float,
    metavar="SECONDS",
    help="How long to wait for approvals. Default: an hour on a terminal, else 0.",
)
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON Lines; the last line is the outcome.")
def run_command(**options: Any) -> None:
    """Run AGENT on TASK. Every event is printed, recorded, and can be replayed.

    \b
    Examples:
      remit run triage "Checkout is failing: find out why and write the report"
      remit run triage "…" --model openai:gpt-5
      remit run triage "…" --scope read-only.toml
      remit run --resume 3f2a
      remit run --resume 3f2a --accept-changes
    """
    from remit.cli.live_output import LiveOutput
    from remit.workspace import open_session

    run_options = RunOptions(**options)
    opened = open_session()
    output = LiveOutput(as_json=run_options.as_json)
    if run_options.resumed is not None:
        work = _resume(opened, run_options.resumed, run_options, output)
    else:
        work = _start(opened, run_options, output)
    try:
        result = asyncio.run(work)
    except KeyboardInterrupt:
        if output.run:
            echo(f"\nto continue it: remit run --resume {output.run[:8]}", err=True)
        raise
    output.end(result)
    sys.exit(0 if result.finished is not None and result.finished.outcome == "completed" else 1)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The arguments and options of `remit run`."""

    agent: str | None
    task: str | None
    models: tuple[str, ...]
    user: str | None
    scope: str | None
    resumed: str | None
    accept_changes: bool
    run_id: str | None
    wait: float | None
    as_json: bool

    @property
    def waits(self) -> float:
        """Seconds to wait for approvals: the option --wait; without it, an hour on a terminal and 0 elsewhere."""
        if self.wait is not None:
            return self.wait
        return 3600.0 if sys.stdin.isatty() and sys.stdout.isatty() else 0.0


def _resume(
    opened: WorkspaceSession, name: str, options: RunOptions, output: LiveOutput
) -> Coroutine[Any, Any, RunResult]:
    from remit.journal import resolve_run
    from remit.runtime import Continuation, resume_run
    from remit.workspace import principal_of_process

    if options.models or any(value is not None for value in (options.agent, options.user, options.scope)):
        raise click.UsageError("--resume allows no AGENT, TASK, --model, --user or --scope: they are in the record")
    return resume_run(
        opened,
        resolve_run(opened.journal, name),
        by=principal_of_process(opened.workspace.settings),
        wait=options.waits,
        on_event=output.on_event,
        progress=print_progress,
        goes_on=Continuation(accept_changes=options.accept_changes),
    )


def _start(opened: WorkspaceSession, options: RunOptions, output: LiveOutput) -> Coroutine[Any, Any, RunResult]:
    from remit.runtime import RunRequest, acting_subject, open_fallbacks_of, open_model_of, start_run
    from remit.workspace import principal_of_process

    if options.agent is None or options.task is None:
        raise click.UsageError('name an agent and a task, as in: remit run triage "Checkout is failing"')
    if options.accept_changes:
        raise click.UsageError("--accept-changes is for a run that goes on: name it with --resume")
    by = principal_of_process(opened.workspace.settings)
    first, *others = options.models or (None,)
    request = RunRequest(
        agent=options.agent,
        task=options.task,
        subject=acting_subject(opened, by, options.user),
        by=by,
        model=open_model_of(opened, options.agent, first),
        fallbacks=[open_model_of(opened, options.agent, name) for name in others]
        if options.models
        else open_fallbacks_of(opened, options.agent),
        run=_checked_id(options.run_id),
        scope=None if options.scope is None else scope_of(options.scope),
    )
    return start_run(opened, request, wait=options.waits, on_event=output.on_event, progress=print_progress)


@click.command("call", short_help="make one tool call as an agent")
@click.argument("action")
@click.argument("arguments")
@click.option("--agent", required=True, help="The agent that makes the call.")
@click.option("--user", help="Act for another user, if the rules allow you the action remit.impersonate.")
@click.option("--dry-run", is_flag=True, help="Only decide: nothing runs and nothing is recorded.")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="How long to wait for approvals. Default: 0.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def call_command(
    action: str, arguments: str, agent: str, user: str | None, dry_run: bool, wait: float, as_json: bool
) -> None:
    """Call ACTION with ARGUMENTS (a JSON object). The call is decided, confined and recorded like a call of the agent.

    \b
    Examples:
      remit call files.read '{"path": "runbooks/payments-pool.md"}' --agent triage
      remit call files.read '{"path": "secrets/payments.env"}' --agent triage
      remit call tickets.close '{"key": "INC-2041", "reason": "fixed"}' --agent triage --dry-run
    """
    from remit.client import call_result
    from remit.runtime import OneCall, RunRequest, acting_subject, decide_call, start_run
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    subject = acting_subject(opened, by, user)
    if dry_run:
        decided = asyncio.run(decide_call(opened, agent, action, arguments, subject=subject))
        _show_decision(decided, as_json)
        return
    request = RunRequest(
        agent=agent,
        task=f"remit call {action}",
        subject=subject,
        by=by,
        model=OneCall(action, arguments),
    )
    ran = asyncio.run(start_run(opened, request, wait=wait, progress=print_progress))
    _show_result(opened, call_result(ran), agent, as_json)


def print_progress(line: str) -> None:
    """Print what a slow step is doing, on standard error."""
    echo(style(line, dim=True), err=True)


def _show_result(opened: WorkspaceSession, called: CallResult, agent: str, as_json: bool) -> None:
    body = {**called.result.model_dump(mode="json"), "run": called.run, "trace": str(called.trace)}
    if not body["ok"]:
        _show_refusal(opened, body, agent, as_json)
    elif as_json:
        echo(json_text(body))
    else:
        value = body["value"]
        line = value if isinstance(value, str) else json_text(value)
        echo(line if len(line) <= LINE or isinstance(value, str) else json_text(value, indent=2))
    sys.exit(0 if body["ok"] else 1)


def _show_refusal(opened: WorkspaceSession, body: dict[str, Any], agent: str, as_json: bool) -> None:
    """Print why a call failed, and the change that would allow it. What finds that change is loaded here only."""
    from remit.cli.policy.allow import allowing, show_allowing
    from remit.core import expected

    error = body["error"]
    allow = allowing(opened, body["run"], 0, 0, error["code"])
    if as_json:
        echo(json_text(body if allow is None else {**body, "allow": allow}))
        return
    echo(f"{style(error['code'], fg='red')}: {error['message']}")
    for line in filter(None, (expected(error["details"]), error.get("next_step"))):
        echo(f"  {line}")
    for line in _printed(opened, body["run"], error["message"]):
        echo(f"  printed: {line}")
    known = opened.workspace.agent(agent)
    if error["message"].startswith("FileNotFoundError") and known.seed is None and "{run}" in known.folder:
        echo(
            f"  each run of {agent} begins with an empty folder: name a folder of yours as seed in agent/{agent}/agent.toml"
        )
    echo(f"  trace: remit trace show {body['run'][:8]}")
    if allow is not None:
        show_allowing(allow)


def _printed(opened: WorkspaceSession, run: str, message: str) -> list[str]:
    """The last lines that the tool wrote to its standard error; none if the message of the failure says them already."""
    from remit.core.events import AttemptEnded

    texts = [item.event.stderr for item in opened.journal.events(run) if isinstance(item.event, AttemptEnded)]
    lines = [line.strip()[:LINE] for line in texts[-1].splitlines() if line.strip()][-PRINTED:] if texts else []
    return [] if lines and lines[-1] in message else lines


def _show_decision(decided: Any, as_json: bool) -> None:
    if as_json:
        echo(json_text({"dry_run": True, **decided.model_dump(mode="json")}))
    elif decided.refusal is not None:
        echo(f"{style(decided.refusal.error.code, fg='red')}: {decided.refusal.error.message}")
    else:
        decision = decided.decision
        colour = {"allow": "green", "ask": "yellow", "deny": "red"}[decision.verdict]
        echo(f"{style(decision.verdict, fg=colour)}: {decision.message}")
        for rule in decision.rules or decision.nearest:
            echo(f"  {rule.file}:{rule.line}  {rule.note or rule.text}")
        for touch in decided.call.touches:
            echo(f"  touches {touch.access} {touch.resource}")
    allowed = decided.decision is not None and decided.decision.verdict == "allow"
    sys.exit(0 if allowed else 1)


def scope_of(name: str) -> Scope:
    """The scope of a file that a person names."""
    from remit.core.parsing import read_text
    from remit.policy import read_scope

    return read_scope(read_text(Path(name), file=name), file=name)


def _checked_id(run_id: str | None) -> str | None:
    if run_id is not None and (len(run_id) != 32 or set(run_id) - set("0123456789abcdef") or set(run_id) == {"0"}):
        raise click.BadParameter("a run id has 32 lower-case hex digits, not all 0", param_hint="--run-id")
    return run_id
