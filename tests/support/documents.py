"""The commands that the documents show."""

from __future__ import annotations

import re
import shlex
from functools import cache

from click.testing import CliRunner

from remit.cli import remit
from support import ROOT

ON_CALL = (ROOT / "traces" / "README.md").read_text()
INCIDENTS = (ROOT / "docs" / "how-to" / "five-incidents.md").read_text()


def commands_of(text: str) -> list[list[str]]:
    lines = [re.split(r"#| [|>] ", line.removeprefix("$ "))[0].strip() for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("remit ") and "…" not in line.split("--reason")[0]]


@cache
def help_of(*words: str) -> str:
    """What `remit WORDS --help` prints."""
    return (
        CliRunner()
        .invoke(remit, [*words, "--help"], prog_name="remit", terminal_width=200, catch_exceptions=False)
        .output
    )
