"""The rule that would stop a call: a deny for the agent, as narrow as the rule that allows the call, and decided again before it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from remit.analysis.drafting.rows import RULES
from remit.analysis.reach import NO_RESOURCE
from remit.core import Request, WorkspaceError
from remit.core.parsing import SCHEMES, SLASHED
from remit.guardrails import UNTRUSTED
from remit.policy import Policy
from remit.policy.language import Pattern, parse_resource

_MENTIONS = ("link", "address", "account")


def stopping_rule(
    policy: Policy,
    request: Request,
    patterns: Sequence[str],
    *,
    by_content: bool,
    approver: str,
) -> str:
    """A rule with its comment under which the request is no longer allowed; "" if none was found.

    `patterns` are what it may be about, in this order. `by_content`: without what the call contains it would look like the user's wish. With an
    `approver`, a person of that role may still allow the call.
    """
    for text in _drafts(request, patterns, by_content, approver):
        try:
            changed = policy.extended(text, file=RULES, subject=request.subjects[0])
        except WorkspaceError:  # no rule can hold this name: the next place may have one
            continue
        if changed.decide(request).verdict != "allow":
            return text
    return ""


def _drafts(request: Request, patterns: Sequence[str], by_content: bool, approver: str) -> Iterator[str]:
    unless = f" and not approved('{approver}')" if approver else ""
    asks = f"waits for {approver}" if approver else "is denied"
    condition, what = _condition(request, by_content)
    for pattern in patterns:
        row = f"p, {request.subjects[0]}, {request.action}, {pattern}, {condition}{unless}, deny"
        yield f"# {what}, {request.action} {asks}\n{row}\n"


def _condition(request: Request, by_content: bool) -> tuple[str, str]:
    context = request.context
    if by_content:
        found = sorted(context.contains, key=lambda kind: (kind not in _MENTIONS, kind))
        held = " or ".join(f"'{kind}' in contains" for kind in found)
        return (f"({held})" if len(found) > 1 else held), "With values that the user did not name"
    read = "'untrusted' in labels and " if UNTRUSTED in context.labels else ""
    when = "After an untrusted text" if read else "Whatever the agent has read"
    unasked = not context.requested_by_user and context.identified
    facts = "not (named_by_user or requested_by_user)" if unasked else "not named_by_user"
    wish = "asked for" if unasked else "named"
    return f"{read}{facts}", f"{when}, unless the user {wish} it"


def narrowest_pattern(place: str, patterns: Iterable[Pattern]) -> str:
    """The first of the patterns that is for places of this kind and covers the place, else every place of the kind."""
    named = parse_resource(place)
    for pattern in patterns:
        if pattern.kind and pattern.covers(named):
            return pattern.text
    if place == NO_RESOURCE:
        return place
    many = named.kind == "file" or named.kind in SLASHED
    return f"{named.kind}://**" if named.kind in SCHEMES else f"{named.kind}:{'**' if many else '*'}"
