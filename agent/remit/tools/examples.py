"""Makes values of a JSON Schema, to try a tool with: the smallest, the largest, those at each bound, then random ones.

The same schema gives the same values. Each value is valid: it was checked by `validate`.
"""

from __future__ import annotations

import importlib
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from remit.core import Json
from remit.core.parsing import Mismatch, digest, resolved, types_of, validate

MOST_TRIES: Final = 20  # for each wanted value
_DEEPEST: Final = 5  # levels, of which the last has only what is required
_MOST_PARTS: Final = 2_000  # of one value
_LONGEST: Final = 4  # items and members beyond the least number
_CHARACTERS: Final = "abcXYZ019 _-./@é漢"
_TEXTS: Final = ("", "a", "x y", "INC-7", "a@b.example", "../x", "0", "-1", "true", "null", "é漢", "A" * 40)
_ANY: Final[tuple[Json, ...]] = (None, True, 0, -1.5, "text", [], {}, [1, "a"], {"a": {"b": 1}})
_BY_FORMAT: Final[Mapping[str, tuple[str, ...]]] = {
    "duration": ("PT5M", "P1DT2H"),
    "uuid1": ("12345678-1234-1678-9234-567812345678",),
    "uuid3": ("12345678-1234-3678-9234-567812345678",),
    "uuid5": ("12345678-1234-5678-9234-567812345678",),
    "email": ("ann@example.com",),
    "uri": ("https://example.com/a?b=c",),
    "ipv6": ("2001:db8::1",),
    "ipvanyaddress": ("192.0.2.1", "2001:db8::1"),
    "ipv4network": ("192.0.2.0/24",),
    "ipv6network": ("2001:db8::/32",),
    "ipvanynetwork": ("192.0.2.0/24",),
    "ipv4interface": ("192.0.2.1/24",),
    "ipv6interface": ("2001:db8::1/32",),
    "ipvanyinterface": ("192.0.2.1/24",),
    "json-string": ("1", '{"a": [true]}'),
    "base64": ("aGk=",),
    "base64url": ("aGk=",),
    "regex": ("^a+$",),
    "decimal": ("1.10", "-3"),
}


def _date(chance: random.Random) -> str:
    return f"20{chance.randint(0, 99):02}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"


def _time(chance: random.Random) -> str:
    return f"{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:{chance.randint(0, 59):02}"


_RANDOM_FORMATS: Final[Mapping[str, Callable[[random.Random], str]]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda chance: f"{_date(chance)}T{_time(chance)}{chance.choice(('Z', '+02:00', '.5Z'))}",
    "uuid": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    "uuid4": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    "ipv4": lambda chance: f"192.0.2.{chance.randint(1, 254)}",
}


def examples(schema: Mapping[str, Json], count: int, *, seed: int = 0) -> tuple[Json, ...]:
    """At most `count` different values that the schema accepts; fewer if no more were found."""
    maker = _Maker(schema, random.Random(f"{seed}{digest(cast('Json', schema))}"))  # noqa: S311 - examples, no secrets
    found: dict[str, Json] = {}
    for number in range(count * MOST_TRIES):
        value = maker.make(number)
        try:
            validate(schema, value, fill=False)
            found.setdefault(digest(value), value)
        except (Mismatch, ValueError):
            continue
        if len(found) == count:
            break
    return tuple(found.values())


class _TooLarge(Exception):
    """The value has too many parts."""


