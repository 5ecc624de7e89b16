"""What an approver reads: rendered from the canonical call, never from words of the model about it.

Whatever a reader could overlook or mistake is written out: invisible, confusable and control characters as `\\u{…}`, long
values by both ends, their length and digest, and what cannot be read at all is said to be so.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from remit.core import Call, Decision, Json
from remit.core.parsing import canonical_json
from remit.guardrails import Sanitizer

LONGEST: Final = 400  # characters of one value that are shown whole
MOST: Final = 40  # arguments, and resources, of one call
WIDTH: Final = 72  # columns of a line
NARROWEST: Final = 20
GUTTER: Final = "  ┆ "  # begins each line that continues the one before
GUTTER_COLUMNS: Final = 5  # the mark is two columns wide on some terminals
_ENDS: Final = (240, 80)  # characters at its beginning and its end that are shown of a longer one
_OPAQUE: Final = 120  # characters without a space that nobody reads, as base64 has them
_STACKED: Final = 2  # combining marks on one letter that a language has use for

EFFECTS: Final = {
    "read": "only reads",
    "idempotent": "may be repeated without harm",
    "keyed": "changes something, once under its key",
    "once": "cannot be undone",
}
# Scripts whose letters can be taken for Latin ones, and those letters (Unicode TS 39, confusables to ASCII).
_CONFUSABLE: Final = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"})
_LOOKALIKE: Final = frozenset("асԁеҽһіјӏոорԛгѕսѵѡхуұʏАВСЕНІЈКМОРЅТѴХУҮԜԚαγεηικνορστυωχΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϳօսցհզքՕՏՍ")
_SPACES = re.compile(" {2,}")
_WORD = re.compile(r"\w+")
_TEXT = re.compile(r"\S+")


def approval_summary(call: Call, decision: Decision, sanitizer: Sanitizer, *, whole: bool = False) -> str:
    """Everything that is decided about the call, one thing a line. `whole`: values are not folded."""
    tidy = _Tidy(sanitizer, whole)
    arguments: Mapping[str, Json] = sanitizer.arguments(
        call.arguments
    )  # as a whole: a name can make its value a secret
    lines = [
        plain(f"{call.action} as {call.subjects.agent} for {call.subjects.user}"),
        *tidy.listed([f"  {plain(name)} = {tidy.value(value)}" for name, value in sorted(arguments.items())]),
        *tidy.listed([f"  touches {touch.access} {plain(touch.resource)}" for touch in call.touches]),
        f"  {EFFECTS[call.effect]}",
        *(
            f"  asked by {rule.file}:{rule.line} {plain(sanitizer.text(rule.note or rule.text))}"
            for rule in decision.rules
        ),
        *(f"  {plain(name)} is {tidy.value(value)}" for name, value in sorted(shown_facts(decision.facts).items())),
    ]
    return wrapped("\n".join(lines))


def wrapped(text: str, width: int = WIDTH) -> str:
    """The text in lines of at most so many columns. A line that goes on begins with `GUTTER`, so that no value can end where
    the terminal breaks it and begin a line that looks like one of ours."""
    return "\n".join(piece for line in text.split("\n") for piece in _split_line(line, max(width, NARROWEST)))


def _split_line(line: str, width: int) -> list[str]:
    pieces, used = [""], 0
    for character in line:
        columns = 2 if unicodedata.east_asian_width(character) in "WFA" else 1
        if used + columns > width:
            pieces.append(GUTTER)
            used = GUTTER_COLUMNS
        pieces[-1] += character
        used += columns
    return pieces


def shown_facts(facts: Mapping[str, Json]) -> dict[str, Json]:
    """The facts that an approval stands on: what rules read of the run. The call's own arguments are bound as they are;
    approvals are what is asked for, and time goes on."""
    return {
        name: value
        for name, value in facts.items()
        if not name.startswith(("approv", "args.", "len(")) and name != "time"
    }


def plain(text: str) -> str:
    """One line in which every character is what it looks like, and several spaces are counted."""
    return _SPACES.sub(lambda found: f"\\u{{20}}×{len(found[0])}", _characters(text))


def _characters(text: str) -> str:
    words: list[str] = []
    at = 0
    for found in _WORD.finditer(text):
        words += [_escape_text(text[at : found.start()]), _escape_word(found.group())]
        at = found.end()
    return "".join([*words, _escape_text(text[at:])])


class _Tidy:
    def __init__(self, sanitizer: Sanitizer, whole: bool) -> None:
        self._sanitizer = sanitizer
        self._whole = whole

    def value(self, value: Json) -> str:
        """A value as JSON, folded where it is long."""
        written = self._sanitizer.text(canonical_json(value).decode())
        shown = plain(written)
        hidden = len(re.findall(r"\[redacted:[0-9a-f]{8}\]", written))
        notes = [f"{hidden} secret{'s' if hidden > 1 else ''} that nobody is shown"] if hidden else []
        opaque = max((len(word) for word in _TEXT.findall(written)), default=0)
        if opaque > _OPAQUE:
            notes.append(f"{opaque} characters without a space, which nobody can read")
        if len(shown) > LONGEST and not self._whole:
            head, tail = _ENDS
            digest = hashlib.sha256(canonical_json(value)).hexdigest()[:16]
            left = len(shown) - head - tail
            shown = f"{shown[:head]} …{left} more characters, of sha256 {digest}…… {shown[-tail:]}"
        return shown + (f"   ({'; '.join(notes)})" if notes else "")

    def listed(self, lines: list[str]) -> list[str]:
        more = len(lines) - MOST
        return lines if self._whole or more <= 0 else [*lines[:MOST], f"  … and {more} more: --full shows them"]


def _escape_word(word: str) -> str:
    if word.isascii():
        return word
    scripts = {_script(character) for character in word if character.isalpha()}
    mixed = "LATIN" in scripts and bool(scripts & _CONFUSABLE)
    posing = bool(scripts & _CONFUSABLE) and all(c in _LOOKALIKE or not c.isalpha() for c in word if not c.isascii())
    if mixed or posing:
        return "".join(c if c.isascii() else _escaped(c) for c in word)
    return _escape_text(word)


def _escape_text(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    stacked, shown = 0, list[str]()
    for character in text:
        stacked = stacked + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        shown.append(_escaped(character) if stacked > _STACKED or _deceives(character) else character)
    return "".join(shown)


def _deceives(character: str) -> bool:
    if character.isascii():
        return not character.isprintable()
    if unicodedata.category(character)[0] in "CZ" or character in "\u115f\u1160\u2800\u3164\uffa0\u034f":
        return True
    normal = unicodedata.normalize("NFKC", character)
    return normal != character and any(one.isascii() for one in normal)


def _script(character: str) -> str:
    return "LATIN" if character.isascii() else unicodedata.name(character, "?").partition(" ")[0]


def _escaped(character: str) -> str:
    return f"\\u{{{ord(character):x}}}"
