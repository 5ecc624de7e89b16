"""What people do by the service: read runs, answer requests, hold, and ask about the rules; and what others see of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import schemathesis

from remit.core.events import ApprovalGranted, ContentRead, HoldSet
from remit.journal import WORKSPACE_RUN
from remit.server.handlers.calls import ApprovalView
from support.served import Caller, listening, serving

READ: Final[Any] = {
    "agent": "triage",
    "action": "files.read",
    "arguments": {"path": "runbooks/payments-pool.md", "lines": 1},
}
CLOSE: Final[Any] = {
    "agent": "triage",
    "action": "tickets.close",
    "arguments": {"key": "INC-2041", "reason": "fixed"},
}
TASK: Final = {"agent": "triage", "task": "Checkout is failing: find out why"}


@pytest_asyncio.fixture
async def caller(session: Path) -> AsyncIterator[Caller]:
    async with serving(session) as opened:
        yield opened


async def test_one_person_asks_another_approves_and_the_call_goes_on_by_itself(caller: Caller) -> None:
    waiting = asyncio.create_task(caller.post("/v1/calls", {**CLOSE, "wait": 50}))
    dana, zoe = caller.as_("dana"), caller.as_("zoe")
    while not (found := (await dana.get("/v1/approvals")).value["approvals"]):
        await asyncio.sleep(0.05)
    place = found[0]["id"]
    assert "INC-2041" in found[0]["summary"]
    own = await caller.post(f"/v1/approvals/{place}/grant", {})
    assert (own.status, own.code) == (403, "approval_invalid")
    assert (await zoe.get(f"/v1/approvals/{place}")).status == 404, "who may neither answer nor read"
    assert (await zoe.post(f"/v1/approvals/{place}/grant", {})).status == 404
    assert not (await zoe.get("/v1/approvals")).value["approvals"]
    granted = await dana.post(f"/v1/approvals/{place}/grant", {})
    assert (granted.status, granted.value["approver"], granted.value["role"]) == (
        200,
        "user:dana",
        "role:oncall-lead",
    )
    done = await waiting
    error = done.body[
        "error"
    ]  # the ticket system of the example is busy the first time: the call ran once it was approved
    assert (done.status, error["details"]["error"], error["attempts"]) == (502, "busy", 1)
    events = caller.service.workspaces["default"].journal.events(done.body["run"])
    (event,) = [item.event for item in events if isinstance(item.event, ApprovalGranted)]
    assert (event.by.subject, event.by.authenticated) == ("user:dana", "oidc")


async def test_a_rejected_call_ends_with_the_reason(caller: Caller) -> None:
    asked = await caller.post("/v1/calls", CLOSE, key="one")
    place = asked.body["approval"]["id"]
    assert (await caller.as_("dana").post(f"/v1/approvals/{place}/reject", {})).status == 400, "a reason is needed"
    assert (await caller.as_("dana").post(f"/v1/approvals/{place}/reject", {"reason": "wrong ticket"})).status == 200
    driven = caller.service.workspaces["default"].driven.get(asked.body["run"])
    if driven is not None:
        await driven.until_ended(30)
    again = await caller.post("/v1/calls", CLOSE, key="one")
    assert (again.status, again.code) == (403, "approval_rejected")


async def test_the_content_of_a_run_is_not_found_for_who_may_not_read_it(caller: Caller) -> None:
    run = (await caller.post("/v1/calls", READ)).body["run"]
    missing = await caller.as_("mara").get(f"/v1/runs/{'0' * 32}")
    for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/events", f"/v1/runs/{run[:8]}"):
        hidden = await caller.as_("mara").get(path)
        assert (hidden.status, hidden.body) == (404, missing.body), "like a run that does not exist"
        assert (await caller.as_("dana").get(path)).status == 200
    hidden = await caller.as_("mara").post(f"/v1/runs/{run}/resume", {})
    assert (hidden.status, hidden.body) == (404, missing.body)
    hidden = await caller.as_("mara").post("/v1/holds", {"scope": f"run:{run}", "reason": "x"})
    assert (hidden.status, hidden.body) == (404, missing.body)


async def test_runs_are_listed_in_pages_that_have_each_once_and_only_what_one_may_read(caller: Caller) -> None:
    started = {(await caller.post("/v1/calls", READ)).body["run"] for _ in range(5)}
    own = (await caller.as_("mara").post("/v1/calls", READ)).body["run"]
    path, seen = "/v1/runs?limit=2&agent=triage", []
    cursor = ""
    for _ in range(10):
        page = (await caller.get(path + cursor)).value
        seen += [row["run"] for row in page["runs"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(seen) == len(set(seen))
    assert set(seen) == started | {own}
    mine = (await caller.as_("mara").get("/v1/runs")).value["runs"]
    assert [row["run"] for row in mine] == [own]
    assert (await caller.get("/v1/runs?limit=0")).code == "invalid_request"
    assert (await caller.get("/v1/runs?limit=1&limit=2")).code == "invalid_request"
    assert (await caller.get("/v1/runs?nothing=1")).code == "invalid_request"
    for cursor in ("a.b", "9223372036854775808.a", "79773337615080341820.a"):  # beyond what a database holds
        assert (await caller.get(f"/v1/runs?cursor={cursor}")).code == "invalid_request"


async def test_an_approver_who_may_not_read_a_run_gets_the_call_and_none_of_its_content(session: Path) -> None:
    rules = session / "policies" / "remit.csv"
    rules.write_text(rules.read_text() + "\n# Dana reads nothing\np, user:dana, remit.read, **, True, deny\n")
    async with serving(session) as caller:
        asked = (await caller.post("/v1/calls", CLOSE)).body
        run, name, dana = asked["run"], asked["approval"]["id"], caller.as_("dana")
        missing = await dana.get(f"/v1/runs/{'0' * 32}")
        for path in (f"/v1/runs/{run}", f"/v1/runs/{run}/events", f"/v1/runs/{run[:8]}"):
            hidden = await dana.get(path)
            assert (hidden.status, hidden.body) == (404, missing.body), path
        assert (await dana.get("/v1/runs")).value["runs"] == []
        shown = (await dana.get(f"/v1/approvals/{name}")).value
        assert (await dana.get("/v1/approvals")).value["approvals"] == [shown]
        assert "INC-2041" in shown["summary"]
        assert set(shown) == set(ApprovalView.model_fields), "the call, and nothing else of its run"
        assert (await dana.post(f"/v1/approvals/{name}/grant", {})).status == 200


async def test_pages_of_events_continue_where_the_last_one_ended_and_reading_is_recorded(caller: Caller) -> None:
    run = (await caller.post("/v1/calls", READ)).body["run"]
    journal = caller.service.workspaces["default"].journal
    page = (await caller.as_("dana").get(f"/v1/runs/{run}/events")).value
    assert [item["seq"] for item in page["events"]] == list(range(len(journal.events(run))))
    assert page["events"][0]["event"]["by"]["subject"] == "user:operator"
    rest = (await caller.as_("dana").get(f"/v1/runs/{run}/events?after=2")).value
    assert rest["events"] == page["events"][3:]
    assert (await caller.get(f"/v1/runs/{run}/events?after={page['next']}")).value == {"events": [], "next": None}
    reads = [item.event for item in journal.events(WORKSPACE_RUN) if isinstance(item.event, ContentRead)]
    assert [(item.by.subject, item.run) for item in reads] == [("user:dana", run), ("user:operator", run)]


async def test_who_begins_in_the_middle_of_a_run_is_recorded_as_its_reader_once(caller: Caller) -> None:
    run = (await caller.post("/v1/calls", READ)).body["run"]
    for after in (0, 1, 2):
        assert (await caller.as_("dana").get(f"/v1/runs/{run}/events?after={after}")).status == 200
    events = [item.event for item in caller.service.workspaces["default"].journal.events(WORKSPACE_RUN)]
    assert [event.by.subject for event in events if isinstance(event, ContentRead)] == ["user:dana"]


async def test_a_hold_stops_new_calls_until_it_is_lifted_and_names_who_set_it(caller: Caller) -> None:
    dana = caller.as_("dana")
    assert (await caller.as_("mara").post("/v1/holds", {"scope": "all", "reason": "x"})).status == 403
    held = await dana.post("/v1/holds", {"scope": "tool:files", "reason": "an audit"})
    assert (held.status, held.value) == (200, {"scope": "tool:files", "reason": "an audit", "by": "user:dana"})
    assert (await caller.get("/v1/holds")).value["holds"] == [held.value]
    refused = await caller.post("/v1/calls", READ)
    assert (refused.status, refused.code) == (423, "held")
    assert (await dana.send("DELETE", "/v1/holds/tool:files")).value == {"scope": "tool:files"}
    assert (await dana.send("DELETE", "/v1/holds/tool:files")).status == 404
    assert (await caller.post("/v1/calls", READ)).status == 200
    events = caller.service.workspaces["default"].journal.events(WORKSPACE_RUN)
    assert [item.event.by.subject for item in events if isinstance(item.event, HoldSet)] == ["user:dana"]


async def test_the_rules_are_explained_to_who_may_read_every_run(caller: Caller) -> None:
    secret = {**READ, "arguments": {"path": "secrets/payments.env"}}
    explained = (await caller.post("/v1/policy/explain", secret)).value
    assert explained["decision"]["verdict"] == "deny"
    assert explained["resources"] == ["read file:secrets/payments.env"]
    assert "denies" in {line["says"] for line in explained["rules"]}
    closing = {"action": "tickets.close", "resource": "ticket:INC-7"}
    holders = (await caller.post("/v1/policy/who", closing)).value["holders"]
    assert "user:dana" in {item["subject"] for item in holders}
    can = (await caller.post("/v1/policy/can", {"subject": "agent:triage"})).value["permissions"]
    assert {"files.*", "files.read"} & {item["action"] for item in can}
    for path, body in (
        ("/v1/policy/explain", secret),
        ("/v1/policy/who", closing),
        ("/v1/policy/can", {"subject": "agent:triage"}),
    ):
        assert (await caller.as_("mara").post(path, body)).status == 403
    assert (await caller.post("/v1/policy/can", {"subject": "agent:nobody"})).status == 404


@pytest.mark.parametrize(
    ("path", "body", "near"),
    [
        ("/v1/calls", {**READ, "agent": "trige"}, "triage"),
        ("/v1/decisions", {**READ, "agent": "trige"}, "triage"),
        ("/v1/runs", {**TASK, "agent": "trige"}, "triage"),
        ("/v1/policy/explain", {**READ, "agent": "trige"}, "triage"),
        ("/v1/policy/who", {"action": "files.raed", "resource": "file:a"}, "files.read"),
        ("/v1/policy/can", {"subject": "agent:trige"}, "agent:triage"),
    ],
)
async def test_a_misspelled_name_is_answered_with_the_near_one(caller: Caller, path: str, body: Any, near: str) -> None:
    refused = await caller.post(path, body)
    assert (refused.status, refused.body["error"]["next_step"]) == (404, f"did you mean {near}?")


async def test_who_may_not_start_an_agent_does_not_learn_that_it_exists(session: Path) -> None:
    """The answers for a forbidden agent and for one that is not there are the same, and name those alone that may be started."""
    rules = session / "policies/remit.csv"
    every = "p, role:runner, remit.run, agent:*, True, allow"
    assert every in rules.read_text()
    rules.write_text(rules.read_text().replace(every, every.replace("agent:*", "agent:support")))
    async with serving(session) as caller:
        for path, asked in (("/v1/calls", READ), ("/v1/runs", TASK)):
            errors = {
                name: (await caller.post(path, {**asked, "agent": name})).body["error"]
                for name in ("triage", "trige", "supprt")
            }
            assert (errors["triage"]["code"], errors["triage"]) == ("forbidden", errors["trige"])
            assert "triage" not in str(list(errors.values()))
            assert errors["supprt"]["next_step"] == "did you mean support?"


async def test_metrics_are_those_of_the_workspace_and_for_who_may_read_every_run(caller: Caller) -> None:
    await caller.post("/v1/calls", CLOSE)
    shown = await caller.get("/metrics")
    assert shown.status == 200
    assert "remit_approvals" in shown.body
    assert (await caller.as_("mara").get("/metrics")).status == 403


async def test_the_document_is_openapi_and_describes_every_route(caller: Caller) -> None:
    document = (await caller.get("/openapi.json")).body
    schemathesis.openapi.from_dict(document).validate()
    assert document["openapi"] == "3.1.0"
    ids = [item["operationId"] for path in document["paths"].values() for item in path.values()]
    assert len(ids) == len(set(ids))


def messages(text: str) -> list[tuple[int, str, Any]]:
    """The events of a stream: number, type, data."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and line[0] != ":")
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def test_a_stream_has_every_event_once_in_order_and_ends_with_the_run(session: Path) -> None:
    async with listening(session) as caller:
        run = (await caller.post("/v1/runs", TASK)).value["run"]

        async def listen(**headers: str) -> list[tuple[int, str, Any]]:
            async with caller.stream(f"/v1/runs/{run}/events", **headers) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                return messages((await answer.aread()).decode())

        received, again = await asyncio.wait_for(asyncio.gather(listen(), listen()), 60)
        assert received == again
        assert [seq for seq, _, _ in received] == list(range(len(received)))
        assert received[-1][1] == "run.finished"
        assert len(received) == len(caller.service.workspaces["default"].journal.events(run))
        rest = await listen(**{"last-event-id": "4"})
        assert rest == received[5:]


