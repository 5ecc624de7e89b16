"""Tab in real shells: names of a workspace are completed where a person types them."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from support import ROOT
from support.runs import Remit

LOAD: Final = 'eval "$(_REMIT_COMPLETE={shell}_source remit)"'
# How each shell is started without files of the account, and what it runs first.
SHELLS: Final = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], LOAD),
    "zsh": (["zsh", "-f", "-i"], f"autoload -Uz compinit; compinit -D -u; {LOAD}"),
    "fish": (["fish", "--no-config", "-i"], LOAD),
}
PATIENCE_S: Final = 100  # of a test, for what a shell writes: only a failure takes so long
KILL_LINE: Final = "\x15"


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str) -> bool:
        """Wait until the shell has written that, after what the last such call found. False if it does not in time."""
        until = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.seen)) is None:
            if time.monotonic() > until or not self._read():
                return False
        self.seen = self.seen[found.end() :]
        return True

    def _read(self) -> bool:
        if not select.select([self._descriptor], [], [], 0.2)[0]:
            return True
        try:
            more = os.read(self._descriptor, 65_536).decode(errors="replace")
        except OSError:  # the shell has ended
            return False
        self.seen += re.sub(r"\x1b\[[0-9;?>=]*[a-zA-Z]|\x1b[=>()][0B]?|\r|\x07", "", more)
        return bool(more)


@contextmanager
def terminal(command: list[str], folder: Path, home: Path) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": f"{ROOT}/agent", "HOME": str(home), "TERM": "dumb",
        "PS1": "> ", "LANG": "C.UTF-8",
    }  # fmt: skip
    # The shell gets the terminal as its own, as from a login; otherwise it could control no jobs, and says so.
    process = subprocess.Popen(
        ["setsid", "--ctty", *command], cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        yield Terminal(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("shell", list(SHELLS))
def test_tab_completes_tools_actions_agents_runs_and_subjects(
    remit: Remit, session: Path, tmp_path: Path, shell: str
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    made = remit("call", "files.read", '{"path": "logs/payments.log", "lines": 1}', "--agent", "triage", "--json").json
    run = made["run"][:8]
    command, load = SHELLS[shell]
    with terminal(command, session, tmp_path) as opened:
        # The words are split, so that the shell's echo of the typed line is not taken for its answer.
        opened.type(f"{load.format(shell=shell)}; echo LOA''DED\n")
        assert opened.wait_for("LOADED"), opened.seen
        for typed, whole in (
            ("remit run t", "remit run triage"),
            ("remit call sql.q", "remit call sql.query"),
            ("remit tool show se", "remit tool show search"),
            (f"remit trace show {run[:4]}", f"remit trace show {run}"),
            ("remit policy can agent:t", "remit policy can agent:triage"),
        ):
            opened.type(f"{typed}\t")
            rest = re.escape(whole.removeprefix(typed))
            assert opened.wait_for(f"(?s){re.escape(typed)}.*{rest}"), (shell, typed, opened.seen)
            opened.type(KILL_LINE)
