"""Runs commands as a user does, each in a new process that is forked from one that has already imported Remit.

Imports, and the test of how this machine confines tools, take most of the time of a command. The tests run hundreds of commands
and do both once (`support.cli_imports`). Some tests of `end_to_end/` and some commands of pages start the installed command.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from remit.cli import main
from remit.sandbox import sandbox
from remit.workspace import identity
from support import TESTS
from support.runs import CommandResult

ACCOUNT = (
    "REMIT_TESTS_ACCOUNT"  # the account of the operating system that gives the command, in place of this process's
)
WITHOUT = "REMIT_TESTS_WITHOUT"  # set by `make ablate`: the protection to remove in commands too


@cache
def server() -> ForkServerContext:
    """The process from which others are forked, started at the first use.

    A server does not get `sys.path` (CPython before 3.14), so it finds the modules of the tests by PYTHONPATH.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.cli_imports"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
        forkserver.ensure_running()
    return context


def command(
    folder: Path,
    *args: str,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    largest_file: int | None = None,
) -> CommandResult:
    """Run one command in `folder`, with this process's environment and `env`; `timeout` is in seconds.

    No file that it writes grows beyond `largest_file` bytes.
    """
    return _ended(folder, ("remit", *args), timeout, env, largest_file)


def script(folder: Path, file: str, *args: str, timeout: float = 120) -> CommandResult:
    """Run a Python file in `folder`, as `python FILE` does."""
    return _ended(folder, (file, *args), timeout, None, None)


def _ended(
    folder: Path, words: tuple[str, ...], timeout: float, env: Mapping[str, str] | None, largest_file: int | None
) -> CommandResult:
    with tempfile.TemporaryDirectory() as folder_of_output:
        out, err = Path(folder_of_output, "out"), Path(folder_of_output, "err")
        environment = {**os.environ, **(env or {})}
        given = (words, str(folder), environment, str(out), str(err), largest_file)
        process = server().Process(target=_run, args=given)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{' '.join(words)} did not end within {timeout} s")
        code = process.exitcode
        process.close()
        return CommandResult(code=code, out=out.read_text(), err=err.read_text())


def _run(
    words: tuple[str, ...], folder: str, environment: dict[str, str], out: str, err: str, largest_file: int | None
) -> None:
    """In the new process: run `remit ARGS`, or a Python file with its arguments."""
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT),
        (2, err, os.O_WRONLY | os.O_CREAT),
    ):
        descriptor = os.open(path, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)  # only a starting interpreter reads it
    if WITHOUT in environment:
        from adversarial.mutation import take_away

        take_away(environment[WITHOUT], pytest.MonkeyPatch())
    else:
        _inherit_sandboxes()
    if ACCOUNT in environment:
        identity._os_account = lambda: environment[ACCOUNT]
    os.chdir(folder)
    assert "support.cli_imports" in sys.modules, "the server of commands has not imported what they need"
    sys.argv = [*words]
    if words[0] == "remit":
        main()
    else:
        sys.path.insert(0, folder)
        runpy.run_path(words[0], run_name="__main__")


def _inherit_sandboxes() -> None:
    """Use the tiers that the server found. The key of a sandbox has all that a tier depends on, and the process."""
    shared = sandbox._shared
    shared.update({(os.getpid(), *key[1:]): found for key, found in list(shared.items())})
