"""Builds decisions: the rules that decided, the facts that they read, a message, and what the model reads of a denial."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TypeAlias

from remit.core import BREAK_GLASS, CONFIRMATION, Context, Decision, Json, MissingApproval, ModelDenial, Request, Rule
from remit.policy.language.disclosure import Disclosure, least_disclosure
from remit.policy.language.evaluation import Unreadable
from remit.policy.language.loader import RuleRow
from remit.policy.language.patterns import NOTHING_TOUCHED
from remit.policy.matching import Pair, PossibleApprovals
from remit.policy.next_step import NextStep

NEAREST: Final = 3  # near misses that a denial without a deciding rule lists
QUOTED: Final = 2  # rules that a message quotes; the decision lists all


Says: TypeAlias = Literal["allows", "denies", "does not apply", "near"]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The result of one rule for one subject and one resource.

    `named` is the subject or role that the rule names. `says` is the result, and `why` its reason.
    """

    subject: str
    named: str
    resource: str
    says: Says
    why: str
    rule: Rule
    disclosure: Disclosure


def undecidable(what: str, digest: str) -> Decision:
    """The denial of a request that is not valid itself."""
    return Decision(
        verdict="deny",
        reason="error",
        message=f"the call cannot be decided, so it is denied: {what}",
        policy_digest=digest,
    )


def allowed(request: Request, allowing: Sequence[RuleRow], digest: str) -> Decision:
    """Every subject is allowed on every resource."""
    rows = allowing if len(allowing) == 1 else _ordered(allowing)
    by = f"{_quoted(rows)} {'allows' if len(rows) == 1 else 'allow'}"
    return Decision(
        verdict="allow",
        reason="allowed",
        message=f"{by} {_action_on(request.action, request.resources)} for {' and '.join(dict.fromkeys(request.subjects))}",
        rules=tuple([row.rule for row in rows]),
        facts=_facts_read(rows, request.context),
        policy_digest=digest,
    )


def disputed(request: Request, decision: Decision) -> Decision:
    """The denial that replaces an allow which stock Casbin does not confirm."""
    what = _action_on(request.action, request.resources)
    by = " and ".join(f"{rule.file}:{rule.line}" for rule in decision.rules[:QUOTED])
    return decision.model_copy(
        update={
            "verdict": "deny",
            "reason": "engines_disagree",
            "message": f"Remit's matcher allows {what} by {by}, but stock Casbin denies it under the same rules",
            "next_step": "treat this as an attack or a defect of Remit: run `remit stop`, then `remit policy test`, "
            "and report the call with its rules",
            "for_model": ModelDenial(
                reason="engines_disagree",
                message=f"{request.action} is denied: the two engines that check the rules disagree",
                next_step="do not repeat the call; an operator must check the rules",
            ),
        }
    )


def approval_required(request: Request, denied: Sequence[Pair], approvals: PossibleApprovals, digest: str) -> Decision:
    """The approvals in `approvals.missing`, and no fewer, would allow the `denied` pairs."""
    counts = dict(request.context.approvals)
    for missing in approvals.missing:
        counts[missing.role] = counts.get(missing.role, 0) + missing.count
    approved = request.context.model_copy(update={"approvals": counts})
    rows = _ordered(
        row
        for pair in denied
        for row in (*pair.allows, *pair.denies)
        if row.condition.holds(request.context) != row.condition.holds(approved)
    )
    people = _roles_text(approvals.missing)
    for item in approvals.escalations:
        people += f", after {item.after_s // 60} min also by {item.role}"
    if approvals.break_glass:
        people += f", or in an emergency by {BREAK_GLASS}"
    what = _action_on(request.action, [pair.resource for pair in denied])
    return Decision(
        verdict="ask",
        reason="approval",
        message=f"{_quoted(rows)} {'requires' if len(rows) == 1 else 'require'} approval for {what} by {people}",
        rules=tuple(row.rule for row in rows),
        missing=approvals.missing,
        break_glass=approvals.break_glass,
        escalations=approvals.escalations,
        expires_s=approvals.expires_s,
        facts=_facts_read(rows, request.context),
        next_step=f"wait for approval by {people}",
        policy_digest=digest,
    )


def denied(
    request: Request, pairs: Sequence[Pair], approvals: PossibleApprovals, near: Iterable[RuleRow], digest: str
) -> Decision:
    """A row denies one of the denied `pairs`, or no row allows it.

    `near` are rows that would have allowed a similar resource, nearest first.
    """
    context = request.context
    denying = _ordered(row for pair in pairs for row in pair.denying)
    if denying:
        unreadable = all(isinstance(row.condition.answer(context), Unreadable) for row in denying)
        message = _deny_message(denying, pairs, request.action, unreadable=unreadable)
        return Decision(
            verdict="deny",
            reason="error" if unreadable else "denied_by_rule",
            message=message + _missing_approvers(approvals),
            rules=tuple([row.rule for row in denying]),
            facts=_facts_read(denying, context),
            policy_digest=digest,
        )
    failed = _ordered(row for pair in pairs for row in pair.allows if not row.condition.holds(context))
    return Decision(
        verdict="deny",
        reason="no_rule_allows",
        message=_no_rule_message(pairs[0], request.action) + _missing_approvers(approvals),
        nearest=tuple([row.rule for row in islice(dict.fromkeys((*failed, *near)), NEAREST)]),
        facts=_facts_read(failed, context),
        policy_digest=digest,
    )


