"""One collection as a reader may see it: only permitted documents, and of each only the version in force."""

import json
import re
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from retrieval.documents import Label
from retrieval.index import numbers, read_meta
from retrieval.permissions import Permissions

_COLUMNS = "number, name, version, title, labels, valid_from, valid_until, source, stamp, digest, first, passages, terms, owner"


_Extent = tuple[int, int, int]  # of a version: its first passage, how many it has, and their terms


class Version(NamedTuple):
    """One version of a document, as the index has it."""

    number: int
    name: str
    version: str
    title: str
    labels: str
    valid_from: str
    valid_until: str
    source: str
    stamp: str
    digest: str
    first: int
    passages: int
    terms: int
    owner: str

    @property
    def label_list(self) -> list[Label]:
        return list(json.loads(self.labels))

    @property
    def order(self) -> tuple[str, list[tuple[int, str]]]:
        """Later versions come later: by the date from which they are valid, then by their numbers."""
        parts = re.findall(r"\d+|[^\d.]+", self.version)
        return self.valid_from, [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    def dated(self, today: str) -> bool:
        """True if the date lies within its dates."""
        return self.valid_from <= today and (not self.valid_until or today <= self.valid_until)


class Shelf:
    """What a reader may see of one collection on one day. `names` has the successors of versions that are not in force."""

    def __init__(self, connection: sqlite3.Connection, collection: str, permissions: Permissions, today: str) -> None:
        self.connection = connection
        self.collection = collection
        self.today = today
        self._whole = permissions.whole(collection)
        self._permits: Callable[[str], bool] = (
            (lambda _: True) if self._whole == "all" else permissions.within(collection)
        )
        meta = read_meta(connection, collection)
        self.lengths = array("H")
        self.lengths.frombytes(meta.get("lengths", b""))
        self.refuses_behind = meta.get("when_behind") == b"refuse"
        self.ingested_at = meta.get("ingested_at", b"").decode()
        denied = list(self._denied(permissions.suspects(collection))) if self._whole != "all" else []
        out = denied + (list(self._out_of_force()) if int(meta.get("timed", 1)) else [])
        self.mask: bytearray | None = None  # of each passage 1 if it is visible; None if all are
        if out:
            self.mask = bytearray(b"\x01") * len(self.lengths)
            for first, passages, _ in out:
                self.mask[first : first + passages] = bytes(passages)
        self.documents = int(meta.get("documents", 0)) - len(denied)
        self.passages = int(meta.get("passages", 0)) - sum(passages for _, passages, _ in out)
        self.terms = int(meta.get("terms", 0)) - sum(terms for _, _, terms in out)

    @property
    def whole(self) -> bool:
        """True if the reader may see every document that the collection can have."""
        return self._whole == "all"

    def _denied(self, suspects: list[str]) -> Iterator[_Extent]:
        """The versions that the reader may not see. All of them match one of the patterns `suspects`."""
        where = " OR ".join(["name GLOB ?"] * len(suspects))
        rows = self.connection.execute(f"SELECT name, first, passages, terms FROM document WHERE {where}", suspects)
        return ((first, passages, terms) for name, first, passages, terms in rows if not self._permits(name))

    def _out_of_force(self) -> Iterator[_Extent]:
        """The versions that the reader may see, and that are not in force."""
        permitted: dict[str, list[Version]] = defaultdict(list)
        for version in self.select("WHERE timed"):
            if self._permits(version.name):
                permitted[version.name].append(version)
        for versions in permitted.values():
            current = self._in_force(versions)
            yield from (
                (version.first, version.passages, version.terms) for version in versions if version is not current
            )

    def _in_force(self, versions: Iterable[Version]) -> Version | None:
        dated = [version for version in versions if version.dated(self.today) and not self.successor(version)]
        return max(dated, key=lambda version: version.order, default=None)

    def permits(self, name: str) -> bool:
        """True if the reader may see the document."""
        return self._permits(name)

    def select(self, where: str, *values: str | int) -> list[Version]:
        """Versions of documents, whether permitted or not."""
        rows = self.connection.execute(f"SELECT {_COLUMNS} FROM document {where}", values)
        return [Version(*row) for row in rows]

    def versions(self, name: str) -> list[Version]:
        """The versions of one document, the oldest first; none if the reader may not see it."""
        found = self.select("WHERE name = ?", name) if self._permits(name) else []
        return sorted(found, key=lambda version: version.order)

    def current(self, name: str) -> Version | None:
        """The version in force; None if there is none."""
        return self._in_force(self.versions(name))

    def successor(self, version: Version, *, seen: frozenset[tuple[str, str]] = frozenset()) -> Version | None:
        """The version that replaces this one and is in force; None if there is none.

        Only what the reader may see counts. Successions that form a circle end.
        """
        for name, number in self._successions.get((version.name, version.version), ()):
            if (name, number) in seen or not self._permits(name):
                continue
            for later in self.select("WHERE name = ? AND version = ?", name, number):
                further = self.successor(later, seen=seen | {(version.name, version.version), (name, number)})
                if further is not None or later.dated(self.today):
                    return further or later
        return None

    @cached_property
    def _successions(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        query = (
            "SELECT name, version, successor, successor_version FROM succession ORDER BY successor, successor_version"
        )
        for name, version, successor, number in self.connection.execute(query):
            found[name, version].append((successor, number))
        return found

    def postings(self, terms: list[str]) -> dict[str, tuple["array[int]", bytes]]:
        """For each term the passages that have it, also those that are not visible, in order, and how often."""
        marks = ", ".join("?" * len(terms))
        rows = self.connection.execute(f"SELECT term, passages, counts FROM posting WHERE term IN ({marks})", terms)
        return {term: (numbers(passages), bytes(counts)) for term, passages, counts in rows}

    def visible(self, passages: "array[int]") -> int:
        """How many of these passages are visible."""
        return len(passages) if self.mask is None else sum(map(self.mask.__getitem__, passages))

    def place(self, passage: int) -> tuple[Version, str, int, int]:
        """The version, the section, and the bytes of a passage."""
        row = self.connection.execute(
            "SELECT document, section, start, stop FROM passage WHERE number = ?", (passage,)
        ).fetchone()
        return self.select("WHERE number = ?", row[0])[0], row[1], row[2], row[3]

    def pieces(self, version: Version) -> list[tuple[str, int, int]]:
        """Section and bytes of each passage of a version, in order."""
        rows = self.connection.execute(
            "SELECT section, start, stop FROM passage WHERE document = ? ORDER BY number", (version.number,)
        )
        return rows.fetchall()

    def text(self, version: Version, start: int, stop: int) -> bytes:
        """Bytes of the text of a version."""
        row = self.connection.execute(
            "SELECT substr(text, ?, ?) FROM content WHERE document = ?", (start + 1, stop - start, version.number)
        ).fetchone()
        return bytes(row[0])
