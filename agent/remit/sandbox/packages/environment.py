"""A tool's own packages: declared in its `main.py` (PEP 723), locked by uv next to it, installed once, read-only. For Node see `node`.

    lock_environment     write `main.py.lock`; the only step that chooses versions
    find_environment     the folder for that lock, whether it exists or not
    make_environment     install it, if it does not exist yet

No code of a package runs here: no source distribution is built, no `.pth` file is read, and compiling does not import.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

from remit.core import RunEnded, WorkspaceError
from remit.core.parsing import digest, digest_bytes
from remit.sandbox.packages.node import (
    NODE_LOCK,
    NODE_SCRIPT,
    has_node_packages,
    install_node_packages,
    lock_node_packages,
    locked_node_versions,
)
from remit.sandbox.packages.requirements import LOCK, SCRIPT, DeclaredPackages, declared_packages, locked_versions
from remit.sandbox.packages.wheels import WheelStore, keep_wheels, use_wheels

_FORMAT: Final = 1  # of the installed folder; another number makes every environment be installed again


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The packages of one lock file for one interpreter, or for Node.

    `lock` is the digest of the lock file, the same on every machine. `folder` may not exist yet. `packages` are
    versions by name.
    """

    lock: str
    folder: Path
    packages: Mapping[str, str] = field(compare=False, hash=False)
    node: bool = False

    @property
    def interpreter(self) -> Path:
        """The interpreter for an editor. It runs the packages without a sandbox."""
        return self.folder / "bin" / "python"

    @property
    def site(self) -> str:
        """The folder that the sandbox mounts and imports from; with Node packages, the one that has node_modules."""
        if self.node:
            return str(self.folder)
        return f"{self.folder}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"

    @property
    def made(self) -> bool:
        """True if it is installed."""
        return self.folder.is_dir()


def find_environment(code: Path) -> Environment | None:
    """The environment of the tool's lock file, installed or not; None if the tool declares no packages.

    Raises:
        WorkspaceError: the declaration cannot be read, has no lock, or its lock has a package without a hash.
    """
    declared = declared_packages(code)
    if has_node_packages(code):
        if declared.dependencies:
            raise declared.error("the tool has packages of Python and of Node", f"remove them, or {NODE_SCRIPT}")
        data, packages = locked_node_versions(code)
        lock = digest_bytes(data)
        key = digest({"format": _FORMAT, "lock": lock, "machine": os.uname().machine})
        return Environment(lock=lock, folder=_cache() / key.rpartition(":")[2], packages=packages, node=True)
    if not declared.dependencies:
        return None
    try:
        data = (code / LOCK).read_bytes()
    except FileNotFoundError as failure:
        raise declared.error("its packages are not locked", f"run `remit tool env {code.name}`") from failure
    packages, lock = locked_versions(code, data), digest_bytes(data)
    # Everything that changes what is installed: another interpreter needs other wheels.
    key = digest({"format": _FORMAT, "lock": lock, "python": sys.version, "base": base_python()})
    return Environment(lock=lock, folder=_cache() / key.rpartition(":")[2], packages=packages)


def check_environment(code: Path) -> Environment | None:
    """Like `find_environment`, and check that the lock fits what main.py declares now. Needs no network.

    Raises:
        WorkspaceError: as for `find_environment`, or the lock is out of date.
    """
    environment = find_environment(code)
    if environment is not None and not environment.node:
        done = _uv("lock", "--script", SCRIPT, "--check", "--offline", "--no-build", cwd=code)
        if done.returncode:
            raise declared_packages(code).error(f"{LOCK} does not fit it", f"run `remit tool env {code.name}`")
    return environment


