"""Processor seconds of commands that start from nothing: `make bench-start`.

Each command runs in a process of its own, in the starter workspace, after one run that nobody counts, which compiles bytecode. Counted is the
time of the process and of those that it started: the least of several, because other work on the machine only adds to it.

Bars: `policy explain`, `trace show` and `approve list` 0.6 s, `call` 1.2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from remit.workspace.template import write_starter
from support import ROOT

NOTE: Final = "runbooks/payments-pool.md"
CALL: Final = ("call", "files.read", json.dumps({"path": NOTE}), "--agent", "triage")
EXPLAIN: Final = ("policy", "explain", "files.read", f"file:{NOTE}", "--agent", "triage", "--user", "user:operator")


@dataclass(frozen=True, kw_only=True)
class Start:
    """What one command took, in seconds, and the most that it may take."""

    command: str
    cpu_s: float
    wall_s: float
    most_s: float

    @property
    def held(self) -> bool:
        return self.cpu_s <= self.most_s

    def __str__(self) -> str:
        verdict = "held" if self.held else "MISSED"
        return (
            f"{self.command:15} {self.cpu_s:5.2f} s cpu  {self.wall_s:5.2f} s wall  bar {self.most_s:.1f} s: {verdict}"
        )


def measured(folder: Path, words: Sequence[str], turns: int, most_s: float) -> Start:
    """The least that the command took in these turns."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"NO_COLOR": "1", "PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode")}
    took = []
    for _ in range(turns + 1):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "remit", *words], cwd=folder, env=env, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        took.append((cpu, time.perf_counter() - began))
    cpu_s, wall_s = min(took[1:])
    return Start(command=" ".join(words[: 1 if words[0] == "call" else 2]), cpu_s=cpu_s, wall_s=wall_s, most_s=most_s)


def main() -> int:
    """Measure, print, write `.bench/start.json`; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description="Processor seconds of commands that start from nothing.")
    parser.add_argument("--turns", type=int, default=10, help="processes of each command")
    parser.add_argument("--output", type=Path, default=ROOT / ".bench" / "start.json")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as base:
        folder = Path(base) / "workspace"
        write_starter(folder)
        starts = [measured(folder, CALL, chosen.turns, 1.2)]
        run = next((folder / "traces").glob("*.jsonl")).stem
        starts += [
            measured(folder, words, chosen.turns, 0.6)
            for words in (EXPLAIN, ("trace", "show", run), ("approve", "list"))
        ]
    print("\n".join(map(str, starts)))
    print(f"{os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}")
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps([{**asdict(start), "held": start.held} for start in starts], indent=2))
    return 0 if all(start.held for start in starts) else 1


if __name__ == "__main__":
    sys.exit(main())
