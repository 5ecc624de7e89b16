"""`remit run` and `remit call`: an agent at work, told as it happens."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, style

LINE = 240  # characters of a value that still read well on one line

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from remit.cli.live_output import LiveOutput
    from remit.core import Scope
    from remit.runtime import RunResult
    from remit.workspace import WorkspaceSession


@click.command("run", short_help="run an agent on a task")
@click.argument("agent", required=False)
@click.argument("task", required=False)
@click.option("--model", help="Another model than the agent's own: script:FILE, openai:gpt-5, anthropic:…, ollama:…")
@click.option("--user", help="Act for another user; policy decides whether you may (action remit.impersonate).")
@click.option(
    "--scope", metavar="FILE", help="Let this run do less than its agent may: a TOML file of actions and resources."
)
@click.option("--resume", "resumed", metavar="RUN", help="Take up a run where its last process left it.")
@click.option(
    "--run-id", metavar="HEX", help="Name the run yourself (32 hex digits), so that starting it twice is refused."
)
@click.option("--wait", type=float, metavar="SECONDS", help="How long to wait for approvals; on a terminal, an hour.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON Lines, the outcome last.")
def run_command(**options: Any) -> None:
    """Run AGENT on TASK. What happens is shown as it happens, recorded, and can be replayed.

    \b
    Examples:
      remit run triage "Checkout is failing: find out why and write the report"
      remit run triage "…" --model openai:gpt-5
      remit run triage "…" --scope read-only.toml
      remit run --resume 3f2a
    """
    from remit.cli.live_output import LiveOutput
    from remit.workspace import open_session

    asked = RunOptions(**options)
    opened = open_session()
    teller = LiveOutput(as_json=asked.as_json)
    if asked.resumed is not None:
        work = _resumed(opened, asked.resumed, asked, teller)
    else:
        work = _started(opened, asked, teller)
    try:
        ended = asyncio.run(work)
    except KeyboardInterrupt:
        if teller.run:
            echo(f"\ngoes on with: remit run --resume {teller.run[:8]}", err=True)
        raise
    teller.end(ended)
    sys.exit(0 if ended.finished is not None and ended.finished.outcome == "completed" else 1)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The arguments and options of `remit run`, each under its own name."""

    agent: str | None
    task: str | None
    model: str | None
    user: str | None
    scope: str | None
    resumed: str | None
    run_id: str | None
    wait: float | None
    as_json: bool

    @property
    def waits(self) -> float:
        """Seconds to wait for approvals: those that were asked for, or an hour where a person sits at a terminal."""
        if self.wait is not None:
            return self.wait
        return 3600.0 if sys.stdin.isatty() and sys.stdout.isatty() else 0.0


def _resumed(
    opened: WorkspaceSession, name: str, asked: RunOptions, teller: LiveOutput
) -> Coroutine[Any, Any, RunResult]:
    from remit.runtime import resume_run
    from remit.workspace import os_account

    if any(one is not None for one in (asked.agent, asked.model, asked.user, asked.scope)):
        raise click.UsageError("--resume goes with no agent, task, model, user or scope: the run knows them")
    return resume_run(
        opened,
        opened.journal.resolve_run(name),
        account=os_account(),
        wait=asked.waits,
        tell=teller.tell,
        progress=progress,
    )


def _started(opened: WorkspaceSession, asked: RunOptions, teller: LiveOutput) -> Coroutine[Any, Any, RunResult]:
    from remit.runtime import RunRequest, acting_subject, open_model_of, start_run
    from remit.workspace import os_account

    if asked.agent is None or asked.task is None:
        raise click.UsageError('say which agent and what to do: remit run triage "Checkout is failing"')
    beginning = RunRequest(
        agent=asked.agent,
        task=asked.task,
        subject=acting_subject(opened, asked.user),
        account=os_account(),
        model=open_model_of(opened, asked.agent, asked.model),
        run=_checked(asked.run_id),
        scope=None if asked.scope is None else _scope(asked.scope),
    )
    return start_run(opened, beginning, wait=asked.waits, tell=teller.tell, progress=progress)


