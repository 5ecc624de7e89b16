"""The Todo application of the AuthZEN interoperability events: its published decisions, and generated ones against an oracle."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from remit.policy.authzen import Evaluation, Evaluations
from support import corpus
from support.authzen import TODO, decision_point, policy_of, todo_entities, todo_rules

ACTIONS: Final = ("can_read_user", "can_read_todos", "can_create_todo", "can_update_todo", "can_delete_todo")
ROLES: Final = ("viewer", "editor", "admin", "evil_genius")
ABOVE: Final = {"viewer": (), "editor": ("viewer",), "admin": ("editor", "viewer"), "evil_genius": ("editor", "viewer")}


def test_the_forty_six_published_decisions_are_given() -> None:
    users = json.loads(corpus("authzen/todo_users.json"))
    cases = json.loads(corpus("authzen/todo_decisions.json"))
    point = decision_point(TODO, policy_of(todo_rules(users), todo_entities(users)))
    single = [
        (point.evaluate(Evaluation.model_validate(case["request"])).body["decision"], case["expected"])
        for case in cases["evaluation"]
    ]
    several = [
        (answered.body["decision"], expected["decision"])
        for case in cases["evaluations"]
        for answered, expected in zip(
            point.evaluate_each(Evaluations.model_validate(case["request"])), case["expected"], strict=True
        )
    ]
    assert len(single) + len(several) == 46
    assert [case for case in (*single, *several) if case[0] is not case[1]] == []


def oracle(user: dict[str, Any] | None, action: str, kind: str, owner: str | None) -> bool:
    """The rules of the Todo application, written as a program."""
    if user is None:
        return False
    roles = {*user["roles"], *(above for role in user["roles"] for above in ABOVE[role])}
    match action:
        case "can_read_user":
            return kind == "user" and "viewer" in roles
        case "can_read_todos":
            return kind == "todo" and "viewer" in roles
        case "can_create_todo":
            return kind == "todo" and "editor" in roles
        case "can_update_todo" | "can_delete_todo":
            mighty = "evil_genius" if action == "can_update_todo" else "admin"
            return kind == "todo" and (mighty in roles or ("editor" in roles and owner == user["email"]))
        case _:
            return False


def test_five_hundred_generated_requests_are_decided_as_the_oracle_decides() -> None:
    dice = random.Random(20)
    users: dict[str, dict[str, Any]] = {
        f"user-{number}": {"email": f"u{number}@the-citadel.com", "roles": dice.sample(ROLES, dice.randint(0, 2))}
        for number in range(40)
    }
    point = decision_point(TODO, policy_of(todo_rules(users), todo_entities(users)))
    emails = [user["email"] for user in users.values()]
    outcomes: list[bool] = []
    for _ in range(500):
        name = dice.choice([*users, "user-unknown"])
        action = dice.choice([*ACTIONS, "can_share_todo"])
        kind = dice.choice(("todo", "todo", "todo", "user", "list"))
        owner = dice.choice([None, *([users[name]["email"]] * 20 if name in users else []), *emails])
        resource = {
            "type": kind,
            "id": f"{kind}-{dice.randint(0, 9)}",
            **({"properties": {"ownerID": owner}} if owner else {}),
        }
        asked = {"subject": {"type": "user", "id": name}, "action": {"name": action}, "resource": resource}
        expected = oracle(users.get(name), action, kind, owner)
        assert point.evaluate(Evaluation.model_validate(asked)).body["decision"] is expected, asked
        outcomes.append(expected)
    assert 100 < sum(outcomes) < 400
