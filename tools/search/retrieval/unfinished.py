"""Files that end the process which reads them: after two tries they are no documents, so that one file does not stop a collection."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from retrieval.documents import Unreadable
from retrieval.index import Source, folder_of

NOTES = "unfinished.json"  # beside the index; they outlive the process
TRIES = 2


@contextmanager
def noted(collection: str, source: Source) -> Generator[None]:
    """While a file is read, a note says so. Raises Unreadable if that did not come to an end in two tries with the file as it is."""
    path = folder_of(collection) / NOTES
    notes = _read(path)
    stamp, tries = notes.pop(source.path, ("", 0))
    if stamp == source.stamp and tries >= TRIES:
        _write(path, notes)
        raise Unreadable(
            "it could not be read to its end within the limits of a call: split it, or save it in another format"
        )
    _write(path, {**notes, source.path: (source.stamp, tries + 1 if stamp == source.stamp else 1)})
    try:
        yield
    except (Unreadable, OSError, ValueError):
        _write(path, notes)
        raise
    _write(path, notes)


def _read(path: Path) -> dict[str, tuple[str, int]]:
    try:
        return {str(name): (str(stamp), int(tries)) for name, stamp, tries in json.loads(path.read_text("utf-8"))}
    except (OSError, ValueError, TypeError):
        return {}


def _write(path: Path, notes: dict[str, tuple[str, int]]) -> None:
    if notes:
        path.write_text(json.dumps([[name, *note] for name, note in notes.items()]), "utf-8")
    else:
        path.unlink(missing_ok=True)
