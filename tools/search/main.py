"""Search in collections of documents: what the rules permit, what is in force, and where it stands."""

import sqlite3
import time
import tomllib
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from retrieval import freshness
from retrieval.documents import Label, Unreadable, read_document
from retrieval.index import Busy as Busy
from retrieval.index import IndexDamaged as IndexDamaged
from retrieval.index import Source, Writer, digest_of, folder_of, reading, writing
from retrieval.permissions import Patterns, Permissions
from retrieval.ranking import answers, rank
from retrieval.shelf import Shelf, Version
from retrieval.unfinished import noted
from typing_extensions import TypedDict

SETTINGS = "collection.toml"
SECONDS = 4.0  # of one ingest call; what remains is for the next call
MOST_SHOWN = 32 * 1024  # bytes of text in one result

Collection = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")]
Name = Annotated[str, Field(max_length=512)]
VersionName = Annotated[str, Field(max_length=32)]


class NothingFound(Exception):
    """No permitted document that is in force answers the query."""


class NotFound(Exception):
    """There is no such document."""


class StaleDocument(Exception):
    """The version is not in force."""


class IndexBehind(Exception):
    """Files have changed since they were ingested, and the collection says that its index must not be used then."""


class BadCollection(Exception):
    """The collection cannot be ingested."""


class Citation(TypedDict):
    document: str
    version: str
    section: str
    span: Annotated[list[int], Field(min_length=2, max_length=2)]  # bytes in the text of the document
    digest: str  # of these bytes


# The first and the last day; null: not limited. `from` is no name that a class can have.
InForce = TypedDict("InForce", {"from": str | None, "until": str | None})


class Found(TypedDict):
    citation: Citation
    text: str
    score: float
    rank: int
    title: str
    labels: list[Label]
    in_force: InForce


class Findings(TypedDict):
    items: list[Found]
    behind: list[str]  # collections whose files have changed since they were ingested


class Opened(TypedDict):
    items: list[Found]
    complete: bool  # False: there are more sections; name one
    sections: list[str]  # all sections of the document
    behind: list[str]


class Skipped(TypedDict):
    file: str
    why: str


class Ingested(TypedDict):
    collection: str
    added: int
    changed: int
    removed: int
    unchanged: int
    remaining: int  # files that the next call reads
    documents: int
    passages: int
    skipped: list[Skipped]  # files that are no documents; at most 50


class Superseded(TypedDict):
    document: str
    version: str
    successor: str
    successor_version: str


class CollectionStatus(TypedDict):
    collection: str
    documents: int  # that are permitted and in force
    passages: int
    ingested_at: str  # "" if only some of its documents are permitted
    behind: bool
    skipped: list[Skipped]


class Status(TypedDict):
    collections: list[CollectionStatus]


def find(
    query: Annotated[str, Field(min_length=1, max_length=1000)],
    resources: list[str],
    permitted: dict[str, Patterns],
    most: Annotated[int, Field(ge=1, le=10)] = 5,
) -> Findings:
    """Find the passages of documents that answer a question; each comes with its citation."""
    with _shelves(resources, permitted) as (shelves, behind):
        ranked = rank(shelves, query, most)
        if not answers(ranked):
            old = f" (the index of {', '.join(behind)} is older than its files)" if behind else ""
            raise NothingFound(
                f"no document that may be read here answers this{old}: try other words once, and if that finds nothing, say "
                "that the documents do not answer it"
            )
        changed = [hit.shelf for hit in ranked.hits if freshness.has_changed(hit.shelf, hit.version)]
        behind = sorted({*behind, *map(_named_behind, changed)})
        items = [
            _found(hit.shelf, hit.version, hit.section, hit.start, hit.stop, score=hit.score, rank=number)
            for number, hit in enumerate(ranked.hits, 1)
        ]
    return {"items": items, "behind": behind}


def open(
    document: Name,
    resources: list[str],
    permitted: dict[str, Patterns],
    version: VersionName = "",
    section: Annotated[str, Field(max_length=500)] = "",
) -> Opened:
    """Read a document by its name, as citations have it, or one of its sections."""
    own = f"store:search/{document.partition('/')[0]}"
    with _shelves([name for name in resources if name == own], permitted) as (shelves, behind):
        shelf, current = _in_force(shelves, document, version)
        pieces = shelf.pieces(current)
        within = [piece for piece in pieces if not section or f"{piece[0]} > ".startswith(f"{section} > ")]
        if not within:
            raise NotFound(f"{document!r} has no section {section!r}; open it without a section")
        items: list[Found] = []
        shown = 0
        for name, start, stop in within:
            shown += stop - start
            if items and shown > MOST_SHOWN:
                break
            items.append(_found(shelf, current, name, start, stop, score=0.0, rank=len(items) + 1))
        sections = list(dict.fromkeys(name for name, _, _ in pieces))[:200]
    return {"items": items, "complete": len(items) == len(within), "sections": sections, "behind": behind}


