"""Runs the tool's own code: import it, report what it raises, start its programs.

Standard library only. It runs after the process has dropped its rights,
together with untrusted code: what it reports helps the author of the tool, and is never a reason to allow anything.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_LONGEST = 2_000
_MOST = 20
_MOST_FRAMES = 5  # a recursion has a thousand
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
    message, frames = message_of(failure), _frames(failure, code)
    for kind in type(failure).__mro__:
        for name, of in declared.items():
            if kind.__name__ == of or (not of and snake_case(kind.__name__) == name):
                return {
                    "kind": "error",
                    "name": name,
                    "message": message,
                    "retry_after_s": retry_after(failure),
                    "frames": frames,
                }
    number = failure.errno if isinstance(failure, OSError) else None
    _print_traceback(failure, code)
    filename = getattr(failure, "filename", None)
    return {
        "kind": "raised",
        "name": type(failure).__name__,
        "message": message,
        "errno": number,
        "filename": os.fsdecode(filename) if isinstance(filename, (str, bytes)) else "",
        "frames": frames,
    }


def _frames(failure: BaseException, code: str) -> list[list[Any]]:
    """The lines of the tool's own files that the exception came through: path below the folder of the tool, and number."""
    found = [
        [frame.f_code.co_filename.removeprefix(f"{code}/"), line]
        for frame, line in traceback.walk_tb(failure.__traceback__)
        if beneath(frame.f_code.co_filename, [code])
    ]
    return found[-_MOST_FRAMES:]


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


def gathered(generator: Any, tell: Callable[[str], object]) -> Any:
    """What a generator yields, as a list. `tell` gets each item as text, so that people see how far the tool has come."""
    if hasattr(generator, "__anext__"):
        return _agathered(generator, tell)
    items: list[Any] = []
    for item in generator:
        tell(_shown(item))
        items.append(item)
    return items


async def _agathered(generator: Any, tell: Callable[[str], object]) -> list[Any]:
    items: list[Any] = []
    async for item in generator:
        tell(_shown(item))
        items.append(item)
    return items


def _shown(item: Any) -> str:
    try:
        return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str)
    except Exception:  # noqa: BLE001 - the item may be anything; the result says what is wrong with it
        return type(item).__name__


def print_now(text: str) -> None:
    """Print a line so that the broker reads it at once, whatever the tool did to its streams."""
    try:
        print(text, flush=True)  # noqa: T201 - it is read as what the tool prints
    except Exception:  # noqa: BLE001 - as in `flush`
        return


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
    for folder, below, names in os.walk("."):
        below[:] = [name for name in below if os.path.normpath(os.path.join(folder, name)) not in decided]
        for name in names:
            path = os.path.normpath(os.path.join(folder, name))
            if path not in decided:
                files.append(path)
            if len(files) > _MOST:
                return files
    return files


def not_saved(dropped: Sequence[str]) -> str:
    """The note about such files; "" if there are none."""
    if not dropped:
        return ""
    return f"remit: {len(dropped)} files that this call may not write were not saved: {', '.join(dropped[:5])}"


def beneath(path: str, folders: Iterable[str]) -> bool:
    """True if the path is one of the folders, or lies in one."""
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)
