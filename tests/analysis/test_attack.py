"""`remit attack`: what an untrusted text could make an agent do, on the starter, on the open rules, and on weakened copies of both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.analysis.attacks.accepted import Acceptance, read_accepted
from remit.analysis.attacks.report import AttackReport, Way
from remit.analysis.attacks.trying import attack_agent
from remit.analysis.attacks.values import MOST_CALLS, MOST_VALUES, PLAIN, Material, calls_of
from remit.core.errors import WorkspaceError
from remit.workspace.manifest.manifest import Action
from remit.workspace.session import open_session
from support import TESTS
from support.principals import OPERATOR
from support.runs import Remit
from support.workspaces.ledger import pin
from support.workspaces.mailbox import mailbox_workspace

# What the starter lets through on purpose: people read the reports and the tickets as the agent's work.
ACCEPTED = """# People read reports as the agent's work
files.write, file:reports/**
# One ticket a run, which the on-call engineer reads
tickets.create, ticket:INC-*
# Comments can be deleted
tickets.comment, ticket:INC-*
"""
STARTER = ("files.write", "tickets.comment", "tickets.create")
RULES = "policies/rules.csv"


def attacked(folder: Path, agent: str = "triage", accept: str = "") -> AttackReport:
    session = open_session(folder)
    lines: Sequence[Acceptance] = read_accepted(
        accept, file="accepted.csv", actions=session.workspace.agent(agent).actions
    )
    return asyncio.run(attack_agent(session, agent, user="user:operator", by=OPERATOR, accepted=lines))


def replaced(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    assert text.count(old) == 1, (file, old)
    (folder / file).write_text(text.replace(old, new))


def actions_of(ways: Sequence[Way]) -> list[str]:
    return sorted({way.action for way in ways})


def stop_all(folder: Path, report: AttackReport) -> None:
    """Paste the rules that the report prints."""
    with (folder / RULES).open("a") as rules:
        rules.write("\n" + "\n".join(dict.fromkeys(way.stop for way in report.ways)))


# ── the starter ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_starter_shows_what_gets_through_with_its_steps_its_rules_and_the_rule_that_stops_it(session: Path) -> None:
    report = attacked(session)
    assert (report.ok, actions_of(report.ways), report.untried) == (False, list(STARTER), ())
    assert report.actions == ("files.write", "tickets.create", "tickets.comment", "tickets.close")
    comment = next(way for way in report.ways if way.action == "tickets.comment")
    (read,) = comment.reads
    assert (read.action, read.labels, read.assumed) == ("files.read", ("untrusted",), False)
    assert (comment.target, comment.resources) == ("attacker", ("ticket:INC-mallory",))
    assert "Triage comments on incident tickets" in [rule.note for rule in comment.rules]
    assert comment.stop.splitlines()[1] == (
        "p, agent:triage, tickets.comment, ticket:INC-*, "
        "'untrusted' in labels and not named_by_user and not approved('role:oncall-lead'), deny"
    )


def test_the_printed_rules_stop_every_attack_and_leave_what_the_user_named(remit: Remit, session: Path) -> None:
    stop_all(session, attacked(session))
    assert remit("policy", "check").code == 0
    report = attacked(session)
    assert (report.ok, actions_of(report.ways)) == (True, [])
    explain = ("policy", "explain", "tickets.comment", "ticket:INC-7", "--agent", "triage", "--user", "operator")
    assert remit(*explain, "--label", "untrusted").out.startswith("ask")
    assert remit(*explain, "--label", "untrusted", "--named-by-user").out.startswith("allow")


def test_accepted_calls_do_not_fail_and_a_line_that_accepts_nothing_is_named(session: Path) -> None:
    report = attacked(session, accept=ACCEPTED)
    assert (report.ok, actions_of(report.accepted), report.unused) == (True, list(STARTER), ())
    replaced(session, RULES, "p, agent:triage, files.write, file:reports/**, len(args.text) <= 20000, allow", "")
    report = attacked(session, accept=ACCEPTED)
    assert (report.ok, [line.action for line in report.unused]) == (True, ["files.write"])


WEAKENED = {
    "closing a ticket asks nobody": (
        "tickets.close, ticket:INC-*, approved('role:oncall-lead'), allow",
        "tickets.close, ticket:INC-*, True, allow",
        "tickets.close",
        "ticket:INC-mallory",
    ),
    "comments go to any ticket": (
        "tickets.comment, ticket:INC-*, True, allow",
        "tickets.comment, ticket:*, True, allow",
        "tickets.comment",
        "ticket:mallory-ticket",
    ),
    "a second rule lets every ticket be created": (
        "# --- roles ---",
        "# Any ticket\np, agent:triage, tickets.create, ticket:OPS-*, True, allow",
        "tickets.create",
        "ticket:OPS-mallory",
    ),
}


@pytest.mark.parametrize(("old", "new", "action", "place"), list(WEAKENED.values()), ids=list(WEAKENED))
def test_a_weakened_rule_is_found_although_its_action_is_accepted(
    session: Path, old: str, new: str, action: str, place: str
) -> None:
    replaced(session, RULES, old, new)
    report = attacked(session, accept=ACCEPTED)
    assert [(way.action, way.resources) for way in report.ways] == [(action, (place,))]
    stop_all(session, report)
    assert attacked(session, accept=ACCEPTED).ok


def test_a_weakened_manifest_is_found(remit: Remit, session: Path) -> None:
    replaced(session, "tools/files/tool.toml", 'write = ["reports/**"]', 'write = ["reports/**", "runbooks/**"]')
    replaced(session, RULES, "files.write, file:reports/**, len(", "files.write, file:**, len(")
    assert remit("tool", "pin", "files").code == 0
    report = attacked(session, accept=ACCEPTED)
    assert [(way.action, way.resources) for way in report.ways] == [("files.write", ("file:runbooks/mallory",))]


def test_a_new_action_that_requests_any_page_is_found_also_if_it_only_reads(session: Path) -> None:
    replaced(session, "agent/triage/agent.toml", '"tickets", "python"]', '"tickets", "python", "http.get"]')
    replaced(session, RULES, "http.get, https://status.example.com/**", "http.get, https://**")
    report = attacked(session, accept=ACCEPTED)
    assert [(way.action, way.resources) for way in report.ways] == [("http.get", ("https://evil.example/take",))]


def test_an_agent_that_reads_no_untrusted_text_has_nothing_to_try(session: Path) -> None:
    replaced(
        session, "agent/triage/agent.toml", '["files", "sql", "tickets", "python"]', '["files.list", "files.write"]'
    )
    report = attacked(session)
    assert (report.ok, report.reads, report.ways) == (True, (), ())


def test_an_untrusted_text_that_no_tried_call_brings_in_is_assumed(session: Path) -> None:
    """The rules allow the read under a condition that no tried call fulfils. That proves nothing."""
    replaced(
        session, "agent/triage/agent.toml", '["files", "sql", "tickets", "python"]', '["files.read", "files.write"]'
    )
    for folder in ("logs", "runbooks", "reports"):
        replaced(
            session,
            RULES,
            f"agent:triage, files.read, file:{folder}/**, True",
            f"agent:triage, files.read, file:{folder}/**, named_by_user",
        )
    report = attacked(session)
    assert [(read.action, read.assumed) for read in report.reads] == [("files.read", True)]
    assert actions_of(report.ways) == ["files.write"]


def test_more_places_than_are_tried_count_as_a_way_through_until_they_are_accepted(session: Path) -> None:
    rows = "\n".join(
        f"p, agent:triage, tickets.close, ticket:T{number}-*, approved('role:oncall-lead'), allow"
        for number in range(MOST_VALUES)
    )
    replaced(session, RULES, "# --- roles ---", f"# Approved\n{rows}")
    report = attacked(session, accept=ACCEPTED)
    assert (report.ok, [one.action for one in report.untried]) == (False, ["tickets.close"])
    accept = f"{ACCEPTED}# Each row asks\ntickets.close, **\n"
    assert attacked(session, accept=accept).ok


# ── the open rules ───────────────────────────────────────────────────────────────────────────────────────────────────────

OPEN = "policies/open.csv"
OPEN_WEAKENED = {
    "mail goes to everybody": ("mail:*, 'mail' not in unidentified, allow", "mail:*, True, allow", "box.send"),
    "what the directory has may be deleted unasked": (
        "named_by_user or identified and (requested_by_user or effect == 'idempotent')",
        "named_by_user or identified",
        "box.drop_note",
    ),
    "mail contains private values": (
        "mail:*, ('link' in contains or 'address' in contains or 'account' in contains or 'private' in contains)",
        "mail:*, ('link' in contains or 'address' in contains or 'account' in contains)",
        "box.send",
    ),
    "pages that nobody named are requested": (
        "https://**, 'https' in unidentified and not approved('role:owner'), deny",
        "https://**, False, deny",
        "box.page",
    ),
    "an untrusted text changes nothing": (
        "'untrusted' not in labels and 'mail' not in unidentified",
        "'mail' not in unidentified",
        "box.drop_note",
    ),
}


def test_nothing_gets_through_the_open_rules_but_what_looks_like_the_wish_of_the_user(tmp_path: Path) -> None:
    mailbox_workspace(tmp_path, [])
    report = attacked(tmp_path, "helper")
    assert (report.ok, report.ways, report.untried) == (True, (), ())
    assert "box.send" in actions_of(report.words), "words to a person whom the directory has"


@pytest.mark.parametrize(("old", "new", "action"), list(OPEN_WEAKENED.values()), ids=list(OPEN_WEAKENED))
def test_each_weakened_copy_of_the_open_rules_is_found_and_its_printed_rules_stop_it(
    tmp_path: Path, old: str, new: str, action: str
) -> None:
    mailbox_workspace(tmp_path, [])
    replaced(tmp_path, OPEN, old, new)
    report = attacked(tmp_path, "helper")
    assert action in actions_of(report.ways)
    stop_all(tmp_path, report)
    assert attacked(tmp_path, "helper").ok


def test_a_reading_action_without_its_label_is_found(tmp_path: Path) -> None:
    """A page that the model chooses is written by others, whatever the manifest says."""
    mailbox_workspace(tmp_path, [])
    labelled = 'methods = ["GET"]\neffect = "read"\nadds_labels = ["untrusted"]'
    replaced(tmp_path, "tools/box/tool.toml", labelled, 'methods = ["GET"]\neffect = "read"')
    pin(tmp_path)
    report = attacked(tmp_path, "helper")
    assert "box.drop_note" in actions_of(report.ways)
    assert {way.reads[0].action for way in report.ways} == {"box.page"}


def test_a_page_without_a_label_is_assumed_to_be_read_where_the_rules_allow_named_pages_only(tmp_path: Path) -> None:
    mailbox_workspace(tmp_path, [])
    labelled = 'methods = ["GET"]\neffect = "read"\nadds_labels = ["untrusted"]'
    replaced(tmp_path, "tools/box/tool.toml", labelled, 'methods = ["GET"]\neffect = "read"')
    replaced(
        tmp_path, OPEN, "'https' in unidentified and not approved('role:owner'), deny", "'https' in unidentified, deny"
    )
    pin(tmp_path)
    report = attacked(tmp_path, "helper")
    assert [read.assumed for read in report.reads if read.action == "box.page"] == [True]
    assert "box.drop_note" in actions_of(report.ways)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_exits_with_1_until_everything_is_accepted(remit: Remit, session: Path) -> None:
    found = remit("attack", "triage")
    assert found.code == 1
    assert "3 of 4 outward actions would get through" in found.out
    assert "allowed by policies/rules.csv:" in found.out
    body = remit("attack", "triage", "--json").json
    assert (body["ok"], sorted(way["action"] for way in body["ways"])) == (False, list(STARTER))
    (session / "accepted.csv").write_text(ACCEPTED)
    accepted = remit("attack", "triage", "--accept", "accepted.csv")
    assert (accepted.code, "0 of 4 outward actions" in accepted.out) == (0, True)


def test_the_output_has_at_most_200_lines_and_says_what_is_left_out(remit: Remit, session: Path) -> None:
    rows = "\n".join(f"p, agent:triage, tickets.close, ticket:T{number}-*, True, allow" for number in range(30))
    replaced(session, RULES, "# --- roles ---", f"# Closed\n{rows}")
    shown = remit("attack", "triage").out.splitlines()
    assert len(shown) <= 200
    assert any(line.startswith("… and ") for line in shown)
    assert len(remit("attack", "triage", "--all").out.splitlines()) > 200


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("# why\ntickets.comment, ticket:[a]\n", 2, "[a]"),
        ("tickets.comment, ticket:INC-*\n", 1, "the line has no reason"),
        ("# why\n\ntickets.comment, ticket:INC-*\n", 3, "the line has no reason"),
        ("# why\ntickets.coment, ticket:INC-*\n", 2, "the agent has no action 'tickets.coment'"),
        ("# why\ntickets.comment\n", 2, ""),
    ],
)
def test_a_line_that_accepts_no_known_call_for_a_reason_is_a_problem(text: str, line: int, what: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        read_accepted(text, file="accepted.csv", actions=["tickets.comment", "tickets.close"])
    (problem,) = refused.value.problems
    assert (problem.file, problem.line, what in problem.what) == ("accepted.csv", line, True)


# ── the calls ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.sampled_from([{"type": "string"}, {"type": ["null", "integer"]}, {"enum": [1, "a"]}, {"const": None}, {}]),
        st.builds(lambda least: {"type": "string", "minLength": least}, st.integers(0, 30)),
        st.just({"$ref": "#/$defs/part"}),
    ),
    lambda inner: st.one_of(
        st.builds(lambda one: {"type": "array", "items": one, "minItems": 3}, inner),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda some: {"type": "object", "properties": some, "required": list(some)},
            st.dictionaries(st.sampled_from("abcde"), inner, max_size=4),
        ),
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(schema=SCHEMAS, part=SCHEMAS)
def test_every_schema_gives_a_bounded_number_of_calls_of_bounded_size(schema: Any, part: Any) -> None:
    """Also one that refers to itself, which no value fulfils."""
    root = {"type": "object", "properties": {"x": schema, "to": part}, "required": ["x", "to"], "$defs": {"part": part}}
    action = Action(name="act", summary="Act", touches=("use mail:{to}", "use ticket:{x/*/a}"))
    made = calls_of(Material(action=action, schema=root, patterns=("mail:*@example.com", "ticket:**")), PLAIN)
    assert len(made.arguments) <= MOST_CALLS
    assert all(set(json.loads(text)) == {"x", "to"} and len(text) < 200_000 for text in made.arguments)


