"""Assertions about a captured run. A failed one says what happened, to which call, and what to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from remit.core import Code, Json, Rule
from remit.testing.captured import CapturedRun, LandedEffect, describe_call
from remit.tracing.reports import CallTimeline


@dataclass(frozen=True, kw_only=True)
class ExpectedEffect:
    """An effect that must have landed; `effect` makes one.

    Empty `resources`: any. Otherwise the call touched exactly these. Of the arguments, only those that are given count.
    """

    action: str
    resources: frozenset[str] = frozenset()
    arguments: dict[str, Json] = field(default_factory=dict[str, Json])

    def matches(self, landed: LandedEffect) -> bool:
        """True if this is the effect that landed."""
        return (
            landed.action == self.action
            and self.resources in (frozenset(), frozenset(landed.resources))
            and all(
                name in landed.arguments and landed.arguments[name] == value for name, value in self.arguments.items()
            )
        )

    def __str__(self) -> str:
        return _shown(self.action, sorted(self.resources), self.arguments)


AnyEffect: TypeAlias = str | ExpectedEffect  # a text is an action, with any resources and arguments


def effect(action: str, *resources: str, **arguments: Json) -> ExpectedEffect:
    """An effect that a test expects: `effect("files.write", "file:reports/a.md", text="# A")`.

    Args:
        action: TOOL.ACTION.
        resources: exactly the resources that the call touched, in any order; none: any.
        arguments: values of arguments; arguments that are not named may have any value.
    """
    return ExpectedEffect(action=action, resources=frozenset(resources), arguments=arguments)


def assert_denied(
    run: CapturedRun, action: str, resource: str | None = None, *, code: Code = "policy_denied", rule: str | None = None
) -> CallTimeline:
    """Fail unless the run made at least one call of `action`, and every one was refused with `code`. Returns the first.

        assert_denied(run, "files.read", "file:secrets/payments.env", rule="Credentials are never part of an incident")

    Args:
        run: the captured run.
        action: TOOL.ACTION.
        resource: only calls that touch this resource count. None: all calls of the action.
        code: the error code that the model read.
        rule: a part of the note of a rule, or of its text, that decided.
    """
    __tracebackhide__ = True
    calls = [call for call in run.calls(action) if resource is None or resource in call.resources]
    if not calls:
        of = "" if resource is None else f" of {resource}"
        raise AssertionError(f"the run made no call {action}{of}\n{run.describe()}")
    for call in calls:
        problem = _not_denied(call, code, rule)
        if problem:
            raise AssertionError(f"{problem}\n{run.describe()}")
    return calls[0]


def _not_denied(call: CallTimeline, code: Code, rule: str | None) -> str:
    """Why the call is not refused as expected; "" if it is."""
    rules = () if call.decision is None else call.decision.rules
    if call.error is None:
        state = "it waits for approval" if call.waiting else "it succeeded"
        decided = f"\n  it was decided by {_cited(rules)}" if rules else ""
        return f"call {call.place}, {call.action}, was not refused: {state}{decided}"
    if call.error.code != code:
        return f"call {call.place}, {call.action}, was refused with {call.error.code}, not {code}: {call.error.message}"
    if rule is not None and not any(rule in found.note or rule in found.text for found in rules):
        decided = _cited(rules) if rules else "no rule: none allows the call"
        return (
            f"call {call.place}, {call.action}, was not denied by a rule with {rule!r}\n  it was decided by {decided}"
        )
    return ""


def _cited(rules: Sequence[Rule]) -> str:
    return "; ".join(f"{found.file}:{found.line} {found.note or found.text!r}" for found in rules)


def assert_effects(run: CapturedRun, expected: Sequence[AnyEffect]) -> None:
    """Fail unless exactly these effects landed, in any order, and none is in doubt.

        assert_effects(run, ["tickets.comment", effect("files.write", "file:reports/INC-1.md")])

    Args:
        run: the captured run.
        expected: actions, or effects that `effect` makes. Each stands for one effect.
    """
    __tracebackhide__ = True
    effects = [ExpectedEffect(action=item) if isinstance(item, str) else item for item in expected]
    landed = run.effects
    matched = _matched(effects, landed)
    missing = [item for number, item in enumerate(effects) if number not in matched]
    unexpected = [item for number, item in enumerate(landed) if number not in matched.values()]
    if not (missing or unexpected or run.in_doubt):
        return
    lines = ["the effects that landed are not the expected ones"]
    lines += [f"  missing: {item}{_reason(run, item)}" for item in missing]
    lines += [f"  not expected: {_described(item)}" for item in unexpected]
    lines += [f"  may have landed: {_described(item)}" for item in run.in_doubt]
    raise AssertionError("\n".join([*lines, run.describe()]))


def _matched(expected: Sequence[ExpectedEffect], landed: Sequence[LandedEffect]) -> dict[int, int]:
    """The largest assignment of expected effects to different effects that landed, both by their numbers."""
    owner: dict[int, int] = {}  # expected effect by the effect that it has

    def assign(number: int, tried: set[int]) -> bool:
        for other, item in enumerate(landed):
            if other in tried or not expected[number].matches(item):
                continue
            tried.add(other)
            if other not in owner or assign(owner[other], tried):
                owner[other] = number
                return True
        return False

    for number in range(len(expected)):
        assign(number, set())
    return {number: other for other, number in owner.items()}


def _reason(run: CapturedRun, expected: ExpectedEffect) -> str:
    """Why an expected effect may be missing: the calls of the same action that did not land."""
    calls = [call for call in run.calls(expected.action) if call.landed != "landed"]
    return f" (call {describe_call(calls[0])})" if calls else ""


def _described(landed: LandedEffect) -> str:
    return f"{_shown(landed.action, landed.resources, landed.arguments)} (call {landed.step}.{landed.index})"


def _shown(action: str, resources: Sequence[str], arguments: dict[str, Json]) -> str:
    values = [f"{name}={_short(value)}" for name, value in arguments.items()]
    return " ".join([action, *resources, *values])


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
