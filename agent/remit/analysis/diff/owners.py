"""Whose a change is: the teams whose rules, agents or tools it is about, or the organization."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from remit.analysis.diff.manifests import ManifestChange
from remit.policy.language import Team, read_teams, team_of
from remit.workspace import Workspace


def teams_of(*workspaces: Workspace) -> dict[str, Team]:
    """The teams of the workspaces, by name; of a team in several, the one of the last workspace."""
    found: dict[str, Team] = {}
    for workspace in workspaces:
        found |= read_teams(workspace.files)[0]
    return found


def owner_of_rules(files: Iterable[str]) -> str:
    """The teams of these files of rules; "" if one of them is the organization's, or if there are none."""
    owners = {team_of(file) for file in files}
    return "" if "" in owners else ", ".join(sorted(owners))


def owner_of_action(teams: Mapping[str, Team], action: str) -> str:
    """The teams that may write rules for the action; "" for none."""
    return ", ".join(name for name, team in teams.items() if team.owns(action))


def owner_of_path(teams: Mapping[str, Team], path: str) -> str:
    """The teams that may name the tool or the agent to which a file belongs; "" for none."""
    area, _, rest = path.partition("/")
    name = rest.partition("/")[0]
    if area == "tools":
        return ", ".join(
            team.name for team in teams.values() if any(tool.startswith(f"{name}.") for tool in team.tools)
        )
    return ", ".join(team.name for team in teams.values() if area == "agent" and f"agent:{name}" in team.agents)


def bound_changes(old: Mapping[str, Team], new: Mapping[str, Team]) -> Iterator[ManifestChange]:
    """What the rules of each team may now name. The organization permits that."""
    for name, team in sorted(new.items()):
        before = old.get(name)
        was, now = (_bounds(one) for one in (before, team))
        if gained := [text for text in now if text not in was]:
            text = f"the rules of team {name} may now name {', '.join(gained)}"
            yield ManifestChange(direction="wider", text=text, because=(team.file,))


def _bounds(team: Team | None) -> list[str]:
    if team is None:
        return []
    approvers = [f"{role} as approvers" for role in sorted(team.approvers)]
    resources = [pattern.text for pattern in team.resources]
    return [*sorted(team.agents), *sorted(team.roles), *approvers, *team.tools, *resources]
