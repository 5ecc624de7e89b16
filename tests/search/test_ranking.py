"""Scores are those of BM25 over the passages that a reader may see, however many of them are looked at."""

from __future__ import annotations

import importlib
import math
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.workspaces.collections import search_tool, write_documents

COLLECTIONS: Final = ("a", "b", "c")
RULES: Final = {"document": {"allow": [["document:**"]], "deny": ["document:*/secret*"]}}
WORDS: Final = ("often", "often", "often", "often", "middle", "middle", "rare", "one", "two", "three")

_texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
_files = st.dictionaries(
    st.sampled_from([f"{kind}{number}.txt" for kind in ("d", "secret") for number in range(9)]), _texts
)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool in an empty working folder, which returns what it ranked even if that is no evidence."""
    monkeypatch.chdir(tmp_path)
    module = search_tool()
    monkeypatch.setattr(module, "answers", lambda ranked: bool(ranked.hits))
    return module


def bm25(passages: dict[str, list[str]], query: list[str]) -> dict[str, float]:
    """The score of each passage that has a word of the query, from the definition: Robertson and Zaragoza (2009), with k1 = 1.2, b = 0.75."""
    mean = sum(map(len, passages.values())) / len(passages)
    found: dict[str, float] = {}
    for name, terms in passages.items():
        counts = Counter(terms)
        for word in query:
            having = sum(word in others for others in passages.values())
            weight = math.log(1 + (len(passages) - having + 0.5) / (having + 0.5))
            if counts[word]:
                length = 1.2 * (0.25 + 0.75 * len(terms) / mean)
                found[name] = found.get(name, 0) + weight * 2.2 * counts[word] / (counts[word] + length)
    return found


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(_files, _files, _files),
    st.lists(st.sampled_from(("rare", "middle", "often", "one", "none")), min_size=1, unique=True),
    st.integers(1, 4),
)
def test_the_best_passages_and_their_scores_are_those_of_bm25_over_what_is_permitted(
    tool: ModuleType, files: tuple[dict[str, str], ...], words: list[str], most: int
) -> None:
    shutil.rmtree("stores", ignore_errors=True)
    passages: dict[str, list[str]] = {}
    terms_of: Any = importlib.import_module("retrieval.terms").terms_of
    for collection, own in zip(COLLECTIONS, files, strict=True):
        write_documents(Path(), collection, {**own, "last.txt": "often"})
        tool.ingest(collection)
        visible = {name.removesuffix(".txt"): text for name, text in own.items() if not name.startswith("secret")}
        for name, text in {**visible, "last": "often"}.items():
            passages[f"{collection}/{name}"] = terms_of(f"{name} {text}")
    expected = bm25(passages, [terms_of(word)[0] for word in words])
    resources = [f"store:search/{collection}" for collection in COLLECTIONS]
    try:
        items = tool.find(" ".join(words), resources, RULES, most)["items"]
    except tool.NothingFound:
        items = []
    assert [item["score"] for item in items] == pytest.approx(sorted(expected.values(), reverse=True)[:most], abs=2e-6)
    for item in items:
        assert item["score"] == pytest.approx(expected[item["citation"]["document"]], abs=2e-6)
