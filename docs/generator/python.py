"""The pages of the Python API. mkdocstrings writes their content from the docstrings."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parents[2] / "agent" / "remit"
# The public modules: page, title, file that lists the names, and what the page is for.
MODULES: Final = {
    "remit": ("__init__.pyi", "Open a workspace and run agents, make calls, ask for decisions, replay."),
    "remit.testing": ("testing/__init__.pyi", "Test an agent, a tool and a policy without a model."),
    "remit.langchain": ("langchain/__init__.pyi", "Put an existing LangChain or LangGraph agent under Remit."),
}


def pages() -> dict[str, str]:
    """A page for each public module that exists."""
    return {
        f"reference/python/{module}.md": _page(module, what) for module, (_, what) in MODULES.items() if names(module)
    }


def names(module: str) -> list[str]:
    """The public names of a module, in the order of its face; empty if the module has none."""
    path = PACKAGE / MODULES[module][0]
    if not path.is_file():
        return []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _page(module: str, what: str) -> str:
    return f"# `{module}`\n\n{what}\n\n" + "".join(f"::: {module}.{name}\n\n" for name in names(module))
