"""Runs every long target of the Makefile, one after the other, and goes on where an earlier call stopped.

    python3 .ci/full.py [--again] [--write] [TARGET …]

A target that passed on the files that are checked out now is not run again, unless `--again` says so. The output of each is in
`.cache/full/TARGET.log`. `--write` writes the table of all targets, with date, machine and commit, below `docs/benchmarks/`.
Exit 1 if a target failed. Standard library only.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / ".cache" / "full"
# Targets that only set up, show or write something, or that another one contains: `check` runs `docs` and `test`.
LEFT_OUT = frozenset({"help", "setup", "run", "test", "docs", "golden", "handbook", "bench", "full"})
# `bench-attacks` runs these three as well.
IN_ATTACKS = frozenset({"documents", "tau2", "bfcl"})
LAST_LINES = 3  # of a target's output, in the table


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every long target, and go on where an earlier call stopped.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="only these")
    parser.add_argument("--again", action="store_true", help="also those that passed on the files of now")
    parser.add_argument("--write", action="store_true", help="write the table below docs/benchmarks/")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(targets()):
        print(
            f"error: no long target is named {', '.join(sorted(unknown))}; there are {', '.join(targets())}",
            file=sys.stderr,
        )
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    state = read_state()
    for name in asked.targets or targets():
        passed = state.get(name, {})
        if not asked.again and passed.get("files") == files() and passed["code"] == 0:
            print(f"{name}: passed before, on these files")
            continue
        state[name] = run(name)
        (OUT / "state.json").write_text(json.dumps(state, indent=2))
    if asked.write:
        page = ROOT / "docs" / "benchmarks" / f"full-{datetime.datetime.now(datetime.UTC).date().isoformat()}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(table(state))
        print(f"wrote {page.relative_to(ROOT)}")
    return 1 if failed(state) else 0


def targets() -> Sequence[str]:
    """Every long target: those that `make help` lists, and one for each benchmark."""
    text = (ROOT / "Makefile").read_text()
    documented = re.findall(r"^([a-z-]+):.*## ", text, re.M)
    benches = sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py"))
    every = [*documented, *(f"bench-{name}" for name in benches if name not in IN_ATTACKS)]
    return [name for name in dict.fromkeys(every) if name not in LEFT_OUT]


def run(name: str) -> dict[str, Any]:
    """Run one target; its output goes into its log. Ctrl-C ends it, and the targets before it stay done."""
    begun, before = time.monotonic(), files()
    print(f"{name}: …", flush=True)
    # `make full ARGS=…` hands its variables down by MAKEFLAGS: they are for this program, not for the targets.
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "ARGS"))}
    with (OUT / f"{name}.log").open("wb") as log:
        done = subprocess.run(["make", name], cwd=ROOT, env=own, stdout=log, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - begun
    print(f"{name}: {'passed' if done.returncode == 0 else 'FAILED'} after {seconds:.0f} s", flush=True)
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"files": before, "code": done.returncode, "seconds": round(seconds), "at": at, "last": last_lines(name)}


def files() -> str:
    """The digest of the files that are checked out; of changed ones, the digest of the change too."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD^{tree}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    change = subprocess.run(["git", "diff", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return commit if not change else f"{commit}+{hash_of(change)}"


def hash_of(text: str) -> str:
    line = ["git", "hash-object", "--stdin"]
    return subprocess.run(line, input=text, capture_output=True, text=True, check=True).stdout.strip()


def last_lines(name: str) -> str:
    lines = (OUT / f"{name}.log").read_text(errors="replace").splitlines()
    return "; ".join(line.strip() for line in [line for line in lines if line.strip()][-LAST_LINES:])[:300]


def read_state() -> dict[str, dict[str, Any]]:
    path = OUT / "state.json"
    return json.loads(path.read_text()) if path.exists() else {}


def failed(state: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(state[name]["code"] for name in targets() if name in state)


def table(state: Mapping[str, Mapping[str, Any]]) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    machine = f"{os.cpu_count()} cores, {memory} GiB, {platform.platform()}, Python {platform.python_version()}"
    head = [
        "# Every long target",
        "",
        f"`make full`: {machine}.",
        "",
        "| target | result | seconds | when | last lines |",
        "|---|---|---|---|---|",
    ]
    rows = []
    now = files()
    for name in targets():
        one = state.get(name)
        if one is None:
            rows.append(f"| `make {name}` | not run | | | |")
            continue
        stale = "" if one["files"] == now else ", on other files"
        last = one["last"].replace("|", "\\|")
        rows.append(
            f"| `make {name}` | {'passed' if one['code'] == 0 else 'failed'}{stale} | {one['seconds']} | {one['at']} | {last} |"
        )
    return "\n".join([*head, *rows, ""])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
