"""Teams: the rows in `policies/TEAM/*.csv` may name only what `policies/TEAM/team.toml` lists.

The rules directly in `policies/` are the organization's and have no such bounds. A deny there overrides every allow, also those of
teams, because any deny that applies decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from remit.core import BREAK_GLASS, CONFIRMATION, Problem, WorkspaceError, action_matches, listed, one_of, spelled
from remit.core.parsing import Matching, Summary, TomlTable, load_toml, read_table, toml_line
from remit.policy.language.patterns import EVERYTHING, GlobError, Pattern, parse_pattern

TEAM_FILE: Final = "team.toml"
_FILE: Final = re.compile(rf"policies/([a-z][a-z0-9_-]{{0,30}})/{re.escape(TEAM_FILE)}", re.ASCII)
_OF_TEAM: Final = re.compile(r"policies/([^/]+)/[^/]+")
_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}"

AgentName = Annotated[str, Matching(rf"agent:{_NAME}", "an agent", 'write the kind before it, as "agent:billing"')]
RoleName = Annotated[str, Matching(rf"role:{_NAME}", "a role", 'write the kind before it, as "role:billing-lead"')]
ToolName = Annotated[
    str,
    Matching(r"[a-z][a-z0-9_]{0,30}(?:\.[a-z][a-z0-9_]{0,30})?", "a tool or an action", 'write "sql" or "sql.query"'),
]


class TeamTable(TomlTable):
    """The whole file. An empty or absent list: no row of the team may name such a thing."""

    summary: Summary
    agents: list[AgentName] = Field(default=[], description="Agents for which its rows may be, as in a row: agent:NAME")
    roles: list[RoleName] = Field(
        default=[],
        description="Roles that are the team's own: its rows may be for them, ask their approval, and give them to users",
    )
    approvers: list[RoleName] = Field(
        default=[], description="Roles of others, whose approval its conditions may ask: role:NAME"
    )
    tools: list[ToolName] = Field(default=[], description="Tools, or single actions, that its rows may name")
    resources: list[str] = Field(
        default=[],
        description="Resources that the patterns of its rows may match: one resource, all below a folder (file:billing/**), "
        "all of a kind (table:**), or names with a prefix (ticket:PAY-*)",
    )


@dataclass(frozen=True, kw_only=True)
class Team:
    """What the rows of one team may name. `name` is that of its folder; `tools` are columns of actions, as sql.query or sql.*."""

    name: str
    agents: frozenset[str]
    roles: frozenset[str]
    approvers: frozenset[str]
    tools: tuple[str, ...]
    resources: tuple[Pattern, ...]

    @property
    def file(self) -> str:
        return f"policies/{self.name}/{TEAM_FILE}"

    def owns(self, action: str) -> bool:
        """True if a row of the team may have this column of actions: one action, or all of a tool."""
        return any(action == tool or action_matches(action, tool) for tool in self.tools)

    def outside_rule(
        self, subject: str, action: str, pattern: Pattern, approvers: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        """What a `p` row names and the team may not, each with what to do."""
        if subject not in self.agents | self.roles:
            yield self._outside(subject, "roles" if subject.startswith("role:") else "agents", self.agents | self.roles)
        if not self.owns(action):
            yield self._outside(action, "tools", self.tools)
        if not any(_within(pattern, bound) for bound in self.resources):
            yield self._outside(pattern.text, "resources", [bound.text for bound in self.resources])
        for role in approvers:
            if role not in self.roles | self.approvers | {CONFIRMATION}:
                yield self._outside(role, "approvers", self.roles | self.approvers)

    def outside_link(self, member: str, role: str) -> Iterator[tuple[str, str]]:
        """What a `g` row names and the team may not. Any user may get a role of the team; agents and roles must be its own."""
        if role not in self.roles:
            yield self._outside(role, "roles", self.roles)
        kind = member.partition(":")[0]
        if kind in ("agent", "role") and member not in self.agents | self.roles:
            yield self._outside(member, f"{kind}s", self.agents if kind == "agent" else self.roles)

    def _outside(self, name: str, key: str, known: Collection[str]) -> tuple[str, str]:
        fix = f"name one of {listed(sorted(known)) or 'none yet'}; or the organization adds it to {key} in {self.file}"
        return f"the rules of team {self.name} may not name {spelled(name)}", fix


def team_of(file: str) -> str:
    """The team to which a file of rules belongs; "" for one of the organization."""
    match = _OF_TEAM.fullmatch(file)
    return match[1] if match else ""


def read_teams(
    files: Mapping[str, bytes], actions: Collection[str] | None = None, agents: Collection[str] | None = None
) -> tuple[dict[str, Team], list[Problem]]:
    """Every `policies/TEAM/team.toml`, by the name of its team, and all problems of these files.

    `actions` and `agents` are those that exist; None: any name is accepted. A team whose file has a problem is left out.
    """
    teams: dict[str, Team] = {}
    problems: list[Problem] = []
    owners: dict[str, str] = {}
    for file in sorted(files):
        if not (file.startswith("policies/") and file.endswith(f"/{TEAM_FILE}")):
            continue
        team, wrong = _read_team(file, files[file])
        problems += wrong
        if team is None:
            continue
        text = files[file].decode()
        problems += _unknown(team, text, actions, agents)
        for role in sorted(team.roles & owners.keys()):
            what = f"{role} is a role of team {owners[role]} already"
            problems.append(_problem(file, text, ("roles",), what, "list it in one team: a role has one owner"))
        owners |= dict.fromkeys(team.roles, team.name)
        teams[team.name] = team
    return teams, problems


def _read_team(file: str, data: bytes) -> tuple[Team | None, list[Problem]]:
    name = _FILE.fullmatch(file)
    if name is None:
        what = f"{file.split('/')[1]!r} is not a name of a team" if file.count("/") == 2 else "nothing reads this file"
        fix = "name the folder with a-z, 0-9, _ and -, a letter first, directly in policies/"
        return None, [Problem(file=file, what=what, fix=fix)]
    try:
        text = data.decode()
        table, problems = read_table(TeamTable, load_toml(text, file=file), file=file, text=text)
    except UnicodeDecodeError:
        return None, [Problem(file=file, what="this is not UTF-8", fix="save the file as UTF-8")]
    except WorkspaceError as error:
        return None, list(error.problems)
    if table is None:
        return None, problems
    bounds: list[Pattern] = []
    for number, bound in enumerate(table.resources):
        try:
            bounds.append(_bound(bound))
        except GlobError as error:
            problems.append(_problem(file, text, ("resources", str(number)), error.what, error.fix))
    if BREAK_GLASS in table.roles:
        what = f"no team owns {BREAK_GLASS}, which approves calls of all"
        problems.append(_problem(file, text, ("roles",), what, "remove it, and give it in policies/*.csv"))
    team = Team(
        name=name[1],
        agents=frozenset(table.agents),
        roles=frozenset(table.roles),
        approvers=frozenset(table.approvers),
        tools=tuple(tool if "." in tool else f"{tool}.*" for tool in table.tools),
        resources=tuple(bounds),
    )
    return (None if problems else team), problems


def _bound(text: str) -> Pattern:
    """A pattern that may stand in `resources`. Raises GlobError for another one."""
    pattern = parse_pattern(text)
    *above, last = pattern.segments or ("**",)
    if any("*" in segment for segment in above) or ("*" in last[:-1] and last != "**"):
        raise GlobError(
            f"{text!r} is no bound of resources", "end it with /** for a folder, or with one * for names with a prefix"
        )
    return pattern


def _within(pattern: Pattern, bound: Pattern) -> bool:
    """True if the bound matches everything that the pattern matches.

    INVARIANT: the segments before the last of a bound have no wildcard. So a pattern that begins with the same segments
    matches nothing outside of them.
    """
    if bound.text == EVERYTHING:
        return True
    if pattern.kind != bound.kind or not pattern.segments:
        return False
    *above, last = bound.segments
    if list(pattern.segments[: len(above)]) != above:
        return False
    rest = pattern.segments[len(above) :]
    if last == "**":
        return bool(rest)
    if len(rest) != 1 or rest[0] == "**":
        return False
    prefix, wildcard, _ = last.partition("*")
    return rest[0].partition("*")[0].startswith(prefix) if wildcard else rest[0] == last


def _unknown(
    team: Team, text: str, actions: Collection[str] | None, agents: Collection[str] | None
) -> Iterator[Problem]:
    for agent in sorted(team.agents - {*agents}) if agents is not None else ():
        what = f"no file declares the agent {spelled(agent)}"
        yield _problem(team.file, text, ("agents",), what, one_of(agent, agents or ()))
    for tool in team.tools if actions is not None else ():
        if not any(action_matches(action, tool) for action in actions or ()):
            what = f"no tool has the action {spelled(tool)}"
            yield _problem(team.file, text, ("tools",), what, one_of(tool, _columns(actions or ())))


def _columns(actions: Collection[str]) -> list[str]:
    return sorted({*actions, *(f"{action.partition('.')[0]}.*" for action in actions)})


def _problem(file: str, text: str, place: Sequence[str], what: str, fix: str) -> Problem:
    return Problem(file=file, line=toml_line(text, *place), what=what, fix=fix)
