"""Runs the tests of external graphs with the oldest and with the newest LangChain and LangGraph that pyproject.toml allows.

Every other package stays at the version in uv.lock. Run as a script (`make langgraphs`); needs the network once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from packaging.requirements import Requirement

from support import ROOT

FAMILY: Final = ("langchain", "langgraph")
WHICH: Final = ("oldest", "newest")
TESTS: Final = ("tests/langchain", "tests/runtime/test_custom_graphs.py")


def named() -> list[Requirement]:
    """What pyproject.toml says of LangChain and LangGraph themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["langchain"]]
    return [found for found in map(Requirement, lines) if found.name.startswith(FAMILY)]


def requirements(which: str) -> str:
    """A file of requirements: the locked packages, and of the family those that Remit and its tests name."""
    export = ["export", "--frozen", "--no-hashes", "--no-header", "--no-annotate", "--no-emit-project"]
    locked = [line for line in uv(*export).splitlines() if not line.startswith(FAMILY)]
    lowest = {found.name: next(one.version for one in found.specifier if one.operator == ">=") for found in named()}
    chosen = [f"{found.name}=={lowest[found.name]}" if which == "oldest" else str(found) for found in named()]
    return "\n".join([*locked, *chosen, *needed_by_tests(), ""])


def needed_by_tests() -> list[str]:
    """The packages of the family that only tests need: each in the newest version that works with the others."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["dev"]
    names = {found.name for found in named()}
    return [line for line in group if line.startswith(FAMILY) and Requirement(line).name not in names]


def uv(*arguments: str) -> str:
    """What the uv of `.venv` prints."""
    command = [str(Path(sys.executable).with_name("uv")), *arguments]
    env = {**os.environ, "UV_SYSTEM_CERTS": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def environment(which: str) -> Path:
    """Make the environment, and print the versions in it. Returns its interpreter."""
    folder = ROOT / ".cache" / f"langgraph-{which}"
    uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    listed = folder / "requirements.txt"
    listed.write_text(requirements(which), encoding="utf-8")
    python = folder / "bin" / "python"
    uv("pip", "install", "--quiet", "--python", str(python), "-r", str(listed))
    uv("pip", "install", "--quiet", "--python", str(python), "--no-deps", "--editable", ".")
    versions = [line for line in uv("pip", "freeze", "--python", str(python)).splitlines() if line.startswith(FAMILY)]
    print(f"{which}: {', '.join(versions)}", flush=True)
    return python


def main(arguments: list[str]) -> int:
    """Returns 1 if a test failed with one of the two."""
    failed = False
    for which in WHICH:
        command = [str(environment(which)), "-m", "pytest", "-q", *(arguments or TESTS)]
        failed |= subprocess.run(command, cwd=ROOT, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