def _in_force(shelves: list[Shelf], document: str, version: str) -> tuple[Shelf, Version]:
    """The version in force, with its collection. Raises NotFound, or StaleDocument if another version was asked for."""
    versions = [each for shelf in shelves for each in shelf.versions(document)]
    chosen = [each for each in versions if not version or each.version == version]
    if not chosen:
        raise NotFound(f"there is no document {document!r}" + (f" in version {version!r}" if versions else ""))
    current = shelves[0].current(document)
    if current is None or current not in chosen:
        raise StaleDocument(_stale(shelves[0], chosen[-1], current))
    return shelves[0], current


def ingest(collection: Collection) -> Ingested:
    """Read the new, changed and removed files of a collection; call it again while files remain."""
    if not (folder_of(collection) / freshness.DOCUMENTS).is_dir():
        raise BadCollection(
            f"{collection!r} has no folder: put its files into {folder_of(collection) / freshness.DOCUMENTS}"
        )
    when_behind = _when_behind(collection)
    with writing(collection) as writer:
        writer.configure(when_behind)
        counts = _read_changes(writer, collection, time.monotonic() + SECONDS)
        writer.finish(_now())
        documents, passages = writer.totals()
        skipped = _skipped(writer.connection)
    return {
        "collection": collection,
        "added": counts["added"],
        "changed": counts["changed"],
        "removed": counts["removed"],
        "unchanged": counts["unchanged"],
        "remaining": counts["remaining"],
        "documents": documents,
        "passages": passages,
        "skipped": skipped,
    }


def _read_changes(writer: Writer, collection: str, until: float) -> Counter[str]:
    """Bring the index up to date with the files, until that time. Returns how many were added, changed and so on."""
    counts: Counter[str] = Counter()
    known = writer.sources()
    found = list(freshness.sources(collection))
    if len(found) > freshness.MOST_FILES:
        raise BadCollection(f"{collection!r} has more than {freshness.MOST_FILES} files: make several collections")
    for path in known.keys() - {source.path for source in found}:
        writer.remove(path)
        counts["removed"] += 1
    for source in found:
        if known.get(source.path) == source.stamp:
            counts["unchanged"] += 1
        elif time.monotonic() > until and counts["added"] + counts["changed"]:
            counts["remaining"] += 1
        else:
            is_new = _read(writer, collection, source)
            counts["unchanged" if not is_new else "changed" if source.path in known else "added"] += 1
    return counts


def supersede(
    collection: Collection, document: Name, version: VersionName, successor: Name, successor_version: VersionName
) -> Superseded:
    """State that a version of a document is replaced by another version, or by another document of the collection."""
    with writing(collection) as writer:
        for name, number in ((document, version), (successor, successor_version)):
            query = "SELECT 1 FROM document WHERE name = ? AND version = ?"
            if writer.connection.execute(query, (name, number)).fetchone() is None:
                raise NotFound(f"{collection!r} has no document {name!r} in version {number!r}")
        if (document, version) == (successor, successor_version):
            raise BadCollection("a version cannot replace itself: name another one")
        writer.supersede(document, version, successor, successor_version)
        writer.finish(_now())
    return {"document": document, "version": version, "successor": successor, "successor_version": successor_version}


def status(resources: list[str], permitted: dict[str, Patterns]) -> Status:
    """What each collection has, when it was ingested, and whether its files have changed since."""
    collections: list[CollectionStatus] = []
    for collection in _collections(resources):
        try:
            with reading(collection) as connection:
                shelf = Shelf(connection, collection, Permissions(permitted), _today())
                behind, _ = freshness.is_behind(shelf, freshness.MOST_FILES)
                documents = {each.name for each in shelf.select("") if shelf.permits(each.name)}
                collections.append(
                    {
                        "collection": collection,
                        "documents": sum(shelf.current(name) is not None for name in documents),
                        "passages": shelf.passages,
                        "ingested_at": shelf.ingested_at if shelf.whole else "",
                        "behind": behind,
                        "skipped": _skipped(connection) if shelf.whole else [],
                    }
                )
        except FileNotFoundError:
            collections.append(
                {
                    "collection": collection,
                    "documents": 0,
                    "passages": 0,
                    "ingested_at": "",
                    "behind": True,
                    "skipped": [],
                }
            )
    return {"collections": collections}


