"""Work on a journal, each kind in a process of its own, for `tests/benchmarks/journal.py` and for tests at a small size.

`measured("steps", FOLDER, …)` runs the function `steps` in a new process and returns what it returned, and what it took.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from remit.cli import main as main_of_remit
from remit.core import RemitError
from remit.core.calls import ProposedCall
from remit.core.events import ModelFailed, Usage
from remit.core.messages import ModelTurn
from remit.journal import Journal, LiveRecord, count_approvals
from remit.runtime import runner
from remit.workspace.session import WorkspaceSession, open_session
from support import ROOT
from support.events import started
from support.principals import OPERATOR
from support.workspaces.ledger import use

TIMEOUT_S: Final = 3600.0
BODY: Final = "x" * 900


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a process printed, its exit code, its processor seconds (own and of its children), and the most memory it had."""

    code: int
    out: str
    cpu_s: float
    wall_s: float
    rss_mb: float

    @property
    def value(self) -> Any:
        """The JSON of the last line."""
        return json.loads(self.out.splitlines()[-1])


# The kernel counts the memory of the process that starts another one as its own, until the new program begins: so a small
# process starts it and reports on it.
LAUNCHER: Final = """
import json, os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(pid, 0)
with os.fdopen(int(sys.argv[1]), "w") as report:
    json.dump([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], report)
"""


