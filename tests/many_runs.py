"""Work for several processes at once: record random runs, replay them in an order of one's own, be killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from counting import counting_house, use
from test_random_runs import Killed, live, one_life, turns_of
from warm import SERVER

from remit.broker.approvals import requests as approval
from remit.replay.replayer import replay, tampering
from remit.runtime import runner as run
from remit.tracing import open_trace, read, write_portable
from remit.workspace import session as house
from remit.workspace.bundle import open_rulebook

LASTS_NS = approval.LASTS_NS
WAIT_S = 3600.0


def at_once(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Run `work` once for each of the arguments, each in a process of its own, all at the same time."""
    processes = [SERVER.Process(target=work, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT_S)
        assert process.exitcode == 0, f"{work.__name__} ended with {process.exitcode}"


def record_runs(folder: str, seeds: Sequence[int]) -> None:
    """Play a random run for each seed and export it as `FOLDER/SEED.jsonl`."""
    for seed in seeds:
        chance = random.Random(seed)
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "clerk"
            use(root)
            approval.LASTS_NS = chance.choice([LASTS_NS] * 4 + [0])
            limits = {"steps": chance.choice([30, 30, 2]), "calls": chance.choice([60, 60, 3])}
            counting_house(root, turns_of(chance), **limits)
            opened, name = live(root, chance, run.open_model_of(house.open_house(root), "clerk"), play=forked)
            write_portable(open_trace(opened.traces, opened.journal, name), Path(folder) / f"{seed}.jsonl")
            opened.journal.close()


def forked(*life: Any) -> None:
    """One life of a run in a process of its own, which is dead where it dies."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with suppress(Killed):
                one_life(*life)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0, "a life of the run failed"


def replay_runs(folder: str, order: int) -> None:
    """Replay every file of the folder in an order of one's own; what is not reproduced is written to `ORDER.failed`."""
    files = sorted(Path(folder).glob("*.jsonl"))
    random.Random(order).shuffle(files)
    failed: dict[str, str] = {}
    for file in files:
        trace = read(file)
        books = {digest: open_rulebook(found) for digest, found in trace.rulebooks().items()}
        said = asyncio.run(replay(trace.records, books, tampering=tampering(trace.faults(), trace.chain)))
        if not said.reproduced:
            failed[file.name] = str(said.divergences[0])
    (Path(folder) / f"{order}.failed").write_text(json.dumps([len(files), failed]))


def play_slowly(root: str, name: str, telling: Connection) -> None:
    """Play the run of the workspace, telling of each event, until it ends or somebody kills this process."""
    use(Path(root))
    os.environ["LEDGER_SLOW"] = "0.003"
    opened = house.open_house(Path(root))
    start = run.Start(
        agent="clerk",
        task="pay ann",
        subject="user:operator",
        account="t",
        model=run.open_model_of(opened, "clerk"),
        run=name,
    )
    asyncio.run(run.start_run(opened, start, tell=lambda _: telling.send_bytes(b".")))
