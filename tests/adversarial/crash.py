"""Crash test: kill -9 at random points of real runs, then resume. No irreversible effect is repeated, and no event is lost.

    python tests/adversarial/crash.py --runs 300 [--seed N] [--postgres] [--json]

Each run is scripted, its tool is sandboxed, and its effects are counted in a file that only the tool writes. Broker, sandbox or
both are killed, after some time or at an event. Then one or two processes resume the run, and may be killed too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.core.errors import UsageError
from remit.core.events import AttemptBegun, AttemptEnded, CallAnswered, CallDecided, EffectSettled, Recorded
from remit.journal.hash_chain import verify_chain
from remit.replay.replayer import find_tampering, replay
from remit.runtime import runner as run
from remit.sandbox import Sandbox
from remit.tools import workbench as tool
from remit.tracing import read_trace
from remit.tracing.reports import reconcile
from remit.workspace import loader as workspace
from remit.workspace.bundle import open_bundle
from remit.workspace.session import WorkspaceSession, open_session
from support.postgres import journal_setting, journals_in, shared_server
from support.principals import OPERATOR
from support.workspaces.files import write_workspace

LIVES = 12  # processes that one run may take
PATIENCE_S = 120.0  # for one process; far more than any needs
MANIFEST = """
name = "ledger"
version = "1.0.0"
owner = "tests@example.com"
summary = "Counts what is done to it, in a store of its own"

[at_most]
stores = ["ledger"]

[limits]
wall = "20s"
cpu = "10s"

[circuit]                          # one kill ends all calls of a turn: an open circuit would leave the next runs without any
failures = 1000

[actions.look]
summary = "Read the ledger"
touches = ["read store:ledger"]
effect = "read"
retry = { attempts = 3, on = ["tool_crashed"] }

[actions.put]
summary = "Write one value, however often"
touches = ["write store:ledger", "use account:{name}"]
effect = "idempotent"
retry = { attempts = 3, on = ["tool_crashed"] }

[actions.book]
summary = "Book once a key"
touches = ["write store:ledger", "use account:{name}"]
effect = "keyed"
retry = { attempts = 3, on = ["tool_crashed"] }

[actions.pay]
summary = "Pay; nobody can look whether it was paid"
touches = ["write store:ledger", "use account:{name}"]
effect = "once"

[actions.wire]
summary = "Pay with a reference"
touches = ["write store:ledger", "use account:{name}"]
effect = "once"
probe = "wired"

[actions.wired]
summary = "Look for the reference"
touches = ["read store:ledger", "use account:{name}"]
effect = "read"
"""
MAIN = """
import json, os, time
from pathlib import Path

STORE = Path("stores/ledger/rows.jsonl")

def _rows() -> list[dict]:
    return [json.loads(line) for line in STORE.read_text().splitlines()] if STORE.exists() else []

