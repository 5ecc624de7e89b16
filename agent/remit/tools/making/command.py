"""`remit tool new NAME --from command "…"`: a manifest for a command line with placeholders."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from remit.core import Effect, UsageError

_PLACEHOLDER: Final = re.compile(r"(--[A-Za-z0-9][A-Za-z0-9-]*=)?\{([A-Za-z_][A-Za-z0-9_]*)(:file|:int|:number)?\}")
_TYPES: Final = {":int": "integer", ":number": "number"}
_PROGRAM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_ACTION: Final = "run"
_EFFECTS: Final[Mapping[Effect, str]] = {
    "once": 'effect = "once"                   # the strictest: write "read" if the program changes nothing\n',
    "read": 'effect = "read"                   # the program changes nothing; "once" is the strictest\n',
}


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A command line: its argv as the manifest has it, with groups; its arguments with their types; those that name a file."""

    argv: tuple[str | tuple[str, ...], ...]
    arguments: Mapping[str, str]
    files: tuple[str, ...]
    required: tuple[str, ...]


def command_files(name: str, line: str, *, reads: bool = False) -> dict[str, str]:
    """The files of a tool that starts one program. `reads`: its author says that the program changes nothing.

    An argument is `{name}`, `{name:int}`, `{name:number}` or, for a file, `{name:file}`, as a word of its own or behind `--option=`. Words in
    brackets, such as `[--since={since}]`, are left out if their argument is not given.

    Raises:
        UsageError: the line names no program, or has a placeholder within a text.
    """
    read = _read(line)
    return {"tool.toml": _manifest(name, read, "read" if reads else "once"), "cases.yaml": _cases(name, read)}


def _read(line: str) -> _Line:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the command line cannot be read: {error}") from error
    if not words or _PROGRAM.fullmatch(words[0]) is None:
        raise UsageError(f"{line!r} names no program: begin with its name, without a folder")
    argv: list[str | tuple[str, ...]] = []
    group: list[str] | None = None
    types: dict[str, str] = {}
    required: dict[str, None] = {}
    for word in words:
        opens = group is None and word.startswith("[-")
        group = [] if opens else group
        closes = group is not None and word.endswith("]")
        element, name, kind = _element(word.removeprefix("[" if opens else "").removesuffix("]" if closes else ""))
        if name:
            types[name] = kind or types.get(name, "")
            required |= {name: None} if group is None else {}
        if group is None:
            argv.append(element)
            continue
        group.append(element)
        if closes:
            argv.append(tuple(group))
            group = None
    if group is not None:
        raise UsageError("a group in brackets is not closed: write [--option={name}]")
    files = tuple(name for name, kind in types.items() if kind == ":file")
    return _Line(argv=tuple(argv), arguments=types, files=files, required=tuple(required))


def _element(word: str) -> tuple[str, str, str]:
    """The element of `run` for a word, and the name and the type of its argument; "" for those of a plain word."""
    placeholder = _PLACEHOLDER.fullmatch(word)
    if placeholder is not None:
        return f"{placeholder[1] or ''}{{{placeholder[2]}}}", placeholder[2], placeholder[3] or ""
    if "{" in word or "}" in word:
        fix = "write {name} or {name:file} as a word of its own, or behind --option="
        raise UsageError(f"{word!r} is no placeholder: {fix}")
    return word, "", ""


def _manifest(name: str, line: _Line, effect: Effect) -> str:
    program = str(line.argv[0])
    touches = [f"read file:{{{argument}}}" for argument in line.files]
    ceiling = f'[at_most]\nread = ["{name}/**"]{_gap(name)}# the most that a call may open: name your folders\n\n'
    typed = {argument: _TYPES[kind] for argument, kind in line.arguments.items() if kind in _TYPES}
    args = "".join(f'{argument} = {{ type = "{kind}" }}\n' for argument, kind in typed.items())
    table = f"\n[actions.{_ACTION}.args]            # also: enum, pattern, min, max, default, description\n{args}"
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
        + _EFFECTS[effect]
        + comment
        + f"run = {json.dumps(line.argv, ensure_ascii=False)}\n"
        + "errors = []                       # exit status n is the error exit_n; one that is not listed is a crash\n"
        + (table if args else "")
    )


def _gap(name: str) -> str:
    return " " * max(34 - len(f'read = ["{name}/**"]'), 1)


def _cases(name: str, line: _Line) -> str:
    """Refusals, which hold for each program; what it prints only its author knows."""
    example = {":file": f"{name}/a.txt", ":int": 1, ":number": 1}
    known = {argument: example.get(kind, "a") for argument, kind in line.arguments.items()}
    rows = [("an argument that it does not have is refused", {**known, "another_argument": "a"})]
    if line.required:
        rows.append(
            (f"{line.required[0]} is required", {key: value for key, value in known.items() if key != line.required[0]})
        )
    if line.files:
        rows.append(("a path outside the working folder is refused", {**known, line.files[0]: "../a.txt"}))
    texts = [
        f"- note: {note}\n  action: {name}.{_ACTION}\n"
        f"  arguments: {json.dumps(arguments)}\n  expect: {{error: invalid_arguments}}\n"
        for note, arguments in rows
    ]
    head = "# yaml-language-server: $schema=../../.remit/schemas/tool-cases.schema.json\n"
    return f"{head}# Add what the program prints: expect: {{value: …}} or {{value_contains: …}}.\n" + "\n".join(texts)
