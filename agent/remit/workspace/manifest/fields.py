"""The types of the values in a `tool.toml`, with their messages."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from remit.core import Refusal
from remit.core.parsing import Matching, Size, canonical, invalid, size
from remit.workspace.manifest.touches import TouchError, check_pattern, parse_listing, parse_touch

SMALLEST_MEMORY: Final = 64 * 1024**2
LARGEST_SENT: Final = 64 * 1024**2  # the proxy reads a whole request into memory before it sends any of it

# A model sees `tool__action`: at most 31 + 2 + 31 characters, as providers accept (^[a-zA-Z0-9_-]{1,64}$). The name can be
# split again without doubt because no part contains `__` or ends in `_`.
_NAME = r"(?!remit$|none$)(?=.{1,31}$)[a-z][a-z0-9]*(?:_[a-z0-9]+)*"


def _memory(value: str) -> str:
    if size(value) < SMALLEST_MEMORY:
        raise invalid(f"is {value!r}, which is too little for an interpreter", 'write "64MiB" or more')
    return value


def _sent(value: str) -> str:
    if size(value) > LARGEST_SENT:
        raise invalid(f"is {value!r}, which is more than the proxy can buffer", 'write "64MiB" or less')
    return value


def _address(value: str) -> str:
    try:
        canonical("mail", value)
    except Refusal:
        raise invalid(
            f"is {value!r}, which is not a mail address", 'write that of the owner: "team@example.com"'
        ) from None
    return value


def _touch(value: str) -> str:
    try:
        parse_touch(value)
    except TouchError as error:
        raise invalid(f"is not valid: {error.what}", error.fix) from None
    return value


def _listing(value: str) -> str:
    try:
        parse_listing(value)
    except TouchError as error:
        raise invalid(f"is not valid: {error.what}", error.fix) from None
    return value


def _pattern(value: str) -> str:
    try:
        check_pattern(value)
    except TouchError as error:
        raise invalid(f"is not valid: {error.what}", error.fix) from None
    return value


_SNAKE = "write at most 31 lower-case letters, digits and single _, a letter first"
Name = Annotated[str, Matching(_NAME, "a name", _SNAKE)]
Version = Annotated[
    str,
    Matching(r"[0-9]+(?:\.[0-9]+){0,2}(?:[-+][0-9A-Za-z.+-]+)?", "a version", 'write "1.0.0"'),
    Field(description='Of the tool: "1.0.0"'),
]
Memory = Annotated[Size, AfterValidator(_memory)]
Sent = Annotated[Size, AfterValidator(_sent)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Owner = Annotated[str, AfterValidator(_address)]
TouchLine = Annotated[str, AfterValidator(_touch)]
Word = Annotated[
    str,
    Matching(r"[^\W\d_]{2,30}(?: [^\W\d_]{2,30})*", "a word", "write two or more letters; spaces may separate words"),
]
StoreLine = Annotated[
    str,
    Matching(
        r"(?=[^/]{1,31}(?:/\*)?$)[a-z][a-z0-9]*(?:_[a-z0-9]+)*(?:/\*)?",
        "a store",
        'write the name of a store, or "GROUP/*" for the stores of a group',
    ),
]
LabelPath = Annotated[
    str,
    Matching(
        r"[^{}/:\s]{1,64}(?:/[^{}/:\s]{1,64}){0,7}",
        "a place in a result",
        'write its keys, * for items: "items/*/labels/*"',
    ),
]
ListLine = Annotated[str, AfterValidator(_listing)]
Program = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9._+-]*", "a program", 'write its name without a folder: "jq"')]
Entry = Annotated[
    str,
    Matching(
        r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*",
        "an entry",
        'write "package.module:functions"',
    ),
]
PassagePath = Annotated[
    str,
    Matching(
        r"(?:\*|[A-Za-z_][A-Za-z0-9_]*)(?:/(?:\*|[A-Za-z_][A-Za-z0-9_]*))*",
        "a path into the result",
        'write members of objects, and * for each item of a list: "items/*"',
    ),
]
ErrorClass = Annotated[
    str, Matching(r"|[A-Z][A-Za-z0-9]*", "an exception class", 'write its name: "FileNotFoundError"')
]
