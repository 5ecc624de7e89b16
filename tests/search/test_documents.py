"""Files become documents: headings are sections, passages stay inside of them, and their bytes are the bytes of the text."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.policy.language.patterns import GlobError, parse_pattern, parse_resource
from support.workspaces.collections import EVERYTHING, search_tool, write_documents

MARKDOWN = """---
title: The guide   # a comment
labels:
  - internal
---
Words before any heading.

# Guide

Setext
------

One paragraph.

```
# no heading
```

### Deep ###

Größe: 5 €.

## Last
- item one
- item two
"""
PAGE = """<html><head><title>Ship</title><style>h1 {}</style></head><body><h1>Shipping</h1>
<p>We ship in 3 days.<p hidden>hidden one<h2>Costs <b>of</b> it</h2><ul><li>5 EUR<li>free above 50</ul>
<div style="display: none">hidden <div>two</div> three</div><script>hidden()</script><!-- hidden four -->
<p aria-hidden="true">hidden five</p><p>The end &amp; all.</p></body></html>"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    return search_tool()


def module(name: str) -> Any:
    search_tool()
    return importlib.import_module(f"retrieval.{name}")


def passages(name: str, data: bytes) -> list[tuple[str, str]]:
    document = module("documents").read_document("c", name, data, None)
    found = list(module("passages").passages_of(document.text, document.sections))
    assert all(passage.text.encode() == document.text.encode()[passage.start : passage.stop] for passage in found)
    return [(passage.section, passage.text) for passage in found]


def test_markdown_is_cut_at_its_headings_and_code_has_none() -> None:
    assert passages("g.md", MARKDOWN.encode()) == [
        ("", "Words before any heading."),
        ("Guide > Setext", "One paragraph.\n\n```\n# no heading\n```"),
        ("Guide > Setext > Deep", "Größe: 5 €."),
        ("Guide > Last", "- item one\n- item two"),
    ]


def test_a_comment_in_markdown_is_no_text_of_the_document() -> None:
    """No reader of the page sees it, so nothing of it can be found or cited."""
    text = "# Guide <!-- one -->\n\nFirst. <!-- two\nthree -->\nSecond.\n\n<!-- four\n\nfive -->\n\n"
    text += "```\n<!-- code -->\n```\n\n## Last\n\n> <!-- six -->\n\nThird.\n\n<!-- seven\n"
    found = [(section, " ".join(text.split())) for section, text in passages("g.md", text.encode())]
    assert found == [("Guide", "First. Second. ``` <!-- code --> ```"), ("Guide > Last", "> Third.")]


def test_of_a_page_only_what_its_reader_sees_is_read() -> None:
    found = passages("ship.html", PAGE.encode())
    assert [section for section, _ in found] == ["Shipping", "Shipping > Costs of it"]
    text = " ".join(" ".join(text.split()) for _, text in found)
    assert text == "We ship in 3 days. 5 EUR free above 50 The end & all."


def test_a_sidecar_says_what_front_matter_would(tool: ModuleType) -> None:
    write_documents(
        Path(), "c", {"ship.html": PAGE, "ship.html.meta.toml": 'id = "shipping"\nversion = 7\nlabels = ["internal"]\n'}
    )
    assert tool.ingest("c")["documents"] == 1
    (item,) = tool.find("free above 50", ["store:search/c"], EVERYTHING, 1)["items"]
    assert (item["citation"]["document"], item["citation"]["version"], item["labels"]) == (
        "c/shipping",
        "7",
        ["internal"],
    )


def test_a_citation_has_the_bytes_of_the_text_and_their_digest(tool: ModuleType) -> None:
    write_documents(Path(), "c", {"g.md": MARKDOWN})
    tool.ingest("c")
    (item,) = tool.find("Größe", ["store:search/c"], EVERYTHING)["items"]
    citation = item["citation"]
    assert citation["digest"] == f"sha256:{hashlib.sha256(item['text'].encode()).hexdigest()}"
    assert citation["span"][1] - citation["span"][0] == len("Größe: 5 €.".encode())
    assert (
        tool.open("c/g", ["store:search/c"], EVERYTHING, section="Guide > Setext > Deep")["items"][0]["citation"]
        == citation
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(("word ", "two words\n", "\n", "\n\n", "# H\n", "## G\n", "é ", "x " * 150)), max_size=40)
)
def test_no_chunk_has_more_than_200_words_or_leaves_its_section_and_no_word_is_lost(parts: list[str]) -> None:
    text = "".join(parts)
    found = passages("x.md", text.encode())
    assert all(len(piece.split()) <= 200 for _, piece in found)
    without_headings = [line for line in text.splitlines() if not re.match(r"#{1,2} [HG]$", line.strip())]
    kept = [word for _, piece in found for word in piece.split()]
    assert kept == " ".join(without_headings).split()


