"""Patterns of other systems as patterns here, exactly or not at all.

A pattern is read into parts: texts, and wildcards that stand for what they match. The parts are written as patterns of `rules.csv`,
several if one is not enough. Resources here are canonical: without empty segments, so `/a/.*` and `a/**` match the same of them.

    keyMatch to keyMatch4, regexMatch, globMatch: Casbin, https://casbin.org/docs/function; as pycasbin implements them
    anyGlob: Argo CD's globs, in which * also matches /
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Literal, TypeAlias

from remit.analysis.importing.outcome import Unreadable

Wildcard: TypeAlias = Literal[
    "any", "segment", "some"
]  # any text; a text without /; such a text of one or more characters
MOST_ALTERNATIVES: Final = 64


@dataclass(frozen=True, kw_only=True)
class Part:
    """A text, or a wildcard."""

    text: str = ""
    wildcard: Wildcard | None = None


ANY: Final = Part(wildcard="any")
SEGMENT: Final = Part(wildcard="segment")
SOME: Final = Part(wildcard="some")
Parts: TypeAlias = tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a pattern matches: one of `alternatives`. `loose` says why the pattern matches more than these; "" if it does not.

    With `hides_dots`, wildcards at the start of a segment do not match a leading dot.
    """

    alternatives: tuple[Parts, ...]
    loose: str = ""
    hides_dots: bool = False


def literal(text: str) -> Reading:
    """Exactly this text."""
    return Reading(alternatives=((Part(text=text),),))


def key_match(text: str) -> Reading:
    """The text before the first `*`, and anything after it; what follows the `*` is ignored."""
    before, star, after = text.partition("*")
    if not star:
        return literal(text)
    if after:
        raise Unreadable(f"Casbin ignores what follows the first * of {text!r}; write {before}*")
    return Reading(alternatives=((*_text(before), ANY),))


def key_match2(text: str) -> Reading:
    """`/*` is `/.*`, `:name` is a part of a segment, and everything else is a regular expression."""
    if text == "*":
        return Reading(alternatives=((ANY,),))
    return _key_pattern(text, re.compile(r":[^/]+"))


def key_match3(text: str) -> Reading:
    """As `key_match2`, with `{name}`."""
    return _key_pattern(text, re.compile(r"\{[^/{}]+\}"))


def key_match4(text: str) -> Reading:
    """As `key_match3`; a name that stands twice must match the same text, which no pattern here can say."""
    found = re.findall(r"\{[^/{}]+\}", text)
    if len(found) > len(set(found)):
        raise Unreadable(f"{text!r} has a name twice, which must match the same text")
    return key_match3(text)


def _key_pattern(text: str, name: re.Pattern[str]) -> Reading:
    parts: list[Part] = []
    loose, at = "", 0
    while at < len(text):
        if text.startswith("/*", at):
            parts += [Part(text="/"), ANY]
            at += 2
        elif match := name.match(text, at):
            parts.append(SOME)
            at = match.end()
        elif text[at] in _SPECIAL:
            raise Unreadable(f"{text[at]!r} in {text!r} is read as a regular expression by Casbin")
        else:
            loose = loose or (f"Casbin reads the . in {text!r} as any character" if text[at] == "." else "")
            parts.append(Part(text=text[at]))
            at += 1
    return Reading(alternatives=(_joined(parts),), loose=loose)


_SPECIAL: Final = "*+?()[]{}|^$\\"


def regex_match(text: str) -> Reading:
    """A regular expression of literals, `.*`, `[^/]*`, `[^/]+` and alternatives, anchored at its start only."""
    if len(text) > 1000:
        raise Unreadable("the regular expression is longer than 1000 characters")
    alternatives: list[Parts] = []
    loose = ""
    for choice in _choices(text):
        whole = choice.endswith("$") and not choice.endswith("\\$")
        parts, reason = _regex_parts(choice.removeprefix("^").removesuffix("$") if whole else choice.removeprefix("^"))
        loose = loose or reason
        alternatives.append(_joined(parts if whole or parts[-1:] == [ANY] else [*parts, ANY]))
    return Reading(alternatives=tuple(alternatives), loose=loose)


