"""The Node packages of a tool: declared in its `package.json`, locked by npm next to it, installed once, read-only.

npm checks each archive against the hash in the lock. No script of a package runs, neither while it is locked nor while it is
installed: a package that needs its scripts does not work. https://docs.npmjs.com/cli/configuring-npm/package-lock-json
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from remit.core import Json, Problem, Refusal, RunEnded, WorkspaceError
from remit.core.parsing import parse_json, read_file

NODE_SCRIPT: Final = "package.json"
NODE_LOCK: Final = "package-lock.json"
_LARGEST: Final = 8 << 20
_MODULES: Final = "node_modules/"
_UNREACHABLE: Final = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ECONNRESET|ENOTCACHED|network")


def has_node_packages(code: Path) -> bool:
    return (code / NODE_SCRIPT).is_file()


def locked_node_versions(code: Path) -> tuple[bytes, dict[str, str]]:
    """The text of the lock, and the locked versions by name.

    Raises:
        WorkspaceError: there is no lock; or a package has no hash, is a folder of this machine, or does not come from a registry.
    """
    if not (code / NODE_LOCK).exists():
        raise _problem(code, "its packages are not locked", f"run `remit tool env {code.name}`")
    data = read_file(code / NODE_LOCK, file=f"tools/{code.name}/{NODE_LOCK}", most=_LARGEST)
    again = f"remove it and run `remit tool env {code.name}`"
    try:
        lock: Json = parse_json(data.decode(), longest=_LARGEST)
        packages = cast("Mapping[str, Mapping[str, Json]]", lock["packages"])
        versions: dict[str, str] = {}
        for path, package in packages.items():
            if not path:
                continue
            name = path.rpartition(_MODULES)[2]
            fetched = str(package.get("resolved", "https://"))  # npm may leave out where a registry has it
            whole = package.get("integrity") or package.get("inBundle")  # a bundled one is in the archive of another
            if package.get("link") or not fetched.startswith("https://") or not whole:
                what = f"{name!r} has no hash, or does not come from a registry"
                raise _problem(code, what, "name released versions in dependencies", file=NODE_LOCK)
            version = str(package["version"])
            versions[name] = f"{versions[name]} or {version}" if versions.get(name, version) != version else version
    except (Refusal, UnicodeDecodeError, KeyError, TypeError, AttributeError) as failure:
        raise _problem(code, "it cannot be read", again, file=NODE_LOCK) from failure
    return data, versions


def lock_node_packages(code: Path, *, upgrade: bool) -> bool:
    """Choose versions and write the lock; True if that changed it.

    Raises:
        WorkspaceError: a declared package does not exist.
        RunEnded: `sandbox_unavailable`: npm is missing, or no registry answers.
    """
    path = code / NODE_LOCK
    before = path.read_bytes() if path.exists() else None
    with tempfile.TemporaryDirectory(prefix="remit-npm-") as made:
        shutil.copyfile(code / NODE_SCRIPT, f"{made}/{NODE_SCRIPT}")
        if before is not None and not upgrade:
            Path(made, NODE_LOCK).write_bytes(before)
        _npm(code, Path(made), "install", "--package-lock-only")
        after = Path(made, NODE_LOCK).read_bytes()
    if after != before:
        path.write_bytes(after)
    locked_node_versions(code)
    return after != before


def install_node_packages(code: Path, lock: bytes, into: Path, *, offline: bool) -> None:
    """Install exactly what the lock says as `into/node_modules`.

    Raises:
        WorkspaceError: the lock does not fit package.json.
        RunEnded: `sandbox_unavailable`: npm is missing, or no registry answers.
    """
    with tempfile.TemporaryDirectory(prefix="remit-npm-", dir=into.parent) as made:
        shutil.copyfile(code / NODE_SCRIPT, f"{made}/{NODE_SCRIPT}")
        Path(made, NODE_LOCK).write_bytes(lock)
        _npm(code, Path(made), "ci", *(["--offline"] if offline else ["--prefer-offline"]))
        into.mkdir(mode=0o755)
        modules = Path(made, "node_modules")
        if modules.is_dir():
            os.rename(modules, into / "node_modules")


def _npm(code: Path, folder: Path, *arguments: str) -> None:
    program = os.environ.get("REMIT_NPM") or shutil.which("npm")
    if program is None:
        raise RunEnded(
            "sandbox_unavailable", "npm, which installs Node packages, is missing", fix="install Node.js with npm"
        )
    line = [program, *arguments, "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
    done = subprocess.run(
        line,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
    )
    if not done.returncode:
        return
    text = " ".join(done.stderr.split())[-600:]
    if _UNREACHABLE.search(text):
        raise RunEnded(
            "sandbox_unavailable",
            f"the packages of tool {code.name!r} cannot be fetched: {text}",
            fix="connect to the network, or set the registry of npm",
        )
    raise _problem(code, f"npm does not install its packages: {text}", "correct it")


def _problem(code: Path, what: str, fix: str, *, file: str = NODE_SCRIPT) -> WorkspaceError:
    return WorkspaceError([Problem(file=f"tools/{code.name}/{file}", what=what, fix=fix)])
