"""Suggest rules: a minimal subset of the current rules that keeps every recorded call, proved to allow nothing more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from remit.analysis.backtest import RecordedDecision, allowed_pairs
from remit.analysis.covering import minimal_cover
from remit.analysis.diff.policy import compare_policies
from remit.analysis.drafting.rows import narrow_pattern
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Request, action_matches
from remit.policy.language import RuleRow, parse_resource


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How much the record says: `single` kept rules are needed by one call each; `unrecorded` agents have rules that are dropped, and no run."""

    runs: int
    single: int
    unrecorded: tuple[str, ...]

    @property
    def missed(self) -> float:
        """The share of runs that may need a dropped rule although none of these did, at 95% confidence.

        It is the upper bound of a rate of which nothing was seen in n trials: 1 - 0.05^(1/n), about 3/n (Hanley and
        Lippman-Hand, JAMA 249, 1983).
        """
        return 1 - 0.05 ** (1 / self.runs) if self.runs else 1.0


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Rules by file, which current rules they drop or narrow, and on how much evidence.

    `proved`: they allow nothing that the current rules do not. `lost`: recorded requests with another verdict.
    """

    files: Mapping[str, str]
    kept: int
    dropped: tuple[str, ...]
    narrowed: tuple[tuple[str, str], ...]
    calls: int
    lost: tuple[Request, ...]
    proved: bool
    evidence: Evidence


def suggest_rules(rule_set: RuleSet, files: Mapping[str, bytes], recorded: Sequence[RecordedDecision]) -> Suggestion:
    """Choose a minimal set of the current rules that covers every recorded call, narrow them, and prove the result.

    Deny rules and roles stay unchanged: a record of calls says nothing about what must never happen.
    """
    pairs = allowed_pairs(recorded)
    candidates = {
        (place, rows): None for place, found in pairs.items() for rows in _allowing_rows(rule_set, place, found)
    }
    kept = minimal_cover({frozenset(row.number for row in rows) for _, rows in candidates})
    used: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    calls: Counter[int] = Counter()
    for asked, rows in candidates:
        row = next(one for one in rows if one.number in kept)
        used[row.number].append(asked[1:])
        calls[row.number] += len(pairs[asked])
    edits: dict[tuple[str, int], str | None] = {}
    dropped: list[str] = []
    narrowed: list[tuple[str, str]] = []
    for row in rule_set.rows:
        if row.rule.effect == "deny":
            continue
        place = (row.rule.file, row.rule.line)
        if row.number not in kept:
            edits[place] = None
            dropped.append(row.rule.text)
        elif (narrower := _narrow_row(row, used[row.number])) is not None:
            edits[place] = narrower
            narrowed.append((row.rule.text, narrower))
    written = {file: _edit_file(file, data.decode(), edits) for file, data in files.items() if file.endswith(".csv")}
    after = read_rule_set(
        "suggested", {**files, **{file: text.encode() for file, text in written.items()}}, rule_set.vocabulary
    )
    requests = [one.request for one in recorded if one.verdict != "deny"]
    lost = tuple(
        request
        for request in requests
        if after.policy.decide(request).verdict != rule_set.policy.decide(request).verdict
        and rule_set.policy.decide(request).verdict != "deny"
    )
    return Suggestion(
        files=written,
        kept=len(kept),
        dropped=tuple(dropped),
        narrowed=tuple(narrowed),
        calls=len(requests),
        lost=lost,
        proved=compare_policies(rule_set, after).no_wider,
        evidence=_evidence(rule_set, recorded, edits, calls),
    )


def _evidence(
    rule_set: RuleSet,
    recorded: Sequence[RecordedDecision],
    edits: Mapping[tuple[str, int], str | None],
    calls: Mapping[int, int],
) -> Evidence:
    seen = {subject for one in recorded for subject in one.request.subjects}
    dropped = {row.subject for row in rule_set.rows if edits.get((row.rule.file, row.rule.line), "") is None}
    return Evidence(
        runs=len({one.run for one in recorded}),
        single=sum(count == 1 for count in calls.values()),
        unrecorded=tuple(sorted(subject for subject in dropped - seen if subject.startswith("agent:"))),
    )


def _allowing_rows(
    rule_set: RuleSet, place: tuple[str, str, str], found: Iterable[RecordedDecision]
) -> Iterator[tuple[RuleRow, ...]]:
    """Yield, for each decision, the rows that allow it, or that would after approvals. Decisions without such rows are skipped."""
    subject, action, resource = place
    names, named = {subject, *rule_set.roles.get(subject, ())}, parse_resource(resource)
    rows = [
        row
        for row in rule_set.rows
        if row.rule.effect == "allow"
        and row.subject in names
        and action_matches(action, row.action)
        and row.pattern.covers(named)
    ]
    for one in found:
        holding = tuple(row for row in rows if row.condition.holds(one.request.context))
        asking = tuple(row for row in rows if row.condition.thresholds)
        if holding or asking:
            yield holding or asking


def _narrow_row(row: RuleRow, used: Sequence[tuple[str, str]]) -> str | None:
    """Narrow the row to the action and folder that the calls used; None if it is that narrow already."""
    actions = {action for action, _ in used}
    action = actions.pop() if len(actions) == 1 else row.action
    pattern = narrow_pattern(row.pattern, [resource for _, resource in used])
    if (action, pattern) == (row.action, row.pattern.text):
        return None
    return f"p, {row.subject}, {action}, {pattern}, {row.condition.text}, allow"


def _edit_file(file: str, text: str, edits: Mapping[tuple[str, int], str | None]) -> str:
    """Replace rows of the file, or remove them together with the comment that is their note."""
    kept: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        change = edits.get((file, number), line)
        if change is not None:
            kept.append(change)
            continue
        while kept and kept[-1].startswith("#"):
            kept.pop()
    shown = "\n".join(kept)
    while "\n\n\n" in shown:
        shown = shown.replace("\n\n\n", "\n\n")
    return shown
