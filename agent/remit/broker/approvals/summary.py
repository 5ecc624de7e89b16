"""The text that an approver reads. It is rendered from the canonical call, and never from a description by the model.

Invisible, confusable and control characters are escaped as `\\u{…}`. Long values show both ends, their length and their digest.
Values that nobody can read are marked.
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

LONGEST: Final = 400  # characters; a longer value is shortened
MOST: Final = 40  # arguments, and resources, of one call that are shown
WIDTH: Final = 72  # columns of a line
NARROWEST: Final = 20
GUTTER: Final = "  ┆ "  # begins each continuation line
GUTTER_COLUMNS: Final = 5  # the mark is two columns wide on some terminals
_ENDS: Final = (240, 80)  # characters at the beginning and at the end of a shortened value
_OPAQUE: Final = 120  # characters without a space; a longer word, such as base64, is not readable
_STACKED: Final = 2  # combining marks on one letter; languages need no more

ACCESSES: Final = {"read": "reads", "write": "writes", "use": "uses"}
EFFECTS: Final = {
    "read": "This call only reads.",
    "idempotent": "This call changes something. Running it twice has the same effect as once.",
    "keyed": "This call changes something. Its key prevents a second effect.",
    "once": "This call cannot be undone.",
}
# Scripts with letters that look like Latin letters, and those letters (Unicode TS 39, confusables to ASCII).
_CONFUSABLE: Final = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"})
_LOOKALIKE: Final = frozenset("асԁеҽһіјӏոорԛгѕսѵѡхуұʏАВСЕНІЈКМОРЅТѴХУҮԜԚαγεηικνορστυωχΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϳօսցհզքՕՏՍ")
_SPACES = re.compile(" {2,}")
_WORD = re.compile(r"\w+")
_TEXT = re.compile(r"\S+")


def approval_summary(call: Call, decision: Decision, sanitizer: Sanitizer, *, whole: bool = False) -> str:
    """Everything that the approval is for, one item on a line. With `whole`, values are not shortened."""
    tidy = _Tidy(sanitizer, whole)
    # Redacted together, because the name of an argument can mark its value as a secret.
    arguments: Mapping[str, Json] = sanitizer.arguments(call.arguments)
    lines = [
        plain(f"{call.action}, called by {call.subjects.agent} for {call.subjects.user}"),
        *tidy.listed([f"  {plain(name)} = {tidy.value(value)}" for name, value in sorted(arguments.items())]),
        *tidy.listed([f"  {ACCESSES[touch.access]} {plain(touch.resource)}" for touch in call.touches]),
        f"  {EFFECTS[call.effect]}",
        *(
            f"  Approval is required by {rule.file}:{rule.line}: {plain(sanitizer.text(rule.note or rule.text))}"
            for rule in decision.rules
        ),
        *(
            f"  fact: {plain(name)} = {tidy.value(value)}"
            for name, value in sorted(shown_facts(decision.facts).items())
        ),
    ]
    return wrapped("\n".join(lines))


def wrapped(text: str, width: int = WIDTH) -> str:
    """The text in lines of at most `width` columns. Each continuation line begins with `GUTTER`.

    Without that mark, a value could be padded so that its rest begins a line and looks like a line of the summary.
    """
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
    """The facts about the run that an approval depends on.

    Left out are the arguments, which the request digest covers; approvals, which are requested here; and the time of day.
    """
    return {
        name: value
        for name, value in facts.items()
        if not name.startswith(("approv", "args.", "len(")) and name != "time"
    }


def plain(text: str) -> str:
    """The text in one line: deceptive characters are escaped, and several spaces are written with their number."""
    return _SPACES.sub(lambda match: f"\\u{{20}}×{len(match[0])}", _escape(text))


def _escape(text: str) -> str:
    pieces: list[str] = []
    at = 0
    for match in _WORD.finditer(text):
        pieces += [_escape_text(text[at : match.start()]), _escape_word(match.group())]
        at = match.end()
    return "".join([*pieces, _escape_text(text[at:])])


class _Tidy:
    def __init__(self, sanitizer: Sanitizer, whole: bool) -> None:
        self._sanitizer = sanitizer
        self._whole = whole

    def value(self, value: Json) -> str:
        """A value as JSON; a long one is shortened."""
        written = self._sanitizer.text(canonical_json(value).decode())
        shown = plain(written)
        hidden = len(re.findall(r"\[redacted:[0-9a-f]{8}\]", written))
        notes = [f"contains {hidden} hidden secret{'s' if hidden > 1 else ''}"] if hidden else []
        opaque = max((len(word) for word in _TEXT.findall(written)), default=0)
        if opaque > _OPAQUE:
            notes.append(f"not readable: {opaque} characters without a space")
        if len(shown) > LONGEST and not self._whole:
            head, tail = _ENDS
            digest = hashlib.sha256(canonical_json(value)).hexdigest()[:16]
            left = len(shown) - head - tail
            shown = f"{shown[:head]} …{left} characters left out, sha256 {digest}…… {shown[-tail:]}"
        return shown + (f"   ({'; '.join(notes)})" if notes else "")

    def listed(self, lines: list[str]) -> list[str]:
        more = len(lines) - MOST
        return lines if self._whole or more <= 0 else [*lines[:MOST], f"  … and {more} more: --full shows them"]


def _escape_word(word: str) -> str:
    """Escape the letters of a word that mixes Latin with a confusable script, or consists only of lookalike letters."""
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
