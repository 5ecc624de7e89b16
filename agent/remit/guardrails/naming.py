"""Decides if the user's words name a thing, or only contain the letters of its name.

An attacker who may choose a handle or the name of a channel can choose a word of the user's task: "summary", "today", "the".
An ordinary word therefore names a thing only with evidence next to it: a sigil (#summary, @numbers), a word for its kind
("the rent payee", "close ticket crossword"), or quotes; for a phrase also capitals ("Harbour View"). Evidence is typed:
"note 'inbox'" does not name a mailbox. A name that no text contains by accident needs no evidence: an id, a path, a file name.
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

NEAR: Final = 80  # characters before and after a name that are searched for evidence
MOST_PLACES: Final = 1000  # occurrences of one name that are examined; bounds the time
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
_UPRIGHT: Final = ("'", '"', "`", "’", "”")  # opening quotes that can also close or be an apostrophe, as in "don't"
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
# Kinds whose names are dates by nature, so that nobody can choose a misleading one.
_DATED: Final = frozenset({"birth", "birthday", "date", "day"})
_JOINED = re.compile(r"\w*[^\W_]_+[^\W_]\w*")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One occurrence of a name in the words, and the evidence around it."""

    written: str
    before: tuple[str, ...]  # the words before it in lower case, the nearest first, up to punctuation
    behind: str
    label: str  # "channel" if the line is "Channel: summary", else ""
    joined: bool  # a capitalized word is next to it, apart from the first word of a sentence
    first: bool  # it is the first word of its sentence, where every word has a capital
    quoted: bool
    sigil: str
    kind_words: frozenset[str]  # the words for the kind of thing that is looked for

    @property
    def capital(self) -> bool:
        return self.written[:1].isupper()


def names_thing(words: str, kind: str, name: str, directory: Collection[str] = ()) -> bool:
    """True if the words name the thing `name` of this kind.

    The directory adds evidence in both directions. A name that it lists for this kind is accepted. A name that it lists only
    for another kind needs a word for this kind next to it.
    """
    if not _occurs(words, name):
        return False
    listed = f"{kind}:{name}" in directory
    elsewhere = _listed_as_another_kind(kind, name, directory)
    for place in _occurrences(words, kind, name):
        if listed and (place.written == name or " " in name):
            return True
        if place.written not in (name, name.lower()) and f"{kind}:{place.written}" in directory:
            continue  # the directory lists this spelling as another thing, which differs only in case
        if _has_kind_word(place, name) or (
            not elsewhere and not _means_another_kind(place) and _reads_as_name(place, kind, name)
        ):
            return True
    return False


def names_person(words: str, kind: str, parts: Sequence[str]) -> bool:
    """True if the words contain a person's first and last name side by side, as one proper name."""
    if kind not in PEOPLE or len(parts) != 2:
        return False
    whole = " ".join(parts)
    return any(place.written == whole and _is_proper_name(place) for place in _occurrences(words, kind, whole))


def refers_by_alias(words: str, kind: str, alias: str, directory: Collection[str] = (), *, capital: bool) -> bool:
    """True if the words mention a thing by its alias of one word, which another person may have chosen.

    A name of anything in the directory is accepted; with `capital`, so is a word with a capital inside of a sentence.
    """
    if _is_unambiguous(kind, alias) or names_thing(words, kind, alias):
        return True
    known = alias in _kinds_by_name(frozenset(directory))
    return any(
        place.written == alias
        and (known or (capital and place.capital and not place.first and alias.lower() not in CONNECTING | CALENDAR))
        for place in _occurrences(words, kind, alias)
    )


def _occurs(words: str, name: str) -> bool:
    """Most names do not occur at all, and each name is a pattern of its own: building it costs fifty times as much as this."""
    return name.casefold() in words.casefold()


def _occurrences(words: str, kind: str, name: str) -> Iterator[_Place]:
    """The occurrences of the whole name: as it is or capitalized by the user, and a phrase in any case."""
    if not _occurs(words, name):
        return
    # The lookarounds exclude parts of longer names, paths, addresses and numbers with units.
    matches = re.finditer(
        rf"(?<![\w./:%+*-])(?<![\w.+-][@#]){re.escape(name)}(?![\w/@:%+*-]|\.\w)", words, re.IGNORECASE
    )
    kind_words = _words_for_kind(kind)
    for number, match in enumerate(matches):
        written = match.group()
        if number >= MOST_PLACES:
            return
        if written == name or written.lower() == name or " " in name:
            yield _occurrence(words, match.start(), match.end(), kind_words)