@click.command("call", short_help="make one call as an agent would")
@click.argument("action")
@click.argument("arguments")
@click.option("--agent", required=True, help="The agent that makes the call.")
@click.option("--user", help="Act for another user; policy decides whether you may (action remit.impersonate).")
@click.option("--dry-run", is_flag=True, help="Decide only: nothing runs and nothing is recorded.")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="How long to wait for approvals.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def call_command(
    action: str, arguments: str, agent: str, user: str | None, dry_run: bool, wait: float, as_json: bool
) -> None:
    """Make one call of ACTION with ARGUMENTS (a JSON object), decided, confined and recorded as an agent's would be.

    \b
    Examples:
      remit call files.read '{"path": "runbooks/payments-pool.md"}' --agent triage
      remit call files.read '{"path": "secrets/payments.env"}' --agent triage
      remit call tickets.close '{"key": "INC-2041", "reason": "fixed"}' --agent triage --dry-run
    """
    from remit.runtime import OneCall, RunRequest, acting_subject, decide_call, start_run
    from remit.workspace import open_session, os_account

    opened = open_session()
    if dry_run:
        _show_decision(decide_call(opened, agent, action, arguments, subject=acting_subject(opened, user)), as_json)
        return
    beginning = RunRequest(
        agent=agent,
        task=f"remit call {action}",
        subject=acting_subject(opened, user),
        account=os_account(),
        model=OneCall(action, arguments),
    )
    _show_result(asyncio.run(start_run(opened, beginning, wait=wait, progress=progress)), as_json)


def progress(line: str) -> None:
    """What takes long, for whoever waits."""
    echo(style(line, dim=True), err=True)


def _show_result(ended: RunResult, as_json: bool) -> None:
    if ended.first is None:
        requested = ended.waiting[0] if ended.waiting else None
        waits = {
            "code": "approval_required",
            "message": f"waits for {', '.join(item.role for item in requested.missing) if requested else 'somebody'}",
            "remedy": f"remit approve show {ended.run[:8]}",
        }
        held = {
            "code": "held",
            "message": ended.held,
            "remedy": f"remit start, then remit run --resume {ended.run[:8]}",
        }
        finished = ended.finished
        failed = {"code": finished.code or "cancelled", "message": finished.message} if finished else {}
        body: dict[str, Any] = {"ok": False, "error": failed or (held if ended.held else waits)}
    else:
        body = ended.first.model_dump(mode="json")
    if as_json:
        echo(json_text({**body, "run": ended.run, "trace": str(ended.trace)}))
    elif body["ok"]:
        value = body["value"]
        line = value if isinstance(value, str) else json_text(value)
        echo(line if len(line) <= LINE or isinstance(value, str) else json_text(value, indent=2))
    else:
        error = body["error"]
        echo(f"{style(error['code'], fg='red')}: {error['message']}")
        if error.get("remedy"):
            echo(f"  {error['remedy']}")
        echo(f"  trace: remit trace show {ended.run[:8]}")
    sys.exit(0 if body["ok"] else 1)


def _show_decision(decided: Any, as_json: bool) -> None:
    if as_json:
        echo(json_text({"dry_run": True, **decided.model_dump(mode="json")}))
    elif decided.refused is not None:
        echo(f"{style(decided.refused.error.code, fg='red')}: {decided.refused.error.message}")
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


def _scope(name: str) -> Scope:
    from remit.core.parsing import read_text
    from remit.policy import read_scope

    return read_scope(read_text(Path(name), file=name), file=name)


def _checked(run_id: str | None) -> str | None:
    if run_id is not None and (len(run_id) != 32 or set(run_id) - set("0123456789abcdef") or set(run_id) == {"0"}):
        raise click.BadParameter("a run id is 32 lower-case hex digits, not all 0", param_hint="--run-id")
    return run_id
