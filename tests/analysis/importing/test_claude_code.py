"""Permission settings of Claude Code: a denial wins over a question, and a question over a permission, as there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remit.analysis.importing import import_claude_code, imported_cases
from remit.core import Context, Request, UsageError
from support.casbin_models import loaded

AGENT = "agent:claude"


def settings(**permissions: object) -> str:
    return json.dumps({"permissions": permissions}, indent=1)


def verdicts(text: str, asked: list[tuple[str, str]], approved: int = 0) -> list[str]:
    rules = loaded(import_claude_code(text))
    context = Context(approvals={"role:approver": approved} if approved else {})
    return [
        rules.decide(Request(subjects=(AGENT,), action=action, resources=(resource,), context=context)).verdict
        for action, resource in asked
    ]


def test_a_question_wins_over_a_permission_and_a_denial_over_both() -> None:
    text = settings(allow=["Edit(/docs/**)"], ask=["Edit(/docs/legal/**)"], deny=["Edit(/docs/legal/old/**)"])
    asked = [("files.write", f"file:docs/{name}") for name in ("a", "legal/a", "legal/old/a")] + [
        ("files.write", "file:b")
    ]
    # No person has the role here, so an approval that is missing is a denial.
    assert verdicts(text, asked) == ["allow", "deny", "deny", "deny"]
    assert verdicts(text, asked, approved=1) == ["allow", "allow", "deny", "deny"]


def test_a_file_that_may_not_be_read_is_not_listed_or_searched() -> None:
    text = settings(allow=["Read", "Grep", "Glob"], deny=["Read(.env)", "Read(./secrets/**)"])
    asked = [
        (f"files.{how}", f"file:{name}")
        for name in (".env", "a/.env", "secrets/k", "a/b")
        for how in ("read", "search", "list")
    ]
    assert verdicts(text, asked) == ["deny"] * 9 + ["allow"] * 3


@pytest.mark.parametrize(
    ("rule", "asked", "other"),
    [
        ("WebFetch(domain:docs.example.com)", ("http.get", "https://docs.example.com/a"), ("http.get", "https://example.com/a")),
        ("mcp__tickets__get", ("tickets.get", "ticket:1"), ("tickets.close", "ticket:1")),
        ("mcp__tickets", ("tickets.close", "ticket:1"), ("mail.send", "mail:a@example.com")),
        ("Edit(*.md)", ("files.write", "file:a.md"), ("files.write", "file:docs/a.md")),
    ],
)  # fmt: skip
def test_a_permission_becomes_an_action_on_resources(rule: str, asked: tuple[str, str], other: tuple[str, str]) -> None:
    assert verdicts(settings(allow=[rule]), [asked, other]) == ["allow", "deny"]


@pytest.mark.parametrize(
    "rule",
    [
        "Bash",
        "Bash(rm:*)",
        "Read(~/.zshrc)",
        "Read(//etc/passwd)",
        "WebFetch(example.com)",
        "Task",
        "Edit(a[0-9])",
        "x y",
        "mcp__A__b",
        "mcp__*",
        "mcp__tickets__get_*",
        "*",
    ],
)
def test_a_permission_without_counterpart_is_refused_and_allows_nothing(rule: str) -> None:
    (row,) = import_claude_code(settings(allow=[rule])).rows
    assert (row.status, row.rules) == ("refused", ())
    assert row.why


def test_a_denial_that_cannot_be_read_denies_every_file() -> None:
    text = settings(allow=["Edit(/docs/**)"], deny=["Edit(/docs/[ab])"])
    assert verdicts(text, [("files.write", "file:docs/a"), ("files.write", "file:docs/c")]) == ["deny", "deny"]


@pytest.mark.parametrize(
    ("denied", "verdict"),
    [
        ("mcp__tickets__*", ["deny", "deny", "allow"]),
        ("mcp__tickets__delete-all", ["deny", "deny", "allow"]),
        ("mcp__tickets__get_*", ["deny", "deny", "allow"]),
        ("mcp__tickets__get", ["deny", "allow", "allow"]),
        ("mcp__*__get", ["deny", "deny", "deny"]),
        ("*", ["deny", "deny", "deny"]),
        ("mcp__Other-Server__get", ["allow", "allow", "allow"]),
    ],
)
def test_a_denial_of_tools_that_cannot_be_named_exactly_denies_more(denied: str, verdict: list[str]) -> None:
    text = settings(allow=["mcp__tickets", "mcp__mail__*"], deny=[denied])
    assert (
        verdicts(text, [("tickets.get", "ticket:1"), ("tickets.close", "ticket:1"), ("mail.send", "none:")]) == verdict
    )


@pytest.mark.parametrize(
    ("denied", "verdict"),
    [
        ("//**", "deny"),
        ("/{parent}/**", "deny"),
        ("/{project}", "deny"),
        ("/{project}/docs/*.md", "deny"),
        ("~elsewhere/**", "deny"),
        ("/{project}-other/**", "allow"),
        ("//etc/passwd", "allow"),
    ],
)
def test_a_denied_path_outside_denies_every_file_if_the_project_may_be_below_it(
    tmp_path: Path, denied: str, verdict: str
) -> None:
    project = tmp_path / "project"
    rule = denied.format(project=project, parent=tmp_path)
    text = settings(allow=["Edit(/docs/**)"], deny=[f"Edit({rule})"])
    asked = Request(subjects=(AGENT,), action="files.write", resources=("file:docs/a",), context=Context())
    assert loaded(import_claude_code(text, project=project)).decide(asked).verdict == verdict
    assert loaded(import_claude_code(text)).decide(asked).verdict == "deny"


def test_a_question_that_cannot_be_asked_exactly_asks_for_more_and_allows_nothing() -> None:
    asked = [("files.write", "file:docs/a"), ("files.write", "file:other")]
    assert verdicts(settings(ask=["Edit(/docs/[ab])"]), asked, approved=1) == ["deny", "deny"]
    text = settings(allow=["Edit(/docs/**)"], ask=["Edit(/docs/[ab])"])
    assert verdicts(text, asked) == ["deny", "deny"]
    assert verdicts(text, asked, approved=1) == ["allow", "deny"]


def test_settings_beside_the_permissions_that_may_refuse_a_call_are_named() -> None:
    text = json.dumps({"permissions": {"allow": ["Edit(/docs/**)"]}, "hooks": {"PreToolUse": []}, "model": "x"})
    imported = import_claude_code(text)
    assert [(row.status, row.text.split()[0]) for row in imported.rows] == [("kept", "allow"), ("refused", "hooks")]
    assert "it may refuse calls" in imported.rows[1].why


def test_other_settings_are_named_and_allow_nothing() -> None:
    text = settings(defaultMode="bypassPermissions", additionalDirectories=["../other"], allow=[])
    imported = import_claude_code(text)
    assert [(row.line, row.status, row.rules) for row in imported.rows] == [(3, "refused", ()), (4, "refused", ())]
    assert import_claude_code(settings(defaultMode="default")).rows == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"permissions": []}',
        '{"permissions": {"allow": "Read"}}',
        '{"permissions": {"deny": [1]}}',
        "[" * 9000,
    ],
)
def test_a_file_that_is_no_settings_is_one_error(text: str) -> None:
    with pytest.raises(UsageError):
        import_claude_code(text)


def test_cases_are_those_that_hold_whatever_the_user_may() -> None:
    imported = import_claude_code(settings(allow=["Edit(/docs/**)"], deny=["Edit(/docs/secret/**)"]))
    assert "expect: deny" in imported_cases(imported)
    assert "expect: allow" not in imported_cases(imported)
