"""The scenarios of the AuthZEN working group as policies: the certification fixture, and the Todo application."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from remit.policy import Policy, load_policy
from remit.policy.authzen import DecisionPoint, EnforcementPoint
from support import ROOT

MODEL: Final = (ROOT / "policies" / "model.conf").read_bytes()

CERTIFICATION_RULES: Final = """\
# Staff read records
p, role:staff, records.read, record:*, True, allow
# Writers write records
p, role:writer, records.write, record:*, True, allow
# Nobody changes an archived record, but an administrator
p, role:staff, records.write, record:*, has(resource.status) and resource.status == 'archived' and not (has(subject.role) and subject.role == 'admin'), deny
# Administrators write what is archived
p, role:staff, records.write, record:*, subject.role == 'admin' and resource.status == 'archived', allow
# Writers delete softly
p, role:writer, records.delete, record:*, args.soft == True, allow
g, user:alice, role:writer
g, user:alice, role:staff
g, user:bob, role:staff
"""
CERTIFICATION_ENTITIES: Final = (
    {"type": "user", "id": "alice"},
    {"type": "user", "id": "bob", "properties": {"role": "admin"}},
    {"type": "record", "id": "record-1", "properties": {"status": "active"}},
    {"type": "record", "id": "record-2", "properties": {"status": "archived"}},
)
RECORDS: Final = EnforcementPoint(
    name="records",
    account="service:records",
    actions={name: f"records.{name}" for name in ("read", "write", "delete")},
    subject_types=frozenset({"user"}),
    resource_types=frozenset({"record"}),
    properties=frozenset({"subject.role", "subject.department", "resource.status", "resource.owner"}),
)

TODO_RULES: Final = """\
p, role:viewer, todo.can_read_user, user:*, True, allow
p, role:viewer, todo.can_read_todos, todo:*, True, allow
p, role:editor, todo.can_create_todo, todo:*, True, allow
# Editors change their own
p, role:editor, todo.can_update_todo, todo:*, resource.ownerID == subject.email, allow
p, role:editor, todo.can_delete_todo, todo:*, resource.ownerID == subject.email, allow
p, role:evil_genius, todo.can_update_todo, todo:*, True, allow
p, role:admin, todo.can_delete_todo, todo:*, True, allow
g, role:editor, role:viewer
g, role:admin, role:editor
g, role:evil_genius, role:editor
"""
TODO: Final = EnforcementPoint(
    name="todo",
    account="service:todo",
    actions={
        name: f"todo.{name}"
        for name in ("can_read_user", "can_read_todos", "can_create_todo", "can_update_todo", "can_delete_todo")
    },
    subject_types=frozenset({"user"}),
    resource_types=frozenset({"todo", "user"}),
    properties=frozenset({"resource.ownerID"}),
)


def policy_of(rules: str, entities: Iterable[Mapping[str, Any]] = ()) -> Policy:
    return load_policy(
        {
            "policies/model.conf": MODEL,
            "policies/rules.csv": rules.encode(),
            "policies/entities.jsonl": "\n".join(map(json.dumps, entities)).encode(),
        }
    )


def todo_rules(users: Mapping[str, Mapping[str, Any]]) -> str:
    """The rules, with the roles of these users, by id."""
    return TODO_RULES + "".join(
        f"g, user:{name}, role:{role}\n" for name, user in users.items() for role in user["roles"]
    )


def todo_entities(users: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "user", "id": name, "properties": {"email": user["email"]}} for name, user in users.items()]


def decision_point(
    point: EnforcementPoint, policy: Policy, *, is_disabled: Callable[[str], bool] = lambda _: False
) -> DecisionPoint:
    return DecisionPoint(point=point, policy=policy, env="local", time="12:00", is_disabled=is_disabled)
