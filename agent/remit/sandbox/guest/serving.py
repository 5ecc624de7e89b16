"""Runs the tool's own code: import it, convert the arguments to its types, call it, convert the result to JSON.

Standard library only (and pydantic, for the tool's own types). It runs after the process has dropped its rights,
together with untrusted code: what it reports helps the author of the tool, and is never a reason to allow anything.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

HIDDEN = ("idempotency_key", "resources")  # parameters that the broker fills in; no model sees them
_LONGEST = 2_000
_MOST = 20
_DEEPEST = 8
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # the borders between the words of a class name


class NotJson(Exception):
    """The tool returned something that JSON cannot represent."""


# ---- import ----------------------------------------------------------------------------------------------------------


class _Only:
    """An import finder for the packages of the runtime, and for no others in their folders."""

    def __init__(self, packages: Mapping[str, str]) -> None:
        self._packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        path_of = self._packages.get(fullname)
        if path_of is None:
            return None
        if path_of.endswith(".py"):
            return importlib.util.spec_from_file_location(fullname, path_of)
        return importlib.util.spec_from_file_location(
            fullname, f"{path_of}/__init__.py", submodule_search_locations=[path_of]
        )


class _Reviewed(importlib.machinery.SourceFileLoader):
    """Loads the pinned source, and never a `__pycache__` next to it, which the pin does not cover."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def readable(boundary: Mapping[str, Any]) -> list[str]:
    """The paths that every tool may read: the runtime, the packages that it may import, and its own folder."""
    own = [boundary["code"], *([boundary["environment"]] if boundary["environment"] else [])]
    return [*boundary["runtime"], *boundary["packages"].values(), *own]


