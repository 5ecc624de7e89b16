"""One alternative of a matcher with one row: which subjects, actions and resources it is about, and under which condition."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from remit.analysis.importing import texts
from remit.analysis.importing.expression import (
    Alternatives,
    Atom,
    Comparison,
    Field,
    Function,
    Literal,
    Membership,
    Readable,
    Value,
)
from remit.analysis.importing.model import Dimension, Model
from remit.analysis.importing.names import EVERYONE, Names, checked_pattern
from remit.analysis.importing.outcome import Unreadable, allow_row, deny_row
from remit.analysis.importing.texts import ANY, Part, Reading
from remit.policy.language import ConditionError, read_condition

MOST_RULES: Final = 256  # of one row
_SIDES: Final[Mapping[Dimension, str]] = {"subject": "subject", "resource": "resource"}


@dataclass(frozen=True, kw_only=True)
class World:
    """What all rows of a policy share.

    `alternatives` of the matcher, if they are the same for each row. `groups`: for each kind of g row, what belongs to a name directly.
    `domains`: for each role, those in which it has members ("" without domains). `types` are the kinds of objects that rows name.
    `anonymous`: no row of the model names a subject.
    """

    model: Model
    names: Names
    alternatives: Alternatives | None
    groups: Mapping[str, Mapping[str, Collection[str]]]
    domains: Mapping[str, Sequence[str]]
    types: Collection[str]
    anonymous: bool = False


@dataclass
class Shape:
    """Collects the atoms of one alternative. Each method raises Unreadable for an atom that has no counterpart.

    With `denies`, a part that cannot be exact is left out: then more is denied. `loose` says what is not exact; "" if all is.
    """

    world: World
    row: Mapping[str, str]
    denies: bool
    loose: str = ""
    never: bool = False  # it matches no request that can be asked here
    hides_dots: bool = False
    _subjects: list[str] | None = None
    _linked: bool = False
    _readings: dict[Dimension, Reading] = field(default_factory=dict[Dimension, Reading])
    _conditions: list[str] = field(default_factory=list[str])

    def add(self, atoms: Iterable[Atom]) -> None:
        """Every atom must hold."""
        for atom in atoms:
            try:
                self._add(atom)
            except Unreadable as problem:
                if not self.denies:
                    raise
                self.loose = str(problem)

    @property
    def names_subject(self) -> bool:
        """True if a row for this alternative is about some subjects only."""
        return self._subjects is not None

    def rules(self) -> list[str]:
        """The rows of rules, each once."""
        if self.never:
            return []
        if not self.names_subject and not self.denies:
            self.loose = self.loose or f"it names no subject: give {EVERYONE} to those for whom it is meant"
        condition = self._condition()
        owners = list(self._owners())
        row = deny_row if self.denies else allow_row
        actions, resources = self._actions(), self._resources()
        if (many := len(owners) * len(actions) * len(resources)) > MOST_RULES:
            raise Unreadable(f"it would be {many} rules")
        pairs = list(product(owners, actions, resources))
        found = {
            row(subject, action, self._placed(kind, folder, pattern), condition): None
            for (subject, folder), action, (kind, pattern) in pairs
        }
        if self.hides_dots and not self.denies:
            for (subject, folder), action, (kind, pattern) in pairs:
                for hidden in _hidden(pattern):
                    found.setdefault(deny_row(subject, action, self._placed(kind, folder, hidden)))
        return list(found)

    # --- atoms ---

    def _add(self, atom: Atom) -> None:
        match atom:
            case Readable():
                text = self._comparison(atom.comparison)
                self._conditions.append(f"({text} or not {text})")
            case Membership():
                self._member(atom)
            case Function():
                self._function(atom)
            case Comparison():
                self._compare(atom)

    def _compare(self, atom: Comparison) -> None:
        left, right = self._known(atom.left), self._known(atom.right)
        if isinstance(left, Literal) and isinstance(right, Literal):
            if atom.operator not in ("==", "!=") or left.is_text != right.is_text:
                raise Unreadable("it compares two values of the row")
            self.never = self.never or (left.value == right.value) != (atom.operator == "==")
        elif any(isinstance(value, Field) and value.attribute for value in (left, right)):
            self._conditions.append(self._comparison(atom))
        else:
            name, text = (left, right) if isinstance(left, Field) else (right, left)
            if atom.operator != "==" or not isinstance(name, Field) or not isinstance(text, Literal):
                raise Unreadable(f"{atom.operator} compares fields of the request in a way that has no counterpart")
            self._bind(name.name, [text.value], linked=False)

    def _member(self, atom: Membership) -> None:
        options = [self._known(option) for option in atom.options]
        if len(options) < 2 or not all(isinstance(option, Literal) for option in options):
            raise Unreadable("`in` stands before something other than a list of texts")
        value = self._known(atom.value)
        if not isinstance(value, Field):
            raise Unreadable("`in` stands after something other than a field of the request")
        if value.attribute:
            each = [self._comparison(Comparison(operator="==", left=value, right=option)) for option in options]
            self._conditions.append(f"({' or '.join(each)})")
        else:
            self._bind(value.name, [option.value for option in options if isinstance(option, Literal)], linked=False)

    def _function(self, atom: Function) -> None:
        asked, *others = map(self._known, atom.arguments)
        if not isinstance(asked, Field) or asked.attribute or not others or not isinstance(others[0], Literal):
            raise Unreadable(f"{atom.name}() does not compare a field of the request with a value of the row")
        text, dimension = others[0].value, self._dimension(asked.name)
        if atom.name in self.world.model.roles:
            self._role(atom.name, dimension, text, others[1:])
        elif (reader := texts.READERS.get(atom.name)) is not None and len(others) == 1:
            reading = reader(text)
            plain = [texts.plain(parts) for parts in reading.alternatives]
            if dimension != "subject":
                self._read(dimension, reading)
            elif reading.alternatives != ((ANY,),):
                if reading.loose or None in plain:
                    raise Unreadable(f"{text!r} is a pattern of subjects")
                self._bind(asked.name, [name for name in plain if name is not None], linked=False)
        else:
            raise Unreadable(f"the function {atom.name}() has no counterpart")

    def _role(self, name: str, dimension: Dimension, text: str, others: list[Value]) -> None:
        model = self.world.model
        if dimension == "resource" and not others:
            every = _belonging(self.world.groups.get(name, {}), text)
            members = sorted(one for one in every if self._can_be_asked("resource", one))
            self.never = self.never or not members
            if members:
                self._read("resource", Reading(alternatives=tuple((Part(text=one),) for one in members)))
            return
        (domain,) = others or (None,)
        in_request = isinstance(domain, Field) and self._dimension(domain.name) == "domain" and not domain.attribute
        if name != "g" or dimension != "subject" or in_request != (model.roles["g"] == 3):
            raise Unreadable(f"{name}() is asked in a way that has no counterpart")
        self._bind_subjects([text], linked=True)

    def _bind(self, name: str, values: list[str], *, linked: bool) -> None:
        dimension = self._dimension(name)
        if dimension == "subject":
            self._bind_subjects(values, linked=linked)
            return
        possible = [value for value in values if self._can_be_asked(dimension, value)]
        if not possible:
            self.never = True
            return
        self._read(dimension, Reading(alternatives=tuple((Part(text=value),) for value in possible)))

    def _bind_subjects(self, values: list[str], *, linked: bool) -> None:
        if self._subjects is not None:
            raise Unreadable("the subject is compared twice")
        if not linked and (shared := [value for value in values if value in self.world.domains]):
            what = f"it is for {shared[0]!r} itself and not for its members"
            if not self.denies:
                raise Unreadable(what)
            self.loose = what
        self._subjects, self._linked = values, linked

    def _read(self, dimension: Dimension, reading: Reading) -> None:
        if dimension == "resource" and not self.denies:
            reading = texts.within_segments(reading)
        if self._readings.setdefault(dimension, reading) != reading:
            raise Unreadable(f"the {dimension} is compared twice")
        try:
            self._check(dimension, reading)
        except Unreadable:
            del self._readings[dimension]
            raise
        self.hides_dots = self.hides_dots or reading.hides_dots

    def _check(self, dimension: Dimension, reading: Reading) -> None:
        loose = reading.loose
        if dimension == "resource":
            for parts in reading.alternatives:
                texts.path_patterns(parts)
            hides = reading.hides_dots and self.denies
            loose = loose or ("its wildcards do not match a leading dot" if hides else "")
        elif any(parts != (ANY,) and texts.plain(parts) is None for parts in reading.alternatives):
            if any(texts.plain(parts[:1]) is None or parts[1:] != (ANY,) for parts in reading.alternatives):
                raise Unreadable(f"a pattern for the {dimension} has no counterpart")
            loose = f"it also matches a longer {dimension}"
        if loose and self.denies and dimension != "resource":
            raise Unreadable(loose)
        if reading.loose and self.denies:
            raise Unreadable(reading.loose)
        self.loose = self.loose or loose

    # --- what it becomes ---

    def _known(self, value: Value) -> Value:
        """The value; a column of the row as its text."""
        if not isinstance(value, Field) or value.side == "r":
            return value
        if value.name not in self.row or value.attribute:
            raise Unreadable(f"the row has no column {value.name!r}")
        return Literal(value=self.row[value.name], is_text=True)

    def _dimension(self, name: str) -> Dimension:
        if name not in self.world.model.fields:
            raise Unreadable(f"a request has no field {name!r}")
        return self.world.model.fields[name]

    def _can_be_asked(self, dimension: Dimension, text: str) -> bool:
        """False for a text that no request here can have, as a single `*`: what it allows or denies is nothing."""
        if "*" in text or dimension != "resource":
            return "*" not in text
        try:
            self.world.names.resource(text)
        except Unreadable:
            return False
        return True

    def _comparison(self, atom: Comparison) -> str:
        left, right = self._fact(atom.left), self._fact(atom.right)
        return f"{left} {atom.operator} {right}"

    def _fact(self, value: Value) -> str:
        known = self._known(value)
        if isinstance(known, Literal):
            if known.is_text and ("," in known.value or "'" in known.value):
                raise Unreadable(f"the text {known.value!r} cannot stand in a condition")
            return f"'{known.value}'" if known.is_text else known.value
        dimension = self._dimension(known.name)
        if dimension not in _SIDES or (not known.attribute and dimension != "subject"):
            raise Unreadable(f"r.{known.name} cannot be read in a condition")
        return f"{_SIDES[dimension]}.{known.attribute or 'id'}"

    def _condition(self) -> str:
        every = list(dict.fromkeys(self._conditions))
        if not every:
            return "True"
        text = " and ".join(every)
        if self.denies and len(every) > 1:
            # Casbin gives no answer if one of them cannot be read, whatever the others are; here that must deny too.
            text = " or ".join((f"({text})", *(f"({one} and not {one})" for one in every)))
        try:
            if "," in text:
                raise Unreadable("a comma cannot stand in a condition")
            return read_condition(text, "deny" if self.denies else "allow").text
        except ConditionError as error:
            problem = Unreadable(f"the condition has no counterpart: {error}")
        if not self.denies:
            raise problem
        self.loose = str(problem)
        return "True"

    def _owners(self) -> Iterable[tuple[str, str]]:
        """The subjects, each with the folder of the domain in which it is one."""
        names, folders = self.world.names, self._folders()
        if self._subjects is None:
            yield from ((EVERYONE, folder) for folder in folders)
            return
        by_domain = self._linked and self.world.model.roles.get("g") == 3
        for name in self._subjects:
            if not by_domain:
                yield from ((names.subject(name), folder) for folder in folders)
                continue
            if "*/" in folders:
                yield names.subject(name), "*/"
                for domain in self.world.domains.get(name, ()):
                    yield names.subject(name, domain), names.folder(domain)
            else:
                yield from ((names.subject(name, folder.removesuffix("/")), folder) for folder in folders)

    def _folders(self) -> list[str]:
        if "domain" not in self.world.model.fields.values():
            return [""]
        reading = self._readings.get("domain")
        if reading is None or (ANY,) in reading.alternatives:
            return ["*/"]
        return [self.world.names.folder(texts.plain(parts[:1]) or "") for parts in reading.alternatives]

    def _actions(self) -> list[str]:
        """Patterns of actions. A wildcard for the kind of object stands for the kinds that rows name."""
        names, chosen = self.world.names, self._texts("action")
        if "type" not in self.world.model.fields.values():
            return [each for one in chosen for each in (names.every_action() if one is None else [names.action(one)])]
        types = self._texts("type")
        if None in types and self.denies:
            return ["*"]
        if None in types:
            if len(self.world.types) > MOST_RULES:
                raise Unreadable("it is for every kind of object, and rows name too many of them")
            self.loose = f"it is for the kinds of objects that rows name: {' '.join(sorted(self.world.types))}"
        kinds = self.world.types if None in types else [kind for kind in types if kind is not None]
        return [
            each
            for kind in kinds
            for one in chosen
            for each in (names.every_action(kind) if one is None else [names.action(one, kind)])
        ]

    def _texts(self, dimension: Dimension) -> list[str | None]:
        reading = self._readings.get(dimension)
        if reading is None:
            return [None]
        return [None if parts == (ANY,) else texts.plain(parts[:1]) for parts in reading.alternatives]

    def _resources(self) -> list[tuple[str, str]]:
        """Pairs of a kind and a pattern without kind and domain."""
        model, names = self.world.model, self.world.names
        if "resource" not in model.fields.values():
            if "domain" in model.fields.values():
                raise Unreadable("a request has a domain and no object")
            return [("none", "")]
        reading = self._readings.get("resource", Reading(alternatives=((ANY,),)))
        found: dict[tuple[str, str], None] = {}
        for parts in reading.alternatives:
            plain, paths = texts.path_patterns(parts)
            found |= dict.fromkeys([*((names.kind, one) for one in plain), *((names.path_kind, one) for one in paths)])
        return list(found)

    def _placed(self, kind: str, folder: str, pattern: str) -> str:
        return checked_pattern(f"{kind}:{folder}{pattern}")


def _belonging(groups: Mapping[str, Collection[str]], name: str) -> set[str]:
    """The name, and what belongs to it, directly or through other names."""
    reached, new = {name}, [name]
    while new:
        following = set(groups.get(new.pop(), ())) - reached
        reached |= following
        new += following
        if len(reached) > MOST_RULES:
            raise Unreadable(f"more than {MOST_RULES} names belong to {name!r}")
    return reached


def _hidden(pattern: str) -> Iterable[str]:
    """Patterns for what a leading dot hides from the wildcards of this one."""
    segments = pattern.split("/")
    for number, segment in enumerate(segments):
        before, after = segments[:number], segments[number + 1 :]
        if segment == "**":
            yield "/".join([*before, "**", ".*"])
            yield "/".join([*before, "**", ".*", "**"])
        elif segment.startswith("*"):
            yield "/".join([*before, f".{segment}", *after])
