"""`policies/content.toml`: what may not pass, as the reviewer writes it: phrases, and kinds of personal data.

A rule blocks a whole text or replaces what it found. Phrases are compared as a reader would: without regard to case, width,
invisible characters and the amount of space; there are no patterns of one's own, so no text can make a rule slow.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from remit.core import FrozenModel, Json, Problem, WorkspaceError, action_matches
from remit.core.parsing import Matching, Summary, TomlTable, load_toml, read_table, texts_of, toml_line
from remit.guardrails.redaction import replace_spans
from remit.guardrails.secret_formats import DETECTORS, OWN

CONTENT: Final = "policies/content.toml"
CASES: Final = "policies/content_cases.yaml"
Where: TypeAlias = Literal["arguments", "result", "answer"]
Kind: TypeAlias = Literal["email", "phone", "iban", "card", "ip"]
Does: TypeAlias = Literal["block", "redact"]

_CANDIDATES: Final[Mapping[str, str]] = {
    "email": r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}",
    "phone": r"(?<![\w.+])\+[0-9](?:[ ()./-]{0,2}[0-9]){7,14}(?!\w)",
    "iban": r"(?<!\w)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}(?!\w)",
    "card": r"(?<![\w.-])[0-9](?:[ -]?[0-9]){12,18}(?![\w.-])",
    "ip": r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])",
}


class _Rule(TomlTable):
    note: Summary
    where: Annotated[list[Where], Field(min_length=1)] = ["result", "answer"]
    actions: list[
        Annotated[str, Matching(r"[a-z][a-z0-9_]*\.(?:\*|[a-z][a-z0-9_]*)", "an action", 'write "mail.*"')]
    ] = []


class PhraseTable(_Rule):
    """Texts that may not pass."""

    text: Annotated[list[str], Field(min_length=1)]
    do: Does = "block"


class PersonalTable(_Rule):
    """Kinds of personal data. `except`: values, or ends of values as "@example.com", that may pass."""

    kinds: Annotated[list[Kind], Field(min_length=1)]
    do: Does = "redact"
    but: list[str] = Field(default=[], alias="except")


class SecretsTable(TomlTable):
    """Detectors of secrets that are not used here, because they find too much."""

    off: list[str] = []


class ContentTable(TomlTable):
    """The file."""

    secrets: SecretsTable = SecretsTable()
    phrase: list[PhraseTable] = []
    personal: list[PersonalTable] = []


class ContentRule(FrozenModel):
    """One rule. `phrases` are folded for comparison; `actions` empty: every action."""

    note: str
    where: tuple[Where, ...]
    do: Does
    actions: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    but: tuple[str, ...] = ()

    def covers(self, where: Where, action: str) -> bool:
        """Whether it looks at texts that go there, in a call of that action ("" for none)."""
        return where in self.where and (not self.actions or any(action_matches(action, one) for one in self.actions))

    def found(self, text: str) -> list[tuple[int, int, str]]:
        """What it finds: where, and how to call it."""
        spans = [(start, end, "blocked") for phrase in self.phrases for start, end in _phrases(phrase, text)]
        for kind in self.kinds:
            for match in re.finditer(_CANDIDATES[kind], text):
                if _CHECKS[kind](match.group()) and not match.group().endswith(self.but):
                    spans.append((*match.span(), kind))
        return spans


class Content(FrozenModel):
    """All rules, and the detectors of secrets that are off."""

    rules: tuple[ContentRule, ...] = ()
    off: tuple[str, ...] = ()

    def blocked(self, value: Json, where: Where, action: str = "") -> str | None:
        """The note of the first rule that lets none of it pass, also where it is spread over several strings; None: none."""
        rules = [rule for rule in self.rules if rule.do == "block" and rule.covers(where, action)]
        if not rules:
            return None
        leaves = texts_of(value)
        texts = [*leaves, "".join(leaves), " ".join(leaves)]
        return next((rule.note for rule in rules if any(rule.find(text) for text in texts)), None)

    def replaced(self, text: str, where: Where, action: str = "") -> str:
        """The text with what `redact` rules find replaced by `[email removed]`."""
        pieces = (
            (start, end, f"[{'phrase' if name == 'blocked' else name} removed]")
            for rule in self.rules
            if rule.do == "redact" and rule.covers(where, action)
            for start, end, name in rule.find(text)
        )
        return replace_spans(text, pieces)


def read_content(text: str) -> Content:
    """The rules of the file.

    Raises:
        WorkspaceError: with every problem, its line and what to write.
    """
    table, problems = read_table(ContentTable, load_toml(text, file=CONTENT), file=CONTENT, text=text)
    found = table or ContentTable()
    rules: list[ContentRule] = []
    given: list[tuple[str, int, PhraseTable | PersonalTable]] = [
        *(("phrase", number, one) for number, one in enumerate(found.phrase)),
        *(("personal", number, one) for number, one in enumerate(found.personal)),
    ]
    for room, number, one in given:
        problems += _rule_problems(text, (room, str(number)), one)
        rules.append(_rule(one))
    for number, name in enumerate(found.secrets.off):
        if name not in OWN and name not in DETECTORS:
            known = ", ".join(sorted({*OWN, *DETECTORS}))
            at = toml_line(text, "secrets", "off", str(number))
            problems.append(Problem(file=CONTENT, line=at, what=f"no detector is {name!r}", fix=f"name one of {known}"))
    if problems:
        raise WorkspaceError(problems)
    return Content(rules=tuple(rules), off=tuple(found.secrets.off))


def _rule(one: PhraseTable | PersonalTable) -> ContentRule:
    rule = ContentRule(note=one.note, where=tuple(one.where), do=one.do, actions=tuple(one.actions))
    if isinstance(one, PhraseTable):
        return rule.model_copy(update={"phrases": tuple(folded(text) for text in one.text)})
    return rule.model_copy(update={"kinds": tuple(one.kinds), "but": tuple(one.but)})


def _rule_problems(text: str, at: tuple[str, ...], one: PhraseTable | PersonalTable) -> Iterator[Problem]:
    if "arguments" in one.where and one.do == "redact":
        what = "arguments cannot be replaced: a tool would get what nobody asked for"
        yield Problem(file=CONTENT, line=toml_line(text, *at, "do"), what=what, fix='write do = "block"')
    for number, phrase in enumerate(one.text if isinstance(one, PhraseTable) else ()):
        if len(folded(phrase)) < 3:
            line = toml_line(text, *at, "text", str(number))
            yield Problem(file=CONTENT, line=line, what=f"{phrase!r} is in half of all texts", fix="write more of it")


def folded(text: str) -> str:
    """The text as it is compared: one case, one width, nothing invisible, single spaces."""
    return " ".join("".join(_fold(character) for character in text).split())


def _fold(character: str) -> str:
    if unicodedata.category(character) in ("Cf", "Cc", "Mn") and not character.isspace():
        return ""
    return unicodedata.normalize("NFKC", character).casefold()


def _phrases(phrase: str, text: str) -> Iterator[tuple[int, int]]:
    """Where the folded phrase stands in the text, by the text's own places."""
    if phrase not in folded(text):
        return
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for letter in _fold(character):
            if letter.isspace() and (not letters or letters[-1] == " "):
                continue
            letters.append(" " if letter.isspace() else letter)
            places.append(place)
    joined = "".join(letters)
    at = joined.find(phrase)
    while at >= 0:
        yield places[at], places[at + len(phrase) - 1] + 1
        at = joined.find(phrase, at + len(phrase))


def _is_iban(text: str) -> bool:
    """ISO 13616: moved and read as a number, it is 1 modulo 97."""
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _is_card(text: str) -> bool:
    """ISO/IEC 7812: the Luhn check."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    return sum(sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(digits)) % 10 == 0


_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "email": lambda text: True,
    "phone": lambda text: True,
    "iban": _is_iban,
    "card": _is_card,
    "ip": lambda text: all(int(part) < 256 for part in text.split(".")),
}
