"""Where the documents do not answer a question, nothing is found; whether they do follows from what the reader may read."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from support import ROOT
from support.workspaces.collections import EVERYTHING, found, search_tool, write_documents

PAGES: Final = ["store:search/pages"]
ANSWERED: Final = {
    "How do I approve a call?": "approve-a-call",
    "How do I replay a failed run?": "replay-a-failed-run",
    "Can I keep the journal in PostgreSQL?": "record-runs-in-postgresql",
    "How do I wrap a program as a tool?": "wrap-a-program",
    "How do I hold a run and resume it later?": "hold-and-resume",
    "Which accounts may share a journal?": "share-a-journal-between-accounts",
    "How do I call a web service with a secret?": "call-a-web-service",
    "How are runs erased and sealed?": "keep-seal-and-erase-runs",
    "How do I write content rules?": "write-content-rules",
    "How do I export spans to OpenTelemetry?": "export-to-opentelemetry",
}
UNANSWERED: Final = (
    "How long do I boil an egg?",
    "What is the capital of Mongolia?",
    "How do I renew a passport?",
    "Who painted the Sistine Chapel?",
    "How much vacation do employees get in their first year?",
    "How do I remove red wine from a carpet?",
    "Which trains go from Lyon to Marseille?",
    "How do I tune a violin?",
    "What are the symptoms of iron deficiency?",
    "How do I center a div with CSS flexbox?",
)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, with the how-to pages of this project as a collection."""
    monkeypatch.chdir(tmp_path)
    names = [path for path in sorted((ROOT / "docs/how-to").glob("*.md")) if path.name != "README.md"]
    write_documents(Path(), "pages", {path.name: path.read_text(encoding="utf-8") for path in names})
    module = search_tool()
    module.ingest("pages")
    return module


def test_questions_that_the_documents_answer_are_answered_and_others_are_not(tool: ModuleType) -> None:
    right = 0
    for question, page in ANSWERED.items():
        try:
            right += f"pages/{page}@1" in found(tool.find(question, PAGES, EVERYTHING))
        except tool.NothingFound:
            continue
    assert right >= 9
    for question in UNANSWERED:
        with pytest.raises(tool.NothingFound, match="say that the documents do not answer it"):
            tool.find(question, PAGES, EVERYTHING)


def test_the_same_question_is_answered_or_not_by_what_the_reader_may_read(tool: ModuleType) -> None:
    question = "How do I call a web service with a secret?"
    assert found(tool.find(question, PAGES, EVERYTHING))[0] == "pages/call-a-web-service@1"
    without = {"document": {"allow": [["document:pages/write-*"]], "deny": []}}
    with pytest.raises(tool.NothingFound):
        tool.find("How do I boil a web service?", PAGES, without)
    with pytest.raises(tool.NothingFound):
        tool.find(question, PAGES, {"document": {"allow": [["document:pages/approve-*"]], "deny": []}})


def test_a_question_without_any_word_finds_nothing(tool: ModuleType) -> None:
    for question in ("what is it?", "?!", "\u200b"):
        with pytest.raises(tool.NothingFound):
            tool.find(question, PAGES, EVERYTHING)
