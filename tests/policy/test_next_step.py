"""What would be allowed instead of a denied call, and how much of that the model is told."""

from __future__ import annotations

import random
from typing import Any

import pytest

from remit.core.calls import Context, Decision, ModelDenial, Request
from remit.core.errors import WorkspaceError
from remit.policy import engine as policy
from remit.policy.engine import Policy
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()


def load(*rows: str) -> Policy:
    return policy.load_policy({"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(rows).encode()})


def advised(rules: Policy, *resources: str, subjects: tuple[str, ...] = ("agent:t",), **facts: Any) -> Decision:
    request = Request(subjects=subjects, action="a.b", resources=resources, context=Context(**facts))
    return rules.advise(request, rules.decide(request))


def allow(condition: str) -> str:
    return f"p, agent:t, a.b, **, {condition}, allow"


@pytest.mark.parametrize(
    ("condition", "facts", "remedy"),
    [
        ("args.n <= 100", {"args": {"n": 5000}}, "the same call with n 100 instead of 5000 would be allowed"),
        ("args.n < 100", {"args": {"n": 101}}, "the same call with n 99 instead of 101 would be allowed"),
        ("10 <= args.n <= 20", {"args": {"n": 3}}, "the same call with n 10 instead of 3 would be allowed"),
        ("args.n < 3 or args.n > 50", {"args": {"n": 40}}, "the same call with n 51 instead of 40 would be allowed"),
        ("args.to == 'ann'", {"args": {"to": "secret"}}, "the same call with to 'ann' would be allowed"),
        ("not args.force", {"args": {"force": True}}, "the same call with force False would be allowed"),
        ("args.mode == 'dry'", {}, "the same call with mode 'dry' would be allowed"),
        ("'x' not in args.tags", {"args": {"tags": ["x", "y"]}}, "the same call with tags without 'x' would be allowed"),
        ("'x' in args.tags", {"args": {"tags": ["y"]}}, "the same call with 'x' in tags would be allowed"),
        ("len(args.text) <= 4", {"args": {"text": "secret"}}, "the same call with text of 4 characters instead of 6 would be allowed"),
        ("'untrusted' not in labels", {"labels": frozenset({"untrusted", "x"})}, "the same call in a run without the label 'untrusted' would be allowed"),
        ("calls('a.b') < 2", {"calls": {"a.b": 2}}, "the same call in a run with 1 calls of a.b instead of 2 would be allowed"),
        ("named", {}, "it would be allowed if the user's own words named every resource"),
        ("'09:00' <= time < '17:00'", {"time": "18:00"}, "the same call at 09:00 UTC would be allowed"),
        ("time < '17:00'", {"time": "18:00"}, "the same call at 16:59 UTC would be allowed"),
        ("env == 'staging'", {"env": "prod"}, "the same call with env 'staging' would be allowed"),
        ("args.n <= 100 and 'x' not in labels", {"args": {"n": 200}, "labels": frozenset({"x"})}, None),
        ("args.n == args.m", {"args": {"n": 1, "m": 2}}, None),
        ("False", {}, None),
        ("'x' in labels", {}, None),
    ],
)  # fmt: skip
def test_the_smallest_single_change_that_would_be_allowed_is_named(
    condition: str, facts: dict[str, Any], next_step: str | None
) -> None:
    """Arguments first; a fact that no call could bring about is none, and text of an argument is never quoted."""
    decision = advised(load(allow(condition)), "file:x", **facts)
    assert (decision.verdict, decision.next_step) == ("deny", next_step)
    assert "secret" not in (decision.next_step or "")


def test_a_rule_that_denies_has_a_remedy_only_if_its_condition_can_turn() -> None:
    """And the nearest value wins."""
    turns = load(allow("True"), "p, agent:t, a.b, **, args.n > 10, deny", "p, agent:t, a.b, **, args.n > 20, deny")
    assert (
        advised(turns, "file:x", args={"n": 30}).next_step == "the same call with n 10 instead of 30 would be allowed"
    )
    never = load(allow("True"), "p, agent:t, a.b, **, True, deny")
    assert advised(never, "file:x").next_step is None


def test_a_change_that_another_subject_or_resource_forbids_is_no_remedy() -> None:
    """Every remedy is decided again, for all of the request."""
    rules = load(
        "p, agent:t, a.b, file:x, args.n <= 10, allow",
        "p, agent:t, a.b, file:y, args.n > 15, allow",
        "p, user:u, a.b, **, args.n > 5, allow",
    )
    assert advised(rules, "file:x", subjects=("agent:t", "user:u"), args={"n": 20}).next_step is not None
    assert advised(rules, "file:x", "file:y", subjects=("agent:t", "user:u"), args={"n": 20}).next_step is None


def test_every_remedy_is_allowed_when_it_is_tried() -> None:
    """Random rules; the change is applied by hand."""
    dice = random.Random(11)
    tried = 0
    for _ in range(400):
        atoms = [f"args.n {dice.choice(('<', '<=', '>', '>=', '==', '!='))} {dice.randint(0, 9)}" for _ in range(6)]
        rows = [allow(f"{dice.choice(atoms)} {dice.choice(('and', 'or'))} {dice.choice(atoms)}") for _ in range(3)]
        rules = load(*rows, f"p, agent:t, a.b, **, {dice.choice(atoms)}, deny")
        now = dice.randint(0, 9)
        decision = advised(rules, "file:x", args={"n": now})
        allowed = [n for n in range(-1, 11) if advised(rules, "file:x", args={"n": n}).verdict == "allow"]
        if decision.verdict == "deny":
            tried += 1
            assert (decision.next_step is not None) is bool(allowed), (rows, now)
            if decision.next_step is not None:
                said = int(decision.next_step.split(" with n ")[1].split(" ")[0])
                assert abs(said - now) == min(abs(n - now) for n in allowed), (rows, now)
    assert tried > 100


# ── what the model is told ───────────────────────────────────────────────────────────────────────────────────────────


def denied_at(level: str) -> Decision:
    return advised(
        load(
            allow("True"),
            "# Large sums are for people",
            f"# disclose: {level}",
            "p, agent:t, a.b, **, args.n > 5, deny",
        ),
        "file:x",
        args={"n": 9},
    )


REMEDY = "the same call with n 5 instead of 9 would be allowed"


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("none", ModelDenial(reason="no_rule_allows", message="no rule allows a.b on 'file:x' to agent:t")),
        ("code", ModelDenial(reason="denied_by_rule", message="a rule denies a.b on 'file:x' to agent:t")),
        (
            "rule",
            ModelDenial(
                reason="denied_by_rule",
                message="'Large sums are for people' denies a.b on 'file:x' to agent:t",
                rules=("Large sums are for people",),
            ),
        ),
        (
            "remedy",
            ModelDenial(
                reason="denied_by_rule",
                message="'Large sums are for people' denies a.b on 'file:x' to agent:t",
                rules=("Large sums are for people",),
                next_step=REMEDY,
            ),
        ),
    ],
)
def test_a_rule_says_how_much_of_its_refusal_the_model_is_told(level: str, told: ModelDenial) -> None:
    """The operator's decision has all of it at every level."""
    decision = denied_at(level)
    assert decision.for_model == told
    assert [rule.note for rule in decision.rules] == ["Large sums are for people"]
    assert (decision.reason, decision.next_step) == ("denied_by_rule", REMEDY)


