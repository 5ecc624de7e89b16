"""The simulation behind the page about growth, where the answer is known without it."""

from __future__ import annotations

import pytest

from support.capacity import Costs, Fleet, Simulation

COSTS = Costs(worker=0.08, database=0.02)


@pytest.mark.parametrize(
    ("fleet", "rate"),
    [
        (Fleet(workers=1, cores=8), 1 / 0.08),  # one process computes one run at a time
        (Fleet(workers=4, cores=8), 4 / 0.08),
        (Fleet(workers=4, cores=2), 2 / 0.10),  # the cores are the limit, with what PostgreSQL takes of them
        (Fleet(workers=64, cores=64, database_cores=1), 1 / 0.02),  # PostgreSQL is
    ],
)
def test_the_narrowest_part_decides_the_rate(fleet: Fleet, rate: float) -> None:
    played = Simulation(COSTS, fleet, runs=2000).play()
    assert played.rate == pytest.approx(rate, rel=0.05)


def test_a_fleet_below_its_limit_takes_each_run_at_once_and_one_above_it_lets_them_wait() -> None:
    fleet = Fleet(workers=4, cores=8)
    calm = Simulation(COSTS, fleet, runs=3000, rate=30.0).play()
    crowded = Simulation(COSTS, fleet, runs=3000, rate=60.0).play()
    assert calm.rate == pytest.approx(30.0, rel=0.1)
    assert calm.wait(0.95) == 0.0
    assert crowded.wait(0.95) > 5.0


def test_runs_that_wait_for_their_model_need_slots_and_no_cores() -> None:
    costs = Costs(worker=0.08, database=0.02, model=2.0)
    few = Simulation(costs, Fleet(workers=1, cores=8, slots=4), runs=400).play()
    many = Simulation(costs, Fleet(workers=1, cores=8, slots=64), runs=400).play()
    assert few.rate == pytest.approx(4 / 2.1, rel=0.1)
    assert many.rate == pytest.approx(1 / 0.08, rel=0.25)