def _choices(text: str) -> list[str]:
    """`(A)|(B)`, `A|B` and `^(A|B)$` as `A` and `B`, each with the anchors of the whole."""
    anchors = ("^" if text.startswith("^(") else "", "$" if text.endswith(")$") else "")
    inner = text.removeprefix(anchors[0]).removesuffix(anchors[1])
    if inner.startswith("(") and inner.endswith(")") and "(" not in inner[1:] and ")" not in inner[:-1]:
        return [f"{anchors[0]}{one}{anchors[1]}" for one in inner[1:-1].split("|")]
    if any(anchors) and "|" in inner:
        raise Unreadable(f"the regular expression {text!r} has an anchor in one alternative only")
    return [
        one[1:-1] if one.startswith("(") and one.endswith(")") and "(" not in one[1:] else one
        for one in text.split("|")
    ]


_REGEX: Final = re.compile(
    r"(?P<any>\.\*)|(?P<some>\[\^/\]\+)|(?P<segment>\[\^/\]\*)|\\(?P<escaped>[^A-Za-z0-9])|(?P<dot>\.)(?![*+?{])"
    r"|(?P<text>[^\\.*+?()\[\]{}|^$])(?![*+?{])"
)
_WILDCARDS: Final[Mapping[str, Part]] = {"any": ANY, "some": SOME, "segment": SEGMENT}


def _regex_parts(text: str) -> tuple[list[Part], str]:
    parts: list[Part] = []
    loose, at = "", 0
    while at < len(text):
        match = _REGEX.match(text, at)
        if match is None or match.lastgroup is None:
            raise Unreadable(f"{text[at:]!r} in the regular expression {text!r} has no counterpart")
        if match.lastgroup == "dot":
            loose = f"the . of {text!r} is any character"
        wildcard = _WILDCARDS.get(match.lastgroup)
        parts.append(wildcard or Part(text=match[match.lastgroup]))
        at = match.end()
    return parts, loose


def glob_match(text: str) -> Reading:
    """`*` within a segment and `**` for any number of whole segments; neither matches a leading dot."""
    if any(character in text for character in "?[]{}\\!|"):
        raise Unreadable(f"the glob {text!r} has wildcards other than * and **")
    if "**" in text:
        return _double_star(text)
    parts = [SEGMENT if piece == "*" else Part(text=piece) for piece in re.split(r"(\*)", text) if piece]
    return Reading(alternatives=(tuple(parts),), hides_dots=_leads(text))


def _double_star(text: str) -> Reading:
    """`folder/**`, which also is the folder itself."""
    folder = text.removesuffix("**")
    if "*" in folder or not folder.endswith("/") or folder == "/":
        raise Unreadable(f"the glob {text!r} has ** elsewhere than as its last segment")
    alternatives = ((Part(text=folder), ANY), (Part(text=folder.removesuffix("/")),))
    return Reading(alternatives=alternatives, hides_dots=True)


def _leads(text: str) -> bool:
    """True if a wildcard begins a segment."""
    return text.startswith("*") or "/*" in text


def any_glob(text: str) -> Reading:
    """Argo CD's globs, which separate nothing; a text between slashes is a regular expression there."""
    if any(character in text for character in "?[]{}\\") or (len(text) > 1 and text[0] == text[-1] == "/"):
        raise Unreadable(f"{text!r} has wildcards other than *")
    parts = [
        ANY if piece == "*" else Part(text=piece) for piece in re.split(r"(\*+)", text.replace("**", "*")) if piece
    ]
    return Reading(alternatives=(tuple(parts),))


READERS: Final[Mapping[str, Callable[[str], Reading]]] = {
    "keyMatch": key_match,
    "keyMatch2": key_match2,
    "keyMatch3": key_match3,
    "keyMatch4": key_match4,
    "regexMatch": regex_match,
    "globMatch": glob_match,
    "globOrRegexMatch": any_glob,
}


def _text(text: str) -> Parts:
    return (Part(text=text),) if text else ()


def _joined(parts: list[Part]) -> Parts:
    """The parts with adjacent texts as one."""
    joined: list[Part] = []
    for part in parts:
        if joined and part.wildcard is None and joined[-1].wildcard is None:
            joined[-1] = Part(text=joined[-1].text + part.text)
        else:
            joined.append(part)
    return tuple(joined)


