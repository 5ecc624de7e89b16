"""The pages of the Python API. mkdocstrings writes their content from the docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from generator.markdown import code, table

PACKAGE: Final = Path(__file__).resolve().parents[2] / "agent" / "remit"
LONGEST: Final = 400  # characters of a type; of a longer one, the name in the source is shown
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
    parts = [f"# `{module}`\n\n{what}\n\n"]
    loaded = import_module(module)
    for name in names(module):
        parts.append(f"::: {module}.{name}\n\n{fields(getattr(loaded, name))}")
    return "".join(parts)


def fields(value: object) -> str:
    """The fields of a class of data as a table; "" for anything else."""
    if not isinstance(value, type):
        return ""
    if issubclass(value, BaseModel):
        written = {name: kind for base in value.__mro__[::-1] for name, kind in inspect.get_annotations(base).items()}
        rows = [
            (
                name,
                one.annotation if len(str(one.annotation)) < LONGEST else written[name],
                one.is_required(),
                one.default,
            )
            for name, one in value.model_fields.items()
        ]
    elif dataclasses.is_dataclass(value):
        types = inspect.get_annotations(value)
        missing = dataclasses.MISSING
        rows = [
            (
                one.name,
                types.get(one.name, one.type),
                one.default is missing and one.default_factory is missing,
                one.default,
            )
            for one in dataclasses.fields(value)
            if not one.name.startswith("_")
        ]
    else:
        return ""
    shown = (
        (code(name), code(_type(kind)), "" if needed else _default(default)) for name, kind, needed, default in rows
    )
    return table(("field", "type", "default"), shown)


def _type(kind: Any) -> str:
    text = kind if isinstance(kind, str) else inspect.formatannotation(kind)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z_a-z])", "", text)


def _default(value: object) -> str:
    return code(repr(value)) if isinstance(value, str | int | float | tuple | None) else ""
