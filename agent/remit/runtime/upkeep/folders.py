"""Keeps the working folder of a run in shared storage, so that another machine can continue the run.

A folder is what its run began with, and each file that a call wrote since, also in a store: the record names both by digest. So shared
storage has the contents, and the record says which of them count. What something else changes in the folder, no other machine sees.
The machine that drove the run last goes on with the folder as it has it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remit.core import Call, Change, RunEnded, UsageError
from remit.core.events import AnyEvent, AttemptEnded, RunStarted
from remit.core.parsing import digest_bytes
from remit.sandbox import SCRATCH_BYTES, Scratch, read_beneath
from remit.storage import Store
from remit.tracing import Objects
from remit.workspace import WorkspaceSession


@dataclass(frozen=True, kw_only=True)
class KeptFolder:
    """The working folder of one run, and where its contents are kept."""

    store: Store
    run: str
    folder: Path

    def begin(self, objects: Objects) -> str:
        """Keep what the run begins with, which is part of the definition of its agent; returns the digest of the list of it.

        Raises:
            UsageError: it has a symbolic link, which would not lead to the same file elsewhere.
            RunEnded: `unrecorded`: it cannot be stored.
        """
        files: dict[str, bytes] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_symlink():
                name = path.relative_to(self.folder)
                raise UsageError(
                    f"the working folder has the symbolic link {str(name)!r}, which other machines would lack: replace it"
                )
            if path.is_file():
                files[path.relative_to(self.folder).as_posix()] = path.read_bytes()
        self.store.put(self._driver, self._here)
        return objects.put_bundle(files)

    def keep(self, call: Call, changes: Sequence[Change]) -> tuple[Change, ...]:
        """Keep what a call wrote, before its result is recorded; returns all of it, with the files of its stores.

        Raises RunEnded (`unrecorded`) if it cannot be read or stored.
        """
        with self._reading() as root:
            return self._keep(root, call, changes)

    def _keep(self, root: int, call: Call, changes: Sequence[Change]) -> tuple[Change, ...]:
        stores = (touch.resource for touch in call.touches if touch.kind == "store" and touch.access == "write")
        changes = (
            *changes,
            *(change for name in sorted(stores) for change in self._in_store(root, name.partition(":")[2])),
        )
        for change in changes:
            data = read_beneath(root, _path_of(change)) if change.digest else None
            # A later call may have written the file again: then it keeps what is there now.
            if data is not None and digest_bytes(data) == change.digest:
                self.store.put(self._name(change.digest), data)
        return changes

    def _in_store(self, root: int, name: str) -> Iterator[Change]:
        """The files of a store as they are now. Not those of SQLite's shared memory, which it makes again."""
        for path in _files_below(self.folder / "stores" / name):
            if path.name.endswith("-shm") or path.is_symlink() or not path.is_file():
                continue
            data = read_beneath(root, path.relative_to(self.folder).as_posix())
            if data is not None:
                resource = f"file:{path.relative_to(self.folder).as_posix()}"
                yield Change(resource=resource, digest=digest_bytes(data), size=len(data))
            elif path.is_file():  # a file that is gone meanwhile, as SQLite removes its own, is not part of the store
                what = (
                    f"{path.relative_to(self.folder)} is larger than {SCRATCH_BYTES >> 20} MiB, the most that is shared"
                )
                raise RunEnded("unrecorded", what, fix="make the store smaller, then `remit run --resume`")

    @contextmanager
    def _reading(self) -> Generator[int]:
        """The working folder, opened; raises RunEnded (`unrecorded`) if something in it cannot be read."""
        try:
            root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield root
            finally:
                os.close(root)
        except OSError as failure:
            named = f" ({failure.filename})" if failure.filename else ""
            what = f"a file of the working folder cannot be read{named}: {failure.strerror}"
            fix = "restore read permission to it, then `remit run --resume`"
            raise RunEnded("unrecorded", what, fix=fix) from failure

    def bring_here(self, events: Iterable[AnyEvent], objects: Objects) -> int:
        """Make the files of the folder those that the record names, if another machine drove the run last.

        Returns how many differed. Raises as below.
        """
        if self.folder.is_dir() and self.store.get(self._driver) == self._here:
            return 0
        differed = self._bring_up_to_date(events, objects)
        self.store.put(self._driver, self._here)
        return differed

    def _bring_up_to_date(self, events: Iterable[AnyEvent], objects: Objects) -> int:
        """Make the files of the folder those that the record names; returns how many differed.

        Raises:
            UsageError: the content of one is missing in shared storage, or was changed there.
            RunEnded: `unrecorded`: shared storage cannot be read, or the folder cannot be written.
        """
        shared, began, digests = _contents(events, objects)
        if not self.folder.exists():
            if not shared:
                raise UsageError(
                    f"the run began before its working folder was shared, and {self.folder.name} is not on this machine: "
                    "continue it where it was driven"
                )
            self.folder.mkdir(parents=True)
        root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            written: dict[str, bytes] = {}
            removed: list[str] = []
            for path, digest in digests.items():
                found = read_beneath(root, path)
                if not digest and found is not None:
                    removed.append(path)
                elif digest and (found is None or digest_bytes(found) != digest):
                    begun = began.get(path)
                    written[path] = begun if begun is not None and digest_bytes(begun) == digest else self._get(digest)
            _write(root, written, removed)
        except OSError as failure:
            fix = "free disk space or restore write permission, then `remit run --resume`"
            raise RunEnded(
                "unrecorded", f"the working folder cannot be written: {failure.strerror}", fix=fix
            ) from failure
        finally:
            os.close(root)
        return len(written) + len(removed)

    def _get(self, digest: str) -> bytes:
        data = self.store.get(self._name(digest))
        if data is None or _differs(data, digest):
            state = "is missing in" if data is None else "was changed in"
            raise UsageError(
                f"a file that the run wrote {state} the storage, {digest!r}: continue the run where it was driven"
            )
        return data

    @property
    def _driver(self) -> str:
        """The name under which the machine is kept that drove the run last."""
        return f"{_place_of(self.run)}driver"

    @property
    def _here(self) -> bytes:
        """This machine and this workspace."""
        place = self.folder.parent.stat() if self.folder.parent.is_dir() else None
        return f"{platform.node()}:{self.folder}:{place and place.st_ino}".encode()

    def _name(self, digest: str) -> str:
        return f"{_place_of(self.run)}files/{digest.removeprefix('sha256:')}"


