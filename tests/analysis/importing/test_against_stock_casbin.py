"""What imported rules allow, stock Casbin allows by the other system's own model and rows; of rows that are kept, they allow the same.

Models of each kind, random policies of names and patterns, and requests made of their names and of near misses.
"""

from __future__ import annotations

import importlib
import os
import random
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from remit.analysis.importing import Names, import_casbin
from remit.analysis.importing.outcome import Unreadable
from remit.core import Context, Request
from remit.policy import Policy
from support.casbin_models import ALLOW, BOTH, MODELS, SAME, THREE, loaded, model

casbin: Any = importlib.import_module("casbin")
persist: Any = importlib.import_module("casbin.persist")

# A part in every run; 10000 by hand.
REQUESTS = int(os.environ.get("REMIT_IMPORT_REQUESTS", "600"))
A_POLICY = 60  # requests for one policy

SUBJECTS = ("alice", "bob", "admin", "reader", "my-org:team", "root", "*", "role:dev")
OBJECTS = {
    "": ("data1", "data2", "data_group", "/data/1", "*", "a,b", "data/1", "/a/b.txt"),
    "keyMatch": ("/data/*", "/data*", "*", "/data/1", "data1", "/a/*/b", "/*"),
    "keyMatch2": ("/data/:id", "/data/:id/parts/:part", "/data/*", "/a/*/b", "*", "/a.txt", "/:any", "data1", "/a/(b"),
    "keyMatch3": ("/data/{id}", "/data/{id}/parts", "/a/*", "/a/pre_{id}", "data1"),
    "keyMatch4": ("/data/{id}", "/data/{id}/parts/{id}", "/data/{id}/{part}", "/a/*", "data1"),
    "regexMatch": ("^/data/.*$", "^/data/[^/]+$", "/data", "(/a)|(/b)", "^/a/.*/b$", "^/a\\.txt$", ".*", "^/a[0-9]$", "/a.b"),
    "globMatch": ("/data/*", "/data/**", "/*/b", "/data*", "data1", "*", "/a/*.txt", "/a/?"),
    "Argo CD": ("*/*", "proj/*", "*", "proj/app", "pro*", "proj/a?p"),
}  # fmt: skip
ACTIONS = {
    "": ("read", "write", "*", "GET", "get"),
    "keyMatch": ("GET", "(GET)|(POST)", "^(GET|POST)$", ".*", "G.T", "read"),
    "Argo CD": ("get", "sync", "*", "action/apps/restart", "del*"),
}
TYPES = ("applications", "clusters", "*")
PIECES = ("", "x", "data", "1", "a", "b", ".h", "app")


class Texts(persist.Adapter):  # type: ignore[misc]  # untyped, as all of pycasbin
    def __init__(self, text: str) -> None:
        self.text = text

    def load_policy(self, model: Any) -> None:
        for line in self.text.split("\n"):
            persist.load_policy_line(line.strip(), model)


def any_text(asked: str, glob: str) -> bool:
    """Argo CD's globs: `*` matches any characters."""
    return re.fullmatch(".*".join(map(re.escape, glob.replace("**", "*").split("*"))), asked) is not None


def stock(text: str, policy: str) -> Any:
    loaded = casbin.Enforcer(casbin.Enforcer.new_model(text=text), Texts(policy))
    loaded.add_function("globOrRegexMatch", any_text)
    return loaded


def value(dice: random.Random, kind: str, column: str) -> str:
    pools: dict[str, tuple[str, ...]] = {
        "sub": SUBJECTS[: 6 if kind != "stars" else 8],
        "role": SUBJECTS[:6],
        "dom": ("d1", "d2", "*") if kind == "any domain" else ("d1", "d2"),
        "obj": OBJECTS.get(kind, OBJECTS[""]),
        "act": ACTIONS.get(kind, ACTIONS[""]),
        "res": TYPES,
        "eft": ("allow", "allow", "allow", "deny", "Deny") if kind != "Argo CD" else ("allow", "allow", "deny"),
        "priority": ("1", "2", "10"),
    }
    return dice.choice(pools[column])


def random_policy(dice: random.Random, kind: str, text: str) -> list[list[str]]:
    columns = re.findall(r"^p = (.*)$", text, re.MULTILINE)[0].split(", ")
    rows = [["p", *(value(dice, kind, column) for column in columns)] for _ in range(dice.randint(1, 6))]
    for name, fields in re.findall(r"^(g2?) = (.*)$", text, re.MULTILINE):
        for _ in range(dice.randint(0, 4)):
            domain = [dice.choice(("d1", "d2"))] if fields.count("_") == 3 else []
            pairs = [("alice", "admin"), ("bob", "reader"), ("admin", "reader"), ("my-org:team", "admin")]
            link = dice.choice(
                pairs if name == "g" else [("data1", "data_group"), ("/data/1", "data_group"), ("/a/:id", "data2")]
            )
            rows.append([name, *link, *domain])
    return [row for number, row in enumerate(rows) if row not in rows[:number] and not any("," in one for one in row)]


def near(dice: random.Random, text: str) -> str:
    """A text that the pattern may match, or nearly."""
    made = re.sub(r":[^/]+|\{[^/]+\}|\[\^/\]\+", lambda _: dice.choice(PIECES), text)
    made = re.sub(r"\.?\*+", lambda _: dice.choice((*PIECES, "x/y")), re.sub(r"[\^$\\]", "", made))
    alternatives = re.sub(r"[()]", "", made).split("|")
    made = dice.choice(alternatives)
    return dice.choice((made, made, made, made, made + "x", made + "/y", "/" + made, made.upper(), made[:-1]))


