"""Mutation tests of the protections: `make ablate` removes each protection in turn, and its tests must fail.

Run as a script, it plays every row of `mutations/`, or the rows that are named. It exits with 1 if a named test passes without its
protection, or if something that must keep working fails. As a plug-in of pytest (`-p adversarial.mutation --without NAME`) it is
one such run.

Without a protection the tests can do real harm, so each run is in a box: the files of this machine are read-only, and /tmp,
processes and network are separate. Outside of a box the plug-in refuses to run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

import pytest

from adversarial.mutations import MUTATIONS, Mutation
from remit.sandbox import find_bwrap
from support import ROOT, TESTS
from support.cli_server import WITHOUT

BENCH: Final = ROOT / ".bench"
_FAILURES: Final = (AssertionError, pytest.fail.Exception)
TEST_S: Final = 180  # a test that has not ended by then has failed: without a limit, hostile input can take for ever
ROW_S: Final = 900


@dataclass(frozen=True, kw_only=True)
class MutationResult:
    """The result of one row: tests that failed as expected, tests that passed, and other tests or set-ups that failed.

    `failed` and `broken` map a test to the message of its failure.
    """

    name: str
    failed: dict[str, str]
    passed: tuple[str, ...]
    broken: dict[str, str]

    @property
    def caught(self) -> bool:
        return not self.passed and not self.broken


def play(row: Mutation) -> MutationResult:
    """Run the tests of the row without its protection, in a separate pytest."""
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as output:
        tests = [str(TESTS / test) for test in (*row.tests, *row.still)]
        options = ["-q", "-p", "no:cacheprovider", "-p", "support.harness", "-p", "adversarial.mutation"]
        options += ["--without", row.name, "--results", output.name]
        options += [] if row.fixtures else ["--noconftest"]
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [*box(output.name), sys.executable, "-m", "pytest", *options, *tests],
                cwd="/", env=environment, capture_output=True, text=True, timeout=ROW_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return MutationResult(name=row.name, failed={}, passed=row.tests, broken={"pytest": f"no end in {ROW_S} s"})
        results = [json.loads(line) for line in output.read().splitlines()]
    if not results:
        return MutationResult(
            name=row.name, failed={}, passed=row.tests, broken={"pytest": done.stdout[-2000:] + done.stderr[-2000:]}
        )
    failed = {
        test: result["why"]
        for result in results
        if result["outcome"] == "failed"
        for test in (result["test"], result["test"].partition("[")[0])  # a row names all cases of a test, or one
    }
    return MutationResult(
        name=row.name,
        failed={test: failed[test] for test in row.tests if test in failed},
        passed=tuple(test for test in row.tests if test not in failed),
        broken={result["test"]: result["why"] for result in results if result["outcome"] == "broken"}
        | {test: failed[test] for test in row.still if test in failed},
    )


def box(writable: str) -> list[str]:
    """The command line of a box for a run that may break out: only one file of this machine can be written."""
    bwrap = find_bwrap()
    if bwrap is None:
        sys.exit("error: bubblewrap is missing, so the tests cannot be boxed: run `apt install bubblewrap`")
    root = str(ROOT)
    return [
        str(bwrap), "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent",
        "--new-session", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run",
        "--ro-bind", root, root, "--bind", writable, writable, "--chdir", root, "--",
    ]  # fmt: skip


def is_boxed() -> bool:
    return bool(os.statvfs("/").f_flag & os.ST_RDONLY and os.statvfs(TESTS).f_flag & os.ST_RDONLY)


# -- one run of pytest without one protection --------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without", help="the protection to remove")
    parser.addoption("--results", help="the file for the results, one line for each test")


@pytest.fixture(autouse=True, scope="session")
def removed_protection(request: pytest.FixtureRequest) -> Iterator[None]:
    """Removes the protection before any test is set up."""
    if not is_boxed():
        pytest.exit(
            "without a protection these tests can do real harm: run `make ablate`, which boxes them", returncode=3
        )
    with pytest.MonkeyPatch.context() as patch:
        take_away(request.config.getoption("--without"), patch)
        patch.setenv(WITHOUT, request.config.getoption("--without"))
        yield


def take_away(name: str, patch: pytest.MonkeyPatch) -> None:
    """Remove the protection in this process; other brokers that a test starts call this too."""
    (row,) = (row for row in MUTATIONS if row.name == name)
    for remove in row.remove:
        remove(patch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that does not end. The limit lies in the main thread, where tests run."""

    def stop(*_: object) -> None:
        pytest.fail(f"{item.name} has not ended after {TEST_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(TEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        failed = report.when == "call" and call.excinfo.errisinstance(_FAILURES)
        _write_result(item, "failed" if failed else "broken", " ".join(str(call.excinfo.value).split())[:200])
    elif report.when == "call":
        _write_result(item, "passed" if report.passed else "skipped", "")
    return report


def _write_result(item: pytest.Item, outcome: str, why: str) -> None:
    with open(item.config.getoption("--results"), "a") as output:
        output.write(json.dumps({"test": item.nodeid.removeprefix("tests/"), "outcome": outcome, "why": why}) + "\n")


# -- all of them -------------------------------------------------------------------------------------------------------


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "names", nargs="*", help="only protections whose name contains one of these texts (default: all)"
    )
    options.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many protections at once")
    given = options.parse_args()
    names = given.names
    if unknown := [name for name in names if not any(name in row.name for row in MUTATIONS)]:
        known = "\n  ".join(row.name for row in MUTATIONS)
        options.error(f"no protection is named {', '.join(map(repr, unknown))}; the protections are:\n  {known}")
    rows = [row for row in MUTATIONS if not names or any(name in row.name for name in names)]
    played: list[MutationResult] = []
    # Each row is a process of its own in a box of its own, so rows do not meet.
    pool = ThreadPoolExecutor(given.jobs)
    for row, result in zip(rows, pool.map(play, rows), strict=True):
        played.append(result)
        print(f"{'caught    ' if result.caught else 'NOT CAUGHT'} {row.name}", flush=True)
        for test, why in result.failed.items():
            print(f"    fails  {test.partition('::')[2]}: {why}")
        for test in result.passed:
            print(f"    PASSES {test.partition('::')[2]}")
        for test, why in result.broken.items():
            print(f"    BREAKS {test.partition('::')[2] or test}: {why}")
    BENCH.mkdir(exist_ok=True)
    (BENCH / "ablate.json").write_text(
        json.dumps([asdict(result) | {"caught": result.caught} for result in played], indent=2)
    )
    caught = sum(result.caught for result in played)
    print(f"{caught} of {len(played)} mutations are caught by all of their tests")
    return 0 if caught == len(played) else 1


if __name__ == "__main__":
    sys.exit(main())
