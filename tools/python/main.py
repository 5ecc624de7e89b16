"""Runs Python code from a model. The sandbox limits it to a scratch folder and the decided files; nothing here does."""

import ast
import io
import linecache
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from errno import EACCES, EPERM, EROFS
from types import CodeType, ModuleType, TracebackType

from typing_extensions import TypedDict

NAME = "<code>"
MOST = 10_000  # characters of each text that is returned


class NotPython(Exception):
    """The code does not compile."""


class Ran(TypedDict):
    output: str  # what it printed
    result: str | None  # the value of its last line, if that is an expression
    error: str | None  # the traceback, if it raised
    complete: bool  # False: a text was cut


def run(code: str, files: list[str] | None = None) -> Ran:
    """Run `code` as a script. It can read the files listed in `files`, by these names, and no others. Files that it
    writes are deleted afterwards. There is no network and no other program. Print the results that you need."""
    body, last = _compiled(code)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    printed = _Printed()
    result = error = None
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            exec(body, module.__dict__)
            value = eval(last, module.__dict__) if last else None
            result = None if value is None else repr(value)
        except MemoryError:
            raise
        except BaseException as failure:
            if isinstance(failure, OSError) and failure.errno in (EACCES, EPERM, EROFS):
                raise  # the sandbox refused it: not an error of the code itself
            error = _traceback(failure)
    return {
        "output": _plain(printed.getvalue()),
        "result": result and _plain(result[:MOST]),
        "error": error and _plain(error[-MOST:]),
        "complete": printed.dropped == 0 and all(len(text or "") <= MOST for text in (result, error)),
    }


def _compiled(code: str) -> tuple[CodeType, CodeType | None]:
    """The compiled script, and the expression that it ends with, if any."""
    linecache.cache[NAME] = (len(code), None, code.splitlines(keepends=True), NAME)  # for tracebacks
    try:
        tree = ast.parse(code, NAME)
        final = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        last = compile(ast.Expression(final.value), NAME, "eval") if isinstance(final, ast.Expr) else None
        return compile(tree, NAME, "exec"), last
    except SyntaxError as failure:
        raise NotPython(f"line {failure.lineno}: {failure.msg}") from failure
    except (ValueError, RecursionError) as failure:
        raise NotPython(str(failure)) from failure


class _Printed(io.StringIO):
    """Keeps the first `MOST` characters and counts the rest."""

    dropped = 0

    def write(self, text: str, /) -> int:
        left = MOST - self.tell()
        super().write(text[:left])
        self.dropped += max(0, len(text) - left)
        return len(text)


def _plain(text: str) -> str:
    """The text with escapes for single surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def _traceback(failure: BaseException) -> str | None:
    """The traceback, from the first line of `code` on; None for a successful exit."""
    if isinstance(failure, SystemExit) and failure.code in (None, 0):
        return None
    frames: TracebackType | None = failure.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != NAME:
        frames = frames.tb_next
    return "".join(traceback.format_exception(failure.with_traceback(frames)))
