"""Words for a decision: the rules that mattered, the facts they read, and one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TypeAlias

from remit.core import BREAK_GLASS, Context, Decision, Json, MissingApproval, ModelDenial, Request, Rule
from remit.policy.language.disclosure import Disclosure, least
from remit.policy.language.evaluation import Unreadable
from remit.policy.language.loader import RuleRow
from remit.policy.language.patterns import NOTHING_TOUCHED
from remit.policy.matching import Askable, Pair
from remit.policy.remedy import NextStep

NEAREST: Final = 3  # near misses that a default deny names
QUOTED: Final = 2  # rules that a sentence quotes; the decision lists all


Says: TypeAlias = Literal["allows", "denies", "does not apply", "near"]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one rule says for one subject and one resource. `named` is the subject or role that the rule names."""

    subject: str
    named: str
    resource: str
    says: Says
    why: str
    rule: Rule
    disclosure: Disclosure


def undecidable(what: str, digest: str) -> Decision:
    """The request itself is not one that policy can decide."""
    return Decision(verdict="deny", reason="error", message=f"not decided: {what}", policy_digest=digest)


def allowed(request: Request, allowing: Sequence[RuleRow], digest: str) -> Decision:
    """Every subject may do it to every resource."""
    rows = allowing if len(allowing) == 1 else _ordered(allowing)
    whom = " for ".join(dict.fromkeys(request.subjects))
    what = _listed(request.resources or (NOTHING_TOUCHED,))
    return Decision(
        verdict="allow",
        reason="allowed",
        message=f"{whom} may do {request.action} on {what}, by {_quoted(rows)}",
        rules=tuple([row.rule for row in rows]),
        facts=_facts(rows, request.context),
        policy_digest=digest,
    )


def disputed(request: Request, decision: Decision) -> Decision:
    """A denial in the place of an allow that stock Casbin did not give."""
    what = f"{request.action} on {_listed(request.resources or (NOTHING_TOUCHED,))}"
    by = " and ".join(f"{rule.file}:{rule.line}" for rule in decision.rules[:QUOTED])
    return decision.model_copy(
        update={
            "verdict": "deny",
            "reason": "engines_disagree",
            "message": f"Remit's matcher allows {what}, by {by}, and stock Casbin does not on the same rules",
            "remedy": "treat it as an attack or as an error of Remit: `remit stop` the agent, run `remit policy test`, "
            "and report the call with its rules",
            "told": ModelDenial(
                reason="engines_disagree",
                message=f"{request.action} is refused: the two engines that check the rules do not agree about it",
                next_step="do not ask again; an operator must look at the rules",
            ),
        }
    )


def asked(request: Request, refused: Sequence[Pair], askable: Askable, digest: str) -> Decision:
    """The approvals in `askable.missing`, and nothing less, would turn the denial of the `refused` pairs."""
    approvals = dict(request.context.approvals)
    for missing in askable.missing:
        approvals[missing.role] = approvals.get(missing.role, 0) + missing.count
    then = request.context.model_copy(update={"approvals": approvals})
    rows = _ordered(
        row
        for pair in refused
        for row in (*pair.allows, *pair.denies)
        if row.condition.holds(request.context) != row.condition.holds(then)
    )
    wanted = _people(askable.missing)
    if askable.break_glass:
        wanted += f" or in an emergency by {BREAK_GLASS}"
    what = f"{request.action} on {_listed(pair.resource for pair in refused)}"
    return Decision(
        verdict="ask",
        reason="approval",
        message=f"{what} needs approval by {wanted}, says {_quoted(rows)}",
        rules=tuple(row.rule for row in rows),
        missing=askable.missing,
        break_glass=askable.break_glass,
        facts=_facts(rows, request.context),
        next_step=f"wait for approval by {wanted}",
        policy_digest=digest,
    )


def refused(
    request: Request, refused: Sequence[Pair], askable: Askable, near: Iterable[RuleRow], digest: str
) -> Decision:
    """Some row denies, or no row allows; `near` are rows that would have allowed something close, nearest first."""
    context = request.context
    denying = _ordered(row for pair in refused for row in pair.denying)
    if denying:
        unsure = all(isinstance(row.condition.answer(context), Unreadable) for row in denying)
        return Decision(
            verdict="deny",
            reason="error" if unsure else "denied_by_rule",
            message=_denied(denying, refused, request.action, unsure=unsure) + _unreachable(askable),
            rules=tuple([row.rule for row in denying]),
            facts=_facts(denying, context),
            policy_digest=digest,
        )
    failed = _ordered(row for pair in refused for row in pair.allows if not row.condition.holds(context))
    return Decision(
        verdict="deny",
        reason="no_rule_allows",
        message=_not_allowed(refused[0], request.action) + _unreachable(askable),
        nearest=tuple([row.rule for row in islice(dict.fromkeys((*failed, *near)), NEAREST)]),
        facts=_facts(failed, context),
        policy_digest=digest,
    )


