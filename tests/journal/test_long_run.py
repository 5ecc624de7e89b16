"""A run of a thousand steps is small on disk, and its memory does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from remit.core.events import ModelRequested, Recorded
from remit.runtime import runner as run
from remit.workspace import session
from support.principals import OPERATOR
from support.runs import DONE, turn

STEPS = 1000
TEXT = "x" * 2000


def memory() -> int:
    """The memory of this process at present, in bytes; the peak would hide memory that was released."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def test_a_thousand_steps_stay_small_on_disk_and_flat_in_memory(clerk: Callable[..., Path]) -> None:
    folder = clerk(
        [turn(ledger__look={"name": "ann", "text": TEXT})] * STEPS + [DONE], steps=STEPS + 1, calls=STEPS + 1
    )
    opened = session.open_session(folder)
    used: dict[int, int] = {}

    def tell(recorded: Recorded) -> None:
        if isinstance(recorded.event, ModelRequested) and recorded.event.step % 100 == 0:
            used[recorded.event.step] = memory()

    start = run.RunRequest(
        agent="clerk",
        task="look a thousand times",
        subject="user:operator",
        by=OPERATOR,
        model=run.open_model_of(opened, "clerk"),
    )
    ended = asyncio.run(run.start_run(opened, start, on_event=tell))
    assert ended.finished is not None
    assert ended.finished.outcome == "completed"
    opened.journal.close()
    stores = [folder / "traces" / name for name in ("journal.db", "journal.db-wal")]
    size = sum(path.stat().st_size for path in stores if path.exists())
    assert size < 50 * 1024 * 1024
    # The conversation is kept for the model: about 3 KB for each step, and little else.
    assert used[STEPS] - used[200] < (STEPS - 200) * 16 * 1024
