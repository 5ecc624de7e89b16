"""Whether words give a thing its name, or only hold the same letters as its name.

Whoever may choose a handle or a channel's name can take a word of the user's task for it: "summary", "today", "the". An
ordinary word therefore names a thing only with evidence beside it: a sigil (#summary, @numbers), a word for its kind ("the
rent payee", "close ticket crossword"), or quotes; a phrase also with capitals ("Harbour View"). Evidence has a kind: "note
'inbox'" names no mailbox. What no text holds by accident names itself: an id, a path, a file's name with its ending.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from remit.guardrails.naming_words import (
    ACTS,
    ADDRESSED,
    CALENDAR,
    CALLED,
    CONNECTING,
    CONTENT,
    DESCRIBING,
    DETERMINERS,
    FAMILIES,
    FOLLOWING,
    LINKING,
    PARTS,
    PEOPLE,
    PLACED,
    TAGGED,
    VERBS_TOO,
)

NEAR: Final = 80  # characters before and behind a word in which evidence is looked for
MOST_PLACES: Final = 1000  # where one name stands in the words
_QUOTES: Final = frozenset(
    (
        '""',
        "''",
        "``",
        "“”",
        "‘’",
        "„“",
        "„”",
        "”“",
        "””",
        "‚‘",
        "‚’",
        "’’",
        "«»",
        "»«",
        "‹›",
        "›‹",
        "「」",
        "『』",
        "《》",
    )
)
_KIND_WORDS: Final = frozenset[str]().union(*FAMILIES)
_SIGILS: Final = {"#": TAGGED, "@": ADDRESSED}
_NO_NAMES: Final = CONNECTING | FOLLOWING | DESCRIBING | CALENDAR | _KIND_WORDS
_UPRIGHT: Final = ("'", '"', "`", "’", "”")  # these close too: "don't"
_STOPS: Final = (",", ".", ";", "!", "?")
_OPENING: Final = " \"'(“‘«„-*"
_LABEL = re.compile(r"(?:^|\n)[ \t]*(?:[-*] )?([^\W\d_][\w-]*): $")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_NEXT = re.compile(r" {1,2}([^\W\d_][\w'’-]*)")
_FILE = re.compile(r".*[^\W_]{2,}\.(?=\w{0,4}[A-Za-z])\w{1,5}")
_TICKET = re.compile(r"[A-Z]{1,10}-\d+[A-Z]?(?:-\d+)*")
_CODE = re.compile(r"(?=.{5})(?=[^\W\d_])(?=\D*\d\D*\d)\w+(?:-(?!(?:19|20)\d\d$)\w+)*")
_DIGEST = re.compile(r"(?=.{8})(?=[\d-]*[A-Za-z])(?=(?:[^\W_]*\d){4})[0-9A-Za-z]+(?:-[0-9A-Za-z]+)*")
_DATE = re.compile(r"(?:19|20)\d\d-\d\d-\d\d")
_DATED: Final = frozenset({"birth", "birthday", "date", "day"})  # kinds of which nobody chooses what one is called
_JOINED = re.compile(r"\w*[^\W_]_+[^\W_]\w*")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One place where a name stands: as it is written there, and what is before and behind it."""

    written: str
    before: tuple[str, ...]  # the words before it, the nearest first, up to punctuation
    behind: str
    label: str  # "channel" where its line is "Channel: summary"
    amid: bool  # a word with a capital stands right before or behind it, but for the first of the sentence
    opens: bool  # nothing of its sentence is before it
    quoted: bool
    sigil: str
    fits: frozenset[str]  # the words for its kind

    @property
    def capital(self) -> bool:
        return self.written[:1].isupper()


def names_thing(words: str, kind: str, name: str, directory: Collection[str] = ()) -> bool:
    """Whether the words name that thing.

    The directory decides where they alone do not: a name that it has is one, and what it has as another kind of thing only
    is no name of this kind unless a word for this kind is beside it.
    """
    listed = f"{kind}:{name}" in directory
    elsewhere = _listed_as_another_kind(kind, name, directory)
    for place in _occurrences(words, kind, name):
        if listed and (place.written == name or " " in name):
            return True
        if place.written not in (name, name.lower()) and f"{kind}:{place.written}" in directory:
            continue  # the user wrote another thing's name, which is the same in capitals
        if _has_kind_word(place, name) or (
            not elsewhere and not _means_another_kind(place) and _reads_as_name(place, kind, name)
        ):
            return True
    return False


def names_person(words: str, kind: str, parts: Sequence[str]) -> bool:
    """Whether a person's first and last name stand in the words side by side, as one proper name."""
    if kind not in PEOPLE or len(parts) != 2:
        return False
    whole = " ".join(parts)
    return any(place.written == whole and _is_proper_name(place) for place in _occurrences(words, kind, whole))


