"""Resources that a reviewer knows, so that a finding is shown by one of them: those of recorded runs, cases, working folders and rules.

They replace an invented witness only where both sides of a comparison decide them as they decide that witness.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from remit.analysis.solver.findings import Finding, PolicyDifference, Witness
from remit.analysis.solver.ruleset import RuleSet
from remit.core import Rule, WorkspaceError, action_matches
from remit.core.events import CallDecided, Recorded
from remit.core.parsing import read_rows
from remit.policy import CaseTable
from remit.policy.language import GlobError, Pattern, parse_pattern, parse_resource
from remit.workspace import Workspace

MOST: Final = 2_000  # names of one kind of resource
MOST_TRIED: Final = 200  # names that are decided for one finding
SHOWN: Final = 3  # names of one finding


@dataclass(frozen=True, kw_only=True)
class KnownName:
    """A resource, and where it is known from: "a recorded run", "policies/cases.yaml:12", "agent/triage/incident"."""

    resource: str
    source: str


class RealNames:
    """Known resources by kind, each once; those of the sources that come first are preferred."""

    def __init__(self, found: Iterable[KnownName] = ()) -> None:
        by_kind: defaultdict[str, dict[str, KnownName]] = defaultdict(dict)
        for known in found:
            of_kind = by_kind[known.resource.partition(":")[0]]
            if len(of_kind) < MOST and _is_resource(known.resource):
                of_kind.setdefault(known.resource, known)
        self._by_kind: Final = {kind: tuple(names.values()) for kind, names in by_kind.items()}

    def with_rules(self, *rule_sets: RuleSet) -> RealNames:
        """These names, and those that rules name in full."""
        every = (known for names in self._by_kind.values() for known in names)
        return RealNames((*every, *(known for rule_set in rule_sets for known in names_in_rules(rule_set))))

    def like(self, resource: str) -> tuple[KnownName, ...]:
        """The known names of the kind of that resource."""
        return self._by_kind.get(resource.partition(":")[0], ())


def _is_resource(text: str) -> bool:
    try:
        return not parse_resource(text).whole
    except GlobError:
        return False


def names_in_records(runs: Iterable[Sequence[Recorded]]) -> Iterator[KnownName]:
    """The resources of recorded calls."""
    for records in runs:
        for recorded in records:
            if isinstance(event := recorded.event, CallDecided) and event.call is not None:
                for touch in event.call.touches:
                    yield KnownName(resource=touch.resource, source="a recorded run")


def names_in_cases(tables: Iterable[CaseTable]) -> Iterator[KnownName]:
    """The resources of policy cases. A table that is not valid has none: a check reports it."""
    for file, text in tables:
        try:
            rows = list(read_rows(text, file=file))
        except WorkspaceError:
            continue
        for row in rows:
            value: object = row.value
            named = cast("dict[str, Any]", value).get("resources") if isinstance(value, dict) else None
            for resource in cast("list[object]", named) if isinstance(named, list) else []:
                if isinstance(resource, str):
                    yield KnownName(resource=resource, source=f"{file}:{row.line}")


def names_in_seeds(workspace: Workspace) -> Iterator[KnownName]:
    """The files with which the working folders of agents begin."""
    if workspace.root is None:
        return
    for seed in dict.fromkeys(agent.seed for agent in workspace.agents.values() if agent.seed):
        for path in islice(_files_below(workspace.root / seed), MOST):
            if not path.startswith("stores/"):  # a store is a resource of its own
                yield KnownName(resource=f"file:{path}", source=seed)


def _files_below(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield (Path(place) / name).relative_to(folder).as_posix()


def names_in_rules(rule_set: RuleSet) -> Iterator[KnownName]:
    """The patterns of rows that are one resource."""
    for row in rule_set.rows:
        if row.pattern.kind and "*" not in row.pattern.text:
            yield KnownName(resource=row.pattern.text, source=f"{row.rule.file}:{row.rule.line}")


def real_witnesses(found: PolicyDifference, finding: Finding, names: RealNames) -> Finding:
    """The finding with known resources as its first witnesses; unchanged where none changes in the same way.

    First come resources that a rule denies to others, then the others in the order of their sources.
    """
    first = finding.witnesses[0]
    if first.context.resource:  # properties of the invented resource, which no other has
        return finding
    changing = list(islice(_changing(found, finding, names), 4 * SHOWN))
    if finding.wider:
        changing.sort(key=lambda known: denied_to_others(found.new, finding, known.resource) is None)
    real = tuple(
        Witness(subjects=first.subjects, resource=known.resource, context=first.context) for known in changing[:SHOWN]
    )
    return replace(finding, witnesses=(*real, *finding.witnesses)) if real else finding


def _changing(found: PolicyDifference, finding: Finding, names: RealNames) -> Iterator[KnownName]:
    """The known resources whose verdict changes as that of the witness does, for each of its subjects."""
    patterns = [_pattern_of(rule) for rule in (*finding.added, *finding.removed)]
    patterns += [parse_pattern(text) for text in (*finding.in_reach, *finding.out_of_reach)]
    near = (known for known in names.like(finding.resource) if _any_covers(patterns, known.resource))
    witness = finding.witnesses[0]
    for known in islice(near, MOST_TRIED):
        verdicts = {
            (
                found.old.verdict(subject, finding.action, known.resource, witness.context),
                found.new.verdict(subject, finding.action, known.resource, witness.context),
            )
            for subject in witness.subjects
        }
        if verdicts == {(finding.before, finding.after)}:
            yield known


def _any_covers(patterns: Iterable[Pattern], resource: str) -> bool:
    named = parse_resource(resource)
    return any(pattern.covers(named) for pattern in patterns)


def _pattern_of(rule: Rule) -> Pattern:
    return parse_pattern(rule.text.split(",")[3].strip())


def denied_to_others(rule_set: RuleSet, finding: Finding, resource: str) -> tuple[str, Rule] | None:
    """Another subject to whom a rule denies the action on that resource, and the rule; None if there is none."""
    named, mine = parse_resource(resource), {*finding.subjects, *rule_set.roles.get(finding.subject, ())}
    for row in rule_set.denies_of(named.kind):
        if row.subject not in mine and action_matches(finding.action, row.action) and row.pattern.covers(named):
            return row.subject, row.rule
    return None


def real_names_text(found: PolicyDifference, finding: Finding, names: RealNames) -> Iterator[str]:
    """Why the resource of the finding, and further known ones that change with it, matter to a reviewer."""
    known = {item.resource: item.source for item in names.like(finding.resource)}
    if finding.resource not in known:
        return
    word = "opens" if finding.before == "deny" else "closes" if finding.after == "deny" else "concerns"
    others = denied_to_others(found.new, finding, finding.resource) if finding.wider else None
    if others is not None:
        who, rule = others
        yield f"{word} {finding.resource}, which {rule.file}:{rule.line} denies to {who}"
    else:
        yield f"{word} {finding.resource}, known from {known[finding.resource]}"
    witnesses = [witness.resource for witness in finding.witnesses[1:SHOWN]]
    if more := [name for name in witnesses if name in known and name != finding.resource]:
        yield f"and {', '.join(more)}"
