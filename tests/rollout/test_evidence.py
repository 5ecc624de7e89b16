"""The evidence against a candidate: no false alarm though it is looked at after every run, and harm is noticed in time."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from remit.core.events import Bar, BarEvidence, RolloutOpened
from remit.journal import ArmRun, count_arms
from remit.rollout import RATIOS, SOFT, EProcess, bet, chance_of_arm, evidence_limit, expected_delay, weigh
from support.rollouts import rollout_opened

STREAMS = int(os.environ.get("REMIT_STREAMS", "200"))  # 2000 takes half a minute
ALPHA = 0.05


def events(
    chance: random.Random, share: Callable[[int], float], live: float, candidate: float
) -> Iterator[tuple[int, bool, float]]:
    """The runs in which something happens: their number, whether they are the candidate's, and the share then.

    The runs between two of them are skipped, so either the share or the two rates must be the same all the time.
    """
    number = 0
    while True:
        rate = share(number) * candidate + (1 - share(number)) * live
        number += math.ceil(math.log(1 - chance.random()) / math.log(1 - rate)) or 1
        now = share(number)
        yield number, chance.random() < now * candidate / (now * candidate + (1 - now) * live), now


def noticed(
    chance: random.Random, share: Callable[[int], float], live: float, candidate: float, alpha: float, most: int = 3000
) -> int | None:
    """The run after which the candidate is rejected; None if it is not within `most` runs."""
    process = EProcess()
    for number, own, now in events(chance, share, live, candidate):
        if number > most:
            return None
        process = process.observe(own, now)
        if process.rejects(alpha):
            return number
    raise AssertionError


def rollout(unit: str = "run", **changes: Any) -> RolloutOpened:
    return rollout_opened(**{"bars": tuple(Bar(name=name, above=10.0) for name in SOFT), "unit": unit, **changes})


def ended(
    number: int, *, user: str, candidate: bool, failed: bool = False, share: float = 0.5, seconds: int = 1
) -> ArmRun:
    return ArmRun(
        run=f"{number:032x}",
        user=user,
        arm="candidate" if candidate else "live",
        share=share,
        seconds=seconds,
        outcome="failed" if failed else "completed",
        refused=False,
        asked=False,
        in_doubt=False,
        violated=False,
        cost=None,
    )


def weighed(opened: RolloutOpened, runs: Sequence[ArmRun]) -> tuple[BarEvidence, ...]:
    return weigh(opened, count_arms(opened, runs))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("ratio", RATIOS)
def test_a_bet_wins_nothing_on_average_if_the_candidate_is_no_worse_and_loses_if_it_is_better(
    share: float, ratio: float
) -> None:
    """Exactly, for every share: that the expected factor is at most 1 is all that the guarantee rests on."""
    guess = chance_of_arm(share, ratio)
    for truth, least, most in ((share, 1 - 1e-12, 1 + 1e-12), (share / 2, 0.0, 1.0)):
        assert least <= truth * bet(True, share, guess) + (1 - truth) * bet(False, share, guess) <= most


def test_the_evidence_of_two_stages_multiplies_each_with_its_own_share() -> None:
    one, both = EProcess((0.0,), (5.0,)), EProcess((0.0,), (5.0,)).observe(True, 0.1).observe(True, 0.5)
    assert both.log_value == pytest.approx(one.observe(True, 0.1).log_value + one.observe(True, 0.5).log_value)
    assert one.observe(True, 0.1).log_value > one.observe(True, 0.5).log_value, (
        "the same event says more at a small share"
    )
    assert one.observe(True, 1.0) == one.observe(False, 0.0) == one, "with one arm there is nothing to compare"


@pytest.mark.parametrize(("rate", "most"), [(0.02, 3000), (0.3, 600)])
def test_at_most_one_in_twenty_equal_candidates_is_rolled_back_though_one_looks_after_every_run(
    rate: float, most: int
) -> None:
    """All bars together, in three stages. A test of fixed size would reject more than one in four."""

    def share(number: int) -> float:
        return 0.1 if number < most / 3 else 0.3 if number < most / 1.5 else 0.5

    chance, alpha = random.Random(19), ALPHA / len(SOFT)
    rejected = sum(
        any(noticed(chance, share, rate, rate, alpha, most) is not None for _ in SOFT) for _ in range(STREAMS)
    )
    assert 0 < rejected / STREAMS <= ALPHA, "nothing at all would mean that the test sees nothing"


@pytest.mark.parametrize(("share", "within"), [(0.1, 750), (0.5, 300)])
def test_an_error_rate_that_rises_from_2_to_20_percent_is_noticed_in_time_in_95_of_100_streams(
    share: float, within: int
) -> None:
    chance = random.Random(19)
    found = [noticed(chance, lambda _: share, 0.02, 0.2, ALPHA / len(SOFT)) for _ in range(STREAMS)]
    in_time = sum(number is not None and number <= within for number in found)
    assert in_time / STREAMS >= 0.95


def test_the_delay_that_is_printed_is_the_delay_that_happens() -> None:
    limit = evidence_limit(rollout())
    printed = expected_delay(0.5, limit, 0.02, 0.2)
    assert printed.half is not None
    assert printed.most is not None
    chance = random.Random(3)
    found = sorted(noticed(chance, lambda _: 0.5, 0.02, 0.2, ALPHA / len(SOFT)) or 3000 for _ in range(STREAMS))
    assert 0.75 < found[STREAMS // 2] / printed.half < 1.33
    assert 0.7 < found[STREAMS * 95 // 100] / printed.most < 1.4
    assert expected_delay(0.5, limit, 0.02, 0.02).most is None, "what does not change is not noticed"
    assert expected_delay(1.0, limit, 0.02, 0.2).half is None, "with one arm nothing is noticed"


def one_bad_user(chance: random.Random) -> list[ArmRun]:
    """200 runs of 20 users: one of them fails often whatever the definition is, and is in either arm by chance."""
    arms = [chance.random() < 0.1 for _ in range(20)]
    users = [chance.randrange(20) for _ in range(200)]
    return [
        ended(number, user=f"user:{user}", candidate=arms[user], failed=user == 0 and chance.random() < 0.9, share=0.1)
        for number, user in enumerate(users)
    ]


def test_ten_failures_of_one_user_are_one_observation() -> None:
    """All runs of a user have the same arm. Counted by run, a single user with many failures ends one rollout in ten."""
    chance = random.Random(19)
    streams = [one_bad_user(chance) for _ in range(STREAMS)]
    broken = {
        unit: sum(any(item.broken for item in weighed(rollout(unit), runs)) for runs in streams) / STREAMS
        for unit in ("user", "run")
    }
    assert broken["user"] <= ALPHA < broken["run"]


def test_the_first_harm_of_a_hard_bar_is_enough_and_counts_only_with_the_candidate() -> None:
    opened = rollout(bars=(Bar(name="failed", hard=True),))
    for candidate in (True, False):
        runs = [ended(number, user="user:a", candidate=candidate, failed=number == 3) for number in range(5)]
        assert [item.broken for item in weighed(opened, runs)] == [candidate]


def test_time_is_compared_among_completed_runs_only() -> None:
    """A candidate that gives up early is not faster: its failures count, and not their time."""
    opened = rollout(bars=(Bar(name="failed"), Bar(name="slow", above=5.0)))
    slow = [ended(number, user=f"user:{number}", candidate=True, failed=number < 3, seconds=9) for number in range(10)]
    failed, late = weighed(opened, slow)
    assert (failed.candidate, failed.of_candidate) == (3, 10)
    assert (late.candidate, late.of_candidate) == (7, 7)


def test_evidence_grows_with_each_harm_of_the_candidate_and_shrinks_with_each_of_the_others() -> None:
    for candidate in (True, False):
        values = [EProcess()]
        for _ in range(20):
            values.append(values[-1].observe(candidate, 0.5))
        rising = [later.log_value > earlier.log_value for earlier, later in pairwise(values)]
        assert rising == [candidate] * 20
    assert EProcess().log_value == pytest.approx(0.0)
    assert math.isfinite(EProcess().observe(True, 1e-9).log_value)
