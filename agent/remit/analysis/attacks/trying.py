"""Tries every outward action of an agent with an attacker's values, after an untrusted text is in its run.

No model is asked: the attacker chooses each call. Each one is decided as a run decides it, by the broker, and nothing is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from remit.analysis.attacks.accepted import Acceptance, acceptances_of
from remit.analysis.attacks.positions import ABOUT_NOTHING, MESSAGES, RECEIVERS, Position, chosen_places, positions_of
from remit.analysis.attacks.report import AttackReport, Read, Untried, Way
from remit.analysis.attacks.stopping import narrowest_pattern, stopping_rule
from remit.analysis.attacks.values import HELD, PLAIN, TEXTS, Material, calls_of
from remit.analysis.drafting.rows import chosen_approver
from remit.analysis.reach import NO_RESOURCE, reach_of
from remit.analysis.solver.conditions import atoms_of
from remit.analysis.solver.ruleset import RuleSet
from remit.core import Call, Effect, Failed, Json, Principal, Request, Rule, UsageError, action_matches
from remit.core.events import CallDecided
from remit.core.parsing import URL_KINDS
from remit.guardrails import UNTRUSTED, kind_of
from remit.policy.language import Pattern, RuleRow, parse_pattern
from remit.runtime import DryRuns, EarlierCall, result_labels
from remit.workspace import Tool, WorkspaceSession
from remit.workspace.manifest import Action

MOST_LABELS: Final = 4  # different sets of labels of results that are tried one by one; after these, all together


@dataclass(frozen=True, kw_only=True)
class _Success:
    """A call that was allowed, its request, and from where it was tried."""

    way: Way
    rank: int
    request: Request
    places: tuple[tuple[str, int], ...]  # of the rules that allow it to the agent


async def attack_agent(
    session: WorkspaceSession, agent: str, *, user: str, by: Principal, accepted: Sequence[Acceptance] = ()
) -> AttackReport:
    """Try every outward action of the agent, for `user`. `accepted` are calls that may get through.

    Raises:
        UsageError: there is no such agent.
    """
    session.workspace.agent(agent)
    return await _Attack(session, agent, user, by).run(accepted)


def is_outward(action: Action) -> bool:
    """True if a call changes something, or requests a URL: then its arguments can leave."""
    return action.effect != "read" or bool(action.methods) or any(one.kind in URL_KINDS for one in action.templates)


class _Attack:
    def __init__(self, session: WorkspaceSession, agent: str, user: str, by: Principal) -> None:
        self._session, self._agent, self._user, self._by = session, agent, user, by
        self._policy = session.policy
        self._runs = DryRuns(session)
        self._names = {f"agent:{agent}", *self._policy.roles_of(f"agent:{agent}")}
        self._reach = reach_of(session.workspace)
        self._tried = 0

    async def run(self, accepted: Sequence[Acceptance]) -> AttackReport:
        actions = {name: of for name, of in self._actions() if is_outward(of[1])}
        reads = await self._find_reads()
        tried = actions if any(read.untrusted for read in reads) else {}
        results = [await self._try_action(name, tool, action, reads) for name, (tool, action) in tried.items()]
        untried = [one for one in results if isinstance(one, Untried)]
        found = [success for one in results if not isinstance(one, Untried) for success in one]
        report = AttackReport(
            agent=f"agent:{self._agent}",
            user=self._user,
            observed=self._session.workspace.agents[self._agent].observe is not None,
            reads=reads,
            actions=tuple(actions),
            tried=self._tried,
        )
        return self._judged(report, found, untried, accepted)

    def _judged(
        self,
        report: AttackReport,
        found: Sequence[_Success],
        untried: Sequence[Untried],
        accepted: Sequence[Acceptance],
    ) -> AttackReport:
        """The report with what got through: what a person accepted, and the rest, with the rules that would stop it."""
        left: list[_Success] = []
        taken: list[_Success] = []
        used: set[Acceptance] = set()
        for one in found:
            lines = acceptances_of(accepted, one.way.action, one.way.resources)
            (taken if lines else left).append(one)
            used.update(lines)
        ways = [self._with_stop(one) for one in _strongest(left)]
        every = {one.action: one for one in accepted if one.pattern.kind == ""}  # "ACTION, **"
        unread = {every[one.action] for one in untried if one.action in every}
        return replace(
            report,
            ways=tuple(way for way in ways if way.counted),
            words=tuple(way for way in ways if not way.counted),
            accepted=tuple(one.way for one in _strongest(taken) if one.way.counted),
            untried=tuple(one for one in untried if one.action not in every),
            unused=tuple(one for one in accepted if one not in used | unread),
        )

    def _actions(self) -> Iterator[tuple[str, tuple[Tool, Action]]]:
        """The actions that run today: those of tools whose code and manifest are the reviewed ones."""
        for name in self._session.workspace.agents[self._agent].actions:
            tool, action = self._session.workspace.action(name)
            if tool.pinned and name.partition(".")[0] in self._session.workspace.tools:
                yield name, (tool, action)

    # -- what the calls are made from --------------------------------------------------------------------------------------

    def _rows(self, action: str) -> list[RuleRow]:
        return [row for row in self._policy.rows if row.subject in self._names and action_matches(action, row.action)]

    def _patterns(self, action: str) -> list[Pattern]:
        """Patterns of the rules that allow the action to the agent, then of the manifest."""
        texts = [row.pattern.text for row in self._rows(action) if row.rule.effect == "allow" and row.pattern.kind]
        reach = self._reach[action].patterns if action in self._reach else ()
        return [parse_pattern(text) for text in dict.fromkeys((*texts, *reach))]

    def _material(self, name: str, tool: Tool, action: Action) -> Material:
        assert tool.pin is not None  # only pinned tools are tried
        compared: dict[str, tuple[str, Json]] = {}
        for row in self._rows(name):
            for atom in atoms_of(row.condition.text):
                for (side, argument), how, constant in atom.comparisons:
                    if side == "args" and how in ("==", "<") and isinstance(constant, str | int | float):
                        compared[f"{argument} {constant!r}"] = (argument, constant)
        return Material(
            action=action,
            schema=tool.pin.schemas[action.name].input,
            patterns=tuple(pattern.text for pattern in self._patterns(name)),
            constants=tuple(compared.values()),
        )

    # -- the untrusted text -----------------------------------------------------------------------------------------------

    async def _find_reads(self) -> tuple[Read, ...]:
        """For each set of labels that results can put on the run, a call that the rules allow.

        What a page that the model chooses returns counts as an untrusted text, also if no label says so.
        """
        found: dict[tuple[bool, frozenset[str]], Read] = {}
        assumed: dict[tuple[bool, frozenset[str]], Read] = {}
        for name, (tool, action) in self._actions():
            if not any(row.rule.effect == "allow" for row in self._rows(name)):
                continue  # no call of it is ever allowed
            outside = action.effect == "read" and any(
                one.kind in URL_KINDS and one.argument for one in action.templates
            )
            for arguments in calls_of(self._material(name, tool, action), PLAIN).arguments:
                decided, _ = await self._decide(name, arguments, (), ABOUT_NOTHING)
                labels = result_labels(self._session.workspace, decided, None)
                untrusted = outside or UNTRUSTED in labels
                if decided.call is None or not (untrusted or labels):
                    continue
                read = Read(action=name, arguments=arguments, labels=labels, untrusted=untrusted)
                if decided.refusal is None and decided.decision is not None and decided.decision.verdict != "deny":
                    found.setdefault((untrusted, frozenset(labels)), read)
                elif untrusted:
                    assumed.setdefault((untrusted, frozenset(labels)), replace(read, assumed=True))
        # INVARIANT: that no such call was found proves nothing: a rule may allow one that was not tried. So it is assumed.
        return tuple(sorted((assumed | found).values(), key=lambda read: not read.untrusted))

    @staticmethod
    def _scenarios(reads: Sequence[Read]) -> list[tuple[Read, ...]]:
        """What the run has read: one untrusted text, or everything that there is."""
        single = [read for read in reads if read.untrusted][:MOST_LABELS]
        every = [tuple(reads)] if len(reads) > 1 else []
        return [*((read,) for read in single), *every]

    # -- trying ------------------------------------------------------------------------------------------------------------

    async def _decide(
        self, action: str, arguments: str, reads: Sequence[Read], task: str, known: tuple[str, ...] = ()
    ) -> tuple[CallDecided, Request | None]:
        self._tried += 1
        earlier = [
            EarlierCall(action=read.action, arguments=read.arguments, value=[HELD], names=known) for read in reads
        ]
        return await self._runs.decide_after(
            self._agent, earlier, action, arguments, task=task, subject=self._user, by=self._by
        )

    async def _try_action(
        self, name: str, tool: Tool, action: Action, reads: Sequence[Read]
    ) -> list[_Success] | Untried:
        material = self._material(name, tool, action)
        found: list[_Success] = []
        why, possible = "no arguments could be made for its schema", False
        for text in TEXTS:
            calls = calls_of(material, text)
            if not calls.complete:
                return Untried(action=name, why="its rules name more places than are tried")
            for arguments in calls.arguments:
                decided, _ = await self._decide(name, arguments, (), ABOUT_NOTHING)
                if decided.call is None:
                    assert isinstance(decided.refusal, Failed)
                    why = decided.refusal.error.message
                    possible = possible or decided.refusal.error.code != "invalid_arguments"
                    continue
                possible = True
                for before in self._scenarios(reads):
                    found += await self._try_call(action, decided.call, arguments, before, found)
        return found if possible else Untried(action=name, why=why)

    async def _try_call(
        self, action: Action, call: Call, arguments: str, reads: tuple[Read, ...], before: Sequence[_Success]
    ) -> list[_Success]:
        """The call from every position; one that an earlier success needs no less for is left out."""
        found: list[_Success] = []
        places = tuple(dict.fromkeys(touch.resource for touch in chosen_places(call) or call.touches))
        for position in positions_of(call, action.means):
            alike = [one for one in (*before, *found) if (one.way.resources, one.way.reads) == (places, reads)]
            revealing = {bool(one.way.contains) for one in alike if one.rank <= position.rank}
            if True in revealing or (revealing and HELD not in arguments):
                continue
            decided, request = await self._decide(call.action, arguments, reads, position.task, position.known)
            if request is not None and decided.decision is not None and decided.decision.verdict == "allow":
                found.append(self._success(decided, request, arguments, reads, position, places))
        return found

    def _success(
        self,
        decided: CallDecided,
        request: Request,
        arguments: str,
        reads: tuple[Read, ...],
        position: Position,
        resources: tuple[str, ...],
    ) -> _Success:
        assert decided.decision is not None
        effect = request.context.effect
        kinds = frozenset(map(kind_of, resources))
        contains = tuple(sorted(request.context.contains)) if kinds & RECEIVERS else ()
        rules = self._agents_first(decided.decision.rules)
        way = Way(
            action=request.action,
            effect=effect,
            target=position.target,
            requested=position.requested,
            contains=contains,
            task=position.task,
            reads=reads,
            known=position.known,
            arguments=arguments,
            resources=resources,
            rules=rules,
            patterns=(),
            stop="",
            counted=bool(contains) or _is_attackers(position, effect, kinds, arguments),
        )
        own = tuple((rule.file, rule.line) for rule in rules if (rule.file, rule.line) in self._own_places)
        return _Success(way=way, rank=position.rank, request=request, places=own)

    @cached_property
    def _own_places(self) -> dict[tuple[str, int], RuleRow]:
        """The rows that name the agent or one of its roles."""
        return {(row.rule.file, row.rule.line): row for row in self._policy.rows if row.subject in self._names}

    def _agents_first(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        each = dict.fromkeys(rules)
        return tuple(sorted(each, key=lambda rule: (rule.file, rule.line) not in self._own_places))

    @cached_property
    def _approver(self) -> str:
        """The role that may still allow what a rule stops; "" if no other person has one."""
        policy = self._policy
        rule_set = RuleSet(
            label="", rows=policy.rows, links=policy.links, vocabulary=policy.vocabulary, entities=policy.entities
        )
        try:
            return chosen_approver(rule_set, [self._user])
        except UsageError:
            return ""

    def _with_stop(self, found: _Success) -> Way:
        if not found.way.counted:
            return found.way
        allowing = [self._own_places[place].pattern for place in found.places]
        known = (*allowing, *self._patterns(found.way.action))
        patterns = tuple(narrowest_pattern(place, known) for place in found.way.resources or (NO_RESOURCE,))
        by_content = found.way.target in ("named", "known") and bool(found.way.contains)
        stop = stopping_rule(self._policy, found.request, patterns, by_content=by_content, approver=self._approver)
        return replace(found.way, patterns=patterns, stop=stop)


def _is_attackers(position: Position, effect: Effect, kinds: frozenset[str], arguments: str) -> bool:
    """True if only the attacker can have chosen the call: the user's own wish would look different to the rules."""
    match position.target:
        case "attacker":
            return True
        case "fixed":
            lasting = effect in ("once", "keyed") or (effect == "idempotent" and arguments != "{}")
            return not position.requested and lasting
        case "known":
            return not position.requested and effect in ("once", "keyed") and not kinds & MESSAGES
        case "named":
            return False


def _strongest(found: Iterable[_Success]) -> list[_Success]:
    """Of the calls of one action that the same rules allow: those that need least, and those whose texts contain most."""
    groups: dict[tuple[str, tuple[tuple[str, int], ...]], list[_Success]] = {}
    for one in sorted(found, key=lambda one: (one.rank, not one.way.contains)):
        kept = groups.setdefault((one.way.action, one.places), [])
        if not any(bool(other.way.contains) >= bool(one.way.contains) for other in kept):
            kept.append(one)
    return [one for kept in groups.values() for one in kept]