def forget_folder(store: Store | None, run: str) -> None:
    """Keep nothing of the working folder of a run in shared storage any more."""
    if store is not None:
        for name in store.names(_place_of(run)):
            store.remove(name)


def _place_of(run: str) -> str:
    """The beginning of the names of what shared storage has of the working folder of a run."""
    return f"runs/{run}/"


def kept_folder(session: WorkspaceSession, run: str, folder: Path) -> KeptFolder | None:
    """The working folder as shared storage keeps it; None without such storage, or for a folder that is not the run's own."""
    store = session.storage
    return None if store is None or run not in folder.as_posix() else KeptFolder(store=store, run=run, folder=folder)


def _contents(events: Iterable[AnyEvent], objects: Objects) -> tuple[bool, Mapping[str, bytes], dict[str, str]]:
    """If the folder was shared from the beginning, what the run began with, and the digest of each file now; "" for a removed one."""
    shared = False
    began: Mapping[str, bytes] = {}
    digests: dict[str, str] = {}
    for event in events:
        match event:
            case RunStarted() if event.files:
                shared, began = True, objects.get_bundle(event.files)
                digests = {path: digest_bytes(data) for path, data in began.items()}
            case AttemptEnded():
                digests |= {_path_of(change): change.digest for change in event.changes}
            case _:
                pass
    return shared, began, digests


def _files_below(folder: Path) -> list[Path]:
    """What lies there, sorted; none if there is no such folder. Raises OSError for a folder that cannot be read."""

    def unreadable(failure: OSError) -> None:
        if not isinstance(failure, FileNotFoundError):
            raise failure

    return sorted(Path(found, name) for found, _, names in os.walk(folder, onerror=unreadable) for name in names)


def _differs(data: bytes, digest: str) -> bool:
    return digest_bytes(data) != digest


def _path_of(change: Change) -> str:
    return change.resource.removeprefix("file:")


def _write(root: int, written: Mapping[str, bytes], removed: Iterable[str]) -> None:
    """Put the files in place as the broker does for a call: beneath the folder, each whole or not at all."""
    descriptors: dict[str, int] = {}
    for path, data in written.items():
        descriptors[path] = os.memfd_create("remit", os.MFD_CLOEXEC)
        with open(descriptors[path], "wb", closefd=False) as file:
            file.write(data)
    Scratch(os.dup(root), descriptors, tuple(removed)).commit()
