"""A comparison shows its findings by resources that exist, says its boundaries in words, and is short."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from remit.analysis.diff.manifests import ManifestChange
from remit.analysis.diff.permissions import PermissionDiff, permission_diff
from remit.analysis.diff.policy import compare_policies
from remit.analysis.diff.real_names import (
    KnownName,
    RealNames,
    names_in_cases,
    names_in_seeds,
    real_names_text,
    real_witnesses,
)
from remit.analysis.diff.revisions import working_tree
from remit.analysis.diff.witnesses import boundary_text, find_denied_counterpart, verify_witnesses
from remit.analysis.solver.findings import Finding, PolicyDifference
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.cli.policy.permission_diff import _markdown, _text  # the text of the command, without a process
from remit.policy.folder import CaseTable
from support import ROOT
from support.runs import Remit

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
DENY = "p, agent:triage, *, table:customers, True, deny\n"


def side(text: str) -> RuleSet:
    return read_rule_set("rules", {"policies/model.conf": MODEL, "policies/rules.csv": text.encode()})


def compared(old: str, new: str, *known: str) -> tuple[PolicyDifference, Finding, RealNames]:
    found = compare_policies(side(old), side(new))
    names = RealNames(KnownName(resource=name, source="policies/cases.yaml:3") for name in known)
    names = names.with_rules(found.old, found.new)
    return found, real_witnesses(found, found.findings[0], names), names


def test_a_change_is_shown_by_the_resource_that_a_rule_denies_to_others() -> None:
    """`table:payments` becomes `table:*`: that opens the one table which the rules protect."""
    old = f"{DENY}p, agent:billing, sql.query, table:payments, True, allow\n"
    found, finding, names = compared(old, old.replace("table:payments", "table:*"), "table:orders")
    assert finding.resource == "table:customers"
    assert list(real_names_text(found, finding, names)) == [
        "opens table:customers, which policies/rules.csv:1 denies to agent:triage",
        "and table:orders",
    ]
    assert verify_witnesses(found).wrong == ()


def test_without_such_a_rule_it_is_shown_by_a_known_resource_and_its_source() -> None:
    old = "p, agent:billing, sql.query, table:payments, True, allow\n"
    found, finding, names = compared(old, old.replace("table:payments", "table:*"), "table:orders")
    assert list(real_names_text(found, finding, names)) == ["opens table:orders, known from policies/cases.yaml:3"]


def test_a_known_resource_that_does_not_change_is_not_shown() -> None:
    old = "p, agent:a, files.read, file:logs/**, True, allow\np, agent:a, files.read, file:secrets/**, True, deny\n"
    found, finding, names = compared(
        old, old.replace("file:logs/**", "file:**"), "file:secrets/key", "file:logs/a", "mail:x@y.z"
    )
    assert finding.resource not in ("file:secrets/key", "file:logs/a")
    assert list(real_names_text(found, finding, names)) == []


def test_every_witness_of_a_known_resource_is_decided_so_by_both_sides() -> None:
    old = f"{DENY}p, agent:b, sql.query, table:payments, args.n < 3, allow\np, agent:b, sql.query, table:locked, True, deny\n"
    new = old.replace("table:payments, args.n < 3", "table:*, args.n < 4")
    found, finding, _ = compared(old, new, "table:locked", "table:orders", "table:payments", "table:x")
    assert len({witness.resource for witness in finding.witnesses}) >= 3
    for witness in finding.witnesses:
        for subject in witness.subjects:
            before = found.old.verdict(subject, finding.action, witness.resource, witness.context)
            after = found.new.verdict(subject, finding.action, witness.resource, witness.context)
            assert (before, after) == (finding.before, finding.after), witness


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("table:payments, True", "table:*, True", "still denied for agent:other"),
        ("file:a/**, True", "file:b/**, True", "still denied on file:other/other"),
        ("file:a, args.n < 3", "file:a, args.n < 4", "still denied with args.n = 4.5"),
        ("file:a, has(args.n)", "file:a, has(args.m)", "still denied without args.m"),
    ],
)
def test_a_boundary_says_in_words_what_differs(old: str, new: str, expected: str) -> None:
    before, after = (f"p, agent:b, x.y, {text}, allow\n" for text in (old, new))
    found = compare_policies(side(before), side(after))
    finding = next(item for item in found.findings if item.wider)
    denied = find_denied_counterpart(found, finding)
    assert denied is not None
    assert boundary_text(finding, denied) == expected


def test_a_known_resource_comes_first_as_a_boundary() -> None:
    old = "p, agent:a, files.read, file:logs/**, True, allow\np, agent:a, files.read, file:secrets/**, True, deny\n"
    found, finding, names = compared(old, old.replace("file:logs/**", "file:**"), "file:secrets/key")
    denied = find_denied_counterpart(found, finding, (item.resource for item in names.like(finding.resource)))
    assert denied is not None
    assert boundary_text(finding, denied) == "still denied on file:secrets/key"


def test_names_come_from_cases_and_from_files_of_working_folders(session: Path) -> None:
    tables = (CaseTable("policies/cases.yaml", "- {note: a, resources: ['table:x', 7]}\n- {note: b}\n"),)
    assert [(known.resource, known.source) for known in names_in_cases(tables)] == [
        ("table:x", "policies/cases.yaml:1")
    ]
    assert list(names_in_cases((CaseTable("policies/cases.yaml", "- ["),))) == []
    seeds = {known.resource for known in names_in_seeds(working_tree(session).workspace)}
    assert "file:logs/payments.log" in seeds
    assert not any(name.startswith("file:stores/") for name in seeds)


def edited(folder: Path, file: str, old: str, new: str) -> Path:
    copy = folder.parent / "edited"
    shutil.copytree(folder, copy)
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    return copy


def test_a_command_names_what_a_recorded_run_read(session: Path, remit: Remit, tmp_path: Path) -> None:
    """The resource is in no rule, no case and no working folder: only the run has it."""
    done = remit("call", "files.read", '{"path": "logs/seen-by-a-run.log"}', "--agent", "triage")
    assert done.code != 0  # there is no such file; the call was allowed and recorded
    narrow = tmp_path / "narrow"
    shutil.copytree(session, narrow, ignore=shutil.ignore_patterns("traces", "work"))
    rules = narrow / "policies/rules.csv"
    rules.write_text(rules.read_text().replace("p, agent:triage, files.read, file:logs/**, True, allow", "", 1))
    shown = remit("diff", str(narrow), ".")
    assert "on file:logs/seen-by-a-run.log" in shown.out, shown
    assert "opens file:logs/seen-by-a-run.log, known from a recorded run" in shown.out


def test_a_tool_that_is_unpinned_on_both_sides_is_no_change(session: Path) -> None:
    """What was not pinned before and is not pinned now, and is equal, becomes one line."""
    (session / "policies/tools.lock").write_text('{"format": 1, "tools": {}}')
    before = working_tree(session).workspace
    unpinned = [name for name, tool in before.tools.items() if not tool.pinned]
    assert unpinned
    same = permission_diff(before, working_tree(session).workspace)
    assert (same.sentences, len(same.notes)) == ((), 1)
    assert same.notes[0].startswith("pinned neither before nor after, and equal: ")
    wider = edited(session, "tools/files/tool.toml", 'write = ["reports/**"]', 'write = ["reports/**", "other/**"]')
    changed = permission_diff(before, working_tree(wider).workspace)
    assert changed.of("wider")  # the twin: an unpinned tool that changed counts as if it were pinned


def many(count: int) -> PermissionDiff:
    sentences = tuple(
        ManifestChange(
            direction="wider",
            text=f"agent:a{number % 7} may now call t.x on file:{number} (was denied)",
            because=tuple(f"by rule {cause}" for cause in range(12)),
            boundary="still denied on file:other",
            owner=("", "billing", "desk")[number % 3],
        )
        for number in range(count)
    )
    return PermissionDiff(sentences=sentences, notes=())


def test_a_long_comparison_is_cut_with_counts_and_all_shows_it() -> None:
    found = many(1_300)
    for text in (_text(found), _markdown(found)):
        assert len(text.splitlines()) <= 200
        assert len(text) < 65_536  # the most that a comment of a pull request holds
        assert re.search(r"… and [34]\d\d more \(\d+ of agent:a\d, ", text)
        assert "1300" in text
    assert len(_text(found, show_all=True).splitlines()) > 5_000
    assert "more (" not in _text(many(3))