def lock_environment(code: Path, *, upgrade: bool = False) -> bool:
    """Choose versions that have wheels, and write the lock file; True if that changed it.

    `upgrade`: take the newest versions.

    Raises:
        WorkspaceError: a declared package has no wheel.
        RunEnded: `sandbox_unavailable`: uv is missing, or no index answers.
    """
    if has_node_packages(code):
        return lock_node_packages(code, upgrade=upgrade)
    declared = declared_packages(code)
    path = code / LOCK
    before = path.read_bytes() if path.exists() else None
    if not declared.dependencies:
        return False
    more = ["--upgrade"] if upgrade else []
    done = _uv("lock", "--script", SCRIPT, "--no-build", "--python", base_python(), *more, cwd=code)
    if done.returncode:
        raise _failed(declared, done.stderr)
    locked_versions(code, path.read_bytes())
    return path.read_bytes() != before


def make_environment(
    code: Path, *, report: Callable[[str], None] | None = None, offline: bool = False, kept: WheelStore | None = None
) -> Environment | None:
    """The tool's environment; it is installed if it is not yet. None if the tool declares no packages.

    Several processes may call this at once. `report` gets a message before the installation, which may take long. `kept` has
    wheels of earlier installations, which are installed without network, and gets those of this one. With `offline`, only these
    and packages that uv has already on this machine are installed.

    Raises:
        WorkspaceError: as for `find_environment`, or a package has no wheel for this machine.
        RunEnded: `sandbox_unavailable`: uv is missing, no index answers, or the cache cannot be written; `unrecorded`: `kept`
            cannot be written.
    """
    environment = find_environment(code)
    if environment is None:
        return None
    if not environment.made:
        _make(code, environment, report, offline=offline, kept=kept)
    if kept is not None and not offline and not environment.node:
        keep_wheels(code, environment.site, kept, report)
    return environment


# ── installing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _make(
    code: Path,
    environment: Environment,
    report: Callable[[str], None] | None,
    *,
    offline: bool,
    kept: WheelStore | None,
) -> None:
    """Install it, unless another process does. Raises as `make_environment`."""
    try:
        _check_owner(environment.folder.parent)
        with _lock(environment.folder):
            if not environment.made:  # another process may have installed it while this one waited
                if report is not None:
                    names = ", ".join(environment.packages)
                    report(f"installing {len(environment.packages)} packages for {code.name}: {names} …")
                _install(code, environment, offline=offline, kept=kept)
    except OSError as failure:
        raise RunEnded(
            "sandbox_unavailable",
            f"the environment of tool {code.name!r} cannot be written: {failure.strerror}",
            fix=f"make {str(environment.folder.parent)!r} writable and free disk space, or set XDG_CACHE_HOME",
        ) from failure


def _install(code: Path, environment: Environment, *, offline: bool, kept: WheelStore | None) -> None:
    """Install into a folder next to the final one, then rename it: no process ever sees an incomplete environment."""
    part = environment.folder.with_suffix(".part")
    _remove(part)  # left by a process that was killed
    try:
        if environment.node:
            lock = (code / NODE_LOCK).read_bytes()
            if digest_bytes(lock) != environment.lock:
                raise DeclaredPackages(tool=code.name).error(f"{NODE_LOCK} changed", "run the command again")
            install_node_packages(code, lock, part, offline=offline)
            _make_read_only(part)
            os.rename(part, environment.folder)
            return
        with tempfile.TemporaryDirectory(prefix="remit-env-") as made:
            # From a copy: what is installed is what was read, and uv writes nothing next to the tool.
            shutil.copyfile(code / SCRIPT, f"{made}/{SCRIPT}")
            lock = (code / LOCK).read_bytes()
            used = lock if kept is None else use_wheels(lock, kept, Path(made, "wheels"))
            Path(made, LOCK).write_bytes(used)
            for step in _steps(part):
                done = _uv(*step, *(["--offline"] if offline else []), cwd=Path(made), active=part)
                if done.returncode:
                    raise _failed(declared_packages(code), done.stderr)
            if (Path(made, LOCK).read_bytes(), (code / LOCK).read_bytes()) != (used, lock):
                raise DeclaredPackages(tool=code.name).error(
                    f"{LOCK} changed during the installation", "run the command again"
                )
        _compile(part)
        _make_read_only(part)
        os.rename(part, environment.folder)
    finally:
        _remove(part)


