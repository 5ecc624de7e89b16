"""All output to the terminal. Recorded text cannot control the terminal, because every hidden character is written out.

Colours are the only control sequences. `style` marks them with a random number that text from outside cannot contain. `echo`
writes out every hidden character, then turns the marks into colours.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import accumulate
from typing import Any, Final

import click

from remit.core.parsing import visible, visible_json

_MARK: Final = f"\0{secrets.token_hex(16)}"
_MARKED = re.compile(f"{_MARK}([0-9;]+)m")
_held: list[str] | None = None  # the output that a pager will show; None: it is printed at once
_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}


def style(text: object, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
    """The text in that colour or weight, for `echo`."""
    codes = [_COLOURS[fg]] if fg else []
    codes += ["1"] * bold + ["2"] * dim
    return f"{_MARK}{';'.join(codes)}m{text}{_MARK}0m" if codes else str(text)


def echo(text: object = "", *, nl: bool = True, err: bool = False) -> None:
    """Print a text, with each hidden character as its number. Colours are omitted where `colour` says so."""
    pieces = _MARKED.split(str(text))  # every second piece is the number of a colour
    written = (f"\033[{piece}m" if at % 2 else visible(piece) for at, piece in enumerate(pieces))
    text = "".join(written)
    if _held is None or err:
        click.echo(text, nl=nl, err=err, color=colour())
    else:
        _held.append(text + "\n" * nl)


@contextmanager
def paged() -> Generator[None]:
    """Show what is printed in this context in a pager, if it goes to a terminal: $PAGER, or `less`, which ends at once for one page."""
    global _held
    if not sys.stdout.isatty():
        yield
        return
    _held = []
    try:
        yield
    finally:
        text, _held = "".join(_held), None
        os.environ.setdefault("LESS", "FRX")  # colours; one page is printed without a prompt, and stays on the screen
        if text:
            click.echo_via_pager(text.removesuffix("\n"), color=colour())  # which adds one


def json_text(value: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """The value as JSON, with hidden characters as JSON escapes, so that a terminal shows the whole text."""
    return visible_json(json.dumps(value, ensure_ascii=False, indent=indent, default=default))


def counted(number: int, what: str) -> str:
    """A number of things: `1 run`, `3 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def fitting(
    blocks: Iterable[Sequence[str]], most: int, *, show_all: bool, whole: bool = False
) -> tuple[list[str], int]:
    """The lines of the blocks that fit into `most` lines, and how many blocks are left out.

    The first line of a block is its title. Titles come before details: a block loses its details before another one is left out.
    With `whole`, a block has all of its lines or is left out.
    """
    every = list(blocks)
    if whole and not show_all:
        ends = accumulate(map(len, every))
        fit = sum(end <= most for end in ends) or 1
        return [line for block in every[:fit] for line in block], max(len(every) - fit, 0)
    shown = every if show_all else every[: max(most, 1)]
    spare = sum(map(len, every)) if show_all else most - len(shown)
    lines: list[str] = []
    for title, *details in shown:
        lines.append(title)
        if len(details) <= spare:
            lines += details
            spare -= len(details)
        else:
            spare = 0
    return lines, len(every) - len(shown)


def progress(text: str) -> None:
    """Print a line on standard error that the next one replaces."""
    click.echo(f"\r{visible(text, but='')}", nl=False, err=True)


def runs_read() -> Callable[[int], None]:
    """Shows how many runs were read: on a terminal, every hundred runs."""

    def show(number: int) -> None:
        if number and number % 100 == 0 and sys.stderr.isatty():
            progress(f"{number} runs read")

    return show


def colour() -> bool | None:
    """None leaves it to click: colour on a terminal, none in a pipe. NO_COLOR (https://no-color.org) means never."""
    return False if os.environ.get("NO_COLOR") else None


def echo_usage(error: click.ClickException) -> None:
    """Print the usage of a command and what was wrong with its arguments."""
    written = StringIO()
    error.show(file=written)
    echo(written.getvalue(), nl=False, err=True)
