"""Readers with bounds, for every text from outside: files of people, rows of a journal, arguments of a command line.

The size, the nesting, the digits of a number and the parts of a key are checked before a parser reads the text, so that
reading takes time in proportion to it. Every error of a parser becomes a `Problem` with its file and, if known, its line.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final, NoReturn, TypeGuard

from remit.core.calls import Json
from remit.core.errors import Problem, WorkspaceError
from remit.core.meant import toml_fix

LARGEST_FILE: Final = 4 << 20  # bytes of one file that people write
LARGEST_LINE: Final = 64 << 20  # bytes of one line of a trace: the largest file of a policy bundle, in base64
DEEPEST_FILE: Final = 64  # lists and tables inside each other
MOST_DIGITS: Final = 400  # of one number; Python's conversion takes quadratic time
MOST_KEY_PARTS: Final = 32  # of a dotted key; tomllib takes quadratic time
MOST_VALUES: Final = 200_000  # of one YAML file, each alias counted as often as it is used
LARGEST_COUNT: Final = 2**64 - 1  # times and sizes in records: OTLP has 64 bits

# What a parser may raise for a text that its author did not expect.
BROKEN: Final = (
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    AssertionError,
)

_TOML = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+|[A-Za-z0-9_+-]++|[\[\]{}.=,\n]",
    re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?(?:0[xob])?[0-9a-fA-F_]+")
_AT = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_BRACKETS: Final = 32
_YAML_RUN = re.compile(r"(?:[-?][ ]++){16}")


def read_file(path: Path, *, file: str, most: int = LARGEST_FILE) -> bytes:
    """The bytes of one regular file. Raises WorkspaceError if there is none, or if it has more than `most` bytes."""
    try:
        # Not blocking, and regular files only: a pipe would wait for a writer, and a device has no end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                _raise_problem(file, None, "it is not a regular file", "replace it by a file")
            data = opened.read(most + 1)
    except (OSError, ValueError) as failure:  # ValueError: a null byte in the name
        cause = failure.strerror if isinstance(failure, OSError) and failure.strerror else "no such name"
        fix = "write the file, or give your account permission to read it"
        _raise_problem(file, None, f"it cannot be read: {cause}", fix, failure)
    _check_size(len(data), file, most)
    return data


def read_text(path: Path, *, file: str, most: int = LARGEST_FILE) -> str:
    """The text of one regular file. Raises WorkspaceError as `read_file` does, and if it is not UTF-8."""
    return text_of(read_file(path, file=file, most=most), file=file)


def text_of(data: bytes, *, file: str) -> str:
    """The bytes as text. Raises WorkspaceError if they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        _raise_problem(file, line, "the text is not UTF-8", "save the file as UTF-8", failure)


def load_toml(text: str, *, file: str) -> dict[str, Json]:
    """The document of a TOML text. Raises WorkspaceError if the text is not valid or exceeds a bound."""
    _check_size(len(text), file, LARGEST_FILE)
    _check_toml(text, file)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        message = str(failure)
        at = _AT.search(message)
        line = int(at[1]) if at and at[1] else text.count("\n") + 1
        what = _AT.sub("", message)
        fix = toml_fix(text.split("\n")[line - 1], message)
        _raise_problem(file, line, f"not valid TOML: {what[:1].lower()}{what[1:]}", fix, failure)
    except BROKEN as failure:
        _raise_problem(
            file, None, f"TOML that cannot be read: {_reason(failure)}", "write plain tables and values", failure
        )


def load_yaml(text: str, *, file: str) -> Any:
    """The document of a YAML text, as ruamel's own types with their lines. Raises WorkspaceError as `load_toml` does."""
    # Imported here: it takes 60 ms, and a process that only decides calls never needs it.
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    _check_size(len(text), file, LARGEST_FILE)
    try:
        if _may_be_deep(text):
            _check_yaml(YAML(typ="rt", pure=True), text, file)
        yaml: Any = YAML(typ="rt", pure=True)
        document: Any = yaml.load(text)
    except YAMLError as error:
        fault: Any = error
        mark = getattr(fault, "problem_mark", None) or getattr(fault, "context_mark", None)
        what = " ".join(str(getattr(fault, "problem", None) or error).split())[:200]
        line = None if mark is None else int(mark.line) + 1
        _raise_problem(file, line, f"not valid YAML: {what}", "correct the syntax of this line", error)
    except BROKEN as failure:
        _raise_problem(
            file,
            None,
            f"YAML that cannot be read: {_reason(failure)}",
            "write plain texts, numbers and lists",
            failure,
        )
    if "*" in text:
        _check_aliases(document, file)
    return document


