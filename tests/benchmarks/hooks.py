"""How long a coding agent waits for the hook of one call: `make bench-hooks`.

`remit serve` runs as people start it. Each call is one that the rules allow, with its result reported after it. Measured is the answer of
the service at its socket alone, and the whole command that the coding agent starts for each event, beside a Python that does nothing:
most of what a command takes is the start of its process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.cli.local.requesting import posted
from remit.workspace.template import write_starter
from support.hooked import with_pack
from support.service_process import remit_serve

CALLS: Final = 200
COMMANDS: Final = 40
NOTHING: Final = (sys.executable, "-c", "pass")


class Session:
    """The events of one session of Claude Code. A `send` passes one of them on, and returns the answer."""

    def __init__(self, root: Path, name: str, send: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._place = {"session_id": name, "cwd": str(root), "project": str(root)}
        self._send = send
        self.event("UserPromptSubmit", prompt="Read it")

    def event(self, name: str, **fields: Any) -> float:
        """Milliseconds until the answer."""
        began = time.perf_counter()
        answer = self._send({"hook_event_name": name, **self._place, **fields})
        took = (time.perf_counter() - began) * 1000
        decided = answer.get("hookSpecificOutput", {}).get("permissionDecision")
        assert decided == ("allow" if name == "PreToolUse" else None), answer
        return took

    def times(self, calls: int) -> tuple[list[float], list[float]]:
        """Milliseconds of the decisions and of the reports of so many calls."""
        decisions, reports = [], []
        for number in range(calls):
            call = {"tool_name": "Read", "tool_use_id": f"t{number}", "tool_input": {"file_path": "remit.toml"}}
            decisions.append(self.event("PreToolUse", **call))
            reports.append(self.event("PostToolUse", **call, tool_response="a text"))
        return decisions, reports


def by_socket(root: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def send(event: dict[str, Any]) -> dict[str, Any]:
        status, answer = posted(root, "/hooks/claude-code", event)
        assert status == 200, answer
        return answer

    return send


def by_command(root: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """As Claude Code passes an event on: to the standard input of a command."""
    words = [sys.executable, "-m", "remit", "hook", "run", "claude-code", "--workspace", str(root)]

    def send(event: dict[str, Any]) -> dict[str, Any]:
        done = subprocess.run(words, input=json.dumps(event), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout or "{}"))

    return send


def of_nothing() -> float:
    began = time.perf_counter()
    subprocess.run(NOTHING, input="", capture_output=True, text=True, check=True)
    return (time.perf_counter() - began) * 1000


def written(root: Path) -> Path:
    """The starter workspace with the tool pack, served on a free port to the account that measures."""
    write_starter(root)
    settings = root / "remit.toml"
    text = settings.read_text().replace("[sandbox]", '[serve]\naddress = "127.0.0.1:0"\n\n[sandbox]')
    settings.write_text(text.replace('"*" = "user:operator"', 'root = "user:operator"\n"*" = "user:operator"'))
    return with_pack(root)


def show(label: str, times: Sequence[float]) -> None:
    p95 = sorted(times)[int(len(times) * 0.95)]
    print(f"{label:38} p50 {statistics.median(times):6.1f} ms  p95 {p95:6.1f} ms  {len(times)} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS, help="Calls by the socket")
    parser.add_argument("--commands", type=int, default=COMMANDS, help="Calls by the command")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = written(Path(folder) / "workspace")
        with remit_serve(root):
            decisions, reports = Session(root, "socket", by_socket(root)).times(chosen.calls)
            decided, reported = Session(root, "command", by_command(root)).times(chosen.commands)
        nothing = [of_nothing() for _ in range(chosen.commands)]
    show("a decision, at the socket", decisions)
    show("a result reported, at the socket", reports)
    show("a decision, by the command of the hook", decided)
    show("a result reported, by the command", reported)
    show("a Python process that does nothing", nothing)


if __name__ == "__main__":
    main()