def plain(parts: Parts) -> str | None:
    """The text, if the parts have no wildcard."""
    return None if any(part.wildcard for part in parts) else "".join(part.text for part in parts)


def within_segments(reading: Reading) -> Reading:
    """A reading that matches less, if no pattern here matches the same: wildcards beside text match no / then."""
    alternatives = tuple(map(_within_segments, reading.alternatives))
    if alternatives == reading.alternatives:
        return reading
    return replace(
        reading, alternatives=alternatives, loose=reading.loose or "a wildcard beside text matches no / here"
    )


def _within_segments(parts: Parts) -> Parts:
    try:
        path_patterns(parts)
    except Unreadable:
        return tuple(SEGMENT if _is_beside_text(parts, at) else part for at, part in enumerate(parts))
    return parts


def _is_beside_text(parts: Parts, at: int) -> bool:
    """True for a wildcard for any text, if a text before or after it is in the same segment. A last one may be beside text."""
    before, after = parts[at - 1].text if at else "/", parts[at + 1].text if at + 1 < len(parts) else ""
    return parts[at] == ANY and bool(after) and not (before.endswith("/") and after.startswith("/"))


def path_patterns(parts: Parts) -> tuple[list[str], list[str]]:
    """The patterns, without kind, of names that do not begin with / and of names that do.

    Raises:
        Unreadable: no pattern here matches exactly these names.
    """
    segments = _segments(parts)
    first, rest = segments[0], segments[1:]
    if not first and rest:
        return [], _written(rest)
    if first == [ANY]:
        return _written(segments), ["**"] if not rest else _after_any(rest)
    if first[:1] == [ANY]:
        raise Unreadable("a wildcard that also matches / is followed by text in the same segment")
    return _written(segments), _written(rest) if first == [SEGMENT] and rest else []


def _after_any(rest: list[list[Part]]) -> list[str]:
    """What follows `.*/` in names that begin with /: at any depth."""
    if rest == [[ANY]]:
        return ["**"]
    if rest[0] == [ANY]:
        return _written(rest)
    return [f"**/{one}" for one in _written(rest)]


def _segments(parts: Parts) -> list[list[Part]]:
    segments: list[list[Part]] = [[]]
    for part in parts:
        if part.wildcard:
            segments[-1].append(part)
            continue
        for number, piece in enumerate(part.text.split("/")):
            if number:
                segments.append([])
            if piece:
                if any(character in piece for character in "*?[]{}\\"):
                    raise Unreadable(f"{piece!r} has a character that is a wildcard here")
                segments[-1].append(Part(text=piece))
    return segments


def _written(segments: list[list[Part]]) -> list[str]:
    """Patterns for the segments. A wildcard for any text stands for one or more segments, because none is empty."""
    if not segments or (len(segments) > 1 and not segments[-1]) or not any(segments):
        return []  # a folder with a slash at its end is no canonical resource
    choices: list[list[list[str]]] = []
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == [ANY]:
            choices.append([["**"]] if last else [["*", "**"]])
        elif ANY in segment:
            if not last or segment.index(ANY) != len(segment) - 1:
                raise Unreadable("a wildcard that also matches / stands beside text in a segment")
            start = _segment(segment[:-1])
            choices.append([[f"{start}*"], [f"{start}*", "**"]])
        else:
            choices.append([[_segment(segment)]])
    return ["/".join(_once([one for chosen in choice for one in chosen])) for choice in product(*choices)]


def _once(segments: list[str]) -> Iterator[str]:
    """The segments, where a ** that another wildcard for segments follows is left to that one."""
    for number, segment in enumerate(segments):
        following = segments[number + 1 : number + 3]
        if segment == "**" and (following == ["*", "**"] or following == ["**"]):
            continue
        yield segment


def _segment(parts: list[Part]) -> str:
    if not parts:
        raise Unreadable("the pattern has an empty segment")
    if SOME in parts and len(parts) > 1:
        raise Unreadable("a wildcard for one or more characters stands beside text in a segment")
    return "".join("*" if part.wildcard else part.text for part in parts).replace("**", "*")
