"""Protections of imported policies: they are never wider than those of the other system."""

from __future__ import annotations

import re
from typing import Any, Final

from adversarial.mutations.row import DECIDES, Mutation
from remit.analysis.importing import claude_code, expression, shape
from remit.analysis.importing.casbin import _Importer  # pyright: ignore[reportPrivateUsage]  # removed here
from remit.analysis.importing.names import Names

REFUSE: Final[Any] = _Importer._refuse  # pyright: ignore[reportPrivateUsage]  # what remains of it
HERE: Final = "analysis/importing/test_rows.py"
CLAUDE: Final = "analysis/importing/test_claude_code.py"


def refused(self: Any, line: Any, why: str, **_: object) -> None:
    """A row is refused, and what the file allows stays."""
    REFUSE(self, line, why)


def unchecked(_: Names, ours: str, _theirs: str) -> str:
    """The name, even if another has it."""
    return ours


def never_reads(_: object) -> bool:
    return False


def never_reaches(_what: str, _project: object) -> bool:
    return False


def hides_nothing(_: str) -> tuple[str, ...]:
    return ()


ROWS: Final = (
    Mutation(
        name="a lost denial refuses what a file allows",
        remove=(lambda patch: patch.setattr(_Importer, "_refuse", refused),),
        tests=(
            f"{HERE}::test_if_a_denial_is_lost_nothing_is_allowed",
            f"{HERE}::test_a_link_that_is_lost_may_lose_a_denial",
        ),
        still=DECIDES,
    ),
    Mutation(
        name="two names of another system never become one here",
        remove=(lambda patch: patch.setattr(Names, "_own", unchecked),),
        tests=(
            f"{HERE}::test_two_names_never_become_one",
            f"{HERE}::test_actions_can_be_named_and_stay_one_to_one",
        ),
        still=DECIDES,
    ),
    Mutation(
        name="what follows an || is read only if what stands before it can be",
        remove=(lambda patch: patch.setattr(expression, "_reads_attribute", never_reads),),
        tests=(f"{HERE}::test_what_follows_an_or_is_read_only_if_what_stands_before_it_can_be",),
        still=DECIDES,
    ),
    Mutation(
        name="a glob of another system hides leading dots here too",
        remove=(lambda patch: patch.setattr(shape, "_hidden", hides_nothing),),
        tests=(f"{HERE}::test_a_wildcard_of_a_glob_hides_names_with_a_leading_dot",),
        still=DECIDES,
    ),
    Mutation(
        name="a file that may not be read is not listed or searched",
        remove=(lambda patch: patch.setattr(claude_code, "_READS", ("files.read",)),),
        tests=(f"{CLAUDE}::test_a_file_that_may_not_be_read_is_not_listed_or_searched",),
        still=DECIDES,
    ),
    Mutation(
        name="a denied path outside denies every file if the project may be below it",
        remove=(lambda patch: patch.setattr(claude_code, "_may_reach", never_reaches),),
        tests=(f"{CLAUDE}::test_a_denied_path_outside_denies_every_file_if_the_project_may_be_below_it",),
        still=DECIDES,
    ),
    Mutation(
        name="a denial of tools that cannot be named exactly denies more",
        remove=(lambda patch: patch.setattr(claude_code, "_SERVER", re.compile("(?!)")),),
        tests=(f"{CLAUDE}::test_a_denial_of_tools_that_cannot_be_named_exactly_denies_more",),
        still=DECIDES,
    ),
)
