"""The bodies of sealed runs: with shared storage they lie there, by digest, and the database has their digest in their place.

The headers and the chain stay in the database: it alone says what a run recorded. A machine that reads a body keeps no file of it, which
nobody would erase there; a process keeps those that it read last in memory.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Final

from remit.core import RunEnded
from remit.core.parsing import digest_bytes
from remit.storage import Store

SEALED: Final = "sealed/"  # below it, a folder for each run
KEPT: Final = 16 << 20  # bytes of bodies that a process keeps in memory
_REFERENCE: Final = re.compile(rb"sha256:[0-9a-f]{64}")  # packed bodies never begin like this


class SealedBodies:
    """The bodies of the sealed runs of one journal. Threads share it. `store` None: all of them are in the database.

    Every method raises RunEnded (`unrecorded`) if the storage cannot be used.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._read: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, run: str, bodies: bytes) -> bytes:
        """Keep the packed bodies of a run; returns what the database stores."""
        if self._store is None:
            return bodies
        kept = digest_bytes(bodies).encode()
        self._store.put(_name(run, kept), bodies)
        return kept

    def get(self, run: str, kept: bytes) -> bytes:
        """The packed bodies of a run, of which the database has `kept`. Raises RunEnded if they are missing or were changed."""
        if _REFERENCE.fullmatch(kept) is None:
            return kept
        with self._lock:
            if kept in self._read:
                self._read.move_to_end(kept)
                return self._read[kept]
        found = self._stored(run, kept)
        with self._lock:
            self._read[kept] = found
            while sum(map(len, self._read.values())) > KEPT:
                self._read.popitem(last=False)
        return found

    def _stored(self, run: str, kept: bytes) -> bytes:
        if self._store is None:
            what, fix = (
                f"the bodies of the sealed run {run} are in shared storage",
                "name it in [storage] of remit.toml",
            )
            raise RunEnded("unrecorded", what, fix=fix)
        found = self._store.get(_name(run, kept))
        if found is None or _differs(found, kept):
            state = "missing in" if found is None else "not what was stored in"
            what = f"the bodies of the sealed run {run} are {state} the storage: {_name(run, kept)}"
            raise RunEnded("unrecorded", what, fix="restore that object, or delete the run: `remit trace prune`")
        return found

    def forget(self, run: str, *, but: bytes = b"") -> None:
        """Keep no bodies of the run in shared storage any more, except those of which the database has `but`."""
        if self._store is None:
            return
        with self._lock:
            self._read.clear()
        for name in self._store.names(f"{SEALED}{run}/"):
            if not but or name != _name(run, but):
                self._store.remove(name)


def _differs(found: bytes, kept: bytes) -> bool:
    return digest_bytes(found).encode() != kept


def _name(run: str, kept: bytes) -> str:
    return f"{SEALED}{run}/{kept.decode().removeprefix('sha256:')}"
