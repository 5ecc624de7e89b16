"""AuthZEN 1.0 over HTTP: the certification scenario at all levels, the Todo application, and who may ask and state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from remit.client import create_key
from remit.core import KeyScope, UsageError
from remit.core.events import DecisionsGiven, HoldSet
from remit.journal import WORKSPACE_RUN
from remit.server import given
from remit.workspace import open_session
from support import corpus
from support.authzen import CERTIFICATION_ENTITIES, CERTIFICATION_RULES, MODEL, todo_entities, todo_rules
from support.principals import principal
from support.served import Answer, Caller, NamedPrincipals, person, serving

TOML: Final = """\
users = ["user:lea"]

[identity]
"*" = "user:operator"

[enforcement_points.records]
account = "service:records"
actions = ["read", "write", "delete"]
resource_types = ["record"]
subject_properties = ["role", "department"]
resource_properties = ["status", "owner"]

[enforcement_points.todo]
account = "service:todo"
actions = ["can_read_user", "can_read_todos", "can_create_todo", "can_update_todo", "can_delete_todo"]
resource_types = ["todo", "user"]
resource_properties = ["ownerID"]
"""
USERS: Final = {"rick": {"email": "rick@the-citadel.com", "roles": ["admin", "evil_genius"]}}
ALICE: Final = {"type": "user", "id": "alice"}
READ: Final[dict[str, Any]] = {
    "subject": ALICE,
    "action": {"name": "read"},
    "resource": {"type": "record", "id": "record-1"},
}
ONE, EACH = "/access/v1/evaluation", "/access/v1/evaluations"


def workspace(folder: Path, users: dict[str, Any]) -> Path:
    (folder / "policies").mkdir()
    (folder / "remit.toml").write_text(TOML)
    (folder / "policies/model.conf").write_bytes(MODEL)
    (folder / "policies/records.csv").write_text(CERTIFICATION_RULES)
    (folder / "policies/todo.csv").write_text(todo_rules(users))
    entities = [*CERTIFICATION_ENTITIES, *todo_entities(users)]
    (folder / "policies/entities.jsonl").write_text("\n".join(map(json.dumps, entities)) + "\n")
    return folder


KNOWN: Final = NamedPrincipals(
    person("service:records"), person("service:todo"), person("service:other"), person("alice")
)


@pytest_asyncio.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    async with serving(workspace(tmp_path, USERS), authenticator=KNOWN) as opened:
        yield opened.as_("records")


@pytest.fixture
def published() -> dict[str, Any]:
    """The files of the working group, by name; the test is skipped here if they are missing."""
    return {
        name: json.loads(corpus(f"authzen/{name}.json")) for name in ("certification", "todo_users", "todo_decisions")
    }


async def recorded(caller: Caller) -> list[DecisionsGiven]:
    served = caller.service.workspaces["default"]
    await served.given.end()
    return [item.event for item in served.journal.events(WORKSPACE_RUN) if isinstance(item.event, DecisionsGiven)]


# ── certification: transport, headers, discovery ─────────────────────────────────────────────────────────────────────────


async def test_the_fixture_is_decided_over_http(published: dict[str, Any], caller: Caller) -> None:
    fixture = published["certification"]
    for case in fixture["decisions"]:
        asked = {name: case[name] for name in ("subject", "action", "resource")}
        for _ in range(2):
            answer = await caller.post(ONE, asked)
            assert (answer.status, answer.body["decision"]) == (200, case["decision"]), case
    for case in fixture["search"]:
        found = await caller.post(f"/access/v1/search/{case['kind']}", case["request"])
        names = {item.get("name", item.get("id")) for item in found.body["results"]}
        assert (found.status, set(case["includes"]) - names) == (200, set()), case


async def test_several_questions_without_any_are_one_question(caller: Caller) -> None:
    for more in ({}, {"evaluations": []}):
        answer = await caller.post(EACH, {**READ, **more})
        assert (answer.status, answer.body) == (200, {"decision": True})
    both = await caller.post(
        EACH, {"subject": ALICE, "action": {"name": "read"}, "evaluations": [{"resource": READ["resource"]}, {}]}
    )
    assert [item["decision"] for item in both.body["evaluations"]] == [True, False]
    incomplete = await caller.post(EACH, {"subject": ALICE, "evaluations": []})
    assert (incomplete.status, incomplete.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        pytest.param(b'{"subject": ', {}, id="no JSON"),
        pytest.param(b"", {}, id="empty"),
        pytest.param(b"[]", {}, id="no object"),
        pytest.param(json.dumps(READ).encode(), {"content-type": "text/plain"}, id="another type"),
        pytest.param(json.dumps({**READ, "subject": "alice"}).encode(), {}, id="a text as subject"),
        pytest.param(json.dumps({**READ, "action": {"name": 123}}).encode(), {}, id="a number as name"),
        pytest.param(json.dumps({**READ, "action": {}}).encode(), {}, id="no name"),
        pytest.param(b'{"subject": {"type": "user", "id": "alice", "id": "bob"}}', {}, id="a key twice"),
        pytest.param(
            json.dumps({**READ, "action": {"name": "read", "properties": {"x": 2**60}}}).encode(),
            {},
            id="an inexact number",
        ),
        pytest.param(
            json.dumps({**READ, "resource": {"type": "record", "id": "r" * 2000}}).encode(), {}, id="a long id"
        ),
        pytest.param(json.dumps({**READ, "evaluations": [{}] * 101}).encode(), {}, id="too many"),
    ],
)
async def test_a_malformed_body_is_a_bad_request_and_decides_nothing(
    caller: Caller, content: bytes, headers: dict[str, str]
) -> None:
    answer = await caller.send("POST", EACH, content=content, headers={"x-request-id": "r-1", **headers})
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert answer.headers["x-request-id"] == "r-1"
    assert await recorded(caller) == []


async def test_the_id_of_a_request_comes_back_and_is_recorded(caller: Caller) -> None:
    answer = await caller.send("POST", ONE, READ, headers={"x-request-id": "bfe9eb29-ab87"})
    assert answer.headers["x-request-id"] == "bfe9eb29-ab87"
    assert "x-request-id" not in (await caller.post(ONE, READ)).headers
    (event,) = await recorded(caller)
    assert [one.request for one in event.decisions] == ["bfe9eb29-ab87", ""]


async def test_the_addresses_of_the_decision_point_are_public_and_answer(caller: Caller) -> None:
    described = await caller.as_("nobody").get("/.well-known/authzen-configuration")
    base = described.body["policy_decision_point"]
    assert described.status == 200
    assert base == "http://127.0.0.1:8340"
    for name, address in described.body.items():
        if name != "policy_decision_point":
            assert (await caller.post(address.removeprefix(base), READ)).status == 200, name


async def test_pages_of_a_search_are_read_by_their_tokens(caller: Caller) -> None:
    asked = {**READ, "subject": {"type": "user"}}
    first = await caller.post("/access/v1/search/subject", {**asked, "page": {"limit": 1}})
    second = await caller.post(
        "/access/v1/search/subject", {**asked, "page": {"token": first.body["page"]["next_token"]}}
    )
    assert [item["id"] for item in (*first.body["results"], *second.body["results"])] == ["alice", "bob"]
    assert first.body["page"]["count"] == 1
    token = {"page": {"token": first.body["page"]["next_token"]}}
    changed = await caller.post("/access/v1/search/subject", {**asked, "action": {"name": "write"}, **token})
    assert (changed.status, changed.code) == (400, "invalid_request")


async def test_the_published_decisions_of_the_todo_application_are_given(
    published: dict[str, Any], tmp_path: Path
) -> None:
    users, cases = published["todo_users"], published["todo_decisions"]
    async with serving(workspace(tmp_path, users), authenticator=KNOWN) as opened:
        todo = opened.as_("todo")
        single = [
            ((await todo.post(ONE, case["request"])).body["decision"], case["expected"]) for case in cases["evaluation"]
        ]
        each = [(await todo.post(EACH, case["request"])).body["evaluations"] for case in cases["evaluations"]]
    expected = [case["expected"] for case in cases["evaluations"]]
    assert len(single) + sum(map(len, each)) == 46
    assert [pair for pair in single if pair[0] is not pair[1]] == []
    assert [[item["decision"] for item in answers] for answers in each] == [
        [item["decision"] for item in one] for one in expected
    ]


# ── who may ask, and what is recorded ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "status"), [("nobody", 401), ("other", 403), ("alice", 403), ("records", 200)])
async def test_only_a_listed_account_gets_decisions(caller: Caller, name: str, status: int) -> None:
    for path in (ONE, EACH, "/access/v1/search/subject", "/access/v1/search/resource", "/access/v1/search/action"):
        assert (await caller.as_(name).post(path, READ)).status == status, path


async def test_a_key_gets_decisions_only_if_it_is_for_them(tmp_path: Path) -> None:
    scopes = {
        "runs": KeyScope(actions=("remit.run",), agents=("triage",)),
        "other": KeyScope(points=("todo",)),
        "own": KeyScope(points=("records",)),
    }
    keys = {name: person("service:records", scope=scope) for name, scope in scopes.items()}
    for name, status in (("runs", 403), ("other", 403), ("own", 200)):
        folder = tmp_path / name
        folder.mkdir()
        async with serving(workspace(folder, USERS), authenticator=NamedPrincipals(keys[name])) as opened:
            assert (await opened.as_("records").post(ONE, READ)).status == status, name


def test_a_key_for_decisions_names_an_enforcement_point_of_its_service(tmp_path: Path) -> None:
    folder = workspace(tmp_path, USERS)
    (folder / "policies/remit.csv").write_text("p, user:lea, remit.keys, service:*, True, allow\n")
    session = open_session(folder)
    with session.journal:
        made = create_key(session, "service:todo", KeyScope(points=("todo",)), by=principal("lea"))
        assert made.created.scope.points == ("todo",)
        for points in (("records",), ("nothing",), ()):
            with pytest.raises(UsageError):
                create_key(session, "service:todo", KeyScope(points=points), by=principal("lea"))


async def test_an_enforcement_point_gets_no_decision_about_actions_of_another(caller: Caller) -> None:
    answer = await caller.as_("todo").post(ONE, READ)
    assert (answer.status, answer.body["decision"]) == (200, False)
    assert answer.body["context"]["remit"]["code"] == "not_listed"


async def test_a_disabled_subject_is_denied_at_once(caller: Caller) -> None:
    assert (await caller.post(ONE, READ)).body == {"decision": True}
    journal = caller.service.workspaces["default"].journal
    journal.append_shared(
        WORKSPACE_RUN, HoldSet(number=0, scope="user:alice", reason="laptop stolen", by=principal("lea"))
    )
    denied = await caller.post(ONE, READ)
    assert denied.body["decision"] is False
    assert denied.body["context"]["remit"]["code"] == "disabled"
    bob = {**READ, "subject": {"type": "user", "id": "bob"}}
    assert (await caller.post(ONE, bob)).body == {"decision": True}


async def test_every_decision_is_recorded_together_with_others_and_without_what_was_stated(caller: Caller) -> None:
    secret = {**READ, "resource": {"type": "record", "id": "record-1", "properties": {"owner": "SECRET"}}}
    await asyncio.gather(*(caller.post(ONE, secret) for _ in range(30)))
    await caller.post("/access/v1/search/subject", {**READ, "subject": {"type": "user"}})
    events = await recorded(caller)
    assert sum(len(event.decisions) for event in events) == 31
    assert len(events) < 10
    assert {event.by.subject for event in events} == {"service:records"}
    assert "SECRET" not in "".join(event.model_dump_json() for event in events)
    first, last = events[0].decisions[0], events[-1].decisions[-1]
    assert (first.subject, first.action, first.resource, first.allowed) == (
        "user:alice",
        "records.read",
        "record:record-1",
        True,
    )
    assert (last.subject, last.code, last.found) == ("user:", "search", 2)


async def test_no_decision_is_given_while_the_record_fails(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "TOGETHER_S", 0.01)
    write = given.note_act

    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(given, "note_act", fails)
    answers = [await _patiently(caller) for _ in range(40)]
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    assert {(answer.status, answer.code) for answer in refused} == {(503, "unrecorded")}
    monkeypatch.setattr(given, "note_act", write)
    later = [await _patiently(caller) for _ in range(40)]
    assert later[-1].body == {"decision": True}
    decided = sum(answer.status == 200 for answer in (*answers, *later))
    assert sum(len(event.decisions) for event in await recorded(caller)) == decided


async def _patiently(caller: Caller) -> Answer:
    await asyncio.sleep(0.01)
    return await caller.post(ONE, READ)


async def test_with_casbin_always_stock_casbin_is_asked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workspace(tmp_path, USERS)
    (folder / "remit.toml").write_text(TOML + '\n[policy]\ncasbin = "always"\n')
    async with serving(folder, authenticator=KNOWN) as opened:
        records = opened.as_("records")
        assert (await records.post(ONE, READ)).body == {"decision": True}
        monkeypatch.setattr(opened.service.workspaces["default"], "casbin_allows", lambda *_: False)
        denied = await records.post(ONE, READ)
        assert denied.body["decision"] is False
        assert denied.body["context"]["remit"]["code"] == "engines_disagree"