class _Maker:
    """Makes candidates. `wants` says which end of each choice is taken: the least, the most, or any."""

    def __init__(self, root: Json, chance: random.Random) -> None:
        self._root = root
        self._chance = chance
        self._wants = "any"
        self._parts = 0

    def make(self, number: int) -> Json:
        """The candidate of that number: the first ones are the smallest and the largest."""
        self._wants = ("least", "most")[number] if number < 2 else "any"
        self._parts = 0
        try:
            return self._value(self._root, 0)
        except (RecursionError, _TooLarge):
            return None

    def _value(self, schema: Json, depth: int) -> Json:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise _TooLarge
        if not isinstance(schema, dict):
            return self._chance.choice(_ANY)
        part = self._combined(cast("Mapping[str, Json]", schema))
        known = [part["default"]] if "default" in part else []
        known += part.get("examples", ()) if isinstance(part.get("examples"), list) else ()
        if known and self._wants == "any" and self._chance.random() < 0.1:
            return self._chance.choice(known)
        if "const" in part:
            return part["const"]
        if part.get("enum"):
            return self._pick(part["enum"])
        return self._of_type(part, depth)

    def _combined(self, schema: Mapping[str, Json]) -> Mapping[str, Json]:
        """The keywords that apply to one value: those of the schema, of what it refers to, and of one branch of its union."""
        for _ in range(64):
            if "$ref" in schema:
                target = resolved(self._root, schema["$ref"])
                rest = {name: value for name, value in schema.items() if name != "$ref"}
                schema = {**(cast("Mapping[str, Json]", target) if isinstance(target, dict) else {}), **rest}
                continue
            keyword = next((name for name in ("anyOf", "oneOf", "allOf") if schema.get(name)), None)
            if keyword is None:
                return schema
            rest = {name: value for name, value in schema.items() if name != keyword}
            branches: Sequence[Json] = schema[keyword]
            chosen = branches if keyword == "allOf" else [self._pick(branches)]
            for branch in chosen:
                rest = {**rest, **(cast("Mapping[str, Json]", branch) if isinstance(branch, dict) else {})}
            schema = rest
        return {}

    def _of_type(self, schema: Mapping[str, Json], depth: int) -> Json:
        makers: Mapping[str, Callable[[Mapping[str, Json], int], Json]] = {
            "null": lambda part, level: None,
            "boolean": lambda part, level: self._pick((False, True)),
            "integer": self._number,
            "number": self._number,
            "string": self._text,
            "array": self._array,
            "object": self._object,
        }
        types = sorted(types_of({name: value for name, value in schema.items() if name == "type"}))
        guessed = "object" if "properties" in schema else None
        if "type" not in schema and guessed is None:
            return self._chance.choice(_ANY)
        return makers[guessed or self._pick(types)](schema, depth)

    def _number(self, schema: Mapping[str, Json], depth: int) -> Json:
        whole = schema.get("type") == "integer"
        step = schema.get("multipleOf", 1 if whole else 0.25)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        ends = (
            low if low is not None else (high or 0) - 100 * step,
            high if high is not None else (low or 0) + 100 * step,
        )
        if self._wants != "any":
            number = ends[self._wants == "most"]
        else:
            inside = self._chance.choice((0, 1, -1, ends[0], ends[1], self._chance.uniform(*map(float, ends))))
            number = inside + self._chance.choice((0, 0, step, -step))
        number = round(float(number) / step) * step if "multipleOf" in schema else number
        return int(number) if whole else round(float(number), 9)

    def _text(self, schema: Mapping[str, Json], depth: int) -> Json:
        least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", 200))
        if "pattern" in schema:
            around = ("", "", *_TEXTS)
            return f"{self._chance.choice(around)}{_matching(schema['pattern'], self._chance)}{self._chance.choice(around)}"
        if (form := str(schema.get("format"))) in _BY_FORMAT:
            return self._chance.choice(_BY_FORMAT[form])
        if form in _RANDOM_FORMATS:
            return _RANDOM_FORMATS[form](self._chance)
        if self._wants == "any" and self._chance.random() < 0.5:
            return self._chance.choice(_TEXTS)
        size = {"least": least, "most": min(most, least + 20)}.get(self._wants, self._chance.randint(least, least + 12))
        return "".join(self._chance.choice(_CHARACTERS) for _ in range(min(size, most)))

    def _array(self, schema: Mapping[str, Json], depth: int) -> Json:
        first: Sequence[Json] = schema.get("prefixItems", ())
        items: Json = schema.get("items", True)
        least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", 1000))
        size = min(most, self._size(least, depth) if items is not False else max(least, len(first)))
        return [self._value(first[at] if at < len(first) else items, depth + 1) for at in range(max(size, least))]

    def _size(self, least: int, depth: int) -> int:
        if depth >= _DEEPEST or self._wants == "least":
            return least
        return least + (_LONGEST // 2 if self._wants == "most" else self._chance.randint(0, _LONGEST))

    def _object(self, schema: Mapping[str, Json], depth: int) -> Json:
        properties: Mapping[str, Json] = schema.get("properties", {})
        required = schema.get("required", ())
        members: dict[str, Json] = {}
        for name, inner in properties.items():
            if name in required or (inner is not False and self._takes_optional(depth)):
                members[name] = self._value(inner, depth + 1)
        others: Json = schema.get("additionalProperties", {} if not properties else False)
        patterns: Mapping[str, Json] = schema.get("patternProperties", {})
        size = self._size(int(schema.get("minProperties", 0)), depth)
        while len(members) < size and (others is not False or patterns):
            before = len(members)
            members.update(self._member(schema, patterns, others, depth))
            if len(members) == before:
                break
        return members

    def _member(
        self, schema: Mapping[str, Json], patterns: Mapping[str, Json], others: Json, depth: int
    ) -> dict[str, Json]:
        """One member with a name of its own."""
        if patterns and (others is False or self._chance.random() < 0.7):
            pattern = self._chance.choice(sorted(patterns))
            return {_matching(pattern, self._chance): self._value(patterns[pattern], depth + 1)}
        name = self._value(schema.get("propertyNames", {"type": "string", "minLength": 1}), depth + 1)
        return {name: self._value(others, depth + 1)} if isinstance(name, str) else {}

    def _takes_optional(self, depth: int) -> bool:
        if self._wants != "any":
            return self._wants == "most" and depth < _DEEPEST
        return depth < _DEEPEST and self._chance.random() < 0.6

    def _pick(self, choices: Sequence[Any]) -> Any:
        """The first choice, which often ends a recursion, the last, or any."""
        ends = {"least": choices[0], "most": choices[-1]}
        return ends[self._wants] if self._wants in ends else self._chance.choice(choices)


# ---- texts of a pattern -----------------------------------------------------------------------------------------------


def _matching(pattern: str, chance: random.Random) -> str:
    """A text in which the pattern is probably found; "" if there is none here.

    Python's own parser reads the pattern. It knows less than the engine that matches, so the text is only a candidate.
    """
    try:
        parsed = importlib.import_module("re._parser").parse(pattern)
        return "".join(_written(list(parsed), chance))
    except Exception:  # noqa: BLE001 - a pattern of another dialect
        return ""


def _written(tokens: Sequence[tuple[Any, Any]], chance: random.Random) -> Iterator[str]:
    for kind, value in tokens:
        match str(kind):
            case "LITERAL":
                yield chr(value)
            case "NOT_LITERAL":
                yield "a" if value != ord("a") else "b"
            case "ANY":
                yield chance.choice("aZ0 ")
            case "IN":
                yield _of_class(value, chance)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, inner = value
                for _ in range(chance.randint(low, min(int(high), low + 3))):
                    yield from _written(list(inner), chance)
            case "SUBPATTERN" | "ATOMIC_GROUP":
                yield from _written(
                    list(cast("Sequence[Any]", value)[-1] if isinstance(value, tuple) else value), chance
                )
            case "BRANCH":
                yield from _written(list(chance.choice(value[1])), chance)
            case _:  # an anchor adds no character
                continue


_CLASSES: Final = {"CATEGORY_DIGIT": "0189", "CATEGORY_WORD": "aZ_9", "CATEGORY_SPACE": " "}


def _of_class(items: Sequence[tuple[Any, Any]], chance: random.Random) -> str:
    """A character of a class such as `[a-z_]`."""
    if str(items[0][0]) == "NEGATE":
        refused = set(_class_characters(items[1:]))
        return next((one for one in "aZ0 -_.é" if one not in refused), "~")
    return chance.choice(list(_class_characters(items)) or ["a"])


def _class_characters(items: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    for kind, value in items:
        match str(kind):
            case "LITERAL":
                yield chr(value)
            case "RANGE":
                first, last = value
                yield from (chr(first), chr((first + last) // 2), chr(last))
            case _:
                yield from _CLASSES.get(str(value), "~")
