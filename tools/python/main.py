"""Runs Python that a model wrote. Nothing here holds it back: the sandbox does, which gives it scratch and the decided files."""

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
MOST = 10_000  # characters of each text that comes back


class NotPython(Exception):
    """The code does not compile."""


class Ran(TypedDict):
    output: str  # what it printed
    result: str | None  # the value of its last line, where that is an expression
    error: str | None  # the traceback, where it raised
    complete: bool  # False: a text was longer than what is here


def run(code: str, files: list[str] | None = None) -> Ran:
    """Run `code` as a script. Only the files named in `files` can be opened, under those names, and only read; what it
    writes elsewhere is gone afterwards. There is no network and no other program. Print what you want to know."""
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
                raise  # not the code's own failure: the sandbox refused it
            error = _told(failure)
    return {
        "output": _plain(printed.getvalue()),
        "result": result and _plain(result[:MOST]),
        "error": error and _plain(error[-MOST:]),
        "complete": printed.dropped == 0 and all(len(text or "") <= MOST for text in (result, error)),
    }


def _compiled(code: str) -> tuple[CodeType, CodeType | None]:
    """The script, and apart from it the expression that it ends with."""
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
    """Keeps the first `MOST` characters and counts the others."""

    dropped = 0

    def write(self, text: str, /) -> int:
        room = MOST - self.tell()
        super().write(text[:room])
        self.dropped += max(0, len(text) - room)
        return len(text)


def _plain(text: str) -> str:
    """Half of a surrogate pair is no text that JSON can say."""
    return text.encode("utf-8", "backslashreplace").decode()


def _told(failure: BaseException) -> str | None:
    """The traceback from the code's own first line on; None where it only says that it is done."""
    if isinstance(failure, SystemExit) and failure.code in (None, 0):
        return None
    frames: TracebackType | None = failure.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != NAME:
        frames = frames.tb_next
    return "".join(traceback.format_exception(failure.with_traceback(frames)))
