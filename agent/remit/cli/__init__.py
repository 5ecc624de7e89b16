"""The command line. Each command lives in a module of its own, imported when it is called, so that `--help` is quick.

Exit codes: 0 done, 1 the answer is no, 2 usage or workspace error.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final

import click

from remit.cli.output import colour, echo, echo_usage, json_text, style
from remit.core import Refusal, RemitError, RunEnded, UsageError, WorkspaceError

NO: Final = 1
USAGE: Final = 2

# command → its module and its line in the help. The function is `<command>_command`; in a sub-package it is named after
# its module, because other sub-packages have a command of the same name.
COMMANDS: Final = {
    "init": ("workspace", "write a workspace: tools, policies, an example agent"),
    "doctor": ("workspace", "try the break-outs on this machine, and name the fix where one is missing"),
    "check": ("workspace", "check every room: manifests, agents, policies, pins, cases"),
    "run": ("run", "run an agent on a task"),
    "call": ("run", "make one call as an agent would, through every stage"),
    "stop": ("hold", "hold a run, an agent, a tool, or everything"),
    "start": ("hold", "lift a hold"),
    "settle": ("settle", "say what came of an effect whose end nobody saw"),
    "tool": ("tool", "write, try, test and pin tools"),
    "secret": ("secret", "set and list the secrets of tools"),
    "policy": ("policy", "check, test, explain, compare and replay the rules"),
    "approve": ("approve", "see and answer what waits for a person"),
    "trace": ("trace", "read, compare, shrink, verify and export what runs did"),
    "replay": ("replay", "run a recorded run again, without effects"),
    "diff": (
        "policy.permission_diff",
        "what agents may do now that they could not do at a git revision",
    ),
}


class Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        name = module.rpartition(".")[2] if "." in module else cmd_name
        command: click.Command = getattr(import_module(f"remit.cli.{module}"), f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="remit", prog_name="remit")
def remit() -> None:
    """Remit: where an AI agent's tool calls become real.

    \b
    Examples:
      remit init my-agents && cd my-agents
      remit run triage "Checkout is failing: find out why"
      remit call files.read '{"path": "runbooks/payments-pool.md"}' --agent triage
      remit trace show RUN
      remit replay RUN
    """


def main(args: list[str] | None = None) -> None:
    """Run one command; every error ends as one clear line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a character shows its number, over ssh too
            stream.reconfigure(errors="backslashreplace")
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
        # The reader of our output went away (`| head`): nothing to tell it, and the flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NO)
    except RemitError as error:
        say_error(error)
        sys.exit(NO if isinstance(error, Refusal | RunEnded) else USAGE)
    except Exception as error:  # the door: a defect of Remit is one line for the user, and whole for whoever mends it
        if os.environ.get("REMIT_DEBUG"):
            raise
        if isinstance(error, OSError) and error.filename is not None:  # no defect: the machine says no
            fix = "make it a place that this account may read and write, or name another"
            say_error(UsageError(f"{str(error.filename)!r}: {error.strerror}\n    fix: {fix}"))
            sys.exit(USAGE)
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        echo(f"internal error: {what}\n    fix: run it again with REMIT_DEBUG=1 and report what it prints", err=True)
        sys.exit(USAGE)


def say_error(error: RemitError) -> None:
    """One error on standard error, as a person reads it; with `--json`, as a program does."""
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


def _interrupted() -> None:
    echo("interrupted; nothing recorded is lost", err=True)
    sys.exit(130)
