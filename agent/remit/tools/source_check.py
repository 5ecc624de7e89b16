"""Finds in main.py of a tool what would only fail once it runs: the file is read as a syntax tree, and none of it is executed."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

from remit.broker import AttemptOutcome
from remit.core import Finding, Level, WorkspaceError, near_names
from remit.core.parsing import read_text
from remit.sandbox.packages import find_environment
from remit.tools.source_calls import Found, found_in_function, found_in_module, found_raised, own_nodes
from remit.workspace import Workspace
from remit.workspace.manifest import Action, Manifest, grant_text

MAIN: Final = "main.py"
LARGEST: Final = 1_000_000  # characters of main.py; a larger one is generated, and is not read

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_GIVEN: Final = frozenset({"PATH", "HOME", "TMPDIR", "LANG"})  # variables that every call has
_STARTS: Final = frozenset({"run", "call", "Popen", "check_call", "check_output", "getoutput", "getstatusoutput"})
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OPTIONAL: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def check_source(workspace: Workspace, name: str) -> tuple[Finding, ...]:
    """The findings about the code of a Python tool; none for tools that are not Python in a sandbox."""
    manifest = workspace.tools[name].manifest
    path = workspace.code(name) / MAIN
    if manifest.source != "python" or not path.is_file() or not manifest.actions:
        return ()
    file = f"tools/{name}/{MAIN}"
    try:
        text = read_text(path, file=file)
    except WorkspaceError as error:
        return tuple(
            Finding(level="error", code="source", file=file, line=problem.line, what=problem.what, fix=problem.fix)
            for problem in error.problems
        )
    if len(text) > LARGEST:
        return ()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        what = f"it is no Python: {error.msg if isinstance(error, SyntaxError) else type(error).__name__}"
        return (Finding(level="error", code="source", file=file, line=line, what=what, fix="fix the code"),)
    reading = _Source(manifest=manifest, folder=path.parent, file=file, tree=tree)
    try:
        return tuple(dict.fromkeys(reading.all()))
    except RecursionError:  # a tree that deep is generated
        return ()


def failed_at(workspace: Workspace, action: str, done: AttemptOutcome) -> tuple[str, ...]:
    """Where to look in the tool's code after a failed attempt: the line that raised a declared error, or the function whose result
    is not of its type. Empty for what a traceback shows already."""
    tool, _, name = action.partition(".")
    if done.code == "tool_failed" and done.frames:
        return (f"raised in tools/{tool}/{done.frames[-1]}",)
    path = workspace.code(tool) / MAIN
    if done.mismatch is None or workspace.tools[tool].manifest.source != "python" or not path.is_file():
        return ()
    found = re.search(rf"^(?:async )?def {re.escape(name)}\b", read_text(path, file=MAIN), re.MULTILINE)
    return (
        ()
        if found is None
        else (f"returned by tools/{tool}/{MAIN}:{found.string.count(chr(10), 0, found.start()) + 1}",)
    )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One main.py with the manifest of its tool."""

    manifest: Manifest
    folder: Path
    file: str
    tree: ast.Module
    _seen: dict[str, bool] = field(default_factory=dict[str, bool])

    def all(self) -> Iterator[Finding]:
        yield from self._imports(self.tree.body, optional=False)
        for action in self.manifest.actions.values():
            if (function := self.functions.get(action.name)) is not None:
                yield from self._function(action, function)
                yield from self._of(found_in_function(self.manifest, action, function))
            elif action.name not in self._bound:
                near = near_names(action.name, self.functions)
                what = f"action {action.name!r} has no function of that name"
                yield self._finding(
                    "error", None, what, f"did you mean {near[0]}?" if near else f"write def {action.name}(…) -> …"
                )
            yield from self._error_classes(action)
        yield from self._others()
        yield from self._raised()
        yield from self._of(found_in_module(self.manifest, self.folder, self.tree, self.functions))
        errors = [kind for action in self.manifest.actions.values() for pair in action.errors.items() for kind in pair]
        yield from self._of(found_raised(self.tree, [*errors, *map(_class_name, errors)]))
        for node in ast.walk(self.tree):
            yield from self._variables(node)
            yield from self._programs(node)

    def _of(self, found: Iterable[Found]) -> Iterator[Finding]:
        return (self._finding(*one) for one in found)

    def _finding(self, level: Level, node: ast.AST | None, what: str, fix: str) -> Finding:
        line = getattr(node, "lineno", None)
        return Finding(level=level, code="source", file=self.file, line=line, what=what, fix=fix)

    @cached_property
    def functions(self) -> dict[str, _Function]:
        return {node.name: node for node in self.tree.body if isinstance(node, _Function)}

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    @cached_property
    def _bound(self) -> frozenset[str]:
        """Every name that the module may have: also imported ones, and those of assignments anywhere."""
        names = {*self.functions, *self.classes}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
        return frozenset(names)

    # -- imports ---------------------------------------------------------------------------------------------------------

    def _imports(self, body: Sequence[ast.stmt], *, optional: bool) -> Iterator[Finding]:
        """Modules that the tool will not find. One that the code can do without (`try`, `if`) is left out."""
        for node in body:
            match node:
                case ast.Import(names=names):
                    found = [alias.name for alias in names]
                case ast.ImportFrom(module=str() as module, level=0):
                    found = [module]
                case ast.Try(body=inner, handlers=handlers):
                    caught = {name for handler in handlers for name in _names_in(handler.type)} or {"Exception"}
                    yield from self._imports(inner, optional=optional or bool(caught & _OPTIONAL))
                    continue
                case ast.FunctionDef(body=inner) | ast.AsyncFunctionDef(body=inner) | ast.With(body=inner):
                    yield from self._imports(inner, optional=optional)
                    continue
                case _:
                    continue
            for name in found:
                if not optional and (problem := self._missing(name.partition(".")[0])) is not None:
                    yield self._finding("error", node, *problem)

    def _missing(self, module: str) -> tuple[str, str] | None:
        if module == "remit":
            return (
                "a tool never imports remit, which its sandbox does not have",
                "remove the import: plain functions with types are enough",
            )
        if (
            module in sys.stdlib_module_names
            or (self.folder / f"{module}.py").exists()
            or (self.folder / module).is_dir()
        ):
            return None
        if self._exists(module):
            return None
        what = f"no package of this tool has the module {module!r}"
        return what, f"add it to dependencies in main.py (PEP 723), then run `remit tool env {self.manifest.name}`"

    def _exists(self, module: str) -> bool:
        if module not in self._seen:
            self._seen[module] = self._find(module)
        return self._seen[module]

    def _find(self, module: str) -> bool:
        """True if the tool's packages have the module, or if it is not known which modules they have."""
        try:
            environment = find_environment(self.folder)
        except WorkspaceError:
            return True  # the lock is reported by itself
        if environment is None:  # a tool without packages of its own gets those of Remit
            try:
                return importlib.util.find_spec(module) is not None
            except (ImportError, ValueError):
                return False
        places = list(environment.folder.glob("lib/python*/site-packages"))
        return not places or any((place / module).is_dir() or any(place.glob(f"{module}.*")) for place in places)

    # -- functions -------------------------------------------------------------------------------------------------------

    def _function(self, action: Action, function: _Function) -> Iterator[Finding]:
        arguments = function.args
        forms = [(one, "only by its place, because it stands before `/`") for one in arguments.posonlyargs]
        forms += [(one, f"in a list: write one parameter for it, not *{one.arg}") for one in (arguments.vararg,) if one]
        forms += [
            (one, f"under any name: write one parameter for each, not **{one.arg}") for one in (arguments.kwarg,) if one
        ]
        for one, form in forms:
            what = f"parameter {one.arg!r} of {action.name} gets its value {form.partition(':')[0]}"
            yield self._finding(
                "error", one, what, "a model gives arguments by their names: write a plain parameter with a type"
            )
        untyped = [one.arg for one in (*arguments.args, *arguments.kwonlyargs) if one.annotation is None]
        if untyped:
            what = f"parameter {untyped[0]!r} of {action.name} has no type"
            yield self._finding("error", function, what, f"write its type, as in {untyped[0]}: str")
        if function.returns is None:
            yield self._finding("error", function, f"the result of {action.name} has no type", "write it, as in -> str")
        if ast.get_docstring(function) is None:
            what = f"{action.name} has no docstring: its model reads the summary alone"
            yield self._finding("note", function, what, "write one: what it returns, and what each argument means")
        yield from self._result(action, function)

    def _result(self, action: Action, function: _Function) -> Iterator[Finding]:
        if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(function)):
            what = f"{action.name} is a generator, and a result is one value"
            yield self._finding("error", function, what, "return a list")
        returned = _names_in(function.returns)
        if returned & {"bytes", "bytearray"} and not _is_bytes(function.returns):
            what = f"{action.name} returns bytes inside of another value, and a result is JSON"
            yield self._finding(
                "warning", function, what, "return bytes alone, a text, or blocks with base64 and mime_type"
            )
        elif returned & {"Iterator", "Generator", "AsyncIterator", "AsyncGenerator", "Iterable"}:
            what = f"{action.name} returns an iterator, and a result is one value"
            yield self._finding("error", function, what, "write list[…] as its type, and return a list")

    def _others(self) -> Iterator[Finding]:
        for name, function in self.functions.items():
            if name not in {**self.manifest.actions, **self.manifest.undecided} and not name.startswith("_"):
                what = f"function {name!r} is no action of the manifest"
                yield self._finding("note", function, what, f"write [actions.{name}], or name it _{name}")

    # -- errors ----------------------------------------------------------------------------------------------------------

    def _error_classes(self, action: Action) -> Iterator[Finding]:
        """Declared errors whose exception class the code does not have."""
        for error, named in action.errors.items():
            expected = named or _class_name(error)
            if not any(
                one == named or (not named and _snake_case(one) == error) for one in (*self._bound, *dir(builtins))
            ):
                near = near_names(expected, self.classes)
                fix = f"did you mean {near[0]}? " if near else ""
                what = f"error {error!r} of {action.name} has no exception class {expected}"
                yield self._finding(
                    "error", None, what, f"{fix}Write class {expected}(Exception), or remove {error!r} from errors"
                )

    def _raised(self) -> Iterator[Finding]:
        """Exceptions of the module that no action declares: the caller would read `tool_crashed`."""
        names = {pair for action in self.manifest.actions.values() for pair in action.errors.items()}
        declared = {one for one in self.classes if any(_is_class_of(one, *pair) for pair in names)}
        errors = {
            name
            for name, node in self.classes.items()
            if any(
                base.endswith(("Error", "Exception")) or base in self.classes
                for one in node.bases
                for base in _names_in(one)
            )
        }
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if (
                    isinstance(raised, ast.Name)
                    and raised.id in errors - declared
                    and not self._is_caught(raised.id, declared)
                ):
                    what = f"{raised.id} is raised, and no action declares it: the call would end as tool_crashed"
                    yield self._finding(
                        "note", node, what, f'add "{_snake_case(raised.id)}" to errors of the actions that raise it'
                    )

    def _is_caught(self, name: str, declared: Iterable[str]) -> bool:
        """True if the module catches the exception, or a declared one is its base."""
        bases = {base for one in self.classes[name].bases for base in _names_in(one)}
        caught = {
            found
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ExceptHandler)
            for found in _names_in(node.type)
        }
        return name in caught or bool(bases & ({*declared} | caught))

    # -- what the manifest has to grant ----------------------------------------------------------------------------------

    def _variables(self, node: ast.AST) -> Iterator[Finding]:
        name, level = _variable(node)
        secret = {*(item.env for item in self.manifest.credentials), *(item.env for item in self.manifest.exposed)}
        granted = {*self.manifest.env, *_GIVEN, *secret}
        if name and name.lower() in {item.secret for item in self.manifest.credentials} and name not in granted:
            what = f"it reads the variable {name}, and the value of the secret {name.lower()!r} never reaches the tool"
            fix = f'remove it: the proxy adds the secret; or write env = "{name}" in it for a placeholder'
            yield self._finding(level, node, what, fix)
        elif name and name not in granted:
            action = next(iter(self.manifest.actions.values()))
            what = f"it reads the variable {name}, which the manifest does not grant"
            yield self._finding(level, node, what, grant_text(self.manifest, action, "variable", name))

    def _programs(self, node: ast.AST) -> Iterator[Finding]:
        program = _program(node)
        if program and program not in self.manifest.programs:
            action = next(iter(self.manifest.actions.values()))
            what = f"it starts {program!r}, which the manifest does not grant"
            yield self._finding("warning", node, what, grant_text(self.manifest, action, "start", program))


