"""Random runs, and work for parallel processes: record runs, replay them in any order, get killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from remit.broker import holds as hold
from remit.broker.approvals import requests as approval
from remit.core.errors import Refusal
from remit.core.events import Recorded
from remit.journal import StoredRecord
from remit.replay.replayer import find_tampering, replay
from remit.runtime import runner as run
from remit.tracing import open_trace, read_trace, write_portable
from remit.workspace import session
from remit.workspace.bundle import open_bundle
from support.cli_server import server
from support.lifecycle import Killed
from support.principals import OPERATOR, principal
from support.runs import DONE
from support.workspaces.ledger import ledger_workspace, use

LASTS_NS = approval.LASTS_NS
WAIT_S = 3600.0
SECRET = "AKIAIOSFODNN7EXAMPLE"

CALLS: list[Callable[[random.Random], dict[str, Any]]] = [
    lambda chance: {"ledger__look": {"name": chance.choice(["ann", "ben", "busy1", "busy2", "gone", "crash"])}},
    lambda chance: {"ledger__pay": {"name": "ann", "amount": chance.choice([1, 100, 500, 5000])}},
    lambda chance: {
        "ledger__pay": {"name": chance.choice(["vault", "outside", "cid"]), "amount": chance.choice([1, 900])}
    },
    lambda chance: {"ledger__book": {"name": "ben", "amount": 2}},
    lambda chance: {"ledger__pay": chance.choice(['{"name": "a", "name": "b", "amount": 1}', '{"name":', "[]"])},
    lambda chance: {"ledger__look": {"name": "ann", "text": f"key {SECRET}"}},
    lambda chance: {chance.choice(["shell", "ledger__burn"]): {"name": "ann"}},
    lambda chance: {"ledger__look": {"name": SECRET}},
]


def turns_of(chance: random.Random) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for _ in range(chance.randint(1, 4)):
        calls = [chance.choice(CALLS)(chance) for _ in range(chance.randint(1, 4))]
        turns.append({"say": "next", "calls": calls})
        if chance.random() < 0.08:
            turns[-1]["finish"] = chance.choice(["length", "content_filter"])
    return [*turns, DONE] if chance.random() < 0.8 else turns


def one_process(folder: Path, name: str, user: str | None, model: Any, ends_after: int | None) -> None:
    """The part of a run that one process executes: start it for `user`, or resume it; die after `ends_after` events."""
    opened = session.open_session(folder)
    seen = 0

    def tell(_: Recorded) -> None:
        nonlocal seen
        seen += 1
        if ends_after is not None and seen >= ends_after:
            raise Killed

    if user is None:
        work = run.resume_run(opened, name, by=OPERATOR, on_event=tell)
    else:
        start = run.RunRequest(agent="clerk", task="pay ann", subject=user, by=OPERATOR, model=model, run=name)
        work = run.start_run(opened, start, on_event=tell)
    try:
        asyncio.run(work)
    finally:
        opened.journal.close()


def play_run(
    folder: Path, chance: random.Random, model: Any, play: Callable[..., None] = one_process
) -> tuple[session.WorkspaceSession, str]:
    """Play one run in up to six processes, one after another, with actions of people and operators in between."""
    name = f"{chance.getrandbits(120) + 1:032x}"
    opened = session.open_session(folder)
    holds: list[str] = []
    for number in range(6):
        ends_after = chance.choice([None, None, chance.randint(1, 40)])
        user = chance.choice(["user:operator"] * 4 + ["user:none"]) if number == 0 else None
        with suppress(Killed):
            play(folder, name, user, model, ends_after)
        record = StoredRecord(opened.journal, name)
        if record.state.finished:
            break
        for requested in approval.waiting_approvals(record):
            person = {"by": principal(chance.choice(["lea", "leo"]))}
            now: dict[str, Any] = {"roles_of": opened.policy.roles_of, "now": time.time_ns()}
            try:
                if chance.random() < 0.5:
                    approval.grant_approval(record, requested, approval.Approval(role="role:lead", **person), **now)
                elif chance.random() < 0.4:
                    approval.reject_approval(record, requested, reason="no", **person, **now)
            except Refusal:
                continue
        if holds:
            hold.lift_hold(opened.journal, holds.pop(), by=principal("op"))
        elif chance.random() < 0.2:
            holds.append(chance.choice(["tool:ledger", "agent:clerk", f"run:{name}", "all"]))
            hold.set_hold(opened.journal, holds[-1], why="audit", by=principal("op"))
    return opened, name


def in_parallel(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Run `work` once for each of the arguments, in parallel processes."""
    processes = [server().Process(target=work, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT_S)
        assert process.exitcode == 0, f"{work.__name__} ended with {process.exitcode}"


def record_runs(folder: str, seeds: Sequence[int]) -> None:
    """Play a random run for each seed, and export it as `FOLDER/SEED.jsonl`."""
    for seed in seeds:
        chance = random.Random(seed)
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "clerk"
            use(root)
            approval.LASTS_NS = chance.choice([LASTS_NS] * 4 + [0])
            limits = {"steps": chance.choice([30, 30, 2]), "calls": chance.choice([60, 60, 3])}
            ledger_workspace(root, turns_of(chance), **limits)
            opened, name = play_run(
                root, chance, run.open_model_of(session.open_session(root), "clerk"), play=in_forked_process
            )
            write_portable(open_trace(opened.traces, opened.journal, name), Path(folder) / f"{seed}.jsonl")
            opened.journal.close()


def in_forked_process(*arguments: Any) -> None:
    """Execute `one_process` in a in_forked_process process, which really ends when the run is killed."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with suppress(Killed):
                one_process(*arguments)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0, "a process of the run failed"


def replay_runs(folder: str, order: int) -> None:
    """Replay every file of the folder in the order of the seed `order`; write the failures to `ORDER.failed`."""
    files = sorted(Path(folder).glob("*.jsonl"))
    random.Random(order).shuffle(files)
    failed: dict[str, str] = {}
    for file in files:
        trace = read_trace(file)
        bundles = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
        result = asyncio.run(replay(trace.records, bundles, tampering=find_tampering(trace.faults(), trace.chain)))
        if not result.reproduced:
            failed[file.name] = str(result.divergences[0])
    (Path(folder) / f"{order}.failed").write_text(json.dumps([len(files), failed]))


def play_slowly(root: str, name: str, sender: Connection) -> None:
    """Play the run of the workspace, and send a byte for each event, until the run ends or this process is killed."""
    use(Path(root))
    os.environ["LEDGER_SLOW"] = "0.003"
    opened = session.open_session(Path(root))
    start = run.RunRequest(
        agent="clerk",
        task="pay ann",
        subject="user:operator",
        by=OPERATOR,
        model=run.open_model_of(opened, "clerk"),
        run=name,
    )
    asyncio.run(run.start_run(opened, start, on_event=lambda _: sender.send_bytes(b".")))
