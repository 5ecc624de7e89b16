"""Runs commands with other mounts than this process has."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from remit.sandbox import find_bwrap
from support.runs import CommandResult
from support.workspaces.ledger import environment


def run_mounted(folder: Path, mounts: Sequence[str], command: Sequence[str]) -> CommandResult:
    """Run a command in a workspace of the ledger, on this machine's files with these mounts of bubblewrap above them."""
    bwrap = find_bwrap()
    assert bwrap is not None
    done = subprocess.run(
        [str(bwrap), "--dev-bind", "/", "/", *mounts, "--", *command],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return CommandResult(code=done.returncode, out=done.stdout, err=done.stderr)
