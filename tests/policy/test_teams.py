"""Rules of a team name only what its team.toml lists, and permit nothing that the organization denies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remit.core.calls import Context, Request
from remit.core.errors import WorkspaceError
from remit.policy import reload
from remit.policy.engine import Policy, load_policy
from remit.policy.folder import read_case_tables, read_folder
from remit.policy.language.loader import Vocabulary
from remit.policy.language.names import DeclaredNames
from remit.policy.language.patterns import parse_pattern
from remit.policy.language.teams import TeamTable, _within  # unit test: the one place that compares patterns
from remit.policy.reload import PolicyWatcher
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
TEAM = """
summary = "Payments"
agents = ["agent:billing"]
roles = ["role:payer", "role:payer-lead"]
approvers = ["role:auditor"]
tools = ["pay", "files.read"]
resources = ["table:payments", "file:billing/**", "ticket:PAY-*"]
"""
ORGANIZATION = """
p, agent:triage, files.*, **, True, allow
p, role:auditor, pay.list, table:payments, True, allow
g, user:ann, role:auditor
g, user:kim, role:admin
p, role:admin, *, **, True, allow
"""
RULES = """
p, agent:billing, pay.list, table:payments, True, allow
p, role:payer, pay.*, table:payments, approved('role:payer-lead'), allow
g, user:dana, role:payer
g, user:lee, role:payer-lead
"""
ACTIONS = ("pay.list", "pay.refund", "files.read", "files.write", "mail.send")
WORDS = Vocabulary(
    actions=dict.fromkeys(ACTIONS),
    names=DeclaredNames(
        envs=frozenset({"local"}),
        labels=frozenset(),
        agents=frozenset({"agent:billing", "agent:triage"}),
        users=None,
        kinds=frozenset({"table", "file", "ticket"}),
    ),
)


def load(
    rules: str = RULES, *, team: str = TEAM, organization: str = ORGANIZATION, words: Vocabulary | None = WORDS
) -> Policy:
    files = {
        "policies/model.conf": MODEL,
        "policies/rules.csv": organization.encode(),
        "policies/payments/team.toml": team.encode(),
        "policies/payments/rules.csv": rules.encode(),
    }
    return load_policy(files, words)


def problems(load: Callable[[], object]) -> list[str]:
    with pytest.raises(WorkspaceError) as found:
        load()
    return [f"{problem.file}:{problem.line}: {problem.what}; {problem.fix}" for problem in found.value.problems]


def test_the_rules_of_a_team_decide_and_are_named_with_its_file() -> None:
    request = Request(
        subjects=("agent:billing", "user:ann"), action="pay.list", resources=("table:payments",), context=Context()
    )
    decision = load().decide(request)
    assert decision.verdict == "allow"
    assert [(rule.file, rule.line) for rule in decision.rules] == [
        ("policies/payments/rules.csv", 2),
        ("policies/rules.csv", 3),
    ]


ESCAPES = {
    "an agent of others": ("p, agent:triage, pay.list, table:payments, True, allow", "agent:triage", "agents"),
    "a role of others": ("p, role:auditor, pay.list, table:payments, True, allow", "role:auditor", "roles"),
    "one user": ("p, user:dana, pay.list, table:payments, True, allow", "user:dana", "agents"),
    "an action of others": ("p, agent:billing, mail.send, table:payments, True, allow", "mail.send", "tools"),
    "another action of a tool": ("p, agent:billing, files.write, file:billing/a, True, allow", "files.write", "tools"),
    "all actions of a tool": ("p, agent:billing, files.*, file:billing/a, True, allow", "files.*", "tools"),
    "every action": ("p, agent:billing, *, table:payments, True, allow", "*", "tools"),
    "every resource": ("p, agent:billing, pay.list, **, True, allow", "**", "resources"),
    "another resource": ("p, agent:billing, pay.list, table:people, True, allow", "table:people", "resources"),
    "all of a kind": ("p, agent:billing, pay.list, table:*, True, allow", "table:*", "resources"),
    "a longer name": ("p, agent:billing, pay.list, table:payments2, True, allow", "table:payments2", "resources"),
    "a neighbour folder": ("p, agent:billing, files.read, file:billing2/a, True, allow", "file:billing2/a", "resources"),
    "the folder itself": ("p, agent:billing, files.read, file:billing, True, allow", "file:billing", "resources"),
    "a folder by wildcard": ("p, agent:billing, files.read, file:*/a, True, allow", "file:*/a", "resources"),
    "any depth": ("p, agent:billing, files.read, file:**/a, True, allow", "file:**/a", "resources"),
    "a shorter prefix": ("p, agent:billing, pay.list, ticket:PA*, True, allow", "ticket:PA*", "resources"),
    "all of a prefixed kind": ("p, agent:billing, pay.list, ticket:**, True, allow", "ticket:**", "resources"),
    "a deny for others": ("p, agent:triage, pay.list, table:payments, True, deny", "agent:triage", "agents"),
    "a deny of everything for its users": ("p, role:payer, *, **, True, deny", "*", "tools"),
    "an approver of others": (
        "p, agent:billing, pay.list, table:payments, approved('role:admin'), allow",
        "role:admin",
        "approvers",
    ),
    "a person as administrator": ("g, user:dana, role:admin", "role:admin", "roles"),
    "its role above others": ("g, role:payer, role:admin", "role:admin", "roles"),
    "others below its role": ("g, role:auditor, role:payer", "role:auditor", "roles"),
    "an agent of others in its role": ("g, agent:triage, role:payer", "agent:triage", "agents"),
    "break glass": ("g, user:dana, role:break-glass", "role:break-glass", "roles"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "name", "key"), ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("words", [WORDS, None], ids=["of a workspace", "alone"])
def test_a_row_outside_of_the_bounds_of_its_team_is_refused_with_its_line(
    row: str, name: str, key: str, words: Vocabulary | None
) -> None:
    found = problems(lambda: load(f"{RULES}{row}\n", words=words))
    assert found[0].startswith(
        f"policies/payments/rules.csv:6: the rules of team payments may not name {name!r}; name one of "
    )
    assert found[0].endswith(f"; or the organization adds it to {key} in policies/payments/team.toml")


@pytest.mark.parametrize(("row", "name", "key"), ESCAPES.values(), ids=ESCAPES)
def test_the_organization_may_write_each_of_these_rows(row: str, name: str, key: str) -> None:
    """The twin: what is refused to the team is valid as a rule of the organization."""
    load(organization=f"{ORGANIZATION}{row}\n")


@pytest.mark.parametrize(
    "row",
    [
        "p, agent:billing, files.read, file:billing/**, True, allow",
        "p, agent:billing, files.read, file:billing/**/report, True, deny",
        "p, agent:billing, files.read, file:billing/*/x, True, allow",
        "p, role:payer-lead, pay.refund, ticket:PAY-7*, True, allow",
        "p, role:payer, pay.refund, ticket:PAY-*, approved('role:auditor'), allow",
        "g, user:anybody, role:payer",
        "g, agent:billing, role:payer",
        "g, role:payer-lead, role:payer",
    ],
)
def test_a_row_within_the_bounds_is_accepted(row: str) -> None:
    assert len(load(f"{RULES}{row}\n").rows) + len(load(f"{RULES}{row}\n").links) == 10


def test_an_empty_team_may_name_nothing() -> None:
    found = problems(lambda: load(team='summary = "Nothing yet"\n'))
    assert len(found) == 9
    assert all("; name one of none yet; or the organization adds it to " in text for text in found)


def test_a_team_cannot_permit_what_the_organization_denies() -> None:
    request = Request(
        subjects=("agent:billing", "user:kim"), action="pay.refund", resources=("table:payments",), context=Context()
    )
    allow = "p, agent:billing, pay.*, table:payments, True, allow\n"
    assert load(allow).decide(request).verdict == "allow"
    denied = load(allow, organization=f"{ORGANIZATION}p, agent:billing, pay.refund, **, True, deny\n").decide(request)
    assert (denied.verdict, [rule.file for rule in denied.rules]) == ("deny", ["policies/rules.csv"])


_SUBJECTS = st.sampled_from(["agent:billing", "role:payer", "role:payer-lead"])
_DENIED = st.sampled_from(["agent:billing", "agent:triage", "user:dana", "role:auditor"])
_PATTERNS = st.sampled_from(
    ["table:payments", "file:billing/**", "file:billing/a", "file:billing/*/b", "ticket:PAY-*", "ticket:PAY-1"]
)
_ACTION = st.sampled_from(["pay.list", "pay.refund", "pay.*", "files.read"])
_ROWS = st.lists(st.tuples(_SUBJECTS, _ACTION, _PATTERNS, st.sampled_from(["allow", "deny"])), max_size=8)
_REQUESTS = st.builds(
    Request,
    subjects=st.tuples(
        st.sampled_from(["agent:billing", "agent:triage"]), st.sampled_from(["user:ann", "user:dana", "user:kim"])
    ),
    action=st.sampled_from(ACTIONS),
    resources=st.tuples(
        st.sampled_from(["table:payments", "table:people", "file:billing/a", "file:billing/a/b", "file:x", "ticket:PAY-1"])
    ),
    context=st.just(Context()),
)  # fmt: skip


@given(
    _ROWS,
    st.lists(st.tuples(_DENIED, st.sampled_from(ACTIONS), _PATTERNS), max_size=3),
    st.lists(_REQUESTS, max_size=20),
)
@example(
    [("role:payer", "files.read", "file:billing/a", "allow")],
    [],
    [
        Request(
            subjects=("agent:triage", "user:dana"),
            action="files.read",
            resources=("file:billing/a",),
            context=Context(),
        )
    ],
)
def test_whatever_a_team_writes_the_denies_of_the_organization_and_the_rights_of_others_stay(
    rows: list[tuple[str, str, str, str]], denied: list[tuple[str, str, str]], requests: list[Request]
) -> None:
    written = "".join(f"p, {who}, {what}, {on}, True, {effect}\n" for who, what, on, effect in rows)
    denies = "".join(f"p, {who}, {what}, {on}, True, deny\n" for who, what, on in denied)
    links = "g, user:dana, role:payer\ng, user:dana, role:payer-lead\n"
    without = load("", organization=ORGANIZATION + denies, words=None)
    with_team = load(written + links, organization=ORGANIZATION + denies, words=None)
    for request in requests:
        before, after = without.decide(request), with_team.decide(request)
        if after.verdict == "allow" and before.verdict != "allow":
            assert not without.judge(request).rows  # no deny of the organization applied
            assert request.action.startswith(("pay.", "files.read"))
            assert request.resources[0] not in ("table:people", "file:x")
        # A request needs the rights of each of its subjects. So an agent of others does more for a user to whom the team gave
        # its role, and no more than the organization permits that agent: its own rights are what they were.
        alone = [request.model_copy(update={"subjects": (subject,)}) for subject in request.subjects]
        for single in alone:
            if single.subjects[0] not in ("agent:billing", "user:dana"):
                assert with_team.decide(single).verdict == without.decide(single).verdict
        assert (after.verdict == "allow") == all(with_team.decide(single).verdict == "allow" for single in alone)


_SEGMENT = st.sampled_from(["a", "b", "ab", "a*", "*", "*b", "PAY-1", "PAY-*", "P*"])
_ANY = st.lists(st.one_of(_SEGMENT, st.just("**")), min_size=1, max_size=4).map("/".join)
_NAMES = st.lists(st.sampled_from(["a", "b", "ab", "PAY-1", "P", "aab"]), min_size=1, max_size=4).map("/".join)
_BOUNDS = st.sampled_from(["t:a", "t:**", "t:a/**", "t:a/b", "t:PAY-*", "t:a/P*", "t:*", "t:a/*"])


@given(_ANY, _BOUNDS, st.lists(_NAMES, min_size=1, max_size=12))
def test_a_pattern_within_a_bound_matches_nothing_outside_of_it(text: str, bound: str, names: list[str]) -> None:
    if "**/**" in text:
        return
    inner, outer = parse_pattern(f"t:{text}"), parse_pattern(bound)
    if _within(inner, outer):
        assert all(outer.matches(name.split("/")) for name in names if inner.matches(name.split("/")))


@pytest.mark.parametrize(
    ("team", "expected"),
    [
        (TEAM.replace("agent:billing", "agent:biling"), "3: no file declares the agent 'agent:biling'; did you mean agent:billing?"),
        (TEAM.replace('"agent:billing"', '"billing"'), "3: 'agents.0' is 'billing', which is not an agent; write the kind before it, as \"agent:billing\""),
        (TEAM.replace('"pay"', '"pya"'), "6: no tool has the action 'pya.*'; did you mean pay.*?"),
        (TEAM.replace("files.read", "files.raed"), "6: no tool has the action 'files.raed'; did you mean files.read?"),
        (TEAM.replace("file:billing/**", "file:*/x"), "7: 'file:*/x' is no bound of resources; end it with /**"),
        (TEAM.replace("file:billing/**", "billing"), "7: pattern 'billing' has no kind; write kind:name"),
        (TEAM.replace("role:payer-lead", "role:break-glass"), "4: no team owns role:break-glass"),
        (TEAM.replace("tools =", "tool ="), "6: unknown key 'tool'; write 'tools'"),
        (TEAM.replace("]", "", 1), "4: not valid TOML"),
    ],
)  # fmt: skip
def test_a_mistake_in_team_toml_is_reported_with_its_line(team: str, expected: str) -> None:
    found = problems(lambda: load("", team=team))
    assert [text for text in found if text.startswith(f"policies/payments/team.toml:{expected}")], found


def test_a_role_has_one_team() -> None:
    files = {
        "policies/model.conf": MODEL,
        "policies/a/team.toml": b'summary = "a"\nroles = ["role:payer"]\n',
        "policies/b/team.toml": b'summary = "b"\n\nroles = ["role:payer"]\n',
    }
    found = problems(lambda: load_policy(files))
    assert found == [
        "policies/b/team.toml:3: role:payer is a role of team a already; list it in one team: a role has one owner"
    ]
    load_policy({**files, "policies/b/team.toml": b'summary = "b"\nroles = ["role:other"]\n'})


def test_rules_in_a_folder_without_team_toml_are_refused() -> None:
    """Removing team.toml removes the bounds of a team, and so its rules."""
    files = {"policies/model.conf": MODEL, "policies/payments/rules.csv": RULES.encode()}
    (found,) = problems(lambda: load_policy(files))
    assert found.startswith(
        "policies/payments/rules.csv:None: nothing reads this file of rules; name it policies/<name>.csv"
    )


def test_every_list_of_team_toml_is_empty_by_default() -> None:
    table = TeamTable(summary="Nothing")
    assert not any(value for key, value in table.model_dump().items() if key != "summary")


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def test_an_edit_of_a_team_is_in_force_and_one_outside_of_its_bounds_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.conf").write_bytes(MODEL)
    write(tmp_path, {"rules.csv": ORGANIZATION, "payments/team.toml": TEAM, "payments/rules.csv": ""})
    now = [0.0]
    monkeypatch.setattr(reload, "SETTLED_S", 0.0)
    files = read_folder(tmp_path)
    watcher = PolicyWatcher(tmp_path, load_policy(files), files, clock=lambda: now[0])

    def rows() -> int:
        for _ in range(3):
            now[0] += 1
            watcher.current()
        return len(watcher.current().rows)

    assert rows() == 3
    write(tmp_path, {"payments/rules.csv": RULES})
    assert (rows(), watcher.problem) == (5, None)
    write(tmp_path, {"payments/rules.csv": f"{RULES}p, agent:triage, pay.list, table:payments, True, allow\n"})
    assert rows() == 5
    assert "may not name 'agent:triage'" in str(watcher.problem)
    write(tmp_path, {"payments/team.toml": TEAM.replace('"agent:billing"', '"agent:billing", "agent:triage"')})
    assert (rows(), watcher.problem) == (6, None)


def test_the_cases_of_a_team_are_read_beside_its_rules(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"cases.yaml": "- a", "payments/team.toml": TEAM, "payments/cases.yaml": "- b", "open/cases.yaml": "- c"},
    )
    assert [tuple(table) for table in read_case_tables(tmp_path)] == [
        ("policies/cases.yaml", "- a"),
        ("policies/payments/cases.yaml", "- b"),
    ]