async def test_a_service_that_ends_ends_its_streams_and_leaves_the_run_to_be_resumed(session: Path) -> None:
    async with listening(session) as caller:
        asked = await caller.post("/v1/calls", CLOSE)
        run = asked.body["run"]
        got = asyncio.Event()

        async def listen() -> str:
            text = ""
            async with caller.stream(f"/v1/runs/{run}/events") as answer:
                async for part in answer.aiter_text():
                    text += part
                    if "approval.requested" in text:
                        got.set()
            return text

        listener = asyncio.create_task(listen())
        await asyncio.wait_for(got.wait(), 30)
        caller.service.ending.set()
        assert "run.finished" not in await asyncio.wait_for(listener, 30)
    async with serving(session) as caller:
        shown = (await caller.get(f"/v1/runs/{run}")).value
        assert shown["state"] == "waiting", "its lease was given back"
        assert [item["run"] for item in (await caller.as_("dana").get("/v1/approvals")).value["approvals"]] == [run]
        place = asked.body["approval"]["id"]
        assert (await caller.as_("dana").post(f"/v1/approvals/{place}/grant", {})).status == 200
        resumed = await caller.post(f"/v1/runs/{run}/resume", {"wait": 30})
        assert (resumed.status, resumed.value["outcome"]) == (200, "completed")
        assert (await caller.post(f"/v1/runs/{run}/resume", {})).code == "conflict"


