"""Content rules of `policies/content.toml`: phrases and kinds of personal data that texts may not contain.

A rule blocks the whole text or replaces each match. Phrases are compared without regard to case, width, invisible characters
and the amount of space. Rules cannot contain regular expressions, so no text can make a rule slow.
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
    where: Annotated[list[Where], Field(min_length=1)] = Field(
        default=["result", "answer"], description="The texts that are checked"
    )
    actions: list[
        Annotated[str, Matching(r"[a-z][a-z0-9_]*\.(?:\*|[a-z][a-z0-9_]*)", "an action", 'write "mail.*"')]
    ] = Field(default=[], description='Actions of the calls: ["mail.*"]; empty: every action')


class PhraseTable(_Rule):
    """Phrases that a text may not contain."""

    text: Annotated[list[str], Field(min_length=1)] = Field(description="The phrases, of 3 characters or more")
    do: Does = Field(default="block", description="Refuse the whole text, or replace each match")


class PersonalTable(_Rule):
    """Kinds of personal data. `except` lists values, or endings such as "@example.com", that are allowed."""

    kinds: Annotated[list[Kind], Field(min_length=1)] = Field(description="The kinds of data")
    do: Does = Field(default="redact", description="Refuse the whole text, or replace each match")
    but: list[str] = Field(default=[], alias="except", description='Values, or endings: ["@example.com"]')


class SecretsTable(TomlTable):
    """Detectors of secrets that are turned off in this workspace, because they match too much."""

    off: list[str] = Field(default=[], description="Names of detectors")


class ContentTable(TomlTable):
    """The whole file."""

    secrets: SecretsTable = SecretsTable()
    phrase: list[PhraseTable] = Field(default=[], description="One table for each rule on phrases")
    personal: list[PersonalTable] = Field(default=[], description="One table for each rule on personal data")


class ContentRule(FrozenModel):
    """One rule. `phrases` are normalized for comparison; no `actions` means every action."""

    note: str
    where: tuple[Where, ...]
    do: Does
    actions: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    but: tuple[str, ...] = ()

    def covers(self, where: Where, action: str) -> bool:
        """True if the rule applies to texts of that kind in a call of that action ("" for a text outside of a call)."""
        return where in self.where and (not self.actions or any(action_matches(action, one) for one in self.actions))

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """The matches in the text: start, end, and the kind (`blocked` for a phrase)."""
        spans = [(start, end, "blocked") for phrase in self.phrases for start, end in _phrases(phrase, text)]
        for kind in self.kinds:
            for match in re.finditer(_CANDIDATES[kind], text):
                if _CHECKS[kind](match.group()) and not match.group().endswith(self.but):
                    spans.append((*match.span(), kind))
        return spans


class Content(FrozenModel):
    """All content rules, and the names of the secret detectors that are turned off."""

    rules: tuple[ContentRule, ...] = ()
    off: tuple[str, ...] = ()

    def blocked(self, value: Json, where: Where, action: str = "") -> str | None:
        """The note of the first rule that blocks the value; None if no rule does."""
        rules = [rule for rule in self.rules if rule.do == "block" and rule.covers(where, action)]
        if not rules:
            return None
        leaves = texts_of(value)
        # A phrase that is split over several strings is found in their concatenation.
        texts = [*leaves, "".join(leaves), " ".join(leaves)]
        return next((rule.note for rule in rules if any(rule.find(text) for text in texts)), None)

    def redact(self, text: str, where: Where, action: str = "") -> str:
        """The text with each match of a `redact` rule replaced, for example by `[email removed]`."""
        pieces = (
            (start, end, f"[{'phrase' if name == 'blocked' else name} removed]")
            for rule in self.rules
            if rule.do == "redact" and rule.covers(where, action)
            for start, end, name in rule.find(text)
        )
        return replace_spans(text, pieces)


def read_content(text: str) -> Content:
    """Parse the text of `policies/content.toml`.

    Raises:
        WorkspaceError: the file is not valid; it lists every problem with its line and its fix.
    """
    table, problems = read_table(ContentTable, load_toml(text, file=CONTENT), file=CONTENT, text=text)
    parsed = table or ContentTable()
    rules: list[ContentRule] = []
    entries: list[tuple[str, int, PhraseTable | PersonalTable]] = [
        *(("phrase", number, entry) for number, entry in enumerate(parsed.phrase)),
        *(("personal", number, entry) for number, entry in enumerate(parsed.personal)),
    ]
    for table_name, number, entry in entries:
        problems += _rule_problems(text, (table_name, str(number)), entry)
        rules.append(_rule(entry))
    for number, name in enumerate(parsed.secrets.off):
        if name not in OWN and name not in DETECTORS:
            known = ", ".join(sorted({*OWN, *DETECTORS}))
            at = toml_line(text, "secrets", "off", str(number))
            problems.append(
                Problem(file=CONTENT, line=at, what=f"unknown detector {name!r}", fix=f"use one of {known}")
            )
    if problems:
        raise WorkspaceError(problems)
    return Content(rules=tuple(rules), off=tuple(parsed.secrets.off))


def _rule(entry: PhraseTable | PersonalTable) -> ContentRule:
    rule = ContentRule(note=entry.note, where=tuple(entry.where), do=entry.do, actions=tuple(entry.actions))
    if isinstance(entry, PhraseTable):
        return rule.model_copy(update={"phrases": tuple(folded(text) for text in entry.text)})
    return rule.model_copy(update={"kinds": tuple(entry.kinds), "but": tuple(entry.but)})


def _rule_problems(text: str, at: tuple[str, ...], entry: PhraseTable | PersonalTable) -> Iterator[Problem]:
    if "arguments" in entry.where and entry.do == "redact":
        what = "a rule on arguments cannot redact: the tool would run with changed arguments"
        yield Problem(file=CONTENT, line=toml_line(text, *at, "do"), what=what, fix='write do = "block"')
    for number, phrase in enumerate(entry.text if isinstance(entry, PhraseTable) else ()):
        if len(folded(phrase)) < 3:
            line = toml_line(text, *at, "text", str(number))
            yield Problem(
                file=CONTENT,
                line=line,
                what=f"phrase {phrase!r} has fewer than 3 characters",
                fix="write a longer phrase",
            )


def folded(text: str) -> str:
    """The text normalized for comparison: one case, one width, no invisible characters, single spaces."""
    return " ".join("".join(_fold(character) for character in text).split())


def _fold(character: str) -> str:
    if unicodedata.category(character) in ("Cf", "Cc", "Mn") and not character.isspace():
        return ""
    return unicodedata.normalize("NFKC", character).casefold()


def _phrases(phrase: str, text: str) -> Iterator[tuple[int, int]]:
    """The positions of a normalized phrase, as offsets in the original text."""
    if phrase not in folded(text):  # fast: most texts do not contain the phrase
        return
    # Normalizing changes lengths, so each normalized letter keeps the offset of the character that it came from.
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
    """True if the check digits are valid (ISO 13616: rearranged and read as a number, the rest modulo 97 is 1)."""
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _is_card(text: str) -> bool:
    """True if the Luhn check digit is valid (ISO/IEC 7812)."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    return sum(sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(digits)) % 10 == 0


_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "email": lambda text: True,
    "phone": lambda text: True,
    "iban": _is_iban,
    "card": _is_card,
    "ip": lambda text: all(int(part) < 256 for part in text.split(".")),
}