def _occurrence(words: str, start: int, end: int, kind_words: frozenset[str]) -> _Place:
    written, before, behind = words[start:end], words[max(0, start - NEAR) : start], words[end : end + NEAR]
    sigil = next((character for character in (written[:1], before[-1:]) if character in _SIGILS), "")
    before = before.removesuffix(sigil)
    stop = 1 if behind[:1] in _STOPS else 0  # American English puts punctuation inside of the quotes
    # A quote after a letter is an apostrophe or closes an earlier quotation, so it opens none here.
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
        joined=bool(
            (near and near[0][0].isupper() and not _starts_sentence(before.rstrip()[: -len(near[0])]))
            or (following and following[1][0].isupper() and following[1] != "I")
        ),
        first=_starts_sentence(before),
        quoted=quoted,
        sigil=sigil,
        kind_words=kind_words,
    )


def _starts_sentence(before: str) -> bool:
    """True if a sentence begins after that text."""
    return before.rstrip(_OPENING)[-1:] in ("", *".!?:\n")


def _words_before(text: str) -> tuple[str, ...]:
    """Up to five words at the end of a line, the nearest first; punctuation ends them."""
    line = text.rpartition("\n")[2]
    if not line.endswith(" "):
        return ()
    words: list[str] = []
    for piece in reversed(line.split()):
        bare = piece.lstrip("(\"'“‘«„")
        if len(words) == 5 or not _WORD.fullmatch(bare):
            break
        words.append(bare.replace("’", "'"))
        if bare != piece:
            break
    return tuple(words)


@lru_cache(maxsize=256)
def _words_for_kind(kind: str) -> frozenset[str]:
    """The words that people use for things of a kind: its own name, and the words of the families that contain it."""
    own = kind.replace("_", "-").lower()
    return frozenset({own, own.rpartition("-")[2]}).union(*(family for family in FAMILIES if own in family))


@lru_cache(maxsize=16)
def _kinds_by_name(directory: frozenset[str]) -> dict[str, frozenset[str]]:
    """The kinds of things that the directory lists under each name."""
    by_name: dict[str, set[str]] = {}
    for resource in directory:
        kind, _, name = resource.partition(":")
        by_name.setdefault(name, set()).add(kind)
    return {name: frozenset(kinds) for name, kinds in by_name.items()}


def _listed_as_another_kind(kind: str, name: str, directory: Collection[str]) -> bool:
    """True if the directory lists the name, but only for kinds that share no word with this kind."""
    kinds = _kinds_by_name(frozenset(directory)).get(name, frozenset())
    return bool(kinds) and not any(_words_for_kind(listed) & _words_for_kind(kind) for listed in kinds)


# ------------------------------------------------------------------------------------- evidence: a word for the kind


def _has_kind_word(place: _Place, name: str) -> bool:
    """True if a word for its kind is next to it, in a position where English puts it next to a name."""
    # Quotes or a sigil mark a name already, so a kind word next to it is enough in any position.
    if place.quoted or place.sigil:
        return bool(
            {_singular(place.before[:1]), _singular(_noun_before_called(place)), _singular(_next_word(place.behind))}
            & place.kind_words
        )
    parts = {word.lower() for word in name.split()}
    # "the channel on Monday": function words and days next to a kind word are grammar.
    if parts <= CONNECTING | CALENDAR:
        return False
    if place.label in place.kind_words or _kind_word_with_called(place, parts):
        return True
    # Words that commonly describe a thing need a capital, and one at the start of a sentence proves nothing.
    if parts <= _NO_NAMES and (place.first or not place.capital):
        return False
    return _kind_word_before(place, parts) or _kind_word_after(place, name) or _kind_word_inside(place, name)


def _noun_before_called(place: _Place) -> tuple[str, ...]:
    """The noun before "called" or a synonym: "note" in "the note that is called drafts"."""
    if place.before[:1] and place.before[0] in CALLED:
        rest = [word for word in place.before[1:] if word not in ("is", "that", "which", "was")]
        return tuple(rest[:1])
    return ()


def _kind_word_with_called(place: _Place, parts: set[str]) -> bool:
    """True for "the note called drafts". People also call each other, as in "the colleague called home", so they need a capital."""
    noun = _noun_before_called(place)
    if _singular(noun) not in place.kind_words or not _phrase_ends(place):
        return False
    return place.capital or not (parts <= FOLLOWING or place.kind_words & PEOPLE)


def _kind_word_before(place: _Place, parts: set[str]) -> bool:
    """True for "on the list newsletter", "close ticket crossword" and "the hotel Central"; False for "the hotel lobby"."""
    noun, rest = place.before[0] if place.before else "", place.before[1:]
    if noun not in place.kind_words or not rest or not _phrase_ends(place):
        return False
    # A preposition right before the kind word ("in channel x") leaves only the name after it. "to note x" can be a verb.
    if rest[0] in PLACED or (rest[0] == "to" and noun not in VERBS_TOO):
        return True
    # "the hotel lobby" mentions a part of the hotel.
    if parts <= PARTS and not place.capital:
        return False
    introduced = rest[1:] if rest[0] in DESCRIBING else rest
    if introduced and introduced[0] in DETERMINERS:
        return place.capital or bool(introduced[1:] and introduced[1] in PLACED | {"to"})
    return rest[0] in ACTS


