"""What may agents really do: the rules, within what the tools' manifests reach, for the actions that each agent has.

A manifest, an agent's list of tools, a role and a pin widen power without a rule being touched. So two workspaces are
compared by their effective authority, and the answer is a list of sentences, or proof that there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from remit.analysis.diff.manifests import Direction, ManifestChange, manifest_changes
from remit.analysis.diff.policy import compare_policies
from remit.analysis.diff.witnesses import DeniedCounterpart, facts_of, facts_text, find_denied_counterpart, rule_text
from remit.analysis.reach import Reach, reach_of
from remit.analysis.solver.findings import Finding, PolicyDifference
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Json, Request
from remit.workspace import Workspace, vocabulary

_MAY: Final = {"allow": "may now", "ask": "may now, once approved,", "deny": "may no longer"}
_WAS: Final = {"allow": "allowed", "ask": "asked", "deny": "refused"}


@dataclass(frozen=True, kw_only=True)
class PermissionDiff:
    """Everything that changes. `proved`: no new authority, for every request; `notes` change nobody's power."""

    sentences: tuple[ManifestChange, ...]
    notes: tuple[str, ...]

    @property
    def proved(self) -> bool:
        return all(one.direction == "narrower" for one in self.sentences)

    def of(self, direction: Direction) -> tuple[ManifestChange, ...]:
        return tuple(one for one in self.sentences if one.direction == direction)


@dataclass(frozen=True)
class _ToolCeiling:
    """The ceiling of every agent's actions; a user reaches what any agent reaches for them."""

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
    """Compare two workspaces. A tool of `new` that is not pinned yet counts as it would once it is.

    Raises:
        WorkspaceError: the rules of one of them do not load.
    """
    before, after = _rule_set_of("before", old, pinned=True), _rule_set_of("after", new, pinned=False)
    found = compare_policies(before, after)
    # What an agent and a user may do together comes first: of the rest, one of the two is still missing.
    sentences = sorted(
        (_describe(found, one) for one in found.findings),
        key=lambda one: (one.partial, not one.text.startswith("agent:")),
    )
    writes = compare_policies(
        with_ceiling(before, old, pinned=True, written=True), with_ceiling(after, new, pinned=False, written=True)
    )
    known = {(one.action, one.after, one.subjects) for one in found.findings}
    sentences += [
        _describe(writes, one, writing=True)
        for one in writes.findings
        if (one.action, one.after, one.subjects) not in known
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
    sentences += manifest_changes(old, new)
    return PermissionDiff(sentences=tuple(sentences), notes=tuple(_notes(old, new)))


def _rule_set_of(label: str, workspace: Workspace, *, pinned: bool) -> RuleSet:
    side = read_rule_set(label, workspace.files, vocabulary(workspace))
    return with_ceiling(side, workspace, pinned=pinned, written=False)


def with_ceiling(side: RuleSet, workspace: Workspace, *, pinned: bool, written: bool) -> RuleSet:
    """The side within what the workspace's tools reach, or what they may write."""
    ceiling = _ToolCeiling(workspace, reach_of(workspace, pinned=pinned), written)
    return RuleSet(label=side.label, rows=side.rows, links=side.links, vocabulary=side.vocabulary, ceiling=ceiling)


def _describe(found: PolicyDifference, one: Finding, *, writing: bool = False) -> ManifestChange:
    facts = facts_text(one.context)
    # Where an agent gains or loses something, so do those it acts for: the agents are what there is to tell.
    alike = [who for who in one.subjects if who.startswith("agent:")] or list(one.subjects)
    who = one.subject if len(alike) == 1 else f"{one.subject} and {len(alike) - 1} more"
    partner = _partner(found, one)
    whom = f" for {partner}" if partner else ""
    where = f"{one.resource}{f' with {facts}' if facts else ''}"
    verb = f"write {one.resource} by {one.action}" if writing else f"call {one.action} on {where}"
    because = [
        f"{word} {rule_text(rule)}" for word, rules in (("by", one.added), ("without", one.removed)) for rule in rules
    ]
    tool = one.action.partition(".")[0]
    if one.in_reach:
        because.append(f"tool {tool!r} reaches {', '.join(one.in_reach)} for it")
    if one.out_of_reach:
        because.append(f"tool {tool!r} no longer reaches {', '.join(one.out_of_reach)} for it")
    because += _role_changes(found, one)
    stays = find_denied_counterpart(found, one) if one.wider else None
    if not partner and one.wider:
        because.append(f"no {'user' if one.subject.startswith('agent:') else 'agent'} may take part in it yet")
    return ManifestChange(
        direction="wider" if one.wider else "narrower",
        partial=not partner,
        text=f"{who} {_MAY[one.after]} {verb}{whom} (was {_WAS[one.before]})",
        because=tuple(because),
        witness={
            "subject": one.subject,
            "for": partner,
            "action": one.action,
            "resource": one.resource,
            "facts": facts_of(one.context),
        },
        still_refused=_counterpart_json(stays),
    )


def _counterpart_json(stays: DeniedCounterpart | None) -> Mapping[str, Json] | None:
    if stays is None:
        return None
    return {
        "subject": stays.subject,
        "action": stays.action,
        "resource": stays.resource,
        "facts": facts_of(stays.context),
    }


def _partner(found: PolicyDifference, one: Finding) -> str:
    """A user for whom the whole call goes through, or an agent that may make it for the user; "" where there is none."""
    side = found.new if one.wider else found.old
    wanted = "user:" if one.subject.startswith("agent:") else "agent:"
    for who in sorted(side.subjects):
        if who.startswith(wanted) and side.verdict(who, one.action, one.resource, one.context) == "allow":
            pair = (one.subject, who) if wanted == "user:" else (who, one.subject)
            request = Request(subjects=pair, action=one.action, resources=(one.resource,), context=one.context)
            if side.policy.decide(request).verdict != "deny":
                return who
    return ""


def _role_changes(found: PolicyDifference, one: Finding) -> Iterator[str]:
    """Roles that the subject came to have, or lost."""
    before, after = found.old.roles.get(one.subject, frozenset()), found.new.roles.get(one.subject, frozenset())
    for role in sorted(after - before):
        yield f"{one.subject} has {role} now"
    for role in sorted(before - after):
        yield f"{one.subject} no longer has {role}"


def _notes(old: Workspace, new: Workspace) -> Iterator[str]:
    for name, tool in sorted(new.tools.items()):
        if not tool.pinned:
            yield f"tool {name!r} is not pinned as it is now: what it gains holds once `remit tool pin {name}` is committed"
        before = old.tools.get(name)
        if before is not None and before.code != tool.code:
            yield f"the code of tool {name!r} changed; what it may reach is held by the sandbox, and is compared above"
