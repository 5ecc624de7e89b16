"""What the grades of an evaluation show: estimates are unbiased, intervals hold, and a candidate is called worse only if it is.

`make simulations` runs the simulations at full size.
"""

from __future__ import annotations

import itertools
import math
import os
import random
from statistics import fmean
from typing import Final

import pytest

from remit.core import UsageError
from remit.evals.statistics import (
    ALPHA,
    ScenarioOutcomes,
    VariantOutcomes,
    chance_to_see,
    compare,
    difference_interval,
    outcomes_of,
    pass_hat_k,
    suite_interval,
    suite_pass_hat,
    summarize,
    visible_drop,
    wilson_interval,
)
from remit.evals.statistics.significance import SUITE_ALPHA, evidence, fisher_test, sign_flip_test
from support.evaluations import drawn, evaluation, outcomes

SIMULATIONS: Final = int(os.environ.get("REMIT_SIMULATIONS", "100"))
SUITES: Final = ((12, 8), (20, 4), (50, 4))  # scenarios, repeats


def at_most(share: float) -> float:
    """The share that so many simulations exceed only once in a thousand, if the true one is `share`."""
    return share + 3.1 * math.sqrt(share * (1 - share) / SIMULATIONS)


def at_least(share: float) -> float:
    return 1 - at_most(1 - share)


def rates(random_: random.Random, scenarios: int) -> list[float]:
    """Chances to pass as suites of agents have them: most are high, a few are low; 0.8 on average."""
    return [random_.betavariate(4, 1) for _ in range(scenarios)]


def lowered(before: list[float], drop: float) -> list[float]:
    return [max(0.0, rate - drop) for rate in before]


def worse(random_: random.Random, scenarios: int, repeats: int, drop: float) -> bool:
    """Whether one comparison calls a candidate worse, looked at after every run."""
    before = rates(random_, scenarios)
    base, candidate = drawn(random_, before, repeats), drawn(random_, lowered(before, drop), repeats)
    return compare(base, candidate).verdict == "worse"


# -- estimates ---------------------------------------------------------------------------------------------------------


def test_pass_hat_k_is_the_share_of_all_choices_of_k_runs_that_passed() -> None:
    """Every number of runs up to 7, against counting the choices one by one."""
    for runs in range(1, 8):
        for passed in range(runs + 1):
            graded = [True] * passed + [False] * (runs - passed)
            for k in range(1, runs + 1):
                choices = list(itertools.combinations(graded, k))
                assert math.isclose(pass_hat_k(passed, runs, k), fmean(all(choice) for choice in choices))
    assert pass_hat_k(7, 8, 4) == 0.5  # the rate to the power of 4 is 0.59


@pytest.mark.parametrize(("passed", "runs", "k"), [(1, 2, 3), (1, 2, 0), (3, 2, 1), (-1, 2, 1), (0, 0, 1)])
def test_pass_hat_k_of_more_runs_than_there_are_is_an_error(passed: int, runs: int, k: int) -> None:
    with pytest.raises(ValueError, match="is not defined"):
        pass_hat_k(passed, runs, k)


def test_a_suite_has_pass_hat_k_as_far_as_its_shortest_scenario() -> None:
    assert suite_pass_hat(outcomes(a="pppf", b="pp").scenarios) == (fmean((0.75, 1)), fmean((0.5, 1)))


def test_an_interval_of_eight_of_eight_has_a_width_and_a_suite_is_no_more_certain_than_its_scenarios_are_many() -> None:
    assert wilson_interval(1, 8)[0] == pytest.approx(0.676, abs=0.001)
    assert suite_interval([1.0] * 12, 96) == wilson_interval(1, 12)
    assert suite_interval([1.0] * 6 + [0.0] * 6, 96) == pytest.approx(wilson_interval(0.5, 12), abs=0.03)
    assert wilson_interval(0, 0) == (0, 1)
    assert difference_interval([1.0] * 12, [1.0] * 12, 96) == pytest.approx((-0.038, 0.038), abs=0.001)
    assert difference_interval([1.0], [0.5], 8) == pytest.approx((-0.78, -0.07), abs=0.01)


@pytest.mark.parametrize(("scenarios", "repeats"), SUITES)
def test_intervals_contain_the_true_value_about_as_often_as_they_say(scenarios: int, repeats: int) -> None:
    """The rate over scenarios like these, and the change between two variants that differ by 10 points."""
    random_ = random.Random(scenarios)
    rate = change = 0
    for _ in range(SIMULATIONS):
        before = rates(random_, scenarios)
        sides = [
            [each.passed / repeats for each in drawn(random_, side, repeats).scenarios]
            for side in (before, lowered(before, 0.1))
        ]
        low, high = suite_interval(sides[0], scenarios * repeats)
        rate += low <= 0.8 <= high
        low, high = difference_interval(sides[0], sides[1], scenarios * repeats)
        change += low <= fmean(lowered(before, 0.1)) - fmean(before) <= high
    assert rate / SIMULATIONS >= at_least(0.93)
    assert change / SIMULATIONS >= at_least(0.95)