async def test_who_loses_the_right_to_read_receives_nothing_more(session: Path) -> None:
    async with listening(session) as caller:
        run = (await caller.post("/v1/calls", CLOSE)).body["run"]
        async with caller.as_("dana").stream(f"/v1/runs/{run}/events") as answer:
            rules = session / "policies" / "remit.csv"
            rules.write_text(rules.read_text() + "\n# Dana reads nothing\np, user:dana, remit.read, **, True, deny\n")
            reading = asyncio.create_task(answer.aread())
            assert (await asyncio.wait({reading}, timeout=10))[0], "the stream goes on"
            text = reading.result()
        assert b"approval.requested" in text
        assert b"run.finished" not in text


async def test_a_stream_that_is_refused_is_no_reading(session: Path) -> None:
    settings = session / "remit.toml"
    settings.write_text(settings.read_text() + "\n[serve]\nlisteners = 1\n")
    async with listening(session) as caller:
        run = (await caller.post("/v1/calls", CLOSE)).body["run"]
        dana = caller.as_("dana")
        async with caller.stream(f"/v1/runs/{run}/events") as first:
            texts = first.aiter_text()  # kept: without a reference, it closes the stream
            await anext(texts)
            async with dana.stream(f"/v1/runs/{run}/events") as second:
                assert second.status_code == 429
        events = [item.event for item in caller.service.workspaces["default"].journal.events(WORKSPACE_RUN)]
        assert [event.by.subject for event in events if isinstance(event, ContentRead)] == ["user:operator"]


@pytest.mark.parametrize("given", ["x", "-1", "1" * 20])
async def test_a_last_event_id_that_is_no_number_is_refused(session: Path, given: str) -> None:
    async with listening(session) as caller:
        run = (await caller.post("/v1/calls", READ)).body["run"]
        async with caller.stream(f"/v1/runs/{run}/events", **{"last-event-id": given}) as answer:
            assert answer.status_code == 400
