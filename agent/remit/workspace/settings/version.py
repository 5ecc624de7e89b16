"""The oldest version of Remit that reads a workspace: `remit_version` of remit.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from remit import __version__
from remit.core import Problem, WorkspaceError
from remit.core.parsing import load_toml, toml_line
from remit.workspace.file_schema import MARKER

_NUMBERS: Final = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,3}")


def check_version(files: Mapping[str, bytes]) -> None:
    """Raise WorkspaceError, with both versions, if the workspace asks for a newer version of Remit than this one.

    INVARIANT: it is checked before anything else is read: a newer version may have keys and files that this one takes for mistakes.
    """
    try:
        text = files.get(MARKER, b"").decode()
        least = load_toml(text, file=MARKER).get("remit_version", "")
    except (UnicodeDecodeError, WorkspaceError):
        return  # reported with the other problems of the file
    if isinstance(least, str) and _NUMBERS.fullmatch(least) and _numbers(least) > _numbers(__version__):
        what = f"this workspace needs Remit {least} or newer, and this is Remit {__version__}"
        fix = f"pip install 'remit>={least}'"
        raise WorkspaceError([Problem(file=MARKER, line=toml_line(text, "remit_version"), what=what, fix=fix)])


def _numbers(version: str) -> tuple[int, ...]:
    """0.2 and 0.2.0 are one version; what follows the numbers, as in 0.2.0rc1, does not count."""
    found = _NUMBERS.match(version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
