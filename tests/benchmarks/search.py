"""How well and how fast permitted documents are found, beside FTS5 and tantivy, on this machine and in one run: `make bench-search`.

The corpus are manual pages of a fixed list of Debian packages (`support/manual_pages.py`), in 19 collections of 1, 4, 15 and 16 times 5 % of
them; a reader may read all, the first three, two, or one. A query is the line by which a page describes itself, which is removed from the page. Ours is the function `find` of the
tool, with the files compared, in this process: it opens each permitted index again; once with every document of these collections
permitted, and once with a rule that denies some of each, for which there is no bar. A line that describes a page is no question, so what
it ranked counts also where it would say that nothing was found, and how often it would is printed. Peers hold one index of everything, open, and
filter after ranking, or in the query; their statistics count what the reader may not read.

Bars: at 100,000 passages, hit@5 at least .95 with 5 % permitted, p95 of processor time at most 50 ms at each share (what others do on the
machine at the same time would be in the time of a clock, which is printed too), no more queries with fewer than 5
results than with a peer that filters in the query; of the held-out questions, at most 5 % of those without an answer are answered, and at most
5 % of those with one refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from ruamel.yaml import YAML

from support import ROOT
from support.manual_pages import fetch, pages
from support.workspaces.collections import EVERYTHING, search_tool, write_documents

CACHE: Final = ROOT / ".bench" / "peers"
SHARES: Final = {100: 19, 20: 3, 5: 2, 1: 1}  # per cent of the pages, and how many collections have them
MOST: Final = 10
DENIED: Final = "X"  # documents whose names begin so, in each collection
RULES: Final = {
    "remit": EVERYTHING,
    "remit, some documents denied": {"document": {"allow": [["document:**"]], "deny": [f"document:*/{DENIED}*"]}},
}
QUESTIONS: Final = Path(__file__).with_name("search_questions.yaml")
Search = Callable[
    [str, int], list[str]
]  # query, and how many collections are permitted, to the documents of the results


@dataclass(frozen=True)
class Figure:
    """One system with one share of the collections permitted. Times in ms, of a clock and of the processor.

    `hit5` and `short` are shares of the queries.
    """

    system: str
    passages: int
    share: int
    queries: int
    hit5: float
    short: float
    p50: float
    p95: float
    cpu50: float
    cpu95: float


@dataclass(frozen=True)
class Corpus:
    """A corpus that is ingested: its folder, its queries with the documents that they look for, and what ingest cost."""

    folder: Path
    queries: list[tuple[str, str]]
    documents: int
    passages: int
    ingest_s: float
    bytes: int
    memory_mib: int


def collection_of(name: str) -> int:
    place = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100
    return 0 if place < 1 else 1 if place < 5 else 2 if place < 20 else place // 5 - 1


def build(files: Path, folder: Path, most: int) -> Corpus:
    """Write pages as documents until there are about `most` passages, and ingest them."""
    shutil.rmtree(folder, ignore_errors=True)
    queries: list[tuple[str, str]] = []
    estimated = 0
    for page in pages(files):
        if estimated >= most:
            break
        name = "".join(each if each.isalnum() or each in "._+@-" else "-" for each in page.name).lstrip("._+@-")
        collection = f"c{collection_of(page.name):02}"
        write_documents(folder, collection, {f"{name}.md": page.markdown})
        estimated += sum(-(-len(text.split()) // 160) for _, text in page.sections)
        if page.query:
            queries.append((f"{collection}/{name}", page.query))
    command = [sys.executable, __file__, "--ingest", str(folder)]
    os.chdir(folder)
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = sum(path.stat().st_size for path in folder.glob("stores/search/*/index.db"))
    return Corpus(folder=folder, queries=queries, bytes=size, **done)


def ingest(folder: Path) -> dict[str, Any]:
    """Ingest every collection of a folder. Returns what it has, and the processor time and the memory of this process."""
    tool = search_tool()
    os.chdir(folder)
    began, documents, passages = time.process_time(), 0, 0
    for collection in sorted(os.listdir("stores/search")):
        while (done := tool.ingest(collection))["remaining"]:
            pass
        documents += done["documents"]
        passages += done["passages"]
    spent = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"documents": documents, "passages": passages, "ingest_s": spent, "memory_mib": memory}


def rows(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Every passage of the corpus: its document, its collection, and its words."""
    for path in sorted(folder.glob("stores/search/*/index.db")):
        with closing(sqlite3.connect(path)) as index:
            query = (
                "SELECT d.name, d.title || ' ' || p.section || ' ', substr(c.text, p.start + 1, p.stop - p.start) "
                "FROM passage p JOIN document d ON d.number = p.document JOIN content c ON c.document = p.document"
            )
            for name, heading, text in index.execute(query):
                yield name, int(path.parent.name[1:]), heading + bytes(text).decode()


