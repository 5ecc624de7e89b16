"""What a person says on a command line and what is recorded of it: valid, legible and without secrets, whatever terminal sent it."""

from __future__ import annotations

import os
from typing import Final

import click


class TextArgument(click.ParamType[str]):
    """A text for the record. Bytes that are no text and hidden characters are written out, and secrets replaced."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from remit.guardrails import Redactor, Sanitizer, is_secret_name

        secrets = [secret for name, secret in os.environ.items() if is_secret_name(name)]
        return Sanitizer(Redactor("", secrets)).text(str(value))


WORDS: Final = TextArgument()
