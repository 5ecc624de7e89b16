"""Files that have changed since they were ingested."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from retrieval.documents import LARGEST_FILE, SIDECAR, Unreadable, name_of
from retrieval.index import Source, digest_of, folder_of
from retrieval.shelf import Shelf, Version

DOCUMENTS = "documents"
MOST_FILES = 100_000
# Files that one search compares; of larger collections, it compares those of the passages that it found.
MOST_COMPARED = 500


def sources(collection: str) -> Iterator[Source]:
    """The files of a collection, sorted. Links, what is no file, and names that begin with a dot are left out."""
    yield from sorted(_below(_documents(collection), ""))


def _documents(collection: str) -> str:
    return os.path.join(folder_of(collection), DOCUMENTS)


def _below(folder: str, prefix: str) -> Iterator[Source]:
    try:
        with os.scandir(folder) as entries:
            found = {
                entry.name: entry for entry in entries if not entry.name.startswith(".") and not entry.is_symlink()
            }
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, entry in found.items():
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, f"{prefix}{name}/")
        elif entry.is_file(follow_symlinks=False) and not name.endswith(SIDECAR):
            sidecar = found.get(f"{name}{SIDECAR}")
            stamps = [_stamp(each.stat()) for each in (entry, sidecar) if each is not None]
            yield Source(f"{prefix}{name}", " ".join(stamps))


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}.{status.st_mtime_ns}"


def is_behind(shelf: Shelf, left: int) -> tuple[bool, int]:
    """Whether a file of a visible document changed, and how many more files may be compared; a large collection is not compared.

    INVARIANT: a file of a document that the reader may not see changes nothing, so a new file is read to see which document it is.
    """
    if shelf.documents > left:
        return False, left
    left -= shelf.documents
    rows = shelf.connection.execute("SELECT source, stamp, digest, name FROM document").fetchall()
    known = {source: (stamp, digest) for source, stamp, digest, _ in rows}
    visible = {source for source, _, _, name in rows if shelf.permits(name)}
    skipped = dict(shelf.connection.execute("SELECT source, stamp FROM skipped").fetchall())
    found: set[str] = set()
    for source in _below(_documents(shelf.collection), ""):
        found.add(source.path)
        if source.path in known:
            changed = source.path in visible and _is_other(shelf, source, *known[source.path])
        else:
            changed = skipped.get(source.path) != source.stamp and (shelf.whole or _is_visible(shelf, source))
        if changed:
            return True, left
    return bool(visible - found), left


def has_changed(shelf: Shelf, version: Version) -> bool:
    """True if the file of a version was written since it was ingested."""
    path = os.path.join(_documents(shelf.collection), version.source)
    stamps: list[str] = []
    for each in (path, path + SIDECAR):
        with suppress(OSError):
            stamps.append(_stamp(os.stat(each)))
    return _is_other(shelf, Source(version.source, " ".join(stamps)), version.stamp, version.digest)


def _is_other(shelf: Shelf, source: Source, stamp: str, digest: str) -> bool:
    """True if the file has other bytes than those of that stamp and digest: a copy of the collection has other times only."""
    if source.stamp == stamp:
        return False
    try:
        return digest_of(*contents(_path(shelf, source.path))) != digest
    except (OSError, Unreadable):
        return True


def _is_visible(shelf: Shelf, source: Source) -> bool:
    try:
        name = name_of(shelf.collection, source.path, *contents(_path(shelf, source.path)))
    except (OSError, Unreadable):
        return False
    return shelf.permits(name)


def _path(shelf: Shelf, source: str) -> Path:
    return folder_of(shelf.collection) / DOCUMENTS / source


def contents(path: Path) -> tuple[bytes, bytes | None]:
    """A file and its sidecar, None without one. Raises OSError, or Unreadable if one is too large to be a document."""
    sidecar = path.with_name(path.name + SIDECAR)
    return _content(path), _content(sidecar) if sidecar.is_file() else None


def _content(path: Path) -> bytes:
    if path.stat().st_size > LARGEST_FILE:
        raise Unreadable(f"it has more than {LARGEST_FILE >> 20} MiB: split it")
    return path.read_bytes()
