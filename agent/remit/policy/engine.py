"""The policy in force: an immutable snapshot of all rules that decides requests.

A request is decided for each subject on each resource, and every such pair must be allowed: some row allows it, and no row
denies it. This is the model of `policies/model.conf`; `casbin_reference.py` runs the same model in Casbin, and the tests
compare the two.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from remit.core import CONFIRMATION, Context, Decision, Permitted, Request, Rule, UsageError, action_matches
from remit.core.parsing import digest
from remit.policy import explanation as explain
from remit.policy.folder import read_folder
from remit.policy.index import Index, ResourceKeys, RuleTable, entries_for
from remit.policy.language.entities import EVERY
from remit.policy.language.loader import RuleRow, Rules, Vocabulary, read_more, read_rules
from remit.policy.language.patterns import NOTHING_TOUCHED, GlobError, parse_resource
from remit.policy.language.roles import RoleLink, closures
from remit.policy.matching import Pair, find_approvals
from remit.policy.next_step import find_next_step

NOBODY: Final = "user:none"
_SEMANTICS: Final = 1  # increased when the meaning of the same rules changes, so that their digest changes
_ARGUMENT: Final = re.compile(r"\bargs\.([A-Za-z_][A-Za-z0-9_]*)")  # in the name of a fact: `len(args.to)`
_NEAR: Final = 4  # rules considered as near misses, on each side and for each name


def load_policy(files: Mapping[str, bytes], vocabulary: Vocabulary | None = None) -> Policy:
    """Read the model, the rules and the entities of `policies/` from `files`, keyed by path; other files are ignored.

    Raises:
        WorkspaceError: every problem of every file.
    """
    return Policy(read_rules(files, vocabulary), vocabulary)


class Judgement(NamedTuple):
    """Whether a request is allowed, and the deciding rows: all that allow or all that deny; none if no rule matches."""

    allowed: bool
    rows: list[RuleRow]


class Policy:
    """All rules, compiled. It never changes, so any number of threads may use it."""

    def __init__(self, rules: Rules, vocabulary: Vocabulary | None = None) -> None:
        self.vocabulary: Final = vocabulary
        self.rules: Final[tuple[Rule, ...]] = tuple(row.rule for row in rules.rows)
        self.rows: Final = rules.rows
        self.entities: Final = rules.entities
        self.digest: Final = digest(_digested(rules))
        self.links: Final = rules.links
        self._arguments_read: dict[str, frozenset[str]] = {}  # by action, as they are asked for
        self._denied_last: tuple[Request | None, list[Pair]] = (None, [])  # `advise` follows `decide`, with its request
        self._index: Final = Index(rules.rows)
        self._roles: Final = closures(rules.links)
        ruled = {row.subject for row in rules.rows}
        # For each subject: itself and its roles, as far as some row names them. A decision looks up no other names.
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

    @classmethod
    def load(cls, folder: Path | str) -> Policy:
        """The rules of a policy folder (`model.conf` and its `*.csv`), without a workspace around it.

        The names of agents, tools and users are not checked, because nothing declares them. Only `decide` of Remit's own matcher
        uses this policy: a broker asks stock Casbin too.

        Raises:
            WorkspaceError: every problem of every file.
            UsageError: there is no such folder.
        """
        path = Path(folder)
        if not path.is_dir():
            raise UsageError(f"there is no policy folder {str(path)!r}: name a folder with model.conf and rules.csv")
        return load_policy(read_folder(path))

    def extended(self, text: str, *, file: str, subject: str) -> Policy:
        """A policy with these rules and those of `text`, which may name `subject` only.

        Raises:
            WorkspaceError: every problem of the text.
        """
        rows = read_more(self.rows, text, self.vocabulary, file=file, subject=subject)
        return Policy(Rules(rows=rows, links=self.links, entities=self.entities), self.vocabulary)

    def with_roles(self, subject: str, roles: Iterable[str]) -> Policy:
        """A policy in which the subject has these roles too: those of its token. Its digest names them."""
        known = self.roles_of(subject)
        given = tuple(RoleLink(file="", line=0, member=subject, role=role) for role in roles if role not in known)
        rules = Rules(rows=self.rows, links=(*self.links, *given), entities=self.entities)
        return Policy(rules, self.vocabulary) if given else self

    def roles_of(self, subject: str) -> frozenset[str]:
        """Every role of `subject`, direct or inherited; empty for an unknown subject."""
        return self._roles.get(subject, frozenset())

    @property
    def roles(self) -> frozenset[str]:
        """Every role that a subject has."""
        return frozenset(self._members)

    def members_of(self, role: str) -> frozenset[str]:
        """Every subject that has `role`, directly or through other roles."""
        return self._members.get(role, frozenset())

    def approvers(self, role: str, *, asking: Iterable[str] = ()) -> frozenset[str]:
        """The users who may approve in `role`: those who have it, without the subjects in `asking`. Of these comes a confirmation."""
        if role == CONFIRMATION:
            return frozenset(name for name in asking if name.startswith("user:")) - {NOBODY}
        people = (name for name in self.members_of(role) if name.startswith("user:"))
        return frozenset(people) - {*asking, NOBODY}

    def permitted(self, request: Request, kind: str) -> Permitted:
        """The patterns of the rules that allow or deny resources of that kind to the request; its own resources do not count."""
        tables = self._index.tables(request.action)
        # INVARIANT: a pattern stands for many resources, so no property of one is certain.
        unclear: dict[str, object] = {"resource": {}, "unclear": request.context.unclear | {f"resource.{EVERY}"}}
        context = request.context.model_copy(update=unclear)
        allow: list[tuple[str, ...]] = []
        deny: dict[str, None] = {}
        for subject in request.subjects:
            names = self._names.get(subject, ())
            rows = [row for table in tables for name in names for row in table.by_subject.get(name, ())]
            rows = [row for row in rows if row.pattern.kind in ("", kind) and row.condition.holds(context)]
            allow.append(tuple(dict.fromkeys(row.pattern.text for row in rows if row.rule.effect == "allow")))
            deny |= dict.fromkeys(row.pattern.text for row in rows if row.rule.effect == "deny")
        return Permitted(allow=tuple(allow), deny=tuple(deny))

    def arguments_read(self, action: str) -> frozenset[str]:
        """The arguments that conditions of rows about that action read."""
        if action not in self._arguments_read:
            reads = (name for row in self.rows if action_matches(action, row.action) for name in row.condition.reads)
            self._arguments_read[action] = frozenset(match[1] for name in reads if (match := _ARGUMENT.search(name)))
        return self._arguments_read[action]

    def decide(self, request: Request) -> Decision:
        """Decide, and name the rules and facts that decided.

        A request without subjects, or with a resource that is not canonical, is denied with reason `error`. The broker sets
        `decision_digest`; `advise` adds the next step and the part that the model reads.
        """
        if not request.subjects:
            return explain.undecidable("it has no subject", self.digest)
        try:
            judgement = self.judge(request)
        except GlobError as error:
            return explain.undecidable(error.what, self.digest)
        if judgement.allowed:
            return explain.allowed(request, judgement.rows, self.digest)
        denied = self._denied(request)
        self._denied_last = request, denied
        approvals = find_approvals(denied, request.context, lambda role: self.approvers(role, asking=request.subjects))
        if approvals.missing:
            return explain.approval_required(request, denied, approvals, self.digest)
        near = () if judgement.rows else self._near_misses(denied[0], request.action)
        return explain.denied(request, denied, approvals, near, self.digest)

    def judge(self, request: Request) -> Judgement:
        """Whether the request is allowed, and by which rows; `decide` adds the explanation.

        Every matching row is evaluated, so that all deciding rows are named.

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
                judgement = self._judge_unusual(subjects, index.keys_of(text), tables, context)
                (allowing if judgement.allowed else denying).extend(judgement.rows)
                allowed &= judgement.allowed
                continue
            # The loops are written out here: a function call for each row would cost more than the row itself.
            for subject in subjects:
                names = self._names.get(subject, ())
                before = len(allowing)
                for table in tables:
                    get = table.by_key.get
                    for key in keys[table.first :]:
                        entries = get(key)
                        if entries is None:
                            continue
                        candidates = entries if isinstance(entries, tuple) else entries_for(entries, names)
                        for owner, rest, literal, holds, denies, row in candidates:
                            if (
                                owner in names
                                and (rest is None or rest(text[literal:]))
                                and (holds is None or holds(context))
                            ):
                                (denying if denies else allowing).append(row)
                if len(allowing) == before:
                    allowed = False
        if denying or not allowed:
            return Judgement(False, denying)
        return Judgement(True, allowing)

    def _judge_unusual(
        self, subjects: Iterable[str], resource: ResourceKeys, tables: Iterable[RuleTable], context: Context
    ) -> Judgement:
        """`judge` for one resource that is a set, or whose name `plain_keys` does not handle."""
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
            return Judgement(False, denying)
        return Judgement(True, allowing)

    def advise(self, request: Request, decision: Decision) -> Decision:
        """Add the next step and the part that the model reads to a denial; other decisions are returned unchanged.

        This is not part of `decide` because it decides the request again, some dozen times.
        """
        if decision.verdict != "deny":
            return decision
        last, denied = self._denied_last
        try:
            denied = denied if last is request else self._denied(request)
        except GlobError:
            return explain.add_model_denial(decision, request, (), None)
        return explain.add_model_denial(decision, request, denied, find_next_step(request, denied, self.decide))

    def evaluate(self, request: Request) -> tuple[explain.Evaluated, ...]:
        """Every rule that matches the request, with its result; also the near misses if no rule allows or denies.

        No rule matches a resource that is not canonical; the decision names its error.
        """
        try:
            pairs = self.pairs(request)
        except GlobError:
            return ()
        denied = [pair for pair in pairs if not pair.allowed(request.context)]
        no_rule = denied and not any(pair.denying for pair in denied)
        near = self._near_misses(denied[0], request.action) if no_rule else []
        return explain.evaluate_rules(request, [*denied, *(pair for pair in pairs if pair not in denied)], near)

    def _denied(self, request: Request) -> list[Pair]:
        """The pairs of the request that are not allowed."""
        return [pair for pair in self.pairs(request) if not pair.allowed(request.context)]

    def pairs(self, request: Request) -> list[Pair]:
        """Each subject with each resource, and the rows that match these and the action.

        Raises:
            GlobError: a resource is not canonical.
        """
        resources = [self._index.keys_of(text) for text in dict.fromkeys(request.resources or (NOTHING_TOUCHED,))]
        tables = self._index.tables(request.action)
        return [
            self._matched(subject, self._names.get(subject, ()), resource, tables, request.context)
            for subject in dict.fromkeys(request.subjects)
            for resource in resources
        ]

    def _matched(
        self,
        subject: str,
        names: tuple[str, ...],
        resource: ResourceKeys,
        tables: Iterable[RuleTable],
        context: Context,
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

    def _matching(
        self, names: tuple[str, ...], resource: ResourceKeys, tables: Iterable[RuleTable]
    ) -> Iterator[RuleRow]:
        """The rows whose pattern matches one resource."""
        text = resource.text
        for table in tables:
            for key in resource.keys:
                entries = table.by_key.get(key)
                if entries is None:  # so for most keys
                    continue
                for entry in entries_for(entries, names):
                    if entry.rest is None or entry.rest(text[entry.literal :]):
                        yield entry.row

    def _set_matching(
        self, names: tuple[str, ...], resource: ResourceKeys, tables: Iterable[RuleTable]
    ) -> Iterator[RuleRow]:
        """The allows whose pattern covers the set, and the denies whose pattern intersects it."""
        parsed = parse_resource(resource.text)
        *above, folder = resource.keys
        for table in tables:
            rows = [entry.row for key in above for entry in entries_for(table.by_key.get(key, ()), names)]
            for row in (*rows, *table.below(names, folder)):
                if row.pattern.intersects(parsed) if row.rule.effect == "deny" else row.pattern.covers(parsed):
                    yield row

    def _near_misses(self, pair: Pair, action: str) -> list[RuleRow]:
        """Rows that allow this subject this action on resources with a similar name, the most similar first."""
        kind, text = pair.resource.partition(":")[0], pair.resource
        names = self._names.get(pair.subject, ())
        near = {
            row: _common_segments(row.pattern.text, text)
            for table in self._index.tables(action)
            for row in table.neighbours(names, text, _NEAR)
            if row.rule.effect == "allow" and row.pattern.kind == kind and row not in pair.allows
        }
        return sorted(near, key=lambda row: (-near[row], row.number))


def _digested(rules: Rules) -> dict[str, object]:
    """What the digest of a policy covers."""
    fields = sorted({row.fields for row in rules.rows} | {link.fields for link in rules.links})
    known = {"entities": rules.entities.fields} if len(rules.entities) else {}
    return {"semantics": _SEMANTICS, "rules": fields, **known}


def _common_segments(left: str, right: str) -> int:
    """The number of leading path segments that both have in common."""
    a, b = left.split("/"), right.split("/")
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
