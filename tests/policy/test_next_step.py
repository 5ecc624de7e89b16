"""The next step after a denial, and how much of the denial the model reads."""

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
    ("condition", "facts", "next_step"),
    [
        ("args.n <= 100", {"args": {"n": 5000}}, "call it with n = 100 instead of 5000"),
        ("args.n < 100", {"args": {"n": 101}}, "call it with n = 99 instead of 101"),
        ("10 <= args.n <= 20", {"args": {"n": 3}}, "call it with n = 10 instead of 3"),
        ("args.n < 3 or args.n > 50", {"args": {"n": 40}}, "call it with n = 51 instead of 40"),
        ("args.to == 'ann'", {"args": {"to": "secret"}}, "call it with to = 'ann'"),
        ("not args.force", {"args": {"force": True}}, "call it with force = False"),
        ("args.mode == 'dry'", {}, "call it with mode = 'dry'"),
        ("'x' not in args.tags", {"args": {"tags": ["x", "y"]}}, "call it without 'x' in tags"),
        ("'x' in args.tags", {"args": {"tags": ["y"]}}, "call it with 'x' in tags"),
        ("not has(args.force)", {"args": {"force": True, "n": 1}}, "call it without force"),
        ("has(args.force)", {}, None),
        ("resource.owner == 'ann'", {"resource": {"owner": "bob"}}, None),
        ("len(args.text) <= 4", {"args": {"text": "secret"}}, "call it with 4 characters in text instead of 6"),
        ("'untrusted' not in labels", {"labels": frozenset({"untrusted", "x"})}, "call it in a run without the label 'untrusted'"),
        ("calls('a.b') < 2", {"calls": {"a.b": 2}}, "call it in a run with 1 earlier calls of a.b instead of 2"),
        ("named_by_user", {}, "use only resources that the user named"),
        ("identified", {}, "use only resources that the user named or that the directory lists"),
        ("quoted_by_user", {}, "use only texts that the user wrote"),
        ("requested_by_user", {}, "call it only if the user asks for this action"),
        ("'mail' not in unidentified", {"unidentified": frozenset({"mail"})}, "use only mail resources that the user named or that the directory lists"),
        ("'link' not in contains", {"contains": frozenset({"link"})}, "remove each link that neither the user nor the directory named"),
        ("'private' not in contains", {"contains": frozenset({"private"})}, "remove each text labelled 'private' that neither the user nor the directory named"),
        ("'09:00' <= time < '17:00'", {"time": "18:00"}, "call it at 09:00 UTC"),
        ("time < '17:00'", {"time": "18:00"}, "call it at 16:59 UTC"),
        ("env == 'staging'", {"env": "prod"}, "call it with env = 'staging'"),
        ("args.n <= 100 and 'x' not in labels", {"args": {"n": 200}, "labels": frozenset({"x"})}, None),
        ("args.n == args.m", {"args": {"n": 1, "m": 2}}, None),
        ("False", {}, None),
        ("'x' in labels", {}, None),
    ],
)  # fmt: skip
def test_the_next_step_is_the_smallest_single_change_that_would_be_allowed(
    condition: str, facts: dict[str, Any], next_step: str | None
) -> None:
    """Arguments are changed first. A fact that no call could have is not suggested, and no text of an argument is quoted."""
    decision = advised(load(allow(condition)), "file:x", **facts)
    assert (decision.verdict, decision.next_step) == ("deny", next_step)
    assert "secret" not in (decision.next_step or "")


def test_a_denying_rule_has_a_next_step_only_if_its_condition_can_change() -> None:
    """The nearest value is suggested."""
    changing = load(allow("True"), "p, agent:t, a.b, **, args.n > 10, deny", "p, agent:t, a.b, **, args.n > 20, deny")
    assert advised(changing, "file:x", args={"n": 30}).next_step == "call it with n = 10 instead of 30"
    constant = load(allow("True"), "p, agent:t, a.b, **, True, deny")
    assert advised(constant, "file:x").next_step is None


def test_a_change_that_another_subject_or_resource_forbids_is_not_suggested() -> None:
    """The whole request is decided again with each change."""
    rules = load(
        "p, agent:t, a.b, file:x, args.n <= 10, allow",
        "p, agent:t, a.b, file:y, args.n > 15, allow",
        "p, user:u, a.b, **, args.n > 5, allow",
    )
    assert advised(rules, "file:x", subjects=("agent:t", "user:u"), args={"n": 20}).next_step is not None
    assert advised(rules, "file:x", "file:y", subjects=("agent:t", "user:u"), args={"n": 20}).next_step is None


def test_every_suggested_change_is_allowed() -> None:
    """Random rules; the test applies the change itself."""
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
                suggested = int(decision.next_step.split(" with n = ")[1].split(" ")[0])
                assert abs(suggested - now) == min(abs(n - now) for n in allowed), (rows, now)
    assert tried > 100


# ── what the model reads ───────────────────────────────────────────────────────────────────────────────────────────


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


NEXT_STEP = "call it with n = 5 instead of 9"