# -- tests -------------------------------------------------------------------------------------------------------------


def test_the_sign_flip_test_counts_every_combination_of_signs() -> None:
    random_ = random.Random(1)
    for _ in range(50):
        differences = [random_.randrange(-8, 9) / 8 for _ in range(random_.randrange(1, 9))]
        flipped = [
            sum(sign * each for sign, each in zip(signs, differences, strict=True))
            for signs in itertools.product((1, -1), repeat=len(differences))
        ]
        assert sign_flip_test(differences) == fmean(total <= sum(differences) + 1e-9 for total in flipped)


def test_the_test_of_one_scenario_counts_every_way_to_share_the_failures() -> None:
    for repeats in range(1, 5):
        for base in range(repeats + 1):
            for candidate in range(repeats + 1):
                runs = [True] * (base + candidate) + [False] * (2 * repeats - base - candidate)
                ways = list(itertools.combinations(runs, repeats))
                assert math.isclose(fisher_test(base, candidate, repeats), fmean(sum(way) <= candidate for way in ways))


@pytest.mark.parametrize(("scenarios", "repeats"), [*SUITES, (200, 1), (5, 20)])
def test_an_equal_candidate_is_called_worse_in_at_most_five_percent_though_looked_at_after_every_run(
    scenarios: int, repeats: int
) -> None:
    random_ = random.Random(scenarios)
    alarms = sum(worse(random_, scenarios, repeats, 0) for _ in range(SIMULATIONS))
    assert alarms / SIMULATIONS <= at_most(ALPHA)


def test_a_drop_of_20_points_in_50_scenarios_of_4_repeats_is_seen_in_at_least_95_percent() -> None:
    random_ = random.Random(1)
    assert sum(worse(random_, 50, 4, 0.2) for _ in range(SIMULATIONS)) / SIMULATIONS >= at_least(0.95)


@pytest.mark.parametrize(("base", "candidate"), [("pppppppp", "ffffffff"), ("pppp", "ffff"), ("pppppppp", "pfpfffff")])
def test_a_scenario_that_falls_alone_is_named(base: str, candidate: str) -> None:
    """One of 12: the mean of the suite says nothing, and the scenarios without a failure do not hide it."""
    others = {f"other{at}": "p" * len(base) for at in range(11)}
    found = compare(outcomes(**others, stale_lock=base), outcomes(**others, stale_lock=candidate))
    assert found.verdict == "worse"
    assert [change.name for change in found.scenarios if change.worse] == ["stale_lock"]
    assert "scenario 'stale_lock' fell from" in " ".join(found.reasons)
    assert found.chance is not None
    assert found.chance > 0.05


def test_a_harmless_change_passes() -> None:
    found = compare(outcomes(a="pppppppp", b="pppppppf", c="pppp"), outcomes(a="ppppppfp", b="pppppppp", c="pppp"))
    assert (found.verdict, found.reasons) == ("not_worse", ())


def test_evidence_stops_a_bad_candidate_long_before_the_end() -> None:
    names = {f"s{at}": "p" * 8 for at in range(12)}
    first = dict.fromkeys(names, "f-------")
    found = compare(outcomes(**names), outcomes(**first))
    assert found.verdict == "worse"
    assert found.chance is None  # the tests of a fixed size wait for the end
    assert "the e-value reached 100" in " ".join(found.reasons)


def test_runs_that_end_early_do_not_count_before_those_that_take_longer() -> None:
    """Of each scenario the second repeat fails at once, and the first one is still running."""
    names = [f"s{at}" for at in range(12)]
    base = outcomes(**dict.fromkeys(names, "pp"))
    early = evaluation(**dict.fromkeys(names, "-f"))
    found = compare(base, outcomes_of(early, "now"))
    assert (found.verdict, found.evidence) == ("playing", ())


def test_evidence_ends_at_the_first_pair_that_is_not_played_and_goes_on_where_a_scenario_has_fewer_repeats() -> None:
    def pairs(base: VariantOutcomes, candidate: VariantOutcomes) -> int:
        return len(list(evidence(list(zip(base.scenarios, candidate.scenarios, strict=True)))))

    assert pairs(outcomes(a="ppp", b="ppp"), outcomes(a="fff", b="f--")) == 3
    assert pairs(outcomes(a="ppp", b="p"), outcomes(a="fff", b="f")) == 4


