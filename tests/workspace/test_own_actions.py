"""Remit obeys its own rules: what people do with Remit itself is decided by the same rules and cases as the calls of agents."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from remit.client import Remit
from remit.core import Refusal
from remit.journal import RunQuery, list_runs
from remit.policy import Policy, load_policy
from remit.runtime import prunable, prune
from remit.runtime import runner as run
from remit.workspace import OWN_ACTIONS, OwnAction, approve_act, authorize, may, open_acts, open_session, run_resource
from support import ROOT
from support.lifecycle import LARGE, RUN, killed
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, Played, turn

PEOPLE: Final = {
    "runner": "role:runner",
    "auditor": "role:auditor",
    "op": "role:operator",
    "lead": "role:oncall-lead",
    "reviewer": "role:reviewer",
    "owner": "role:data-owner",
    "fire": "role:break-glass",
}
LINKS: Final = "g, role:oncall-lead, role:operator\n" + "".join(
    f"g, user:{name}, {role}\n" for name, role in [*PEOPLE.items(), ("second", "role:data-owner")]
)
READERS: Final = "auditor op lead reviewer owner"
# Who may do it with an own run, and with one of another person; for what is no run, both are the same.
MAY: Final[dict[OwnAction, tuple[str, str]]] = {
    "remit.run": ("runner op lead", "runner op lead"),
    "remit.resume": ("runner op lead", "op lead"),
    "remit.read": (f"runner {READERS}", READERS),
    "remit.hold": ("runner op lead", "op lead"),
    "remit.settle": ("op lead", "op lead"),
    "remit.approve": ("runner op lead", "runner op lead"),  # in the roles that the request asks for
    "remit.erase": ("owner", "owner"),
    "remit.publish": ("reviewer", "reviewer"),
    "remit.revoke": ("reviewer", "reviewer"),
    "remit.alert": ("op lead", "op lead"),
    "remit.rollout": ("reviewer", "reviewer"),
    "remit.impersonate": ("", ""),
    "remit.disable": ("op lead", "op lead"),
    "remit.keys": ("reviewer", "reviewer"),
    "remit.passkeys": ("op lead", "op lead"),
    "remit.policy": ("reviewer", "reviewer"),
}
OTHERWISE: Final = {
    "remit.run": "agent:triage",
    "remit.publish": "tool:files",
    "remit.revoke": "tool:files",
    "remit.alert": "agent:triage",
    "remit.rollout": "agent:triage",
    "remit.impersonate": "user:another",
    "remit.disable": "user:another",
    "remit.keys": "service:ci",
    "remit.passkeys": "user:another",
    "remit.policy": "policy:rules",
}


def policy_of(text: str) -> Policy:
    model = (ROOT / "policies/model.conf").read_bytes()
    return load_policy({"policies/model.conf": model, "policies/remit.csv": text.encode()})


@pytest.fixture(scope="module")
def rules() -> Policy:
    return policy_of((ROOT / "policies/remit.csv").read_text(encoding="utf-8") + LINKS)


@pytest.mark.parametrize("action", get_args(OwnAction))
@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("own", [True, False], ids=["own", "other"])
def test_each_action_is_open_to_the_roles_of_the_table_and_to_no_other(
    rules: Policy, action: OwnAction, person: str, own: bool
) -> None:
    resource = OTHERWISE.get(action, run_resource("agent:triage", own=own))
    expected = person in MAY[action][0 if own else 1].split()
    assert may(rules, principal(person), action, resource) == expected


def test_the_table_has_every_action() -> None:
    assert set(OWN_ACTIONS) == set(get_args(OwnAction)) == set(MAY)


def test_an_account_of_a_new_workspace_does_everything_but_act_for_others() -> None:
    starter = load_policy(
        {
            f"policies/{name}": (ROOT / "policies" / name).read_bytes()
            for name in ("model.conf", "rules.csv", "remit.csv")
        }
    )
    denied = {
        (action, own)
        for action in OWN_ACTIONS
        for own in (True, False)
        if not may(starter, OPERATOR, action, OTHERWISE.get(action, run_resource("agent:triage", own=own)))
    }
    assert denied == {("remit.impersonate", True), ("remit.impersonate", False)}


def test_an_action_that_no_row_names_is_open_unless_it_gives_more_than_one_has() -> None:
    nothing = policy_of("")
    opened = {action for action in OWN_ACTIONS if may(nothing, principal("ann"), action, "run:own/a")}
    assert opened == {name for name, is_open in OWN_ACTIONS.items() if is_open}
    assert set(OWN_ACTIONS) - opened == {
        "remit.rollout",
        "remit.impersonate",
        "remit.disable",
        "remit.keys",
        "remit.passkeys",
        "remit.policy",
    }
    one_row = policy_of("p, user:kim, remit.hold, **, True, allow\n")
    assert not may(one_row, principal("ann"), "remit.hold", "hold:all")
    denied = policy_of("p, user:ann, *, run:*/*, True, deny\n")
    assert not may(denied, principal("ann"), "remit.read", "run:own/a")
    assert may(denied, principal("ann"), "remit.run", "agent:a")


@pytest.mark.parametrize("row", ["remit.erase, run:**, True, allow", "remit.*, run:**, True, allow"])
def test_once_a_row_says_who_may_do_one_of_them_the_others_are_refused(row: str) -> None:
    policy = policy_of(f"p, user:kim, {row}\n")
    allowed = {action for action in OWN_ACTIONS if may(policy, principal("ann"), action, "run:own/a")}
    assert allowed == set()
    assert may(policy, principal("kim"), "remit.erase", "run:own/a")


@pytest.mark.parametrize("row", ["remit.rollout, agent:*, True, allow", "remit.erase, run:*/*, True, deny"])
def test_a_deny_or_the_right_to_open_rollouts_leaves_the_other_actions_open(row: str) -> None:
    policy = policy_of(f"p, user:ann, {row}\n")
    others = {"remit.run", "remit.read", "remit.hold", "remit.settle"}
    assert {action for action in OWN_ACTIONS if may(policy, principal("ann"), action, "run:own/a")} >= others


def test_a_refusal_says_who_may_not_do_what_by_which_rule() -> None:
    note = "# Nobody answers requests of their own runs"
    rules = policy_of(f"{note}\np, user:lead, remit.approve, run:own/*, True, deny\n")
    with pytest.raises(
        Refusal, match=r"user:lead may not approve this call: .*Nobody answers requests of their own runs"
    ):
        authorize(rules, principal("lead"), "remit.approve", "run:own/triage", "approve this call")


# ── every way in ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def deny(folder: Path, action: str, resource: str = "**") -> None:
    """A rule that denies one action of Remit to the account of the tests."""
    rules = folder / "policies/rules.csv"
    rules.write_text(rules.read_text(encoding="utf-8") + f"p, user:operator, {action}, {resource}, True, deny\n")


@pytest.fixture
def ended(play: Play) -> Played:
    return play([turn(ledger__look={"name": "ann"}), DONE])


READS: Final[list[Callable[[str], tuple[str, ...]]]] = [
    lambda name: ("trace", "show", name),
    lambda name: ("trace", "export", name, "-o", "out.jsonl"),
    lambda name: ("trace", "verify", name),
    lambda name: ("replay", name),
]


def test_who_may_not_read_a_run_reads_it_nowhere(ended: Played, command: Command) -> None:
    deny(ended.folder, "remit.read", "run:own/*")
    name = ended.ended.run[:8]
    for read in READS:
        result = command(ended.folder, *read(name))
        assert (result.code, "user:operator may not read run" in result.err) == (1, True), (read(name), result)
    assert command(ended.folder, "trace", "list").out == "no runs yet\n"
    client = Remit.open(ended.folder)
    assert client.runs() == ()
    with pytest.raises(Refusal, match="may not read run"):
        client.trace(name)


def test_who_may_not_run_starts_and_resumes_nothing(play: Play, clerk: Callable[..., Path]) -> None:
    played = play(LARGE)
    deny(played.folder, "remit.run", "agent:clerk")
    deny(played.folder, "remit.resume", "run:*/*")
    opened = open_session(played.folder)
    before = sorted(row.run for row in list_runs(opened.journal, RunQuery()))
    request = run.RunRequest(
        agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=run.open_model_of(opened, "clerk")
    )
    with pytest.raises(Refusal, match="may not run agent 'clerk'"):
        asyncio.run(run.start_run(opened, request))
    events = len(opened.journal.events(played.ended.run))
    with pytest.raises(Refusal, match="may not resume run"):
        asyncio.run(run.resume_run(opened, played.ended.run, by=OPERATOR))
    assert sorted(row.run for row in list_runs(opened.journal, RunQuery())) == before
    assert len(opened.journal.events(played.ended.run)) == events


def test_who_may_not_hold_settle_approve_or_erase_does_none_of_it(clerk: Callable[..., Path], command: Command) -> None:
    folder = clerk([turn(ledger__pay={"name": "ann", "amount": 5}), DONE])
    killed(folder, "attempt.begun")
    for action in ("remit.hold", "remit.settle", "remit.approve", "remit.erase", "remit.alert", "remit.publish"):
        deny(folder, action)
    refused: dict[str, Any] = {
        "hold run:": ("stop", RUN, "--reason", "x"),
        "hold tool:ledger": ("stop", "--tool", "ledger", "--reason", "x"),
        "hold all": ("stop", "--all", "--reason", "x"),
        "lift the hold on all": ("start", "--all"),
        "settle an effect": ("settle", RUN, "--landed", "--reason", "x"),
        "close the alert": ("alert", "close", "drift:clerk:cost"),
        "pin 'ledger'": ("tool", "pin", "ledger"),
    }
    for what, arguments in refused.items():
        result = command(folder, *arguments)
        assert (result.code, re.search(f"user:operator may not {what}", result.err) is not None) == (1, True), result
    opened = open_session(folder)
    assert opened.journal.holds() == {}


def test_a_run_is_erased_or_deleted_only_by_who_may(ended: Played, command: Command) -> None:
    deny(ended.folder, "remit.erase", "run:own/clerk")
    result = command(ended.folder, "trace", "erase", ended.ended.run[:8], "--yes")
    assert (result.code, "may not erase run" in result.err) == (1, True), result
    opened = open_session(ended.folder)
    with pytest.raises(Refusal, match="may not delete run"):
        prune(opened, prunable(opened, 0), by=OPERATOR)
    assert opened.journal.events(ended.ended.run)[0].event is not None


# ── a second person ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def owned(ended: Played) -> Played:
    """Erasing needs a second data owner; the account of the tests is one, and so are Lea and Leo."""
    rules = ended.folder / "policies/rules.csv"
    owners = "".join(f"g, user:{name}, role:owner\n" for name in ("operator", "lea"))
    row = "p, role:owner, remit.erase, run:*/*, approved('role:owner'), allow\n"
    row += "p, role:owner, remit.read, run:*/*, True, allow\n"
    rules.write_text(rules.read_text(encoding="utf-8") + row + owners, encoding="utf-8")
    return ended


def test_an_act_that_needs_a_second_person_happens_once_after_their_approval(owned: Played, command: Command) -> None:
    run_id = owned.ended.run[:8]
    erase = ("trace", "erase", run_id, "--yes")
    refused = command(owned.folder, *erase)
    assert (refused.code, "once other people approve it: 1 × role:owner" in refused.err) == (1, True), refused
    opened = open_session(owned.folder)
    (act,) = open_acts(opened.journal)
    assert (act.what, act.by.subject) == (f"erase run {run_id}", "user:operator")
    assert f"wants to erase run {run_id}" in command(owned.folder, "approve", "list").out
    own = command(owned.folder, "approve", "act", act.act[:8])
    assert (own.code, "must be another person" in own.err) == (1, True), own
    with pytest.raises(Refusal, match="needs role:owner"):
        approve_act(opened.policy, opened.journal, act.act, principal("leo"))
    assert command(owned.folder, *erase).code == 1
    assert approve_act(opened.policy, opened.journal, act.act[:8], principal("lea")).role == "role:owner"
    with pytest.raises(Refusal, match="already approved"):
        approve_act(opened.policy, opened.journal, act.act, principal("lea"))
    assert command(owned.folder, *erase).code == 0
    assert opened.journal.events(owned.ended.run)[0].event is None
    assert open_acts(opened.journal) == []


def test_an_approval_of_one_act_counts_for_no_other_person_words_or_second_time(owned: Played) -> None:
    opened = open_session(owned.folder)

    def erase(who: str, run: str) -> None:
        authorize(
            opened.policy, principal(who), "remit.erase", "run:own/clerk", f"erase run {run}", journal=opened.journal
        )

    with pytest.raises(Refusal, match="once other people approve it"):
        erase("operator", "a")
    approve_act(opened.policy, opened.journal, open_acts(opened.journal)[0].act, principal("lea"))
    for who, run_id in (("lea", "a"), ("operator", "b")):
        with pytest.raises(Refusal, match="once other people approve it"):
            erase(who, run_id)
    erase("operator", "a")
    with pytest.raises(Refusal, match="once other people approve it"):
        erase("operator", "a")


def test_an_approval_of_an_act_ends_with_the_role_of_who_gave_it(owned: Played) -> None:
    opened = open_session(owned.folder)
    by = principal("operator")

    def erase(policy: Policy) -> None:
        authorize(policy, by, "remit.erase", "run:own/clerk", "erase run a", journal=opened.journal)

    with pytest.raises(Refusal, match="once other people approve it"):
        erase(opened.policy)
    approve_act(opened.policy, opened.journal, open_acts(opened.journal)[0].act, principal("lea"))
    rules = owned.folder / "policies/rules.csv"
    text = rules.read_text(encoding="utf-8")
    rules.write_text(text.replace("g, user:lea, role:owner\n", "g, user:leo, role:owner\n"), encoding="utf-8")
    with pytest.raises(Refusal, match="once other people approve it"):
        erase(open_session(owned.folder).policy)