def process(line: Sequence[str], folder: Path) -> Measured:
    """Run a program in `folder` and measure it."""
    paths = os.pathsep.join([str(folder / "hosted"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "LEDGER": str(folder / "ledger.jsonl")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a command of an installation has compiled files
    reading, writing = os.pipe()
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(writing), *line]
    started = time.perf_counter()
    try:
        running = subprocess.run(
            launcher, cwd=folder, env=environment, pass_fds=(writing,), stdout=subprocess.PIPE, text=True, check=True
        )
    finally:
        os.close(writing)
        with os.fdopen(reading) as report:
            reported = report.read()
    code, cpu_s, rss_mb = json.loads(reported)
    return Measured(code=code, out=running.stdout, cpu_s=cpu_s, wall_s=time.perf_counter() - started, rss_mb=rss_mb)


def command(folder: Path, *arguments: str) -> Measured:
    """Run one command of Remit as a user does."""
    return process([sys.executable, "-m", "remit", *arguments], folder)


def work(name: str, folder: Path, *arguments: Any) -> list[str]:
    """The command line that runs a function of this file in the workspace of `folder`."""
    return [sys.executable, "-m", "support.journal_load", name, json.dumps([str(folder), *arguments])]


def measured(name: str, folder: Path, *arguments: Any) -> Any:
    """What a function of this file returns in a new process. Raises RuntimeError if it fails."""
    done = process(work(name, folder, *arguments), folder)
    if done.code:
        raise RuntimeError(f"{name} ended with {done.code}: {done.out[-600:]}")
    return done.value


class Looks:
    """A model that looks at one account in each of so many steps, and is then done."""

    name = "script:script.yaml"
    scripted = True

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def think(self, step: int, messages: Any, tools: Sequence[Any]) -> ModelTurn:
        arguments = json.dumps({"name": f"a{step}"})
        proposed = (ProposedCall(name="ledger__look", arguments=arguments),) if step < self._steps else ()
        usage = Usage(input_tokens=9, output_tokens=9)
        return ModelTurn(
            text="" if proposed else "done",
            proposed_calls=proposed,
            finish="tool_calls" if proposed else "stop",
            usage=usage,
        )


async def look(opened: WorkspaceSession, steps: int) -> None:
    """Play one run of so many steps to its end. Raises RuntimeError if it does not complete."""
    request = runner.RunRequest(agent="clerk", task="look", subject="user:operator", by=OPERATOR, model=Looks(steps))
    ended = await runner.start_run(opened, request)
    if ended.finished is None or ended.finished.outcome != "completed":
        raise RuntimeError(f"the run ended with {ended.finished}")


# -- what runs in a process of its own ------------------------------------------------------------------------------------


def commands(root: Path, every: list[list[str]], rounds: int) -> list[list[float]]:
    """Processor seconds of each of these commands, in so many rounds, without those of starting Python and of its imports.

    They are the largest part of what a command takes, and their noise would hide what a longer history adds.
    """
    import_module("support.cli_imports")
    os.chdir(root)
    found: list[list[float]] = [[] for _ in every]
    for _ in range(rounds):
        for words, seconds in zip(every, found, strict=True):
            process = os.fork()
            if process == 0:
                _run_command(words)
            _, status, used = os.wait4(process, 0)
            if status:
                raise RuntimeError(f"remit {' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
            seconds.append(used.ru_utime + used.ru_stime)
    return found


def _run_command(words: Sequence[str]) -> NoReturn:
    """In the forked process: run one command, whose output nobody reads."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["remit", *words]
        main_of_remit()
        code = 0
    except SystemExit as ended:
        code = 0 if ended.code in (None, 0) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def steps(root: Path, count: int, rounds: int) -> list[list[float]]:
    """Processor seconds and seconds of one step of one host-tool call, for each round."""
    opened = open_session(root)
    asyncio.run(look(opened, count))  # the first run imports and compiles
    found: list[list[float]] = []
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        asyncio.run(look(opened, count))
        found.append([(time.process_time() - cpu) / count, (time.perf_counter() - wall) / count])
    return found


def starts(root: Path, rounds: int) -> list[float]:
    """Processor seconds of a run of one call, for each round."""
    return [cpu for cpu, _ in steps(root, 1, rounds)]


def gauges(root: Path) -> list[float]:
    """Processor seconds of reading the gauges of a workspace once, and the MB of memory that it added."""
    opened = open_session(root)
    before, cpu = _rss_mb(), time.process_time()
    count_approvals(opened.journal, "waiting")
    opened.journal.holds()
    return [time.process_time() - cpu, _rss_mb() - before]


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def crowd(root: Path, runs: int, count: int) -> list[str]:
    """Play so many runs at once, in this process and beside a busy loop on another core. Returns why runs failed."""

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(look(opened, count) for _ in range(runs)), return_exceptions=True)

    opened = open_session(root)
    with busy():
        ended = asyncio.run(all_at_once())
    return [f"{type(failure).__name__}: {failure}" for failure in ended if failure is not None]


@contextmanager
def busy() -> Any:
    """A process that takes all of one core while the context is open."""
    running = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        running.kill()
        running.wait()


def append(root: Path, run: str, begin: float, most: int, until: str = "", pause: float = 0.0) -> dict[str, Any]:
    """Append durable events to one run, from `begin` (Unix time) on, `most` times or until the file `until` exists.

    Returns the seconds that each append waited, the failures, and when the first one began and the last one ended.
    """
    return asyncio.run(_append(open_session(root).journal, run, begin, most, until, pause))


async def _append(journal: Journal, run: str, begin: float, most: int, until: str, pause: float) -> dict[str, Any]:
    waited: list[float] = []
    failures: list[str] = []
    async with journal.lease(run) as lease:
        record = await journal.run_in_thread(LiveRecord, journal, lease)
        record.append(started())
        await record.commit()
        await asyncio.sleep(max(0.0, begin - time.time()))
        began = time.time()
        for number in range(most):
            if until and os.path.exists(until):
                break
            before = time.perf_counter()
            try:
                record.append(ModelFailed(step=number, message=BODY), durable=True)
                await record.commit()
            except RemitError as failure:
                failures.append(f"{type(failure).__name__}: {failure}")
                break  # the record of the run has ended
            waited.append(time.perf_counter() - before)
            await asyncio.sleep(pause)
        ended = time.time()
    return {"waited": waited, "failures": failures, "began": began, "ended": ended}


WORK: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function for function in (commands, steps, starts, gauges, crowd, append)
}


def main() -> None:
    name, given = sys.argv[1:]
    root, *arguments = json.loads(given)
    use(Path(root))
    print(json.dumps(WORK[name](Path(root), *arguments)))


if __name__ == "__main__":
    main()
