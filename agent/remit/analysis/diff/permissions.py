"""Compares two workspaces by what their agents can really do: the rules, within what the tools' manifests reach.

A manifest, an agent's list of tools, a role or a pin can widen permissions although no rule changes. So the comparison
covers all of them. The result is a list of sentences, or a proof that nothing new is permitted.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from remit.analysis.diff.manifests import Direction, ManifestChange, manifest_changes
from remit.analysis.diff.owners import bound_changes, owner_of_action, owner_of_path, owner_of_rules, teams_of
from remit.analysis.diff.policy import compare_policies
from remit.analysis.diff.real_names import RealNames, real_names_text, real_witnesses
from remit.analysis.diff.witnesses import (
    DeniedCounterpart,
    boundary_text,
    facts_of,
    facts_text,
    find_denied_counterpart,
    rule_text,
)
from remit.analysis.reach import Reach, reach_of
from remit.analysis.solver.findings import Finding, PolicyDifference
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Json, Request, listed
from remit.policy.language import Team
from remit.workspace import Workspace, vocabulary

NO_NAMES: Final = RealNames()
MOST_NAMED: Final = 100  # findings that are shown by known names
_MAY: Final = {"allow": "may now", "ask": "may now, after approval,", "deny": "may no longer"}
_WAS: Final = {"allow": "allowed", "ask": "subject to approval", "deny": "denied"}


@dataclass(frozen=True, kw_only=True)
class PermissionDiff:
    """Everything that changes. `proved`: nothing new is permitted, for every request. `notes` change no permission."""

    sentences: tuple[ManifestChange, ...]
    notes: tuple[str, ...]

    @property
    def proved(self) -> bool:
        return all(one.direction == "narrower" for one in self.sentences)

    def of(self, direction: Direction) -> tuple[ManifestChange, ...]:
        return tuple(one for one in self.sentences if one.direction == direction)


@dataclass(frozen=True)
class _ToolCeiling:
    """The ceiling of every agent's actions. A user reaches what any agent reaches, because agents act for users."""

    workspace: Workspace
    reach: Mapping[str, Reach]
    written: bool = False

    @cached_property
    def _by_agent(self) -> Mapping[tuple[str, str], frozenset[str]]:
        return {
            (f"agent:{agent.name}", action): frozenset(
                self.reach[action].written if self.written else self.reach[action].patterns
            )
            for agent in self.workspace.agents.values()
            for action in agent.actions
            if action in self.reach
        }

    @cached_property
    def _by_action(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for (_, action), patterns in self._by_agent.items():
            found[action] = found.get(action, frozenset()) | patterns
        return found

    def patterns(self, subject: str, action: str) -> frozenset[str]:
        if subject.startswith("agent:"):
            return self._by_agent.get((subject, action), frozenset())
        if action.startswith("remit."):
            return frozenset(("**",))
        return self._by_action.get(action, frozenset())


def permission_diff(old: Workspace, new: Workspace, names: RealNames = NO_NAMES) -> PermissionDiff:
    """Compare two workspaces. A tool of `new` that is not pinned yet counts as if it were.

    A tool that is not pinned in either of them, and equal in both, counts the same on both sides: the change is not about it.
    `names` are the resources by which findings are shown, beside those that rules name.

    Raises:
        WorkspaceError: the rules of one of them do not load.
    """
    same = unpinned_in_both(old, new)
    before, after = _rule_set_of("before", old, same), _rule_set_of("after", new, None)
    found = compare_policies(before, after)
    describing = _Describing(names.with_rules(before, after), teams_of(old, new))
    # Calls that an agent and a user can make together come first. For the rest, one of the two still lacks the permission.
    sentences = sorted(
        describing.each(found, found.findings),
        key=lambda item: (item.partial, not item.text.startswith("agent:")),
    )
    # A path that a tool could only read may now be writable, with no change to the rules. So what may be written is
    # compared as well, by a ceiling of the written patterns alone.
    writes = compare_policies(
        with_ceiling(before, old, same, written=True), with_ceiling(after, new, None, written=True)
    )
    known = {(finding.action, finding.after, finding.subjects) for finding in found.findings}
    only_writes = (item for item in writes.findings if (item.action, item.after, item.subjects) not in known)
    sentences += describing.each(writes, only_writes, writing=True)
    for approvers in found.approvers:
        for direction, who, word in (
            ("wider", approvers.gained, "may now"),
            ("narrower", approvers.lost, "may no longer"),
        ):
            if who:
                sentences.append(
                    ManifestChange(
                        direction="wider" if direction == "wider" else "narrower",
                        text=f"{', '.join(who)} {word} approve as {approvers.role}",
                    )
                )
    for unsettled in dict.fromkeys((*found.unsettled, *writes.unsettled)):
        text = f"not analysed: {unsettled.action} on {unsettled.resource} for {', '.join(unsettled.subjects)}"
        sentences.append(ManifestChange(direction="unknown", text=text, because=(unsettled.why,)))
    sentences += [
        replace(item, owner=owner_of_path(describing.teams, item.because[0] if item.because else ""))
        for item in manifest_changes(old, new, same)
    ]
    sentences += bound_changes(teams_of(old), teams_of(new))
    return PermissionDiff(sentences=tuple(sentences), notes=tuple(_notes(old, new, same)))


def unpinned_in_both(old: Workspace, new: Workspace) -> frozenset[str]:
    """The tools that are pinned in neither workspace, and equal in both."""
    return frozenset(
        name
        for name, tool in new.tools.items()
        if (before := old.tools.get(name)) is not None
        and not (tool.pinned or before.pinned)
        and (tool.manifest.digest, tool.code) == (before.manifest.digest, before.code)
    )


def _rule_set_of(label: str, workspace: Workspace, unpinned: Container[str] | None) -> RuleSet:
    rules = read_rule_set(label, workspace.files, vocabulary(workspace))
    return with_ceiling(rules, workspace, unpinned, written=False)


def with_ceiling(rules: RuleSet, workspace: Workspace, unpinned: Container[str] | None, *, written: bool) -> RuleSet:
    """The rules within the ceiling of what the workspace's tools reach, or of what they may write.

    Tools that are not pinned reach nothing, but for those in `unpinned`; None: all count as pinned.
    """
    ceiling = _ToolCeiling(workspace, reach_of(workspace, unpinned), written)
    return RuleSet(
        label=rules.label,
        rows=rules.rows,
        links=rules.links,
        vocabulary=rules.vocabulary,
        ceiling=ceiling,
        entities=rules.entities,
    )


@dataclass(frozen=True)
class _Describing:
    """Writes findings as sentences, by known names, with the rules and manifests that cause them."""

    names: RealNames
    teams: Mapping[str, Team]

    def each(
        self, found: PolicyDifference, findings: Iterable[Finding], *, writing: bool = False
    ) -> list[ManifestChange]:
        """One sentence for each finding. Known names are looked for in the first of them, which are those that are shown."""
        return [
            self._sentence(found, finding, self.names if number < MOST_NAMED else NO_NAMES, writing)
            for number, finding in enumerate(findings)
        ]

    def _sentence(self, found: PolicyDifference, finding: Finding, names: RealNames, writing: bool) -> ManifestChange:
        finding = real_witnesses(found, finding, names)
        partner = _partner(found, finding)
        denied = None
        if finding.wider:
            denied = find_denied_counterpart(found, finding, (item.resource for item in names.like(finding.resource)))
        because = [*real_names_text(found, finding, names), *_causes(found, finding)]
        if not partner and finding.wider:
            because.append(f"no {'user' if finding.subject.startswith('agent:') else 'agent'} has this permission yet")
        return ManifestChange(
            direction="wider" if finding.wider else "narrower",
            partial=not partner,
            text=_what(finding, partner, writing),
            because=tuple(because),
            owner=self._owner(finding),
            boundary="" if denied is None else boundary_text(finding, denied),
            witness={
                "subject": finding.subject,
                "for": partner,
                "action": finding.action,
                "resource": finding.resource,
                "facts": facts_of(finding.context),
            },
            still_refused=_counterpart_json(denied),
        )

    def _owner(self, finding: Finding) -> str:
        rules = (*finding.added, *finding.removed)
        return owner_of_rules(rule.file for rule in rules) if rules else owner_of_action(self.teams, finding.action)


def _what(finding: Finding, partner: str, writing: bool) -> str:
    facts = facts_text(finding.context)
    # Users gain or lose a permission together with the agents that act for them: naming the agents is enough.
    alike = [who for who in finding.subjects if who.startswith("agent:")] or list(finding.subjects)
    who = finding.subject if len(alike) == 1 else f"{finding.subject} and {len(alike) - 1} more"
    for_partner = f" for {partner}" if partner else ""
    where = f"{finding.resource}{f' with {facts}' if facts else ''}"
    verb = f"write {finding.resource} by {finding.action}" if writing else f"call {finding.action} on {where}"
    return f"{who} {_MAY[finding.after]} {verb}{for_partner} (was {_WAS[finding.before]})"


def _causes(found: PolicyDifference, finding: Finding) -> Iterator[str]:
    """The rules, manifests and roles that cause the change."""
    for word, rules in (("by", finding.added), ("without", finding.removed)):
        yield from (f"{word} {rule_text(rule)}" for rule in rules)
    tool = finding.action.partition(".")[0]
    if finding.in_reach:
        yield f"tool {tool!r} now reaches {', '.join(finding.in_reach)} for it"
    if finding.out_of_reach:
        yield f"tool {tool!r} no longer reaches {', '.join(finding.out_of_reach)} for it"
    yield from _role_changes(found, finding)


def _counterpart_json(denied: DeniedCounterpart | None) -> Mapping[str, Json] | None:
    if denied is None:
        return None
    return {
        "subject": denied.subject,
        "action": denied.action,
        "resource": denied.resource,
        "facts": facts_of(denied.context),
    }


def _partner(found: PolicyDifference, finding: Finding) -> str:
    """Find a user for whom the agent can make the call, or an agent that can make it for the user; "" for none."""
    rule_set = found.new if finding.wider else found.old
    partner_kind = "user:" if finding.subject.startswith("agent:") else "agent:"
    for who in sorted(rule_set.subjects):
        if (
            who.startswith(partner_kind)
            and rule_set.verdict(who, finding.action, finding.resource, finding.context) == "allow"
        ):
            pair = (finding.subject, who) if partner_kind == "user:" else (who, finding.subject)
            request = Request(
                subjects=pair, action=finding.action, resources=(finding.resource,), context=finding.context
            )
            if rule_set.policy.decide(request).verdict != "deny":
                return who
    return ""


def _role_changes(found: PolicyDifference, finding: Finding) -> Iterator[str]:
    """Yield the roles that the subject gained or lost."""
    before = found.old.roles.get(finding.subject, frozenset())
    after = found.new.roles.get(finding.subject, frozenset())
    for word, roles in (("now has", after - before), ("no longer has", before - after)):
        if roles:
            yield f"{finding.subject} {word} {', '.join(sorted(roles))}"


def _notes(old: Workspace, new: Workspace, same: Collection[str]) -> Iterator[str]:
    if same:
        yield f"pinned neither before nor after, and equal: {listed(sorted(same))}; no agent uses them before `remit tool pin`"
    changed = [name for name, tool in sorted(new.tools.items()) if not tool.pinned and name not in same]
    if changed:
        which = f"remit tool pin {changed[0]}" if len(changed) == 1 else "remit tool pin"
        yield f"changed since they were pinned: {listed(changed)}; their changes take effect after `{which}`"
    code = [
        name
        for name, tool in sorted(new.tools.items())
        if (before := old.tools.get(name)) is not None and before.code != tool.code
    ]
    if code:
        yield f"the code changed of {listed(code)}; the sandbox limits it to its manifest, which is compared above"
    for name in code:
        for item in new.tools[name].manifest.authorities:  # files of the code
            yield f"read tools/{name}/{item.file}: its certificates alone are trusted for {item.name}:{item.port}"
