"""Files that end the process which reads them: after two tries they are no documents, so that one file does not stop a collection."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from retrieval.documents import Unreadable
from retrieval.index import Source, folder_of

NOTE = "unfinished.json"  # beside the index; it outlives the process
TRIES = 2


@contextmanager
def noted(collection: str, source: Source) -> Generator[None]:
    """While a file is read, a note says so. Raises Unreadable if that did not come to an end in two tries with the file as it is."""
    path = folder_of(collection) / NOTE
    tries = _tries(path, source)
    if tries >= TRIES:
        path.unlink()
        raise Unreadable(
            "it could not be read to its end within the limits of a call: split it, or save it in another format"
        )
    path.write_text(json.dumps([*source, tries + 1]), encoding="utf-8")
    try:
        yield
    except (Unreadable, OSError, ValueError):
        path.unlink()
        raise
    path.unlink()


def _tries(path: Path, source: Source) -> int:
    try:
        *noted_source, tries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    return int(tries) if noted_source == [*source] else 0
