"""A call has an effect only if stock Casbin allows it too, so an error in our matcher cannot cause an effect."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.calls import Decision, Request
from remit.core.errors import WorkspaceError
from remit.core.events import CallDecided
from remit.policy import casbin_reference, second_opinion
from remit.policy import index as index_module
from remit.policy.engine import Judgement, Policy
from remit.runtime import live
from remit.runtime import runner as run
from support.lifecycle import LARGE, grant, replayed, resumed
from support.runs import DONE, Play, Played, turn

VAULT = [turn(ledger__pay={"name": "vault", "amount": 5}), DONE]
PAID = [turn(ledger__look={"name": "ann"}), turn(ledger__pay={"name": "ann", "amount": 5}), DONE]
ENTRY = index_module.RuleEntry


def judged(patch: pytest.MonkeyPatch) -> None:
    """Every call is allowed, as if by a rule."""
    patch.setattr(Policy, "judge", lambda self, _: Judgement(True, list(self.rows[:1])))


def decided(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Policy,
        "decide",
        lambda self, _: Decision(verdict="allow", reason="allowed", message="yes", policy_digest=self.digest),
    )


def denies_lost(patch: pytest.MonkeyPatch) -> None:
    """The index loses every deny rule."""
    patch.setattr(index_module, "RuleEntry", lambda *of: ENTRY(*of[:3], (lambda _: False) if of[4] else of[3], *of[4:]))


SABOTAGED = {"the matcher": judged, "the decision": decided, "the index": denies_lost}


@pytest.mark.parametrize("what", SABOTAGED)
def test_a_matcher_that_allows_too_much_causes_no_effect(
    what: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_check_rules", lambda _: None)  # changed after the run began
    SABOTAGED[what](monkeypatch)
    played = play(VAULT)
    assert played.effects == []
    error = played.error(0)
    assert (error["code"], error["details"]["reason"]) == ("policy_denied", "engines_disagree")
    assert "the two engines that check the rules disagree" in error["message"]
    event = played.opened.journal.get(played.ended.run, "call.decided/0/0/0")
    assert event is not None
    assert isinstance(event.event, CallDecided)
    assert event.event.decision is not None
    assert (event.event.decision.verdict, event.event.decision.reason) == ("deny", "engines_disagree")
    assert replayed(played).reproduced


def test_with_unchanged_engines_a_denied_call_is_denied_and_an_allowed_one_runs(play: Play) -> None:
    assert play(VAULT).error(0)["details"]["reason"] == "denied_by_rule"
    assert play(PAID).effects != []


@pytest.mark.parametrize("what", SABOTAGED)
def test_a_run_does_not_start_if_the_two_engines_disagree(
    what: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    SABOTAGED[what](monkeypatch)
    with pytest.raises(WorkspaceError, match="the two engines disagree"):
        play(VAULT)


def hangs(*_: Any) -> bool:
    threading.Event().wait(60)
    return True


def raises(*_: Any) -> bool:
    raise RuntimeError("a defect")


BROKEN: dict[str, Callable[..., Any]] = {
    "denies": lambda *_: False,
    "raises": raises,
    "hangs": hangs,
    "returns None": lambda *_: None,
}


def broken(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_check_rules", lambda _: None)  # it breaks after the run began
    monkeypatch.setattr(second_opinion, "PATIENCE_S", 0.3)
    monkeypatch.setattr(casbin_reference._Enforcer, "enforce", BROKEN[how])


def mode(monkeypatch: pytest.MonkeyPatch, casbin: str) -> None:
    """Set `[policy] casbin` of remit.toml."""
    from remit.workspace import session

    found = session.load_workspace_and_policy

    def load_with_mode(root: Path) -> Any:
        text = (root / "remit.toml").read_text()
        if "[policy]" not in text:
            (root / "remit.toml").write_text(f'{text}\n[policy]\ncasbin = "{casbin}"\n')
        return found(root)

    monkeypatch.setattr(session, "load_workspace_and_policy", load_with_mode)


@pytest.mark.parametrize("casbin", ["effects", "always"])
@pytest.mark.parametrize("how", BROKEN)
def test_no_effect_happens_without_the_consent_of_casbin(
    how: str, casbin: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads still run, unless Casbin is asked about every call."""
    mode(monkeypatch, casbin)
    broken(how, monkeypatch)
    played = play(PAID)
    assert [one for one in played.effects if one["action"] == "pay"] == []
    assert played.error(1)["details"]["reason"] == "engines_disagree"
    assert played.result(0)["ok"] is (casbin == "effects")
    assert replayed(played).reproduced


def test_with_load_no_call_waits_for_casbin(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    mode(monkeypatch, "load")
    broken("denies", monkeypatch)
    assert [one["action"] for one in play(PAID).effects] == ["pay"]


def test_an_approved_call_that_casbin_denies_does_not_run(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_check_rules", lambda _: None)
    played = play(LARGE)
    grant(played, "user:lea")
    with monkeypatch.context() as patch:
        patch.setattr(casbin_reference._Enforcer, "enforce", BROKEN["denies"])
        refused: Played = resumed(played)
    assert refused.effects == []
    assert refused.error(0)["details"]["reason"] == "engines_disagree"
    assert replayed(refused).reproduced


def test_an_approved_call_that_casbin_allows_runs(play: Play) -> None:
    played = play(LARGE)
    grant(played, "user:lea")
    assert [one["action"] for one in resumed(played).effects] == ["pay"]


def test_casbin_gets_the_same_request_that_was_decided(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Request] = []
    allows = second_opinion.SecondOpinion.allows

    def listening(self: second_opinion.SecondOpinion, request: Request) -> bool:
        asked.append(request)
        return allows(self, request)

    monkeypatch.setattr(live.SecondOpinion, "allows", listening)
    play(PAID)
    (request,) = asked  # the read is not among them
    assert request.subjects == ("agent:clerk", "user:operator")
    assert (request.action, request.resources, request.context.args["amount"]) == ("ledger.pay", ("account:ann",), 5)
