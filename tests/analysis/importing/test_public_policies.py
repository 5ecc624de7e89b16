"""Public Casbin policies are imported without silent loss: against stock Casbin, by the model that their own project has.

Every row is accounted for; what is imported allows nothing that stock Casbin denies, and what is kept loses nothing. A model that has
no counterpart is refused as a whole, with the reason.
"""

from __future__ import annotations

import importlib
import os
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import pytest

from remit.analysis.importing import Names, import_casbin
from remit.analysis.importing.model import Model, read_model
from remit.analysis.importing.outcome import Imported, Unreadable
from remit.core import Context, Request, UsageError
from remit.policy import Policy
from support.casbin_models import loaded
from support.casbin_sets import PolicySet, further_sets, packaged_sets

casbin: Any = importlib.import_module("casbin")
persist: Any = importlib.import_module("casbin.persist")

REQUESTS: Final = int(os.environ.get("REMIT_IMPORT_REQUESTS", "250"))  # of each set; 10000 by make imported-policies
PIECES: Final = ("", "x", "1", "a/b", "alice", ".h", "7")
# Why a model of a public set has no counterpart. A set that is neither imported nor here fails the test.
REFUSED: Final = {
    "casbin: multiple_policy_definitions": "'r2 = sub, obj, act' is not understood",
    "casbin: rbac_with_multiple_policy": "'p2 = role, action' is not understood",
    "casbin: rbac_with_not_deny, rbac_with_deny_policy": "the effect '!some(where (p_eft == deny))' has no counterpart",
    "casbin: subject_priority": "the effect 'subjectPriority(p.eft) || deny' has no counterpart",
    "casbin: subject_priority_with_domain": "the effect 'subjectPriority(p.eft) || deny' has no counterpart",
}


class Texts(persist.Adapter):  # type: ignore[misc]  # untyped, as all of pycasbin
    def __init__(self, text: str) -> None:
        self.text = text

    def load_policy(self, model: Any) -> None:
        for line in self.text.split("\n"):
            persist.load_policy_line(line.strip(), model)


@dataclass
class Asked:
    """Requests made of the names in a policy, and of near misses."""

    model: Model
    rows: list[list[str]]
    attributes: list[str]  # of a subject, where rows compare them
    dice: random.Random
    values: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def __post_init__(self) -> None:
        p_rows = [row[1:] for row in self.rows if row[0] == "p"]
        links = [name for row in self.rows if row[0] != "p" for name in row[1:]]
        for at, column in enumerate(self.model.columns):
            self.values[column] = [row[at] for row in p_rows if len(row) > at]
        self.values[""] = links or ["nobody"]

    def one(self) -> list[Any]:
        p_rows = [row for row in self.rows if row[0] == "p"]
        row = self.dice.choice(p_rows)[1:] if p_rows else []
        named = dict(zip(self.model.columns, row, strict=False))
        return [self._value(name, dimension, named) for name, dimension in self.model.fields.items()]

    def _value(self, name: str, dimension: str, named: dict[str, str]) -> Any:
        if dimension == "subject" and self.attributes:
            return SimpleNamespace(
                **{one: self.dice.choice((1, 17, 18, 19, 59, 60, 61, 70)) for one in self.attributes}
            )
        column = name if name in named else next((one for one in named if one.startswith(name[:3])), "")
        text = named.get(column) or self.dice.choice(self.values[""])
        if self.dice.random() < 0.15 and self.values.get(column):
            text = self.dice.choice(self.values[column])
        if (
            dimension in ("subject", "resource", "domain")
            and self.dice.random() < 0.3
            and self.values[""] != ["nobody"]
        ):
            text = self.dice.choice(self.values[""])
        return self._near(text)

    def _near(self, text: str) -> str:
        made = re.sub(r":[A-Za-z_]\w*|\{[^/}]+\}|\[\^/\]\+", lambda _: self.dice.choice(PIECES), text)
        made = re.sub(r"\.?\*+", lambda _: self.dice.choice(PIECES), re.sub(r"[\^$\\]", "", made))
        made = self.dice.choice(re.sub(r"[()]", "", made).split("|"))
        return self.dice.choice((made,) * 12 + (made + "x", made + "/y", made.upper(), made[:-1]))