def test_places_come_from_the_rules_also_in_lists_and_inside_of_arguments() -> None:
    schema = {
        "type": "object",
        "properties": {
            "to": {"type": "array", "items": {"type": "string"}},
            "payments": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"id": {"type": "integer"}, "sum": {"type": "number"}},
                    "required": ["id", "sum"],
                },
            },
        },
        "required": ["to", "payments"],
    }
    action = Action(name="pay", summary="Pay", touches=("use mail:{to}", "use payment:{payments/*/id}"))
    made = calls_of(Material(action=action, schema=schema, patterns=("mail:*@corp.example", "payment:4*")), PLAIN)
    found = [json.loads(text) for text in made.arguments]
    assert {one["to"][0] for one in found} == {"mallory@evil.example", "mallory@corp.example"}
    assert all(one["payments"][0]["sum"] == 1 and one["payments"][0]["id"] > 10**6 for one in found)


# ── the benchmark ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_agrees_with_the_benchmark_of_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hijacked agent can do in the suites is what `remit attack` names; that no probe gets through is that it counts nothing."""
    monkeypatch.syspath_prepend(str(TESTS / "benchmarks"))
    from attacks import agreement, of_tasks

    found = of_tasks("rental", ["lift_notice", "end_haddad_lease"], "")
    assert not any(row["leaks"] for row in found["benign"])
    assert (found["attack"]["ways"], agreement(found)) == ([], [])
    done = {action for pair in found["pairs"] for action, _ in pair["allowed"]} & {*found["attack"]["words"]}
    assert done == {"rental.post_notice", "rental.terminate_lease"}, (
        "no rule can tell these from what the task asks for"
    )
    missed = agreement({**found, "attack": {**found["attack"], "words": []}})
    assert missed == [
        f"{action} was carried out for an attacker, and remit attack does not name it" for action in sorted(done)
    ]
