"""One collection: its tables, and how documents are added and removed.

Each document has its text, its passages and the counts that a reader's statistics are summed from. A posting list has the passages
of one term as an array of numbers, in order, and beside it how often the term occurs in each.
"""

import hashlib
import json
import sqlite3
from array import array
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from retrieval.documents import Document
from retrieval.passages import passages_of
from retrieval.terms import terms_of

FORMAT = "1"
NAME = "index.db"
STORES = Path("stores/search")
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE document (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, title TEXT NOT NULL, owner TEXT NOT NULL,
  labels TEXT NOT NULL, valid_from TEXT NOT NULL, valid_until TEXT NOT NULL, supersedes TEXT NOT NULL,
  source TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL, digest TEXT NOT NULL,
  first INTEGER NOT NULL, passages INTEGER NOT NULL, terms INTEGER NOT NULL, timed INTEGER NOT NULL DEFAULT 0,
  UNIQUE (name, version));
CREATE INDEX document_timed ON document (name) WHERE timed;
CREATE TABLE content (document INTEGER PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE passage (number INTEGER PRIMARY KEY, document INTEGER NOT NULL, section TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL);
CREATE TABLE posting (term TEXT PRIMARY KEY, passages BLOB NOT NULL, counts BLOB NOT NULL);
CREATE TABLE succession (
  name TEXT NOT NULL, version TEXT NOT NULL, successor TEXT NOT NULL, successor_version TEXT NOT NULL, source TEXT NOT NULL,
  PRIMARY KEY (name, version, successor, successor_version));
CREATE TABLE skipped (source TEXT PRIMARY KEY, stamp TEXT NOT NULL, why TEXT NOT NULL);
"""


class Busy(Exception):
    """Another process writes the index; nothing was changed."""


class IndexDamaged(Exception):
    """The index of a collection cannot be read."""


def folder_of(collection: str) -> Path:
    """The folder of a collection: its index, and below `documents` its files."""
    return STORES / collection


class Source(NamedTuple):
    """A file of the collection: `stamp` changes when it is written."""

    path: str
    stamp: str


def digest_of(data: bytes, sidecar: bytes | None = None) -> str:
    """The digest of bytes, as citations have it; of a file, with that of its sidecar."""
    digest = hashlib.sha256(data)
    if sidecar is not None:
        digest.update(hashlib.sha256(sidecar).digest())
    return f"sha256:{digest.hexdigest()}"


@contextmanager
def reading(collection: str) -> Generator[sqlite3.Connection]:
    """The index of a collection, to read.

    Raises:
        FileNotFoundError: nothing was ingested yet.
        Busy: another process writes it.
        IndexDamaged: it is no index of this format.
    """
    path = folder_of(collection) / NAME
    if not path.is_file():
        raise FileNotFoundError(path)
    with _translated(collection), closing(_connected(path, "ro")) as connection:
        yield connection


def read_meta(connection: sqlite3.Connection, collection: str) -> dict[str, bytes]:
    """What an index says of itself. Raises IndexDamaged if it has another format."""
    meta = dict(connection.execute("SELECT key, CAST(value AS BLOB) FROM meta").fetchall())
    if meta.get("format") != FORMAT.encode():
        raise IndexDamaged(
            f"the index of {collection!r} has another format: remove {NAME} and ingest the collection again"
        )
    return meta


@contextmanager
def writing(collection: str) -> Generator["Writer"]:
    """The index of a collection, for one change, as one transaction. Raises as `reading`."""
    path = folder_of(collection) / NAME
    with _translated(collection), closing(_connected(path, "rwc")) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('format', ?)", (FORMAT,))
        writer = Writer(connection, read_meta(connection, collection))
        yield writer
        writer.flush()
        connection.execute("COMMIT")


@contextmanager
def _translated(collection: str) -> Generator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:  # only a writer may undo what was begun
            raise IndexDamaged(
                f"an ingest of {collection!r} was interrupted: run `remit search ingest {collection}`"
            ) from error
        raise Busy(f"the index of {collection!r} cannot be used now: {error}") from error
    except sqlite3.DatabaseError as error:
        raise IndexDamaged(
            f"the index of {collection!r} is damaged: remove it and ingest the collection again"
        ) from error


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    # The name of a collection has no character that means something in a URI.
    return sqlite3.connect(f"file:{path}?mode={mode}", uri=True, isolation_level=None, timeout=2.0)


def numbers(data: bytes) -> "array[int]":
    """A stored array of passage numbers."""
    found = array("I")
    found.frombytes(data)
    return found


class Writer:
    """Changes one index. What documents add to posting lists is gathered, and written by `flush`."""

    def __init__(self, connection: sqlite3.Connection, meta: dict[str, bytes]) -> None:
        self.connection = connection
        self._gathered: dict[str, tuple[array[int], bytearray]] = {}
        self._next = int(meta.get("next", 0))
        self._lengths = array("H")
        self._lengths.frombytes(meta.get("lengths", b""))

    @property
    def gathered(self) -> int:
        """How many terms wait for `flush`."""
        return len(self._gathered)

    def sources(self) -> dict[str, str]:
        """The stamp of each file that was ingested or skipped, by path."""
        rows = self.connection.execute("SELECT source, stamp FROM document UNION ALL SELECT source, stamp FROM skipped")
        return dict(rows.fetchall())

    def add(self, document: Document, source: Source, digest: str) -> None:
        """Add a version of a document. Raises ValueError if the index has that version from another file."""
        clash = self.connection.execute(
            "SELECT source FROM document WHERE name = ? AND version = ?", (document.name, document.version)
        ).fetchone()
        if clash is not None:
            raise ValueError(f"{clash[0]} has version {document.version} of {document.name} too: write another version")
        text = document.text.encode()
        first, total = self._next, 0
        number = self.connection.execute("SELECT coalesce(max(number), 0) + 1 FROM document").fetchone()[0]
        heading = terms_of(document.title)
        rows: list[tuple[int, int, str, int, int]] = []
        for passage in passages_of(document.text, document.sections):
            terms = [*heading, *terms_of(passage.section), *terms_of(passage.text)]
            rows.append((self._next, number, passage.section, passage.start, passage.stop))
            self._post(terms)
            total += len(terms)
        self.connection.executemany("INSERT INTO passage VALUES (?, ?, ?, ?, ?)", rows)
        self.connection.execute(
            "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (
                number, document.name, document.version, document.title, document.owner, json.dumps(document.labels),
                document.valid_from, document.valid_until, json.dumps(document.supersedes), source.path, source.stamp,
                digest, first, len(rows), total,
            ),
        )  # fmt: skip
        self.connection.execute("INSERT INTO content VALUES (?, ?)", (number, text))
        for name, version in document.supersedes:
            self.supersede(name, version, document.name, document.version, source.path)

    def _post(self, terms: Sequence[str]) -> None:
        passage = self._next
        for term, count in Counter(terms).items():
            passages, counts = self._gathered.setdefault(term, (array("I"), bytearray()))
            passages.append(passage)
            counts.append(min(count, 255))
        self._lengths.append(min(len(terms), 65_535))
        self._next += 1

    def supersede(self, name: str, version: str, successor: str, successor_version: str, source: str = "") -> None:
        """State that a version has a successor; `source` is the file that says so, "" for a person."""
        self.connection.execute(
            "INSERT OR IGNORE INTO succession VALUES (?, ?, ?, ?, ?)",
            (name, version, successor, successor_version, source),
        )

    def restamp(self, source: Source, digest: str) -> bool:
        """Note that a file with the same bytes has another time; False if its bytes are others, or new."""
        query = "UPDATE document SET stamp = ? WHERE source = ? AND digest = ?"
        return self.connection.execute(query, (source.stamp, source.path, digest)).rowcount > 0

    def remove(self, source: str) -> bool:
        """Remove what came from a file; False if there was nothing."""
        self.connection.execute("DELETE FROM skipped WHERE source = ?", (source,))
        row = self.connection.execute(
            "SELECT number, first, passages, text, title FROM document JOIN content ON document = number WHERE source = ?",
            (source,),
        ).fetchone()
        if row is None:
            return False
        self.flush()
        number, first, count, text, title = row
        terms = set(terms_of(title))
        for section, start, stop in self.connection.execute(
            "SELECT section, start, stop FROM passage WHERE document = ?", (number,)
        ):
            terms.update(terms_of(section), terms_of(bytes(text[start:stop]).decode()))
        self._unpost(terms, first, first + count)
        self.connection.execute("DELETE FROM passage WHERE document = ?", (number,))
        self.connection.execute("DELETE FROM content WHERE document = ?", (number,))
        self.connection.execute("DELETE FROM document WHERE number = ?", (number,))
        self.connection.execute("DELETE FROM succession WHERE source = ?", (source,))
        return True

    def _unpost(self, terms: Iterable[str], first: int, stop: int) -> None:
        for term in terms:
            row = self.connection.execute("SELECT passages, counts FROM posting WHERE term = ?", (term,)).fetchone()
            if row is None:
                continue
            kept = [
                (passage, count)
                for passage, count in zip(numbers(row[0]), row[1], strict=True)
                if not first <= passage < stop
            ]
            passages, counts = array("I", [passage for passage, _ in kept]), bytes(count for _, count in kept)
            if kept:
                self.connection.execute(
                    "UPDATE posting SET passages = ?, counts = ? WHERE term = ?", (passages.tobytes(), counts, term)
                )
            else:
                self.connection.execute("DELETE FROM posting WHERE term = ?", (term,))

    def skip(self, source: Source, why: str) -> None:
        """Remember a file that is no document, so that it is not read again until it changes."""
        self.connection.execute("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", (source.path, source.stamp, why))

    def flush(self) -> None:
        """Write what was gathered, and which documents need a look at the date of each search."""
        for term, (passages, counts) in self._gathered.items():
            self.connection.execute(
                "INSERT INTO posting VALUES (?1, ?2, ?3) ON CONFLICT (term) DO UPDATE SET "
                "passages = CAST(posting.passages || ?2 AS BLOB), counts = CAST(posting.counts || ?3 AS BLOB)",
                (term, passages.tobytes(), bytes(counts)),
            )
        self._gathered.clear()
        self.connection.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            [("next", str(self._next)), ("lengths", self._lengths.tobytes())],
        )

    def configure(self, when_behind: str) -> None:
        """Keep what the collection says of an index that is older than its files: "say" or "refuse"."""
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES ('when_behind', ?)", (when_behind,))

    def finish(self, at: str) -> None:
        """Note which documents may be out of force at some time, the totals, and when this was."""
        self.flush()
        self.connection.execute(
            "UPDATE document SET timed = valid_from != '' OR valid_until != ''"
            " OR name IN (SELECT name FROM document GROUP BY name HAVING count(*) > 1) OR name IN (SELECT name FROM succession)"
        )
        self.connection.execute(
            "INSERT OR REPLACE INTO meta SELECT 'passages', coalesce(sum(passages), 0) FROM document"
            " UNION ALL SELECT 'terms', coalesce(sum(terms), 0) FROM document"
            " UNION ALL SELECT 'timed', coalesce(sum(timed), 0) FROM document"
            " UNION ALL SELECT 'documents', count(*) FROM document UNION ALL SELECT 'ingested_at', ?",
            (at,),
        )

    def totals(self) -> tuple[int, int]:
        """How many versions of documents, and how many passages, the index has."""
        documents, passages = self.connection.execute(
            "SELECT count(*), coalesce(sum(passages), 0) FROM document"
        ).fetchone()
        return documents, passages
