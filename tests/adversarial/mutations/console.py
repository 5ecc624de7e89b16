"""Protections of the pages about rules, tools, the fleet and comparisons, and of what a page shows of runs."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.client import AsyncRemit, passkeys, review
from remit.server.apart import Apart
from remit.server.pages import comparisons, runs
from remit.server.pages.fleet import plots
from remit.server.pages.policy import drafts, editor
from remit.server.pages.policy.drafts import Drafts
from remit.server.pages.runs import RunPages

POLICY: Final = "server/pages/test_policy.py::"
FLEET: Final = "server/pages/test_fleet.py::"
COMPARED: Final = "server/pages/test_comparisons.py::"
GOOD: Final = (f"{POLICY}test_the_page_answers_who_may_and_what_a_subject_may",)


def shown(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    """A mutation of a page; a question about the rules is still answered."""
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=GOOD)


def begun(_: Apart, work: Any) -> Any:
    """Begin every piece of work, however many there are."""
    return asyncio.create_task(work)


def only_active(journal: Any, by: Any) -> bool:
    return bool(passkeys.active_passkeys(journal, by))


def every(_: str) -> bool:
    return True


def journal_of(pages: Any, by: Any) -> Any:
    workspace, _ = pages._service.client(by)
    return workspace.journal


def in_place(root: Any, folder: Any, changes: Any) -> None:
    """Write the changes into the workspace itself."""
    folder.symlink_to(root)
    for change in changes:
        (root / change.file).write_text(change.after)


ROWS: Final = (
    shown(
        "a draft of rules is shown to its author only",
        replaced(Drafts, "find", lambda self, id, _: self._kept.get(id)),
        tests=(f"{POLICY}test_a_draft_is_shown_to_its_author_only",),
    ),
    shown(
        "only people who may read every run use the editor, and see tools and fleet",
        replaced(AsyncRemit, "may", lambda *_: True),
        tests=(
            f"{POLICY}test_who_may_not_read_every_run_edits_nothing_and_learns_nothing",
            f"{FLEET}test_who_may_not_read_every_run_sees_neither_tools_nor_fleet[/fleet]",
        ),
    ),
    shown(
        "a change is compared with the file from which it began",
        replaced(editor, "_base", lambda *_: ""),
        tests=(f"{POLICY}test_a_change_of_a_file_that_changed_meanwhile_is_not_taken",),
    ),
    shown(
        "the editor changes files of rules only",
        replaced(editor, "_rules_of", lambda files: iter((*files, "remit.toml", "policies/tools.lock", ""))),
        tests=(f"{POLICY}test_a_form_changes_no_other_file",),
    ),
    shown(
        "an analysis is of a copy of the workspace",
        replaced(drafts, "_write_candidate", in_place),
        tests=(f"{POLICY}test_a_change_is_shown_with_what_it_permits_and_becomes_a_patch_that_applies",),
    ),
    shown(
        "a draft follows no link",
        replaced(drafts, "_write_changed", lambda _, folder, change: (folder / change.file).write_text(change.after)),
        tests=(f"{POLICY}test_a_draft_of_rules_behind_a_link_changes_nothing_that_is_in_force",),
    ),
    shown(
        "the service computes only so much at once",
        replaced(Apart, "begin", begun),
        tests=(f"{POLICY}test_only_so_many_analyses_are_computed_at_once",),
    ),
    shown(
        "the text of a plot is text",
        replaced(plots, "escaped", lambda text: text),
        tests=(f"{FLEET}test_a_plot_says_in_words_what_it_shows_and_escapes_them",),
    ),
    shown(
        "only who may read a run compares and replays it",
        replaced(comparisons, "_readable", lambda _, run, __: run),
        tests=(f"{COMPARED}test_a_run_that_a_person_may_not_read_is_not_compared_by_any_way",),
    ),
    shown(
        "comparing runs is recorded as reading them",
        replaced(comparisons, "_note", lambda *_: None),
        tests=(f"{COMPARED}test_a_run_is_compared_with_another_one_and_both_readings_are_recorded",),
    ),
    shown(
        "following a run is recorded as reading it",
        replaced(RunPages, "_noted", lambda *_: True),
        tests=("server/pages/test_runs.py::test_a_person_who_follows_a_run_without_its_page_is_recorded_as_a_reader",),
    ),
    shown(
        "of runs that a person may not read, no last approval is shown",
        replaced(review, "similar_approvals", lambda *given, like=review.similar_approvals: like(*given[:-1], every)),
        tests=("server/pages/test_approvals.py::test_of_a_run_that_a_person_may_not_read_no_last_approval_is_shown",),
    ),
    shown(
        "who has had a passkey approves by a signature only, also after it was revoked",
        replaced(passkeys, "must_sign", only_active),
        tests=("server/pages/test_passkeys.py::test_a_revoked_passkey_signs_nothing",),
    ),
    shown(
        "a run that a person may not read has no page",
        replaced(RunPages, "_readable", lambda self, by, run: runs.find_run(journal_of(self, by), run)),
        tests=("server/pages/test_runs.py::test_a_run_that_a_person_may_not_read_is_as_if_it_did_not_exist",),
    ),
)