def _steps(part: Path) -> tuple[tuple[str, ...], ...]:
    """The arguments of uv. Files are copied, never linked to uv's cache: other projects could change them there."""
    python = ("--python", base_python())
    return (
        ("venv", "--no-project", "--relocatable", *python, str(part)),
        (
            "sync",
            "--script",
            SCRIPT,
            "--active",
            "--frozen",
            "--no-build",
            "--no-compile-bytecode",
            *python,
            "--link-mode=copy",
        ),
    )


def _compile(part: Path) -> None:
    """Compile in advance, because no tool can write there.

    INVARIANT: it is the base interpreter, without `site`, so no `.pth` file of a package is read.
    """
    line = [base_python(), "-I", "-S", "-m", "compileall", "-qq", "-x", r"/tests?/", str(part / "lib")]
    subprocess.run(
        line, check=False, capture_output=True, stdin=subprocess.DEVNULL
    )  # a file that does not compile is the package's own matter


def _make_read_only(part: Path) -> None:
    for folder, _, names in os.walk(part):
        for path in (*(os.path.join(folder, name) for name in names), folder):
            if not os.path.islink(path):
                os.chmod(path, 0o555 if os.stat(path).st_mode & stat.S_IXUSR else 0o444)


def _remove(folder: Path) -> None:
    if folder.exists():
        for inner, _, _ in os.walk(folder):
            with suppress(OSError):
                os.chmod(inner, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _cache() -> Path:
    """`$XDG_CACHE_HOME/remit/environments`. It can be removed at any time, and is then installed again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.path.realpath(base), "remit", "environments")


def _check_owner(folder: Path) -> None:
    """Make the folder; raise if accounts other than this one and root can write there or replace the folder."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    for path in (folder, *folder.parents):
        status = path.stat()
        open_to_others = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or open_to_others:
            raise RunEnded(
                "sandbox_unavailable",
                f"other accounts could put packages into {str(path)!r}",
                fix="make this account its owner, with mode 755, or set XDG_CACHE_HOME to a folder of your own",
            )


@contextmanager
def _lock(folder: Path) -> Generator[None]:
    """Only one process installs at a time. The kernel releases the lock when that process ends."""
    descriptor = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ── uv ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _find_uv() -> str:
    """The uv to use: $REMIT_UV if set, else that of the wheel, else the one on PATH."""
    named = os.environ.get("REMIT_UV")
    if named is not None:
        path = named if os.access(named, os.X_OK) else None
    else:
        try:
            path = str(import_module("uv").find_uv_bin())  # optional, and without types
        except (ImportError, AttributeError, FileNotFoundError):
            path = shutil.which("uv")
    if path is None:
        raise RunEnded(
            "sandbox_unavailable", "uv, which installs a tool's packages, is missing", fix="pip install 'remit[uv]'"
        )
    return path


def _uv(*arguments: str, cwd: Path, active: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run uv with the user's settings of indexes, proxies and certificates, and without those of the current project."""
    dropped = ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_WORKING_DIR", "UV_LOCKED")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    if active is not None:
        env["VIRTUAL_ENV"] = str(active)
    line = [_find_uv(), *arguments]
    return subprocess.run(
        line, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, errors="replace"
    )


_UNREACHABLE: Final = re.compile(
    r"Network connectivity is disabled|Request failed|Failed to fetch|Failed to download|error sending request|dns error|timed out"
)


def _failed(declared: DeclaredPackages, output: str) -> WorkspaceError | RunEnded:
    """The error for a failure of uv: no index answered, or the declared packages have no wheels."""
    text = " ".join(output.split())[-600:]
    if _UNREACHABLE.search(text):
        fix = "connect to the network, or set UV_DEFAULT_INDEX to your index"
        return RunEnded(
            "sandbox_unavailable", f"the packages of tool {declared.tool!r} cannot be fetched: {text}", fix=fix
        )
    return declared.error(f"no wheels for its packages: {text}", "choose versions that have wheels for this machine")


def base_python() -> str:
    """The interpreter that runs tools: that of this process, outside any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