class Ours:
    """The function `find` of the tool, which here returns what it ranked also where it would say `nothing_found`; `refused` counts that."""

    def __init__(self, rules: dict[str, Any]) -> None:
        self.tool = search_tool()
        self.rules = rules
        self.refused = 0
        self._answers = self.tool.answers

    def __call__(self, query: str, permitted: int) -> list[str]:
        resources = [f"store:search/c{number:02}" for number in range(permitted)]
        self.tool.answers = self._counted
        try:
            items = self.tool.find(query, resources, self.rules, MOST)["items"]
        except self.tool.NothingFound:
            return []
        finally:
            self.tool.answers = self._answers
        return [item["citation"]["document"] for item in items]

    def _counted(self, ranked: Any) -> bool:
        self.refused += not self._answers(ranked)
        return bool(ranked.hits)


def fts5(folder: Path) -> dict[str, Search]:
    """SQLite's own full text search, with the permission after the ranking and in the query."""
    path = folder / "fts5.db"
    path.unlink(missing_ok=True)
    index = sqlite3.connect(path)
    index.executescript(
        "CREATE VIRTUAL TABLE f USING fts5(text, tokenize = 'porter unicode61');"
        "CREATE TABLE c (id INTEGER PRIMARY KEY, document TEXT, collection INTEGER)"
    )
    for number, (name, collection, text) in enumerate(rows(folder), 1):
        index.execute("INSERT INTO f (rowid, text) VALUES (?, ?)", (number, text))
        index.execute("INSERT INTO c VALUES (?, ?, ?)", (number, name, collection))
    index.commit()
    terms_of = sys.modules["retrieval.terms"].terms_of
    inside = "SELECT c.document FROM f JOIN c ON c.id = f.rowid WHERE f MATCH ? AND c.collection < ? ORDER BY bm25(f) LIMIT 10"
    outside = (
        "SELECT c.document, c.collection FROM (SELECT rowid, bm25(f) AS b FROM f WHERE f MATCH ? ORDER BY b LIMIT 10) "
        "JOIN c ON c.id = rowid ORDER BY b"
    )

    def match(query: str) -> str:
        return " OR ".join(f'"{term}"' for term in dict.fromkeys(terms_of(query))) or '"x"'

    def filtered_after(query: str, share: int) -> list[str]:
        return [name for name, collection in index.execute(outside, (match(query),)) if collection < share]

    def filtered_inside(query: str, share: int) -> list[str]:
        return [name for (name,) in index.execute(inside, (match(query), share))]

    return {"FTS5, filter after": filtered_after, "FTS5, filter in the query": filtered_inside}


def tantivy_peer(folder: Path) -> dict[str, Search]:
    """tantivy, with the permission after the ranking and in the query; nothing if it is not installed."""
    try:
        import tantivy
    except ImportError:
        return {}
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("document", stored=True, tokenizer_name="raw")
    builder.add_text_field("collection", stored=True, tokenizer_name="raw")
    builder.add_text_field("text", stored=False, tokenizer_name="en_stem")
    schema = builder.build()
    index = tantivy.Index(schema)
    writer = index.writer()
    for name, collection, text in rows(folder):
        writer.add_document(tantivy.Document(document=name, collection=f"c{collection:02}", text=text))
    writer.commit()
    index.reload()
    terms_of = sys.modules["retrieval.terms"].terms_of
    searcher = index.searcher()

    def run(query: Any, share: int) -> list[str]:
        found = [searcher.doc(address) for _, address in searcher.search(query, MOST).hits]
        return [doc["document"][0] for doc in found if int(doc["collection"][0][1:]) < share]

    def words(query: str) -> Any:
        return index.parse_query(" ".join(dict.fromkeys(terms_of(query))) or "x", ["text"])

    def inside(query: str, share: int) -> list[str]:
        permitted = tantivy.Query.term_set_query(schema, "collection", [f"c{number:02}" for number in range(share)])
        both = [
            (tantivy.Occur.Must, words(query)),
            (tantivy.Occur.Must, tantivy.Query.const_score_query(permitted, 0.0)),
        ]
        return run(tantivy.Query.boolean_query(both), share)

    return {
        "tantivy, filter after": lambda query, share: run(words(query), share),
        "tantivy, filter in the query": inside,
    }


def measured(system: str, search: Search, corpus: Corpus, share: int, most: int) -> Figure:
    permitted = [each for each in corpus.queries if int(each[0][1:3]) < SHARES[share]]
    asked = [each for each in permitted if not each[0].partition("/")[2].startswith(DENIED)][:most]
    times: list[float] = []
    spent: list[float] = []
    hits = short = 0
    for document, query in asked:
        began, used = time.perf_counter(), time.process_time()
        found = search(query, SHARES[share])
        spent.append((time.process_time() - used) * 1e3)
        times.append((time.perf_counter() - began) * 1e3)
        hits += document in list(dict.fromkeys(found))[:5]
        short += len(found) < 5
    count = max(len(asked), 1)
    at = [sorted(values)[min(int(count * part), count - 1)] for values in (times, spent) for part in (0.5, 0.95)]
    return Figure(system, corpus.passages, share, len(asked), hits / count, short / count, *at)


