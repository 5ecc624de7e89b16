"""What a reader may not see changes no byte of what the reader gets."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.workspaces.collections import search_tool, write_documents

CASES: Final = int(os.environ.get("REMIT_SEARCH_CASES", "25"))
WORDS: Final = ("alpha", "beta", "gamma", "delta", "refund", "late", "return")
QUERIES: Final = ("alpha beta", "gamma refund late", "delta", "omega alpha")
RESOURCES: Final = ["store:search/a", "store:search/b"]
PERMITTED: Final = {"document": {"allow": [["document:a/**", "document:b/**"], ["**"]], "deny": ["document:a/secret*"]}}

_texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


@st.composite
def _documents(draw: st.DrawFn, prefix: str, most: int) -> dict[str, str]:
    """Files of documents whose names begin with the prefix: some with versions, dates and successors."""
    files: dict[str, str] = {}
    for number in range(draw(st.integers(0, most))):
        front = {
            "id": f"{prefix}{draw(st.integers(0, 2))}",
            "version": draw(st.sampled_from(("1", "2"))),
            "valid_from": draw(st.sampled_from(("", "2020-01-01", "2090-01-01"))),
            "valid_until": draw(st.sampled_from(("", "2025-01-01"))),
            "supersedes": draw(st.sampled_from(("", "open0@1", f"{prefix}0@1"))),
        }
        lines = "".join(f"{key}: {value}\n" for key, value in front.items() if value)
        files[f"{prefix}{number}.md"] = (
            f"---\n{lines}---\n# {draw(_texts)}\n\n{draw(_texts)}\n\n## {draw(_texts)}\n\n{draw(_texts)}\n"
        )
    return files


@dataclass(frozen=True)
class Changes:
    """What happens to what the reader may not see: before the first ingest, before a second one, and after it."""

    before: dict[str, str]
    between: dict[str, str]
    after: dict[str, str]
    removed: bool
    elsewhere: dict[str, str]


_changes = st.builds(
    Changes,
    before=_documents("secret", 4),
    between=_documents("secret", 4),
    after=_documents("secret", 2),
    removed=st.booleans(),
    elsewhere=_documents("other", 4),
)


def seen(tool: ModuleType) -> str:
    """Every byte that the reader gets."""
    answers: list[Any] = [_answer(lambda query=query: tool.find(query, RESOURCES, PERMITTED)) for query in QUERIES]  # type: ignore[misc]
    for name in ("a/open0", "a/secret0", "b/open1", "a/none"):
        answers.append(_answer(lambda name=name: tool.open(name, RESOURCES, PERMITTED)))  # type: ignore[misc]
    status = tool.status(RESOURCES, PERMITTED)
    for collection in status["collections"]:
        if collection["collection"] == "b":
            collection["ingested_at"] = ""  # the reader may see all of it, and this is the time of the test
    return json.dumps([answers, status])


def _answer(call: Any) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - every error is compared
        return [type(error).__name__, str(error)]


def ingest(tool: ModuleType, files: Mapping[str, str]) -> None:
    write_documents(Path(), "a", files)
    tool.ingest("a")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return search_tool()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path)


@settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(visible=_documents("open", 4), beside=_documents("open", 2), changes=_changes)
def test_forbidden_documents_change_no_byte_of_results_scores_order_counts_errors_or_freshness(
    tool: ModuleType, folder: Path, visible: dict[str, str], beside: dict[str, str], changes: Changes
) -> None:
    shutil.rmtree(folder / "stores", ignore_errors=True)
    with chdir(folder):
        write_documents(Path(), "b", beside)
        Path("stores/search/b/documents").mkdir(parents=True, exist_ok=True)
        tool.ingest("b")
        Path("stores/search/a/documents").mkdir(parents=True)
        ingest(tool, visible)
        alone = seen(tool)
        shutil.rmtree("stores/search/a")
        Path("stores/search/a/documents").mkdir(parents=True)
        ingest(tool, {**visible, **changes.before})
        assert seen(tool) == alone
        write_documents(Path(), "c", changes.elsewhere)
        if changes.elsewhere:
            tool.ingest("c")
        if changes.removed:
            for name in changes.before:
                Path("stores/search/a/documents", name).unlink()
        ingest(tool, changes.between)
        assert seen(tool) == alone
        write_documents(Path(), "a", changes.after)  # not ingested: the index is behind, for others
        assert seen(tool) == alone


def test_the_words_of_forbidden_documents_would_change_the_order_if_they_were_counted(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason for all this: with the statistics of the whole index, hidden documents order what is visible."""
    monkeypatch.chdir(tmp_path)
    visible = {
        "one.md": "# One\n\nalpha alpha beta\n",
        "two.md": "# Two\n\nalpha beta beta\n",
        "x.md": "# X\n\nother words\n",
    }
    ingest(tool, {**visible, **{f"secret{number}.md": "# S\n\nalpha\n" for number in range(30)}})
    whole = {"document": {"allow": [["**"]], "deny": []}}
    orders: list[list[str]] = []
    for permitted in (PERMITTED, whole):
        items = tool.find("alpha beta", ["store:search/a"], permitted, 10)["items"]
        orders.append([item["title"] for item in items if item["title"] in ("One", "Two")])
    assert orders == [["One", "Two"], ["Two", "One"]]
