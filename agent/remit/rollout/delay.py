"""How long it takes until harm is noticed: printed when a rollout is opened."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from remit.rollout.evidence import RATIOS, EProcess, bet, chance_of_arm

_STREAMS: Final = 200
_LONGEST: Final = 20_000  # runs


@dataclass(frozen=True, kw_only=True)
class Delay:
    """After how many runs in all, of both arms, a harm is noticed: in half of the cases, and in 95 of 100. None: not within 20,000."""

    half: int | None
    most: int | None


def expected_delay(share: float, limit: float, before: float, after: float) -> Delay:
    """The delay until an event whose chance rises from `before` to `after` in the candidate's runs ends the rollout.

    `limit` is the logarithm of the e-value that is enough. Each run is of another user; with fewer users it takes longer. It is
    simulated with a fixed seed, so that two calls agree.
    """
    chance = share * after + (1 - share) * before
    if not 0 < share < 1 or not 0 < chance <= 1:
        return Delay(half=None, most=None)
    draw = random.Random(0)  # noqa: S311 - a simulation that two calls repeat exactly
    steps = {hit: [math.log(bet(hit, share, chance_of_arm(share, ratio))) for ratio in RATIOS] for hit in (True, False)}
    found = sorted(_one(draw, chance, share * after / chance, steps, limit) for _ in range(_STREAMS))
    half, most = found[_STREAMS // 2], found[_STREAMS * 95 // 100]
    return Delay(half=half if half <= _LONGEST else None, most=most if most <= _LONGEST else None)


def _one(draw: random.Random, chance: float, candidate: float, steps: dict[bool, list[float]], limit: float) -> int:
    """One stream, event by event: the number of runs until the evidence is enough."""
    stakes, runs = list(EProcess().stakes), 0
    while runs <= _LONGEST:
        runs += 1 if chance == 1 else math.ceil(math.log(1 - draw.random()) / math.log(1 - chance)) or 1
        stakes = [stake + step for stake, step in zip(stakes, steps[draw.random() < candidate], strict=True)]
        if sum(map(math.exp, stakes)) >= math.exp(limit):  # the e-value, as `EProcess` has it
            return runs
    return runs
