"""Small pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, with an empty line after it. A column without content is left out; "" without rows."""
    body = [[_cell(cell) for cell in row] for row in rows]
    if not body:
        return ""
    columns = [number for number in range(len(head)) if any(row[number] for row in body)]
    lines = ["| " + " | ".join(row[number] for number in columns) + " |" for row in [list(head), *body]]
    return "\n".join([lines[0], "|" + "---|" * len(columns), *lines[1:]]) + "\n\n"


def code(text: str) -> str:
    """The text as code within a line, also if it has backticks."""
    if not text:
        return ""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    return f"{fence}{text}{fence}" if fence == "`" else f"{fence} {text} {fence}"


def one_of(values: Iterable[str]) -> str:
    """The values as code: `a`, `b`."""
    return ", ".join(code(value) for value in values)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, in one line, without its full stop."""
    line = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[^.])\.(?: |$)", line)[0]


def prose(text: str) -> str:
    """A docstring as paragraphs; names in it that could be read as HTML are escaped."""
    return re.sub(r"<(?=[A-Za-z/])", "&lt;", text.strip()) + "\n\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
