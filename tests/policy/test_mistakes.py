"""Mistakes in rules, as people make them: each is found, and its message says what was meant.

Each row is one edit of the starter's rules. An `error` keeps the rules from coming into force; a finding of lint has its code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Final

import pytest

from remit.analysis.lint import lint_rules
from remit.analysis.solver.ruleset import read_rule_set
from remit.core.errors import WorkspaceError
from remit.policy.cases import read_cases
from remit.policy.engine import load_policy
from remit.workspace.bundle import vocabulary
from remit.workspace.definitions import Workspace
from remit.workspace.loader import load_workspace
from support import ROOT

RULES: Final = "policies/rules.csv"
Edit = Callable[[str], str]


@cache
def starter() -> Workspace:
    return load_workspace(ROOT)


def found(edit: Edit) -> list[tuple[str, str, str]]:
    """The problems that the edit causes: `error` or the code of a finding, what is wrong, and the fix."""
    workspace = starter()
    before = workspace.files[RULES].decode()
    files = {**workspace.files, RULES: edit(before).encode()}
    known = vocabulary(workspace)
    try:
        load_policy(files, known)
    except WorkspaceError as error:
        return [("error", problem.what, problem.fix) for problem in error.problems]
    rows = {
        file: data for file, data in files.items() if file.startswith("policies/") and file.endswith((".csv", ".conf"))
    }
    findings = lint_rules(read_rule_set("edited", rows, known), workspace)
    last = before.count("\n")
    return [(item.code, item.what, item.fix) for item in findings if (item.line or 0) > last]


def row(text: str) -> Edit:
    return lambda rules: f"{rules}\n# new\n{text}\n"


def put(old: str, new: str) -> Edit:
    def edit(rules: str) -> str:
        assert old in rules
        return rules.replace(old, new)

    return edit


def read(resource: str = "file:data/x", condition: str = "True", effect: str = "allow") -> Edit:
    return row(f"p, agent:triage, files.read, {resource}, {condition}, {effect}")


def when(condition: str, effect: str = "allow") -> Edit:
    return read(condition=condition, effect=effect)


CLOSE: Final = "p, agent:triage, tickets.close, ticket:A-1, {}, allow"
P_ROW: Final = "write p, subject, action, resource, condition, allow or deny"

# note: (edit, error or code of lint, part of what, part of the fix)
MISTAKES: Final[dict[str, tuple[Edit, str, str, str]]] = {
    # -- subjects, roles and approvers
    "a role in a g row": (put("g, user:dana, role:oncall-lead", "g, user:dana, role:oncal-lead"), "error", "no rule names the role 'role:oncal-lead'", "did you mean role:oncall-lead?"),
    "a role that approves": (put("approved('role:oncall-lead')", "approved('role:oncal-lead')"), "error", "no file declares the role 'role:oncal-lead'", "did you mean role:oncall-lead?"),
    "a role as subject": (row("p, role:operater, files.read, file:logs/**, True, allow"), "error", "no file declares the role 'role:operater'", "did you mean role:operator?"),
    "an approver without its kind": (row(CLOSE.format("approved('oncall-lead')")), "error", "'oncall-lead' is not a role", "write 'role:oncall-lead'"),
    "a subject without its kind": (row("p, billing, files.read, file:logs/**, True, allow"), "error", "'billing' is not a valid subject", "write agent:<name>, user:<name>, service:<name> or role:<name>"),
    "an agent without its kind": (row("p, triage, files.read, file:logs/**, True, allow"), "error", "'triage' is not a valid subject", "did you mean agent:triage?"),
    "a subject in capitals": (row("p, Agent:triage, files.read, file:logs/**, True, allow"), "error", "'Agent:triage' is not a valid subject", "did you mean agent:triage?"),
    "every agent": (row("p, agent:*, files.read, file:logs/x, True, allow"), "error", "'agent:*' is not a valid subject", "without wildcards"),
    "an agent": (row("p, agent:trige, files.read, file:logs/**, True, allow"), "error", "no file declares the agent 'agent:trige'", "did you mean agent:triage?"),
    "an agent that does not exist": (row("p, agent:billing, files.read, file:logs/**, True, allow"), "error", "no file declares the agent 'agent:billing'", "write agent/billing/agent.toml"),
    "a user": (row("p, user:dna, files.read, file:logs/**, True, deny"), "error", "no file declares the user 'user:dna'", "did you mean user:dana?"),
    "a member of a role": (row("g, user:dna, role:oncall-lead"), "error", "no file declares the user 'user:dna'", "did you mean user:dana?"),
    "an agent with a role": (row("g, agent:trige, role:oncall-lead"), "error", "no file declares the agent 'agent:trige'", "did you mean agent:triage?"),
    "a member after its role": (row("g, role:operator, user:dana"), "error", "'user:dana' is not a role", "the member comes first: write g, user:dana, role:operator"),
    "a role without its kind": (row("g, user:dana, oncall-lead"), "error", "'oncall-lead' is not a role", "did you mean role:oncall-lead?"),
    "roles of each other": (row("g, role:operator, role:oncall-lead"), "error", "inherit from each other", "remove one of the g rows"),
    "two approvals of one person": (row(CLOSE.format("approvals('role:oncall-lead') >= 2")), "nobody_to_ask", "it asks for 2 approvals of role:oncall-lead, which 1 user has", "ask for fewer"),
    "two roles of one person": (row("g, user:dana, role:second\n" + CLOSE.format("approved('role:oncall-lead') and approved('role:second')")), "nobody_to_ask", "it asks for 2 approvals of role:oncall-lead and role:second, which only user:dana can give, each of them once", "give one of the roles to another user"),
    # -- actions
    "an action": (row("p, agent:triage, sql.qurey, table:orders, True, allow"), "error", "no tool has the action 'sql.qurey'", "did you mean sql.query?"),
    "a tool": (row("p, agent:triage, sqll.*, table:orders, True, allow"), "error", "no tool has the action 'sqll.*'", "did you mean sql.*?"),
    "an action of no tool": (row("p, agent:triage, weather.now, none:, True, allow"), "error", "no tool has the action 'weather.now'", "use one of: files.list, files.read"),
    "a tool in place of its actions": (row("p, agent:triage, files, file:logs/**, True, allow"), "error", "'files' is not an action", "did you mean files.*?"),
    "an action as models write it": (row("p, agent:triage, files__read, file:logs/**, True, allow"), "error", "'files__read' is not an action", "did you mean files.read?"),
    "an action in capitals": (row("p, agent:triage, Files.read, file:logs/**, True, allow"), "error", "'Files.read' is not an action", "did you mean files.read?"),
    "an action that is counted": (when("calls('files.raed') < 3"), "error", "calls('files.raed') does not name an action", "did you mean files.read?"),
    # -- effects and fields
    "an effect": (read(effect="alow"), "error", "'alow' is not an effect", "did you mean allow?"),
    "an effect in capitals": (read(effect="Allow"), "error", "'Allow' is not an effect", "in lower case"),
    "an effect of another language": (read(effect="permit"), "error", "'permit' is not an effect", "write allow or deny"),
    "a comment behind a row": (read(effect="allow # ok"), "error", "'allow # ok' is not an effect", "write the comment on a line of its own"),
    "a missing comma": (row("p, agent:triage, files.read file:logs/x, True, allow"), "error", "a p row has 6 fields, this one has 5", "a comma is missing in 'files.read file:logs/x'"),
    "a comma in a condition": (when("args.path in ('a', 'b')"), "error", "a p row has 6 fields, this one has 7", "a condition has no comma: write (args.x == 'a' or args.x == 'b')"),
    "a comma at the end": (read(effect="allow,"), "error", "the row ends with a comma", "remove it"),
    "no condition": (when(""), "error", "a field is empty", "write True for no condition"),
    "semicolons": (row("p; agent:triage; files.read; file:logs/x; True; allow"), "error", "a row begins with p or g", "separate the fields by commas"),
    "a row in capitals": (row("P, agent:triage, files.read, file:data/x, True, allow"), "error", "a row begins with p or g, not with 'P'", "write p in lower case"),
    "a row of another model": (row("p2, agent:triage, files.read, file:data/x, True, allow"), "error", "a row begins with p or g, not with 'p2'", P_ROW),
    "a g row with a domain": (row("g, user:dana, role:oncall-lead, shop"), "error", "a g row has 3 fields, this one has 4", "write g, member, role:<name>"),
    "an indented row": (row("  p, agent:triage, files.read, file:data/x, True, allow"), "error", "the row is indented", "start it in the first column"),
    # -- characters
    "a byte order mark": (lambda rules: f"\ufeff{rules}", "error", "a byte order mark", "save it as UTF-8 without BOM"),
    "a tab": (row("p,\tagent:triage, files.read, file:logs/x, True, allow"), "error", "an invisible character U+0009", "type a space"),
    "a space that does not break": (row("p, agent:triage, files.read, file:logs/x,\u00a0True, allow"), "error", "an invisible character U+00A0", "type a space"),
    "a space of no width": (row("p, agent:triage, files.re\u200bad, file:logs/x, True, allow"), "error", "an invisible character U+200B", "remove it"),
    "text from right to left": (row("p, agent:triage, files.read, file:logs/\u202ex, True, allow"), "error", "an invisible character U+202E", "remove it"),
    "a letter that looks like another, in an action": (row("p, agent:triage, sql.qu\u0435ry, table:orders, True, allow"), "error", "\u0435 is U+0435 CYRILLIC SMALL LETTER IE) is not an action", "did you mean sql.query?"),
    "a letter that looks like another, in a subject": (row("p, agent:tri\u0430ge, sql.query, table:orders, True, allow"), "error", "\u0430 is U+0430 CYRILLIC SMALL LETTER A) is not a valid subject", "did you mean agent:triage?"),
    "a letter that looks like another, in a kind": (row("p, agent:triage, sql.query, t\u0430ble:orders, True, allow"), "error", "\u0430 is U+0430 CYRILLIC SMALL LETTER A) has no kind", "did you mean table:orders?"),
    "a letter that looks like another, in a table": (row("p, agent:triage, sql.query, table:\u043erders, True, allow"), "error", "\u043e is U+043E CYRILLIC SMALL LETTER O) is not the canonical name", "replace the characters that only look like"),
    "a letter that looks like another, in a label": (when("'untrust\u0435d' not in labels"), "error", "\u0435 is U+0435 CYRILLIC SMALL LETTER IE)", "did you mean untrusted?"),
    "a letter that looks like another, in a role": (row(CLOSE.format("approved('role:oncall-l\u0435ad')")), "error", "\u0435 is U+0435 CYRILLIC SMALL LETTER IE) is not a role", "write role:<name>"),
    "a letter that looks like another, in an effect": (read(effect="d\u0435ny"), "error", "\u0435 is U+0435 CYRILLIC SMALL LETTER IE) is not an effect", "did you mean deny?"),
    "a letter that looks like another, in an environment": (when("env == 'l\u043ecal'"), "error", "\u043e is U+043E CYRILLIC SMALL LETTER O)", "did you mean local?"),
    # -- resources
    "a kind of resource": (row("p, agent:triage, sql.query, tabel:orders, True, allow"), "error", "no file declares the kind of resource 'tabel'", "did you mean table?"),
    "a kind of resource in a deny": (row("p, agent:triage, *, tabel:orders, True, deny"), "error", "no file declares the kind of resource 'tabel'", "did you mean table?"),
    "a kind of resource in capitals": (read("File:data/x"), "error", "has no kind", "did you mean file:data/x?"),
    "a resource without its kind": (read("logs/**"), "error", "pattern 'logs/**' has no kind", "write kind:name, as file:docs/**"),
    "a folder at the root": (read("file:/logs/**"), "error", "has an empty segment", "write single slashes"),
    "a folder above": (read("file:../logs/x"), "error", "contains a . or .. segment", "write the path without it"),
    "a folder of this one": (read("file:./logs/x"), "error", "contains a . or .. segment", "write the path without it"),
    "a class of characters": (read("file:logs/[ab]"), "error", "contains '[', which is not a wildcard here", "use only * and **"),
    "one character": (read("file:logs/?.log"), "error", "contains '?', which is not a wildcard here", "use only * and **"),
    "a host in capitals": (row("p, agent:triage, http.get, https://Example.com/**, True, allow"), "error", "is not the canonical name of a resource", "write https://example.com/**"),
    "a URL without a path": (row("p, agent:triage, http.get, https://example.com, True, allow"), "error", "is not the canonical name of a resource", "write https://example.com/"),
    "a URL without a scheme": (row("p, agent:triage, http.get, example.com/**, True, allow"), "error", "has no kind", "write kind:name"),
    "a folder that no manifest reaches": (read("file:nowhere/**"), "beyond", "no tool manifest lets files.read reach file:nowhere/**", "fix the pattern"),
    "a resource of another tool": (read("table:orders"), "beyond", "no tool manifest lets files.read reach table:orders", "fix the pattern"),
    # -- conditions
    "double quotes": (when('args.path == "a"'), "error", "the row contains a double quote", "write texts in single quotes"),
    "curly quotes": (when("args.path == ‘a’"), "error", "has a syntax error at '‘a’'", "write texts in straight single quotes"),
    "no quotes": (when("args.path == a"), "error", "'a' is not a fact", "a text stands in single quotes: 'a'"),
    "an assignment": (when("args.path = 'a'"), "error", "has a syntax error at \"= 'a'\"", "write == for a comparison"),
    "and of another language": (when("args.lines < 3 && args.path == 'a'"), "error", "has a syntax error at", "write `and`"),
    "or of another language": (when("args.lines < 3 || args.path == 'a'"), "error", "has a syntax error at", "write `or`"),
    "not of another language": (when("!named_by_user"), "error", "has a syntax error at", "write `not`"),
    "and in capitals": (when("args.lines < 3 AND args.path == 'a'"), "error", "is not one complete expression", "write `and` in lower case"),
    "true in lower case": (when("true"), "error", "'true' is not a fact", "write True"),
    "a sum": (when("args.lines + 1 < 3"), "error", "has a syntax error at", "nothing is computed"),
    "an argument of another action": (when("args.amount < 3"), "error", "args.amount is not an argument of the row's actions", "use one of: lines, path, start_line"),
    "an argument": (when("args.lnes < 3"), "error", "args.lnes is not an argument of the row's actions", "did you mean lines?"),
    "an argument without args": (when("lines < 3"), "error", "'lines' is not a fact", "write args.lines"),
    "an argument of another type": (when("args.lines < 'a'"), "error", "compares a number with a string", "compare values of the same type"),
    "a fact": (when("named_by_usr"), "error", "'named_by_usr' is not a fact", "write named_by_user"),
    "an environment": (when("env == 'locl'"), "error", "no file declares the environment 'locl'", "did you mean local?"),
    "an environment in a deny": (when("env == 'prdo'", "deny"), "error", "no file declares the environment 'prdo'", 'add "prdo" to envs in remit.toml'),
    "a label": (when("'untrsted' not in labels"), "error", "no file declares the label 'untrsted'", "did you mean untrusted?"),
    "a label in a deny": (when("'untrsted' in labels", "deny"), "error", "no file declares the label 'untrsted'", "did you mean untrusted?"),
    "a class of content": (when("'adress' in contains", "deny"), "error", "no file declares the label 'adress'", "did you mean address?"),
    "a kind that is not identified": (when("'fil' in unidentified", "deny"), "error", "no file declares the kind of resource 'fil'", "did you mean file?"),
    "an effect of an action": (when("effect == 'raed'"), "error", "effect is never 'raed'", "did you mean read?"),
    "a confinement": (when("confinement == 'ful'"), "error", "confinement is never 'ful'", "did you mean full?"),
    "labels as one text": (when("labels == 'untrusted'"), "error", "compares a list or object as a whole", "use in, not in"),
    "an hour as number": (when("time >= 9"), "error", "'time >= 9' compares a string with a number", "compare values of the same type"),
    "an hour with one digit": (when("time >= '9:00'"), "error", "time is never '9:00'", "write hours and minutes in UTC"),
    "an hour that no day has": (when("time >= '25:00'"), "error", "time is never '25:00'", "write hours and minutes in UTC"),
    # -- rules without effect
    "a condition that never holds": (when("args.lines < 3 and args.lines > 5"), "never", "its condition 'args.lines < 3 and args.lines > 5' can never hold", "fix the condition"),
    "False": (when("False"), "never", "its condition 'False' can never hold", "fix the condition"),
    "an allow that a deny overrides": (read("file:secrets/x"), "shadowed", "line 51 of policies/rules.csv denies it wherever it applies", "narrow the deny rule"),
    "a row that a wider one covers": (read("file:logs/x"), "redundant", "it is already covered by line 29 of policies/rules.csv", "remove it"),
    "a row twice": (read("file:logs/**"), "redundant", "it is a duplicate of line 29 of policies/rules.csv", "keep one of them"),
    # -- directives above a row
    "a disclosure": (lambda rules: f"{rules}\n# disclose: rul\np, agent:triage, files.read, file:data/x, True, deny\n", "error", "'rul' is not a level of disclosure", "write one of none, code, rule, remedy"),
    "whom to ask first": (lambda rules: f"{rules}\n# asks: expire 5m\n{CLOSE.format(chr(97) + 'pproved(' + chr(39) + 'role:oncall-lead' + chr(39) + ')')}\n", "error", "does not name the role that is asked first", "write # asks: role:lead"),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "code", "what", "fix"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_a_mistake_has_one_message_which_says_what_was_meant(edit: Edit, code: str, what: str, fix: str) -> None:
    (problem,) = found(edit)
    assert problem[0] == code
    assert what in problem[1]
    assert fix in problem[2]


def test_a_kind_of_resource_that_no_file_declares_is_an_error() -> None:
    """A deny for a misspelled kind would deny nothing."""
    edit = row("p, agent:triage, *, tabel:orders, True, deny")
    assert [(code, what) for code, what, _ in found(edit)] == [
        ("error", "no file declares the kind of resource 'tabel'")
    ]


RIGHT: Final[dict[str, Edit]] = {
    "lines that end as on Windows": lambda rules: rules.replace("\n", "\r\n"),
    "an approval by people of two roles": row(
        CLOSE.format("approved('role:oncall-lead') and approved('role:manager')")
    ),
    "a kind that is not identified": when("'file' in unidentified", "deny"),
    "a folder of the manifest": read("file:data/**"),
    "letters of other languages in a path": read("file:data/größe/**"),
    "a role that has a member": row("p, role:manager, files.read, file:data/**, 'private' not in labels, allow"),
}


@pytest.mark.parametrize("edit", list(RIGHT.values()), ids=list(RIGHT))
def test_what_is_right_gets_no_message(edit: Edit) -> None:
    assert [item for item in found(edit) if item[0] == "error"] == []


@pytest.mark.parametrize(
    "line", [{"agent": "agent:trige"}, {"user": "user:dna"}, {"approvals": {"role:oncal-lead": 1}}]
)
def test_a_misspelled_name_in_a_case_is_a_problem_of_the_case(line: dict[str, object]) -> None:
    """A call of nobody is denied too, so the case would pass for the wrong reason."""
    case = {
        "note": "a",
        "agent": "agent:triage",
        "user": "user:dana",
        "action": "files.read",
        "resources": ["file:x"],
        "expect": "deny",
    }
    policy = load_policy(starter().files, vocabulary(starter()))
    assert len(read_cases(policy, json.dumps([case, {**case, "note": "b", "agent": "agent:other"}]), "cases.yaml")) == 2
    with pytest.raises(WorkspaceError, match=r"did you mean (agent:triage|user:dana|role:oncall-lead)"):
        read_cases(policy, json.dumps([{**case, **line}]), "cases.yaml")


@pytest.mark.parametrize("agent", ["agent:other", "agent:stage", "agent:ranger"])
def test_another_name_in_a_case_is_no_misspelled_one_although_both_begin_with_their_kind(agent: str) -> None:
    """A case may show that an agent that does not exist is denied; a new agent of an author must not make it a problem."""
    case = {
        "note": "a",
        "agent": agent,
        "user": "user:dana",
        "action": "files.read",
        "resources": ["file:x"],
        "expect": "deny",
    }
    policy = load_policy(starter().files, vocabulary(starter()))
    assert len(read_cases(policy, json.dumps([case]), "cases.yaml")) == 1
