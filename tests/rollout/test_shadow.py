"""Rules that are tried beside those in force: what they would have decided is recorded, and nothing else changes."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.broker.decisions import Decider
from remit.core.events import CallDecided, Recorded, ShadowDecided
from remit.journal import MemoryLog, Record
from remit.policy import Policy
from remit.rollout import find_rollout, place, roll_back
from remit.runtime.assembly import sanitizer_of
from remit.runtime.live import LivePorts
from remit.workspace import open_session
from support.lifecycle import replayed
from support.rollouts import candidate_of, opened_at, ran, started
from support.runs import DONE, Played, turn

TURNS = [
    turn(ledger__look={"name": "ann"}),
    turn(ledger__pay={"name": "ann", "amount": 50}),
    turn(ledger__pay={"name": "vault", "amount": 50}),
    DONE,
]
STAGES = ("shadow", "full")


@pytest.fixture
def folder(clerk: Callable[..., Path]) -> Path:
    return clerk(TURNS)


def stricter(rules: str) -> str:
    return rules + "\n# Nobody is paid\np, agent:clerk, ledger.pay, account:*, True, deny\n"


def looser(rules: str) -> str:
    return rules.replace("p, role:people, *, account:vault, True, deny", "")


def shadows(played: Played) -> list[ShadowDecided]:
    return [item.event for item in played.records if isinstance(item.event, ShadowDecided)]


def without_shadows(records: list[Recorded]) -> list[dict[str, Any]]:
    """The events as they would be without the rollout: no time, no digest of a chain, no id of a run."""
    bare = [item.event.model_dump(mode="json") for item in records if item.event is not None]
    run = records[0].run
    return [without(event, run) for event in bare if event["type"] != "shadow.decided"]


def without(value: Any, run: str) -> Any:
    if isinstance(value, dict):
        dropped = ("expires_at", "spent", "decision_digest")
        return {key: without(item, run) for key, item in value.items() if key not in dropped}
    if isinstance(value, list):
        return [without(item, run) for item in value]
    return value.replace(run, "RUN") if isinstance(value, str) else value


def test_a_different_verdict_is_recorded_and_the_run_goes_on_as_if_there_were_no_candidate(folder: Path) -> None:
    opened = open_session(folder)
    alone = ran(opened)
    state = opened_at(opened, candidate_of(folder, rules=stricter), *STAGES)
    played = ran(opened)
    (event,) = shadows(played)
    assert (event.rollout, event.step, event.index, event.action) == (state.id, 1, 0, "ledger.pay")
    assert (event.verdict, event.candidate, event.error) == ("allow", "deny", "")
    assert started(played).arm is None
    assert without_shadows(played.records) == without_shadows(alone.records)
    assert len(played.effects) == 2, "one of each run"
    assert replayed(played).reproduced


def test_what_the_candidate_would_allow_stays_refused(folder: Path) -> None:
    opened = open_session(folder)
    opened_at(opened, candidate_of(folder, rules=looser), *STAGES)
    played = ran(opened)
    assert [(event.verdict, event.candidate) for event in shadows(played)] == [("deny", "allow")]
    assert played.error(2)["code"] == "policy_denied"
    assert len(played.effects) == 1


def test_a_candidate_that_fails_is_noted_and_never_touches_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_session(folder)
    alone = ran(opened)
    state = opened_at(opened, candidate_of(folder, rules=stricter), *STAGES)
    judge = Policy.judge

    def failing(self: Policy, request: Any) -> Any:
        if self.digest == state.opened.policy_digest:
            raise ZeroDivisionError
        return judge(self, request)

    monkeypatch.setattr(Policy, "judge", failing)
    played = ran(opened)
    assert [(event.candidate, event.error) for event in shadows(played)] == [(None, "ZeroDivisionError")] * 3
    assert without_shadows(played.records) == without_shadows(alone.records)
    assert find_rollout(opened.journal, state.id).status == "open"


def test_a_rollout_that_ends_in_the_middle_of_a_run_tries_nothing_more(folder: Path) -> None:
    """The last call is the one that the candidate decides differently."""
    opened = open_session(folder)
    state = opened_at(opened, candidate_of(folder, rules=looser), *STAGES)

    def tell(recorded: Recorded) -> None:
        if recorded.type == "call.answered" and recorded.event is not None and recorded.event.step == 1:
            roll_back(open_session(folder).journal, state.id, reason="from another process")

    assert shadows(ran(opened, on_event=tell)) == []


def test_a_call_costs_at_most_a_hundred_microseconds_more_while_rules_are_tried(folder: Path) -> None:
    """Of a call that both allow, which is the usual one: everything that the shadow adds, with the look whether it still counts.

    The unit is how long one decision of the same policy takes in the same process, because machines differ.
    """
    opened = open_session(folder)
    opened_at(opened, candidate_of(folder, rules=stricter), *STAGES)
    played = ran(opened)
    decided = next(item.event for item in played.records if isinstance(item.event, CallDecided))
    placement = place(opened, "agent:clerk", user="user:operator", run="r")
    ports = LivePorts(opened, None, placement.rules)
    decider = Decider(
        workspace=opened.workspace,
        record=Record(MemoryLog(), "r"),
        ports=ports,
        sanitizer=sanitizer_of(opened.workspace, "r", ()),
        confinement="none",
    )
    call = decided.call
    assert call is not None
    request = decider.request_of(call, opened.policy, "", ignore_grants=True)

    def shadow() -> None:
        tried = ports.shadow_rules(0, 0)
        assert tried is not None
        decider._shadow(call, request, "allow", tried)

    added, one = median_us(shadow), median_us(lambda: opened.policy.decide(request))
    assert added < 10 * one, f"{added:.0f} us of shadow, {one:.0f} us for one decision"
    if "REMIT_STREAMS" in os.environ:  # at full size, on an idle machine
        assert added <= 100


def median_us(work: Callable[[], object], number: int = 1000) -> float:
    times: list[int] = []
    for _ in range(number):
        begun = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1000
