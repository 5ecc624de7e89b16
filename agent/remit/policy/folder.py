"""The files of a policy folder: which are read, and which nobody reads."""

from __future__ import annotations

from pathlib import Path

from remit.core import Problem, WorkspaceError
from remit.core.parsing import table_text
from remit.policy.cases import CASES
from remit.policy.language.loader import FOLDER


def read_folder(folder: Path) -> dict[str, bytes]:
    """The model and the rules in a policy folder, named as in a workspace wherever the folder lies."""
    return {
        f"{FOLDER}{path.name}": path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix in (".conf", ".csv") and path.is_file()
    }


def read_cases_text(folder: Path) -> str:
    """The table of cases in a policy folder, "" where there is none.

    Raises:
        WorkspaceError: it cannot be read.
    """
    try:
        return table_text(folder / CASES.removeprefix(FOLDER), file=CASES)
    except OSError as error:
        what = f"the table of cases cannot be read: {error.strerror or error}"
        raise WorkspaceError([Problem(file=CASES, what=what, fix="make it a file that Remit may read")]) from error