def weighed(request: Request, pairs: Sequence[Pair], near: Sequence[RuleRow]) -> tuple[Evaluated, ...]:
    """Every rule that matches, pair by pair, and what it says; then the near ones, which are about something else."""
    lines: list[Evaluated] = []
    for pair in pairs:
        for row in _ordered((*pair.allows, *pair.denies)):
            answer = row.condition.answer(request.context)
            applies = row.condition.holds(request.context)
            says: Says = "does not apply"
            if applies:
                says = "denies" if row.rule.effect == "deny" else "allows"
            facts = "" if row.condition.constant is not None else _read(row, request.context)
            why = str(answer) if isinstance(answer, Unreadable) else facts
            lines.append(Evaluated(pair.subject, row.subject, pair.resource, says, why, row.rule, row.disclosure))
    for row in near[:NEAREST]:
        why = f"is about {row.pattern.text}"
        lines.append(Evaluated(pairs[0].subject, row.subject, pairs[0].resource, "near", why, row.rule, row.disclosure))
    return tuple(lines)


def _read(row: RuleRow, context: Context) -> str:
    return ", ".join(f"{name} is {value!r}" for name, value in row.condition.facts(context).items())


def told(decision: Decision, request: Request, refused: Sequence[Pair], next_step: NextStep | None) -> Decision:
    """The denial with its remedy, and with what the model is told of it.

    The model is told no more than every rule that mattered discloses.
    """
    if decision.policy_digest == "" or not refused:
        return decision.model_copy(update={"told": ModelDenial(reason=decision.reason, message=decision.message)})
    text = None if next_step is None else next_step.text
    hint = text if next_step is not None and least(row.disclosure for row in next_step.rows) == "remedy" else None
    spoken = [row for row in _ordered(row for pair in refused for row in pair.denying) if row.disclosure != "none"]
    if spoken:
        said = _told_of_rules(decision, request.action, refused, spoken, hint)
    else:  # rules that disclose nothing look like no rule at all
        said = ModelDenial(reason="no_rule_allows", message=_not_allowed(refused[0], request.action), next_step=hint)
    return decision.model_copy(update={"remedy": decision.next_step or text, "told": said})


def _told_of_rules(
    decision: Decision, action: str, refused: Sequence[Pair], spoken: Sequence[RuleRow], hint: str | None
) -> ModelDenial:
    """What the model is told of a denial by the `spoken` rules; only those that disclose their own text are named."""
    named = [row for row in spoken if row.disclosure in ("rule", "remedy")]
    pairs = [pair for pair in refused if any(row in spoken for row in pair.denying)]
    unsure = decision.reason == "error" and bool(named)
    return ModelDenial(
        reason=decision.reason if named else "denied_by_rule",
        message=_denied(named, pairs, action, unsure=unsure),
        rules=tuple(row.rule.note or row.rule.text for row in named),
        next_step=hint,
    )


def _denied(rows: Sequence[RuleRow], refused: Sequence[Pair], action: str, *, unsure: bool) -> str:
    """One sentence for a denial by rules; `rows` may be empty where they are not to be named."""
    first = next(pair for pair in refused if pair.denying)
    by = f"{_quoted(rows)} {'denies' if len(rows) == 1 else 'deny'}" if rows else "a rule denies"
    said = f"{by} {action} on {first.resource!r} to {first.subject}"
    return said + ", because a fact that it reads cannot be read" if unsure else said


def _not_allowed(pair: Pair, action: str) -> str:
    return f"no rule allows {action} on {pair.resource!r} to {pair.subject}"


def _ordered(rows: Iterable[RuleRow]) -> list[RuleRow]:
    return sorted(set(rows), key=lambda row: row.number)


def _facts(rows: Iterable[RuleRow], context: Context) -> dict[str, Json]:
    """What the conditions of `rows` read, and under `errors` what they could not read."""
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


def _listed(resources: Iterable[str]) -> str:
    names = tuple(dict.fromkeys(resources))
    return repr(names[0]) if len(names) == 1 else f"{names[0]!r} and {len(names) - 1} more"


def _people(missing: Iterable[MissingApproval]) -> str:
    return " and ".join(one.role if one.count == 1 else f"{one.count} people as {one.role}" for one in missing)


def _unreachable(askable: Askable) -> str:
    """Why a denial that approvals would turn is no question to anyone."""
    if not askable.wished:
        return ""
    return f"; an approval by {' or '.join(askable.wished)} would help, but too few others may give it"