def refers_by_alias(words: str, kind: str, alias: str, directory: Collection[str] = (), *, capital: bool) -> bool:
    """Whether the words speak of a thing by that other name of one word, which others may have chosen.

    The name of anything in the directory will do; with `capital`, so will one that has a capital inside of a sentence.
    """
    if _is_unambiguous(kind, alias) or names_thing(words, kind, alias):
        return True
    known = alias in _kinds_by_name(frozenset(directory))
    return any(
        place.written == alias
        and (known or (capital and place.capital and not place.opens and alias.lower() not in CONNECTING | CALENDAR))
        for place in _occurrences(words, kind, alias)
    )


def _occurrences(words: str, kind: str, name: str) -> Iterator[_Place]:
    """Where the name stands as a whole: as it is or with capitals of the user's, and a phrase in any case."""
    found = re.finditer(rf"(?<![\w./:%+*-])(?<![\w.+-][@#]){re.escape(name)}(?![\w/@:%+*-]|\.\w)", words, re.IGNORECASE)
    fits = _words_for_kind(kind)
    for number, match in enumerate(found):
        written = match.group()
        if number >= MOST_PLACES:
            return
        if written == name or written.lower() == name or " " in name:
            yield _occurrence(words, match.start(), match.end(), fits)


def _occurrence(words: str, start: int, end: int, fits: frozenset[str]) -> _Place:
    written, before, behind = words[start:end], words[max(0, start - NEAR) : start], words[end : end + NEAR]
    sigil = next((one for one in (written[:1], before[-1:]) if one in _SIGILS), "")
    before = before.removesuffix(sigil)
    stop = 1 if behind[:1] in _STOPS else 0  # American writers put it inside of the quotes
    quoted = before[-1:] + behind[stop : stop + 1] in _QUOTES and not (
        before[-1:] in _UPRIGHT and before[-2:-1].isalnum()
    )
    if quoted:
        before, behind = before[:-1], behind[stop + 1 :]
    near = _words_before(before)
    label = _LABEL.search(before)
    following = _NEXT.match(behind)
    return _Place(
        written=written,
        before=tuple(word.lower() for word in near),
        behind=behind,
        label=label[1].lower() if label and not behind.partition("\n")[0].strip() else "",
        amid=bool(
            (near and near[0][0].isupper() and not _starts_sentence(before.rstrip()[: -len(near[0])]))
            or (following and following[1][0].isupper() and following[1] != "I")
        ),
        opens=_starts_sentence(before),
        quoted=quoted,
        sigil=sigil,
        fits=fits,
    )


def _starts_sentence(before: str) -> bool:
    """Whether a sentence begins behind that text."""
    return before.rstrip(_OPENING)[-1:] in ("", *".!?:\n")


def _words_before(text: str) -> tuple[str, ...]:
    """The last words of a line, the nearest first; they end at punctuation."""
    line = text.rpartition("\n")[2]
    if not line.endswith(" "):
        return ()
    found: list[str] = []
    for piece in reversed(line.split()):
        bare = piece.lstrip("(\"'“‘«„")
        if len(found) == 5 or not _WORD.fullmatch(bare):
            break
        found.append(bare.replace("’", "'"))
        if bare != piece:
            break
    return tuple(found)


@lru_cache(maxsize=256)
def _words_for_kind(kind: str) -> frozenset[str]:
    """The words by which people speak of things of a kind."""
    own = kind.replace("_", "-").lower()
    return frozenset({own, own.rpartition("-")[2]}).union(*(family for family in FAMILIES if own in family))


