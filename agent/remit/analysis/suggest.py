"""The least of today's rules that keeps every recorded call, proved to allow nothing that today's do not.

And a first policy for a tool that nobody has rules for yet, from its manifest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.analysis.difference import difference
from remit.analysis.history import Decided, allowed_pairs
from remit.analysis.reach import reach_of
from remit.analysis.side import Side, read_side
from remit.call import Request
from remit.errors import UsageError
from remit.policy.globs import parse_pattern, parse_resource
from remit.policy.rules import Row, action_matches
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


def suggest(side: Side, files: Mapping[str, bytes], recorded: Sequence[Decided]) -> Suggestion:
    """Cover every recorded call by as few of today's rows as a greedy choice finds, narrow those, and prove the result.

    Denies and roles stay as they are: a record of calls says nothing of what must never happen.
    """
    pairs = allowed_pairs(recorded)
    candidates = {place: _bearing(side, place, found) for place, found in pairs.items()}
    kept = _cover(candidates)
    used: defaultdict[int, list[str]] = defaultdict(list)
    for (_, _, resource), rows in candidates.items():
        row = next((one for one in rows if one.number in kept), None)
        if row is not None:
            used[row.number].append(resource)
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
        elif (narrower := _narrowed(row, used[row.number])) is not None:
            edits[place] = narrower
            narrowed.append((row.rule.text, narrower))
    written = {file: _edited(file, data.decode(), edits) for file, data in files.items() if file.endswith(".csv")}
    after = read_side(
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
        proved=difference(side, after).no_wider,
    )


def _bearing(side: Side, place: tuple[str, str, str], found: Iterable[Decided]) -> tuple[Row, ...]:
    """The rows that allow, or would after approvals, every decision of that place."""
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
    contexts = [one.request.context for one in found]
    holding = [row for row in rows if all(row.condition.thresholds or row.condition.holds(one) for one in contexts)]
    return tuple(holding or rows)


def _cover(candidates: Mapping[tuple[str, str, str], tuple[Row, ...]]) -> frozenset[int]:
    """Row numbers such that every place has one of its rows: always the row that covers most of what is left."""
    left = {place: rows for place, rows in candidates.items() if rows}
    kept: set[int] = set()
    while left:
        weight: defaultdict[int, int] = defaultdict(int)
        for rows in left.values():
            for row in rows:
                weight[row.number] += 1
        best = min(weight, key=lambda number: (-weight[number], number))
        kept.add(best)
        left = {place: rows for place, rows in left.items() if all(row.number != best for row in rows)}
    return frozenset(kept)


def _narrowed(row: Row, resources: Sequence[str]) -> str | None:
    """The row with `**` below the deepest folder that holds all it was used for; None where that is no narrower."""
    if row.pattern.kind != "file" or not row.pattern.segments or row.pattern.segments[-1] != "**":
        return None
    folders = [one.removeprefix("file:").removesuffix("/**").split("/") for one in resources]
    whole = any(one.endswith("**") for one in resources)
    shared: list[str] = []
    for parts in zip(
        *(folder if one.endswith("**") else folder[:-1] for folder, one in zip(folders, resources, strict=True)),
        strict=False,
    ):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    if not shared or (whole and "**" in shared):
        return None
    narrower = f"file:{'/'.join(shared)}/**"
    if narrower == row.pattern.text or not row.pattern.covers(parse_resource(narrower)):
        return None
    parse_pattern(narrower)
    return f"p, {row.subject}, {row.action}, {narrower}, {row.condition.text}, allow"


def _edited(file: str, text: str, edits: Mapping[tuple[str, int], str | None]) -> str:
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


def first_policy(workspace: Workspace, tool: str, agent: str, role: str = REVIEWER) -> str:
    """Rules that a reviewer may start from: what the manifest reaches, with people asked for what cannot be undone.

    Raises:
        UsageError: there is no such tool.
    """
    if tool not in workspace.tools:
        raise UsageError(f"there is no tool {tool!r}: name one of {', '.join(sorted(workspace.tools)) or 'none yet'}")
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
    return "\n".join(lines) + "\n"