def evaluate_rules(request: Request, pairs: Sequence[Pair], near: Sequence[RuleRow]) -> tuple[Evaluated, ...]:
    """The result of every matching rule, pair by pair; then the near rules, which are for other resources."""
    lines: list[Evaluated] = []
    for pair in pairs:
        for row in _ordered((*pair.allows, *pair.denies)):
            answer = row.condition.answer(request.context)
            says: Says = "does not apply"
            if row.condition.holds(request.context):
                says = "denies" if row.rule.effect == "deny" else "allows"
            facts = "" if row.condition.constant is not None else _facts_text(row, request.context)
            why = str(answer) if isinstance(answer, Unreadable) else facts
            lines.append(Evaluated(pair.subject, row.subject, pair.resource, says, why, row.rule, row.disclosure))
    for row in near[:NEAREST]:
        why = f"is for {row.pattern.text}"
        lines.append(Evaluated(pairs[0].subject, row.subject, pairs[0].resource, "near", why, row.rule, row.disclosure))
    return tuple(lines)


def _facts_text(row: RuleRow, context: Context) -> str:
    return ", ".join(f"{name} is {value!r}" for name, value in row.condition.facts(context).items())


def add_model_denial(
    decision: Decision, request: Request, pairs: Sequence[Pair], next_step: NextStep | None
) -> Decision:
    """The denial with its next step, and with the part that the model reads.

    INVARIANT: the model reads no more than every deciding rule discloses. The operator's decision is complete.
    """
    if decision.policy_digest == "" or not pairs:
        denial = ModelDenial(reason=decision.reason, message=decision.message)
        return decision.model_copy(update={"for_model": denial})
    text = None if next_step is None else next_step.text
    # One row that does not disclose its condition hides the whole change, because the change reveals the condition.
    shown = next_step is not None and least_disclosure(row.disclosure for row in next_step.rows) == "remedy"
    hint = text if shown else None
    disclosing = [row for row in _ordered(row for pair in pairs for row in pair.denying) if row.disclosure != "none"]
    if disclosing:
        denial = _denial_by_rules(decision, request.action, pairs, disclosing, hint)
    else:  # hidden rules must read exactly as if there were no rule
        denial = ModelDenial(
            reason="no_rule_allows", message=_no_rule_message(pairs[0], request.action), next_step=hint
        )
    return decision.model_copy(update={"next_step": decision.next_step or text, "for_model": denial})


def _denial_by_rules(
    decision: Decision, action: str, pairs: Sequence[Pair], rows: Sequence[RuleRow], hint: str | None
) -> ModelDenial:
    """What the model reads of a denial by `rows`, which disclose at least that they deny."""
    named = [row for row in rows if row.disclosure in ("rule", "remedy")]
    denied_by_these = [pair for pair in pairs if any(row in rows for row in pair.denying)]
    unreadable = decision.reason == "error" and bool(named)
    return ModelDenial(
        reason=decision.reason if named else "denied_by_rule",
        message=_deny_message(named, denied_by_these, action, unreadable=unreadable),
        rules=tuple(row.rule.note or row.rule.text for row in named),
        next_step=hint,
    )


def _deny_message(rows: Sequence[RuleRow], pairs: Sequence[Pair], action: str, *, unreadable: bool) -> str:
    """One sentence for a denial by rules; `rows` is empty if they must not be named."""
    first = next(pair for pair in pairs if pair.denying)
    by = f"{_quoted(rows)} {'denies' if len(rows) == 1 else 'deny'}" if rows else "a rule denies"
    message = f"{by} {action} on {first.resource!r} for {first.subject}"
    return f"{message}, because a fact in its condition cannot be read" if unreadable else message


def _no_rule_message(pair: Pair, action: str) -> str:
    return f"no rule allows {action} on {pair.resource!r} for {pair.subject}"


def _ordered(rows: Iterable[RuleRow]) -> list[RuleRow]:
    """The rows once each, in the order of the files."""
    return sorted(set(rows), key=lambda row: row.number)


def _facts_read(rows: Iterable[RuleRow], context: Context) -> dict[str, Json]:
    """The facts that the conditions of `rows` read; under `errors`, why some could not be read."""
    rows = [row for row in rows if row.condition.constant is None]
    if not rows:
        return {}
    facts: dict[str, Json] = {}
    errors: list[str] = []
    for row in rows:
        facts.update(row.condition.facts(context))
        if isinstance(answer := row.condition.answer(context), Unreadable):
            errors.append(f"{row.rule.file}:{row.rule.line}: {answer}")
    return {**dict(sorted(facts.items())), **({"errors": errors} if errors else {})}


def _quoted(rows: Sequence[RuleRow]) -> str:
    if len(rows) == 1:
        return repr(rows[0].rule.note or rows[0].rule.text)
    names = [repr(row.rule.note or row.rule.text) for row in rows[:QUOTED]]
    more = len(rows) - len(names)
    return " and ".join([*names, *([f"{more} more"] if more > 0 else [])])


def _action_on(action: str, resources: Sequence[str]) -> str:
    names = tuple(dict.fromkeys(resources or (NOTHING_TOUCHED,)))
    return f"{action} on {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _roles_text(missing: Iterable[MissingApproval]) -> str:
    def text(item: MissingApproval) -> str:
        if item.role == CONFIRMATION:
            return "the user of the call, who confirms it"
        return item.role if item.count == 1 else f"{item.count} people as {item.role}"

    return " and ".join(map(text, missing))


def _missing_approvers(approvals: PossibleApprovals) -> str:
    """Why a denial that approvals would change is not a question to anyone."""
    if not approvals.unavailable:
        return ""
    return f"; people could approve it, but too few other people can approve as {', '.join(approvals.unavailable)}"
