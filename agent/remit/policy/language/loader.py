"""Reads `policies/` strictly: what stock Casbin would drop, ignore or half-read is a problem with a file and a line.

A row is `p, subject, action, resource, condition, effect` or `g, member, role`, split at every comma, as every reader of
CSV and every code host does. The comment lines right above a row are its note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Final, Literal, NamedTuple, get_args

from remit.core import Effect, Problem, Refusal, Rule, WorkspaceError, action_matches
from remit.core.parsing import canonical, hidden_character
from remit.policy.language.casbin_model import MODEL_FILE, check_model
from remit.policy.language.conditions import ROLE, Condition, ConditionError, parse_condition, read_condition
from remit.policy.language.disclosure import DEFAULT, Disclosure, disclosed, is_directive
from remit.policy.language.names import DeclaredNames, check_names
from remit.policy.language.patterns import GlobError, Pattern, parse_pattern
from remit.policy.language.roles import RoleLink, check_links

FOLDER: Final = "policies/"
LONGEST_LINE: Final = 16_384  # characters

_SUBJECT: Final = re.compile(r"(?:agent|user|role):[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)
_NAME: Final = r"[a-z][a-z0-9_]{0,30}"
_ACTION: Final = re.compile(rf"\*|{_NAME}\.(?:\*|{_NAME})", re.ASCII)
_P_ROW: Final = "write p, subject, action, resource, condition, allow or deny"
_G_ROW: Final = "write g, member, role:<name>"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What exists for rules to speak of: action → argument → JSON type ("string", "integer", …, or "any"), its effect, and the
    words that mean it. `unconfined` are the actions that run in Remit's own process.

    None in place of arguments means that the schema is not known yet: then any argument passes. `names` None: any name passes,
    as in a rulebook of the past.
    """

    actions: Mapping[str, Mapping[str, str] | None]
    effects: Mapping[str, Effect] = field(default_factory=dict[str, Effect])
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    unconfined: frozenset[str] = frozenset()
    names: DeclaredNames | None = None

    def effect(self, action: str) -> Effect:
        """What the action does, "once" where nobody says."""
        return self.effects.get(action, "once")

    def matching(self, pattern: str) -> tuple[str, ...]:
        """The actions that an action column means."""
        return tuple(action for action in self.actions if action_matches(action, pattern))

    def arguments(self, pattern: str) -> dict[str, str] | None:
        """The arguments that every action of an action column has; "any" where their types differ."""
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
    """One `p` row, ready to be asked; itself only, however alike another. `number` orders rows over all files."""

    number: int
    rule: Rule
    subject: str
    action: str
    pattern: Pattern
    condition: Condition
    disclosure: Disclosure = DEFAULT

    @property
    def fields(self) -> tuple[str, ...]:
        """What the row means, whatever its spacing: what the policy's digest covers."""
        told = () if self.disclosure == DEFAULT else (self.disclosure,)
        return ("p", self.subject, self.action, self.pattern.text, self.condition.text, self.rule.effect, *told)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything that `policies/` says."""

    rows: tuple[RuleRow, ...]
    links: tuple[RoleLink, ...]


def read_rules(files: Mapping[str, bytes], vocabulary: Vocabulary | None = None) -> Rules:
    """Read the model and every `policies/*.csv`, in the order of their names; no rows at all is a policy too.

    Raises:
        WorkspaceError: every problem of every file, each with its line and what to write.
    """
    reader = _Reader(vocabulary)
    reader.problems.extend(check_model(files.get(MODEL_FILE)))
    for file in sorted(files):
        name = file.removeprefix(FOLDER)
        if not file.startswith(FOLDER) or not name.lower().endswith(".csv"):
            continue
        if "/" in name or not name.endswith(".csv"):
            reader.problems.append(
                Problem(file=file, what="these rules would not be read", fix="name it policies/<name>.csv")
            )
        else:
            reader.read(file, files[file])
    reader.problems.extend(check_links(reader.links))
    if vocabulary is not None and vocabulary.names is not None:
        reader.problems.extend(check_names(reader.rows, reader.links, vocabulary.names))
    if reader.problems:
        raise WorkspaceError(reader.problems)
    return Rules(rows=tuple(reader.rows), links=tuple(reader.links))


def read_more(
    rows: Sequence[RuleRow], text: str, vocabulary: Vocabulary | None, *, file: str, subject: str
) -> tuple[RuleRow, ...]:
    """Those rows, and those of a text that speaks of `subject` only, which no file of the workspace can name.

    Raises:
        WorkspaceError: every problem of the text.
    """
    reader = _Reader(vocabulary, rows=list(rows), only=subject)
    reader.read(file, text.encode())
    if reader.problems:
        raise WorkspaceError(reader.problems)
    return tuple(reader.rows)


@dataclass
class _Reader:
    """Gathers rows, links and problems over all files."""

    vocabulary: Vocabulary | None
    rows: list[RuleRow] = field(default_factory=list[RuleRow])
    links: list[RoleLink] = field(default_factory=list[RoleLink])
    problems: list[Problem] = field(default_factory=list[Problem])
    only: str = ""  # the one subject that a text of its own may speak of
    # Rules repeat themselves: what was read once is not read again, and equal conditions are one compiled condition.
    _patterns: dict[str, Pattern] = field(default_factory=dict[str, Pattern])
    _conditions: dict[tuple[str, str, str], Condition] = field(default_factory=dict[tuple[str, str, str], Condition])
    _subjects: set[str] = field(default_factory=set[str])
    _actions: set[str] = field(default_factory=set[str])

    def read(self, file: str, content: bytes) -> None:
        text = self._text(file, content)
        notes: list[str] = []
        for number, line in enumerate(text.split("\n"), start=1):
            line = line.removesuffix("\r")
            at = _At(file, number, line, self.problems)
            if line.startswith("#"):
                self._check_characters(at)
                notes.append(line.lstrip("#").strip())
                continue
            if not line.startswith("p") and any(map(is_directive, notes)):
                at.wrong("a line that begins with disclose: stands above no rule", "write it right above a p row")
            if line:
                self._row(at, notes)
            notes.clear()
        if any(map(is_directive, notes)):
            problem = "the last line that begins with disclose: stands above no rule"
            self.problems.append(Problem(file=file, what=problem, fix="write it right above a p row"))

    def _text(self, file: str, content: bytes) -> str:
        if content.startswith(b"\xef\xbb\xbf"):
            what = "the file starts with a byte order mark, which hides its first rule from Casbin"
            self.problems.append(Problem(file=file, line=1, what=what, fix="save it as UTF-8 without BOM"))
            content = content[3:]
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            self.problems.append(Problem(file=file, line=line, what="this is not UTF-8", fix="save the file as UTF-8"))
            return ""

    def _check_characters(self, at: _At) -> bool:
        if len(at.line) > LONGEST_LINE:
            return at.wrong(f"the line is {len(at.line)} characters long", f"write at most {LONGEST_LINE}")
        if (hidden := hidden_character(at.line)) is not None:
            return at.wrong(f"the line holds an invisible character {hidden}", "remove it, or type a space")
        return True

    def _row(self, at: _At, notes: list[str]) -> None:
        if not self._check_characters(at):
            return
        if at.line.startswith(" "):
            at.wrong("the row is indented", "start it in the first column")
        elif '"' in at.line:
            at.wrong("the row holds a double quote, which CSV readers do not agree on", "write texts in single quotes")
        elif (fields := self._fields(at)) is not None:
            match fields:
                case ("p", subject, action, resource, condition, effect):
                    self._rule(at, notes, subject, action, resource, condition, effect)
                case ("g", member, role):
                    self._link(at, member, role)
                case ("p", *_):
                    at.wrong(
                        f"a p row has 6 fields, this one has {len(fields)}", f"{_P_ROW}, with no comma inside a field"
                    )
                case ("g", *_):
                    at.wrong(f"a g row has 3 fields, this one has {len(fields)}", _G_ROW)
                case _:
                    at.wrong(
                        f"a row begins with p or g, not with {fields[0]!r}", f"{_P_ROW}; or {_G_ROW}; or # a comment"
                    )

    def _fields(self, at: _At) -> tuple[str, ...] | None:
        """The fields, leading spaces removed; None where readers of CSV would differ about them."""
        fields = tuple([one.lstrip(" ") for one in at.line.split(",")])
        spaced = " ," in at.line or at.line.endswith(" ")
        if spaced and (trailing := next((one for one in fields if one.endswith(" ")), None)):
            at.wrong(
                f"spaces follow {trailing.strip()!r}; some readers keep them", "remove the spaces before the comma"
            )
        elif "" in fields:
            at.wrong("a field is empty", "fill it: True for no condition, ** for every resource")
        else:
            return fields
        return None

    def _link(self, at: _At, member: str, role: str) -> None:
        if self._subject(at, member) and ROLE.fullmatch(role):
            self.links.append(RoleLink(file=at.file, line=at.number, member=intern(member), role=intern(role)))
        elif not ROLE.fullmatch(role):
            at.wrong(f"{role!r} is not a role", "write role:<name>, of letters, digits and . _ @ + -")

    def _subject(self, at: _At, subject: str) -> bool:
        if self.only:
            return subject == self.only or at.wrong(f"{subject!r} is not {self.only!r}", f"write {self.only}")
        if subject in self._subjects:
            return True
        if _SUBJECT.fullmatch(subject):
            self._subjects.add(subject)
            return True
        return at.wrong(
            f"{subject!r} is no subject", "write agent:<name>, user:<name> or role:<name>, without wildcards"
        )

    def _rule(
        self, at: _At, notes: list[str], subject: str, action: str, resource: str, condition: str, effect: str
    ) -> None:
        known = self._subject(at, subject) & self._action(at, action)
        pattern = self._pattern(at, resource)
        match effect:
            case "allow" | "deny":
                asked = self._condition(at, condition, action, effect)
            case _:
                at.wrong(f"{effect!r} is no effect", "write allow or deny, in lower case")
                return
        try:
            disclosure, note = disclosed(notes)
        except ValueError as error:
            at.wrong(str(error), f"write one of {', '.join(get_args(Disclosure))}")
            return
        if known and pattern and asked:
            self.rows.append(
                RuleRow(
                    number=len(self.rows),
                    rule=Rule(file=at.file, line=at.number, text=at.line, effect=effect, note=note),
                    subject=intern(subject),
                    action=intern(action),
                    pattern=pattern,
                    condition=asked,
                    disclosure=disclosure,
                )
            )

    def _action(self, at: _At, action: str) -> bool:
        if action in self._actions:
            return True
        if not _ACTION.fullmatch(action):
            return at.wrong(f"{action!r} is no action", "write tool.action, tool.* or *")
        if action == "*" or self.vocabulary is None or self.vocabulary.matching(action):
            self._actions.add(action)
            return True
        return at.wrong(
            f"no tool has the action {action!r}", f"use one of: {', '.join(sorted(self.vocabulary.actions))}"
        )

    def _pattern(self, at: _At, text: str) -> Pattern | None:
        if text in self._patterns:
            return self._patterns[text]
        try:
            pattern = parse_pattern(text)
        except GlobError as error:
            at.wrong(error.what, error.fix)
            return None
        if "*" not in text and (spelled := _canonical(text)) != text:
            at.wrong(
                f"no resource is ever spelled {text!r}", f"write {spelled}" if spelled else "write its canonical name"
            )
            return None
        self._patterns[text] = pattern
        return pattern

    def _condition(self, at: _At, text: str, action: str, effect: Literal["allow", "deny"]) -> Condition | None:
        vocabulary = self.vocabulary
        known = (text, effect, "" if vocabulary is None else action)  # the action says what its arguments are
        if known in self._conditions:
            return self._conditions[known]
        for wrong in _unsafe_in_csv(text):
            at.wrong(f"condition {text!r} {wrong}", "rewrite it so that every CSV reader sees one field")
            return None
        try:
            self._conditions[known] = (
                read_condition(text, effect)
                if vocabulary is None
                else parse_condition(
                    text, effect=effect, arguments=vocabulary.arguments(action), actions=vocabulary.actions
                )
            )
            return self._conditions[known]
        except ConditionError as error:
            for what, fix in error.problems:
                at.wrong(what, fix)
            return None


class _At(NamedTuple):  # a tuple, because there is one for every line
    """One line, and where its problems go."""

    file: str
    number: int
    line: str
    problems: list[Problem]

    def wrong(self, what: str, fix: str) -> bool:
        self.problems.append(Problem(file=self.file, line=self.number, what=what, fix=fix))
        return False


def _unsafe_in_csv(condition: str) -> Iterator[str]:
    """What Casbin's own line splitter or a code host would read otherwise than it looks."""
    if "#" in condition:
        yield "holds a #, which reads like a comment"
    if "[" in condition or "]" in condition:
        yield "holds a bracket, which swallows commas"
    depth = 0
    for character in condition:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    if depth:
        yield "has parentheses that do not match, texts included"


def _canonical(resource: str) -> str | None:
    """How the resource of a pattern without wildcards is spelled; None where it is nothing of its kind."""
    kind, _, name = resource.partition(":")
    if not name:
        return resource
    try:
        if kind in ("http", "https"):
            return canonical(kind, resource)
        return f"{kind}:{canonical(kind, name)}"
    except Refusal:
        return None
