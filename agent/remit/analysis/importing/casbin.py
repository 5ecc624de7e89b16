"""A Casbin model with its policy as rules: never wider than what stock Casbin allows by them.

INVARIANT: a row that allows is written exactly, or narrower, or not at all. A row that denies is written exactly or wider; if even that is
impossible, no row of the file allows. So a request that is allowed here is allowed there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from remit.analysis.importing.model import Model, read_model
from remit.analysis.importing.names import Names
from remit.analysis.importing.outcome import LONGEST, MOST_ROWS, Imported, ImportedRow, Status, Unreadable
from remit.analysis.importing.shape import Shape, World
from remit.core import UsageError, WorkspaceError
from remit.core.parsing import hidden_character
from remit.policy import load_policy
from remit.policy.language import model_text as own_model
from remit.policy.language import parse_pattern, parse_resource

MOST_COMPARED: Final = (
    200  # wider denials that are compared with each row that allows; with more, each takes a part of all
)
MOST_RULES: Final = 50_000
# What Argo CD builds in: https://github.com/argoproj/argo-cd/blob/master/assets/model.conf
ARGO_CD: Final = """\
[request_definition]
r = sub, res, act, obj
[policy_definition]
p = sub, res, act, obj, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && globOrRegexMatch(r.res, p.res) && globOrRegexMatch(r.act, p.act) && globOrRegexMatch(r.obj, p.obj)
"""


def import_casbin(model: str, policy: str, *, file: str = "policy.csv", names: Names | None = None) -> Imported:
    """The rules that stand for the rows of `policy` under `model`, both texts of Casbin's files.

    Raises:
        UsageError: the model has no counterpart, or a text is too large.
    """
    try:
        return _Importer(read_model(model), names or Names(), file).all(policy)
    except Unreadable as problem:
        raise UsageError(f"the model cannot be imported: {problem}") from None


@dataclass(frozen=True, kw_only=True)
class _Line:
    number: int
    text: str
    fields: Sequence[str]
    problem: str = ""


@dataclass
class _Importer:
    model: Model
    names: Names
    file: str
    done: dict[int, ImportedRow] = field(default_factory=dict[int, ImportedRow])
    last_allow: int = -1  # the place of the last row that may allow
    rules: int = 0
    blocking: str = ""  # why no row of the file may allow
    # Rules that deny more than in Casbin, each with the row that it comes from and the rows before which it counts.
    wider: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])

    def all(self, policy: str) -> Imported:
        lines = list(_lines(policy))
        world = self._world(lines)
        for line in lines:
            if line.problem:
                self._refuse(line, line.problem, blocks=line.text.startswith("p"))
            elif line.fields[0] in self.model.roles:
                self._link(line)
            elif line.fields[0] != "p":
                self._refuse(line, f"Casbin ignores rows that begin with {line.fields[0]!r}")
        ordered = self._ordered([line for line in lines if not line.problem and line.fields[0] == "p"])
        self.last_allow = max((place for place, line in enumerate(ordered) if self._may_allow(line)), default=-1)
        for place, line in enumerate(ordered):
            self._row(world, line, place)
        self._whole(world, any(line.fields[:1] == ["p"] for line in lines))
        self._narrow(ordered)
        rows = [self.done[number] for number in sorted(self.done)]
        return Imported(file=self.file, rows=self._loaded(rows), renamed=self.names.renamed)

    # --- what the rows share ---

    def _world(self, lines: Sequence[_Line]) -> World:
        model = self.model
        links = [line.fields for line in lines if not line.problem and line.fields[0] in model.roles]
        links = [fields for fields in links if len(fields) == model.roles[fields[0]] + 1]
        if _asks(model, "g"):
            self.names.roles = {
                (fields[2], fields[3] if len(fields) > 3 else "") for fields in links if fields[0] == "g"
            }
        # Conditions compare the name of a subject with a text of the other system, so the two must be equal.
        self.names.exact = model.evaluates or re.search(r"\br\.\w+\.", model.matcher) is not None
        types = self._types(lines)
        groups: dict[str, dict[str, set[str]]] = {kind: {} for kind in model.roles}
        for kind, member, group, *_ in links:
            groups[kind].setdefault(group, set()).add(member)
        subject = next((name for name, kind in model.fields.items() if kind == "subject"), "-")
        domains: dict[str, list[str]] = {}
        for role, domain in sorted(self.names.roles):
            domains.setdefault(role, []).append(domain)
        return World(
            model=model,
            names=self.names,
            alternatives=None if model.evaluates else model.alternatives(dict.fromkeys(model.columns, "")),
            groups=groups,
            domains=domains,
            types=types,
            anonymous=re.search(rf"\br\.{re.escape(subject)}\b(?!\.)", model.matcher) is None,
        )

    def _types(self, lines: Sequence[_Line]) -> list[str]:
        name = next((name for name, kind in self.model.fields.items() if kind == "type"), "")
        if name not in self.model.columns:
            return []
        at = self.model.columns.index(name) + 1
        found = {line.fields[at] for line in lines if line.fields[:1] == ["p"] and len(line.fields) > at}
        return sorted(one for one in found if "*" not in one)

    def _ordered(self, lines: list[_Line]) -> list[_Line]:
        """The rows in the order in which Casbin asks them."""
        if self.model.decides != "first" or "priority" not in self.model.columns:
            return lines
        at = self.model.columns.index("priority") + 1
        if any(len(line.fields) <= at or not line.fields[at].isdecimal() for line in lines):
            self.blocking = "a priority is not a number"
            return lines
        return sorted(lines, key=lambda line: int(line.fields[at]))

    # --- rows ---

    def _link(self, line: _Line) -> None:
        kind, *fields = line.fields
        if len(fields) != self.model.roles[kind]:
            self._refuse(line, f"a {kind} row has {self.model.roles[kind]} fields after {kind}", blocks=True)
            return
        if not _asks(self.model, kind) or kind != "g":
            self._keep(line, "kept", "rows that ask for it list its members", [])
            return
        domain = fields[2] if len(fields) > 2 else ""
        try:
            self.names.folder(domain)
            role = self.names.subject(fields[1], domain)
            self._keep(line, "kept", "", [f"g, {self.names.subject(fields[0], domain)}, {role}"])
        except Unreadable as problem:
            self._refuse(line, str(problem), blocks=True)

    def _row(self, world: World, line: _Line, place: int) -> None:
        values = line.fields[1:]
        if len(values) != len(self.model.columns):
            what = f"the row has {len(values)} fields after p, and the model {len(self.model.columns)}"
            self._refuse(line, f"{what}: Casbin fails when it comes to it", blocks=True)
            return
        row = dict(zip(self.model.columns, values, strict=True))
        effect = row.get("eft", "allow")
        if effect not in ("allow", "deny"):
            self._refuse(line, f"{effect!r} is not an effect: Casbin ignores the row")
        elif effect == "deny" and self.model.decides == "allow":
            self._refuse(line, "the model ignores rows that deny")
        elif effect == "deny" and self.model.decides == "first" and place > self.last_allow:
            self._keep(line, "kept", "what it denies is denied without it", [])
        else:
            self._translate(world, line, row, denies=effect == "deny", place=place)

    def _may_allow(self, line: _Line) -> bool:
        return "eft" not in self.model.columns or line.fields[self.model.columns.index("eft") + 1 :][:1] != ["deny"]

    def _translate(self, world: World, line: _Line, row: Mapping[str, str], *, denies: bool, place: int = 0) -> None:
        try:
            rules, loose = _rules(world, row, denies=denies)
        except Unreadable as problem:
            self._refuse(line, str(problem), blocks=denies)
            return
        if not rules and not denies:
            self._refuse(line, "no request can have such names here")
            return
        self.rules += len(rules)
        if self.rules > MOST_RULES:
            raise UsageError(f"the policy becomes more than {MOST_RULES} rules; import it in parts")
        why = loose or ("" if rules else "it denies nothing that can be asked here")
        self._keep(line, "narrowed" if loose else "kept", why, rules)
        for rule in rules:
            if not rule.endswith(", deny"):
                continue
            if loose or not denies:
                self.wider.append((rule, line.number, len(self.done) + MOST_ROWS))
            elif self.model.decides == "first":
                self.wider.append((rule, line.number, place))

    def _whole(self, world: World, has_rows: bool) -> None:
        """What the model itself allows, without a row."""
        line = _Line(number=0, text="the model", fields=[])
        if self.model.decides == "deny":
            self._refuse(line, "it allows whatever no row denies; here nothing is allowed without a rule")
        elif not has_rows and not re.search(r"\bp\.", self.model.matcher):
            self._translate(world, line, {}, denies=False)

    def _narrow(self, ordered: Sequence[_Line]) -> None:
        """Say of rows that allow what a wider denial takes from them, and refuse them if a denial is lost."""
        places = {line.number: place for place, line in enumerate(ordered)}
        for number, row in self.done.items():
            allows = [rule for rule in row.rules if rule.endswith(", allow")]
            if not allows:
                continue
            if self.blocking:
                why = f"{self.blocking}; so nothing is allowed"
                self.done[number] = replace(row, status="refused", why=why, rules=())
            elif row.status == "kept":
                by = (
                    line
                    for rule, line, before in self.wider
                    if line != number
                    and places.get(number, 0) < before
                    and (len(self.wider) > MOST_COMPARED or any(_may_meet(rule, one) for one in allows))
                )
                if (line := next(by, None)) is not None:
                    self.done[number] = replace(row, status="narrowed", why=f"line {line} denies a part of it here")

    def _loaded(self, rows: list[ImportedRow]) -> list[ImportedRow]:
        """The rows, if Remit loads their rules: role cycles and too deep chains are found here."""
        text = Imported(file=self.file, rows=rows).rules_text
        try:
            load_policy({"policies/model.conf": own_model().encode(), "policies/rules.csv": text.encode()})
        except WorkspaceError as error:
            why = f"the rules do not load: {error.problems[0].what}"
            return [replace(row, status="refused", why=why, rules=()) for row in rows]
        return rows

    def _keep(self, line: _Line, status: Status, why: str, rules: Sequence[str]) -> None:
        self.done[line.number] = ImportedRow(
            line=line.number, text=line.text, status=status, why=why, rules=tuple(rules)
        )

    def _refuse(self, line: _Line, why: str, *, blocks: bool = False) -> None:
        self.done[line.number] = ImportedRow(line=line.number, text=line.text, status="refused", why=why)
        if blocks and self.model.decides != "allow":
            self.blocking = self.blocking or f"line {line.number} may deny and cannot be read"


def _rules(world: World, row: Mapping[str, str], *, denies: bool) -> tuple[list[str], str]:
    """The rules for one row, and what is not exact about them. Raises Unreadable if nothing can be written."""
    loose = ""
    try:
        alternatives = world.alternatives or world.model.alternatives(dict(row))
    except Unreadable as problem:
        if not denies:
            raise
        # Without its condition, the row denies more.
        loose = str(problem)
        alternatives = world.model.alternatives(dict.fromkeys(row, "1 == 1"))
    found: dict[str, None] = {}
    problems: list[Unreadable] = []
    for atoms in alternatives:
        shape = Shape(world=world, row=row, denies=denies)
        try:
            shape.add(atoms)
            if denies and not shape.never and not shape.names_subject and not world.anonymous:
                raise Unreadable("it denies to everybody")
            found |= dict.fromkeys(shape.rules())
            loose = loose or shape.loose
        except Unreadable as problem:
            problems.append(problem)
    if problems and (denies or not found):
        raise problems[0]
    return list(found), loose or (str(problems[0]) if problems else "")


def _may_meet(denying: str, allowing: str) -> bool:
    """False only if no request matches both rows."""
    _, _, denied, from_resource, *_ = denying.split(", ")
    _, _, allowed, resource, *_ = allowing.split(", ")
    if denied != allowed and "*" not in denied + allowed:
        return False
    if "*" in resource or from_resource == "**":
        return True
    return parse_pattern(from_resource).intersects(parse_resource(resource))


def _asks(model: Model, kind: str) -> bool:
    return re.search(rf"\b{kind}\(", model.matcher) is not None


def _lines(policy: str) -> Iterator[_Line]:
    texts = policy.split("\n")
    if len(texts) > MOST_ROWS:
        raise UsageError(f"the policy has more than {MOST_ROWS} lines; import it in parts")
    for number, text in enumerate(texts, start=1):
        row = text.strip()
        if not row or row.startswith("#"):
            continue
        if len(row) > LONGEST:
            yield _Line(number=number, text=row[:100], fields=["p"], problem=f"it is longer than {LONGEST} characters")
        elif (hidden := hidden_character(row, but="\t")) is not None:
            yield _Line(number=number, text=row, fields=["p"], problem=f"it contains an invisible character {hidden}")
        elif (fields := _fields(row)) is None:
            yield _Line(number=number, text=row, fields=["p"], problem="its parentheses do not match: Casbin fails")
        else:
            yield _Line(number=number, text=row, fields=fields)


def _fields(row: str) -> list[str] | None:
    """The fields as pycasbin splits them: at commas outside of () and []; None if these do not match."""
    fields, start, depth = list[str](), 0, 0
    for match in re.finditer(r"[,\[\]()]", row):
        if match[0] in "([":
            depth += 1
        elif match[0] in ")]":
            depth -= 1
            if depth < 0:
                return None
        elif not depth:
            fields.append(row[start : match.start()].strip())
            start = match.end()
    return None if depth else [*fields, row[start:].strip()]