def _collections(resources: list[str]) -> list[str]:
    """The collections of the call, sorted. Remit sets `resources` and `permitted`, and hides them from the model."""
    own = "store:search/"
    return sorted(name.removeprefix(own) for name in resources if name.startswith(own))


@contextmanager
def _shelves(resources: list[str], permitted: dict[str, Patterns]) -> Generator[tuple[list[Shelf], list[str]]]:
    """The collections of the call as its reader may see them, and the names of those whose files have changed."""
    shelves: list[Shelf] = []
    behind: list[str] = []
    left = freshness.MOST_COMPARED
    permissions, today = Permissions(permitted), _today()
    with ExitStack() as stack:
        for collection in _collections(resources):
            try:
                connection = stack.enter_context(reading(collection))
            except FileNotFoundError:  # nothing of it was ingested yet
                if permissions.whole(collection) == "all" and next(freshness.sources(collection), None) is not None:
                    behind.append(collection)
                continue
            shelf = Shelf(connection, collection, permissions, today)
            is_behind, left = freshness.is_behind(shelf, left)
            behind += [_named_behind(shelf)] if is_behind else []
            shelves.append(shelf)
        yield shelves, behind


def _named_behind(shelf: Shelf) -> str:
    """The name of a collection whose files have changed. Raises IndexBehind if its index must not be used then."""
    name = shelf.collection
    if shelf.refuses_behind:
        raise IndexBehind(f"files of {name!r} have changed: tell the user to run `remit search ingest {name}`")
    return name


def _found(shelf: Shelf, version: Version, section: str, start: int, stop: int, *, score: float, rank: int) -> Found:
    text = shelf.text(version, start, stop)
    return {
        "citation": {
            "document": version.name,
            "version": version.version,
            "section": section,
            "span": [start, stop],
            "digest": digest_of(text),
        },
        "text": text.decode(),
        "score": round(score, 6),
        "rank": rank,
        "title": version.title,
        "labels": version.label_list,
        "in_force": {"from": version.valid_from or None, "until": version.valid_until or None},
    }


def _stale(shelf: Shelf, version: Version, current: Version | None) -> str:
    what = f"{version.name!r} version {version.version} is not in force"
    successor = shelf.successor(version) or current
    if successor is not None:
        return f"{what}: open {successor.name!r}, version {successor.version}"
    if version.valid_from > _today():
        return f"{what} before {version.valid_from}: say so"
    ended = f" after {version.valid_until}" if version.valid_until else ""
    return f"{what}{ended}, and nothing replaces it: say so"


def _read(writer: Writer, collection: str, source: Source) -> bool:
    """Put one file into the index, or note why it is no document; False if its bytes are those that the index has."""
    path = folder_of(collection) / freshness.DOCUMENTS / source.path
    try:
        data, sidecar = freshness.contents(path)
        digest = digest_of(data, sidecar)
        if writer.restamp(source, digest):
            return False
        writer.remove(source.path)
        with noted(collection, source):
            writer.add(read_document(collection, source.path, data, sidecar), source, digest)
    except (Unreadable, OSError, ValueError) as error:
        writer.skip(source, str(error)[:300])
    return True


def _when_behind(collection: str) -> str:
    """What `collection.toml` says of an index that is older than its files: "say" (the default) or "refuse"."""
    path = folder_of(collection) / SETTINGS
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadCollection(f"{path}: {error}: correct it") from None
    if unknown := [key for key in table if key != "when_behind"]:
        raise BadCollection(f"{path}: the key {unknown[0]!r} is unknown: write when_behind")
    chosen = table.get("when_behind", "say")
    if chosen not in ("say", "refuse"):
        raise BadCollection(f'{path}: when_behind is {chosen!r}: write "say" or "refuse"')
    return str(chosen)


def _skipped(connection: sqlite3.Connection) -> list[Skipped]:
    rows = connection.execute("SELECT source, why FROM skipped ORDER BY source LIMIT 50").fetchall()
    return [{"file": file, "why": why} for file, why in rows]


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
