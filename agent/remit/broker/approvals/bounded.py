"""Bounded approvals: "this call, and up to N more like it, in this run or conversation, until a time".

Such an approval is compiled to a scope: patterns for resources, and a condition on arguments. The approver reads it, with examples of
calls that it covers and of calls that it does not, before giving it. Each further call is asked about, and approved, as an event of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from remit.broker.approvals.summary import plain
from remit.broker.ports import ExecutionPorts
from remit.core import Call, Context, Json, Refusal
from remit.core.events import ApprovalGranted, ApprovalRequested, CallDecided, GrantScope
from remit.journal import Record
from remit.policy.language import ConditionError, GlobError, parse_pattern, parse_resource, read_condition

MOST: Final = 100  # further calls of one approval
EXAMPLES: Final = 6  # calls of the run that are shown


def scope_of(call: Call, more: int, resources: Sequence[str] = (), condition: str = "") -> GrantScope:
    """The scope of an approval of that call and `more` like it: without `resources` the same ones, without `condition` the narrowest.

    Raises:
        Refusal: `approval_invalid`: a pattern or the condition is not valid, or does not cover the call itself.
    """
    scope = GrantScope(
        more=more,
        resources=tuple(resources) or tuple(dict.fromkeys(touch.resource for touch in call.touches)),
        condition=condition or narrowest_condition(call.arguments) or "True",
    )
    if not 1 <= more <= MOST:
        raise _invalid(f"an approval covers 1 to {MOST} further calls, not {more}")
    try:
        parsed = read_condition(scope.condition, "allow")
        fits = is_in_scope(scope, call)
    except (ConditionError, GlobError) as error:
        raise _invalid(f"the scope is not valid: {error}") from error
    if foreign := sorted(name for name in parsed.reads if "args." not in name):
        raise _invalid(f"the condition of an approval reads arguments only, not {', '.join(foreign)}")
    if not fits:
        raise _invalid("the scope does not cover the call itself")
    return scope


def is_in_scope(scope: GrantScope, call: Call) -> bool:
    """True if the resources and the arguments of the call are within the scope."""
    patterns = [parse_pattern(text) for text in scope.resources]
    covered = all(any(pattern.covers(parse_resource(touch.resource)) for pattern in patterns) for touch in call.touches)
    return covered and read_condition(scope.condition, "allow").holds(Context(args=call.arguments))


def approve_in_scope(record: Record, call: Call, requested: ApprovalRequested, ports: ExecutionPorts) -> None:
    """Record the approvals of this request that earlier bounded approvals of the run, or of its conversation, give.

    INVARIANT: the run has read nothing new that the approver was shown: the facts of the request are those that were approved.
    """
    now = ports.clock(call.step, call.index)
    for bound in record.state.bounded:
        granted, scope = bound.granted, bound.granted.scope
        if (
            scope is None
            or bound.used >= scope.more
            or granted.until is None
            or now >= granted.until
            or all(missing.role != granted.role for missing in requested.missing)
            or (bound.action, dict(bound.facts)) != (call.action, dict(requested.facts))
            or not is_in_scope(scope, call)
            or (bound.run and ports.is_revoked(call, bound))
        ):
            continue
        prefix = f"approval.granted/{call.step}/{call.index}/{requested.decision_digest}/{granted.approver}"
        record.append(
            ApprovalGranted(
                step=call.step,
                index=call.index,
                decision_digest=requested.decision_digest,
                by=granted.by,
                role=granted.role,
                until=granted.until,
                under=granted.key,
                number=record.count(prefix) + 1,
            ),
            durable=True,
        )


def scope_lines(scope: GrantScope, call: Call, facts: Mapping[str, Json], record: Record) -> list[str]:
    """What the approver reads before giving it: the scope, what is free in it, and calls that it covers and does not cover."""
    free = sorted(name for name, value in call.arguments.items() if isinstance(value, str | list | dict))
    where = "run" if record.state.conversation is None else "conversation"
    lines = [
        f"also approves up to {scope.more} more calls of {call.action} in this {where}",
        f"  on {', '.join(map(plain, scope.resources)) or 'no resource'}",
        f"  if {plain(scope.condition)}",
        *(f"  if {plain(name)} is still {plain(str(value))}" for name, value in sorted(facts.items())),
    ]
    if free:
        lines.append(f"  whatever these arguments say: {', '.join(map(plain, free))}")
    return lines + [f"  {line}" for line in _examples(scope, call, record)]


def _examples(scope: GrantScope, call: Call, record: Record) -> list[str]:
    """Other calls of the run first, then calls at the edge of the scope."""
    places = {(call.step, call.index)}
    found: list[tuple[bool, str]] = []
    for event in record.every():
        other = event.call if isinstance(event, CallDecided) else None
        if other is not None and other.action == call.action and (other.step, other.index) not in places:
            places.add((other.step, other.index))
            found.append((is_in_scope(scope, other), f"call {other.step}.{other.index}: {_shown(other)}"))
    for name, value in sorted(call.arguments.items()):
        if isinstance(value, int | float) and not isinstance(value, bool):
            over = call.model_copy(update={"arguments": {**call.arguments, name: value + 1}})
            found.append((is_in_scope(scope, over), f"a call with {name} = {value + 1}"))
    return [f"{'covered' if covered else 'not covered'}: {plain(text)}" for covered, text in found[:EXAMPLES]]


def _shown(call: Call) -> str:
    resources = " ".join(dict.fromkeys(touch.resource for touch in call.touches))
    numbers = [f"{name} = {value}" for name, value in sorted(call.arguments.items()) if isinstance(value, int | float)]
    return " ".join([resources, *numbers])


def narrowest_condition(arguments: Mapping[str, Json]) -> str:
    """Numbers at most as large, and true and false as they are. Texts are free: the resources bound what they may name.

    "" if the arguments have neither.
    """
    parts = [
        f"args.{name} == {value}" if isinstance(value, bool) else f"args.{name} <= {value}"
        for name, value in sorted(arguments.items())
        if isinstance(value, int | float)
    ]
    return " and ".join(parts)


def _invalid(what: str) -> Refusal:
    return Refusal("approval_invalid", what, next_step="give a narrower scope, or approve the one call only")
