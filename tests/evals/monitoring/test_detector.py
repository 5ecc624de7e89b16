"""The detector raises no more false alarms than it states, and sees a change soon."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from remit.evals.monitoring import Change, Observation, find_changes

STREAMS: Final = int(os.environ.get("REMIT_DRIFT_STREAMS", "200"))
RUNS: Final = int(os.environ.get("REMIT_DRIFT_RUNS", "60"))  # the stated rate: one false alarm in so many runs
LENGTH: Final = 4 * RUNS

Draw = Callable[[random.Random], float]

ALIKE: Final[dict[str, Draw]] = {
    "a rare event": lambda chance: float(chance.random() < 0.02),
    "a frequent event": lambda chance: float(chance.random() < 0.4),
    "seconds": lambda chance: chance.lognormvariate(2, 1),
}
CHANGES: Final[dict[str, tuple[Draw, Draw, bool, int]]] = {
    "2 % become 20 %": (
        lambda chance: float(chance.random() < 0.02),
        lambda chance: float(chance.random() < 0.2),
        True,
        80,
    ),
    "40 % become 5 %": (
        lambda chance: float(chance.random() < 0.4),
        lambda chance: float(chance.random() < 0.05),
        False,
        60,
    ),
    "95 % become 50 %": (
        lambda chance: float(chance.random() < 0.95),
        lambda chance: float(chance.random() < 0.5),
        False,
        30,
    ),
    "seconds become twice as many": (
        lambda chance: chance.lognormvariate(2, 0.5),
        lambda chance: 2 * chance.lognormvariate(2, 0.5),
        True,
        30,
    ),
}


def stream(seed: int, *parts: tuple[Draw, int]) -> list[Observation]:
    """Runs of one measure: so many of each part."""
    chance = random.Random(seed)
    values = [draw(chance) for draw, count in parts for _ in range(count)]
    return [Observation(run=f"{seed}/{number}", value=value) for number, value in enumerate(values)]


def first_seen(changes: Sequence[Change], since: int) -> Change | None:
    return next((change for change in changes if change.seen >= since), None)


@pytest.mark.parametrize("draw", ALIKE.values(), ids=ALIKE)
def test_runs_that_are_alike_raise_at_most_one_false_alarm_in_the_stated_number_on_average(draw: Draw) -> None:
    """Over all streams, with the alarms that follow the first one."""
    alarms = sum(len(find_changes(stream(seed, (draw, LENGTH)), runs=RUNS)) for seed in range(STREAMS))
    assert 0 < alarms <= STREAMS * LENGTH / RUNS


@pytest.mark.parametrize(("before", "after", "more", "soon"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_soon_with_its_direction_and_its_first_run(
    before: Draw, after: Draw, more: bool, soon: int
) -> None:
    """At a rate of one false alarm in 6,000 runs, as one of six measures has it."""
    delays: list[int] = []
    wrong_by: list[int] = []
    for seed in range(20):
        found = first_seen(find_changes(stream(seed, (before, 400), (after, 400)), runs=6000), 400)
        assert found is not None
        assert found.more is more
        delays.append(found.seen - 400)
        wrong_by.append(abs(found.at - 400))
    assert sorted(delays)[len(delays) // 2] <= soon
    assert sum(runs <= 30 for runs in wrong_by) >= 16


def test_the_same_runs_always_give_the_same_changes() -> None:
    """Ties are broken by the ids of the runs, and not by a clock or a process."""
    observations = stream(3, (ALIKE["a rare event"], 200), (ALIKE["a frequent event"], 60))
    assert find_changes(observations, runs=500) == find_changes(observations, runs=500) != []


def test_hits_say_which_runs_became_more_frequent() -> None:
    observations = stream(5, (ALIKE["a rare event"], 300), (ALIKE["a frequent event"], 100))
    change = first_seen(find_changes(observations, runs=2000), 300)
    assert change is not None
    after = [observation.value for observation in observations[change.at : change.seen + 1]]
    hits = change.hits[change.at - change.begin :]
    assert [value for value, hit in zip(after, hits, strict=True) if hit].count(1.0) > len(after) / 5


def test_nothing_is_seen_before_the_first_run_that_counts() -> None:
    observations = stream(7, (ALIKE["a rare event"], 100), (ALIKE["a frequent event"], 100))
    assert find_changes(observations, runs=100)[0].seen < 150
    assert all(change.seen >= 180 for change in find_changes(observations, runs=100, first=180))
