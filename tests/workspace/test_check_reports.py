"""`remit check` is the one check: every kind of mistake is a finding with its level, and other programs can read the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml

from remit.analysis.check import CheckReport, check_workspace, report_text
from remit.core import FINDINGS, Finding
from support import ROOT
from support.runs import Command, Remit
from support.workspaces.large import large_workspace

SARIF: dict[str, Any] = json.loads((ROOT / "tests/support/sarif-2.1.0.json").read_text())
HOSTILE = Finding(
    level="warning",
    code="source",
    file="tools/a,b:c/main.py",
    line=3,
    what="50% of <it> & \"that\", 'this'\n::error::forged \u202e\x1b[31m",
    fix="]]> fix",
)


def append(file: str, text: str) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        path = root / file
        path.write_text((path.read_text() if path.exists() else "") + text)

    return edit


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return edit


RULE = "\n# new\np, agent:triage, files.read, {}, True, {}\n"
CASE = "\n- {{note: new, action: {}, arguments: {}, expect: {{value: 1}}}}\n"

# what was edited: (edit, level, code, file, part of what)
KINDS: dict[str, tuple[Callable[[Path], None], str, str, str, str]] = {
    "a file that does not load": (replaced("tools/files/tool.toml", "summary =", "sumary ="), "error", "invalid", "tools/files/tool.toml", "unknown key 'sumary'"),
    "a rule with a misspelled name": (append("policies/rules.csv", RULE.format("tabel:x", "allow")), "error", "invalid", "policies/rules.csv", "'tabel'"),
    "a case that does not hold": (append("policies/rules.csv", RULE.format("file:logs/**", "deny")), "error", "case", "policies/cases.yaml", "expected allow, got deny"),
    "a tool that nobody has reviewed": (append("tools/files/main.py", "\n\n_NEW = 1\n"), "error", "pin", "policies/tools.lock", "tool 'files' has changed since it was pinned"),
    "a case of an action that does not exist": (append("tools/files/cases.yaml", CASE.format("files.raed", "{path: a}")), "error", "tool_case", "tools/files/cases.yaml", "no action has the name 'files.raed'"),
    "a case with an argument that does not exist": (append("tools/files/cases.yaml", CASE.format("files.read", "{pth: a}")), "error", "tool_case", "tools/files/cases.yaml", "files.read has no argument 'pth'"),
    "a script that approves what the agent does not have": (replaced("agent/triage/script.yaml", "action: tickets.close", "action: http.get"), "error", "script", "agent/triage/script.yaml", "approves 'http.get'"),
    "an agent that keeps its runs and does not exist": (append("remit.toml", '\n[[traces.keep_rules]]\nkeep = "7d"\nagent = "trige"\n'), "error", "reference", "remit.toml", "no file declares the agent 'trige'"),
    "a label of a kind that does not exist": (append("policies/labels.toml", '\n[[label]]\nnote = "Orders"\nlabels = ["private"]\nresources = ["tabel:orders"]\n'), "error", "reference", "policies/labels.toml", "no file declares the kind of resource 'tabel'"),
    "a scenario that is not valid": (replaced("agent/triage/evals/triage.yaml", "  expect:", "  expcet:"), "error", "scenario", "agent/triage/evals/triage.yaml", "unknown key 'expcet'"),
    "a rule that a deny overrides": (append("policies/rules.csv", RULE.format("file:secrets/x", "allow")), "warning", "shadowed", "policies/rules.csv", "line 51 of policies/rules.csv denies it"),
    "a rule without a case": (append("policies/rules.csv", "\n# new\np, agent:triage, files.search, file:reports/**, True, allow\n"), "note", "uncovered", "policies/rules.csv", "no policy case is decided by it"),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "level", "code", "file", "what"), list(KINDS.values()), ids=list(KINDS))
def test_one_command_finds_every_kind_of_mistake_with_its_level(
    remit: Remit, session: Path, edit: Callable[[Path], None], level: str, code: str, file: str, what: str
) -> None:
    edit(session)
    checked = remit("check", "--json")
    found = [item for item in checked.json["findings"] if (item["level"], item["code"]) == (level, code)]
    assert any(item["file"] == file and what in item["what"] and item["fix"] for item in found), checked.out
    assert checked.code == {"error": 2, "warning": 1, "note": 0}[level]
    assert checked.json["ok"] is (level == "note")


def test_a_level_fails_as_the_setting_says_and_an_option_overrides_it(remit: Remit, session: Path) -> None:
    append("policies/rules.csv", RULE.format("file:secrets/x", "allow"))(session)
    assert remit("check").code == 1
    assert remit("check", "--fail-on", "error").code == 0
    replaced("remit.toml", 'fail_on = "warning"', 'fail_on = "error"')(session)
    assert remit("check").code == 0
    assert remit("check", "--fail-on", "note").code == 1
    replaced("remit.toml", 'fail_on = "error"', 'fail_on = "never"')(session)
    assert remit("check").code == 2


def test_notes_are_counted_and_shown_on_request(remit: Remit) -> None:
    short, whole = remit("check"), remit("check", "--all")
    assert (short.code, short.err) == (0, "")
    assert "0 problems, 5 notes (--all)" in short.out
    assert whole.err.count("note: ") == 5


def test_a_report_of_thousands_of_findings_has_few_lines_and_all_of_them_on_request() -> None:
    from remit.cli.check import finding_lines

    many = [
        Finding(level="warning", code=code, file="policies/rules.csv", line=at, what=f"row {at}", fix="fix it")
        for code in (
            "redundant",
            "shadowed",
            "never",
            "always",
            "beyond",
            "source",
            "unreachable",
            "nobody_to_ask",
            "pin",
        )
        for at in range(300)
    ]
    short = "\n".join(finding_lines(many, show_all=False))
    assert short.count("\n") < 200
    assert f"… {len(many) - 80} more; in all: 300 redundant, 300 shadowed" in short
    assert "\n".join(finding_lines(many, show_all=True)).count("fix: ") == len(many)


def test_a_large_workspace_prints_few_lines_and_finds_no_error(tmp_path: Path, command: Command) -> None:
    """`make bench-analysis` does the same with 5,000 rules, 300 tools and 50 agents, within 5 s of processor time."""
    folder = large_workspace(tmp_path, rules=300, tools=20, agents=10)
    checked = command(folder, "check")
    assert checked.code == 0
    assert (checked.out + checked.err).count("\n") <= 200
    assert " 0 errors, " in checked.out
    assert "--all shows every one" in checked.err


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[CheckReport]:
    """A report of a real workspace, an empty one, and one whose texts try to break the format."""
    return [
        check_workspace(ROOT),
        CheckReport(findings=(), counts={}),
        CheckReport(
            findings=(HOSTILE, Finding(level="error", code="pin", file="a", what="b", fix="c")), counts={"tools": 1}
        ),
    ]


def test_sarif_is_valid_and_has_each_finding_with_its_rule_and_line(reports: list[CheckReport]) -> None:
    """Against the schema that OASIS publishes."""
    for report in reports:
        body = json.loads(report_text(report, "sarif", fail_on="warning"))
        jsonschema.Draft4Validator(SARIF).validate(body)
        (run,) = body["runs"]
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert {*FINDINGS} <= {*rules}
        assert [(one["level"], rules[one["ruleIndex"]]) for one in run["results"]] == [
            (item.level, item.code) for item in report.findings
        ]
    place = json.loads(report_text(reports[2], "sarif", fail_on="error"))["runs"][0]["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == HOSTILE.file
    assert place["physicalLocation"]["region"] == {"startLine": 3}


def test_junit_has_a_failure_for_each_finding_that_fails(reports: list[CheckReport]) -> None:
    for report, at, failures in (
        (reports[0], "error", 0),
        (reports[1], "note", 0),
        (reports[2], "warning", 2),
        (reports[2], "error", 1),
    ):
        suites = ElementTree.fromstring(report_text(report, at and "junit", fail_on=at))  # type: ignore[arg-type]
        (suite,) = suites
        assert (suites.tag, suite.tag, suite.get("failures"), suite.get("tests")) == (
            "testsuites", "testsuite", str(failures), str(max(1, failures)),
        )  # fmt: skip
        assert [len(case) for case in suite.iter("testcase")] == ([1] * failures or [0])


# What the schema of Apache Ant requires and the one of Jenkins' xUnit plugin (junit-10.xsd) permits: children in their order, and attributes.
JUNIT_XML: dict[str, tuple[str, set[str]]] = {
    "testsuites": (r"testsuite ", set()),
    "testsuite": (
        r"properties (testcase )+system-out system-err ",
        {"name", "package", "id", "hostname", "timestamp", "tests", "failures", "errors", "skipped", "time"},
    ),
    "properties": ("", set()),
    "testcase": (r"(failure )?", {"classname", "name", "time"}),
    "failure": ("", {"type", "message"}),
    "system-out": ("", set()),
    "system-err": ("", set()),
}


def test_junit_has_the_elements_and_attributes_that_the_schemas_of_ant_and_jenkins_have(
    reports: list[CheckReport],
) -> None:
    for report in reports:
        root = ElementTree.fromstring(report_text(report, "junit", fail_on="note"))
        for element in root.iter():
            children, attributes = JUNIT_XML[element.tag]
            assert re.fullmatch(children, "".join(f"{child.tag} " for child in element)), element.tag
            assert {*element.keys()} == attributes
        (suite,) = root
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
        assert len(list(root.iter("testcase"))) == int(suite.get("tests", "-1"))


def test_annotations_of_github_are_one_line_each_and_cannot_be_forged(reports: list[CheckReport]) -> None:
    first, second = report_text(reports[2], "github", fail_on="error").splitlines()
    assert first.startswith("::warning file=tools/a%2Cb%3Ac/main.py,line=3,title=remit check%3A source::50%25 of")
    assert "%0A::error::forged" in first
    assert "\u202e" not in first
    assert second == "::error file=a,title=remit check%3A pin::b%0Afix: c"


def test_the_hook_for_pre_commit_runs_the_check_where_it_matters() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language"} <= set(hook)
    assert (hook["entry"], hook["pass_filenames"]) == ("remit check", False)
    matches = [
        bool(re.search(hook["files"], file))
        for file in ("policies/rules.csv", "tools/a/main.py", "remit.toml", "src/a.py")
    ]
    assert matches == [True, True, True, False]
