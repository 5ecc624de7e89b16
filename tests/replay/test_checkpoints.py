"""A checkpoint contains no text of the run, and a forged checkpoint executes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import ormsgpack
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_SINGLE_ARG, JsonPlusSerializer

from remit.runtime import runner as run
from support.runs import DONE, Play, turn

PAYS = [turn("say-words", ledger__pay={"name": "ann-words", "amount": 5000}), DONE]


def blobs(folder: Path) -> list[bytes]:
    """Every value of every checkpoint."""
    with contextlib.closing(sqlite3.connect(folder / "traces" / "checkpoints.db")) as store:
        held = store.execute("SELECT checkpoint, metadata FROM checkpoints").fetchall()
        return [
            value for row in held + store.execute("SELECT value, NULL FROM writes").fetchall() for value in row if value
        ]


def test_a_checkpoint_contains_keys_and_no_text_of_the_run(play: Play) -> None:
    played = play(PAYS)
    assert played.ended.waiting
    held = b"".join(blobs(played.folder))
    assert b"step" in held
    for words in (b"say-words", b"ann-words", b"keep the ledger"):
        assert words not in held


def test_a_forged_checkpoint_builds_nothing(play: Play, tmp_path: Path) -> None:
    """A row that names a callable (CVE-2026-28277): the library's own default would call it."""
    made = tmp_path / "made"
    call = ormsgpack.packb(("os", "mkdir", str(made)))
    forged = ormsgpack.packb(ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, call))
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(("msgpack", forged))
    assert made.is_dir(), "it is a forgery that works"
    made.rmdir()

    played = play(PAYS)
    with contextlib.closing(sqlite3.connect(played.folder / "traces" / "checkpoints.db")) as store, store:
        for number, blob in store.execute("SELECT rowid, checkpoint FROM checkpoints").fetchall():
            held = ormsgpack.unpackb(blob, ext_hook=ormsgpack.Ext)
            held["channel_values"]["index"] = ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, call)
            store.execute("UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", (ormsgpack.packb(held), number))
    ended = asyncio.run(run.resume_run(played.opened, played.ended.run, account="tester"))
    assert ended.waiting
    assert not made.exists()