def random_request(dice: random.Random, kind: str, text: str, rows: list[list[str]]) -> list[str]:
    fields = re.findall(r"^r = (.*)$", text, re.MULTILINE)[0].split(", ")
    columns = re.findall(r"^p = (.*)$", text, re.MULTILINE)[0].split(", ")
    row = dict(zip(columns, dice.choice([row for row in rows if row[0] == "p"])[1:], strict=True))
    links = [link for link in rows if link[0] != "p"]
    asked: list[str] = []
    for name in fields:
        one = row[name] if dice.random() < 0.85 else value(dice, kind, name)
        if links and dice.random() < 0.4 and name in ("sub", "obj"):
            one = dice.choice(links)[1]
        asked.append(near(dice, one) if dice.random() < 0.7 or "*" in one else one)
    return asked


def ours(policy: Policy, names: Names, fields: list[str], asked: list[str]) -> bool | None:
    """Whether the rules allow the request; None if it cannot be asked here."""
    named = dict(zip(fields, asked, strict=True))
    domain = named.get("dom", "")
    if "dom" in named and not domain:
        return None
    try:
        request = Request(
            subjects=(names.subject(named.get("sub", named.get("role", "")), domain),),
            action=names.action(named["act"], named.get("res", "")),
            resources=(names.resource(named["obj"], domain),) if "obj" in named else (),
            context=Context(),
        )
    except Unreadable:
        return None
    decision = policy.decide(request)
    return None if decision.reason == "error" else decision.verdict == "allow"


def compare(kind: str, text: str, dice: random.Random, counts: Counter[str]) -> None:
    rows = random_policy(dice, kind, text)
    if not any(row[0] == "p" for row in rows):
        return
    policy = "\n".join(", ".join(row) for row in rows)
    names = Names()
    imported = import_casbin(text, policy, names=names)
    assert [row.text for row in imported.rows if row.line] == policy.split("\n")  # no row is lost
    theirs, rules = stock(text, policy), loaded(imported)
    status = {tuple(row.text.split(", ")[1:]): row for row in imported.rows}
    fields = re.findall(r"^r = (.*)$", text, re.MULTILINE)[0].split(", ")
    for _ in range(A_POLICY):
        asked = random_request(dice, kind, text, rows)
        try:
            allowed, reason = theirs.enforce_ex(*asked)
        except Exception:  # noqa: BLE001  # whatever stock Casbin raises, it gives no answer
            counts["unanswered"] += 1
            continue
        here = ours(rules, names, fields, asked)
        counts["requests"] += 1
        counts["allowed"] += bool(here)
        what = f"{asked} by {reason}\n{text}\n{policy}\n{imported.rules_text}"
        assert allowed or not here, f"wider: {what}"
        row = status.get(tuple(reason))
        if allowed and here is False and row is not None:
            assert row.status != "kept", f"lost: {what}"


@pytest.mark.parametrize("kind", MODELS)
def test_imported_rules_allow_nothing_that_stock_casbin_denies_and_lose_nothing_that_is_kept(kind: str) -> None:
    dice = random.Random(kind)
    counts: Counter[str] = Counter()
    while counts["requests"] + counts["unanswered"] < REQUESTS:
        compare(kind, MODELS[kind], dice, counts)
    assert counts["requests"] > REQUESTS // 3
    # A model that allows without a row is imported as denials only, and few random rows survive them.
    assert counts["allowed"] > 0 if kind != "only denials" else counts["allowed"] >= 0


CONDITIONS = (
    "r.sub.Age > 18", "r.sub.Age >= 18 && r.sub.Age < 60", "r.sub.Team == 'a'", "r.sub.Team == 'a' || r.sub.Age < 20",
    "!(r.sub.Age > 18 || r.sub.Team == 'a')", "r.sub.Team != 'a' && r.sub.Age > 18.5", "r.sub.Team in ('a', 'b')", "True",
    "False) or (True", "True) #", "r.sub.Age", "r.sub.__class__ == 1", "r.sub.Age.real > 1", "'a!b' == r.sub.Team", "r.sub.Age + 1 > 2",
)  # fmt: skip


@pytest.mark.parametrize("effect", [ALLOW, BOTH])
def test_conditions_allow_only_what_stock_casbin_allows_by_them(effect: str) -> None:
    """Attributes may be missing or of another type: then Casbin raises, which is no permission."""
    text = model(THREE, "rule, obj, act, eft", f"eval(p.rule) && {SAME}", effect)
    dice = random.Random(effect)
    allowed = 0
    for _ in range(REQUESTS // 2):
        rows = [(dice.choice(CONDITIONS), dice.choice(("allow", "allow", "deny"))) for _ in range(dice.randint(1, 3))]
        policy = "\n".join(f"p, {condition}, data1, read, {eft}" for condition, eft in rows)
        try:
            theirs = stock(text, policy)
        except IndexError:  # parentheses that do not match
            continue
        imported = import_casbin(text, policy)
        rules = loaded(imported)
        values: dict[str, Any] = {"Age": dice.choice((17, 18, 19, 61, "x", True)), "Team": dice.choice(("a", "b", 1))}
        subject = {name: one for name, one in values.items() if dice.random() < 0.85}
        request = Request(
            subjects=("role:everyone",),
            action="app.read",
            resources=("store:data1",),
            context=Context(subject=subject),
        )
        here = rules.decide(request).verdict == "allow"
        try:
            there = theirs.enforce(SimpleNamespace(**subject), "data1", "read") is True
        except Exception:  # noqa: BLE001  # no answer: with one row, nothing may be allowed; a later row could
            there = len(rows) > 1
        assert there or not here, f"{subject}\n{policy}\n{imported.rules_text}"
        allowed += here
        if len(rows) == 1 and there and not here:
            assert imported.rows[0].status != "kept" or any(isinstance(one, bool) for one in values.values()), policy
    assert allowed > 20
