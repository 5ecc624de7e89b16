"""The policy in force: an immutable snapshot of all rules that decides requests.

A request is decided for each subject on each resource, and every one of these must be allowed: some row allows it,
and none denies it. That is the design's Casbin model; `casbin_reference.py` is the same model in Casbin itself, and
the tests hold the two together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from remit.core import Context, Decision, Request, Rule
from remit.core.parsing import digest
from remit.policy import explanation as explain
from remit.policy.index import Asked, Index, RuleTable, found
from remit.policy.language.loader import RuleRow, Rules, Vocabulary, read_more, read_rules
from remit.policy.language.patterns import NOTHING_TOUCHED, GlobError, parse_resource
from remit.policy.language.roles import closures
from remit.policy.matching import Pair, askable
from remit.policy.remedy import next_step

NOBODY: Final = "user:none"
_SEMANTICS: Final = 1  # raised when the same rules come to mean something else
_NEAR: Final = 4  # rules looked at on each side, in each place, for the nearest misses


def load_policy(files: Mapping[str, bytes], vocabulary: Vocabulary | None = None) -> Policy:
    """Read `policies/model.conf` and `policies/*.csv` from `files`, keyed by path; other files are passed over.

    Raises:
        WorkspaceError: with every problem of every file.
    """
    return Policy(read_rules(files, vocabulary), vocabulary)


class Judged(NamedTuple):
    """Whether a request is allowed, and by which rows: those that allow or those that deny. A default deny has none."""

    allowed: bool
    rows: list[RuleRow]


class Policy:
    """All rules, ready to decide; never changed once made, so any number of threads may ask it."""

    def __init__(self, rules: Rules, vocabulary: Vocabulary | None = None) -> None:
        self.vocabulary: Final = vocabulary
        self.rules: Final[tuple[Rule, ...]] = tuple(row.rule for row in rules.rows)
        self.rows: Final = rules.rows
        self.digest: Final = digest(
            {
                "semantics": _SEMANTICS,
                "rules": sorted({row.fields for row in rules.rows} | {link.fields for link in rules.links}),
            }
        )
        self.links: Final = rules.links
        self._index: Final = Index(rules.rows)
        self._roles: Final = closures(rules.links)
        ruled = {row.subject for row in rules.rows}
        # Of each subject, itself and those of its roles that some row names: all that a decision looks under.
        self._names: Final[Mapping[str, tuple[str, ...]]] = {
            subject: (*({subject} & ruled), *sorted(self.roles_of(subject) & ruled))
            for subject in {*self._roles, *ruled}
        }
        members: dict[str, set[str]] = defaultdict(set)
        for subject, roles in self._roles.items():
            for role in roles:
                members[role].add(subject)
        self._members: Final = {role: frozenset(names) for role, names in members.items()}
        self.subjects: Final = frozenset({*self._roles, *self._members, *ruled})

    def extended(self, text: str, *, file: str, subject: str) -> Policy:
        """These rules and those of the text, which are for that one subject; what others may do stays as it is.

        Raises:
            WorkspaceError: every problem of the text.
        """
        rows = read_more(self.rows, text, self.vocabulary, file=file, subject=subject)
        return Policy(Rules(rows=rows, links=self.links), self.vocabulary)

    def roles_of(self, subject: str) -> frozenset[str]:
        """Every role that `subject` has, through other roles too; none for a subject nobody mentions."""
        return self._roles.get(subject, frozenset())

    def members_of(self, role: str) -> frozenset[str]:
        """Every subject that has `role`, through other roles too."""
        return self._members.get(role, frozenset())

    def approvers(self, role: str, *, asking: Iterable[str] = ()) -> frozenset[str]:
        """Who may approve in `role`: people who have it, and do not ask themselves."""
        people = (name for name in self.members_of(role) if name.startswith("user:"))
        return frozenset(people) - {*asking, NOBODY}

    def decide(self, request: Request) -> Decision:
        """Decide, and say by which rules and facts. `decision_digest` is the broker's to fill, `advise` tells the rest.

        A request without subjects, or with a resource that is not canonical, is denied with reason `error`.
        """
        if request.subjects:
            try:
                judged = self.judge(request)
            except GlobError as error:
                return explain.undecidable(error.what, self.digest)
        else:
            return explain.undecidable("nobody asks", self.digest)
        if judged.allowed:
            return explain.allowed(request, judged.rows, self.digest)
        refused = [pair for pair in self.pairs(request) if not pair.allowed(request.context)]
        further = askable(refused, request.context, lambda role: self.approvers(role, asking=request.subjects))
        if further.missing:
            return explain.asked(request, refused, further, self.digest)
        near = () if judged.rows else self._near(refused[0], request.action)
        return explain.refused(request, refused, further, near, self.digest)

    def judge(self, request: Request) -> Judged:
        """Only whether it is allowed, and the rows that say so: what `decide` puts into words.

        Every row that matches is asked, so that all that mattered are named.

        Raises:
            GlobError: a resource is not canonical.
        """
        index, subjects, context = self._index, request.subjects, request.context
        tables = index.tables(request.action)
        allowing: list[RuleRow] = []
        denying: list[RuleRow] = []
        allowed = bool(subjects)
        for text in request.resources or (NOTHING_TOUCHED,):
            keys = index.plain_keys(text)
            if keys is None:
                read = self._judge_closely(subjects, index.asked(text), tables, context)
                (allowing if read.allowed else denying).extend(read.rows)
                allowed &= read.allowed
                continue
            # The loops stand here and not in functions of their own: a call for each row would cost more than the row.
            for subject in subjects:
                names = self._names.get(subject, ())
                before = len(allowing)
                for table in tables:
                    get = table.by_key.get
                    for key in keys[table.first :]:
                        entries = get(key)
                        if entries is None:
                            continue
                        here = entries if isinstance(entries, tuple) else found(entries, names)
                        for owner, rest, literal, holds, denies, row in here:
                            if (
                                owner in names
                                and (rest is None or rest(text[literal:]))
                                and (holds is None or holds(context))
                            ):
                                (denying if denies else allowing).append(row)
                if len(allowing) == before:
                    allowed = False
        if denying or not allowed:
            return Judged(False, denying)
        return Judged(True, allowing)

    def _judge_closely(
        self, subjects: Iterable[str], resource: Asked, tables: Iterable[RuleTable], context: Context
    ) -> Judged:
        """As `judge`, of one resource that is a set, or is spelled as few are."""
        allowing: list[RuleRow] = []
        denying: list[RuleRow] = []
        allowed = True
        for subject in subjects:
            pair = self._matched(subject, self._names.get(subject, ()), resource, tables, context)
            rows = [row for row in pair.allows if row.condition.holds(context)]
            allowed = allowed and bool(rows)
            allowing += rows
            denying += pair.denying
        if denying or not allowed:
            return Judged(False, denying)
        return Judged(True, allowing)

    def advise(self, request: Request, decision: Decision) -> Decision:
        """A denial with what would be allowed instead, and with what of it the model is told.

        Other decisions are returned as they are. This is apart from `decide` because it decides again some dozen times.
        """
        if decision.verdict != "deny":
            return decision
        try:
            refused = [pair for pair in self.pairs(request) if not pair.allowed(request.context)]
        except GlobError:
            return explain.told(decision, request, (), None)
        return explain.told(decision, request, refused, next_step(request, refused, self.decide))

    def weighed(self, request: Request) -> tuple[explain.Evaluated, ...]:
        """Every rule that bears on the request and what it says, for a table.

        Where no rule allows or denies, the nearest ones are there too.

        Raises:
            GlobError: a resource is not canonical.
        """
        pairs = self.pairs(request)
        refused = [pair for pair in pairs if not pair.allowed(request.context)]
        missing = refused and not any(pair.denying for pair in refused)
        near = self._near(refused[0], request.action) if missing else []
        return explain.weighed(request, [*refused, *(pair for pair in pairs if pair not in refused)], near)

    def pairs(self, request: Request) -> list[Pair]:
        """Each subject with each resource, and the rows that match both and the action.

        Raises:
            GlobError: a resource is not canonical.
        """
        resources = [self._index.asked(text) for text in dict.fromkeys(request.resources or (NOTHING_TOUCHED,))]
        tables = self._index.tables(request.action)
        return [
            self._matched(subject, self._names.get(subject, ()), resource, tables, request.context)
            for subject in dict.fromkeys(request.subjects)
            for resource in resources
        ]

    def _matched(
        self, subject: str, names: tuple[str, ...], resource: Asked, tables: Iterable[RuleTable], context: Context
    ) -> Pair:
        matching = self._set_matching if resource.whole else self._matching
        rows = sorted(matching(names, resource, tables), key=lambda row: row.number)
        denies = [row for row in rows if row.rule.effect == "deny"]
        return Pair(
            subject,
            resource.text,
            allows=[row for row in rows if row.rule.effect == "allow"],
            denies=denies,
            denying=[row for row in denies if row.condition.holds(context)],
        )

    def _matching(self, names: tuple[str, ...], resource: Asked, tables: Iterable[RuleTable]) -> Iterator[RuleRow]:
        """The rows whose pattern matches the one resource."""
        text = resource.text
        for table in tables:
            for key in resource.keys:
                for entry in found(table.by_key.get(key, ()), names):
                    if entry.rest is None or entry.rest(text[entry.literal :]):
                        yield entry.row

    def _set_matching(self, names: tuple[str, ...], resource: Asked, tables: Iterable[RuleTable]) -> Iterator[RuleRow]:
        """The allows whose pattern covers the set, and the denies whose pattern meets any of it."""
        parsed = parse_resource(resource.text)
        *above, folder = resource.keys
        for table in tables:
            rows = [entry.row for key in above for entry in found(table.by_key.get(key, ()), names)]
            for row in (*rows, *table.below(names, folder)):
                if row.pattern.intersects(parsed) if row.rule.effect == "deny" else row.pattern.covers(parsed):
                    yield row

    def _near(self, pair: Pair, action: str) -> list[RuleRow]:
        """Rows that would have allowed this action to this subject on something whose name begins alike."""
        kind, text = pair.resource.partition(":")[0], pair.resource
        names = self._names.get(pair.subject, ())
        near = {
            row: _alike(row.pattern.text, text)
            for table in self._index.tables(action)
            for row in table.beside(names, text, _NEAR)
            if row.rule.effect == "allow" and row.pattern.kind == kind and row not in pair.allows
        }
        return sorted(near, key=lambda row: (-near[row], row.number))


def _alike(one: str, other: str) -> int:
    """How many segments both begin with."""
    a, b = one.split("/"), other.split("/")
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
