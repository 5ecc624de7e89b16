"""Is there a context in which two sets of conditions give different verdicts? An exact search over example values.

This is a satisfiability question: the search looks for an assignment of facts under which the old and the new verdict
differ. `cells` reduces each fact to finitely many examples, so backtracking over the facts is complete. Each assignment
that shows a difference becomes the witness that the report prints.

The conditions are evaluated under a partial assignment, in a logic of four answers: true, false, unreadable (as in the
policy: an argument is absent, or has the wrong type) and "open" (it depends on a fact without a value yet). While the
result is open, the search branches on a fact that it depends on. A fact that the result no longer depends on is never
branched on. Therefore rules that both sides share cost little.

Where it gives up:
- after `MAX_BRANCHES` partial assignments the question is unsettled;
- atoms without complete examples (`Cells.unsettled`) become free variables in a second search: each may be true, false
  or unreadable, whatever the other facts are. If even then no difference is found, there is none. Otherwise the
  difference may be impossible, and the question is unsettled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from remit.analysis.solver.cells import Cells, cells_of
from remit.analysis.solver.conditions import (
    Absent,
    Atom,
    ConditionTree,
    Fact,
    Truth,
    Value,
    atoms_of,
    context_of,
    evaluate_atom,
    tree_of,
)
from remit.analysis.solver.segments import AnalysisLimitReached
from remit.core import Verdict

MAX_BRANCHES: Final = 20_000  # partial assignments of facts in one question

Answer: TypeAlias = bool | Literal["open"] | None  # None: unreadable; "open": it depends on a fact without a value
OPEN: Final = "open"
APPROVALS: Final = "approvals"
VerdictChange: TypeAlias = tuple[Verdict, Verdict]
FactValues: TypeAlias = Mapping[Fact, Value]


@dataclass(frozen=True)
class Question:
    """The conditions of the rows that apply to one resource: those of both sides, and those of either side alone."""

    allows: frozenset[str]
    denies: frozenset[str]
    old_allows: frozenset[str]
    old_denies: frozenset[str]
    new_allows: frozenset[str]
    new_denies: frozenset[str]

    @property
    def trivial(self) -> bool:
        """True if the verdicts are equal for all facts: a shared deny always holds, or every other row is shared too."""
        return "True" in self.denies or (
            (self.old_allows <= self.allows and self.new_allows <= self.allows)
            and self.old_denies <= self.denies
            and self.new_denies <= self.denies
        )

    @property
    def texts(self) -> frozenset[str]:
        return self.allows | self.denies | self.old_allows | self.old_denies | self.new_allows | self.new_denies


@dataclass(frozen=True)
class Solution:
    """The changes that are possible, each with a context that shows it; `unsettled` says what could not be decided."""

    changes: Mapping[VerdictChange, FactValues]
    unsettled: tuple[str, ...] = ()


# Returns the policy's own verdict for an assignment, on the old (False) or the new (True) side.
DecideSide: TypeAlias = Callable[[FactValues, bool], Verdict]


def solve(question: Question, types: Mapping[str, str], decide: DecideSide) -> Solution:
    """Find every kind of change between the sides, each with one context.

    `decide` is called only where conditions ask for approvals: who may approve is not part of the conditions.
    """
    if question.trivial:
        return Solution({})
    try:
        cells, has_approvals = _prepare_cells(question.texts, tuple(sorted(types.items())))
    except AnalysisLimitReached as reason:
        return Solution({}, (str(reason),))
    search = _Search(question, cells, has_approvals, decide)
    try:
        search.run()
    except AnalysisLimitReached as reason:
        return Solution(search.changes, (str(reason),))
    if cells.unsettled and not search.changes:
        # No difference among the examples proves nothing for these atoms. With them as free variables the search covers
        # more contexts than exist, so finding no difference is a proof again.
        relaxed = _Search(question, cells, has_approvals, decide, free=cells.unsettled)
        try:
            relaxed.run()
        except AnalysisLimitReached as reason:
            return Solution({}, (str(reason),))
        if relaxed.changes:
            return Solution({}, tuple(sorted(f"{atom.text!r} is beyond the analysis" for atom in cells.unsettled)))
    return Solution(search.changes)


# Many resources of a policy have rows with the same conditions, so their cells are the same too.
@lru_cache(maxsize=4096)
def _prepare_cells(texts: frozenset[str], types: tuple[tuple[str, str], ...]) -> tuple[Cells, bool]:
    atoms = list(dict.fromkeys(atom for text in sorted(texts) for atom in atoms_of(text)))
    return cells_of(atoms, dict(types)), any(atom.role for atom in atoms)


# The outcome of an atom for the values of its facts. Evaluating it builds a whole context, which is slow.
_ATOM_CACHE: dict[tuple[Atom, tuple[object, ...]], bool | None] = {}


@dataclass
class _Search:
    """One backtracking search. The atoms in `free` are variables of their own, independent of the facts they read."""

    question: Question
    cells: Cells
    has_approvals: bool
    decide: DecideSide
    free: frozenset[Atom] = frozenset()
    changes: dict[VerdictChange, FactValues] = field(default_factory=dict[VerdictChange, FactValues])
    branches: int = 0
    _assignment: dict[Fact, Value] = field(default_factory=dict[Fact, Value])
    _blocking: Fact | None = None  # after an open answer: the fact that it depends on
    _decided: set[tuple[tuple[Truth, ...], tuple[tuple[Fact, Value], ...]]] = field(
        default_factory=set[tuple[tuple[Truth, ...], tuple[tuple[Fact, Value], ...]]]
    )

    def run(self) -> None:
        question = self.question
        self._changed_rows = [
            (text, is_deny)
            for texts, is_deny in (
                (question.old_denies | question.new_denies, True),
                (question.old_allows | question.new_allows, False),
            )
            for text in sorted(texts)
        ]
        shared_rows = [(text, True) for text in sorted(question.denies)] + [
            (text, False) for text in sorted(question.allows)
        ]
        self._rows = [*self._changed_rows, *shared_rows]
        self._branch()

    def _branch(self) -> None:
        self.branches += 1
        if self.branches > MAX_BRANCHES:
            raise AnalysisLimitReached("the conditions depend on too many combinations of facts to analyse")
        fact = self._choose_fact()
        if fact is None:
            return
        for value in self._examples(fact):
            self._assignment[fact] = value
            self._branch()
            del self._assignment[fact]
            # Stop once every kind of change is found: allow and deny differ in 2 ways; with "ask" there are 6. Of the
            # search with free variables only the existence matters.
            if len(self.changes) >= (1 if self.free else 6 if self.has_approvals else 2):
                return

    def _examples(self, fact: Fact) -> tuple[Value, ...]:
        if fact[0] == "free":
            return (True, False, None)
        # A fact without examples is the membership of an argument's value in a set.
        return self.cells.examples.get(fact, (False, True))

    def _choose_fact(self) -> Fact | None:
        """Choose the fact to branch on; None where the verdicts are settled and any change has been recorded.

        INVARIANT: approvals come last. Only when every other fact has a value do the same facts without approvals say
        for which people the policy asks. A fact left open would have its default there, and would hide other answers.
        """
        fact = self._blocking_fact()
        if fact is None or fact[0] != APPROVALS:
            return fact
        for text, is_deny in self._rows:
            if (
                self._row_applies(text, is_deny) == OPEN
                and self._blocking is not None
                and self._blocking[0] != APPROVALS
            ):
                return self._blocking
        return fact

    def _blocking_fact(self) -> Fact | None:
        """Return a fact that the result depends on; None where it is settled and any change has been recorded.

        The order keeps the search small. Rows of one side only come first: where none of them applies, the sides cannot
        differ, and the branch ends. Then shared denies: where one applies, both sides deny. Shared allows come last,
        and only where they can still change a verdict.
        """
        changed = self._any_changed_applies()
        if changed == OPEN:
            return self._blocking
        if not changed:
            return None
        denied = self._any_applies(self.question.denies, deny=True)
        if denied == OPEN:
            return self._blocking
        return None if denied else self._blocking_fact_of_allows()

    def _any_changed_applies(self) -> Answer:
        """Say if a row of one side only applies; open while any of them is open, even if another already applies."""
        # INVARIANT: once this is not open, the answer of every changed row is settled; what follows relies on that.
        applies = False
        for text, deny in self._changed_rows:
            answer = self._row_applies(text, deny)
            if answer == OPEN:
                return OPEN
            applies = applies or answer is True
        return applies

    def _any_applies(self, texts: Iterable[str], *, deny: bool) -> Answer:
        """Say if a row with one of those conditions applies; open where the first that could is open."""
        for text in texts:
            answer = self._row_applies(text, deny)
            if answer == OPEN:
                return OPEN
            if answer is True:
                return True
        return False

    def _blocking_fact_of_allows(self) -> Fact | None:
        """As `_blocking_fact`, where every changed row is settled and no shared row denies."""
        question = self.question
        old_denied = self._any_applies(question.old_denies, deny=True) is True
        new_denied = self._any_applies(question.new_denies, deny=True) is True
        if old_denied and new_denied:
            return None
        old = not old_denied and self._any_applies(question.old_allows, deny=False) is True
        new = not new_denied and self._any_applies(question.new_allows, deny=False) is True
        settled = (old or old_denied) and (new or new_denied)
        if not settled:
            shared = self._any_applies(question.allows, deny=False)
            if shared == OPEN:
                return self._blocking
            old = old or (shared is True and not old_denied)
            new = new or (shared is True and not new_denied)
        self._record_change(old, new)
        return None

    def _record_change(self, old: bool, new: bool) -> None:
        """Record the change that a settled assignment shows. `old` and `new`: allowed there, with the approvals given."""
        if old == new:
            return
        values = dict(self._assignment)
        if self.free:  # only that there is a change counts; the kind is not used
            self.changes[("deny", "allow")] = values
            return
        if not self.has_approvals:
            self.changes.setdefault(("allow", "deny") if old else ("deny", "allow"), values)
            return
        # With approvals, a denial may really be "ask". Only the policy knows: it depends on who may approve.
        unapproved: FactValues = {fact: value for fact, value in values.items() if fact[0] != APPROVALS}
        given = tuple((fact, value) for fact, value in values.items() if fact[0] == APPROVALS)
        if self._was_decided(unapproved, given):
            return
        for facts in (unapproved, values):
            change = (self.decide(facts, False), self.decide(facts, True))
            if change[0] != change[1]:
                self.changes.setdefault(change, facts)
                return

    def _was_decided(self, facts: FactValues, approvals: tuple[tuple[Fact, Value], ...]) -> bool:
        """True if the policy decided before under facts with the same outcome of every atom, and the same approvals."""
        context = context_of(facts)
        outcomes = tuple(
            answer if isinstance(answer := atom.condition.answer(context), bool) else None
            for text in sorted(self.question.texts)
            for atom in atoms_of(text)
            if atom.condition is not None
        )
        key = (outcomes, approvals)
        if key in self._decided:
            return True
        self._decided.add(key)
        return False

    def _row_applies(self, text: str, deny: bool) -> Answer:
        """Say if a row with that condition applies. An open answer leaves the fact it depends on in `_blocking`."""
        answer = self._evaluate(tree_of(text))
        # Fail closed, as the policy does: a deny whose condition is unreadable applies, an allow does not.
        return deny if answer is None else answer

    def _evaluate(self, tree: ConditionTree) -> Answer:
        if tree.op == "const":
            return tree.value
        if tree.atom is not None:
            return self._evaluate_atom(tree.atom)
        if tree.op == "not":
            answer = self._evaluate(tree.parts[0])
            return answer if answer is None or answer == OPEN else not answer
        # One true part decides an "or", one false part an "and", whatever the other parts are. Otherwise an open part
        # keeps the result open, because it may still decide; after that, an unreadable part makes it unreadable.
        decisive = tree.op == "or"
        is_unreadable = is_open = False
        blocking: Fact | None = None
        for part in tree.parts:
            answer = self._evaluate(part)
            if answer is decisive:
                return decisive
            if answer == OPEN:
                is_open = True
                # INVARIANT: approvals come last, so any other fact takes precedence over an approval.
                if blocking is None or blocking[0] == APPROVALS:
                    blocking = self._blocking
            elif answer is None:
                is_unreadable = True
        if is_open:
            self._blocking = blocking
            return OPEN
        return None if is_unreadable else not decisive

    def _evaluate_atom(self, atom: Atom) -> Answer:
        facts: tuple[Fact, ...] = (("free", atom.text),) if atom in self.free else atom.facts
        for fact in facts:
            if fact not in self._assignment:
                self._blocking = fact
                return OPEN
        if atom in self.free:
            outcome: Truth = self._assignment[facts[0]]
            return outcome
        if atom.searched_set and atom.comparisons:
            # `args.to in labels`: now that the argument has a value, the membership of that value is a fact too.
            value = self._assignment[facts[0]]
            if isinstance(value, str):
                membership = (atom.searched_set, value)
                if membership not in self._assignment:
                    self._blocking = membership
                    return OPEN
                facts = (*facts, membership)
        key = (atom, tuple(_cache_key(self._assignment[fact]) for fact in facts))
        if key not in _ATOM_CACHE:
            if len(_ATOM_CACHE) > 500_000:
                _ATOM_CACHE.clear()
            _ATOM_CACHE[key] = evaluate_atom(atom, {fact: self._assignment[fact] for fact in facts})
        return _ATOM_CACHE[key]


def _cache_key(value: Value) -> object:
    """A hashable key that keeps apart values that are equal in Python but not in JSON: 1, 1.0 and True."""
    if value is None or isinstance(value, str | Absent):
        return value
    return type(value).__name__, repr(value)
