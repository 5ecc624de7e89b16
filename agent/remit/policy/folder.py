"""The files of a policy folder: reads them, and reports the ones that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from remit.core import Problem, WorkspaceError, near_names
from remit.core.parsing import read_file, table_text
from remit.policy.language.entities import ENTITIES
from remit.policy.language.loader import FOLDER

CASES: Final = f"{FOLDER}cases.yaml"
NOT_IN_FORCE: Final = "NOT_IN_FORCE"  # a file with the reason why nothing in its folder is read
READ: Final = frozenset(
    {
        "model.conf",
        "cases.yaml",
        "tools.lock",
        ENTITIES,
        "labels.toml",
        "limits.toml",
        "prices.toml",
        "content.toml",
        "content_cases.yaml",
    }
)
IN_FORCE: Final = (".conf", ".csv", ENTITIES)  # how the names of the files end that decide calls
_SUFFIXES: Final = (".csv", ".md")  # rules, and documents for people
_LIKE_RULES: Final = (".csv", ".conf", ".yaml", ".toml", ".lock", ".jsonl")


def read_folder(folder: Path) -> dict[str, bytes]:
    """The model, the rules and the entities of a policy folder, by their path in a workspace, wherever the folder is."""
    return {
        f"{FOLDER}{path.name}": read_file(path, file=f"{FOLDER}{path.name}")
        for path in sorted(folder.iterdir())
        if path.name.endswith(IN_FORCE) and path.is_file()
    }


def read_cases_text(folder: Path) -> str:
    """The text of `cases.yaml` in a policy folder; "" if there is none.

    Raises:
        WorkspaceError: the file cannot be read.
    """
    try:
        return table_text(folder / CASES.removeprefix(FOLDER), file=CASES)
    except OSError as error:
        what = f"the policy cases cannot be read: {error.strerror or error}"
        raise WorkspaceError([Problem(file=CASES, what=what, fix="make it a file that Remit may read")]) from error


def unread_files(folder: Path) -> Iterator[Problem]:
    """A problem for every file below the policy folder that nothing reads and no NOT_IN_FORCE file declares.

    Hidden files of editors and of the system are ignored, unless their name looks like rules.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            yield from _unread_below(path, f"{FOLDER}{path.name}")
        elif path.name.startswith("."):
            if path.name.endswith(_LIKE_RULES) and not path.name.startswith(".#"):
                yield _unread_problem(f"{FOLDER}{path.name}", f"name it {path.name.lstrip('.')}, or remove it")
        elif path.name not in READ and not path.name.endswith(_SUFFIXES):
            yield _unread_problem(f"{FOLDER}{path.name}", _fix_for_name(path.name))


def _unread_below(folder: Path, name: str) -> Iterator[Problem]:
    marker = folder / NOT_IN_FORCE
    if marker.is_file():
        if not read_file(marker, file=f"{name}/{NOT_IN_FORCE}").strip():
            fix = "write in it why the rules in this folder are not in force"
            yield Problem(file=f"{name}/{NOT_IN_FORCE}", what="the file gives no reason", fix=fix)
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _unread_below(path, f"{name}/{path.name}")
        elif not path.name.startswith(".") or path.name.endswith(_LIKE_RULES):
            fix = f"move it to {FOLDER}, or write the reason why it is not in force in {name}/{NOT_IN_FORCE}"
            yield _unread_problem(f"{name}/{path.name}", fix)


def _unread_problem(file: str, fix: str) -> Problem:
    return Problem(file=file, what="nothing reads this file, so it is not in force", fix=fix)


def _fix_for_name(name: str) -> str:
    """What to do about a file with this name directly in the policy folder."""
    if name == NOT_IN_FORCE:
        return f"remove it: it has an effect only in a folder below {FOLDER}"
    if any(known in name for known in (*READ, ".csv")):
        return "remove the copy"
    stem, dot, suffix = name.rpartition(".")
    if near := near_names(name, READ, cutoff=0.8):
        return f"name it {near[0]}, or remove it"
    if dot and near_names(suffix.lower(), ("csv",)):
        return f"name it {stem}.csv, or remove it"
    return f"remove it; {FOLDER} may contain {', '.join(sorted(READ))}, rules in .csv and documents in .md"
