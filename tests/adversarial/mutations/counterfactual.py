"""Protections of runs that go on from a recorded one, each with the tests that must fail without it."""

from __future__ import annotations

from typing import Final

from adversarial.mutations.row import Mutation, Remove, never, replaced
from remit.evals.counterfactual import circumstances, playing, versions
from remit.evals.counterfactual.playing import Counterfactual
from remit.evals.counterfactual.seed_copy import SeedCopy
from remit.evals.counterfactual.turns import _RepeatedTurns
from remit.evals.worlds import WorldExecutor

TESTS: Final = "evals/test_counterfactual.py::"
GOES_ON: Final = "evals/test_going_on.py::"
STALE: Final = f"{TESTS}test_no_answer_that_an_effect_may_have_changed_is_served"
IN_COPY: Final = f"{GOES_ON}test_a_run_goes_on_in_a_copy_of_its_seed_that_has_the_recorded_effects_and_nothing_lands"
NOT_RECORDED: Final = f"{TESTS}test_an_effect_that_the_record_does_not_have_does_not_happen_and_leaves_no_grade"


def goes_on(name: str, *remove: Remove, tests: tuple[str, ...]) -> Mutation:
    """A mutation of what a run that goes on is answered; with its recorded model it still goes on as recorded."""
    still = (f"{TESTS}test_a_random_run_with_its_recorded_model_goes_on_as_recorded[3]",)
    return Mutation(name=name, remove=remove, tests=tests, fixtures=True, still=still)


def _count(call: object, effects: object) -> frozenset[str]:
    """The version as the number of effects in place of their names."""
    number = len(_VERSION_OF(call, effects))  # type: ignore[arg-type]
    return frozenset({str(number)} if number else ())


_VERSION_OF: Final = versions.version_of

ROWS: Final = (
    goes_on(
        "a recorded answer counts only after the recorded effects",
        replaced(versions, "version_of", lambda *_: frozenset()),
        tests=(STALE,),
    ),
    goes_on(
        "a version is a set of effects, not their number",
        replaced(versions, "version_of", _count),
        tests=(f"{TESTS}test_an_answer_after_one_effect_is_not_served_after_another_one_on_the_same_thing",),
    ),
    goes_on(
        "an answer that ran beside an effect has no version",
        replaced(versions, "_changed_meanwhile", lambda *_: False),
        tests=(f"{TESTS}test_an_answer_that_an_effect_beside_it_may_have_changed_is_not_served_without_that_effect",),
    ),
    goes_on(
        "an effect outside of the world does not happen",
        replaced(SeedCopy, "obstacle", lambda *_: ""),
        replaced(WorldExecutor, "_is_inside", lambda *_: True),
        tests=(NOT_RECORDED,),
    ),
    goes_on(
        "a run that rests on an assumed answer has no grade",
        replaced(Counterfactual, "ungraded", property(lambda self: self.ends)),
        tests=(NOT_RECORDED,),
    ),
    goes_on(
        "a copy of the seed gets the recorded effects before a call builds on them",
        never(SeedCopy, "catch_up"),
        tests=(IN_COPY,),
    ),
    goes_on(
        "an approval counts only where the same question is asked",
        replaced(circumstances, "_question", lambda _: ""),
        tests=(f"{TESTS}test_an_approval_counts_only_where_the_same_question_is_asked",),
    ),
    goes_on(
        "a recorded turn is repeated only for what the model read then",
        replaced(_RepeatedTurns, "_reads_the_same", lambda *_: True),
        tests=(f"{TESTS}test_the_recorded_turns_are_repeated_only_while_the_model_reads_what_it_read_then",),
    ),
    goes_on(
        "recorded answers of another version of a tool do not count",
        replaced(playing, "_changed_tools", lambda *_: frozenset()),
        tests=(f"{TESTS}test_a_tool_of_another_version_is_not_answered_from_the_record",),
    ),
)
