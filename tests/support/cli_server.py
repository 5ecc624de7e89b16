"""The command line as a user calls it, each command in a process of its own, forked from one that has imported Remit.

A third of what a command takes is importing LangGraph and SQLAlchemy; a suite of some hundred commands should pay it once.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from remit.cli import COMMANDS, main
from remit.guardrails.secret_formats import DETECTORS
from support.runs import Said

WITHOUT = "REMIT_TESTS_WITHOUT"  # set by `make ablate`: the protection that is removed from commands too
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "remit.runtime.runner",
        "remit.replay.replayer",
        "remit.analysis.workspace_check",
        "remit.tools.workbench",
        *(f"remit.cli.{module}" for module, _ in COMMANDS.values()),
        *(f"detect_secrets.plugins.{name}" for name in DETECTORS),
    ]
)


def command(
    folder: Path,
    *args: str,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    largest_file: int | None = None,
) -> Said:
    """Run one command in `folder`, with this process's environment and `env`; `timeout` is in seconds.

    No file that it writes grows beyond `largest_file` bytes.
    """
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        environment = {**os.environ, **(env or {})}
        given = (args, str(folder), environment, str(out), str(err), largest_file)
        process = SERVER.Process(target=_run, args=given)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"remit {' '.join(args)} did not end within {timeout} s")
        code = process.exitcode
        process.close()
        return Said(code=code, out=out.read_text(), err=err.read_text())


def _run(
    args: tuple[str, ...], folder: str, environment: dict[str, str], out: str, err: str, largest_file: int | None
) -> None:
    """In the new process: become `remit ARGS`."""
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
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)  # read by an interpreter that starts
    if WITHOUT in environment:
        import pytest

        from adversarial.mutation import take_away

        take_away(environment[WITHOUT], pytest.MonkeyPatch())
    os.chdir(folder)
    sys.argv = ["remit", *args]
    main()
