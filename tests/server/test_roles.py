"""Every route × six roles × own and other runs: who gets an answer, and who gets 403 or 404."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from remit import AsyncRemit
from remit.broker import set_hold
from remit.core import Principal
from remit.server import ROUTES
from remit.workspace import open_session
from support.hooked import copy_pack
from support.principals import principal
from support.served import Caller, NamedPrincipals, person, serving

ROLES: Final = {
    "runner": "role:runner",
    "auditor": "role:auditor",
    "op": "role:operator",
    "lead": "role:oncall-lead",
    "reviewer": "role:reviewer",
    "owner": "role:data-owner",
}
CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}
ASKED: Final[Any] = {"agent": "triage", "action": "files.read", "arguments": {"path": "runbooks/payments-pool.md"}}
EVERYBODY: Final = "runner auditor op lead reviewer owner"
RUN: Final = "runner op lead"
READ: Final = "auditor op lead reviewer owner"
# Who gets more than 403 or 404, with an own run and with one of another person. What names no run is the same for both.
MAY: Final = {
    "POST /v1/decisions": (RUN, RUN),
    "POST /v1/calls": (RUN, RUN),
    "POST /v1/runs": (RUN, RUN),
    "GET /v1/runs": (EVERYBODY, EVERYBODY),
    "GET /v1/runs/{run}": (EVERYBODY, READ),
    "GET /v1/runs/{run}/events": (EVERYBODY, READ),
    "POST /v1/runs/{run}/resume": (RUN, "op lead"),
    "GET /v1/approvals": (EVERYBODY, EVERYBODY),
    "GET /v1/approvals/{run}/{call}": (EVERYBODY, EVERYBODY),  # the call only, for who may answer and not read
    "POST /v1/approvals/{run}/{call}/grant": ("", "lead"),
    "POST /v1/approvals/{run}/{call}/reject": ("", "lead"),
    "GET /v1/holds": (EVERYBODY, EVERYBODY),
    "POST /v1/holds": (RUN, "op lead"),
    "DELETE /v1/holds/{scope}": (RUN, "op lead"),
    "POST /v1/policy/explain": ("op lead", "op lead"),
    "POST /v1/policy/who": (READ, READ),
    "POST /v1/policy/can": (READ, READ),
    "POST /mcp/{agent}": (RUN, RUN),
    "GET /mcp/{agent}": (RUN, RUN),
    "DELETE /mcp/{agent}": (RUN, RUN),
    "POST /mcp/{agent}/{run}": (RUN, RUN),
    "GET /mcp/{agent}/{run}": (RUN, RUN),
    "DELETE /mcp/{agent}/{run}": (RUN, RUN),
    "POST /hooks/claude-code": (RUN, RUN),
    "POST /hooks/codex": (RUN, RUN),
    "GET /metrics": (READ, READ),
    "POST /v1/login-links": ("", ""),  # for accounts of this machine
}
BODIES: Final[dict[str, Any]] = {
    "POST /hooks/claude-code": {"hook_event_name": "SessionStart", "session_id": "s"},
    "POST /hooks/codex": {"hook_event_name": "SessionStart", "session_id": "s"},
    "POST /v1/decisions": ASKED,
    "POST /v1/calls": {**ASKED, "action": "tickets.list", "arguments": {}},
    "POST /v1/runs": {"agent": "triage", "task": "t", "scope": {"allow": [{"action": "nothing.here"}]}},
    "POST /v1/runs/{run}/resume": {},
    "POST /v1/approvals/{run}/{call}/grant": {"role": "role:oncall-lead"},
    "POST /v1/approvals/{run}/{call}/reject": {"reason": "no"},
    "POST /v1/policy/explain": ASKED,
    "POST /v1/policy/who": {"action": "files.read", "resource": "file:runbooks/a.md"},
    "POST /v1/policy/can": {"subject": "user:operator"},
    "POST /v1/login-links": {},
}


class Runs:
    """The service, and a run of each person that waits for approval, beside two of another one."""

    def __init__(self, caller: Caller, own: dict[str, str], other: dict[str, str]) -> None:
        self.caller = caller
        self._own = own
        self._other = other

    def run(self, role: str, place: str, route: str) -> str:
        return self._own[role] if place == "own" else self._other["reject" if "reject" in route else "grant"]

    async def status(self, role: str, place: str, route: str) -> int:
        method, _, path = route.partition(" ")
        run = self.run(role, place, route)
        body = {"scope": f"run:{run}", "reason": "r"} if route == "POST /v1/holds" else BODIES.get(route)
        journal = self.caller.service.workspaces["default"].journal
        if method == "DELETE" and f"run:{run}" not in journal.holds():
            set_hold(journal, f"run:{run}", why="a test", by=principal("operator"))
        path = path.replace("{run}", run).replace("{call}", "0.0").replace("{scope}", f"run:{run}")
        path = path.replace("{agent}", "triage")
        answer = await self.caller.as_(role).send(method, path, body)
        return answer.status


def people() -> dict[str, Principal]:
    return {name: person(name) for name in ROLES}


@pytest_asyncio.fixture
async def served(session: Path) -> AsyncIterator[Runs]:
    """The runs begin while everybody is an operator; then each person has one role."""
    for client in ("claude-code", "codex"):
        copy_pack(session, client)
    rules, policy, settings = (session / name for name in ("policies/rules.csv", "policies/remit.csv", "remit.toml"))
    names = ", ".join(f'"user:{name}"' for name in ROLES)
    settings.write_text(settings.read_text().replace("users = [", f"users = [{names}, "))
    before, open_rules = rules.read_text(), policy.read_text()
    rules.write_text(before + "".join(f"\ng, user:{name}, role:operator" for name in ROLES) + "\n")
    opened = open_session(session)
    own: dict[str, str] = {}
    for name, who in people().items():
        own[name] = (await AsyncRemit(opened, who).call("tickets.close", CLOSE, agent="triage")).run
    operator = AsyncRemit(opened, person("operator"))
    other = {verb: (await operator.call("tickets.close", CLOSE, agent="triage")).run for verb in ("grant", "reject")}
    opened.journal.close()
    rules.write_text(before)
    policy.write_text(open_rules + "".join(f"\ng, user:{name}, {role}" for name, role in ROLES.items()) + "\n")
    known = NamedPrincipals(*people().values())
    async with serving(session, authenticator=known) as caller:
        yield Runs(caller, own, other)


def test_the_table_has_every_route_that_needs_a_principal() -> None:
    """Routes below /access are for enforcement points, whatever their roles are."""
    asked = [row for row in ROUTES if row.handler is not None and not row.path.startswith("/access/")]
    assert {f"{row.method} {row.path}" for row in asked} == set(MAY)


async def test_each_route_answers_the_roles_of_the_table_and_no_other(served: Runs) -> None:
    differs: list[str] = []
    for route, allowed in MAY.items():
        for place, roles in zip(("own", "other"), allowed, strict=True):
            for role in sorted(
                ROLES, key=lambda name: name == "lead"
            ):  # the answer of the lead counts, and closes the request
                status = await served.status(role, place, route)
                if (status not in (403, 404)) != (role in roles.split()):
                    differs.append(f"{route}, {place} run, {role}: {status}")
    assert differs == []


@pytest.mark.parametrize("name", ["nobody", ""])
async def test_who_is_not_authenticated_gets_nothing_from_any_of_them(served: Runs, name: str) -> None:
    for route in MAY:
        method, _, path = route.partition(" ")
        answer = await served.caller.as_(name).send(method, path.replace("{", "").replace("}", ""), BODIES.get(route))
        assert answer.status == 401, route