def _kind_word_after(place: _Place, name: str) -> bool:
    """True for "the rent payee", "my old press calendar" and "from summary channel"."""
    noun = _NEXT.match(place.behind)
    if (
        noun is None
        or noun[1].lower() not in place.kind_words
        or not _noun_phrase_ends(place.behind[noun.end() :], FOLLOWING)
    ):
        return False
    introduced = place.before[1:] if place.before[:1] and place.before[0] in DESCRIBING else place.before
    # "the closed account": a participle describes the thing and is not its name.
    return bool(introduced) and _introduces_noun(introduced[0]) and not name.endswith("ed")


def _kind_word_inside(place: _Place, name: str) -> bool:
    """True for "the grand hotel" if the name is Grand Hotel, so that the kind word is a part of the name."""
    parts = name.lower().split()
    if len(parts) < 2 or not place.before or not {parts[0], parts[-1]} & place.kind_words:
        return False
    rest = parts[:-1] if parts[-1] in place.kind_words else parts[1:]
    return _introduces_noun(place.before[0]) and not any(
        part in _NO_NAMES | PARTS or part.endswith("ed") for part in rest
    )


def _introduces_noun(word: str) -> bool:
    """True for an article, a possessive or a preposition, after which a noun phrase begins."""
    return word in DETERMINERS or word in PLACED or word.endswith(("'s", "s'"))


def _phrase_ends(place: _Place) -> bool:
    """True if the name ends here: the noun phrase ends, or a capitalized name is followed by a word without a capital."""
    return _noun_phrase_ends(place.behind) or (place.capital and not place.joined)


def _noun_phrase_ends(behind: str, verbs: frozenset[str] = frozenset()) -> bool:
    """True if the noun phrase ends before that text: at punctuation, a function word, or one of `verbs`."""
    following = _NEXT.match(behind)
    return following is None or following[1].lower() in CONNECTING or following[1].lower() in verbs


def _means_another_kind(place: _Place) -> bool:
    """True if a word next to it names another kind of thing, and none names this kind."""
    nouns = [_singular(_noun_before_called(place)), _singular(_next_word(place.behind))]
    # "note", "order" and the like are verbs too; they count as a noun only after a word that introduces one.
    if place.before and (
        place.before[0] not in VERBS_TOO
        or (place.before[1:] and (_introduces_noun(place.before[1]) or place.before[1] in ACTS))
    ):
        nouns.append(_singular(place.before[:1]))
    known = [noun for noun in nouns if noun in _KIND_WORDS]
    return bool(known) and not any(noun in place.kind_words for noun in known)


def _next_word(behind: str) -> tuple[str, ...]:
    match = _NEXT.match(behind)
    return (match[1].lower(),) if match else ()


def _singular(nouns: tuple[str, ...]) -> str:
    """The first noun in the singular; "" if there is none."""
    noun = nouns[0] if nouns else ""
    if noun in _KIND_WORDS or not noun.endswith("s"):
        return noun
    return f"{noun[:-3]}y" if noun.endswith("ies") else noun[:-1]


# ---------------------------------------------------------------------------------- evidence: the form of the name


def _reads_as_name(place: _Place, kind: str, name: str) -> bool:
    """True if it is written as a name, so that it needs no word for its kind."""
    if _is_unambiguous(kind, name.lstrip("#@")):
        return True
    # A sigil names the kinds that use it ("#" channels and tags, "@" people and accounts), and kinds that have no word.
    if place.sigil and any(map(str.isalpha, name)):
        return kind in _SIGILS[place.sigil] or kind not in _KIND_WORDS
    # "write 'summary'" quotes a text and not a name.
    if place.quoted:
        return not (place.before and place.before[0] in CONTENT)
    return " " in name and _is_proper_name(place)


def _is_unambiguous(kind: str, name: str) -> bool:
    """True if no text contains the name by accident: an id, a path, or a file name with its extension."""
    if " " in name:
        return False
    if _DATE.fullmatch(name):
        return kind in _DATED
    if "/" in name:
        return kind == "file" or name.count("/") > 1
    return any(form.fullmatch(name) for form in (_FILE, _TICKET, _CODE, _DIGEST, _JOINED))


def _is_proper_name(place: _Place) -> bool:
    """True for a proper name of several words: all capitalized, and no further capitalized word next to it."""
    parts = place.written.split()
    capitals = [part for part in parts if part[:1].isupper()]
    if place.first or place.joined or len(capitals) < 2 or not (parts[0][:1].isupper() and parts[-1][:1].isupper()):
        return False
    if any(part not in capitals and part not in LINKING for part in parts):
        return False
    return not {part.lower() for part in parts} <= CONNECTING | CALENDAR
