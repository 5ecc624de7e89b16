"""The cases that a table lacks: few distinct ones that catch every mutant which none catches, and cover each rule and action."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, product
from typing import Final

from remit.analysis.case_text import case_yaml
from remit.analysis.cases import Coverage
from remit.analysis.covering import minimal_cover
from remit.analysis.drafting.rows import CASES, added
from remit.analysis.mutation import OPERATORS, MutationScore, mutations
from remit.analysis.reach import reach_of
from remit.analysis.solver.cells import cells_of
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.ruleset import RuleSet
from remit.analysis.solver.segments import AnalysisLimitReached
from remit.core import NOBODY, READ_RESULT, Context, Request, Rule
from remit.policy import CaseTable, cases_beside
from remit.policy.language import RuleRow
from remit.workspace import Workspace

MOST_TRIED: Final = 2_000  # requests in the search for one that a rule decides
MOST_FACTS: Final = 50  # sets of facts that are tried for one rule


@dataclass(frozen=True, kw_only=True)
class NewCase:
    """A case to add to `table`. `why`: the mutants that it catches, or the rule or the action that no other case covers."""

    table: str
    text: str
    why: tuple[str, ...]

    @property
    def note(self) -> str:
        """The first line of the case, which holds its name."""
        return self.text.splitlines()[0]


def new_cases(
    rule_set: RuleSet, workspace: Workspace, score: MutationScore, coverage: Coverage, tables: Sequence[CaseTable]
) -> tuple[NewCase, ...]:
    """The cases to add. Each decides as the rules do now: a person has to look whether that is right."""
    chosen = _catching(rule_set, score)
    decided: set[Rule] = set(chain.from_iterable(rule_set.policy.decide(request).rules for request, _ in chosen))
    for rule in coverage.rules:
        if rule not in decided and (request := _decided_by(rule_set, rule)) is not None:
            chosen.append((request, (f"{rule.file}:{rule.line} no case is decided by it",)))
            decided.update(rule_set.policy.decide(request).rules)
    called = {request.action for request, _ in chosen}
    for action in coverage.actions:
        if action not in called:
            chosen.append((_calling(workspace, action), (f"no case calls {action}",)))
    return tuple(_written(rule_set, chosen, tables))


def with_new_cases(cases: Sequence[NewCase], tables: Sequence[CaseTable]) -> dict[str, str]:
    """The texts of the tables with these cases at their ends, by file."""
    texts = {table.file: table.text for table in tables}
    of_table: defaultdict[str, list[str]] = defaultdict(list)
    for case in cases:
        of_table[case.table].append(case.text)
    return {file: added(texts.get(file, ""), "\n".join(found)) for file, found in of_table.items()}


def _catching(rule_set: RuleSet, score: MutationScore) -> list[tuple[Request, tuple[str, ...]]]:
    """Few requests that together have another verdict in every mutant that no case catches, each with these mutants."""
    candidates = list({_identity(request): request for request in score.requests.values()}.values())
    verdicts = [rule_set.policy.decide(request).verdict for request in candidates]
    caught: dict[int, frozenset[int]] = {}
    for number, mutation in enumerate(mutations(rule_set)):
        if number in score.requests:  # the mutants are made again, so that only one of them is in memory
            decide = mutation.rule_set.policy.decide
            caught[number] = frozenset(
                at for at, request in enumerate(candidates) if decide(request).verdict != verdicts[at]
            )
    kept = sorted(minimal_cover(set(caught.values())))
    why: defaultdict[int, list[str]] = defaultdict(list)
    for number, able in caught.items():
        mutant = score.mutants[number]
        first = next(at for at in kept if at in able)
        why[first].append(f"{mutant.file}:{mutant.line} {OPERATORS[mutant.operator]}")
    return [(candidates[at], tuple(dict.fromkeys(why[at]))) for at in kept]


def _identity(request: Request) -> str:
    return request.model_dump_json()


def _decided_by(rule_set: RuleSet, rule: Rule) -> Request | None:
    """A request that the rule decides, with others or alone; None if none is found."""
    row = next(row for row in rule_set.rows if row.rule is rule or row.rule == rule)
    everyone = sorted(rule_set.subjects)
    mine = [who for who in everyone if row.subject in {who, *rule_set.roles.get(who, ())}]
    pairs = [
        (who, other) if who.startswith("agent:") else (other, who)
        for who in mine
        for other in (*everyone, NOBODY)
        if who.startswith("agent:") is not other.startswith("agent:")
    ]
    alone = [(who,) for who in mine if not who.startswith("agent:")]
    resource = row.pattern.text.replace("**", "x").replace("*", "x") if row.pattern.kind else "file:x"
    actions = () if rule_set.vocabulary is None else rule_set.vocabulary.matching(row.action)
    tries = (
        (subjects, action, context)
        for action, context in product(actions, list(_facts(row)))
        for subjects in (alone if _by_a_person(action) else pairs)
    )
    for subjects, action, context in islice(tries, MOST_TRIED):
        request = Request(subjects=subjects, action=action, resources=(resource,), context=context)
        decision = rule_set.policy.decide(rule_set.entities.of(request))
        if decision.reason != "error" and rule in decision.rules:
            return request
    return None


def _by_a_person(action: str) -> bool:
    """True for what people do with Remit itself."""
    return action.startswith("remit.") and action != READ_RESULT


def _facts(row: RuleRow) -> Iterator[Context]:
    """Facts under which the condition of the row may differ."""
    yield Context()
    try:
        examples = cells_of(atoms_of(row.condition.text), {}).examples
    except AnalysisLimitReached:
        return
    for values in islice(product(*examples.values()), MOST_FACTS):
        yield context_of(dict(zip(examples, values, strict=True)))


def _calling(workspace: Workspace, action: str) -> Request:
    """A request for the action by an agent that has it, on the first resource that its manifest reaches."""
    agents = sorted(agent.name for agent in workspace.agents.values() if action in agent.actions)
    agent = agents[0] if agents else next(iter(workspace.agents), "none")
    reach = reach_of(workspace).get(action)
    pattern = reach.patterns[0] if reach is not None and reach.patterns else "none:"
    resource = pattern.replace("**", "x").replace("*", "x")
    return Request(subjects=(f"agent:{agent}", NOBODY), action=action, resources=(resource,), context=Context())


def _written(
    rule_set: RuleSet, chosen: Sequence[tuple[Request, tuple[str, ...]]], tables: Sequence[CaseTable]
) -> Iterator[NewCase]:
    """The cases as text, each with a note of its own, in the table beside the rules that it is about."""
    taken = {line for table in tables for line in table.text.splitlines()}
    rows = _rows_by_place(rule_set)
    for request, why in chosen:
        places = [part.partition(" ")[0] for part in why]
        about = [rows[place] for place in places if place in rows]
        text = case_yaml(rule_set, request, rows=about, only_rows=bool(about))
        first, rest = text.split("\n", 1)
        note, number = first, 2
        while note in taken:
            note, number = f'{first[:-1]} ({number})"', number + 1
        taken.add(note)
        table = cases_beside(places[0].rpartition(":")[0]) if about else CASES
        yield NewCase(table=table, text=f"{note}\n{rest}", why=why)


def _rows_by_place(rule_set: RuleSet) -> Mapping[str, str]:
    return {f"{row.rule.file}:{row.rule.line}": row.rule.text for row in rule_set.rows}
