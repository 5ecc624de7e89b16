"""Which users have the candidate: the same in every process, and a larger share only adds some."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from remit.core.events import Stage
from remit.journal import RolloutState
from remit.rollout import arm_of, place_of
from support.rollouts import rollout_opened

SALT = "0123456789abcdef"
USERS = [f"user:u{number}" for number in range(2000)]


def rollout(share: float, **changes: Any) -> RolloutState:
    opened = rollout_opened(**{"stages": (Stage(name="canary", share=share),), **changes})
    return RolloutState(id="3f2a91c0", opened=opened, opened_at=0)


def candidates(share: float, **changes: Any) -> set[str]:
    state = rollout(share, **changes)
    arms = {user: arm_of(state, user=user, run=user) for user in USERS}
    return {user for user, arm in arms.items() if arm is not None and arm.arm == "candidate"}


def test_a_user_has_the_arm_that_the_first_eight_bytes_of_a_sha_256_say() -> None:
    """Written down, so that a later version of Remit, or another program, finds the same."""
    places = [place_of("3f2a91c0", SALT, user) for user in ("user:ann", "user:bob", "user:ünal")]
    assert places == pytest.approx([0.47130695255689203, 0.7890203969500861, 0.3543908044074342], abs=0)


def test_every_process_puts_every_user_into_the_same_arm() -> None:
    """Also one with another seed of Python's own hashes."""
    program = (
        "import sys\n"
        "from remit.rollout import place_of\n"
        f"for user in sys.stdin.read().split():\n    print(place_of('3f2a91c0', '{SALT}', user) < 0.1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(USERS),
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    has_it = [user for user, own in zip(USERS, done.stdout.split(), strict=True) if own == "True"]
    assert has_it == [user for user in USERS if user in candidates(0.1)]


def test_a_larger_share_keeps_every_user_who_has_the_candidate_and_adds_others() -> None:
    shares = (0.05, 0.1, 0.5, 1.0)
    found = [candidates(share) for share in shares]
    for share, have in zip(shares, found, strict=True):
        assert abs(len(have) / len(USERS) - share) < 0.03
    assert found[0] < found[1] < found[2] < found[3]


def test_another_salt_puts_other_users_into_the_candidate() -> None:
    """Else the same users would try every candidate first."""
    assert len(candidates(0.5) & candidates(0.5, salt="another")) / len(candidates(0.5)) == pytest.approx(0.5, abs=0.05)


def test_before_the_canary_no_run_has_an_arm() -> None:
    state = rollout(0.0, stages=(Stage(name="shadow"), Stage(name="full", share=1.0)))
    assert arm_of(state, user="user:ann", run="r") is None


def test_by_run_the_runs_of_one_user_are_in_both_arms() -> None:
    state = rollout(0.5, unit="run")
    arms = {
        arm.arm for number in range(50) if (arm := arm_of(state, user="user:ann", run=f"{number:032x}")) is not None
    }
    assert arms == {"live", "candidate"}
