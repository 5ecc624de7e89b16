"""Grounded answers: each claim has a source that the run retrieved, or the answer is asked for again and at last escalated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import WorkspaceError
from remit.core.events import AnswerRejected, RunFinished
from remit.journal.content_omission import omit_content
from remit.workspace import loader as workspace
from support.lifecycle import replayed
from support.runs import Played
from support.workspaces.handbook import TEXT, asked, claim, find, handbook_workspace, item, states

PAID = "Refunds are paid within 30 days."
GOOD = claim("You get your money within 30 days.", PAID)
B2B = item(
    "Refunds to business customers are paid within 60 days of the claim.",
    document="handbook/business",
    version="1",
    section="Business customers > Payment",
)


def played(
    folder: Path, turns: Sequence[dict[str, Any]], answer: str = "", **found: list[dict[str, Any]] | None
) -> Played:
    return asked(handbook_workspace(folder, turns, {"refunds": [item()], **found}, answer=answer))


def finished(done: Played) -> RunFinished:
    assert done.ended.finished is not None
    return done.ended.finished


def codes(done: Played) -> list[list[str]]:
    events = [recorded.event for recorded in done.records]
    return [[problem.code for problem in event.problems] for event in events if isinstance(event, AnswerRejected)]


def test_an_answer_with_literal_quotes_is_the_answer_of_the_run_and_its_sources_are_recorded(tmp_path: Path) -> None:
    done = played(tmp_path, [find("refunds"), states(GOOD)])
    assert (finished(done).outcome, json.loads(finished(done).answer)) == ("completed", {"claims": [GOOD]})
    (source,) = finished(done).sources
    assert (source.call, source.item, source.citation.model_dump(mode="json")) == ("0.0", 1, item()["citation"])
    assert replayed(done).reproduced


def test_a_claim_without_its_source_is_asked_for_again_with_the_reason(tmp_path: Path) -> None:
    wrong = claim("You get your money within 45 days.", PAID)
    done = played(tmp_path, [find("refunds"), states(wrong), states(GOOD)])
    assert (finished(done).outcome, codes(done)) == ("completed", [["number_not_in_quote"]])
    (event,) = (recorded.event for recorded in done.records if isinstance(recorded.event, AnswerRejected))
    assert str(event.problems[0]).startswith("claim 1: '45 days' is not in its quote")
    assert replayed(done).reproduced


def test_an_agent_without_a_grounded_answer_is_escalated_and_its_words_are_given_to_nobody(tmp_path: Path) -> None:
    wrong = states(claim("You get your money within 45 days.", PAID))
    done = played(tmp_path, [find("refunds"), wrong, wrong, wrong], answer="tries = 2")
    assert (finished(done).outcome, finished(done).answer, len(codes(done))) == ("escalated", "", 2)
    assert replayed(done).reproduced


def test_the_right_number_from_the_wrong_section_is_refused(tmp_path: Path) -> None:
    """30 days is in the handbook: but the section that the claim cites says nothing of it."""
    other = item("Returns are sent to the shop that sold the goods.", section="Returns > Place", begin=900)
    wrong = claim("You get your money within 30 days.", PAID, item=2, section="Returns > Place")
    named = claim("You get your money within 30 days.", PAID, section="Returns > Place")
    done = played(tmp_path, [find("both"), states(wrong), states(named), states(GOOD)], both=[item(), other])
    assert codes(done) == [["quote_not_found"], ["wrong_section"]]
    assert finished(done).outcome == "completed"


def test_two_versions_and_two_documents_that_disagree_are_refused_in_one_answer(tmp_path: Path) -> None:
    old = item("Refunds are paid within 14 days.", version="3", since=None)
    merged = [GOOD, claim("Before, it was 14 days.", "Refunds are paid within 14 days.", item=2)]
    business = claim(
        "Businesses wait 60 days.",
        "Refunds to business customers are paid within 60 days",
        call="1.0",
        section="Business customers > Payment",
    )
    turns = [find("versions"), find("business"), states(*merged), states(GOOD, business), states(business)]
    done = played(tmp_path, turns, versions=[item(), old], business=[B2B])
    assert codes(done) == [["two_versions"], ["documents_disagree"]]
    assert finished(done).outcome == "completed"


@pytest.mark.parametrize(
    ("since", "until", "outcome"),
    [
        (None, None, "completed"),
        ("2000-01-01", "9999-12-31", "completed"),
        ("2000-01-01T00:00:00Z", "2200-01-01T00:00:00+02:00", "completed"),
        ("2200-01-01", None, "escalated"),
        (None, "2001-12-31", "escalated"),
        (None, "2001-12-31T00:00:00Z", "escalated"),
        (None, "2200-01-01T00:00:00", "escalated"),
        ("soon", None, "escalated"),
    ],
)
def test_a_document_that_is_not_in_force_is_no_source(
    tmp_path: Path, since: str | None, until: str | None, outcome: str
) -> None:
    done = played(tmp_path, [find("x"), states(GOOD)], "tries = 0", x=[item(since=since, until=until)])
    assert finished(done).outcome == outcome


def test_a_text_that_changed_on_its_way_or_since_is_no_source(tmp_path: Path) -> None:
    redacted = {**item(), "text": TEXT.replace("a manager", "a ███████")}
    newer = item(TEXT.replace("200 EUR", "300 EUR"))
    turns = [find("redacted"), states(GOOD), find("refunds"), find("newer")]
    last = claim("Refunds take 30 days.", PAID, call="3.0")
    done = played(
        tmp_path, [*turns, states(claim("x", PAID, call="2.0")), states(last)], redacted=[redacted], newer=[newer]
    )
    assert codes(done) == [["source_changed"], ["source_changed"]]
    assert finished(done).outcome == "completed"


def test_nothing_can_be_cited_that_the_run_did_not_retrieve(tmp_path: Path) -> None:
    """Neither an item that is not there, nor one whose citation is not valid, nor a document that another run found."""
    odd = {**item(), "citation": {"document": "handbook/refunds"}}
    elsewhere = {"claim": "x", "quote": PAID, "citation": item(document="other")["citation"]}
    wrong = [claim("x", PAID, item=2), claim("x", PAID, item=3), claim("x", PAID, call="7.0"), elsewhere]
    done = played(tmp_path, [find("two"), *map(states, wrong), states(GOOD)], "tries = 9", two=[item(), odd])
    assert codes(done) == [["not_retrieved"]] * 4
    assert finished(done).outcome == "completed"


def test_an_agent_may_say_that_the_documents_do_not_answer_once_it_has_searched(tmp_path: Path) -> None:
    done = played(tmp_path, [states(), find("nothing"), states()], nothing=[])
    assert codes(done) == [["nothing_searched"]]
    assert json.loads(finished(done).answer) == {"claims": []}


def test_a_search_that_could_not_be_made_is_no_reason_to_say_that_the_documents_do_not_answer(tmp_path: Path) -> None:
    done = played(tmp_path / "a", [find("busy"), states(), find("nothing"), states()], nothing=[], busy=None)
    assert (codes(done), finished(done).outcome) == ([["nothing_searched"]], "completed")
    assert replayed(done).reproduced
    done = played(tmp_path / "b", [find("busy"), states(), states()], "tries = 1", busy=None)
    assert (codes(done), finished(done).outcome) == ([["nothing_searched"]], "escalated")


def test_words_outside_of_claims_are_refused_unless_the_schema_asks_for_them(tmp_path: Path) -> None:
    turns = [find("refunds"), states(GOOD, summary="Refunds take 90 days."), states(GOOD)]
    done = played(tmp_path, turns)
    assert codes(done) == [["unsourced_words"]]


@pytest.mark.parametrize(
    "claims",
    [
        None,
        "Refunds are paid within 30 days.",
        [PAID],
        [{"claim": "x", "quote": PAID}],
        [{**GOOD, "also": "x"}],
        [{**GOOD, "claim": " "}],
        [{**GOOD, "quote": ""}],
        [{**GOOD, "quote": "x" * 5000}],
        [{**GOOD, "citation": {"call": "0.0", "item": 1}}],
        [{**GOOD, "citation": {**GOOD["citation"], "item": True}}],
        [{**GOOD, "citation": {**GOOD["citation"], "item": 1.5}}],
        [{**GOOD, "citation": {**GOOD["citation"], "page": 4}}],
        [GOOD] * 51,
    ],
)
def test_claims_of_another_form_are_refused(tmp_path: Path, claims: Any) -> None:
    done = played(tmp_path, [find("refunds"), {"say": json.dumps({"claims": claims})}, states(GOOD)])
    assert codes(done) == [["invalid_claims"]]


def test_the_prompt_says_how_to_write_claims_and_that_not_to_know_is_an_answer(tmp_path: Path) -> None:
    prompt = workspace.load_workspace(handbook_workspace(tmp_path, [], {})).agents["guide"].prompt
    assert all(words in prompt for words in ('"claims"', '"quote"', "do not guess"))


def test_an_agent_that_can_retrieve_nothing_cannot_have_grounded_answers(tmp_path: Path) -> None:
    folder = handbook_workspace(tmp_path, [], {})
    manifest = folder / "tools/search/tool.toml"
    manifest.write_text(manifest.read_text().replace('passages = "items/*"\n', ""))
    with pytest.raises(WorkspaceError, match="no action of the agent returns passages"):
        workspace.load_workspace(folder)


def test_the_sources_of_an_answer_are_omitted_with_the_content(tmp_path: Path) -> None:
    done = played(tmp_path, [find("refunds"), states(GOOD)])
    assert finished(done).sources
    assert omit_content(finished(done)) == RunFinished(outcome="completed")