def test_a_hidden_rule_reads_like_no_rule_at_all() -> None:
    """Word for word, so that asking does not tell the two apart."""
    assert denied_at("none").for_model == advised(load(allow("False")), "file:x").for_model


def test_without_a_line_the_rule_is_told_and_the_remedy_is_not() -> None:
    """The default."""
    decision = advised(load(allow("args.n <= 5")), "file:x", args={"n": 9})
    assert decision.for_model == ModelDenial(
        reason="no_rule_allows", message="no rule allows a.b on 'file:x' to agent:t"
    )
    assert decision.next_step == REMEDY


def test_a_remedy_is_told_only_if_every_rule_that_it_turns_tells_it() -> None:
    """One silent rule keeps the change to itself."""
    open_ = ("# disclose: remedy", allow("args.n <= 5"))
    assert advised(load(*open_), "file:x", args={"n": 9}).for_model == ModelDenial(
        reason="no_rule_allows", message="no rule allows a.b on 'file:x' to agent:t", next_step=REMEDY
    )
    silent = advised(load(*open_, "p, agent:t, a.b, **, args.n > 5, deny"), "file:x", args={"n": 9})
    assert silent.for_model is not None
    assert (silent.for_model.next_step, silent.next_step) == (None, REMEDY)


def test_of_several_denying_rules_each_is_told_at_its_own_level() -> None:
    """A hidden one is not counted, one without a name is not named."""
    rows = [allow("True"), "# Open", "p, agent:t, a.b, **, True, deny"]
    hidden = ["# Hidden", "# disclose: none", "p, agent:t, *, **, True, deny"]
    coded = ["# Coded", "# disclose: code", "p, agent:t, a.*, **, True, deny"]
    told = advised(load(*rows, *hidden, *coded), "file:x").for_model
    assert told == advised(load(*rows), "file:x").for_model
    told = advised(load(*hidden, *coded), "file:x").for_model
    assert told == ModelDenial(reason="denied_by_rule", message="a rule denies a.b on 'file:x' to agent:t")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (("# disclose: nothing", allow("True")), "'nothing' is nothing that disclose: knows"),
        (("# disclose: none", "# disclose: code", allow("True")), "two lines"),
        (("# Disclose: none", allow("True")), "is not how the level is written"),
        (("# disclosure: none", allow("True")), "is not how the level is written"),
        (("# disclose: none", "", allow("True")), "stands above no rule"),
        (("# disclose: none", "g, user:u, role:r"), "stands above no rule"),
        ((allow("True"), "# disclose: none"), "stands above no rule"),
    ],
)
def test_a_level_that_would_not_be_kept_does_not_load(rows: tuple[str, ...], what: str) -> None:
    """A slip would tell the model more than the author wants."""
    with pytest.raises(WorkspaceError, match=what):
        load(*rows)


def test_the_level_is_no_part_of_the_note_and_part_of_the_digest() -> None:
    """A note is words; a level changes what happens."""
    plain, levelled = load("# Note", allow("True")), load("# Note", "# disclose: code", allow("True"))
    assert levelled.rules[0].note == "Note"
    assert plain.digest != levelled.digest
    assert plain.digest == load("# Note", "# disclose: rule", allow("True")).digest


def test_an_allowed_or_asked_call_is_advised_nothing() -> None:
    """There is nothing to tell."""
    asks = load(allow("approved('role:lead')"), "g, user:lea, role:lead")
    assert advised(asks, "file:x").for_model is None
    assert advised(load(allow("True")), "file:x").for_model is None


def test_a_request_that_cannot_be_decided_is_told_as_it_is() -> None:
    """It was the model's own spelling."""
    told = advised(load(allow("True")), "file:a//b").for_model
    assert told is not None
    assert told.reason == "error"
