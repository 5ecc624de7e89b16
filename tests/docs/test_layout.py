"""Limits on the size of files, folders and parameter lists of the package."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Final

from support import ROOT

PACKAGE: Final = ROOT / "agent" / "remit"
MAX_LINES: Final = 450  # lines
MAX_FILES: Final = 15  # Python files of a folder
MAX_PARAMETERS: Final = 7
MAX_EXCEPTIONS: Final = 5
# Larger files, folders and functions, by path, each with its reason.
EXCEPTIONS: Final[dict[str, str]] = {}


def files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in path.parts]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def long_files() -> set[str]:
    return {name_of(path) for path in files() if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES}


def full_folders() -> set[str]:
    counts = Counter(name_of(path.parent) for path in files())
    return {folder for folder, count in counts.items() if count > MAX_FILES}


def wide_functions() -> set[str]:
    return {
        f"{name_of(path)}:{node.name}"
        for path in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _parameters(node) > MAX_PARAMETERS
    }


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_files_folders_and_functions_are_small_but_for_at_most_five_named_exceptions() -> None:
    """An exception that is no longer needed must be removed from the list."""
    assert long_files() | full_folders() | wide_functions() == set(EXCEPTIONS)
    assert len(EXCEPTIONS) <= MAX_EXCEPTIONS
    assert all(EXCEPTIONS.values())


def test_every_exported_name_exists() -> None:
    """A face exports only names that its modules define. Otherwise the first user of the name would find the error."""
    from importlib import import_module
    from importlib.util import find_spec

    left_out = {"inspect_ai"} if find_spec("inspect_ai") is None else set[str]()  # CI has it
    for stub in sorted(PACKAGE.rglob("__init__.pyi")):
        if stub.parent.name in left_out:
            continue
        package = import_module(".".join(("remit", *stub.parent.relative_to(PACKAGE).parts)))
        tree = ast.parse(stub.read_text(encoding="utf-8"))
        named = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert set(package.__all__) == named
        for name in named:
            assert getattr(package, name) is not None