def _names_in(node: ast.AST | None) -> set[str]:
    """The names, and the last parts of dotted names, in an expression."""
    if node is None:
        return set()
    return {
        inner.id if isinstance(inner, ast.Name) else inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name | ast.Attribute)
    }


def _variable(node: ast.AST) -> tuple[str, Level]:
    """The environment variable that is read here; an error if the code fails without it."""
    match node:
        case ast.Subscript(
            value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str() as name), ctx=ast.Load()
        ):
            return name, "warning"
        case ast.Call(
            func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"),
            args=[ast.Constant(value=str() as name), *_],
        ):
            return name, "note"
        case ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(value=str() as name), *_]):
            return name, "note"
        case _:
            return "", "note"


def _program(node: ast.AST) -> str:
    """The program that is started here, if the code has its name."""
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="subprocess"), attr=attr),
            args=[ast.List(elts=[ast.Constant(value=str() as name), *_]), *_],
        ) if attr in _STARTS:
            return name
        case _:
            return ""


def _class_name(error: str) -> str:
    """`NotFound` for `not_found`."""
    return "".join(part.capitalize() for part in error.split("_"))


def _is_class_of(name: str, error: str, named: str) -> bool:
    """True if the sandbox takes an exception of a class with this name for the declared error."""
    return name == named if named else _snake_case(name) == error


def _snake_case(name: str) -> str:
    """As the sandbox names an error by its class: `not_found` of `NotFound`, `http_error` of `HTTPError`."""
    return _WORDS.sub("_", name).lower()


def _is_bytes(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "bytes"
