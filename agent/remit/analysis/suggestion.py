"""The least of today's rules that keeps every recorded call, proved to allow nothing that today's do not.

And a first policy for a tool that nobody has rules for yet, from its manifest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.analysis.backtest import RecordedDecision, allowed_pairs
from remit.analysis.diff.policy import compare_policies
from remit.analysis.reach import reach_of
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Request, UsageError, action_matches
from remit.policy.language import ROLE, Pattern, RuleRow, parse_pattern, parse_resource
from remit.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Rules by file, and what of today's they leave out or narrow. `proved`: a subset; `lost`: calls they would refuse."""

    files: Mapping[str, str]
    kept: int
    dropped: tuple[str, ...]
    narrowed: tuple[tuple[str, str], ...]
    calls: int
    lost: tuple[Request, ...]
    proved: bool


def suggest_rules(side: RuleSet, files: Mapping[str, bytes], recorded: Sequence[RecordedDecision]) -> Suggestion:
    """Cover every recorded call by rows of today's of which none can go, narrow those, and prove the result.

    Denies and roles stay as they are: a record of calls says nothing of what must never happen.
    """
    pairs = allowed_pairs(recorded)
    candidates = {(place, rows): None for place, found in pairs.items() for rows in _allowing_rows(side, place, found)}
    kept = _minimal_cover({frozenset(row.number for row in rows) for _, rows in candidates})
    used: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for (_, action, resource), rows in candidates:
        row = next(one for one in rows if one.number in kept)
        used[row.number].append((action, resource))
    edits: dict[tuple[str, int], str | None] = {}
    dropped: list[str] = []
    narrowed: list[tuple[str, str]] = []
    for row in side.rows:
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
        "suggested", {**files, **{file: text.encode() for file, text in written.items()}}, side.vocabulary
    )
    requests = [one.request for one in recorded if one.verdict != "deny"]
    lost = tuple(
        request
        for request in requests
        if after.policy.decide(request).verdict != side.policy.decide(request).verdict
        and side.policy.decide(request).verdict != "deny"
    )
    return Suggestion(
        files=written,
        kept=len(kept),
        dropped=tuple(dropped),
        narrowed=tuple(narrowed),
        calls=len(requests),
        lost=lost,
        proved=compare_policies(side, after).no_wider,
    )


def _allowing_rows(
    side: RuleSet, place: tuple[str, str, str], found: Iterable[RecordedDecision]
) -> Iterator[tuple[RuleRow, ...]]:
    """For each decision of that place, the rows that allow it, or would after approvals; what none allows is left out."""
    subject, action, resource = place
    names, named = {subject, *side.roles.get(subject, ())}, parse_resource(resource)
    rows = [
        row
        for row in side.rows
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


def _minimal_cover(needs: Collection[frozenset[int]]) -> set[int]:
    """Row numbers such that each need has one of its rows, and some would not without any of them."""
    left: list[frozenset[int]] = [*needs]
    kept: set[int] = set()
    while left:
        weight: Counter[int] = Counter(number for numbers in left for number in numbers)
        best = min(weight, key=lambda number: (-weight[number], number))
        kept.add(best)
        left = [numbers for numbers in left if best not in numbers]
    # An early choice can be made needless by later ones: what is left is the least, none of it can go.
    for number in sorted(kept):
        if all(numbers & kept - {number} for numbers in needs):
            kept.discard(number)
    return kept


def _narrow_row(row: RuleRow, used: Sequence[tuple[str, str]]) -> str | None:
    """The row for the one action it was used for, below the deepest folder that holds all; None where it is that already."""
    actions = {action for action, _ in used}
    action = actions.pop() if len(actions) == 1 else row.action
    pattern = _narrow_pattern(row.pattern, [resource for _, resource in used])
    if (action, pattern) == (row.action, row.pattern.text):
        return None
    return f"p, {row.subject}, {action}, {pattern}, {row.condition.text}, allow"


def _narrow_pattern(pattern: Pattern, resources: Sequence[str]) -> str:
    """A pattern of files that ends in `**`, with `**` below the deepest folder that holds all; any other as it is."""
    if pattern.kind != "file" or not pattern.segments or pattern.segments[-1] != "**":
        return pattern.text
    folders: list[list[str]] = []
    for resource in resources:
        parts = resource.removeprefix("file:").removesuffix("/**").split("/")
        folders.append(parts if resource.endswith("**") else parts[:-1])
    shared: list[str] = []
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    if not shared or "**" in shared:
        return pattern.text
    narrower = f"file:{'/'.join(shared)}/**"
    parse_pattern(narrower)
    return narrower if pattern.covers(parse_resource(narrower)) else pattern.text


def _edit_file(file: str, text: str, edits: Mapping[tuple[str, int], str | None]) -> str:
    """The file with rows replaced, or removed together with the comment that is their note."""
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


REVIEWER: Final = "role:reviewer"


def draft_policy(workspace: Workspace, tool: str, agent: str, role: str = REVIEWER) -> str:
    """Rules that a reviewer may start from: what the manifest reaches, with people asked for what cannot be undone.

    Raises:
        UsageError: there is no such tool or agent, or the role is none.
    """
    if tool not in workspace.tools:
        raise UsageError(f"there is no tool {tool!r}: name one of {', '.join(sorted(workspace.tools)) or 'none yet'}")
    if agent.removeprefix("agent:") not in workspace.agents:
        raise UsageError(
            f"there is no agent {agent!r}: name one of {', '.join(sorted(workspace.agents)) or 'none yet'}"
        )
    if not ROLE.fullmatch(role):
        raise UsageError(f"{role!r} is not a role: write role:<name>")
    manifest, reach = workspace.tools[tool].manifest, reach_of(workspace)
    lines: list[str] = [f"# --- {tool}: {manifest.summary} ---", ""]
    for action in manifest.actions.values():
        name = f"{tool}.{action.name}"
        fixed = {f"{one.kind}:{one.constant}" for one in action.templates if one.form == "constant"}
        for pattern in reach[name].patterns:
            asks = action.effect == "once" and (pattern not in fixed or len(fixed) == len(reach[name].patterns))
            lines.append(f"# {action.summary}{'; it cannot be undone, so people are asked' if asks else ''}")
            condition = f"approved('{role}')" if asks else "True"
            lines.append(f"p, agent:{agent.removeprefix('agent:')}, {name}, {pattern}, {condition}, allow")
    if any("approved(" in line for line in lines):
        lines[1:1] = [f"# A person who is asked has the role: g, user:<name>, {role}"]
    return "\n".join(lines) + "\n"
