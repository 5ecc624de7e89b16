"""Is there a context in which two sets of conditions decide differently? Searched fact by fact, exactly.

The search is a backtracking one. It evaluates the conditions with the facts chosen so far, in a logic of four
answers: true, false, unreadable, and "open" where a fact is not chosen yet. While the answer is open, it takes a fact
that the answer depends on and tries each of its examples (see `cells`). A fact is only looked at where the answer
still depends on it, so rules that both sides share cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from remit.analysis.solver.cells import Cells, cells_of
from remit.analysis.solver.conditions import Absent, Atom, Dim, Tree, Truth, Value, atoms_of, context_of, tree_of, truth
from remit.analysis.solver.segments import TooMany
from remit.core import Verdict

MOST_TRIED: Final = 20_000  # combinations of facts in one question

Answer: TypeAlias = bool | Literal["open"] | None  # None: unreadable; "open": a fact is not chosen yet
OPEN: Final = "open"
APPROVALS: Final = "approvals"
Change: TypeAlias = tuple[Verdict, Verdict]
Values: TypeAlias = Mapping[Dim, Value]


@dataclass(frozen=True)
class Question:
    """The conditions that bear on one resource: on both sides, and on either alone. Allows and denies apart."""

    allows: frozenset[str]
    denies: frozenset[str]
    old_allows: frozenset[str]
    old_denies: frozenset[str]
    new_allows: frozenset[str]
    new_denies: frozenset[str]

    @property
    def trivial(self) -> bool:
        """Whether the sides cannot differ, whatever the facts."""
        return "True" in self.denies or (
            (self.old_allows <= self.allows and self.new_allows <= self.allows)
            and self.old_denies <= self.denies
            and self.new_denies <= self.denies
        )

    @property
    def texts(self) -> frozenset[str]:
        return self.allows | self.denies | self.old_allows | self.old_denies | self.new_allows | self.new_denies


@dataclass(frozen=True)
class Answered:
    """The changes that some context shows, each with that context; `unsettled` says what could not be decided."""

    changes: Mapping[Change, Values]
    unsettled: tuple[str, ...] = ()


ProposedCall: TypeAlias = Callable[
    [Values, bool], Verdict
]  # the verdict on the old (False) or new (True) side, by the policy


def ask(question: Question, types: Mapping[str, str], decide: ProposedCall) -> Answered:
    """Every kind of change between the sides; `decide` is asked only where an approval could turn a denial."""
    if question.trivial:
        return Answered({})
    try:
        cells, people = _prepared(question.texts, tuple(sorted(types.items())))
    except TooMany as reason:
        return Answered({}, (str(reason),))
    search = _Search(question, cells, people, decide)
    try:
        search.run()
    except TooMany as reason:
        return Answered(search.found, (str(reason),))
    if cells.unsettled and not search.found:
        free = _Search(question, cells, people, decide, free=cells.unsettled)
        try:
            free.run()
        except TooMany as reason:
            return Answered({}, (str(reason),))
        if free.found:
            return Answered({}, tuple(sorted(atom.text for atom in cells.unsettled)))
    return Answered(search.found)


@lru_cache(maxsize=4096)
def _prepared(texts: frozenset[str], types: tuple[tuple[str, str], ...]) -> tuple[Cells, bool]:
    atoms = list(dict.fromkeys(atom for text in sorted(texts) for atom in atoms_of(text)))
    return cells_of(atoms, dict(types)), any(atom.role for atom in atoms)


_TRUTHS: dict[tuple[Atom, tuple[object, ...]], bool | None] = {}


@dataclass
class _Search:
    """One search. `free` are comparisons taken as facts of their own: whatever they may say."""

    question: Question
    cells: Cells
    people: bool
    decide: ProposedCall
    free: frozenset[Atom] = frozenset()
    found: dict[Change, Values] = field(default_factory=dict[Change, Values])
    tried: int = 0
    _chosen: dict[Dim, Value] = field(default_factory=dict[Dim, Value])
    _wanted: Dim | None = None
    _asked: set[tuple[tuple[Truth, ...], tuple[tuple[Dim, Value], ...]]] = field(
        default_factory=set[tuple[tuple[Truth, ...], tuple[tuple[Dim, Value], ...]]]
    )

    def run(self) -> None:
        question = self.question
        self._changed = [
            (text, effect)
            for texts, effect in (
                (question.old_denies | question.new_denies, True),
                (question.old_allows | question.new_allows, False),
            )
            for text in sorted(texts)
        ]
        shared = [(text, True) for text in sorted(question.denies)] + [
            (text, False) for text in sorted(question.allows)
        ]
        self._texts = [*self._changed, *shared]
        self._go()

    def _go(self) -> None:
        self.tried += 1
        if self.tried > MOST_TRIED:
            raise TooMany("the conditions hang on more combinations of facts than are looked at")
        dim = self._next()
        if dim is None:
            return
        for value in self._values(dim):
            self._chosen[dim] = value
            self._go()
            del self._chosen[dim]
            if len(self.found) >= (1 if self.free else 6 if self.people else 2):
                return

    def _values(self, dim: Dim) -> tuple[Value, ...]:
        if dim[0] == "free":
            return (True, False, None)
        return self.cells.examples.get(dim, (False, True))

    def _next(self) -> Dim | None:
        """The fact to choose next; None where the answer is settled, and then what it is was noted.

        INVARIANT: approvals come last. Only when every other fact is chosen do the same facts without the approvals say
        what people are asked; a fact left open would stand at its default there, and hide other answers.
        """
        dim = self._hanging()
        if dim is None or dim[0] != APPROVALS:
            return dim
        for text, deny in self._texts:
            if self._answer(text, deny) == OPEN and self._wanted is not None and self._wanted[0] != APPROVALS:
                return self._wanted
        return dim

    def _hanging(self) -> Dim | None:
        """A fact that the answer depends on; None where the answer is settled, and then what it is was noted.

        Rows of one side only come first: where none of them applies, the sides cannot differ. Then come shared denies,
        which settle both sides at once. Shared allows come last, and only where they could still make a difference.
        """
        changed = self._some_changed()
        if changed == OPEN:
            return self._wanted
        if not changed:
            return None
        denied = self._some(self.question.denies, deny=True)
        if denied == OPEN:
            return self._wanted
        return None if denied else self._hanging_on_allows()

    def _some_changed(self) -> Answer:
        """Whether a row of one side only applies; open while any of them is open, even if another applies already."""
        # INVARIANT: once this is not open, the answer of every changed row is settled; what follows relies on that.
        applies = False
        for text, deny in self._changed:
            answer = self._answer(text, deny)
            if answer == OPEN:
                return OPEN
            applies = applies or answer is True
        return applies

    def _some(self, texts: Iterable[str], *, deny: bool) -> Answer:
        """Whether a row of those conditions applies; open where the first that could is open."""
        for text in texts:
            answer = self._answer(text, deny)
            if answer == OPEN:
                return OPEN
            if answer is True:
                return True
        return False

    def _hanging_on_allows(self) -> Dim | None:
        """As `_hanging`, where every changed row is settled and no shared row denies."""
        question = self.question
        old_denied = self._some(question.old_denies, deny=True) is True
        new_denied = self._some(question.new_denies, deny=True) is True
        if old_denied and new_denied:
            return None
        old = not old_denied and self._some(question.old_allows, deny=False) is True
        new = not new_denied and self._some(question.new_allows, deny=False) is True
        settled = (old or old_denied) and (new or new_denied)
        if not settled:
            shared = self._some(question.allows, deny=False)
            if shared == OPEN:
                return self._wanted
            old = old or (shared is True and not old_denied)
            new = new or (shared is True and not new_denied)
        self._note(old, new)
        return None

    def _note(self, old: bool, new: bool) -> None:
        """What a settled choice of facts shows. `old` and `new`: allowed on that side, with the approvals chosen."""
        if old == new:
            return
        values = dict(self._chosen)
        if self.free:
            self.found[("deny", "allow")] = values
            return
        if not self.people:
            self.found.setdefault(("allow", "deny") if old else ("deny", "allow"), values)
            return
        alone: Values = {dim: value for dim, value in values.items() if dim[0] != APPROVALS}
        if self._known(alone, tuple((dim, value) for dim, value in values.items() if dim[0] == APPROVALS)):
            return
        for facts in (alone, values):
            change = (self.decide(facts, False), self.decide(facts, True))
            if change[0] != change[1]:
                self.found.setdefault(change, facts)
                return

    def _known(self, facts: Values, approvals: tuple[tuple[Dim, Value], ...]) -> bool:
        """Whether the policy was asked before under facts that no comparison here tells from these."""
        context = context_of(facts)
        answers = tuple(
            answer if isinstance(answer := atom.condition.answer(context), bool) else None
            for text in sorted(self.question.texts)
            for atom in atoms_of(text)
            if atom.condition is not None
        )
        mark = (answers, approvals)
        if mark in self._asked:
            return True
        self._asked.add(mark)
        return False

    def _answer(self, text: str, deny: bool) -> Answer:
        """Whether a row of that condition applies; "open", with the fact wanted next, where that is not settled."""
        answer = self._tree(tree_of(text))
        return deny if answer is None else answer

    def _tree(self, tree: Tree) -> Answer:
        if tree.op == "const":
            return tree.value
        if tree.atom is not None:
            return self._atom(tree.atom)
        if tree.op == "not":
            answer = self._tree(tree.parts[0])
            return answer if answer is None or answer == OPEN else not answer
        decisive = tree.op == "or"
        unreadable = is_open = False
        wanted: Dim | None = None
        for part in tree.parts:
            answer = self._tree(part)
            if answer is decisive:
                return decisive
            if answer == OPEN:
                is_open = True
                if wanted is None or wanted[0] == APPROVALS:
                    wanted = self._wanted
            elif answer is None:
                unreadable = True
        if is_open:
            self._wanted = wanted
            return OPEN
        return None if unreadable else not decisive

    def _atom(self, atom: Atom) -> Answer:
        if atom in self.free:
            dims: tuple[Dim, ...] = (("free", atom.text),)
        else:
            dims = atom.dims
        for dim in dims:
            if dim not in self._chosen:
                self._wanted = dim
                return OPEN
        if atom in self.free:
            chosen: Truth = self._chosen[dims[0]]
            return chosen
        if atom.member and atom.uses:
            value = self._chosen[dims[0]]
            if isinstance(value, str):
                held = (atom.member, value)
                if held not in self._chosen:
                    self._wanted = held
                    return OPEN
                dims = (*dims, held)
        key = (atom, tuple(_key(self._chosen[dim]) for dim in dims))
        if key not in _TRUTHS:
            if len(_TRUTHS) > 500_000:
                _TRUTHS.clear()
            _TRUTHS[key] = truth(atom, {dim: self._chosen[dim] for dim in dims})
        return _TRUTHS[key]


def _key(value: Value) -> object:
    """What tells values apart that are equal to Python (1, 1.0 and True), or that it cannot hash."""
    if value is None or isinstance(value, str | Absent):
        return value
    return type(value).__name__, repr(value)
