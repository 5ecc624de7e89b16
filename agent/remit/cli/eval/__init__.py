"""`remit eval`: plays the scenarios of an agent, and says whether it is good enough."""

from __future__ import annotations

import click

from remit.cli.eval.from_run import from_command
from remit.cli.eval.list import list_command
from remit.cli.eval.play import play_command


class _Evaluations(click.Group):
    """A group in which `remit eval AGENT` is `remit eval play AGENT`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [play_command.name or "", *args]
        return super().parse_args(ctx, args)


@click.group("eval", cls=_Evaluations, short_help="evaluate an agent on its scenarios")
def eval_command() -> None:
    """Evaluate an agent on the scenarios in agent/NAME/evals: `remit eval AGENT` is `remit eval play AGENT`.

    \b
    Examples:
      remit eval triage
      remit eval triage --scenario injected-notice --repeats 20
      remit eval triage --model openai:gpt-5 --prompt shorter.md
      remit eval list
      remit eval --resume 3f2a9c01d4e5b6f7
      remit eval from 3f2a --step 3 --model openai:gpt-5
    """


eval_command.add_command(play_command)
eval_command.add_command(from_command)
eval_command.add_command(list_command)
