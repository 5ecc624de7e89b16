"""The type of command-line texts that are recorded: reasons and notes, made valid, readable and free of secrets."""

from __future__ import annotations

import os
from typing import Final

import click


class TextArgument(click.ParamType[str]):
    """A text that is recorded. Invalid bytes and hidden characters are written as numbers, and secrets are replaced."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from remit.guardrails import Redactor, Sanitizer, is_secret_name

        secrets = [secret for name, secret in os.environ.items() if is_secret_name(name)]
        return Sanitizer(Redactor("", secrets)).text(str(value))


TEXT: Final = TextArgument()
