"""Text files of the working folder, which is the current folder."""

import builtins  # `list` is an action here, and hides the builtin of that name
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

MOST_MATCHES = 200
LONGEST_LINE = 400  # characters of one matching line


class NotFound(Exception):
    """There is no such file or folder."""


class NotText(Exception):
    """The file is not UTF-8 text."""


class BadPattern(Exception):
    """The pattern contains no text to look for."""


class Entry(TypedDict):
    path: str
    bytes: int


class Page(TypedDict):
    path: str
    text: str
    first_line: int
    last_line: int
    total_lines: int


class Match(TypedDict):
    path: str
    line: int
    text: str


class Found(TypedDict):
    matches: builtins.list[Match]
    complete: bool  # False: there are more matches than these


class Listing(TypedDict):
    files: builtins.list[Entry]


class Written(TypedDict):
    path: str
    bytes: int


def list(folder: str) -> Listing:
    """List the readable files below `folder`, with their sizes in bytes."""
    files: builtins.list[Entry] = []
    for path in _files(folder):
        try:
            with open(path, "rb") as file:
                files.append(Entry(path=path, bytes=os.fstat(file.fileno()).st_size))
        except OSError:
            continue  # policy does not allow this file
    return {"files": files}


def read(
    path: str,
    start_line: Annotated[int, Field(ge=1)] = 1,
    lines: Annotated[int, Field(ge=1, le=2000)] = 400,
) -> Page:
    """Read up to `lines` lines of one text file, beginning with line `start_line`; the first line is 1."""
    try:
        every = _text(path).splitlines(keepends=True)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound(f"there is no file {path!r}; list its folder to see its files") from error
    except UnicodeDecodeError as error:
        raise NotText(f"{path!r} is not UTF-8 text") from error
    page = every[start_line - 1 : start_line - 1 + lines]
    return {
        "path": path,
        "text": "".join(page),
        "first_line": start_line if page else 0,
        "last_line": start_line + len(page) - 1 if page else 0,
        "total_lines": len(every),
    }


def search(pattern: Annotated[str, Field(max_length=500)], folder: str) -> Found:
    """Find lines that contain `pattern`, ignoring case; `*` matches any characters, `|` separates alternatives."""
    # Not a regular expression: this takes linear time for every pattern.
    alternatives = [[part for part in choice.casefold().split("*") if part] for choice in pattern.split("|")]
    if not all(alternatives):
        raise BadPattern(f"{pattern!r} has an empty alternative; write some text on both sides of each |")
    matches: builtins.list[Match] = []
    for path in _files(folder):
        try:
            text = _text(path)
        except (OSError, UnicodeDecodeError):
            continue  # not allowed by policy, deleted meanwhile, or not text
        for number, line in enumerate(text.splitlines(), start=1):
            if any(_holds(line.casefold(), parts) for parts in alternatives):
                if len(matches) == MOST_MATCHES:
                    return {"matches": matches, "complete": False}
                matches.append({"path": path, "line": number, "text": line[:LONGEST_LINE]})
    return {"matches": matches, "complete": True}


def write(path: str, text: str) -> Written:
    """Write one text file; an existing file is replaced."""
    data = text.encode()
    Path(path).write_bytes(data)
    return {"path": path, "bytes": len(data)}


def _text(path: str) -> str:
    return Path(path).read_bytes().decode()


def _holds(line: str, parts: builtins.list[str]) -> bool:
    """True if the line contains the parts in this order. The first match of each leaves the most text for the next."""
    at = 0
    for part in parts:
        at = line.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _files(folder: str) -> Iterator[str]:
    """Every file below the folder, sorted; symbolic links are not followed."""
    if not os.path.isdir(folder):
        raise NotFound(f"there is no folder {folder!r}")
    for where, folders, names in os.walk(folder):  # a folder that may not be opened is skipped
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            if path.is_file() and not path.is_symlink():
                yield path.as_posix()
