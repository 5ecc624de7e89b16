"""A tool's own packages: what its `main.py` asks for (PEP 723), locked by uv beside it, installed once, read-only.

    lock     write `main.py.lock`; the only step that chooses versions
    find     where the environment of that very lock lies, made or not
    make     install it, where it is not there yet

Nothing that a package brings is run here: no source is built, no `.pth` file is read, and compiling is not importing.
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
from remit.sandbox.packages.requirements import LOCK, SCRIPT, DeclaredPackages, declared_packages, locked_versions

_FORMAT: Final = 1  # of the environment's folder


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The packages of one lock for one interpreter. `folder` may not be there yet; `packages` are versions by name.

    `lock` is the digest of the lock alone, the same on every machine.
    """

    lock: str
    folder: Path
    packages: Mapping[str, str] = field(compare=False, hash=False)

    @property
    def interpreter(self) -> Path:
        """For an editor: whoever starts it runs the packages unconfined."""
        return self.folder / "bin" / "python"

    @property
    def site(self) -> str:
        """What the sandbox mounts and imports from."""
        return f"{self.folder}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"

    @property
    def made(self) -> bool:
        return self.folder.is_dir()


def find_environment(code: Path) -> Environment | None:
    """The environment that the lock stands for; None where the tool asks for no packages.

    Raises:
        WorkspaceError: what it asks for cannot be read, is not locked, or is locked to something that is not held.
    """
    declared = declared_packages(code)
    if not declared.dependencies:
        return None
    try:
        data = (code / LOCK).read_bytes()
    except FileNotFoundError as failure:
        raise declared.error("its packages are not locked", f"run `remit tool env {code.name}`") from failure
    packages, held = locked_versions(code, data), digest_bytes(data)
    key = digest({"format": _FORMAT, "lock": held, "python": sys.version, "base": base_python()})
    return Environment(lock=held, folder=_cache() / key.rpartition(":")[2], packages=packages)


def check_environment(code: Path) -> Environment | None:
    """As `find`, and the lock fits what main.py asks for now. Needs no network.

    Raises:
        WorkspaceError: as `find`, or the lock is stale.
    """
    found = find_environment(code)
    if found is not None:
        done = _uv("lock", "--script", SCRIPT, "--check", "--offline", "--no-build", cwd=code)
        if done.returncode:
            raise declared_packages(code).error(f"{LOCK} does not fit it", f"run `remit tool env {code.name}`")
    return found


def lock_environment(code: Path, *, upgrade: bool = False) -> bool:
    """Choose versions, wheels only, and write them down; whether that changed anything. `upgrade`: the newest ones.

    Raises:
        WorkspaceError: what is declared for cannot be had as wheels.
        RunEnded: `sandbox_unavailable`: uv is missing, or no index can be reached.
    """
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


def make_environment(code: Path, *, report: Callable[[str], None] | None = None) -> Environment | None:
    """The tool's environment, installed where it was not; None where it asks for no packages. Safe to ask for at once.

    `tell` hears what takes long.

    Raises:
        WorkspaceError: as `find`, or a package has no wheel for this machine.
        RunEnded: `sandbox_unavailable`: uv is missing, no index can be reached, or the cache cannot be written.
    """
    found = find_environment(code)
    if found is None or found.made:
        return found
    try:
        _keep_safe(found.folder.parent)
        with _alone(found.folder):
            if not found.made:
                if report is not None:
                    names = ", ".join(found.packages)
                    report(f"installing {len(found.packages)} packages for {code.name}: {names} …")
                _install(code, found)
    except OSError as failure:
        raise RunEnded(
            "sandbox_unavailable",
            f"the environment of tool {code.name!r} cannot be written: {failure.strerror}",
            fix=f"make {str(found.folder.parent)!r} writable and give it space, or set XDG_CACHE_HOME",
        ) from failure
    return found


# ── installing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _install(code: Path, environment: Environment) -> None:
    """Into a folder beside its place, which then takes the place in one step: half an environment is never seen."""
    part = environment.folder.with_suffix(".part")
    _remove(part)  # of one that was killed
    try:
        with tempfile.TemporaryDirectory(prefix="remit-env-") as made:
            for name in (
                SCRIPT,
                LOCK,
            ):  # a copy: what is installed is what was read, and uv writes nothing beside the tool
                shutil.copyfile(code / name, f"{made}/{name}")
            for step in _steps(part):
                done = _uv(*step, cwd=Path(made), active=part)
                if done.returncode:
                    raise _failed(declared_packages(code), done.stderr)
            if digest_bytes(Path(made, LOCK).read_bytes()) != digest_bytes((code / LOCK).read_bytes()):
                raise DeclaredPackages(tool=code.name).error(f"{LOCK} changed meanwhile", "run it again")
        _compile(part)
        _make_read_only(part)
        os.rename(part, environment.folder)
    finally:
        _remove(part)


def _steps(part: Path) -> tuple[tuple[str, ...], ...]:
    """Copied, never linked to uv's own cache: what another project does to its files must not reach a tool."""
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
    """Beforehand, since no tool can write there. INVARIANT: the base interpreter, without `site`: it reads no `.pth`."""
    line = [base_python(), "-I", "-S", "-m", "compileall", "-qq", "-x", r"/tests?/", str(part / "lib")]
    subprocess.run(line, check=False, capture_output=True, stdin=subprocess.DEVNULL)  # old syntax is the package's own


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
    """`$XDG_CACHE_HOME/remit/environments`; what lies there can be removed at any time and is made again."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.path.realpath(base), "remit", "environments")


def _keep_safe(folder: Path) -> None:
    """Raise unless only this account, or root, can put anything there or another folder in its place."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    for one in (folder, *folder.parents):
        status = one.stat()
        open_to_others = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or open_to_others:
            raise RunEnded(
                "sandbox_unavailable",
                f"others could put packages into {str(one)!r}",
                fix="give it to this account with mode 755, or set XDG_CACHE_HOME to a folder of your own",
            )


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """One maker at a time; the kernel gives the lock back when it dies."""
    descriptor = os.open(folder.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ── uv ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _find_uv() -> str:
    """$REMIT_UV alone where it is set; else the wheel's, else the one on PATH."""
    named = os.environ.get("REMIT_UV")
    if named is not None:
        found = named if os.access(named, os.X_OK) else None
    else:
        try:
            found = str(import_module("uv").find_uv_bin())  # optional, and without types
        except (ImportError, AttributeError, FileNotFoundError):
            found = shutil.which("uv")
    if found is None:
        raise RunEnded(
            "sandbox_unavailable", "uv, which installs a tool's packages, is missing", fix="pip install 'remit[uv]'"
        )
    return found


def _uv(*arguments: str, cwd: Path, active: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The user's own settings of indexes, proxies and certificates hold; no project's do."""
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
    r"Request failed|Failed to fetch|Failed to download|error sending request|dns error|timed out"
)


def _failed(declared: DeclaredPackages, output: str) -> WorkspaceError | RunEnded:
    """uv's failure: the index's, or the author's."""
    text = " ".join(output.split())[-600:]
    if _UNREACHABLE.search(text):
        fix = "connect to the network, or name your index in UV_DEFAULT_INDEX"
        return RunEnded(
            "sandbox_unavailable", f"the packages of tool {declared.tool!r} cannot be fetched: {text}", fix=fix
        )
    return declared.error(
        f"its packages cannot be had as wheels: {text}", "name versions that have wheels for this machine"
    )


def base_python() -> str:
    """The interpreter that runs tools: this one, outside of any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
