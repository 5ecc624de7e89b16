"""What becomes of single rows: which rules, with which reason, and never wider where a part has no counterpart."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest

from remit.analysis.importing import ARGO_CD, Imported, Names, import_casbin, imported_cases
from remit.core import Context, Request, UsageError
from remit.policy import read_cases
from support.casbin_models import ALLOW, BOTH, FIRST, FOUR, IN_DOMAIN, MODELS, RBAC, THREE, loaded, model

PLAIN = model(THREE, THREE, "r.sub == p.sub && r.obj == p.obj && r.act == p.act")
DENYING = model(THREE, f"{THREE}, eft", "g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act", BOTH, RBAC)
OWNERS = model(THREE, THREE, "r.sub == r.obj.Owner && r.act == p.act")
EVALUATED = model(THREE, "rule, obj, act", "eval(p.rule) && r.obj == p.obj && r.act == p.act")


def statuses(imported: Imported) -> list[str]:
    return [row.status for row in imported.rows]


def allows(imported: Imported, subject: str, action: str, resource: str, /, **facts: object) -> bool:
    context = Context(**facts)  # type: ignore[arg-type]  # facts of each test
    request = Request(subjects=(subject,), action=action, resources=(resource,), context=context)
    return loaded(imported).decide(request).verdict == "allow"


def test_a_row_that_denies_and_cannot_be_read_denies_more() -> None:
    imported = import_casbin(
        DENYING, "p, ann, /a/*, read, allow\np, ann, /a/(b, c), read, deny\np, bob, /a/*, read, allow"
    )
    assert statuses(imported) == ["narrowed", "narrowed", "narrowed"]
    assert not allows(imported, "user:ann", "app.read", "document:a/b")
    assert allows(imported, "user:bob", "app.read", "document:a/b")


@pytest.mark.parametrize(
    "denial",
    [
        "p, a b\\c" + "x" * 130 + ", /a, read, deny",
        "p, ann, /a, read",
        "p, ann, /a, re\u200bad, deny",
        "p, ann, /a), read, deny",
    ],
)
def test_if_a_denial_is_lost_nothing_is_allowed(denial: str) -> None:
    allowed = "p, ann, /a, read, allow"
    imported = import_casbin(DENYING, f"{allowed}\n{denial}")
    assert statuses(imported) == ["refused", "refused"]
    assert "line 2 may deny and cannot be read" in imported.rows[0].why
    assert imported.rules_text == ""
    assert allows(import_casbin(DENYING, f"{allowed}\np, ann, /b, read, deny"), "user:ann", "app.read", "document:a")


def test_a_link_that_is_lost_may_lose_a_denial() -> None:
    rows = "p, ann, /a, read, allow\np, banned, /a, read, deny\ng, ann, banned"
    assert not allows(import_casbin(DENYING, rows), "user:ann", "app.read", "document:a")
    imported = import_casbin(DENYING, f"{rows}\ng, ann, {'x' * 130}")
    assert (statuses(imported)[0], statuses(imported)[3]) == ("refused", "refused")


def test_two_names_never_become_one() -> None:
    imported = import_casbin(PLAIN, "p, a:b, data1, GET\np, a-b, data2, GET\np, c, data1, get\np, c, data1, POST")
    assert statuses(imported) == ["kept", "refused", "refused", "kept"]
    assert imported.renamed == {"a:b": "user:a-b", "GET": "app.get", "POST": "app.post"}
    assert "'get' and 'GET' would both be app.get" in imported.rows[2].why


def test_the_text_of_a_condition_cannot_leave_its_row() -> None:
    """Casbin puts it into the matcher as text: this row allows everything there (field report)."""
    imported = import_casbin(
        EVALUATED, "p, False) or (True, data1, read\np, True) #, data1, read\np, r.sub.Age > 18, data1, read"
    )
    assert statuses(imported) == ["refused", "refused", "narrowed"]
    assert allows(imported, "role:everyone", "app.read", "store:data1", subject={"Age": 19})
    assert not allows(imported, "role:everyone", "app.read", "store:data1", subject={"Age": 18})
    assert not allows(imported, "role:everyone", "app.read", "store:other", subject={"Age": 19})


def test_what_follows_an_or_is_read_only_if_what_stands_before_it_can_be() -> None:
    imported = import_casbin(EVALUATED, "p, r.sub.Age > 18 || r.sub.Team == 'a', data1, read")
    answers = [
        allows(imported, "role:everyone", "app.read", "store:data1", subject=subject)
        for subject in ({"Age": 19}, {"Age": 3, "Team": "a"}, {"Team": "a"}, {"Age": "x", "Team": "a"})
    ]
    assert answers == [True, True, False, False]


def test_an_owner_is_compared_with_the_subject_itself() -> None:
    imported = import_casbin(OWNERS, "p, any, any, read")
    (row,) = imported.rows
    assert "subject.id == resource.Owner" in row.rules[0]
    assert row.why == "it names no subject: give role:everyone to those for whom it is meant"
    assert allows(imported, "role:everyone", "app.read", "store:x", subject={"id": "ann"}, resource={"Owner": "ann"})
    assert not allows(
        imported, "role:everyone", "app.read", "store:x", subject={"id": "bob"}, resource={"Owner": "ann"}
    )


def test_a_wildcard_of_a_glob_hides_names_with_a_leading_dot() -> None:
    imported = import_casbin(MODELS["globMatch"], "p, ann, /home/*, read, allow")
    assert allows(imported, "user:ann", "app.read", "document:home/notes")
    assert not allows(imported, "user:ann", "app.read", "document:home/.env")


def test_a_wildcard_beside_text_is_narrowed_to_a_segment_where_a_row_allows() -> None:
    rows = "p, role:dev, applications, sync, team-*/*, allow\np, role:dev, applications, sync, */*-prod/x, deny\ng, ann, role:dev"
    imported = import_casbin(ARGO_CD, rows)
    assert statuses(imported)[:2] == ["narrowed", "narrowed"]  # the denial is for every application
    assert not allows(imported, "user:ann", "applications.sync", "store:team-a/shop")
    imported = import_casbin(ARGO_CD, rows.replace("*-prod/x", "prod"))
    assert (statuses(imported)[0], imported.rows[0].why) == ("narrowed", "a wildcard beside text matches no / here")
    asked = ("team-a/shop", "team-a/b/shop", "team-a/prod", "other/shop", "team-a")
    assert [allows(imported, "user:ann", "applications.sync", f"store:{name}") for name in asked] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_the_first_row_decides_or_less_is_allowed() -> None:
    text = model(THREE, f"{THREE}, eft", "r.sub == p.sub && r.obj == p.obj && r.act == p.act", FIRST)
    imported = import_casbin(
        text, "p, a, x, read, allow\np, a, x, read, deny\np, a, y, read, allow\np, a, y, read, deny"
    )
    assert statuses(imported) == ["narrowed", "kept", "kept", "kept"]  # the last row denies what is denied anyway
    assert [len(row.rules) for row in imported.rows] == [1, 1, 1, 0]
    assert imported.rows[0].why == "line 2 denies a part of it here"


def test_roles_are_those_of_their_domain() -> None:
    text = model(
        FOUR, FOUR, "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act", ALLOW, IN_DOMAIN
    )
    imported = import_casbin(
        text, "p, admin, d1, data, read\np, admin, d2, data, read\ng, ann, admin, d1\ng, bob, admin, d2"
    )
    assert statuses(imported) == ["kept"] * 4
    asked = [(who, where) for who in ("user:ann", "user:bob") for where in ("store:d1/data", "store:d2/data")]
    assert [allows(imported, who, "app.read", where) for who, where in asked] == [True, False, False, True]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("policy, ann, data1, read", "Casbin ignores rows that begin with 'policy'"),
        ("P, ann, data1, read", "Casbin ignores rows that begin with 'P'"),
        ("p, ann, data1", "Casbin fails when it comes to it"),
        ("p, ann, a\u200bb, read", "invisible character U+200B"),
        ("p, ann, data[1], read", "no request can have such names"),
        ("p, ann, data1, --", "not a name that an action can have"),
        ("p, ann, " + "x" * 20_000 + ", read", "longer than"),
    ],
)
def test_a_row_that_is_refused_says_why(row: str, why: str) -> None:
    imported = import_casbin(PLAIN, row + "\np, bob, data1, read")
    assert statuses(imported) == ["refused", "kept"]
    assert why in imported.rows[0].why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no"),
        (PLAIN.replace("[matchers]", "[matcher]"), "is not a section"),
        (PLAIN + "m = r.sub == p.sub", "defined twice"),
        (PLAIN.replace("r.sub == p.sub", "r.sub = p.sub"), "not understood"),
        (PLAIN.replace(ALLOW, "subjectPriority(p.eft) || deny"), "no counterpart"),
        (PLAIN.replace("r = sub", "r = age"), "no counterpart"),
        (PLAIN.replace("r.sub == p.sub", "(" * 60 + "r.sub == p.sub" + ")" * 60), "nested"),
        (PLAIN.replace("r.sub == p.sub", " && ".join(["(r.sub == 'a' || r.sub == 'b')"] * 20)), "alternatives"),
        (PLAIN.replace("r.sub == p.sub", "r.sub == 'x!y'"), "rewrites"),
    ],
)
def test_a_model_without_counterpart_is_one_error(text: str, why: str) -> None:
    with pytest.raises(UsageError, match="cannot be imported") as refused:
        import_casbin(text, "p, ann, data1, read")
    assert why in str(refused.value)


PIECES = (
    "p, ", "g, ", "p2, ", ",", " ", "\n", "(", ")", "[", "]", "*", "/", "**", "'", '"', "\\", "|", "^", "$", ":x", "{y}", ".", "..", "é",
    "\u200b", "\ufeff", "r.sub.Age", "==", "&&", "||", "!", "in", "eval", "18", "allow", "deny", "data1", "read", "a" * 200, "#", "\0", "\r",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_any_text_is_imported_row_by_row_or_is_one_error(seed: int) -> None:
    dice = random.Random(seed)
    models = [*MODELS.values(), EVALUATED, OWNERS]
    for _ in range(150):
        text = "".join(dice.choices(PIECES, k=dice.randint(1, 40)))
        model_text = dice.choice(models)
        if dice.random() < 0.3:
            at = dice.randrange(len(model_text))
            model_text = model_text[:at] + dice.choice(PIECES) + model_text[at + dice.randint(0, 3) :]
        with suppress(UsageError):
            imported = import_casbin(model_text, text)
            rows = [line for line in text.split("\n") if line.strip() and not line.strip().startswith("#")]
            assert len([row for row in imported.rows if row.line]) == len(rows)
            assert all(row.why for row in imported.rows if row.status != "kept")
            assert loaded(imported).rows is not None


def test_a_cycle_of_roles_refuses_all() -> None:
    imported = import_casbin(MODELS["roles"], "p, a, data1, read\ng, a, b\ng, b, a")
    assert statuses(imported) == ["refused"] * 3
    assert "inherit from each other" in imported.rows[0].why


def test_actions_can_be_named_and_stay_one_to_one() -> None:
    names = Names(actions={"GET": "orders.read", "PUT": "orders.read"})
    imported = import_casbin(PLAIN, "p, a, data1, GET\np, a, data1, PUT", names=names)
    assert imported.rows[0].rules == ("p, user:a, orders.read, store:data1, True, allow",)
    assert statuses(imported) == ["kept", "refused"]


def test_cases_hold_under_the_rules_that_they_pin() -> None:
    imported = import_casbin(
        DENYING, "p, admin, /a/*, read, allow\np, admin, /a/b, read, deny\ng, ann, admin\np, ann, /c, read, allow"
    )
    text = imported_cases(imported)
    assert text.count("expect: allow") == 2
    assert text.count("expect: deny") == 1
    # Without a workspace no enforcement point is declared, so the reader asks for an agent; the decisions are these.
    rules = loaded(imported)
    cases = read_cases(rules, text.replace("  user:", "  agent: agent:none\n  user:"), "cases.yaml")
    for _, case in cases:
        request = case.request().model_copy(update={"subjects": (case.user,)})
        assert case.mismatch(rules.decide(request)) == ""


ROWS_OF: dict[str, Callable[[int], str]] = {
    "rows": lambda k: f"p, role:r{k}, applications, get, proj/{k}, {'deny' if k % 2 else 'allow'}",
    "links": lambda k: f"g, u{k}, role:r{k % 7}",
    "wider denials": lambda k: f"p, role:r, type{k}, get, {'*' if k % 2 else 'a?'}, deny",
    "allowed rows and wider denials": lambda k: f"p, role:r, {'t, get, a?, deny' if k % 2 else 'u, get, b, allow'}",
    "wildcards": lambda k: f"p, role:r, *, get, {k}*, {'deny' if k % 2 else 'allow'}",
}


def function_calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls, also those in C. It is the same on a busy machine and with any number of other objects."""
    calls, before = 0, sys.getprofile()

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()  # a collection may call functions of objects of other tests
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


@pytest.mark.parametrize("rows", ROWS_OF)
def test_a_policy_of_four_times_the_rows_takes_about_four_times_as_long(rows: str) -> None:
    def cost(count: int) -> int:
        policy = "\n".join(map(ROWS_OF[rows], range(count)))
        return function_calls(lambda: import_casbin(ARGO_CD, policy))

    assert cost(1600) < 6 * cost(400)