def load_json(text: str | bytes) -> Json:
    """The value of a JSON text of any size. For the arguments of calls there is the stricter `parse_json`.

    Raises ValueError, and nothing else, for a text that is not valid, NaN, half characters, and too many digits or levels.
    """
    try:
        value = json.loads(text, parse_constant=_constant)
    except (RecursionError, MemoryError) as failure:
        raise ValueError("it is nested too deeply, or too large") from failure
    half = _SURROGATE_ESCAPE.search(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    if half and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("a text has half a character (an unpaired surrogate)")
    return value


def count_of(value: object) -> int:
    """A time or a size of a record: a whole number of at most 64 bits. Raises ValueError for anything else."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        value = int(value)  # 64-bit integers of OTLP are written as texts
    if type(value) is int and 0 <= value <= LARGEST_COUNT:
        return value
    raise ValueError("a time or number is not a whole number of 64 bits")


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_mapping(value: Any) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _check_size(size: int, file: str, most: int) -> None:
    if size > most:
        _raise_problem(file, None, f"it is larger than {most >> 20} MiB", "shorten it, or split it")


def _check_toml(text: str, file: str) -> None:
    depth = parts = 0
    for token in _TOML.finditer(text):
        part = token.group()
        if part in "[{":
            depth, parts = depth + 1, 0
        elif part in "]}":
            depth, parts = max(0, depth - 1), 0
        elif part == ".":
            parts += 1
        elif part in "=,\n":
            parts = 0
        what = fix = ""
        if depth > DEEPEST_FILE:
            what, fix = f"lists and tables are nested deeper than {DEEPEST_FILE}", "use fewer levels"
        elif parts >= MOST_KEY_PARTS:
            what, fix = f"a key has more than {MOST_KEY_PARTS} parts", "write a shorter key"
        elif len(part) > MOST_DIGITS and _NUMBER.fullmatch(part):
            what, fix = f"a number has more than {MOST_DIGITS} digits", "shorten it, or write it as a text in quotes"
        if what:
            _raise_problem(file, text.count("\n", 0, token.start()) + 1, what, fix)


def _may_be_deep(text: str) -> bool:
    """True if one line begins many lists or tables. Nesting over several lines is indented, so the size of the file limits its depth."""
    brackets = max(line.count("[") + line.count("{") for line in text.split("\n"))
    return brackets > _MOST_BRACKETS or _YAML_RUN.search(text) is not None


def _check_yaml(yaml: Any, text: str, file: str) -> None:
    """Count the levels in the events of the parser, before it builds the document recursively."""
    depth = 0
    for event in yaml.parse(text):
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") and not kind.startswith(("Stream", "Document"))
        depth -= kind in ("SequenceEndEvent", "MappingEndEvent")
        if depth > DEEPEST_FILE:
            what = f"lists and tables are nested deeper than {DEEPEST_FILE}"
            _raise_problem(file, int(event.start_mark.line) + 1, what, "use fewer levels")


def _check_aliases(document: Any, file: str) -> None:
    ahead: list[Any] = [document]
    for _ in range(MOST_VALUES):
        if not ahead:
            return
        item: Any = ahead.pop()
        if is_mapping(item):
            ahead.extend(item.values())
        elif is_list(item):
            ahead.extend(item)
    _raise_problem(
        file, None, f"with its aliases it has more than {MOST_VALUES} values", "write the values without aliases"
    )


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _reason(failure: BaseException) -> str:
    if isinstance(failure, RecursionError | MemoryError):
        return "it is nested too deeply, or too large"
    return " ".join(str(failure).split())[:200] or type(failure).__name__


def _raise_problem(file: str, line: int | None, what: str, fix: str, cause: BaseException | None = None) -> NoReturn:
    raise WorkspaceError([Problem(file=file, line=line, what=what, fix=fix)]) from cause
