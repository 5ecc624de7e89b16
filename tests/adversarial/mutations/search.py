"""Protections of searches, each with the tests that must fail without it."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from typing import Final

import pytest

from adversarial.mutations.row import Mutation, Remove, brokered, replaced
from remit.broker.decisions import Decider
from remit.core.calls import Permitted
from remit.policy.engine import Policy
from remit.workspace import labels
from support.workspaces.collections import search_tool

GOVERNED: Final = "search/test_governed_search.py::"
VERSIONS: Final = "search/test_versions.py::"


def in_tool(module: str, where: str, name: str, instead: object) -> Remove:
    """Replace a method of a class of the search tool, or a function of a module, as it runs in the process of the tests."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        search_tool()
        owner = import_module(f"retrieval.{module}")
        patch.setattr(getattr(owner, where) if where else owner, name, instead)

    return remove


ROWS: Final = (
    brokered(
        "a search gets only the collections that the rules permit",
        replaced(Decider, "permits", lambda *_: lambda _: True),
        tests=(
            f"{GOVERNED}test_a_search_gets_the_permitted_collections_only_and_the_operator_sees_what_was_left_out",
            f"{GOVERNED}test_the_answer_is_the_same_whether_a_forbidden_collection_exists_or_not",
            f"{GOVERNED}test_a_hostile_search_tool_finds_no_byte_of_a_forbidden_collection",
        ),
    ),
    brokered(
        "a search gets the rules on single documents",
        replaced(Policy, "permitted", lambda *_: Permitted(allow=(("**",),))),
        tests=(f"{GOVERNED}test_a_document_that_a_rule_denies_is_neither_found_nor_opened",),
    ),
    brokered(
        "labels of documents reach the run",
        replaced(labels, "labels_in", lambda *_: ()),
        tests=(f"{GOVERNED}test_the_labels_of_a_document_are_on_the_run_and_only_those",),
    ),
    Mutation(
        name="forbidden documents are left out before anything is counted",
        remove=(in_tool("permissions", "Permissions", "whole", lambda *_: "all"),),
        tests=(
            "search/test_non_interference.py::test_forbidden_documents_change_no_byte_of_results_scores_order_counts_errors_or_freshness",
        ),
    ),
    Mutation(
        name="a passage is scored with every word of the query",
        remove=(in_tool("ranking", "_Scorer", "_look_up", lambda *_: None),),
        tests=(
            "search/test_ranking.py::test_the_best_passages_and_their_scores_are_those_of_bm25_over_what_is_permitted",
        ),
    ),
    Mutation(
        name="a file that ends the process which reads it is skipped",
        remove=(lambda patch: patch.setattr(search_tool(), "noted", lambda *_: nullcontext()),),
        tests=(f"{VERSIONS}test_a_file_that_ends_the_process_twice_is_skipped_and_the_others_are_read",),
    ),
    Mutation(
        name="comments of Markdown are no text of a document",
        remove=(in_tool("documents", "", "_without_comments", lambda text, _: text),),
        tests=("search/test_documents.py::test_a_comment_in_markdown_is_no_text_of_the_document",),
    ),
    Mutation(
        name="only versions in force are found",
        remove=(in_tool("shelf", "Version", "dated", lambda *_: True),),
        tests=(
            f"{VERSIONS}test_an_outdated_text_without_a_successor_is_not_found_at_all",
            f"{VERSIONS}test_a_version_is_in_force_until_its_successor_begins",
        ),
    ),
    Mutation(
        name="a version that was replaced is not found",
        remove=(in_tool("shelf", "Shelf", "successor", lambda *_, **__: None),),
        tests=(f"{VERSIONS}test_a_person_replaces_a_document_by_another_one",),
    ),
)
