"""Compares two workspaces by what their agents can really do: the rules, within what the tools' manifests reach.

A manifest, an agent's list of tools, a role or a pin can widen permissions although no rule changes. So the comparison
covers all of them. The result is a list of sentences, or a proof that nothing new is permitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from remit.analysis.diff.manifests import Direction, ManifestChange, manifest_changes
from remit.analysis.diff.owners import bound_changes, owner_of_action, owner_of_path, owner_of_rules, teams_of
from remit.analysis.diff.policy import compare_policies
from remit.analysis.diff.witnesses import DeniedCounterpart, facts_of, facts_text, find_denied_counterpart, rule_text
from remit.analysis.reach import Reach, reach_of
from remit.analysis.solver.findings import Finding, PolicyDifference
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Json, Request
from remit.policy.language import Team
from remit.workspace import Workspace, vocabulary

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


def permission_diff(old: Workspace, new: Workspace) -> PermissionDiff:
    """Compare two workspaces. A tool of `new` that is not pinned yet counts as if it were.

    Raises:
        WorkspaceError: the rules of one of them do not load.
    """
    before, after = _rule_set_of("before", old, pinned=True), _rule_set_of("after", new, pinned=False)
    found = compare_policies(before, after)
    teams = teams_of(old, new)
    # Calls that an agent and a user can make together come first. For the rest, one of the two still lacks the permission.
    sentences = sorted(
        (_describe(found, finding, teams) for finding in found.findings),
        key=lambda item: (item.partial, not item.text.startswith("agent:")),
    )
    # A path that a tool could only read may now be writable, with no change to the rules. So what may be written is
    # compared as well, by a ceiling of the written patterns alone.
    writes = compare_policies(
        with_ceiling(before, old, pinned=True, written=True), with_ceiling(after, new, pinned=False, written=True)
    )
    known = {(finding.action, finding.after, finding.subjects) for finding in found.findings}
    sentences += [
        _describe(writes, finding, teams, writing=True)
        for finding in writes.findings
        if (finding.action, finding.after, finding.subjects) not in known
    ]
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
        replace(item, owner=owner_of_path(teams, item.because[0] if item.because else ""))
        for item in manifest_changes(old, new)
    ]
    sentences += bound_changes(teams_of(old), teams_of(new))
    return PermissionDiff(sentences=tuple(sentences), notes=tuple(_notes(old, new)))


def _rule_set_of(label: str, workspace: Workspace, *, pinned: bool) -> RuleSet:
    rules = read_rule_set(label, workspace.files, vocabulary(workspace))
    return with_ceiling(rules, workspace, pinned=pinned, written=False)


def with_ceiling(rules: RuleSet, workspace: Workspace, *, pinned: bool, written: bool) -> RuleSet:
    """The rules within the ceiling of what the workspace's tools reach, or of what they may write."""
    ceiling = _ToolCeiling(workspace, reach_of(workspace, pinned=pinned), written)
    return RuleSet(
        label=rules.label,
        rows=rules.rows,
        links=rules.links,
        vocabulary=rules.vocabulary,
        ceiling=ceiling,
        entities=rules.entities,
    )


def _describe(
    found: PolicyDifference, finding: Finding, teams: Mapping[str, Team], *, writing: bool = False
) -> ManifestChange:
    """Write one finding as a sentence, with the rules and manifests that cause it."""
    facts = facts_text(finding.context)
    # Users gain or lose a permission together with the agents that act for them: naming the agents is enough.
    alike = [who for who in finding.subjects if who.startswith("agent:")] or list(finding.subjects)
    who = finding.subject if len(alike) == 1 else f"{finding.subject} and {len(alike) - 1} more"
    partner = _partner(found, finding)
    for_partner = f" for {partner}" if partner else ""
    where = f"{finding.resource}{f' with {facts}' if facts else ''}"
    verb = f"write {finding.resource} by {finding.action}" if writing else f"call {finding.action} on {where}"
    because = [
        f"{word} {rule_text(rule)}"
        for word, rules in (("by", finding.added), ("without", finding.removed))
        for rule in rules
    ]
    tool = finding.action.partition(".")[0]
    if finding.in_reach:
        because.append(f"tool {tool!r} now reaches {', '.join(finding.in_reach)} for it")
    if finding.out_of_reach:
        because.append(f"tool {tool!r} no longer reaches {', '.join(finding.out_of_reach)} for it")
    because += _role_changes(found, finding)
    denied = find_denied_counterpart(found, finding) if finding.wider else None
    if not partner and finding.wider:
        because.append(f"no {'user' if finding.subject.startswith('agent:') else 'agent'} has this permission yet")
    return ManifestChange(
        direction="wider" if finding.wider else "narrower",
        partial=not partner,
        text=f"{who} {_MAY[finding.after]} {verb}{for_partner} (was {_WAS[finding.before]})",
        because=tuple(because),
        owner=_owner(finding, teams),
        witness={
            "subject": finding.subject,
            "for": partner,
            "action": finding.action,
            "resource": finding.resource,
            "facts": facts_of(finding.context),
        },
        still_refused=_counterpart_json(denied),
    )


def _owner(finding: Finding, teams: Mapping[str, Team]) -> str:
    rules = (*finding.added, *finding.removed)
    return owner_of_rules(rule.file for rule in rules) if rules else owner_of_action(teams, finding.action)


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
    for role in sorted(after - before):
        yield f"{finding.subject} now has {role}"
    for role in sorted(before - after):
        yield f"{finding.subject} no longer has {role}"


def _notes(old: Workspace, new: Workspace) -> Iterator[str]:
    for name, tool in sorted(new.tools.items()):
        if not tool.pinned:
            yield f"tool {name!r} has changed since it was pinned: its changes take effect after `remit tool pin {name}`"
        before = old.tools.get(name)
        if before is not None and before.code != tool.code:
            yield f"the code of tool {name!r} changed; the sandbox limits it to its manifest, which is compared above"
