"""The handbook of the starter: its index is that of its files, and its old versions answer nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support.workspaces.collections import EVERYTHING, found, search_tool

HANDBOOK = ROOT / "agent/support/handbook"
COLLECTIONS = ("handbook", "managers")
STORES = [f"store:search/{name}" for name in COLLECTIONS]
OLD = {
    "handbook/accounts": ("3", ["1", "2"]),
    "handbook/refunds": ("3", ["1", "2", "4"]),
    "handbook/returns": ("3", ["1", "2"]),
    "handbook/shipping": ("3", ["1", "2"]),
    "handbook/warranty": ("3", ["1", "2"]),
    "managers/goodwill": ("2", ["1"]),
}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The search tool in a copy of the handbook, as each working folder begins."""
    shutil.copytree(HANDBOOK, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return search_tool()


def test_the_index_of_the_handbook_is_that_of_its_files(tool: Any) -> None:
    """If this fails, run `make handbook`."""
    for each in tool.status(STORES, EVERYTHING)["collections"]:
        assert (each["behind"], each["skipped"]) == (False, []), each
    for collection in COLLECTIONS:
        files = list(Path("stores/search", collection, "documents").iterdir())
        ingested = tool.ingest(collection)
        assert (ingested["documents"], ingested["unchanged"]) == (len(files), len(files))


@pytest.mark.parametrize(("document", "current", "old"), [(name, *versions) for name, versions in OLD.items()])
def test_a_version_that_is_not_in_force_is_neither_opened_nor_found_by_its_own_words(
    tool: Any, document: str, current: str, old: list[str]
) -> None:
    folder = Path("stores/search", document.partition("/")[0], "documents")
    for version in old:
        with pytest.raises(tool.StaleDocument, match=rf"open '{document}', version {current}$"):
            tool.open(document, STORES, EVERYTHING, version=version)
        text = (folder / f"{document.partition('/')[2]}-{version}.md").read_text().rpartition("---\n")[2]
        for sentence in (line for line in text.splitlines() if line and not line.startswith("#")):
            try:
                documents = found(tool.find(sentence[:1000], STORES, EVERYTHING, most=10))
            except tool.NothingFound:
                continue
            assert f"{document}@{version}" not in documents
    assert found(tool.open(document, STORES, EVERYTHING))[0] == f"{document}@{current}"
