"""Stock Casbin's second opinion: the same answer as a full enforcer from only a few rows; any failure is a no."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from remit.core.calls import Context, Request
from remit.core.errors import UsageError, WorkspaceError
from remit.policy import casbin_reference, second_opinion
from remit.policy import engine as policy
from remit.policy import index as index_module
from remit.policy.casbin_reference import StockEnforcer, load_stock_enforcer
from remit.policy.second_opinion import SecondOpinion
from support.random_policies import ACTIONS, MODEL, SUBJECTS, aimed, context, resource, rows

RULES = "g, user:u, role:r\np, role:r, a.b, file:x/**, True, allow\np, user:u, *, file:x/secret, True, deny\n"
ALLOWED = Request(subjects=("user:u",), action="a.b", resources=("file:x/y",), context=Context())
DENIED = ALLOWED.model_copy(update={"resources": ("file:x/secret",)})


def files_of(text: str) -> dict[str, bytes]:
    return {"policies/model.conf": MODEL, "policies/rules.csv": text.encode()}


def opinion(text: str = RULES) -> SecondOpinion:
    return SecondOpinion(policy.load_policy(files_of(text)))


@pytest.mark.parametrize("seed", range(4))
def test_the_second_opinion_agrees_with_a_full_enforcer_and_with_remits_matcher(seed: int) -> None:
    """Also for several subjects and resources, which must all be allowed."""
    dice = random.Random(seed)
    allowed = denied = 0
    for _ in range(40):
        files = files_of("\n".join([*rows(dice), "p, role:0, *, **, True, allow"]))
        try:
            rules = policy.load_policy(files)
        except WorkspaceError:  # a chain of roles that is deeper than Casbin follows
            continue
        whole, second = load_stock_enforcer(files), SecondOpinion(rules)
        requests: list[Request] = []
        for _ in range(25):
            subjects = tuple(dice.sample((*SUBJECTS, "role:0"), dice.choice((0, 1, 1, 1, 2))))
            action = dice.choice((*ACTIONS, "tool.unknown"))
            resources = tuple(resource(dice) for _ in range(dice.choice((0, 1, 1, 1, 2))))
            if dice.random() < 0.6:
                subject, action, name = aimed(dice, rules)
                subjects, resources = (subject,), (name,)
            requests.append(Request(subjects=subjects, action=action, resources=resources, context=context(dice)))
        answers = second.allows_each(requests)
        for request, answer in zip(requests, answers, strict=True):
            assert answer is whole.allows(request), (files, request)
            assert answer is (rules.decide(request).verdict == "allow"), (files, request)
            allowed, denied = allowed + answer, denied + (not answer)
    assert min(allowed, denied) > 100


@pytest.mark.parametrize("folder", ["file:**", "file:./**", "file:x/**", "file:./x/**"])
def test_casbin_gets_a_deny_that_is_within_the_requested_set(folder: str) -> None:
    asked = ALLOWED.model_copy(update={"resources": (folder,)})
    allow = "p, user:u, a.b, file:**, True, allow\n"
    files = files_of(allow + "p, user:u, a.b, file:x/secret/key, True, deny\n")
    assert opinion(files["policies/rules.csv"].decode()).allows(asked) is False
    assert opinion(allow).allows(asked) is load_stock_enforcer(files_of(allow)).allows(asked)


def test_a_deny_that_the_index_misses_is_not_missed_by_casbin(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = index_module.RuleEntry
    monkeypatch.setattr(
        index_module, "RuleEntry", lambda *of: entry(*of[:3], (lambda _: False) if of[4] else of[3], *of[4:])
    )
    rules = policy.load_policy(files_of(RULES))
    assert rules.decide(DENIED).verdict == "allow"
    assert SecondOpinion(rules).allows(DENIED) is False
    assert SecondOpinion(rules).allows(ALLOWED) is True


def hangs(*_: Any) -> bool:
    threading.Event().wait(60)
    return True


def raises(*_: Any) -> bool:
    raise RuntimeError("a defect")


BROKEN: dict[str, Callable[..., Any]] = {
    "denies": lambda *_: False,
    "returns None": lambda *_: None,
    "returns a text": lambda *_: "True",
    "returns 1": lambda *_: 1,
    "raises": raises,
    "hangs": hangs,
}


@pytest.mark.parametrize("how", BROKEN)
def test_any_answer_of_casbin_but_true_is_a_no(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    second = opinion()
    assert second.allows(ALLOWED) is True
    monkeypatch.setattr(second_opinion, "PATIENCE_S", 0.3)
    monkeypatch.setattr(casbin_reference._Enforcer, "enforce", BROKEN[how])
    assert second.allows(ALLOWED) is False
    assert second.allows_each([ALLOWED, DENIED]) == [False, False]


def test_after_one_answer_that_does_not_arrive_no_call_waits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_opinion, "PATIENCE_S", 0.3)
    second = opinion()
    with monkeypatch.context() as broken:
        broken.setattr(casbin_reference._Enforcer, "enforce", hangs)
        assert second.allows(ALLOWED) is False
    asked: list[object] = []
    monkeypatch.setattr(StockEnforcer, "enforce", lambda *given: asked.append(given))
    assert second.allows(ALLOWED) is False
    assert asked == []
    monkeypatch.undo()
    assert opinion().allows(ALLOWED) is True


def test_concurrent_threads_each_get_their_own_answer() -> None:
    second, wrong = opinion(), list[Request]()

    def ask() -> None:
        for _ in range(100):
            wrong.extend(
                request for request, right in ((ALLOWED, True), (DENIED, False)) if second.allows(request) is not right
            )

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_an_unused_second_opinion_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    second = opinion()
    assert second.allows(ALLOWED)
    (serving,) = set(threading.enumerate()) - before
    del second
    gc.collect()
    serving.join(10)
    assert not serving.is_alive()


def test_the_second_opinion_refuses_the_other_distribution_of_casbin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casbin_reference, "version", lambda name: "1.43.0")
    with pytest.raises(UsageError, match="overwritten"):
        opinion()


def test_casbin_gets_few_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the cost of a call with an effect does not grow with the policy."""
    text = "\n".join(f"p, user:u{n % 50}, t.a{n % 20}, file:p{n}/**, True, allow" for n in range(5000))
    second = opinion(text)
    asked: list[int] = []
    keep = StockEnforcer.keep_only
    monkeypatch.setattr(StockEnforcer, "keep_only", lambda self, rows: (asked.append(len(rows)), keep(self, rows))[1])
    assert second.allows(Request(subjects=("user:u7",), action="t.a7", resources=("file:p7/x",), context=Context()))
    assert asked == [1]