def ours(policy: Policy, names: Names, model: Model, asked: list[Any]) -> bool | None:
    """Whether the rules allow the request; None if it cannot be asked here."""
    named = dict(zip(model.fields.values(), asked, strict=True))
    domain = named.get("domain", "")
    properties: dict[str, Any] = {}
    if isinstance(named.get("subject"), SimpleNamespace):
        properties = vars(named.pop("subject"))
    if "domain" in named and not domain:
        return None
    try:
        request = Request(
            subjects=(names.subject(named["subject"], domain) if "subject" in named else "role:everyone",),
            action=names.action(named["action"], named.get("type", "")) if "action" in named else "app.x",
            resources=(names.resource(named["resource"], domain),) if "resource" in named else (),
            context=Context(subject=properties),
        )
    except Unreadable:
        return None
    decision = policy.decide(request)
    return None if decision.reason == "error" else decision.verdict == "allow"


def compare(one: PolicySet, imported: Imported, names: Names) -> Counter[str]:
    counts: Counter[str] = Counter()
    lines = [line.strip() for line in one.policy.split("\n")]
    rows = [[part.strip() for part in line.split(",")] for line in lines if line and not line.startswith("#")]
    theirs = casbin.Enforcer(casbin.Enforcer.new_model(text=one.model), Texts(one.policy))
    rules, model, dice = loaded(imported), read_model(one.model), random.Random(one.name)
    attributes = sorted(set(re.findall(r"\br\.sub\.(\w+)", one.model + one.policy)))
    asked_of = Asked(model, rows, attributes, dice)
    status = {tuple(part.strip() for part in row.text.split(",")[1:]): row for row in imported.rows}
    for _ in range(REQUESTS):
        asked = asked_of.one()
        try:
            allowed, reason = theirs.enforce_ex(*asked)
        except Exception:  # noqa: BLE001  # whatever stock Casbin raises, it gives no answer
            counts["unanswered"] += 1
            continue
        here = ours(rules, names, model, asked)
        counts["asked"] += 1
        counts["not here"] += here is None
        counts["allowed there"] += allowed
        counts["allowed here"] += bool(here)
        assert allowed or not here, f"wider: {one.name}: {asked} by {reason}\n{imported.rules_text}"
        row = status.get(tuple(reason))
        if allowed and here is False and row is not None:
            assert row.status != "kept", f"lost: {one.name}: {asked} by {reason}\n{imported.rules_text}"
    return counts


def refusal_of(one: PolicySet) -> str:
    """Why its model cannot be imported; "" if it can."""
    try:
        read_model(one.model)
    except Unreadable as problem:
        return str(problem)
    return ""


def test_public_policies_are_imported_without_silent_loss() -> None:
    allowing = 0
    for one in (*packaged_sets(), *further_sets()):
        if refusal := refusal_of(one):
            print(f"refused   {one.name}: {refusal}")
            with pytest.raises(UsageError, match=re.escape(refusal)):
                import_casbin(one.model, one.policy)
            assert one.name in REFUSED or one.name.count("/"), f"{one.name}: {refusal}"
            assert REFUSED.get(one.name, "") in refusal
            continue
        names = Names()
        imported = import_casbin(one.model, one.policy, names=names)
        lines = [line.strip() for line in one.policy.split("\n")]
        expected = [line for line in lines if line and not line.startswith("#")]
        assert [row.text.strip() for row in imported.rows if row.line] == expected, one.name
        assert all(row.why for row in imported.rows if row.status in ("narrowed", "refused")), one.name
        counts = compare(one, imported, names)
        allowing += counts["allowed here"] > 0
        print(f"imported  {one.name}: {dict(imported.counts)}; {dict(counts)}")
    assert allowing >= 20  # imported, and of use: some of the requests are allowed