@dataclass(frozen=True)
class Asked:
    """The questions of one split: how many without an answer got one, how many with an answer got none, of how many each.

    `chosen` is the highest threshold that refuses at most 5 % of those with an answer.
    """

    passed: int
    refused: int
    unanswerable: int
    answerable: int
    chosen: float


def questions() -> dict[str, Asked]:
    """What the tool says to the questions of each split, with every collection permitted."""
    tool = search_tool()
    resources = [f"store:search/{name}" for name in sorted(os.listdir("stores/search"))]
    threshold = sys.modules["retrieval.ranking"].EVIDENCE
    found: list[float] = []
    before = tool.answers

    def note(ranked: Any) -> bool:
        found.append(ranked.evidence)
        return False

    tool.answers = note
    splits: dict[str, Asked] = {}
    for split, lists in YAML(typ="safe").load(QUESTIONS).items():
        values: dict[str, list[float]] = {}
        for kind, asked in lists.items():
            found.clear()
            for query in asked:
                with suppress(tool.NothingFound):
                    tool.find(query, resources, EVERYTHING)
            values[kind] = sorted(found)
        yes, no = values["answerable"], values["unanswerable"]
        passed, refused = sum(each >= threshold for each in no), sum(each < threshold for each in yes)
        splits[split] = Asked(passed, refused, len(no), len(yes), yes[len(yes) // 20])
    tool.answers = before
    return splits


def missed_bars(figures: Sequence[Figure], asked: dict[str, Asked]) -> list[str]:
    large = [figure for figure in figures if figure.passages > 50_000]
    own = [figure for figure in large if figure.system == "remit"]
    missed = [f"p95 {each.cpu95:.1f} ms at {each.share} %" for each in own if each.cpu95 > 50]
    missed += [f"hit@5 {each.hit5:.3f} at 5 %" for each in own if each.share == 5 and each.hit5 < 0.95]
    peers = {each.share: each.short for each in large if each.system == "FTS5, filter in the query"}
    missed += [
        f"{each.short:.1%} of the queries with fewer than 5 results at {each.share} %"
        for each in own
        if each.short > peers.get(each.share, 1)
    ]
    held = asked["held_out"]
    missed += ["questions without an answer got one"] if held.passed > 0.05 * held.unanswerable else []
    missed += ["questions with an answer got none"] if held.refused > 0.05 * held.answerable else []
    return missed


def main() -> int:
    """Measure, print, write `.bench/search.json`; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--ingest", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ingest:
        print(json.dumps(ingest(options.ingest)))
        return 0
    files = fetch(CACHE)
    print("packages:", ", ".join(json.loads((files / "done.json").read_text())["packages"]))
    figures: list[Figure] = []
    corpora: list[Corpus] = []
    for size in options.passages:
        corpus = build(files, ROOT / ".bench" / f"search-{size}", size)
        corpora.append(corpus)
        print(
            f"\n{corpus.documents} documents, {corpus.passages} passages: ingested in {corpus.ingest_s:.0f} s of processor time "
            f"({corpus.passages / corpus.ingest_s:.0f} passages/s), {corpus.bytes / 1e6:.0f} MB on disk, {corpus.memory_mib} MiB of memory"
        )
        ours = {name: Ours(rules) for name, rules in RULES.items()}
        systems: dict[str, Search] = {**ours}
        if not options.no_peers:
            systems |= fts5(corpus.folder) | tantivy_peer(corpus.folder)
        for share in SHARES:
            ours["remit"].refused = 0
            for name, search in systems.items():
                figure = measured(name, search, corpus, share, options.queries)
                figures.append(figure)
                print(
                    f"{name:<28} {share:>3} %  hit@5 {figure.hit5:.3f}  fewer than 5 {figure.short:.0%}  "
                    f"processor p50 {figure.cpu50:.1f} ms  p95 {figure.cpu95:.1f} ms  clock p50 {figure.p50:.1f} ms  p95 {figure.p95:.1f} ms  "
                    f"({figure.queries} queries)"
                )
            print(
                f"{'':<28} {share:>3} %  remit would have said nothing_found to {ours['remit'].refused} of these queries"
            )
    asked = questions()
    for split, each in asked.items():
        print(
            f"{split}: of {each.unanswerable} questions without an answer {each.passed} got one; of {each.answerable} with an answer "
            f"{each.refused} got none; the threshold chosen on these would be {each.chosen:.3f}"
        )
    missed = missed_bars(figures, asked)
    print("\n".join(f"MISSED {each}" for each in missed) or "all bars held")
    (ROOT / ".bench").mkdir(exist_ok=True)
    body = {
        "figures": [asdict(each) for each in figures],
        "corpora": [{**asdict(each), "queries": len(each.queries)} for each in corpora],
        "questions": {split: asdict(each) for split, each in asked.items()},
        "missed": missed,
    }
    (ROOT / ".bench" / "search.json").write_text(json.dumps(body, indent=2, default=str))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
