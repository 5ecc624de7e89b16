"""Files that have changed since they were ingested."""

import os
from collections.abc import Iterator
from pathlib import Path

from retrieval.documents import SIDECAR, Unreadable, read_document
from retrieval.index import Source, digest_of, folder_of
from retrieval.shelf import Shelf, Version

DOCUMENTS = "documents"
MOST_FILES = 100_000
MOST_COMPARED = (
    2_000  # files that one search compares; of larger collections, it compares those of the chunks that it found
)


def sources(collection: str) -> Iterator[Source]:
    """The files of a collection, sorted. Names that begin with a dot are left out."""
    root = folder_of(collection) / DOCUMENTS
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(SIDECAR):
                path = Path(folder, name)
                yield Source(path=path.relative_to(root).as_posix(), stamp=stamp_of(path))


def stamp_of(path: Path) -> str:
    """Changes when the file or its sidecar is written; "" if there is no such file."""
    stamps: list[str] = []
    for each in (path, path.with_name(path.name + SIDECAR)):
        try:
            status = os.stat(each)
        except OSError:
            continue
        stamps.append(f"{status.st_size}.{status.st_mtime_ns}")
    return " ".join(stamps)


def is_behind(shelf: Shelf, left: int) -> tuple[bool, int]:
    """Whether a file of a visible document changed, and how many more files may be compared; a large collection is not compared.

    INVARIANT: a file of a document that the reader may not see changes nothing, so a new file is read to see which document it is.
    """
    known = {version.source: version for version in shelf.select("")}
    visible = {path for path, version in known.items() if shelf.permits(version.name)}
    if len(visible) > left:
        return False, left
    skipped = dict(shelf.connection.execute("SELECT source, stamp FROM skipped").fetchall())
    found: set[str] = set()
    for source in sources(shelf.collection):
        found.add(source.path)
        if source.path in known:
            changed = source.path in visible and has_changed(shelf, known[source.path], source.stamp)
        else:
            changed = skipped.get(source.path) != source.stamp and (shelf.whole or _is_visible(shelf, source))
        if changed:
            return True, left - len(visible)
    return bool(visible - found), left - len(visible)


def has_changed(shelf: Shelf, version: Version, stamp: str | None = None) -> bool:
    """True if the file of a version has other bytes now: a copy of the collection has other times only."""
    path = folder_of(shelf.collection) / DOCUMENTS / version.source
    if (stamp_of(path) if stamp is None else stamp) == version.stamp:
        return False
    try:
        return digest_of(*contents(path)) != version.digest
    except OSError:
        return True


def _is_visible(shelf: Shelf, source: Source) -> bool:
    path = folder_of(shelf.collection) / DOCUMENTS / source.path
    try:
        return shelf.permits(read_document(shelf.collection, source.path, *contents(path)).name)
    except (OSError, Unreadable):
        return False


def contents(path: Path) -> tuple[bytes, bytes | None]:
    """A file and its sidecar, None without one."""
    sidecar = path.with_name(path.name + SIDECAR)
    return path.read_bytes(), sidecar.read_bytes() if sidecar.is_file() else None
