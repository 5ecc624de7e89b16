"""The files of a policy folder: reads them, and reports the ones that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from remit.core import Problem, WorkspaceError, near_names
from remit.core.parsing import read_file, table_text
from remit.policy.language.entities import ENTITIES
from remit.policy.language.loader import FOLDER
from remit.policy.language.teams import TEAM_FILE

_CASES_NAME: Final = "cases.yaml"
CASES: Final = f"{FOLDER}{_CASES_NAME}"
NOT_IN_FORCE: Final = "NOT_IN_FORCE"  # a file with the reason why nothing in its folder is read
READ: Final = frozenset(
    {
        "model.conf",
        _CASES_NAME,
        "tools.lock",
        ENTITIES,
        "labels.toml",
        "limits.toml",
        "prices.toml",
        "content.toml",
        "content_cases.yaml",
    }
)
IN_FORCE: Final = (".conf", ".csv", ENTITIES, f"/{TEAM_FILE}")  # how the names of the files end that decide calls
_SUFFIXES: Final = (".csv", ".md")  # rules, and documents for people
_LIKE_RULES: Final = (".csv", ".conf", ".yaml", ".toml", ".lock", ".jsonl")


class CaseTable(NamedTuple):
    """The text of one `cases.yaml`, "" if there is none, and its path in a workspace."""

    file: str
    text: str


def is_rules(path: str) -> bool:
    """True for the path, in a workspace, of a file that decides calls: the model, the rules, the entities, and the bounds of a team."""
    return path.startswith(FOLDER) and path.endswith(IN_FORCE)


def rule_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each file of a policy folder that decides calls, with its path in a workspace: the organization's, then those of teams."""
    for place, within in _places(folder):
        for path in sorted(within.iterdir()):
            if (file := f"{place}{path.name}").endswith(IN_FORCE):
                yield file, path


def _places(folder: Path) -> Iterator[tuple[str, Path]]:
    yield FOLDER, folder
    for path in team_folders(folder):
        yield f"{FOLDER}{path.name}/", path


def team_folders(folder: Path) -> list[Path]:
    """The folders of teams in a policy folder, by name."""
    return sorted(path.parent for path in folder.glob(f"*/{TEAM_FILE}") if not path.parent.name.startswith("."))


def read_folder(folder: Path) -> dict[str, bytes]:
    """The model, the rules, the teams and the entities of a policy folder, by their path in a workspace, wherever the folder is."""
    return {file: read_file(path, file=file) for file, path in rule_files(folder)}


def read_cases_text(folder: Path) -> str:
    """The text of the organization's `cases.yaml` in a policy folder; "" if there is none.

    Raises:
        WorkspaceError: the file cannot be read.
    """
    return _case_table(CASES, folder / _CASES_NAME).text


def read_case_tables(folder: Path) -> tuple[CaseTable, ...]:
    """The tables of cases of the organization, which may be empty, and of each team that has one.

    Raises:
        WorkspaceError: a file cannot be read.
    """
    found = [(f"{place}{_CASES_NAME}", within / _CASES_NAME) for place, within in _places(folder)]
    return tuple(_case_table(file, path) for file, path in found if file == CASES or path.exists())


def cases_beside(file: str) -> str:
    """The path of the table of cases that belongs to a file of rules: it is in the same folder."""
    return f"{file.rpartition('/')[0]}/{_CASES_NAME}"


def is_cases(path: str) -> bool:
    """True for the path of a table of cases of rules, in a workspace."""
    return path == CASES or (path.startswith(FOLDER) and path.count("/") == 2 and path.endswith(f"/{_CASES_NAME}"))


def _case_table(file: str, path: Path) -> CaseTable:
    try:
        return CaseTable(file, table_text(path, file=file))
    except OSError as error:
        what = f"the policy cases cannot be read: {error.strerror or error}"
        raise WorkspaceError([Problem(file=file, what=what, fix="make it a file that Remit may read")]) from error


def unread_files(folder: Path) -> Iterator[Problem]:
    """A problem for every file below the policy folder that nothing reads and no NOT_IN_FORCE file declares.

    Hidden files of editors and of the system are ignored, unless their name looks like rules.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and (path / TEAM_FILE).is_file():
            yield from _unread_of_team(path)
        elif path.is_dir():
            yield from _unread_below(path, f"{FOLDER}{path.name}")
        elif path.name.startswith("."):
            if path.name.endswith(_LIKE_RULES) and not path.name.startswith(".#"):
                yield _unread_problem(f"{FOLDER}{path.name}", f"name it {path.name.lstrip('.')}, or remove it")
        elif path.name not in READ and not path.name.endswith(_SUFFIXES):
            yield _unread_problem(f"{FOLDER}{path.name}", _fix_for_name(path.name))


def _unread_of_team(folder: Path) -> Iterator[Problem]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        hidden = path.name.startswith(".")
        if path.is_dir() or (hidden and not path.name.endswith(_LIKE_RULES)):
            continue
        if hidden or not (inside in (TEAM_FILE, _CASES_NAME) or ("/" not in inside and inside.endswith(_SUFFIXES))):
            fix = f"the folder of a team may contain {TEAM_FILE}, {_CASES_NAME}, rules in .csv and documents in .md, and no folder"
            yield _unread_problem(f"{FOLDER}{folder.name}/{inside}", f"rename, move or remove it: {fix}")


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
            fix += f"; rules of a team have {TEAM_FILE} beside them" if path.name.endswith(".csv") else ""
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
