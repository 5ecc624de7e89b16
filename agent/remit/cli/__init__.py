"""The command line: one module per command, imported when the command is called, so that `--help` is fast.

Exit codes: 0 success; 1 a refusal, a failed run or a failed check; 2 a usage or workspace error; 130 interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final, NoReturn

import click

from remit.cli.local.forwarded import command_of
from remit.cli.output import colour, echo, echo_usage, json_text, style
from remit.core import Refusal, RemitError, RunEnded, UsageError, WorkspaceError, near_names

NO: Final = 1
USAGE: Final = 2
# New objects between two collections of garbage. With Python's 700, a tenth of a short command is spent on looking through what it imports.
OBJECTS: Final = 50_000

# command → its module and its line in the help. The function is `<command>_command`; in a sub-package it is named after
# its module, because other sub-packages have a command of the same name.
COMMANDS: Final = {
    "init": ("workspace", "write a starter workspace: tools, policies, an example agent"),
    "doctor": ("workspace", "test the sandbox on this machine with real escape attempts, or a model"),
    "check": ("check", "check the whole workspace: manifests, code, agents, policies, pins, cases"),
    "run": ("run", "run an agent on a task"),
    "call": ("run", "make one tool call as an agent, with policy and sandbox"),
    "stop": ("hold", "hold a run, an agent, a tool, or everything"),
    "start": ("hold", "lift a hold"),
    "principal": ("access.principal", "disable people and services, and enable them again"),
    "key": ("access.key", "create, list and revoke API keys of services"),
    "settle": ("settle", "record the outcome of a call whose outcome is unknown"),
    "tool": ("tool", "write, try, test and pin tools"),
    "secret": ("secret", "set and list the secrets that tools use"),
    "policy": ("policy", "check, test, explain, compare and replay the rules"),
    "allow": ("policy.allow", "print or write the change that would let a refused call pass"),
    "attack": ("policy.attack", "try what an untrusted text could make an agent do"),
    "approve": ("approve", "list, show and answer requests for approval"),
    "trace": ("trace", "read, compare, shrink, verify and export recorded runs"),
    "journal": ("journal", "check the journal's projections, and compute them again"),
    "drift": ("monitoring.drift", "say which measures of an agent changed, and what fits the change"),
    "targets": ("monitoring.targets", "compare times and costs of runs with their targets"),
    "alert": ("monitoring.alert", "list and close alerts of drift and of targets"),
    "report": ("monitoring.report", "what an observed agent did, and which rules it lacks"),
    "serve": ("service.serve", "answer requests of programs and people over HTTP"),
    "metrics": ("monitoring.metrics", "the state of the workspace as metrics, for alerts"),
    "notify": ("monitoring.notify", "notify people of what waits for them: chat, mail, webhook"),
    "audit": ("monitoring.audit", "send decisions, approvals and acts of operators as audit records"),
    "replay": ("replay", "replay a recorded run without effects"),
    "eval": ("eval", "evaluate an agent on its scenarios"),
    "search": ("search", "search and ingest collections of documents"),
    "prices": ("prices", "write the prices of models, from which money is counted"),
    "rollout": ("rollout", "let a change of an agent take effect step by step, and take it back"),
    "diff": ("policy.permission_diff", "show what agents may do now that they could not do at a git revision"),
}


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        name = module.rpartition(".")[2] if "." in module else cmd_name
        command: click.Command = getattr(import_module(f"remit.cli.{module}"), f"{name}_command")
        if "_REMIT_COMPLETE" in os.environ:
            with_completion: Callable[[click.Command], click.Command] = import_module(
                "remit.cli.completion"
            ).with_completion
            return with_completion(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and (near := near_names(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="remit", prog_name="remit")
def remit() -> None:
    """Remit: a policy broker and sandbox for the tool calls of AI agents.

    \b
    Examples:
      remit init my-agents && cd my-agents
      remit run triage "Checkout is failing: find out why"
      remit call files.read '{"path": "runbooks/payments-pool.md"}' --agent triage
      remit trace show RUN
      remit replay RUN
    """


def main(args: list[str] | None = None) -> None:
    """Run one command: by a service of this workspace on this machine, or in this process. Sets the exit code."""
    words = sys.argv[1:] if args is None else args
    if command_of(words):
        from remit.cli.local.asking import answered_by_service

        try:
            code = answered_by_service(words)
        except KeyboardInterrupt:
            _interrupted()
        if code is not None:
            sys.exit(code)
    run_command(args)


def run_command(args: list[str] | None = None) -> None:
    """Run one command in this process. Every error is printed as one line with its fix, and sets the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # show the number of a character that the terminal cannot print
            stream.reconfigure(errors="backslashreplace")
    gc.set_threshold(OBJECTS, 20, 20)
    # Pydantic would read the metadata of every installed package for plugins, and one could change what a model accepts.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        remit.main(args=args, prog_name="remit", standalone_mode=False, color=colour())
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        _interrupted()
    except click.ClickException as error:
        if "--json" in sys.argv:
            echo(_body({"code": None, "message": error.format_message()}))
        else:
            echo_usage(error)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        _interrupted()
    except BrokenPipeError:
        # The reader of our output has closed the pipe (`| head`). The flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NO)
    except RemitError as error:
        print_error(error)
        sys.exit(NO if isinstance(error, Refusal | RunEnded) else USAGE)
    except Exception as error:  # the outermost handler: a user sees one line, a developer the traceback
        if os.environ.get("REMIT_DEBUG"):
            raise
        if (
            isinstance(error, OSError) and error.filename is not None
        ):  # not a defect of Remit: the operating system refused
            fix = "give this account read and write permission, or name another path"
            print_error(UsageError(f"{str(error.filename)!r}: {error.strerror}\n    fix: {fix}"))
            sys.exit(USAGE)
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        echo(
            f"internal error: {what}\n    fix: run the command again with REMIT_DEBUG=1, and report its output",
            err=True,
        )
        sys.exit(USAGE)


def print_error(error: RemitError) -> None:
    """Print one error: as text on standard error or, with `--json`, as JSON on standard output."""
    if "--json" in sys.argv:
        echo(_as_json(error))
        return
    if isinstance(error, WorkspaceError):
        for problem in error.problems:
            echo(f"{style('error', fg='red')}: {problem}", err=True)
    else:
        echo(f"{style('error', fg='red')}: {error}", err=True)
        if isinstance(error, Refusal) and error.next_step:
            echo(f"    {error.next_step}", err=True)


def _as_json(error: RemitError) -> str:
    body: dict[str, Any] = {"code": None, "message": str(error)}
    if isinstance(error, WorkspaceError):
        body["problems"] = [vars(problem) for problem in error.problems]
    if isinstance(error, Refusal):
        body.update(details=dict(error.details), next_step=error.next_step, retryable=error.retryable)
    if isinstance(error, Refusal | RunEnded):
        body.update(code=error.code, message=error.message)
    if isinstance(error, RunEnded):
        body["fix"] = error.fix
    return _body(body, run=error.run if isinstance(error, RunEnded) else None)


def _body(error: dict[str, Any], run: str | None = None) -> str:
    return json_text({"ok": False, **({"run": run} if run else {}), "error": error})


def _interrupted() -> NoReturn:
    echo("interrupted; everything recorded so far is kept", err=True)
    sys.exit(130)