def test_a_pdf_is_found_by_the_page_on_which_its_words_stand(tool: ModuleType) -> None:
    """The file was written by Chromium, from a page with a paragraph that is justified, umlauts and a table."""
    pytest.importorskip("pypdf")
    data = Path(__file__).with_name("returns.pdf").read_bytes()
    side = 'id = "returns"\nversion = 3\nvalid_from = "2025-01-01"\nlabels = ["internal"]\n'
    write_documents(Path(), "c", {"shoes.pdf": data, "shoes.pdf.meta.toml": side, "cut.pdf": data[: len(data) // 2]})
    done = tool.ingest("c")
    assert [(each["file"], "PDF" in each["why"] or "no text" in each["why"]) for each in done["skipped"]] == [
        ("cut.pdf", True)
    ]
    (late, *_) = tool.find("how late may shoes be returned to Grünau", ["store:search/c"], EVERYTHING)["items"]
    assert (late["citation"]["document"], late["citation"]["section"]) == ("c/returns", "Page 1")
    assert "A late return of shoes is accepted within 45 days." in " ".join(late["text"].split())
    assert "An office in Grünau" in late["text"].replace("\n", " ")  # the file has a ligature
    (heel, *_) = tool.find("price of a new heel", ["store:search/c"], EVERYTHING)["items"]
    assert (heel["citation"]["version"], heel["citation"]["section"], heel["labels"]) == ("3", "Page 2", ["internal"])
    assert "19.50 €" in heel["text"]


def test_a_file_that_only_says_it_is_pdf_is_skipped_with_the_reason(tool: ModuleType) -> None:
    write_documents(Path(), "c", {"broken.pdf": b"%PDF-1.4 broken", "empty.pdf": b""})
    with_reader = importlib.util.find_spec("pypdf") is not None
    why = "it cannot be read as PDF" if with_reader else "pip install 'remit[pdf]'"
    assert [(each["file"], why in each["why"]) for each in tool.ingest("c")["skipped"]] == [
        ("broken.pdf", True),
        ("empty.pdf", True),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"<!-- a -->b\n\n" * 10_000 + b"<!--",
        b"---\n" + b"a: b\n" * 20_000 + b"---\n",
        b"<p>" * 100_000,
        b"<div hidden>" * 50_000,
        b"<h1>" * 50_000,
        b"[a](" * 20_000,
    ],
    ids=["comments", "front matter", "open paragraphs", "hidden", "open headings", "open links"],
)
def test_hostile_files_take_time_in_proportion_to_their_size(data: bytes) -> None:
    documents = module("documents")
    began = time.process_time()
    for name in ("x.md", "x.html"):
        with suppress(documents.Unreadable):
            documents.read_document("c", name, data, None)
    assert time.process_time() - began < 5


_segments = st.sampled_from(("a", "b", "*", "**", "a*", "*b", "secret-*"))
_names = st.lists(st.sampled_from(("a", "b", "ab", "secret-1", "x")), min_size=2, max_size=4).map("/".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(_segments, min_size=1, max_size=4).map("/".join), _names)
def test_the_tool_reads_the_patterns_of_rules_as_the_policy_does(pattern: str, name: str) -> None:
    try:
        covers = parse_pattern(f"document:{pattern}").covers(parse_resource(f"document:{name}"))
    except GlobError:
        return
    permissions = module("permissions")
    allowed = permissions.Permissions({"document": {"allow": [[f"document:{pattern}"]], "deny": []}})
    denied = permissions.Permissions({"document": {"allow": [["**"]], "deny": [f"document:{pattern}"]}})
    assert allowed.permits(name) is covers
    assert denied.permits(name) is not covers
    collection = name.partition("/")[0]
    with closing(sqlite3.connect(":memory:")) as database:
        for each in (allowed, denied):
            globs = each.suspects(collection)
            found = [database.execute("SELECT ? GLOB ?", (name, glob)).fetchone()[0] for glob in globs]
            assert each.permits(name) or any(found)
    assert {"all": True, "none": False}.get(allowed.whole(collection), covers) is covers
    assert {"all": True, "none": False}.get(denied.whole(collection), not covers) is not covers
