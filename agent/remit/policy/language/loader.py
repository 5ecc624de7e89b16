"""Reads `policies/` strictly: what stock Casbin would drop, ignore or half-read is a problem with its file and line.

A row is `p, subject, action, resource, condition, effect` or `g, member, role`. It is split at every comma, as CSV readers and
code hosts do. The comment lines right above a row are its note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Final, Literal, NamedTuple, get_args

from remit.core import Effect, Problem, Rule, WorkspaceError, matching_actions, spelled
from remit.core.parsing import hidden_character
from remit.policy.language.asking import GRAMMAR, Asking, is_asking, parse_asking
from remit.policy.language.casbin_model import MODEL_FILE, check_model
from remit.policy.language.conditions import ROLE, Condition, ConditionError, parse_condition, read_condition
from remit.policy.language.disclosure import DEFAULT, Disclosure, is_directive, parse_disclosure
from remit.policy.language.entities import FILE as ENTITIES_FILE
from remit.policy.language.entities import NO_ENTITIES, Entities, read_entities
from remit.policy.language.hints import (
    G_ROW,
    P_ROW,
    action_fix,
    begin_fix,
    effect_fix,
    fields_fix,
    kind_fix,
    link_fix,
    subject_fix,
)
from remit.policy.language.names import DeclaredNames, check_names
from remit.policy.language.patterns import GlobError, Pattern, parse_pattern
from remit.policy.language.roles import RoleLink, check_links
from remit.policy.language.spelling import spelling_fix
from remit.policy.language.teams import TEAM_FILE, Team, read_teams, team_of

FOLDER: Final = "policies/"
LONGEST_LINE: Final = 16_384  # characters

_SUBJECT: Final = re.compile(r"(?:agent|user|service|role):[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)
_NAME: Final = r"[a-z][a-z0-9_]{0,30}"
_ACTION: Final = re.compile(rf"\*|{_NAME}\.(?:\*|{_NAME})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What exists in a workspace for rules to name.

    `actions`: for each action, the JSON type of each argument ("string", "integer", …, or "any"); None if the schema is not
    known yet, then any argument is accepted. `means` are the words by which a user requests an action. `unconfined` are the
    actions that run in Remit's own process. `names` None: any name is accepted. `recorded`: any action and argument is accepted,
    as in a policy bundle of an earlier run, whose rules may be newer than its tools. `points` are the enforcement points, each with the
    properties that it may state, as `resource.status`; their actions are among `actions`.
    """

    actions: Mapping[str, Mapping[str, str] | None]
    effects: Mapping[str, Effect] = field(default_factory=dict[str, Effect])
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    unconfined: frozenset[str] = frozenset()
    names: DeclaredNames | None = None
    recorded: bool = False
    points: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def effect(self, action: str) -> Effect:
        """The effect of the action; "once", the strictest, if it is not known."""
        return self.effects.get(action, "once")

    def matching(self, pattern: str) -> tuple[str, ...]:
        """The actions that an action column matches."""
        return matching_actions(self.actions, pattern)

    def arguments(self, pattern: str) -> dict[str, str] | None:
        """The arguments that all actions of an action column have, each "any" if its types differ; None if not known."""
        if self.recorded:
            return None
        schemas = [self.actions[action] for action in self.matching(pattern)]
        known = [schema for schema in schemas if schema is not None]
        if not known:
            return None if schemas else {}
        return {
            name: kind if all(schema[name] == kind for schema in known) else "any"
            for name, kind in known[0].items()
            if all(name in schema for schema in known)
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleRow:
    """One parsed `p` row, compared by identity. `number` is its position over all files."""

    number: int
    rule: Rule
    subject: str
    action: str
    pattern: Pattern
    condition: Condition
    disclosure: Disclosure = DEFAULT
    asking: Asking | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The meaning of the row without its spacing: this is what the policy's digest covers."""
        disclosure = () if self.disclosure == DEFAULT else (self.disclosure,)
        asking = () if self.asking is None else (self.asking.text,)
        return (
            "p",
            self.subject,
            self.action,
            self.pattern.text,
            self.condition.text,
            self.rule.effect,
            *disclosure,
            *asking,
        )


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All rules of `policies/`, and the properties that they may read."""

    rows: tuple[RuleRow, ...]
    links: tuple[RoleLink, ...]
    entities: Entities = NO_ENTITIES


def read_rules(files: Mapping[str, bytes], vocabulary: Vocabulary | None = None) -> Rules:
    """Read the model, every `policies/*.csv`, those of teams, and the entities. A policy without rows is valid.

    Raises:
        WorkspaceError: every problem of every file, with its line and fix.
    """
    reader = _RulesReader(vocabulary)
    reader.problems.extend(check_model(files.get(MODEL_FILE)))
    reader.read_teams(files)
    for file in sorted(files):
        if file.startswith(FOLDER) and file.lower().endswith(".csv"):
            reader.read_file(files, file)
    reader.problems.extend(check_links(reader.links))
    entities = reader.entities(files)
    if vocabulary is not None and vocabulary.names is not None:
        declared = vocabulary.names.with_entities(entities, entities.properties)
        reader.problems.extend(check_names(reader.rows, reader.links, declared))
    if reader.problems:
        raise WorkspaceError(reader.problems)
    return Rules(rows=tuple(reader.rows), links=tuple(reader.links), entities=entities)


def read_more(
    rows: Sequence[RuleRow], text: str, vocabulary: Vocabulary | None, *, file: str, subject: str
) -> tuple[RuleRow, ...]:
    """`rows` and those of `text`, which may name `subject` only; no file of the workspace can name that subject.

    Raises:
        WorkspaceError: every problem of the text.
    """
    reader = _RulesReader(vocabulary, rows=list(rows), only=subject)
    reader.read(file, text.encode())
    if reader.problems:
        raise WorkspaceError(reader.problems)
    return tuple(reader.rows)


@dataclass
class _RulesReader:
    """Collects rows, links and problems over all files."""

    vocabulary: Vocabulary | None
    rows: list[RuleRow] = field(default_factory=list[RuleRow])
    links: list[RoleLink] = field(default_factory=list[RoleLink])
    problems: list[Problem] = field(default_factory=list[Problem])
    only: str = ""  # if set, the one subject that rows may name
    teams: Mapping[str, Team] = field(default_factory=dict[str, Team])
    team: Team | None = None  # whose file is read; None: the organization's
    # Large policies repeat patterns and conditions, so each text is parsed once and shared.
    _patterns: dict[str, Pattern] = field(default_factory=dict[str, Pattern])
    _conditions: dict[tuple[str, str, str], Condition] = field(default_factory=dict[tuple[str, str, str], Condition])
    _subjects: set[str] = field(default_factory=set[str])
    _actions: set[str] = field(default_factory=set[str])

    def read_teams(self, files: Mapping[str, bytes]) -> None:
        known = self.vocabulary
        actions = None if known is None or known.recorded else known.actions
        agents = None if known is None or known.names is None else known.names.agents
        self.teams, problems = read_teams(files, actions, agents)
        self.problems.extend(problems)

    def read_file(self, files: Mapping[str, bytes], file: str) -> None:
        """Read a file of the organization, or of a team within its bounds."""
        name = team_of(file)
        self.team = self.teams.get(name)
        if not file.endswith(".csv") or file.count("/") > 2 or (name and f"{FOLDER}{name}/{TEAM_FILE}" not in files):
            fix = f"name it policies/<name>.csv, or policies/<team>/<name>.csv beside a {TEAM_FILE}"
            self.problems.append(Problem(file=file, what="nothing reads this file of rules", fix=fix))
        elif self.team is not None or not name:  # without the bounds of its team, no row can be right
            self.read(file, files[file])

    def read(self, file: str, content: bytes) -> None:
        text = self._text(file, content)
        comments: list[str] = []
        for number, row in enumerate(text.split("\n"), start=1):
            line = _Line(file, number, row.removesuffix("\r"), self.problems)
            if line.text.startswith("#"):
                self._check_characters(line)
                comments.append(line.text.lstrip("#").strip())
                continue
            # A directive that applies to no rule is an error: its author believes that it hides something.
            if not line.text.startswith("p") and any(map(_is_directive, comments)):
                line.report("a disclose: or asks: line is not right above a rule", "write it right above a p row")
            if line.text:
                self._row(line, comments)
            comments.clear()
        if any(map(_is_directive, comments)):
            what = "the last disclose: or asks: line is not right above a rule"
            self.problems.append(Problem(file=file, what=what, fix="write it right above a p row"))

    def entities(self, files: Mapping[str, bytes]) -> Entities:
        try:
            return read_entities(files.get(ENTITIES_FILE))
        except WorkspaceError as error:
            self.problems.extend(error.problems)
            return NO_ENTITIES

    def _text(self, file: str, content: bytes) -> str:
        if content.startswith(b"\xef\xbb\xbf"):
            what = "the file starts with a byte order mark, which hides its first rule from Casbin"
            self.problems.append(Problem(file=file, line=1, what=what, fix="save it as UTF-8 without BOM"))
            content = content[3:]
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            number = content[: error.start].count(b"\n") + 1
            self.problems.append(
                Problem(file=file, line=number, what="this is not UTF-8", fix="save the file as UTF-8")
            )
            return ""

    def _check_characters(self, line: _Line) -> bool:
        if len(line.text) > LONGEST_LINE:
            return line.report(f"the line is {len(line.text)} characters long", f"write at most {LONGEST_LINE}")
        if (hidden := hidden_character(line.text)) is not None:
            return line.report(f"the line contains an invisible character {hidden}", "remove it, or type a space")
        return True

    def _row(self, line: _Line, comments: list[str]) -> None:
        if not self._check_characters(line):
            return
        if line.text.startswith(" "):
            line.report("the row is indented", "start it in the first column")
        elif '"' in line.text:
            line.report(
                "the row contains a double quote, which CSV readers interpret differently",
                "remove the quotes around a field; in a condition, write texts in single quotes",
            )
        elif (fields := self._fields(line)) is not None:
            match fields:
                case ("p", subject, action, resource, condition, effect):
                    self._rule(line, comments, subject, action, resource, condition, effect)
                case ("g", member, role):
                    self._link(line, member, role)
                case ("p", *_):
                    line.report(f"a p row has 6 fields, this one has {len(fields)}", fields_fix(fields, P_ROW))
                case ("g", *_):
                    line.report(f"a g row has 3 fields, this one has {len(fields)}", fields_fix(fields, G_ROW))
                case _:
                    line.report(f"a row begins with p or g, not with {spelled(fields[0])}", begin_fix(fields[0]))

    def _fields(self, line: _Line) -> tuple[str, ...] | None:
        """The fields without leading spaces; None, with a problem, if CSV readers would disagree about them."""
        fields = tuple([field.lstrip(" ") for field in line.text.split(",")])
        spaced = " ," in line.text or line.text.endswith(" ")
        if spaced and (trailing := next((field for field in fields if field.endswith(" ")), None)):
            line.report(f"spaces follow {trailing.strip()!r}, and some CSV readers keep them", "remove these spaces")
        elif fields[-1] == "" and "" not in fields[:-1]:
            line.report("the row ends with a comma", "remove it")
        elif "" in fields:
            line.report("a field is empty", "fill it: write True for no condition, ** for every resource")
        else:
            return fields
        return None

    def _link(self, line: _Line, member: str, role: str) -> None:
        if self._subject(line, member) and ROLE.fullmatch(role):
            if self.team is not None:
                line.report_all(self.team.outside_link(member, role))
            self.links.append(RoleLink(file=line.file, line=line.number, member=intern(member), role=intern(role)))
        elif not ROLE.fullmatch(role):
            line.report(f"{spelled(role)} is not a role", link_fix(member, role))

    def _subject(self, line: _Line, subject: str) -> bool:
        if self.only:
            return subject == self.only or line.report(f"{subject!r} is not {self.only!r}", f"write {self.only}")
        if subject in self._subjects:
            return True
        if _SUBJECT.fullmatch(subject):
            self._subjects.add(subject)
            return True
        known = (
            set[str]() if self.vocabulary is None or self.vocabulary.names is None else self.vocabulary.names.subjects
        )
        return line.report(f"{spelled(subject)} is not a valid subject", subject_fix(subject, known))

    def _rule(
        self, line: _Line, comments: list[str], subject: str, action: str, resource: str, condition: str, effect: str
    ) -> None:
        valid = self._subject(line, subject) & self._action(line, action)  # `&`: both report their problems
        pattern = self._pattern(line, resource)
        match effect:
            case "allow" | "deny":
                parsed = self._condition(line, condition, action, effect)
            case _:
                line.report(f"{spelled(effect)} is not an effect", effect_fix(effect))
                return
        directives = self._directives(line, comments, frozenset() if parsed is None else frozenset(parsed.thresholds))
        if directives is None:
            return
        disclosure, note, asking = directives
        if valid and pattern and parsed:
            if self.team is not None:
                line.report_all(self.team.outside_rule(subject, action, pattern, parsed.thresholds))
            self.rows.append(
                RuleRow(
                    number=len(self.rows),
                    rule=Rule(file=line.file, line=line.number, text=line.text, effect=effect, note=note),
                    subject=intern(subject),
                    action=intern(action),
                    pattern=pattern,
                    condition=parsed,
                    disclosure=disclosure,
                    asking=asking,
                )
            )

    def _directives(
        self, line: _Line, comments: list[str], roles: frozenset[str]
    ) -> tuple[Disclosure, str, Asking | None] | None:
        """What the comment lines above a rule set, and its note; None, with a problem, if one of them is not valid."""
        try:
            asking, rest = parse_asking(comments, roles)
        except ValueError as error:
            line.report(str(error), GRAMMAR)
            return None
        try:
            disclosure, note = parse_disclosure(rest)
        except ValueError as error:
            line.report(str(error), f"write one of {', '.join(get_args(Disclosure))}")
            return None
        return disclosure, note, asking

    def _action(self, line: _Line, action: str) -> bool:
        if action in self._actions:
            return True
        if not _ACTION.fullmatch(action):
            fix = (
                "write tool.action, tool.* or *"
                if self.vocabulary is None
                else action_fix(action, self.vocabulary.actions)
            )
            return line.report(f"{spelled(action)} is not an action", fix)
        vocabulary = self.vocabulary
        if action == "*" or vocabulary is None or vocabulary.recorded or vocabulary.matching(action):
            self._actions.add(action)
            return True
        return line.report(f"no tool has the action {spelled(action)}", action_fix(action, vocabulary.actions))

    def _pattern(self, line: _Line, text: str) -> Pattern | None:
        if text in self._patterns:
            return self._patterns[text]
        try:
            pattern = parse_pattern(text)
        except GlobError as error:
            line.report(*self._pattern_problem(text, error))
            return None
        # A resource of a call is always canonical, so a rule with another spelling would never match.
        if fix := spelling_fix(text):
            line.report(f"{spelled(text)} is not the canonical name of a resource", fix)
            return None
        self._patterns[text] = pattern
        return pattern

    def _pattern_problem(self, text: str, error: GlobError) -> tuple[str, str]:
        if "has no kind" not in error.what:
            return error.what, error.fix
        names = None if self.vocabulary is None else self.vocabulary.names
        return f"pattern {spelled(text)} has no kind", kind_fix(text, None if names is None else names.kinds)

    def _condition(self, line: _Line, text: str, action: str, effect: Literal["allow", "deny"]) -> Condition | None:
        vocabulary = self.vocabulary
        key = (text, effect, "" if vocabulary is None else action)  # the action determines the types of arguments
        if key in self._conditions:
            return self._conditions[key]
        for reason in _unsafe_in_csv(text):
            line.report(f"condition {text!r} {reason}", "rewrite it so that every CSV reader sees one field")
            return None
        try:
            self._conditions[key] = (
                read_condition(text, effect)
                if vocabulary is None
                else parse_condition(
                    text,
                    effect=effect,
                    arguments=vocabulary.arguments(action),
                    actions=None if vocabulary.recorded else vocabulary.actions,
                )
            )
            return self._conditions[key]
        except ConditionError as error:
            for what, fix in error.problems:
                line.report(what, fix)
            return None


class _Line(NamedTuple):  # a tuple, because a large policy has many lines
    """One line of a file; `problems` is the reader's list."""

    file: str
    number: int
    text: str
    problems: list[Problem]

    def report(self, what: str, fix: str) -> bool:
        """Add a problem of this line. Always False, so that a check can return it."""
        self.problems.append(Problem(file=self.file, line=self.number, what=what, fix=fix))
        return False

    def report_all(self, found: Iterable[tuple[str, str]]) -> None:
        for what, fix in found:
            self.report(what, fix)


def _is_directive(comment: str) -> bool:
    return is_directive(comment) or is_asking(comment)


def _unsafe_in_csv(condition: str) -> Iterator[str]:
    """Why Casbin's own line splitter or a code host would split the condition differently."""
    if "#" in condition:
        yield "contains a #, which starts a comment for some readers"
    if "[" in condition or "]" in condition:
        yield "contains a bracket, inside which Casbin keeps commas"
    depth = 0
    for character in condition:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    if depth:
        yield "has unbalanced parentheses, counting those in texts"