@pytest.mark.parametrize(
    ("level", "denial"),
    [
        ("none", ModelDenial(reason="no_rule_allows", message="no rule allows a.b on 'file:x' for agent:t")),
        ("code", ModelDenial(reason="denied_by_rule", message="a rule denies a.b on 'file:x' for agent:t")),
        (
            "rule",
            ModelDenial(
                reason="denied_by_rule",
                message="'Large sums are for people' denies a.b on 'file:x' for agent:t",
                rules=("Large sums are for people",),
            ),
        ),
        (
            "remedy",
            ModelDenial(
                reason="denied_by_rule",
                message="'Large sums are for people' denies a.b on 'file:x' for agent:t",
                rules=("Large sums are for people",),
                next_step=NEXT_STEP,
            ),
        ),
    ],
)
def test_a_rule_sets_how_much_of_its_denial_the_model_reads(level: str, denial: ModelDenial) -> None:
    """The operator's decision is complete at every level."""
    decision = denied_at(level)
    assert decision.for_model == denial
    assert [rule.note for rule in decision.rules] == ["Large sums are for people"]
    assert (decision.reason, decision.next_step) == ("denied_by_rule", NEXT_STEP)


def test_a_hidden_rule_reads_like_no_rule_at_all() -> None:
    """Word for word, so that a model cannot distinguish the two."""
    assert denied_at("none").for_model == advised(load(allow("False")), "file:x").for_model


def test_by_default_the_model_reads_the_rule_and_not_the_next_step() -> None:
    decision = advised(load(allow("args.n <= 5")), "file:x", args={"n": 9})
    assert decision.for_model == ModelDenial(
        reason="no_rule_allows", message="no rule allows a.b on 'file:x' for agent:t"
    )
    assert decision.next_step == NEXT_STEP


def test_the_model_reads_the_next_step_only_if_every_rule_concerned_discloses_it() -> None:
    """One rule that does not is enough to hide it."""
    open_ = ("# disclose: remedy", allow("args.n <= 5"))
    assert advised(load(*open_), "file:x", args={"n": 9}).for_model == ModelDenial(
        reason="no_rule_allows", message="no rule allows a.b on 'file:x' for agent:t", next_step=NEXT_STEP
    )
    silent = advised(load(*open_, "p, agent:t, a.b, **, args.n > 5, deny"), "file:x", args={"n": 9})
    assert silent.for_model is not None
    assert (silent.for_model.next_step, silent.next_step) == (None, NEXT_STEP)


def test_each_of_several_denying_rules_is_disclosed_at_its_own_level() -> None:
    """A hidden rule is not counted, and one with level `code` is not named."""
    rows = [allow("True"), "# Open", "p, agent:t, a.b, **, True, deny"]
    hidden = ["# Hidden", "# disclose: none", "p, agent:t, *, **, True, deny"]
    coded = ["# Coded", "# disclose: code", "p, agent:t, a.*, **, True, deny"]
    denial = advised(load(*rows, *hidden, *coded), "file:x").for_model
    assert denial == advised(load(*rows), "file:x").for_model
    denial = advised(load(*hidden, *coded), "file:x").for_model
    assert denial == ModelDenial(reason="denied_by_rule", message="a rule denies a.b on 'file:x' for agent:t")


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (("# disclose: nothing", allow("True")), "'nothing' is not a level of disclosure"),
        (("# disclose: none", "# disclose: code", allow("True")), "two lines"),
        (("# Disclose: none", allow("True")), "does not set a level"),
        (("# disclosure: none", allow("True")), "does not set a level"),
        (("# disclose: none", "", allow("True")), "is not right above a rule"),
        (("# disclose: none", "g, user:u, role:r"), "is not right above a rule"),
        ((allow("True"), "# disclose: none"), "is not right above a rule"),
    ],
)
def test_a_level_that_would_have_no_effect_does_not_load(rows: tuple[str, ...], what: str) -> None:
    """A mistake would disclose more to the model than the author intends."""
    with pytest.raises(WorkspaceError, match=what):
        load(*rows)


def test_the_level_is_part_of_the_digest_and_not_of_the_note() -> None:
    """A note is only text; a level changes behaviour."""
    plain, levelled = load("# Note", allow("True")), load("# Note", "# disclose: code", allow("True"))
    assert levelled.rules[0].note == "Note"
    assert plain.digest != levelled.digest
    assert plain.digest == load("# Note", "# disclose: rule", allow("True")).digest


def test_only_a_denial_has_a_part_for_the_model() -> None:
    """An allow or an approval request has none."""
    asks = load(allow("approved('role:lead')"), "g, user:lea, role:lead")
    assert advised(asks, "file:x").for_model is None
    assert advised(load(allow("True")), "file:x").for_model is None


def test_the_model_reads_why_its_request_is_not_valid() -> None:
    """The resource was the model's own spelling."""
    denial = advised(load(allow("True")), "file:a//b").for_model
    assert denial is not None
    assert denial.reason == "error"