def load(boundary: Mapping[str, Any]) -> types.ModuleType:
    """Import the tool's main.py as the module `main`.

    Its folder is importable, from source only, and so are its packages.

    pydantic and its dependencies come from one place, from the tool's packages if these have it: parts of two versions
    do not fit.

    Raises:
        BaseException: whatever the tool's import raises.
    """
    code: str = boundary["code"]
    environment: str = boundary["environment"]

    def reviewed(folder: str) -> importlib.machinery.FileFinder:
        if not beneath(folder, [code]):
            raise ImportError(folder)
        return importlib.machinery.FileFinder(folder, (_Reviewed, [".py"]))

    sys.path[:] = [
        path for path in sys.path if os.path.isdir(path)
    ]  # libraries that look for plug-ins list these folders
    if not os.path.isdir(f"{environment}/pydantic"):
        sys.meta_path.insert(0, _Only(boundary["packages"]))
    sys.path_hooks.insert(0, reviewed)
    sys.path += [code, environment] if environment else [code]
    spec = importlib.util.spec_from_file_location(
        "main", f"{code}/main.py", loader=_Reviewed("main", f"{code}/main.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["main"] = module
    spec.loader.exec_module(module)
    return module


# ---- call ------------------------------------------------------------------------------------------------------------


class Action:
    """One function of main.py, with the validators that convert JSON to its types and its result to JSON, built once."""

    def __init__(self, module: types.ModuleType, name: str) -> None:
        self.function = getattr(module, name, None)
        if not callable(self.function):
            raise AttributeError(f"main.py has no function {name!r}")
        hints = typing.get_type_hints(self.function, include_extras=True)
        self.into = {key: _adapter(hint) for key, hint in hints.items() if key != "return"}
        self.out_of = _adapter(hints["return"]) if "return" in hints else None

        adapters = [item for item in (*self.into.values(), self.out_of) if item is not None]
        # A validator that the tool wrote may have effects, so types with one are not warmed up.
        plain = [item for item in adapters if "function-" not in repr(item.core_schema)]
        self._examples = [(item, example) for item in plain if (example := _example_of(item)) is not None]

    def warm(self) -> None:
        """Run the validators once on an example, so that a call does not have to copy the pages that they touch."""
        for adapter, example in self._examples:
            with suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                to_json(adapter.dump_python(adapter.validate_python(example), mode="json", by_alias=True))


def _example_of(adapter: Any) -> Any:
    """A value that the validator accepts; None if none was found."""
    with suppress(Exception):
        schema = adapter.json_schema(by_alias=True)
        example = _example(schema, schema.get("$defs", {}), 0)
        adapter.validate_python(example)
        return example
    return None


def _example(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError
    if "$ref" in schema:
        return _example(definitions[schema["$ref"].rpartition("/")[2]], definitions, depth + 1)
    for choices in (schema.get("anyOf"), schema.get("allOf"), schema.get("oneOf")):
        if choices:
            return _example(choices[0], definitions, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: _example(part, definitions, depth + 1) for key, part in schema.get("properties", {}).items()}
        case "array":
            items = schema.get("items")
            return [_example(items, definitions, depth + 1)] if items else []
        case "string":
            return "2026-01-02" if schema.get("format") == "date" else "x" * schema.get("minLength", 1)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return None


_actions: dict[str, Action] = {}


def action(module: types.ModuleType, name: str) -> Action:
    """The action of that name, built at its first use. Raises what its types raise."""
    if name not in _actions:
        _actions[name] = Action(module, name)
    return _actions[name]


def _rehearsal() -> dict[str, str]:
    return {"text": "é"}


REHEARSAL = types.ModuleType("rehearsal")
REHEARSAL.rehearsal = _rehearsal  # type: ignore[attr-defined]


def forget(name: str) -> None:
    """Forget an action that is not the tool's: that of the rehearsal."""
    _actions.pop(name, None)


def actions() -> list[Action]:
    """The actions that were built so far."""
    return list(_actions.values())


def public(module: types.ModuleType) -> list[str]:
    """The functions that main.py itself defines, without those that begin with an underscore."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def perform(module: types.ModuleType, name: str, arguments: dict[str, Any]) -> Any:
    """Call the action and return its result as JSON data."""
    called = action(module, name)
    given = {
        key: value if (adapter := called.into.get(key)) is None else adapter.validate_python(value)
        for key, value in arguments.items()
    }
    assert called.function is not None
    result = called.function(**given)
    if inspect.iscoroutine(result):
        import asyncio  # noqa: PLC0415 - 25 ms, and few tools need it

        result = asyncio.run(result)
    return result if called.out_of is None else called.out_of.dump_python(result, mode="json", by_alias=True)


def _adapter(hint: Any) -> Any:
    """The validator for a type; None if JSON values need no conversion."""
    if _is_plain(hint):
        return None
    from pydantic import TypeAdapter  # noqa: PLC0415 - 60 ms, so only where a type needs it

    return TypeAdapter(hint)


def _is_plain(hint: Any) -> bool:
    """True if values of the type are plain JSON, so that pydantic (60 ms to import) is not needed."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _is_plain(typing.get_args(hint)[0])
    if origin is typing.Literal or typing.is_typeddict(hint):
        return True
    if origin in (list, dict, typing.Union, types.UnionType):
        return all(_is_plain(part) for part in typing.get_args(hint))
    return hint in (str, int, float, bool, None, type(None), list, dict, Any)


def to_json(value: Any) -> str:
    """The value as JSON text.

    Raises:
        NotJson: JSON cannot represent it exactly.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as failure:
        raise NotJson(f"the result is not JSON: {type(failure).__name__}: {failure}"[:_LONGEST]) from failure
    return text


def raised(failure: BaseException, declared: Mapping[str, str], code: str) -> dict[str, Any]:
    """The answer for an exception: a declared error by its name, else its class and message. The traceback is printed."""
    message = message_of(failure)
    for kind in type(failure).__mro__:
        for name, of in declared.items():
            if kind.__name__ == of or (not of and snake_case(kind.__name__) == name):
                return {"kind": "error", "name": name, "message": message, "retry_after_s": retry_after(failure)}
    number = failure.errno if isinstance(failure, OSError) else None
    _print_traceback(failure, code)
    filename = getattr(failure, "filename", None)
    return {
        "kind": "raised",
        "name": type(failure).__name__,
        "message": message,
        "errno": number,
        "filename": os.fsdecode(filename) if isinstance(filename, (str, bytes)) else "",
    }


def retry_after(failure: BaseException) -> float:
    """The seconds that an exception asks to wait, in its attribute `retry_after_s`; 0 if it has none."""
    try:
        seconds = float(getattr(failure, "retry_after_s", 0.0))
    except Exception:  # noqa: BLE001 - an attribute that the tool defines may be anything, and may raise
        return 0.0
    return seconds if 0.0 < seconds <= 86_400.0 else 0.0


def _print_traceback(failure: BaseException, code: str) -> None:
    """Print the traceback from the first line of the tool on, if the exception was raised there."""
    frames = failure.__traceback__
    while frames is not None and not beneath(frames.tb_frame.f_code.co_filename, [code]):
        frames = frames.tb_next
    try:
        traceback.print_exception(failure.with_traceback(frames or failure.__traceback__), limit=-_MOST)
    except Exception:  # noqa: BLE001 - an exception may hold anything, and standard error may be closed
        return


def snake_case(name: str) -> str:
    """`not_found` of `NotFound`, `not_a_database` of `NotADatabase`, `http_error` of `HTTPError`."""
    return _WORDS.sub("_", name).lower()


def message_of(failure: BaseException) -> str:
    """The message of an exception, as valid Unicode and of limited length; "" if its `__str__` raises."""
    try:
        return str(failure).encode("utf-8", "replace").decode()[:_LONGEST]
    except Exception:  # noqa: BLE001 - a tool's own __str__ may raise anything
        return ""


def flush() -> None:
    """Flush the tool's last prints, whatever it did to its streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112 - the tool may have put anything there
            continue


# ---- describe --------------------------------------------------------------------------------------------------------


def describe(module: types.ModuleType) -> dict[str, Any]:
    """The schemas of every public function of main.py; only `problem` for one that cannot be an action."""
    return {name: described(getattr(module, name)) for name in public(module)}


def described(function: Callable[..., Any]) -> dict[str, Any]:
    """The `description`, `input`, `output` and `hidden` of a function; only `problem` if it cannot be an action."""
    from pydantic import TypeAdapter, create_model  # noqa: PLC0415 - as above
    from pydantic.errors import PydanticUserError  # noqa: PLC0415
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415

    class Untitled(GenerateJsonSchema):
        """Without titles of fields, which would only repeat the names."""

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    try:
        hints = typing.get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        hidden: list[str] = []
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                return {"problem": f"parameter {name!r} cannot be passed by name"}
            if name not in hints:
                return {"problem": f"parameter {name!r} has no type"}
            if name in HIDDEN:
                hidden.append(name)
                continue
            fields[name] = (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        if "return" not in hints:
            return {"problem": "it has no return type"}
        arguments = create_model(function.__name__, __config__={"extra": "forbid"}, **fields)
        schema = arguments.model_json_schema(schema_generator=Untitled)
        schema.pop("title", None)
        result = TypeAdapter(hints["return"]).json_schema(mode="serialization", schema_generator=Untitled)
    except (PydanticUserError, TypeError, NameError) as failure:
        return {"problem": message_of(failure).splitlines()[0]}
    described = {"description": inspect.getdoc(function) or "", "input": schema, "output": result, "hidden": hidden}
    return cast("dict[str, Any]", json.loads(json.dumps(described)))


# ---- programs --------------------------------------------------------------------------------------------------------


def executables(programs: Iterable[str]) -> list[str]:
    """The files that the kernel must allow to execute for these programs: they, their interpreters, the dynamic linker."""
    files: list[str] = []
    for program in programs:
        path = shutil.which(program)
        while path is not None and os.path.realpath(path) not in files:
            path = os.path.realpath(path)
            files.append(path)
            path = _interpreter(path)
    if files:
        machine = os.uname().machine
        linkers = (
            f"/lib64/ld-linux-{machine.replace('_', '-')}.so.2",
            f"/lib/ld-linux-{machine}.so.1",
            f"/lib/ld-musl-{machine}.so.1",
        )
        files += [os.path.realpath(path) for path in linkers if os.path.exists(path)]
    return files


def _interpreter(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            line = file.readline(256)
    except OSError:
        return None
    return line[2:].split()[0].decode() if line.startswith(b"#!") and line[2:].split() else None


def run_command(argv: Sequence[str], limit: int, declared: Mapping[str, str]) -> dict[str, Any]:
    """Run the manifest's command.

    Its standard output is the value; exit status n is the error `exit_<n>`, if that is declared.
    """
    process = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read(limit + 1)
    if len(output) > limit:
        process.kill()
        return {"kind": "oversized"}
    status = process.wait()
    if status:
        name = f"exit_{status}"
        if name in declared:
            return {"kind": "error", "name": name, "message": f"{argv[0]} exited with status {status}"}
        return {
            "kind": "raised",
            "name": argv[0],
            "message": f"exited with status {status}",
            "errno": None,
            "filename": "",
        }
    try:
        return {"kind": "value", "value": output.decode()}
    except UnicodeDecodeError as failure:
        raise NotJson("the result is not UTF-8 text") from failure


def undecided_files(layout: Mapping[str, Any]) -> list[str]:
    """Files in scratch that the call may not write. They are not saved."""
    decided = {*layout["writes"], *layout["links"], *(os.path.join("stores", name) for name in layout["stores"])}
    files: list[str] = []
    for folder, _, names in os.walk("."):
        for name in names:
            path = os.path.normpath(os.path.join(folder, name))
            if path not in decided:
                files.append(path)
            if len(files) > _MOST:
                return files
    return files


def beneath(path: str, folders: Iterable[str]) -> bool:
    """True if the path is one of the folders, or lies in one."""
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)
