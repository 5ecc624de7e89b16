"""The public Python API as one text: every public name with its signature, as a stub that griffe can compare.

PYTHONPATH=docs python -m generator.api      write tests/docs/public_api.txt again
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import griffe

from generator.python import MODULES, PACKAGE, names

SIGNATURES: Final = PACKAGE.parents[1] / "tests" / "docs" / "public_api.txt"
_MODULE: Final = re.compile(r"^# module (\S+)\n", re.MULTILINE)


def public_api(folder: Path = PACKAGE.parent) -> str:
    """The public API of the package in `folder`."""
    loader = griffe.GriffeLoader(search_paths=[folder], docstring_parser=None)
    loader.load("remit", try_relative_path=False)
    loader.resolve_aliases(implicit=True, external=False)
    return "".join(
        f"# module {module}\n{''.join(_object(loader.modules_collection[f'{module}.{name}'], 0) for name in names(module))}"
        for module in MODULES
        if names(module)
    )


def breakages(before: str, now: str) -> list[str]:
    """What code that was written for `before` would find broken: one line each."""
    found: list[str] = []
    later = dict(_modules(now))
    for module, text in _modules(before):
        if module not in later:
            found.append(f"{module}: the module was removed")
            continue
        pairs = griffe.find_breaking_changes(_read(text), _read(later[module]))
        found += [f"{module}.{one.obj.path.partition('.')[2]}: {one.kind.value}" for one in pairs]
    return found


def _modules(text: str) -> Iterator[tuple[str, str]]:
    parts = _MODULE.split(text)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def _read(text: str) -> griffe.Module:
    return griffe.visit("api", filepath=Path("api.py"), code=text)


def _object(found: griffe.Object | griffe.Alias, depth: int) -> str:
    """One name and, below a class, its public members."""
    indent = "    " * depth
    one = found.final_target if isinstance(found, griffe.Alias) else found
    if isinstance(one, griffe.Function):
        decorators = "".join(f"{indent}@{label}\n" for label in ("staticmethod", "classmethod") if label in one.labels)
        prefix = "async " if "async" in one.labels else ""
        return f"{decorators}{indent}{prefix}def {found.name}{_parameters(one)}: ...\n"
    if isinstance(one, griffe.Attribute):
        return _attribute(found.name, one, indent)
    if not isinstance(one, griffe.Class):
        return ""
    bases = ", ".join(_bases(one))
    inherited = {name: member for name, member in one.inherited_members.items() if _is_own(member)}
    every = sorted({**inherited, **one.members}.items())
    members = "".join(_object(member, depth + 1) for name, member in every if _is_public(name))
    return f"{indent}class {found.name}{f'({bases})' if bases else ''}:\n{members or f'{indent}    ...{chr(10)}'}"


def _is_public(name: str) -> bool:
    """False for what is private, and for what pydantic gives each model."""
    return name == "__init__" or not name.startswith(("_", "model_"))


def _is_own(member: griffe.Object | griffe.Alias) -> bool:
    return member.canonical_path.startswith("remit.")


def _bases(one: griffe.Class) -> Iterator[str]:
    """The bases that are public or not of Remit. Of another base, the members are listed, and its own bases stand here."""
    public = {name for module in MODULES for name in names(module)}
    inner = {base.name: base for base in one.resolved_bases if isinstance(base, griffe.Class) and _is_own(base)}
    for base in map(str, one.bases):
        if base in inner and base not in public:
            yield from _bases(inner[base])
        else:
            yield base


def _attribute(name: str, one: griffe.Attribute, indent: str) -> str:
    value = "" if one.value is None or "property" in one.labels else f" = {one.value}"
    return f"{indent}{name}: {one.annotation or 'object'}{value}\n"


def _parameters(function: griffe.Function) -> str:
    shown: list[str] = []
    kind = None
    for one in function.parameters:
        star = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(one.kind, "")
        if one.kind is griffe.ParameterKind.keyword_only and kind not in (
            one.kind,
            griffe.ParameterKind.var_positional,
        ):
            shown.append("*")
        if kind is griffe.ParameterKind.positional_only and one.kind is not kind:
            shown.append("/")
        kind = one.kind
        annotation = f": {one.annotation}" if one.annotation is not None else ""
        default = f" = {one.default}" if one.default is not None and not star else ""
        shown.append(f"{star}{one.name}{annotation}{default}")
    returns = f" -> {function.returns}" if function.returns is not None else ""
    return f"({', '.join(shown)}){returns}"


if __name__ == "__main__":
    SIGNATURES.write_text(public_api(), encoding="utf-8")
