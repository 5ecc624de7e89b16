"""Reads the texts that stand in Python source: what the checks of words, of messages and of the catalogue have in common."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file. CPython 3.11 keeps one depth for all threads (gh-106905), so a parse beside another can fail."""
    for _ in range(3):
        try:
            return ast.parse(path.read_text("utf-8"))
        except SystemError:
            continue
    return ast.parse(path.read_text("utf-8"))


def called_name(node: ast.Call) -> str:
    """The last name of what is called: `Refusal` of `errors.Refusal(…)`; "" if it has none."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be, with `…` for what is filled in; none where all of it is."""
    match node:
        case ast.Constant(value=str(text)) if text.strip():
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*literals(body), *literals(orelse))
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            for first in list(literals(left)) or ["…"]:
                for second in list(literals(right)) or ["…"]:
                    yield first + second
        case _:
            return
