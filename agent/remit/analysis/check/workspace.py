"""Checks the whole workspace: its files, the rules, the pins, the code of the tools, and every table of cases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from remit.analysis.cases import find_uncovered, run_tables
from remit.analysis.check.references import check_references
from remit.analysis.lint import lint_rules
from remit.analysis.solver.ruleset import RuleSet, without_garbage_collection
from remit.core import LEVELS, Finding, Level, Problem, WorkspaceError, finding_of
from remit.core.parsing import read_file, table_text
from remit.guardrails import CASES as CONTENT_CASES
from remit.guardrails import check_content
from remit.policy import CASES, Policy, cases_beside, read_case_tables
from remit.runtime.models import ScriptedModel, open_model
from remit.tools import check_grants, check_packages, check_source, check_tool_cases, undecided_problems
from remit.workspace import Workspace, load_workspace_and_policy, vocabulary
from remit.workspace.manifest import LOCK, wrong_authorities


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The findings, the gravest first, and how many items of each kind were checked; no counts if the files could not be loaded.

    `fail_on` is the level of remit.toml at which a check fails. `workspace` is what was checked, None if it could not be loaded.
    """

    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    fail_on: Level = "error"
    workspace: Workspace | None = field(default=None, repr=False, compare=False)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Only the errors."""
        return tuple(item for item in self.findings if item.level == "error")

    def count(self, level: Level) -> int:
        """How many findings have that level."""
        return sum(item.level == level for item in self.findings)

    def fails(self, at: Level) -> bool:
        """True if a finding has that level or a graver one."""
        return any(LEVELS.index(item.level) <= LEVELS.index(at) for item in self.findings)

    def with_findings(self, more: Iterable[Finding], counts: Mapping[str, int]) -> CheckReport:
        """The report with the findings and counts of another check."""
        return replace(self, findings=_ordered([*self.findings, *more]), counts={**self.counts, **counts})


def check_workspace(root: Path, *, rules: bool = True) -> CheckReport:
    """Load the whole workspace, and check everything in it. `rules` False: rules are only loaded and tried on the cases."""
    with without_garbage_collection():
        return _check(root, rules=rules)


def _check(root: Path, *, rules: bool) -> CheckReport:
    try:
        workspace, policy = load_workspace_and_policy(root)
    except WorkspaceError as error:
        return CheckReport(findings=_ordered(finding_of(problem, "invalid") for problem in error.problems), counts={})
    cases, findings = _policy_cases(root, policy)
    if rules:
        findings += lint_rules(rule_set_of(workspace, policy), workspace)
    findings += check_references(workspace)
    findings += _pins(workspace)
    content_cases, wrong = _content_cases(root, workspace)
    findings += wrong
    tool_cases = 0
    for name in workspace.tools:
        findings += [finding_of(problem, "undecided") for problem in undecided_problems(workspace, name)]
        found, wrong = check_tool_cases(workspace, name)
        tool_cases += found
        findings += wrong
        findings += [*check_packages(workspace, name), *check_source(workspace, name), *check_grants(workspace, name)]
        wrong_files = wrong_authorities(workspace.tools[name].manifest.authorities, workspace.code(name))
        findings += [finding_of(problem, "authority") for problem in wrong_files]
    findings += _scripts(root, workspace)
    observing = sum(agent.observe is not None for agent in workspace.agents.values())
    counts = {
        "tools": len(workspace.tools),
        "agents": len(workspace.agents),
        "rules": len(policy.rules),
        "policy cases": cases,
        "tool cases": tool_cases,
        **({"agents that observe": observing} if observing else {}),
        **({"content cases": content_cases} if content_cases else {}),
    }
    return CheckReport(
        findings=_ordered(findings), counts=counts, fail_on=workspace.settings.fail_on, workspace=workspace
    )


def rule_set_of(workspace: Workspace, policy: Policy) -> RuleSet:
    """The rules of a loaded policy, as the solver reads them."""
    return RuleSet(label="", rows=policy.rows, links=policy.links, vocabulary=vocabulary(workspace))


def edit_workspace(root: Path, files: Mapping[str, bytes], *, repin: Collection[str] = ()) -> None:
    """Write these files of the workspace. If it then has an error that it did not have before, nothing is changed.

    The tools in `repin` may be other than the reviewed ones afterwards.

    Raises:
        WorkspaceError: with the new errors.
    """
    before = check_workspace(root, rules=False).errors
    kept = {file: read_file(root / file, file=file) if (root / file).exists() else None for file in files}
    made = {folder for file in files for folder in (root / file).parents if not folder.exists()}
    _write(root, files)
    expected = {(LOCK, _review(tool)) for tool in repin}
    after = (item for item in check_workspace(root, rules=False).errors if item not in before)
    new = [item for item in after if (item.file, item.fix) not in expected]
    if new:
        _write(root, kept)
        for folder in sorted(made, reverse=True):  # inner folders first
            with suppress(OSError):  # something else has written into it meanwhile
                folder.rmdir()
        raise WorkspaceError([item.problem for item in new])


def _write(root: Path, files: Mapping[str, bytes | None]) -> None:
    for file, data in files.items():
        if data is None:
            (root / file).unlink()
        else:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(data)


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings without repetition: by level, then in the order in which the checks ran."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda item: LEVELS.index(item.level)))


def _policy_cases(root: Path, policy: Policy) -> tuple[int, list[Finding]]:
    path = root / CASES
    if not path.exists():
        problem = Problem(file=CASES, what="there is no table of policy cases", fix="write one case for each rule")
        return 0, [finding_of(problem, "case")]
    try:
        results = run_tables(policy, read_case_tables(root / "policies"))
    except WorkspaceError as error:
        return 0, [finding_of(problem, "case") for problem in error.problems]
    fix = "fix the rule, or the case if the rule is right"
    failed = (
        Problem(file=result.file, line=result.line, what=f"{result.note}: {result.message}", fix=fix)
        for result in results
        if not result.passed
    )
    coverage = find_uncovered(policy, results)
    uncovered = [
        Problem(
            file=rule.file,
            line=rule.line,
            what="no policy case is decided by it",
            fix=f"write one in {cases_beside(rule.file)}",
        )
        for rule in coverage.rules
    ]
    uncovered += [
        Problem(file=CASES, what=f"no policy case calls {action}", fix="write one") for action in coverage.actions
    ]
    return len(results), [
        *(finding_of(problem, "case") for problem in failed),
        *(finding_of(problem, "uncovered", "note") for problem in uncovered),
    ]


def _pins(workspace: Workspace) -> Iterator[Finding]:
    for name, tool in workspace.tools.items():
        if not tool.pinned:
            state = "is not pinned" if tool.pin is None else "has changed since it was pinned"
            yield Finding(level="error", code="pin", file=LOCK, what=f"tool {name!r} {state}", fix=_review(name))


def _review(tool: str) -> str:
    return f"review tools/{tool}, then run `remit tool pin {tool}`"


def _content_cases(root: Path, workspace: Workspace) -> tuple[int, list[Finding]]:
    try:
        count, problems = check_content(workspace.content, table_text(root / CONTENT_CASES, file=CONTENT_CASES))
    except WorkspaceError as error:
        count, problems = 0, list(error.problems)
    return count, [finding_of(problem, "content_case") for problem in problems]


def _scripts(root: Path, workspace: Workspace) -> Iterator[Finding]:
    """Approvals in scripts for actions that the agent does not have, and scripts that are not valid."""
    scripted = [
        (name, agent, spec)
        for name, agent in workspace.agents.items()
        for spec in agent.models
        if spec.startswith("script:")
    ]
    for name, agent, spec in scripted:
        try:
            model = open_model(spec, folder=root / "agent" / name)
        except WorkspaceError as error:
            yield from (finding_of(problem, "script") for problem in error.problems)
            continue
        if isinstance(model, ScriptedModel):
            for item in model.approvals:
                if item.action not in agent.actions:
                    yield Finding(
                        level="error",
                        code="script",
                        file=f"agent/{name}/{spec.partition(':')[2]}",
                        what=f"approves {item.action!r}, which the agent does not have",
                        fix="name one of its actions",
                    )