@lru_cache(maxsize=16)
def _kinds_by_name(directory: frozenset[str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for resource in directory:
        kind, _, name = resource.partition(":")
        found.setdefault(name, set()).add(kind)
    return {name: frozenset(kinds) for name, kinds in found.items()}


def _listed_as_another_kind(kind: str, name: str, directory: Collection[str]) -> bool:
    """Whether the directory has the name, and only for things that are called by other words."""
    kinds = _kinds_by_name(frozenset(directory)).get(name, frozenset())
    return bool(kinds) and not any(_words_for_kind(one) & _words_for_kind(kind) for one in kinds)


# ------------------------------------------------------------------------------------------------- words for the kind


def _has_kind_word(place: _Place, name: str) -> bool:
    """Whether a word for its kind stands beside it, where such a word stands beside a name."""
    if place.quoted or place.sigil:
        return bool(
            {_singular(place.before[:1]), _singular(_noun_before_called(place)), _singular(_next_word(place.behind))}
            & place.fits
        )
    parts = {word.lower() for word in name.split()}
    if parts <= CONNECTING | CALENDAR:
        return False
    if place.label in place.fits or _kind_word_with_called(place, parts):
        return True
    if parts <= _NO_NAMES and (place.opens or not place.capital):
        return False
    return _kind_word_before(place, parts) or _kind_word_after(place, name) or _kind_word_inside(place, name)


def _noun_before_called(place: _Place) -> tuple[str, ...]:
    """In "the note that is called drafts": note."""
    if place.before[:1] and place.before[0] in CALLED:
        rest = [word for word in place.before[1:] if word not in ("is", "that", "which", "was")]
        return tuple(rest[:1])
    return ()


def _kind_word_with_called(place: _Place, parts: set[str]) -> bool:
    """As in "the note called drafts"; people and phones call too: "the colleague called home"."""
    noun = _noun_before_called(place)
    if _singular(noun) not in place.fits or not _phrase_ends(place):
        return False
    return place.capital or not (parts <= FOLLOWING or place.fits & PEOPLE)


def _kind_word_before(place: _Place, parts: set[str]) -> bool:
    """As in "on the list newsletter", "close ticket crossword", "the hotel Central"; not as in "the hotel room"."""
    noun, rest = place.before[0] if place.before else "", place.before[1:]
    if noun not in place.fits or not rest or not _phrase_ends(place):
        return False
    if rest[0] in PLACED or (rest[0] == "to" and noun not in VERBS_TOO):
        return True
    if parts <= PARTS and not place.capital:
        return False
    introduced = rest[1:] if rest[0] in DESCRIBING else rest
    if introduced and introduced[0] in DETERMINERS:
        return place.capital or bool(introduced[1:] and introduced[1] in PLACED | {"to"})
    return rest[0] in ACTS


def _kind_word_after(place: _Place, name: str) -> bool:
    """As in "the rent payee", "my old press calendar", "from summary channel"."""
    noun = _NEXT.match(place.behind)
    if (
        noun is None
        or noun[1].lower() not in place.fits
        or not _noun_phrase_ends(place.behind[noun.end() :], FOLLOWING)
    ):
        return False
    introduced = place.before[1:] if place.before[:1] and place.before[0] in DESCRIBING else place.before
    return bool(introduced) and _introduces_noun(introduced[0]) and not name.endswith("ed")


def _kind_word_inside(place: _Place, name: str) -> bool:
    """As in "the grand hotel" of a hotel that is called Grand Hotel."""
    parts = name.lower().split()
    if len(parts) < 2 or not place.before or not {parts[0], parts[-1]} & place.fits:
        return False
    rest = parts[:-1] if parts[-1] in place.fits else parts[1:]
    return _introduces_noun(place.before[0]) and not any(
        part in _NO_NAMES | PARTS or part.endswith("ed") for part in rest
    )


def _introduces_noun(word: str) -> bool:
    return word in DETERMINERS or word in PLACED or word.endswith(("'s", "s'"))


def _phrase_ends(place: _Place) -> bool:
    """Whether the name goes no further: the phrase ends, or what follows a name with a capital has none."""
    return _noun_phrase_ends(place.behind) or (place.capital and not place.amid)


def _noun_phrase_ends(behind: str, verbs: frozenset[str] = frozenset()) -> bool:
    """Whether a noun phrase ends there, be it before one of these verbs."""
    following = _NEXT.match(behind)
    return following is None or following[1].lower() in CONNECTING or following[1].lower() in verbs


def _means_another_kind(place: _Place) -> bool:
    """Whether a word beside it says that another kind of thing is meant, and none says that this one is."""
    nouns = [_singular(_noun_before_called(place)), _singular(_next_word(place.behind))]
    if place.before and (
        place.before[0] not in VERBS_TOO
        or (place.before[1:] and (_introduces_noun(place.before[1]) or place.before[1] in ACTS))
    ):
        nouns.append(_singular(place.before[:1]))
    known = [noun for noun in nouns if noun in _KIND_WORDS]
    return bool(known) and not any(noun in place.fits for noun in known)


def _next_word(behind: str) -> tuple[str, ...]:
    found = _NEXT.match(behind)
    return (found[1].lower(),) if found else ()


def _singular(nouns: tuple[str, ...]) -> str:
    """A noun without its plural's ending."""
    noun = nouns[0] if nouns else ""
    if noun in _KIND_WORDS or not noun.endswith("s"):
        return noun
    return f"{noun[:-3]}y" if noun.endswith("ies") else noun[:-1]


# ------------------------------------------------------------------------------------------------ without such a word


def _reads_as_name(place: _Place, kind: str, name: str) -> bool:
    """Whether it is written as a name is, so that it needs no word for its kind."""
    if _is_unambiguous(kind, name.lstrip("#@")):
        return True
    if place.sigil and any(map(str.isalpha, name)):
        return kind in _SIGILS[place.sigil] or kind not in _KIND_WORDS
    if place.quoted:
        return not (place.before and place.before[0] in CONTENT)
    return " " in name and _is_proper_name(place)


def _is_unambiguous(kind: str, name: str) -> bool:
    """Whether no text holds it by accident: it is an id, a path, or the name of a file with its ending."""
    if " " in name:
        return False
    if _DATE.fullmatch(name):
        return kind in _DATED
    if "/" in name:
        return kind == "file" or name.count("/") > 1
    return any(form.fullmatch(name) for form in (_FILE, _TICKET, _CODE, _DIGEST, _JOINED))


def _is_proper_name(place: _Place) -> bool:
    """Whether the user wrote it as a proper name of several words: all with capitals, and none more beside them."""
    parts = place.written.split()
    capitals = [part for part in parts if part[:1].isupper()]
    if place.opens or place.amid or len(capitals) < 2 or not (parts[0][:1].isupper() and parts[-1][:1].isupper()):
        return False
    if any(part not in capitals and part not in LINKING for part in parts):
        return False
    return not {part.lower() for part in parts} <= CONNECTING | CALENDAR
