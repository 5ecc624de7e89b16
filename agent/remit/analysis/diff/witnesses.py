"""Presents a finding: the request that changes, a similar one that stays denied, and the check of every witness."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Final

from remit.analysis.solver.conditions import SETS
from remit.analysis.solver.findings import Finding, PolicyDifference
from remit.core import Context, Json, Rule
from remit.policy.language import SIDES

MOST_KNOWN: Final = 50  # known resources that are tried as a boundary
MAX_TEXT_SHOWN: Final = 60  # characters of one text; a witness may need thousands
_PLAIN: Final = Context(time="12:00")


@dataclass(frozen=True, kw_only=True)
class DeniedCounterpart:
    """A request similar to the witness that both policies deny: it shows where the change ends."""

    subject: str
    action: str
    resource: str
    context: Context


def find_denied_counterpart(
    found: PolicyDifference, finding: Finding, known: Iterable[str] = ()
) -> DeniedCounterpart | None:
    """Find the most similar request that stays denied: other facts first, then another resource, then another subject.

    `known` are resources of the same kind that exist; they come before invented ones.
    """
    for candidate in _candidates(finding, known):
        if all(
            side.verdict(candidate.subject, candidate.action, candidate.resource, candidate.context) == "deny"
            for side in (found.old, found.new)
        ):
            return candidate
    return None


def boundary_text(finding: Finding, denied: DeniedCounterpart) -> str:
    """In words, in what the denied request differs from the witness: `still denied on table:people`."""
    before, after = _flat(finding.context), _flat(denied.context)
    other = {name: value for name, value in after.items() if before.get(name) != value}
    parts = [f"for {denied.subject}"] if denied.subject != finding.subject else []
    parts += [f"on {denied.resource}"] if denied.resource != finding.resource else []
    parts += [f"with {', '.join(f'{name} = {_short(value)}' for name, value in other.items())}"] if other else []
    gone = [name for name in before if name not in after]
    parts += [f"without {', '.join(gone)}"] if gone else []
    return f"still denied {' '.join(parts)}"


def _flat(context: Context) -> dict[str, Json]:
    """The facts of `facts_of`, those of arguments and properties by their whole names."""
    return {
        f"{name}.{of_side}" if of_side else name: value
        for name, whole in facts_of(context).items()
        for of_side, value in (whole.items() if name in SIDES else [("", whole)])
    }


def _candidates(finding: Finding, known: Iterable[str]) -> Iterator[DeniedCounterpart]:
    # Where a condition decides, a change of the facts shows the boundary best. Otherwise only the resource matters.
    conditional = any(rule.text.split(",")[4].strip() != "True" for rule in (*finding.removed, *finding.added))
    facts = (
        DeniedCounterpart(subject=finding.subject, action=finding.action, resource=finding.resource, context=context)
        for context in _other_facts(finding.context)
    )
    neighbours = (
        DeniedCounterpart(subject=finding.subject, action=finding.action, resource=resource, context=finding.context)
        for resource in chain(_nearest(finding.resource, known), _neighbours(finding.resource))
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


def _nearest(resource: str, known: Iterable[str]) -> list[str]:
    """The known resources with most of the beginning in common, so that a boundary lies near what changes."""
    others = [name for name in known if name != resource]
    return sorted(others, key=lambda name: -_in_common(name, resource))[:MOST_KNOWN]


def _in_common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


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
    return ", ".join(f"{name} = {_short(value)}" for name, value in _flat(context).items())


def _short(value: Json) -> str:
    if isinstance(value, str) and len(value) > MAX_TEXT_SHOWN:
        return f"{value[:12]!r}… ({len(value)} characters)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2 * MAX_TEXT_SHOWN else f"{text[:MAX_TEXT_SHOWN]}…"


def rule_text(rule: Rule) -> str:
    """The place of the rule, and its note."""
    return f"{rule.file}:{rule.line} {rule.note or rule.text}"
