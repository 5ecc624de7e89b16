"""Presents a finding: the request that changes, a similar one that stays denied, and the check of every witness."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from remit.analysis.solver.conditions import SETS
from remit.analysis.solver.findings import Finding, PolicyDifference
from remit.core import Context, Json, Rule
from remit.policy.language import SIDES

MAX_TEXT_SHOWN: Final = 60  # characters of one text; a witness may need thousands
_PLAIN: Final = Context(time="12:00")


@dataclass(frozen=True, kw_only=True)
class DeniedCounterpart:
    """A request similar to the witness that both policies deny: it shows where the change ends."""

    subject: str
    action: str
    resource: str
    context: Context


def find_denied_counterpart(found: PolicyDifference, finding: Finding) -> DeniedCounterpart | None:
    """Find the most similar request that stays denied: other facts first, then another resource, then another subject."""
    for candidate in _candidates(finding):
        if all(
            side.verdict(candidate.subject, candidate.action, candidate.resource, candidate.context) == "deny"
            for side in (found.old, found.new)
        ):
            return candidate
    return None


def _candidates(finding: Finding) -> Iterator[DeniedCounterpart]:
    # Where a condition decides, a change of the facts shows the boundary best. Otherwise only the resource matters.
    conditional = any(rule.text.split(",")[4].strip() != "True" for rule in (*finding.removed, *finding.added))
    facts = (
        DeniedCounterpart(subject=finding.subject, action=finding.action, resource=finding.resource, context=context)
        for context in _other_facts(finding.context)
    )
    neighbours = (
        DeniedCounterpart(subject=finding.subject, action=finding.action, resource=resource, context=finding.context)
        for resource in _neighbours(finding.resource)
    )
    yield from chain(facts, neighbours) if conditional else neighbours
    kind = "agent" if finding.subject.startswith("agent:") else "user"
    for name in ("other", "another", "nobody-else"):
        yield DeniedCounterpart(
            subject=f"{kind}:{name}", action=finding.action, resource=finding.resource, context=finding.context
        )


def _other_facts(context: Context) -> Iterator[Context]:
    """The same facts with one of them changed."""
    for side in SIDES:
        known: dict[str, Json] = dict(getattr(context, side))
        for name, value in known.items():
            for other in _other_values(value):
                yield context.model_copy(update={side: {**known, name: other}})
            yield context.model_copy(update={side: {key: kept for key, kept in known.items() if key != name}})
    yield context.model_copy(update={"named_by_user": not context.named_by_user})
    yield context.model_copy(update={"calls": {name: count + 1 for name, count in context.calls.items()}})
    yield context.model_copy(update={"calls": dict.fromkeys(context.calls, 1_000_000)})
    yield context.model_copy(update={"labels": frozenset()})
    yield context.model_copy(update={"labels": frozenset({*context.labels, "untrusted"})})
    yield context.model_copy(update={"approvals": {}})
    yield context.model_copy(update={"env": "other"})
    yield context.model_copy(update={"confinement": "none"})
    yield context.model_copy(update={"time": "23:59" if context.time != "23:59" else "00:00"})


def _other_values(value: Json) -> tuple[Json, ...]:
    match value:
        case bool():
            return (not value,)
        case int() | float():
            return (value + 1, value - 1, value + 1000, -value)
        case str():
            return (value + "x", value[:-1], "", "other")
        case _:
            return ()


def _neighbours(resource: str) -> Iterator[str]:
    """Yield similar resources, the closest first: the last part replaced, then the parts before it."""
    kind, _, name = resource.partition(":")
    if kind == "file":
        parts = name.removesuffix("/**").split("/")
        tail = "/**" if name.endswith("/**") else ""
        for depth in range(len(parts) - 1, -1, -1):
            yield f"file:{'/'.join((*parts[:depth], 'other', *parts[depth + 1 :]))}{tail}"
        if len(parts) > 1:
            yield f"file:{'/'.join(parts[:-1])}{tail}"
        yield f"file:{'/'.join((*parts, 'other'))}{tail}"
        yield "file:elsewhere/other"
    elif kind in ("http", "https"):
        scheme, _, rest = resource.partition("//")
        host, _, path = rest.partition("/")
        yield f"{scheme}//{host}/{path.rpartition('/')[0]}/other" if "/" in path else f"{scheme}//{host}/other"
        yield f"{scheme}//other.example/"
    elif kind != "none":
        yield f"{kind}:{'someone@other.example' if kind == 'mail' else 'other'}"


@dataclass(frozen=True, kw_only=True)
class WitnessCheck:
    """How many witnesses the policies themselves decided again, and the findings with another verdict."""

    replayed: int
    wrong: tuple[Finding, ...]


def verify_witnesses(found: PolicyDifference) -> WitnessCheck:
    """Let both policies decide every witness again, for each of its subjects."""
    wrong: list[Finding] = []
    replayed = 0
    for finding in found.findings:
        for witness in finding.witnesses:
            for subject in witness.subjects:
                replayed += 1
                before = found.old.verdict(subject, finding.action, witness.resource, witness.context)
                after = found.new.verdict(subject, finding.action, witness.resource, witness.context)
                if (before, after) != (finding.before, finding.after) and finding not in wrong:
                    wrong.append(finding)
    return WitnessCheck(replayed=replayed, wrong=tuple(wrong))


def facts_of(context: Context) -> dict[str, Json]:
    """The facts that differ from those of a plain request."""
    shown = context.model_dump(mode="json", exclude_defaults=True)
    if context.time == _PLAIN.time:
        shown.pop("time", None)
    for name in (*SETS, "unclear"):
        if name in shown:
            shown[name] = sorted(shown[name])
    for side in ("subject", "resource"):  # their ids are those of the request itself
        if properties := {name: value for name, value in shown.pop(side, {}).items() if name != "id"}:
            shown[side] = properties
    return shown


def facts_text(context: Context) -> str:
    """The facts of `facts_of` in one line; long texts are cut, with their length."""
    return ", ".join(
        f"{name}.{of_side} = {_short(value)}" if of_side else f"{name} = {_short(value)}"
        for name, whole in facts_of(context).items()
        for of_side, value in (whole.items() if name in SIDES else [("", whole)])
    )


def _short(value: Json) -> str:
    if isinstance(value, str) and len(value) > MAX_TEXT_SHOWN:
        return f"{value[:12]!r}… ({len(value)} characters)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2 * MAX_TEXT_SHOWN else f"{text[:MAX_TEXT_SHOWN]}…"


def rule_text(rule: Rule) -> str:
    """The place of the rule, and its note."""
    return f"{rule.file}:{rule.line} {rule.note or rule.text}"
