"""Every list of the service is read in pages, in the same way, and a page has only what its reader may see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, get_args, get_origin
from urllib.parse import quote

import pytest
import pytest_asyncio
from pydantic import BaseModel

from remit.client import requests
from remit.core import FrozenModel
from remit.server import ROUTES
from support.served import Caller, serving

CLOSE: Final[Any] = {
    "agent": "triage",
    "action": "tickets.close",
    "arguments": {"key": "INC-2041", "reason": "fixed"},
}
BAD: Final = ("limit=0", "limit=201", "limit=x", "cursor=", "cursor=%00", f"cursor={'9' * 30}.a.1", "nothing=1")


@pytest_asyncio.fixture
async def caller(session: Path) -> AsyncIterator[Caller]:
    """Zoe starts runs and reads her own: nothing else is for her."""
    rules, own, settings = (session / name for name in ("policies/rules.csv", "policies/remit.csv", "remit.toml"))
    rules.write_text(rules.read_text() + "\n# Zoe closes tickets\np, user:zoe, tickets.*, **, True, allow\n")
    for act, resource in (("remit.run", "agent:*"), ("remit.read", "run:own/*")):
        own.write_text(own.read_text() + f"\n# Zoe\np, user:zoe, {act}, {resource}, True, allow\n")
    settings.write_text(settings.read_text().replace("users = [", 'users = ["user:zoe", '))
    async with serving(session) as opened:
        yield opened


def models(answer: object) -> set[type[BaseModel]]:
    found = [item for item in (answer, *get_args(answer)) if isinstance(item, type) and issubclass(item, BaseModel)]
    return set(found)


def is_list(model: type[BaseModel]) -> bool:
    """True for what holds other views and nothing else of its own."""
    holds = [
        field.annotation
        for field in model.model_fields.values()
        if get_origin(field.annotation) is tuple
        and any(isinstance(item, type) and issubclass(item, FrozenModel) for item in get_args(field.annotation))
    ]
    return bool(holds) and len(model.model_fields) <= 2


def test_every_route_that_answers_with_a_list_takes_a_limit_and_has_a_next() -> None:
    lists = [row for row in ROUTES for model in models(row.answer) if is_list(model)]
    assert {row.path for row in lists if not row.path.startswith("/access/")} == {
        "/v1/runs",
        "/v1/runs/{run}/events",
        "/v1/approvals",
        "/v1/holds",
        "/v1/policy/who",
        "/v1/policy/can",
    }
    for row in lists:
        if row.path.startswith("/access/"):  # AuthZEN says how its pages are read
            continue
        (answer,) = models(row.answer)
        asked = row.query or row.body
        assert asked is not None
        assert "next" in answer.model_fields, row.path
        assert "limit" in asked.model_fields, row.path
        assert {"cursor", "after"} & set(asked.model_fields), row.path


async def closes(caller: Caller) -> str:
    """A call that waits for an approval. Returns its name."""
    asked = await caller.post("/v1/calls", CLOSE)
    assert asked.status == 202, asked.body
    name: str = asked.body["approval"]["id"]
    return name


async def read_all(caller: Caller, path: str, name: str, limit: int = 2) -> list[Any]:
    """The items of every page."""
    found: list[Any] = []
    cursor = ""
    for _ in range(40):
        page = (await caller.get(f"{path}?limit={limit}{cursor}")).value
        assert len(page[name]) <= limit
        found += page[name]
        if page["next"] is None:
            return found
        cursor = f"&cursor={quote(page['next'])}"
    raise AssertionError("the pages do not end")


async def test_requests_are_listed_in_pages_each_once_the_oldest_first_and_only_those_that_one_may_see(
    caller: Caller,
) -> None:
    asked = [await closes(caller) for _ in range(5)]
    other = await closes(caller.as_("zoe"))
    assert [item["id"] for item in await read_all(caller.as_("dana"), "/v1/approvals", "approvals")] == [*asked, other]
    assert [item["id"] for item in await read_all(caller.as_("zoe"), "/v1/approvals", "approvals")] == [other]
    assert await read_all(caller.as_("bot"), "/v1/approvals", "approvals") == []
    whole = (await caller.as_("dana").get("/v1/approvals")).value
    assert (len(whole["approvals"]), whole["next"]) == (6, None)
    for query in BAD:
        assert (await caller.get(f"/v1/approvals?{query}")).code == "invalid_request", query


async def test_a_page_of_requests_costs_no_more_than_its_bound_and_the_next_one_goes_on(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where most requests are not for the reader, whose cursors name none of those."""
    monkeypatch.setattr(requests, "MOST_READ", 2)
    hidden = [(await closes(caller)).partition("/")[0] for _ in range(4)]
    seen = [await closes(caller.as_("zoe")) for _ in range(3)]
    cursors, found, cursor = [], [], ""
    while True:
        page = (await caller.as_("zoe").get(f"/v1/approvals?limit=10{cursor}")).value
        found += [item["id"] for item in page["approvals"]]
        if page["next"] is None:
            break
        cursors.append(page["next"])
        cursor = f"&cursor={page['next']}"
    assert found == seen
    assert len(cursors) >= 3
    assert not [run for run in hidden for place in cursors if run in place]


async def test_holds_are_listed_in_pages_by_scope(caller: Caller) -> None:
    dana = caller.as_("dana")
    scopes = ["agent:triage", "all", "tool:files", "tool:http", "tool:tickets"]
    for scope in reversed(scopes):
        assert (await dana.post("/v1/holds", {"scope": scope, "reason": "an audit"})).status == 200
    assert [item["scope"] for item in await read_all(dana, "/v1/holds", "holds")] == scopes
    for query in BAD:
        assert (await caller.get(f"/v1/holds?{query}")).code == "invalid_request", query


async def test_events_are_read_in_pages_of_the_size_that_the_reader_names(caller: Caller) -> None:
    run = (await caller.post("/v1/calls", CLOSE)).body["run"]
    whole = (await caller.get(f"/v1/runs/{run}/events")).value["events"]
    after, found = -1, []
    while (page := (await caller.get(f"/v1/runs/{run}/events?limit=2&after={after}")).value)["next"] is not None:
        assert len(page["events"]) <= 2
        found += page["events"]
        after = page["next"]
    assert found[: len(whole)] == whole
    assert (await caller.get(f"/v1/runs/{run}/events?limit=201")).code == "invalid_request"


@pytest.mark.parametrize(
    ("path", "name", "body"),
    [
        ("/v1/policy/who", "holders", {"action": "tickets.close", "resource": "ticket:INC-7"}),
        ("/v1/policy/can", "permissions", {"subject": "agent:triage"}),
    ],
)
async def test_what_the_rules_say_is_read_in_pages_of_the_same_rules(
    caller: Caller, session: Path, path: str, name: str, body: Any
) -> None:
    whole = (await caller.post(path, body)).value
    assert whole["next"] is None
    found: list[Any] = []
    asked = {**body, "limit": 2}
    while True:
        page = (await caller.post(path, asked)).value
        found += page[name]
        if page["next"] is None:
            break
        asked["cursor"] = page["next"]
    assert found == whole[name]
    assert "cursor" in asked, "there are several pages"
    rules = session / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "p, agent:triage, files.read, file:runbooks/**, True, deny\n")
    while (changed := await caller.post(path, asked)).status == 200:
        await asyncio.sleep(0.05)
    assert (changed.status, changed.code) == (409, "conflict")
