"""Of each document only the version in force is found; asked for by name, the others name their successor."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from support.workspaces.collections import EVERYTHING, found, search_tool, write_documents

HANDBOOK: Final = ["store:search/handbook"]
QUESTION: Final = "how long can a late return be refunded"
OLD: Final = """---
id: refunds
version: 1
valid_until: 2024-01-01
---
# Refunds

## Late returns

How long can a late return be refunded? A late return can be refunded for 14 days.
"""
NEW: Final = """---
id: refunds
version: 2
valid_from: 2024-01-01
supersedes: 1
---
# Refunds

## Late returns

Late returns are accepted for 30 days.
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool in an empty working folder, on a fixed day."""
    monkeypatch.chdir(tmp_path)
    module = search_tool()
    monkeypatch.setattr(module, "_today", lambda: date(2026, 3, 1).isoformat())
    return module


def find(tool: ModuleType, query: str = QUESTION) -> Any:
    return tool.find(query, HANDBOOK, EVERYTHING)


def ingest(tool: ModuleType, **files: str) -> Any:
    write_documents(Path(), "handbook", {f"{name}.md": text for name, text in files.items()})
    return tool.ingest("handbook")


def test_an_outdated_text_that_matches_every_word_is_not_found_beside_the_one_in_force(tool: ModuleType) -> None:
    ingest(tool, old=OLD, new=NEW)
    assert found(find(tool)) == ["handbook/refunds@2"]


def test_an_outdated_text_without_a_successor_is_not_found_at_all(tool: ModuleType) -> None:
    ingest(tool, old=OLD)
    with pytest.raises(tool.NothingFound, match="say that the documents do not answer it"):
        find(tool)


def test_a_version_is_in_force_until_its_successor_begins(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(tool, old=OLD, new=NEW)
    monkeypatch.setattr(tool, "_today", lambda: "2023-12-31")
    assert found(find(tool)) == ["handbook/refunds@1"]
    monkeypatch.setattr(tool, "_today", lambda: "2024-01-01")
    assert found(find(tool)) == ["handbook/refunds@2"]


def test_of_two_versions_without_dates_the_later_number_is_in_force(tool: ModuleType) -> None:
    nine = OLD.replace("version: 1\nvalid_until: 2024-01-01", "version: 9")
    ten = OLD.replace("version: 1\nvalid_until: 2024-01-01", "version: 10")
    ingest(tool, nine=nine, ten=ten)
    assert found(find(tool)) == ["handbook/refunds@10"]


def test_a_superseded_document_asked_for_by_name_names_its_successor(tool: ModuleType) -> None:
    ingest(tool, old=OLD, new=NEW)
    with pytest.raises(tool.StaleDocument, match="open 'handbook/refunds', version 2"):
        tool.open("handbook/refunds", HANDBOOK, EVERYTHING, version="1")
    opened = tool.open("handbook/refunds", HANDBOOK, EVERYTHING)
    assert opened["items"][0]["citation"]["version"] == "2"
    assert opened["items"][0]["in_force"] == {"from": "2024-01-01", "until": None}


def test_a_person_replaces_a_document_by_another_one(tool: ModuleType) -> None:
    other = "# Returns\n\nReturns that come late are refunded within 60 days.\n"
    ingest(tool, new=NEW, returns=other)
    tool.supersede("handbook", "handbook/refunds", "2", "handbook/returns", "1")
    try:
        documents = found(find(tool))
    except tool.NothingFound:
        documents = []
    assert documents == ["handbook/returns@1"]
    with pytest.raises(tool.StaleDocument, match="open 'handbook/returns', version 1"):
        tool.open("handbook/refunds", HANDBOOK, EVERYTHING)
    with pytest.raises(tool.NotFound, match="no document 'handbook/none'"):
        tool.supersede("handbook", "handbook/refunds", "2", "handbook/none", "1")


def test_successions_that_form_a_circle_end(tool: ModuleType) -> None:
    ingest(tool, old=OLD.replace("valid_until: 2024-01-01", "supersedes: 2"), new=NEW)
    with pytest.raises(tool.NothingFound):
        find(tool)


def test_a_file_that_changed_after_ingest_is_named_and_by_the_collections_own_setting_refused(tool: ModuleType) -> None:
    ingest(tool, new=NEW, other="# Other\n\nNothing of interest.\n")
    assert find(tool)["behind"] == []
    write_documents(Path(), "handbook", {"new.md": NEW.replace("30", "31")})
    assert find(tool)["behind"] == ["handbook"]
    Path("stores/search/handbook/collection.toml").write_text('when_behind = "refuse"\n')
    tool.ingest("handbook")
    assert find(tool)["items"][0]["text"].endswith("31 days.")
    for change in ({"new.md": NEW}, {"third.md": "# Third\n\nA new document.\n"}):
        write_documents(Path(), "handbook", change)
        with pytest.raises(tool.IndexBehind, match="remit search ingest handbook"):
            find(tool)
        tool.ingest("handbook")
    Path("stores/search/handbook/documents/other.md").unlink()
    with pytest.raises(tool.IndexBehind):
        find(tool)


def test_the_file_of_a_chunk_that_was_found_is_compared_in_large_collections_too(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(tool, new=NEW, other="# Other\n\nNothing of interest.\n")
    monkeypatch.setattr(tool.freshness, "MOST_COMPARED", 1)
    write_documents(Path(), "handbook", {"other.md": "# Other\n\nChanged.\n"})
    assert find(tool)["behind"] == []
    write_documents(Path(), "handbook", {"new.md": NEW.replace("30", "31")})
    assert find(tool)["behind"] == ["handbook"]


def test_ingest_reads_only_what_changed_and_forgets_what_is_gone(tool: ModuleType) -> None:
    assert ingest(tool, old=OLD, new=NEW)["added"] == 2
    again = ingest(tool, old=OLD, new=NEW.replace("30 days", "two months"))
    assert (again["changed"], again["added"], again["documents"]) == (1, 0, 2)
    assert find(tool, "two months for returns")["items"][0]["text"].endswith("two months.")
    with pytest.raises(tool.NothingFound):
        find(tool, "30 days")
    Path("stores/search/handbook/documents/new.md").unlink()
    assert tool.ingest("handbook")["removed"] == 1
    with pytest.raises(tool.NothingFound):
        find(tool, "two months")


def test_an_ingest_that_runs_out_of_time_says_how_much_remains_and_goes_on_later(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_documents(Path(), "handbook", {f"d{number}.md": f"# D{number}\n\nword{number}\n" for number in range(5)})
    monkeypatch.setattr(tool, "SECONDS", -1.0)
    remaining = [tool.ingest("handbook")["remaining"] for _ in range(5)]
    assert remaining == [4, 3, 2, 1, 0]
    assert found(find(tool, "word4")) == ["handbook/d4@1"]


def test_bad_front_matter_is_skipped_with_what_to_write(tool: ModuleType) -> None:
    done = ingest(
        tool,
        a="---\nvalid_form: 2024-01-01\n---\n# A\n",
        b="---\nvalid_from: 2024-13-01\n---\n# B\n",
        c="---\nlabels: [secret]\n---\n# C\n",
        d="---\nid: x\n---\n# D\n\nx\n",
        e="---\nid: x\n---\n# E\n\nx\n",
        f="---\nvalid_from: 2025-01-01\nvalid_until: 2024-01-01\n---\n# F\n",
    )
    why = {each["file"]: each["why"] for each in done["skipped"]}
    assert sorted(why) == ["a.md", "b.md", "c.md", "e.md", "f.md"]
    assert "unknown key 'valid_form'" in why["a.md"]
    assert "write 2026-01-31" in why["b.md"]
    assert "write a list of confidential, internal, personal" in why["c.md"]
    assert "d.md has version 1 of handbook/x too" in why["e.md"]
    assert "is before" in why["f.md"]


def test_an_ingest_that_was_killed_in_the_middle_is_named_and_undone_by_the_next_one(tool: ModuleType) -> None:
    ingest(tool, new=NEW)
    child = os.fork()
    if not child:
        try:
            with tool.writing("handbook") as writer:
                writer.connection.execute("PRAGMA cache_size = 1")
                for number in range(999):
                    writer.connection.execute("INSERT INTO posting VALUES (?, ?, ?)", (f"x{number}", bytes(999), b""))
                os._exit(9)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    with pytest.raises(tool.IndexDamaged, match="run `remit search ingest handbook`"):
        find(tool)
    tool.ingest("handbook")
    assert found(find(tool)) == ["handbook/refunds@2"]


def test_a_file_that_ends_the_process_twice_is_skipped_and_the_others_are_read(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = tool.read_document

    def killed(collection: str, path: str, data: bytes, sidecar: bytes | None) -> Any:
        if path == "hostile.md":
            raise SystemExit
        return read(collection, path, data, sidecar)

    monkeypatch.setattr(tool, "read_document", killed)
    write_documents(Path(), "handbook", {"hostile.md": "# Hostile\n", "new.md": NEW, "a.md": "# A\n\nFirst.\n"})
    for _ in range(2):
        with pytest.raises(SystemExit):
            tool.ingest("handbook")
    try:
        done = tool.ingest("handbook")
    except SystemExit:
        pytest.fail("the file has ended the process three times")
    assert [each["file"] for each in done["skipped"]] == ["hostile.md"]
    assert "within the limits of a call" in done["skipped"][0]["why"]
    assert found(find(tool)) == ["handbook/refunds@2"]
    write_documents(Path(), "handbook", {"hostile.md": "# Hostile, and changed\n"})
    with pytest.raises(SystemExit):
        tool.ingest("handbook")


def test_what_is_no_file_and_what_is_too_large_stops_neither_a_search_nor_an_ingest(tool: ModuleType) -> None:
    ingest(tool, new=NEW)
    documents = Path("stores/search/handbook/documents")
    os.mkfifo(documents / "pipe.md")
    (documents / "link.md").symlink_to("/etc/passwd")
    (documents / "large.md").touch()
    os.truncate(documents / "large.md", 1 << 40)
    assert find(tool)["behind"] == ["handbook"]
    done = tool.ingest("handbook")
    assert [(each["file"], each["why"]) for each in done["skipped"]] == [
        ("large.md", "it has more than 8 MiB: split it")
    ]
    assert find(tool)["behind"] == []
