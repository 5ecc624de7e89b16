"""`remit tool new NAME --from command "…"`: a manifest for a command line with placeholders."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from remit.core import UsageError

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:file)?\}")
_PROGRAM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_ACTION: Final = "run"


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A command line: its argv as the manifest has it, its arguments, and those that name a file."""

    argv: tuple[str, ...]
    arguments: tuple[str, ...]
    files: tuple[str, ...]


def command_files(name: str, line: str) -> dict[str, str]:
    """The files of a tool that starts one program, with a placeholder `{name}`, or `{name:file}` for a file, for each argument.

    Raises:
        UsageError: the line names no program, or has a placeholder within a text.
    """
    read = _read(line)
    return {"tool.toml": _manifest(name, read), "cases.yaml": _cases(name, read)}


def _read(line: str) -> _Line:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the command line cannot be read: {error}") from error
    if not words or _PROGRAM.fullmatch(words[0]) is None:
        raise UsageError(f"{line!r} names no program: begin with its name, without a folder")
    argv: list[str] = []
    arguments: list[str] = []
    files: list[str] = []
    for word in words:
        placeholder = _PLACEHOLDER.fullmatch(word)
        if placeholder is None and ("{" in word or "}" in word):
            raise UsageError(f"{word!r} is no placeholder: write {{name}}, or {{name:file}}, as a word of its own")
        if placeholder is None:
            argv.append(word)
            continue
        argv.append(f"{{{placeholder[1]}}}")
        arguments.append(placeholder[1])
        if placeholder[2]:
            files.append(placeholder[1])
    return _Line(argv=tuple(argv), arguments=tuple(dict.fromkeys(arguments)), files=tuple(dict.fromkeys(files)))


def _manifest(name: str, line: _Line) -> str:
    program = PurePosixPath(line.argv[0]).name
    touches = [f"read file:{{{argument}}}" for argument in line.files]
    ceiling = f'[at_most]\nread = ["{name}/**"]{_gap(name)}# the most that a call may open: name your folders\n\n'
    comment = (
        "# There is no shell: each placeholder is one argument, and one that begins with - is refused before a --.\n"
    )
    return (
        f'#:schema ../tool.schema.json\nname = "{name}"\nversion = "0.1.0"\nowner = "you@example.com"\n'
        f'summary = "Run {program}"\nsource = "command"\n\n'
        f'[always]\nprograms = ["{program}"]\n\n'
        f"{ceiling if line.files else ''}"
        f'[actions.{_ACTION}]\nsummary = "Run {program}"\n'
        + (f"touches = {json.dumps(touches)}\n" if touches else "")
        + 'effect = "once"                   # the strictest: write "read" if the program changes nothing\n'
        + comment
        + f"run = {json.dumps(line.argv, ensure_ascii=False)}\n"
        + "errors = []                       # exit status n is the error exit_n; one that is not listed is a crash\n"
    )


def _gap(name: str) -> str:
    return " " * max(34 - len(f'read = ["{name}/**"]'), 1)


def _cases(name: str, line: _Line) -> str:
    """Refusals, which hold for each program; what it prints only its author knows."""
    known = {argument: f"{name}/a.txt" if argument in line.files else "a" for argument in line.arguments}
    rows: list[tuple[str, dict[str, str]]] = [
        ("an argument that it does not have is refused", {**known, "another_argument": "a"})
    ]
    if line.arguments:
        rows.append(("each argument is required", dict(list(known.items())[1:])))
    if line.files:
        rows.append(("a path outside the working folder is refused", {**known, line.files[0]: "../a.txt"}))
    texts = [
        f"- note: {note}\n  action: {name}.{_ACTION}\n"
        f"  arguments: {json.dumps(arguments)}\n  expect: {{error: invalid_arguments}}\n"
        for note, arguments in rows
    ]
    head = "# yaml-language-server: $schema=../../.remit/schemas/tool-cases.schema.json\n"
    return f"{head}# Add what the program prints: expect: {{value: …}} or {{value_contains: …}}.\n" + "\n".join(texts)