def test_an_infrastructure_failure_counts_as_not_passed_on_both_sides_and_is_named() -> None:
    names = {f"s{at}": "pppppppp" for at in range(11)}
    lost = compare(outcomes(**names, x="pppppppp"), outcomes(**names, x="iiiiiiif"))
    assert lost.verdict == "worse"
    assert "7 of them are infrastructure failures" in " ".join(lost.reasons)
    both = compare(outcomes(**names, x="iiiiiiii"), outcomes(**names, x="iiiiiiii"))
    assert (both.verdict, both.difference) == ("not_worse", 0)
    assert (both.scenarios[-1].base_infrastructure, both.scenarios[-1].candidate_infrastructure) == (8, 8)


def test_a_base_with_fewer_repeats_is_compared_with_as_many_of_the_candidate() -> None:
    """Otherwise chance alone makes most scenarios look a little worse than a base of one repeat that passed."""
    random_ = random.Random(4)
    alarms = 0
    for _ in range(SIMULATIONS):
        alarms += compare(drawn(random_, [0.95] * 30, 1), drawn(random_, [0.95] * 30, 16)).verdict == "worse"
    assert alarms / SIMULATIONS <= at_most(ALPHA)
    found = compare(outcomes(a="p"), outcomes(a="pfff"))
    assert (found.scenarios[0].repeats, found.difference) == (1, 0)


def test_scenarios_that_changed_are_left_out_and_a_comparison_of_none_is_an_error() -> None:
    base, candidate = outcomes(a="pp", b="pp", gone="pp"), outcomes(a="pp", b="pp", new="pp")
    other = candidate.scenarios[1].model_copy(update={"digest": "sha256:other"})
    changed = candidate.model_copy(update={"scenarios": (candidate.scenarios[0], other, candidate.scenarios[2])})
    assert compare(base, changed).left_out == ("b", "gone", "new")
    with pytest.raises(UsageError, match="write the baseline again"):
        compare(base, outcomes(new="pp"))


# -- power -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scenarios", "repeats"), SUITES)
@pytest.mark.parametrize("drop", [0.1, 0.2])
def test_the_stated_power_is_the_share_of_comparisons_that_see_the_drop(
    scenarios: int, repeats: int, drop: float
) -> None:
    random_ = random.Random(scenarios)
    stated = seen = 0.0
    for _ in range(SIMULATIONS):
        before = rates(random_, scenarios)
        base, candidate = drawn(random_, before, repeats), drawn(random_, lowered(before, drop), repeats)
        stated += chance_to_see(base.scenarios, drop)
        seen += (compare(base, candidate).chance or 1) <= SUITE_ALPHA
    assert stated / SIMULATIONS == pytest.approx(seen / SIMULATIONS, abs=0.08 + 2 / math.sqrt(SIMULATIONS))


def test_a_small_suite_says_that_it_sees_no_drop() -> None:
    assert visible_drop(outcomes(**dict.fromkeys("abcde", "pppppppp")).scenarios) is None
    assert visible_drop(outcomes(**dict.fromkeys("abcdef", "pppppppp")).scenarios) is not None
    assert visible_drop(()) is None


def test_more_scenarios_and_more_repeats_see_smaller_drops() -> None:
    def visible(scenarios: int, repeats: int) -> float:
        one = ScenarioOutcomes(name="a", digest="d", repeats=repeats, outcomes=("passed",) * repeats)
        found = visible_drop([one] * scenarios)
        assert found is not None
        return found

    assert visible(12, 1) > visible(12, 8) > visible(50, 8) > visible(100, 8)


# -- summaries ---------------------------------------------------------------------------------------------------------


def test_a_summary_counts_every_run_and_names_hard_failures() -> None:
    (found,) = summarize(evaluation(a="ppfi", b="pphp"))
    assert (found.passed, found.failed, found.infrastructure, found.planned) == (5, 2, 1, 8)
    assert found.rate == fmean((0.5, 0.75))
    assert [(failure.scenario, failure.run) for failure in found.hard_failures] == [("b", "now-b-2")]
    assert (found.scenarios[0].p95_s, found.scenarios[0].calls, found.money) == (3.0, 5.0, pytest.approx(0.08))


def test_money_that_is_unknown_for_one_run_is_unknown_for_all() -> None:
    done = evaluation(a="pp")
    unknown = done.model_copy(update={"grades": (done.grades[0], done.grades[1].model_copy(update={"money": None}))})
    (found,) = summarize(unknown)
    assert (found.money, found.scenarios[0].money) == (None, None)


def test_an_evaluation_that_has_not_begun_has_a_summary() -> None:
    (found,) = summarize(evaluation(a="--"))
    assert (found.rate, found.interval, found.pass_hat, found.scenarios[0].rate) == (0, (0, 1), (), 0)
