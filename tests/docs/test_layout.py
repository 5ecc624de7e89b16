"""The package stays readable: small files, small folders, few parameters."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Final

from support import ROOT

PACKAGE: Final = ROOT / "agent" / "remit"
LONGEST_FILE: Final = 450  # lines
MOST_FILES: Final = 15  # Python files of a folder
MOST_PARAMETERS: Final = 7
MOST_EXCEPTIONS: Final = 5
# What is larger, by its path, and why.
EXCEPTIONS: Final[dict[str, str]] = {}


def files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in path.parts]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def long_files() -> set[str]:
    return {name_of(path) for path in files() if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE}


def full_folders() -> set[str]:
    counts = Counter(name_of(path.parent) for path in files())
    return {folder for folder, count in counts.items() if count > MOST_FILES}


def wide_functions() -> set[str]:
    return {
        f"{name_of(path)}:{node.name}"
        for path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _parameters(node) > MOST_PARAMETERS
    }


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_files_folders_and_functions_are_small_but_for_at_most_five_named_exceptions() -> None:
    """A name that is no exception any more leaves the list."""
    assert long_files() | full_folders() | wide_functions() == set(EXCEPTIONS)
    assert len(EXCEPTIONS) <= MOST_EXCEPTIONS
    assert all(EXCEPTIONS.values())


def test_every_name_of_a_face_is_there() -> None:
    """A face names what its modules define; a name that is gone would be seen by its first user only."""
    from importlib import import_module

    for stub in sorted(PACKAGE.rglob("__init__.pyi")):
        package = import_module(".".join(("remit", *stub.parent.relative_to(PACKAGE).parts)))
        tree = ast.parse(stub.read_text(encoding="utf-8"))
        named = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert set(package.__all__) == named
        for name in named:
            assert getattr(package, name) is not None
