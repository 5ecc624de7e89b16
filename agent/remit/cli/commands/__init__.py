"""The command `remit`, and how one command is executed in this process."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final, NoReturn

import click

from remit.cli import COMMANDS
from remit.cli.output import colour, echo, echo_usage, json_text, style
from remit.core import Refusal, RemitError, RunEnded, UsageError, WorkspaceError, near_names

NO: Final = 1
USAGE: Final = 2
# New objects between two collections of garbage. With Python's 700, a tenth of a short command is spent on looking through what it imports.
OBJECTS: Final = 50_000


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


def run_command(args: list[str] | None = None) -> None:
    """Run one command in this process. Every error is printed as one line with its fix, and sets the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # show the number of a character that the terminal cannot print
            stream.reconfigure(errors="backslashreplace")
    gc.set_threshold(OBJECTS, 20, 20)
    atexit.register(gc.freeze)  # Python looks for garbage again when it ends: a sixth of a short command
    # Pydantic would read the metadata of every installed package for plugins, and one could change what a model accepts.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "_REMIT_COMPLETE" in os.environ:
        import_module(
            "remit.cli.completion"
        )  # what a shell speaks must be known before the words of the command are read
    try:
        remit.main(args=args, prog_name="remit", standalone_mode=False, color=colour())
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.Abort:
        interrupted()
    except click.ClickException as error:
        if "--json" in sys.argv:
            echo(_body({"code": None, "message": error.format_message()}))
        else:
            echo_usage(error)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        interrupted()
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


def interrupted() -> NoReturn:
    echo("interrupted; everything recorded so far is kept", err=True)
    sys.exit(130)
