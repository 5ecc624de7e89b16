"""The command line of an action: `run` with its optional groups, and the types of its arguments.

    run = ["git", "log", "--max-count={count}", ["--since={since}"], "{stat}", "--", "{path}"]

A placeholder is an element of its own, or stands behind a long option and `=`. A list inside of the list is a group: it is left out if one
of its arguments is not given. There is no table form and no quoting: each element stays one argument of the program, whatever a model
writes, so that a value can add no element, and none that begins with `-` is read as an option.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from pydantic import Field

from remit.core import FrozenModel, Json, Problem, Refusal, one_of
from remit.core.parsing import Mismatch, TomlTable, canonical_json, check_schema, validate

Part: TypeAlias = str | tuple[str, ...]
ArgumentType: TypeAlias = Literal["string", "integer", "number", "boolean"]

_NAME: Final = "[A-Za-z_][A-Za-z0-9_]*"
_OPTION: Final = "--[A-Za-z0-9][A-Za-z0-9-]*"
_WHOLE: Final = re.compile(rf"\{{({_NAME})\}}")
_JOINED: Final = re.compile(rf"({_OPTION}=)\{{({_NAME})\}}")
_FLAG: Final = re.compile(rf"-[A-Za-z0-9]|{_OPTION}(?:=[A-Za-z0-9._/:,-]+)?")
_OWN_FILE: Final = re.compile(r"\./[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")

_Report: TypeAlias = Callable[[tuple[str, ...], str, str], Problem]


class ArgumentTable(TomlTable):
    """One argument of a command."""

    type: ArgumentType = Field(default="string", description="The type that the model sees; absent: string")
    enum: list[str] = Field(default=[], description="The values that a string may have; empty: any")
    pattern: str | None = Field(default=None, description="A regular expression that is found in a string")
    min: int | float | None = Field(default=None, description="The least number")
    max: int | float | None = Field(default=None, description="The greatest number")
    default: str | int | float | bool | None = Field(default=None, description="Its value if the model gives none")
    flag: str | None = Field(
        default=None, description='With type = "boolean": the option that true stands for: "--stat"'
    )
    description: str | None = Field(default=None, description="What the model reads about it")


class Argument(FrozenModel):
    """One argument of a command, as in `ArgumentTable`."""

    type: ArgumentType = "string"
    enum: tuple[str, ...] = ()
    pattern: str = ""
    min: int | float | None = None
    max: int | float | None = None
    default: str | int | float | bool | None = None
    flag: str = ""
    description: str = ""

    def schema_of(self) -> dict[str, Json]:
        """Its JSON Schema."""
        made: dict[str, Json] = {"type": self.type}
        made |= {"enum": list(self.enum)} if self.enum else {}
        made |= {"pattern": self.pattern} if self.pattern else {}
        made |= {"minimum": self.min} if self.min is not None else {}
        made |= {"maximum": self.max} if self.max is not None else {}
        made |= {"description": self.description} if self.description else {}
        default = False if self.type == "boolean" and self.default is None else self.default
        return made | ({"default": default} if default is not None else {})


def argument_of(table: ArgumentTable) -> Argument:
    """The argument that a table describes."""
    return Argument(
        type=table.type,
        enum=tuple(table.enum),
        pattern=table.pattern or "",
        min=table.min,
        max=table.max,
        default=table.default,
        flag=table.flag or "",
        description=table.description or "",
    )


def elements(run: Sequence[Part]) -> Iterator[tuple[str, bool]]:
    """Each element of the command line, and whether it is in a group."""
    for part in run:
        if isinstance(part, str):
            yield part, False
        else:
            yield from ((element, True) for element in part)


def placeholder(element: str) -> tuple[str, str] | None:
    """What stands before the placeholder of an element, and the name of its argument; None for a text."""
    if whole := _WHOLE.fullmatch(element):
        return "", whole[1]
    joined = _JOINED.fullmatch(element)
    return (joined[1], joined[2]) if joined else None


def placeholders(run: Sequence[Part]) -> dict[str, bool]:
    """The arguments in their order, each with True if a call needs no value for it: it stands in groups only."""
    found: dict[str, bool] = {}
    for element, grouped in elements(run):
        if (named := placeholder(element)) is not None:
            found[named[1]] = found.get(named[1], True) and grouped
    return found


def command_input(run: Sequence[Part], arguments: Mapping[str, Argument]) -> dict[str, Json]:
    """The JSON Schema of the arguments. What has no default and stands outside of groups is required."""
    names = placeholders(run)
    schemas = {name: arguments.get(name, Argument()).schema_of() for name in names}
    return {
        "type": "object",
        "properties": schemas,
        "required": [name for name, optional in names.items() if not optional and "default" not in schemas[name]],
        "additionalProperties": False,
    }


def filled_argv(
    run: Sequence[Part], types: Mapping[str, Argument], given: Mapping[str, Json], own: str
) -> tuple[str, ...]:
    """The argv with the arguments of a call. `own` is the folder of the files of the tool.

    Raises:
        Refusal: `invalid_arguments` for a value that the program would read as an option, or that argv cannot contain.
    """
    argv: list[str] = []
    for part in run:
        group = (part,) if isinstance(part, str) else part
        named = [found[1] for element in group if (found := placeholder(element)) is not None]
        if not isinstance(part, str) and any(given.get(name) is None for name in named):
            continue
        for element in group:
            argv += _filled(element, types, given, own, options="--" not in argv)
    return tuple(argv)


def _filled(
    element: str, types: Mapping[str, Argument], given: Mapping[str, Json], own: str, *, options: bool
) -> Iterator[str]:
    named = placeholder(element)
    if named is None:
        yield f"{own}/{element[2:]}" if element.startswith("./") else element
        return
    before, name = named
    argument, value = types.get(name, Argument()), given.get(name)
    if argument.type == "boolean" and isinstance(value, bool):
        if value:
            yield argument.flag
        return
    text = canonical_json(value).decode() if isinstance(value, int | float) and argument.type != "string" else value
    if not isinstance(text, str) or "\0" in text:
        raise _unfit(name, "not_a_text", "must be a text without NUL")
    if options and not before and _reads_as_option(text):
        raise _unfit(name, "option", "may not start with '-'")
    yield f"{before}{text}"


def _reads_as_option(text: str) -> bool:
    """True if a program could read the text as an option.

    INVARIANT: before `--`, no element of argv is such a text of a model. Behind `--`, and behind `--name=` in the same element, a program
    reads no options.
    """
    return text.startswith("-")


def _unfit(name: str, problem: str, what: str) -> Refusal:
    return Refusal("invalid_arguments", f"argument {name!r} {what}", details={"argument": name, "problem": problem})


# -- rules -------------------------------------------------------------------------------------------------------------


def command_rules(
    at: tuple[str, ...],
    run: Sequence[str | Sequence[str]],
    tables: Mapping[str, ArgumentTable],
    programs: Sequence[str],
    report: _Report,
) -> Iterator[Problem]:
    """The problems of the command line of one action, and of its arguments."""
    parts: list[Part] = [part if isinstance(part, str) else tuple(part) for part in run]
    first = parts[0]
    if not isinstance(first, str) or first not in programs:
        shown = first if isinstance(first, str) else " ".join(first)
        fix = f'write programs = ["{shown}"] in [always]' if isinstance(first, str) else "begin with the program"
        yield report((*at, "run", "0"), f"the program {shown!r} is not in 'always.programs'", fix)
    arguments = {name: argument_of(table) for name, table in tables.items()}
    for number, part in enumerate(parts):
        yield from _part_rules((*at, "run", str(number)), part, arguments, report)
    known = placeholders(parts)
    for name, argument in arguments.items():
        here = (*at, "args", name)
        if name not in known:
            fix = f'write "{{{name}}}" in run; {one_of(name, known)}' if known else f'write "{{{name}}}" in run'
            yield report(here, f"the argument {name!r} is not in 'run'", fix)
        yield from _argument_rules(here, argument, report)


def _part_rules(
    here: tuple[str, ...], part: Part, arguments: Mapping[str, Argument], report: _Report
) -> Iterator[Problem]:
    grouped = not isinstance(part, str)
    group = part if not isinstance(part, str) else (part,)
    named: list[str] = []
    for element in group:
        found = placeholder(element)
        if element.startswith("./") and _OWN_FILE.fullmatch(element) is None:
            fix = 'write a file of the tool\'s folder: "./main.js"'
            yield report(here, f"{element!r} is not the name of one file", fix)
        if ("{" in element or "}" in element) and found is None:
            fix = 'write the placeholder as an element of its own, or behind a long option: "--file", "{path}" or "--file={path}"'
            yield report(here, f"{element!r} mixes a placeholder with text", fix)
        if found is None:
            continue
        named.append(found[1])
        argument = arguments.get(found[1], Argument())
        if argument.type == "boolean" and (grouped or found[0]):
            fix = f'write "{{{found[1]}}}" as an element of its own, outside of groups'
            yield report(here, f"{found[1]!r} is true or false, and stands for its flag", fix)
        elif grouped and argument.default is not None:
            yield report(
                here, f"the group of {found[1]!r} is never left out: it has a default", "remove one of the two"
            )
    if grouped and not named:
        yield report(
            here, "a group has no placeholder, so nothing says when it is left out", "write its elements outside"
        )


def _argument_rules(here: tuple[str, ...], argument: Argument, report: _Report) -> Iterator[Problem]:
    if (argument.type == "boolean") is not bool(argument.flag):
        fix = 'write flag = "--name"' if argument.type == "boolean" else "remove 'flag'"
        yield report(here, "true and false need the option that true stands for, and no other type has one", fix)
    elif argument.flag and _FLAG.fullmatch(argument.flag) is None:
        yield report((*here, "flag"), f"{argument.flag!r} is no option", 'write "-s", "--stat" or "--color=never"')
    limits: list[tuple[str, Any, tuple[str, ...]]] = [
        ("enum", argument.enum, ("string",)),
        ("pattern", argument.pattern, ("string",)),
        ("min", argument.min, ("integer", "number")),
        ("max", argument.max, ("integer", "number")),
    ]
    for key, value, types in limits:
        if value not in ((), "", None) and argument.type not in types:
            yield report((*here, key), f"{key!r} is not for type = {argument.type!r}", f"write type = {types[-1]!r}")
            return
    if any(value.startswith("-") for value in argument.enum):
        fix = "remove the dash, or write a boolean with a flag for each option"
        yield report((*here, "enum"), "a value of 'enum' begins with '-', which a program reads as an option", fix)
    schema = argument.schema_of()
    if faults := check_schema(schema):
        yield report(here, f"the argument cannot be checked: {faults[0]}", "write a simpler pattern")
    elif "default" in schema:
        try:
            validate(schema, schema["default"])
        except Mismatch as mismatch:
            yield report(
                (*here, "default"), f"the default is not a value of the argument: {mismatch}", "write one that is"
            )
