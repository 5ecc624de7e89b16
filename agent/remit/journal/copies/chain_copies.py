"""Copies the chain of a run to shared storage: when it starts, before each irreversible attempt, and when its process is done with it.

A database that is put back from a backup has lost what was recorded since. The outside world has not: an irreversible call of that
time would be made again. So before such a call begins, its events are where the database is not.

INVARIANT: the copy with an attempt is stored before the attempt is recorded, and the attempt is recorded before its effect. So an effect
whose attempt the journal lacks has its attempt in the copies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from remit.core import RunEnded
from remit.core.events import EVENT, AttemptBegun
from remit.journal.hash_chain import ChainLink, encode, payload_digest
from remit.journal.projections import is_run
from remit.journal.storage.sealed import pack, unpack
from remit.storage import Store

if TYPE_CHECKING:
    from remit.journal.store import Journal

CHAINS: Final = "chains/"  # of runs; below it, a folder for each run
STREAMS: Final = "streams/"  # of holds, keys, published rules and rollouts
_NAME: Final = re.compile(r"(?P<seq>[0-9]{10})(?:-(?P<step>[0-9]+)\.(?P<index>[0-9]+)\.(?P<attempt>[0-9]+))?")
_LENGTH: Final = 8  # bytes that say how long a part is


@dataclass(frozen=True, kw_only=True)
class CopyName:
    """One copy: `seq` is the number of its last event, and `attempt` the key of the attempt that may have begun then, "" without one."""

    name: str
    seq: int
    attempt: str


@dataclass(frozen=True, kw_only=True)
class ChainCopy:
    """What one copy has: events as they were sealed, and the attempt that was about to be recorded."""

    links: Sequence[ChainLink]
    begun: AttemptBegun | None


class DamagedCopy(RunEnded):
    """A copy is missing, cut off or changed: what its chain did is not known."""

    def __init__(self, name: str, failure: ValueError) -> None:
        fix = "restore it in the storage, or remove it and settle what it was about"
        super().__init__("unrecorded", f"the copy {name} of the record is damaged: {failure}", fix=fix)


class ChainCopies:
    """The copies of one journal. Threads share it; every method raises RunEnded (`unrecorded`) if the storage cannot be used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._copied: dict[str, int] = {}  # the last event that is copied, of each chain that this process extends

    def add(self, journal: Journal, stream: str, begun: AttemptBegun | None = None) -> None:
        """Copy the events of a chain that are in the journal and in no copy yet, with the attempt that begins now."""
        last = self._copied.get(stream)
        if last is None:
            last = max((item.seq for item in self.names(stream)), default=-1)
        links = journal.links(stream, after=last)
        if not links and begun is None:
            return
        seq = links[-1].seq if links else last
        place = "" if begun is None else f"-{begun.step}.{begun.index}.{begun.attempt}"
        self._store.put(f"{folder_of(stream)}{seq:010d}{place}", _packed(links, begun))
        self._copied[stream] = seq

    def names(self, stream: str) -> list[CopyName]:
        """The copies of one chain, in order."""
        found = (_named(name) for name in self._store.names(folder_of(stream)))
        return sorted((item for item in found if item is not None), key=lambda item: (item.seq, item.attempt))

    def last(self, *, runs: bool) -> dict[str, int]:
        """The number of the last event that is copied, of every stream, and with `runs` of every run."""
        last: dict[str, int] = {}
        for beginning in (CHAINS, STREAMS) if runs else (STREAMS,):
            for name in self._store.names(beginning):
                item, stream = _named(name), name.removeprefix(beginning).rpartition("/")[0]
                if item is not None:
                    last[stream] = max(item.seq, last.get(stream, -1))
        return last

    def forget(self, run: str) -> None:
        """Keep no copy of the chain of a run any more."""
        for name in self._store.names(folder_of(run)):
            self._store.remove(name)
        self._copied.pop(run, None)

    def read(self, stream: str, item: CopyName) -> ChainCopy:
        """One copy. Raises DamagedCopy if it is missing or was changed."""
        data = self._store.get(item.name)
        try:
            return _unpacked(stream, b"" if data is None else data)
        except ValueError as failure:
            raise DamagedCopy(item.name, failure) from failure


def folder_of(stream: str) -> str:
    """The beginning of the names of the copies of a chain."""
    return f"{CHAINS if is_run(stream) else STREAMS}{stream}/"


def _named(name: str) -> CopyName | None:
    matched = _NAME.fullmatch(name.rpartition("/")[2])
    if matched is None:
        return None
    attempt = "" if matched["step"] is None else "attempt.begun/{step}/{index}/{attempt}".format(**matched.groupdict())
    return CopyName(name=name, seq=int(matched["seq"]), attempt=attempt)


def _packed(links: Sequence[ChainLink], begun: AttemptBegun | None) -> bytes:
    parts = (*pack(links), b"" if begun is None else encode(begun).encode())
    return b"".join(len(part).to_bytes(_LENGTH) + part for part in parts)


def _unpacked(stream: str, data: bytes) -> ChainCopy:
    """Raises ValueError if the data is no copy, or an event in it is not the one that was sealed."""
    parts: list[bytes] = []
    for _ in range(3):
        length = int.from_bytes(data[:_LENGTH])
        if len(data) < _LENGTH + length:
            raise ValueError("it is cut off, or missing")
        parts.append(data[_LENGTH : _LENGTH + length])
        data = data[_LENGTH + length :]
    links = unpack(stream, parts[0], parts[1])
    for link in links:
        whole = link.body is not None and payload_digest(link.salt or "", link.body) == link.payload_digest
        if link.sealed != link.hash or not whole:
            raise ValueError(f"event {link.seq} is not the one that was sealed")
    begun = EVENT.validate_json(parts[2]) if parts[2] else None
    if begun is not None and not isinstance(begun, AttemptBegun):
        raise ValueError("it names no attempt")
    return ChainCopy(links=links, begun=begun)
