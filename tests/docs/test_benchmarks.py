"""Benchmarks import what exists. No other check reads them: they are not type-checked, and run only by their own targets."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT

BENCHMARKS = ROOT / "tests" / "benchmarks"
FILES = sorted(path.relative_to(BENCHMARKS).as_posix() for path in BENCHMARKS.rglob("*.py"))
SHARED = "sys.path.insert(0, str("  # a program finds the tests' folder only if it puts it on the path


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """The modules of Remit and of the tests that a file imports, and what it takes from each; "" for the module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("remit", "support"):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] in ("remit", "support"))


def missing(path: Path) -> list[str]:
    found: list[str] = []
    for module, name in imported(path):
        try:
            if name and not hasattr(importlib.import_module(module), name):
                importlib.import_module(f"{module}.{name}")
        except ImportError:
            found.append(f"{module}.{name}")
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_imports_what_exists(name: str) -> None:
    path = BENCHMARKS / name
    assert missing(path) == []
    is_program = "/" not in name
    if is_program and any(module.startswith("support") for module, _ in imported(path)):
        assert SHARED in path.read_text("utf-8")


def test_an_import_that_does_not_exist_is_found(tmp_path: Path) -> None:
    (tmp_path / "bench.py").write_text(
        "from remit.core import Call, Nothing\nfrom support.nowhere import x\nimport json\n"
    )
    assert missing(tmp_path / "bench.py") == ["remit.core.Nothing", "support.nowhere.x"]
