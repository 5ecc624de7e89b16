"""Queries about the rules: who may do this, what may that subject do, and why was this decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.analysis.queries import find_holders, list_permissions
from remit.cli import main
from remit.core.calls import Context, Request
from remit.policy import engine as policy
from remit.policy.engine import Policy
from support import ROOT
from support.runs import Remit

MODEL = (ROOT / "policies" / "model.conf").read_bytes()


def load(*rows: str) -> Policy:
    return policy.load_policy({"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(rows).encode()})


RULES = load(
    "p, role:staff, files.*, file:**, True, allow",
    "p, role:staff, *, file:secret/**, True, deny",
    "p, agent:t, files.read, file:docs/**, 'x' not in labels, allow",
    "p, agent:t, files.read, file:logs/*, approved('role:lead'), allow",
    "p, agent:t, files.read, file:notes/**, True, allow",
    "p, agent:t, files.read, file:notes/**, args.n > 5, deny",
    "p, agent:t, files.write, file:secret/**, True, allow",
    "p, agent:t, *, file:secret/**, True, deny",
    "g, user:ann, role:staff",
    "g, user:lea, role:lead",
    "g, role:lead, role:staff",
)


@pytest.mark.parametrize(
    ("resource", "standings"),
    [
        ("file:docs/a", {"agent:t": "conditional", "user:ann": "allowed", "user:lea": "allowed"}),
        ("file:logs/a", {"agent:t": "asks", "user:ann": "allowed", "user:lea": "allowed"}),
        ("file:notes/a", {"agent:t": "conditional", "user:ann": "allowed", "user:lea": "allowed"}),
        ("file:secret/a", {"agent:t": "never", "user:ann": "never", "user:lea": "never"}),
        ("file:**", {"agent:t": "never", "user:ann": "never", "user:lea": "never"}),
        ("file:other", {"agent:t": "never", "user:ann": "allowed", "user:lea": "allowed"}),
    ],
)
def test_every_subject_is_listed_with_what_it_may_do(resource: str, standings: dict[str, str]) -> None:
    """Roles too, because rules name them."""
    found = {one.subject: one.standing for one in find_holders(RULES, "files.read", resource)}
    assert set(found) == RULES.subjects
    assert {name: standing for name, standing in found.items() if not name.startswith("role:")} == standings


def test_a_role_that_must_approve_is_listed_with_the_users_who_could() -> None:
    """The subject itself is never among them."""
    (agent,) = (one for one in find_holders(RULES, "files.read", "file:logs/a") if one.subject == "agent:t")
    assert [(asked.role, asked.people) for asked in agent.asks] == [("role:lead", ("user:lea",))]
    rules = load("p, user:lea, a.b, **, approved('role:lead'), allow", "g, user:lea, role:lead")
    (lea,) = (one for one in find_holders(rules, "a.b", "none:") if one.subject == "user:lea")
    assert [(asked.role, asked.people) for asked in lea.asks] == [("role:lead", ())]


def test_allowed_and_never_agree_with_the_decisions() -> None:
    """For all facts: allowed subjects are allowed, and the others denied."""
    facts = [Context(), Context(args={"n": 9}, labels=frozenset({"x"})), Context(approvals={"role:lead": 1})]
    for resource in ("file:docs/a", "file:logs/a", "file:notes/a", "file:secret/a", "file:**", "file:x/**"):
        for one in find_holders(RULES, "files.read", resource):
            requests = [
                Request(subjects=(one.subject,), action="files.read", resources=(resource,), context=context)
                for context in facts
            ]
            verdicts = {RULES.judge(request).allowed for request in requests}
            if one.standing == "allowed":
                assert verdicts == {True}
            elif one.standing == "never":
                assert verdicts == {False}


def test_what_a_subject_may_do_is_listed_with_what_denies_it() -> None:
    """Its own rules and those of its roles."""
    found = [(one.action, one.resource, one.standing, one.named) for one in list_permissions(RULES, "agent:t")]
    assert found == [
        ("*", "file:secret/**", "never", "agent:t"),
        ("files.read", "file:docs/**", "conditional", "agent:t"),
        ("files.read", "file:logs/*", "asks", "agent:t"),
        ("files.read", "file:notes/**", "allowed", "agent:t"),
        ("files.read", "file:notes/**", "conditional", "agent:t"),
        ("files.write", "file:secret/**", "never", "agent:t"),
    ]
    assert [one.named for one in list_permissions(RULES, "user:lea")] == ["role:staff", "role:staff"]


def test_every_rule_that_matches_a_request_is_listed_and_near_ones_only_if_none_matches() -> None:
    """The table of `policy explain`."""

    def says(resource: str, **facts: object) -> list[tuple[str, str, str]]:
        context = Context.model_validate(facts)
        request = Request(subjects=("agent:t", "user:ann"), action="files.read", resources=(resource,), context=context)
        return [(line.subject, line.says, line.why) for line in RULES.evaluate(request)]

    assert says("file:notes/a", args={"n": 3}) == [
        ("agent:t", "allows", ""),
        ("agent:t", "does not apply", "args.n is 3"),
        ("user:ann", "allows", ""),
    ]
    assert says("file:notes/a")[1] == ("agent:t", "denies", "the call has no args.n")
    assert says("file:docs/a", labels=frozenset({"x"}))[0] == ("agent:t", "does not apply", "labels is ['x']")
    assert [line[1] for line in says("file:other")] == ["allows", "near", "near", "near"]


def test_the_nearest_rules_share_the_longest_prefix_with_the_resource() -> None:
    """Also among thousands of rules."""
    rules = load(*(f"p, agent:t, a.b, file:p{n}/d{m}/**, True, allow" for n in range(40) for m in range(40)))
    request = Request(subjects=("agent:t",), action="a.b", resources=("file:p7/d99/x",), context=Context())
    assert [rule.text.split(", ")[3].split("/")[0] for rule in rules.decide(request).nearest] == ["file:p7"] * 3


def test_the_rule_of_one_subject_is_found_among_many_for_the_same_resource() -> None:
    """Rules for the same resource are distinguished by their subjects."""
    rules = load(
        *(f"p, agent:a{n}, a.b, file:*.md, args.n == {n}, allow" for n in range(50)),
        *(f"p, agent:a{n}, a.b, file:secret.md, args.n == {n}, deny" for n in range(0, 50, 2)),
    )
    for n in range(50):
        request = Request(
            subjects=(f"agent:a{n}",), action="a.b", resources=("file:secret.md",), context=Context(args={"n": n})
        )
        assert rules.judge(request).allowed is bool(n % 2)


def test_the_command_line_answers_who_can_and_explain(remit: Remit) -> None:
    """One process each; a negative answer is exit code 1."""
    result = remit("policy", "who", "tickets.close", "ticket:INC-7")
    assert result.code == 0
    assert "with approval of role:oncall-lead (user:dana)" in result.out
    assert remit("policy", "who", "files.read", "file:secrets/a", "--json").json == []
    assert remit("policy", "can", "agent:nobody").code == 2
    result = remit("policy", "can", "agent:triage", "--json")
    assert {one["standing"] for one in result.json} == {"allowed", "conditional", "asks", "never"}
    result = remit(
        "policy",
        "explain",
        "tickets.create",
        "ticket:INC-1",
        "--agent",
        "triage",
        "--user",
        "operator",
        "--calls",
        "tickets.create=1",
    )
    assert result.code == 1
    assert "next step: call it in a run with 0 earlier calls of tickets.create instead of 1" in result.out
    assert "the model reads: no rule allows tickets.create on 'ticket:INC-1' for agent:triage" in result.out
    result = remit(
        "policy", "explain", "files.read", "file:secrets/a", "--agent", "triage", "--user", "operator", "--json"
    )
    assert [line["says"] for line in result.json["weighed"]] == ["denies", "allows", "denies"]


def test_a_question_without_a_user_says_that_it_is_asked_for_nobody(remit: Remit) -> None:
    question = ("policy", "explain", "files.read", "file:logs/a", "--agent", "triage")
    assert "without --user, the call is for nobody: name the user" in remit(*question).out
    assert "without --user" not in remit(*question, "--user", "operator").out


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("who files.raed file:logs/a", "no tool has the action 'files.raed'"),
        ("explain files.raed file:logs/a --agent triage", "no tool has the action 'files.raed'"),
        ("explain files.read file:logs/a --agent triage --time 25:00", "not a time of day"),
        ("explain files.read file:logs/a --agent triage --args {", "--args: the text is not JSON"),
    ],
)
def test_a_misspelled_query_is_a_usage_error(
    session: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], question: str, expected: str
) -> None:
    """A denial of an action that does not exist would look like an answer."""
    monkeypatch.chdir(session)
    with pytest.raises(SystemExit) as ended:
        main(["policy", *question.split()])
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
