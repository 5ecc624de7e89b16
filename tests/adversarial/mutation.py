"""Take each protection away in turn and see its tests fail: `make ablate`. One that no test misses is not protected.

Run by path it plays every row of `mutations/` (or those that are named): exit 1 where a named test passes without its
protection, or where what should go on working does not. As a plug-in of pytest (`-p adversarial.mutation --without NAME`) it is one such run.

The tests do real harm once nothing holds them, so each run is boxed: this machine's files read-only, a /tmp, processes and a
network of its own. Outside of such a box the plug-in refuses.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

import pytest

from adversarial.mutations import ABLATIONS, Ablation
from remit.sandbox import find_bwrap
from support import ROOT, TESTS
from support.cli_server import WITHOUT

BENCH: Final = ROOT / ".bench"
_MISSED: Final = (AssertionError, pytest.fail.Exception)


@dataclass(frozen=True, kw_only=True)
class Played:
    """What became of one row. `passed` are its tests that did not miss the protection; `broke` are not about it."""

    name: str
    missed: dict[str, str]
    passed: tuple[str, ...]
    broke: dict[str, str]

    @property
    def protected(self) -> bool:
        return not self.passed and not self.broke


def play(row: Ablation, *, jobs: int = 2) -> Played:
    """Run the row's tests without its protection, in a pytest of their own."""
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as said:
        wanted = [str(TESTS / test) for test in (*row.tests, *row.still)]
        options = ["-q", "-p", "no:cacheprovider", "-p", "support.harness", "-p", "adversarial.mutation"]
        options += ["--without", row.name, "--said", said.name]
        options += [] if row.fixtures else ["--noconftest"]
        parallel = ["-n", str(jobs)] if jobs > 1 else []
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*box(said.name), sys.executable, "-m", "pytest", *options, *parallel, *wanted],
            cwd="/", env=environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        results = [json.loads(line) for line in said.read().splitlines()]
    if not results:
        return Played(
            name=row.name, missed={}, passed=row.tests, broke={"pytest": done.stdout[-2000:] + done.stderr[-2000:]}
        )
    failed = {one["test"]: one["why"] for one in results if one["outcome"] == "missed"}
    return Played(
        name=row.name,
        missed={test: failed[test] for test in row.tests if test in failed},
        passed=tuple(test for test in row.tests if test not in failed),
        broke={one["test"]: one["why"] for one in results if one["outcome"] == "broke"}
        | {test: failed[test] for test in row.still if test in failed},
    )


def box(writable: str) -> list[str]:
    """The command line around a run that may break out: one file of this machine can be written, and nothing else."""
    bwrap = find_bwrap()
    if bwrap is None:
        sys.exit("error: no bubblewrap to box the tests in: `apt install bubblewrap`")
    root = str(ROOT)
    return [
        str(bwrap), "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent",
        "--new-session", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run",
        "--ro-bind", root, root, "--bind", writable, writable, "--chdir", root, "--",
    ]  # fmt: skip


def boxed() -> bool:
    return bool(os.statvfs("/").f_flag & os.ST_RDONLY and os.statvfs(TESTS).f_flag & os.ST_RDONLY)


# -- one run of pytest without one protection --------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without", help="the protection to take away")
    parser.addoption("--said", help="the file that takes a line for each test")


@pytest.fixture(autouse=True, scope="session")
def taken_away(request: pytest.FixtureRequest) -> Iterator[None]:
    """Before anything of a test is set up."""
    if not boxed():
        pytest.exit("without a protection these tests do real harm: run `make ablate`, which boxes them", returncode=3)
    with pytest.MonkeyPatch.context() as patch:
        take_away(request.config.getoption("--without"), patch)
        patch.setenv(WITHOUT, request.config.getoption("--without"))
        yield


def take_away(name: str, patch: pytest.MonkeyPatch) -> None:
    """In this process: a test that starts another broker has it call this too."""
    (row,) = (one for one in ABLATIONS if one.name == name)
    for remove in row.remove:
        remove(patch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        missed = report.when == "call" and call.excinfo.errisinstance(_MISSED)
        _say(item, "missed" if missed else "broke", " ".join(str(call.excinfo.value).split())[:200])
    elif report.when == "call":
        _say(item, "passed" if report.passed else "skipped", "")
    return report


def _say(item: pytest.Item, outcome: str, why: str) -> None:
    function = item.nodeid.partition("[")[0].removeprefix("tests/")
    with open(item.config.getoption("--said"), "a") as said:
        said.write(json.dumps({"test": function, "outcome": outcome, "why": why}) + "\n")


# -- all of them -------------------------------------------------------------------------------------------------------


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", help="only these protections (default: all)")
    names = options.parse_args().names
    if unknown := set(names) - {row.name for row in ABLATIONS}:
        options.error(
            f"no such protection: {', '.join(sorted(unknown))}; there is {', '.join(row.name for row in ABLATIONS)}"
        )
    played: list[Played] = []
    for row in ABLATIONS:
        if names and row.name not in names:
            continue
        one = play(row)
        played.append(one)
        print(f"{'missed  ' if one.protected else 'NOT SEEN'} without {row.name}", flush=True)
        for test, why in one.missed.items():
            print(f"    fails  {test.partition('::')[2]}: {why}")
        for test in one.passed:
            print(f"    PASSES {test.partition('::')[2]}")
        for test, why in one.broke.items():
            print(f"    BREAKS {test.partition('::')[2] or test}: {why}")
    BENCH.mkdir(exist_ok=True)
    (BENCH / "ablate.json").write_text(
        json.dumps([asdict(one) | {"protected": one.protected} for one in played], indent=2)
    )
    unseen = [one.name for one in played if not one.protected]
    print(f"{len(played) - len(unseen)} of {len(played)} protections are missed by every test that is named for them")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