def _write(**row: object) -> None:
    time.sleep(0.004)
    handle = os.open(STORE, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(row) + "\\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    time.sleep(0.004)

def look() -> int:
    return len(_rows())

def put(name: str, amount: int) -> str:
    _write(action="put", name=name, amount=amount)
    return "put"

def book(name: str, amount: int, idempotency_key: str) -> str:
    if all(row.get("key") != idempotency_key for row in _rows()):
        _write(action="book", name=name, amount=amount, key=idempotency_key)
    return "booked"

def pay(name: str, amount: int) -> str:
    _write(action="pay", name=name, amount=amount)
    return "paid"

def wire(name: str, amount: int, idempotency_key: str) -> str:
    _write(action="wire", name=name, amount=amount, key=idempotency_key)
    return "wired"

def wired(name: str, idempotency_key: str) -> str | None:
    return "wired" if any(row.get("key") == idempotency_key for row in _rows()) else None
"""
RULES = """
p, agent:teller, ledger.*, store:ledger, True, allow
p, agent:teller, ledger.*, account:*, True, allow
p, role:people, ledger.*, store:ledger, True, allow
p, role:people, ledger.*, account:*, True, allow
g, user:operator, role:people
"""
AGENT = """
name = "teller"
summary = "Pays"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["ledger"]
folder = "work/teller/{run}"
seed = "agent/teller/seed"
"""
ONCE = ("pay", "wire")


def turns() -> list[dict[str, Any]]:
    """Three turns of parallel calls; the amount identifies the call."""
    made: list[dict[str, Any]] = []
    for step in range(3):
        names = ["pay", "wire", "book", "put"] if step != 1 else ["wire", "pay", "book"]
        calls = [
            {f"ledger__{name}": {"name": f"{name}{step}", "amount": 10 * step + at}} for at, name in enumerate(names)
        ]
        made.append({"say": "next", "calls": [*calls, {"ledger__look": {}}]})
    return [*made, {"say": "done"}]


def write_ledger(folder: Path) -> None:
    """Write the workspace that all runs share; each run has a separate working folder."""
    files = {
        "remit.toml": journal_setting() + '[identity]\n"*" = "user:operator"\n',
        "tools/ledger/tool.toml": MANIFEST,
        "tools/ledger/main.py": MAIN,
        "policies/rules.csv": RULES,
        "agent/teller/agent.toml": AGENT,
        "agent/teller/prompt.md": "Pay.\n",
        "agent/teller/script.yaml": json.dumps({"turns": turns()}),
        "agent/teller/seed/stores/ledger/.keep": "",
    }
    write_workspace(folder, files)
    found = workspace.load_workspace(folder)
    asyncio.run(tool.pin_tools(found, tuple(found.tools), Sandbox(accept=("full",))))


def forked(work: Callable[[], int]) -> int:
    """Run `work` in a forked process, so that imports are done once and a kill hits only that process."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setpgid(0, 0)
            code = work()
        except UsageError as error:
            code = 3 if "another process" in str(error) else 4
            if code == 4:
                sys.stderr.write(f"{error}\n")
        except BaseException as error:  # noqa: BLE001 - reported by the exit code, and in words
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    return pid


def ended(pid: int, within: float) -> int | None:
    """The exit code of a process, negative for a signal; None if it still runs."""
    until = time.monotonic() + within
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def below(pid: int) -> list[int]:
    """The descendants of `pid`: the sandboxes of a broker."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, ValueError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        ones = parents.get(waiting.pop(), [])
        found += ones
        waiting += ones
    return found


@dataclass
class Run:
    """One run of the crash test: which processes were killed, and when."""

    folder: Path
    name: str
    chance: random.Random
    kills: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])  # Unix ns before, after, whom
    lives: int = 0

    @property
    def witness(self) -> Path:
        """A file with every event that a process saw recorded, separate from the journal."""
        return self.folder / "witness" / self.name

    def live(self) -> int:
        """Start or resume the run, as a user would."""
        handle = os.open(self.witness, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

        def tell(recorded: Recorded) -> None:
            os.write(handle, f"{recorded.seq} {recorded.hash} {recorded.type}\n".encode())

        session = open_session(self.folder)
        if not session.journal.events(self.name):
            model = run.open_model_of(session, "teller")
            start = run.RunRequest(
                agent="teller", task="pay", subject="user:operator", by=OPERATOR, model=model, run=self.name
            )
            done = asyncio.run(run.start_run(session, start, on_event=tell))
        else:
            done = asyncio.run(run.resume_run(session, self.name, by=OPERATOR, on_event=tell))
        return 0 if done.finished is not None else 5

    def seen(self) -> int:
        return self.witness.read_bytes().count(b"\n") if self.witness.exists() else 0

    def kill(self, pid: int, whom: str) -> None:
        """Send SIGKILL to the broker, to its sandboxes, or to both."""
        victims = below(pid) if whom != "broker" else []
        if whom != "sandbox":
            victims.append(pid)
        before = time.time_ns()
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self.kills.append((before, time.time_ns(), whom))

    def until_killed(self, pid: int) -> None:
        """Wait for a random time or number of events, and kill then."""
        chance = self.chance
        target = self.seen() + chance.randint(1, 45) if chance.random() < 0.7 else None
        until = time.monotonic() + (PATIENCE_S if target is not None else chance.uniform(0.0, 1.5))
        while time.monotonic() < until and ended_quietly(pid) is None:
            if target is not None and self.seen() >= target:
                time.sleep(chance.uniform(0.0, 0.02))
                break
            time.sleep(0.001)
        self.kill(pid, chance.choice(["broker", "broker", "sandbox", "both"]))


def ended_quietly(pid: int) -> int | None:
    """The status of an ended process, which stays waitable; None if it still runs."""
    try:
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return None if info is None else info.si_status


def play(one: Run) -> None:
    """Execute the run to its end, with as many processes as that needs."""
    codes: list[int | None] = []
    while one.lives < LIVES:
        pair = one.lives > 0 and one.chance.random() < 0.4
        pids = [forked(one.live) for _ in range(2 if pair else 1)]
        one.lives += 1
        if one.lives <= 1 or one.chance.random() < 0.3:
            one.until_killed(one.chance.choice(pids))
        codes = [ended(pid, PATIENCE_S) for pid in pids]
        assert None not in codes, "a process did not end"
        assert all(code in (0, 3, -signal.SIGKILL, 1, 4, 70) for code in codes), codes
        session = open_session(one.folder)
        try:
            if any(item.type == "run.finished" for item in session.journal.events(one.name)):
                return
        finally:
            session.journal.close()
    raise AssertionError(f"run {one.name} did not end in {LIVES} lives: {codes}")


def judged(one: Run, *, replayed: bool) -> Counter[str]:
    """Compare the record with the store of the tool, and the witnessed events with the record."""
    session = open_session(one.folder)
    try:
        records = session.journal.events(one.name)
        found: Counter[str] = Counter(runs=1, kills=len(one.kills), lives=one.lives, events=len(records))
        found["broken"] += session.journal.verify(one.name) != () or verify_chain(records) != ()
        # A process that was killed after its last event has left its file behind the journal; each command completes it first.
        copy = reconcile(session.traces, session.journal, session.journal.chain(one.name))
        found["broken"] += copy.state != "complete" or read_trace(session.traces / f"{one.name}.jsonl").faults() != ()
    finally:
        session.journal.close()
    kept = {(item.seq, item.hash) for item in records}
    witnessed = {(int(seq), digest) for seq, digest, _ in map(str.split, one.witness.read_text().splitlines())}
    found["lost"] += len(witnessed - kept)
    rows = (
        [
            json.loads(line)
            for line in (one.folder / f"work/teller/{one.name}/stores/ledger/rows.jsonl").read_text().splitlines()
        ]
        if (one.folder / f"work/teller/{one.name}/stores/ledger/rows.jsonl").exists()
        else []
    )
    done = Counter((row["action"], row["amount"]) for row in rows)
    keys = Counter(row["key"] for row in rows if row["action"] == "book")
    found["twice"] += sum(count > 1 for (action, _), count in done.items() if action in ONCE)
    found["twice"] += sum(count > 1 for count in keys.values())
    for item in records:
        if isinstance(item.event, CallAnswered):
            found += _answer(one, records, item.event, done)
    if replayed:
        found["replayed"] += 1
        found["diverged"] += not asyncio.run(_replay(session, one.name))
    return found


async def _replay(session: WorkspaceSession, name: str) -> bool:
    trace = read_trace(session.traces / f"{name}.jsonl")
    books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    return (await replay(trace.records, books, tampering=find_tampering(trace.faults(), trace.chain))).reproduced


def _answer(one: Run, records: list[Recorded], answered: CallAnswered, done: Counter[tuple[str, int]]) -> Counter[str]:
    """Compare the result of one call with its real effect."""
    place = (answered.step, answered.index)
    of_call = [item for item in records if item.event and (item.event.step, item.event.index) == place]
    decided = next(item.event for item in of_call if isinstance(item.event, CallDecided))
    assert decided.call is not None
    action, amount = decided.call.action.partition(".")[2], decided.call.arguments.get("amount", -1)
    happened = done[action, amount] > 0
    found: Counter[str] = Counter(calls=1)
    result = answered.result
    if result.ok:
        found["lied"] += action != "look" and not happened
        return found
    landed = result.error.details.get("effect")
    if result.error.code != "outcome_unknown":
        found["lied"] += landed == "not_landed" and happened
        found["failed"] += 1
        found["circuit_open"] += result.error.code == "circuit_open"
        return found
    found["unknown"] += 1
    found["unknown_landed"] += happened
    intents = [item for item in of_call if isinstance(item.event, AttemptBegun)]
    ends = [item for item in of_call if isinstance(item.event, AttemptEnded)]
    in_between = any(intents[-1].at <= after and before <= ends[-1].at for before, after, _ in one.kills)
    looked = any(isinstance(item.event, EffectSettled) and item.event.landed == "unknown" for item in of_call)
    found["unknown_elsewhere"] += action not in ONCE or not in_between or (action == "wire" and not looked)
    return found


# A call that an open circuit refuses tests nothing.
BAD = ("twice", "lost", "broken", "lied", "unknown_elsewhere", "diverged", "circuit_open")


def harness(folder: Path, runs: int, seed: int, *, verbose: bool) -> Counter[str]:
    """Play that many runs, and add up the counts."""
    assert ended(forked(lambda: (write_ledger(folder), 0)[1]), PATIENCE_S) == 0
    (folder / "witness").mkdir()
    found: Counter[str] = Counter()
    for number in range(runs):
        chance = random.Random(f"{seed}/{number}")
        one = Run(folder=folder, name=f"{number + 1:032x}", chance=chance)
        play(one)
        counts = judged(one, replayed=number % 10 == 0)
        found += counts
        if verbose and (number % 20 == 19 or any(counts[word] for word in BAD)):
            bad = {word: counts[word] for word in BAD if counts[word]}
            print(
                f"{number + 1:>4} of {runs}: {dict(found)}{f'  NOW BAD: {bad} {one.kills}' if bad else ''}",
                file=sys.stderr,
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--postgres", action="store_true", help="the journal is in PostgreSQL")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="remit-kills-"))
    try:
        with ExitStack() as stack:
            if given.postgres:
                stack.enter_context(journals_in(stack.enter_context(shared_server(folder))))
            found = harness(folder, given.runs, given.seed, verbose=not given.json)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        print(json.dumps({word: found[word] for word in sorted({*found, *BAD})}))
    else:
        for word in (
            "runs",
            "lives",
            "kills",
            "events",
            "calls",
            "failed",
            "unknown",
            "unknown_landed",
            "replayed",
            *BAD,
        ):
            print(f"{word:<18}{found[word]:>8}")
    sys.exit(any(found[word] for word in BAD))


if __name__ == "__main__":
    main()
