"""The claims of a grounded answer, checked against the passages that the run retrieved, and nothing else.

A claim is `{"claim": …, "quote": …, "citation": …}`. The citation names one passage: by its place, `{"call": "0.0", "item": 1,
"section": …}`, where items of a result count from 1, or by `document`, `version`, `section`, `span` and `digest`. Each
member that it has must be that of the passage.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cached_property
from typing import Final, cast

from remit.core import AnswerCode, AnswerProblem, Json, Passage, Retrieved, Source
from remit.guardrails.grounding.numbers import QUALIFIERS, UNITS, Number, Value, numbers_of, units_in
from remit.guardrails.grounding.quotes import SHORTEST_QUOTE, place_of, single_spaced
from remit.guardrails.naming_words import CONNECTING
from remit.guardrails.provenance import find_mentions

MOST_CLAIMS: Final = 50
LONGEST_TEXT: Final = 4000  # characters of a claim, and of a quote
NANO: Final = 10**9

_BY_PLACE: Final = frozenset(("call", "item", "section"))
_BY_NAME: Final = ("document", "version", "section", "span", "digest")
_CODES: Final[Mapping[str, AnswerCode]] = {
    "document": "not_retrieved",
    "version": "wrong_version",
    "section": "wrong_section",
    "span": "wrong_span",
    "digest": "wrong_digest",
}
_WORD = re.compile(r"[^\W\d_]{3,}")
_SHOWN: Final = 5  # names in a message


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """A claim of valid form. `number` counts from 1."""

    number: int
    words: str
    quote: str
    citation: Mapping[str, Json]


@dataclass(frozen=True)
class _Grounded:
    """A claim, the passage that it cites, and the numbers of its quote there."""

    claim: _Claim
    passage: Passage
    numbers: Sequence[Number]

    @cached_property
    def topic_words(self) -> frozenset[str]:
        """The words of three letters or more of the quote, without connecting words and units."""
        return frozenset(_WORD.findall(self.claim.quote.casefold())) - CONNECTING - UNITS.keys() - QUALIFIERS

    @cached_property
    def headings(self) -> frozenset[str]:
        """The last heading above the passage, and the title of its document."""
        last = self.passage.source.citation.section.rpartition(">")[2]
        return frozenset(filter(None, (single_spaced(text).casefold() for text in (last, self.passage.title))))


class Grounding:
    """The check of one list of claims.

    INVARIANT: no message contains words of a passage or of its citation. The model reads messages as Remit's own words, and the
    author of a document could speak to it with them.
    """

    def __init__(self, claims: Json, retrieved: Retrieved) -> None:
        self._retrieved = retrieved
        self._numbers: dict[Passage, tuple[str, list[Number]]] = {}
        self._latest = _latest(retrieved.passages)
        self.problems: list[AnswerProblem] = []
        self._found: list[_Grounded] = []
        self._check(claims)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The source of each claim, in their order; complete if there are no problems."""
        return tuple(found.passage.source for found in self._found)

    def _check(self, claims: Json) -> None:
        if not isinstance(claims, list) or len(cast("Sequence[Json]", claims)) > MOST_CLAIMS:
            self._add("invalid_claims", f'"claims" is not a list of at most {MOST_CLAIMS} claims')
            return
        if not claims and not self._retrieved.searched:
            what = '"claims" is empty, and no search of this run has a result or ended with nothing_found: search again'
            self._add("nothing_searched", what)
        for number, value in enumerate(cast("Sequence[Json]", claims), start=1):
            if (claim := self._read(number, value)) is None or (passage := self._cited(claim)) is None:
                continue
            self._check_source(claim, passage)
            if (numbers := self._quoted(claim, passage)) is not None:
                self._check_numbers(claim, numbers)
                self._check_names(claim)
                self._found.append(_Grounded(claim, passage, numbers))
        self._check_together()

    def _add(self, code: AnswerCode, message: str) -> None:
        self.problems.append(AnswerProblem(code=code, message=message))

    def _read(self, number: int, value: Json) -> _Claim | None:
        """The claim, if it has the right form."""
        members: dict[str, Json] = cast("dict[str, Json]", value) if isinstance(value, dict) else {}
        words, quote, given = (members.get(name) for name in ("claim", "quote", "citation"))
        citation: dict[str, Json] = cast("dict[str, Json]", given) if isinstance(given, dict) else {}
        if members.keys() != {"claim", "quote", "citation"} or not isinstance(words, str) or not isinstance(quote, str):
            what = 'must have the members "claim", "quote" and "citation", and no others'
        elif not (single_spaced(words) and single_spaced(quote)) or max(len(words), len(quote)) > LONGEST_TEXT:
            what = f'"claim" and "quote" must have words, and no more than {LONGEST_TEXT} characters'
        elif not (citation.keys() >= _BY_PLACE or citation.keys() >= set(_BY_NAME)):
            what = 'its "citation" must have the members "call", "item" and "section"'
        elif unknown := sorted(citation.keys() - {*_BY_PLACE, *_BY_NAME}):
            what = f'its "citation" has the unknown member {unknown[0][:40]!r}'
        elif not isinstance(citation.get("item", 1), int) or isinstance(citation.get("item"), bool):
            what = 'the "item" of its "citation" is not a whole number'
        else:
            return _Claim(number=number, words=single_spaced(words), quote=single_spaced(quote), citation=citation)
        self._add("invalid_claims", f"claim {number}: {what}")
        return None

    # ── one claim ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _cited(self, claim: _Claim) -> Passage | None:
        """The passage that the citation names. Of the same one in several results, the last."""
        cited, candidates = claim.citation, list(self._retrieved.passages)
        by_place = "call" in cited or "item" in cited
        if by_place:
            place = (cited.get("call"), cited.get("item"))
            candidates = [passage for passage in candidates if (passage.source.call, passage.source.item) == place]
            if not candidates:
                self._add("not_retrieved", f"claim {claim.number}: {self._no_item(place)}")
                return None
        for member in _BY_NAME:
            if member not in cited:
                continue
            known = [_member(passage, member) for passage in candidates]
            value = cited[member]
            given = single_spaced(value) if isinstance(value, str) else value
            candidates = [passage for passage, has in zip(candidates, known, strict=True) if has == given]
            if not candidates:
                code: AnswerCode = "wrong_document" if by_place and member == "document" else _CODES[member]
                where = f"item {cited.get('item')} of that call" if by_place else "any passage that the run retrieved"
                self._add(code, f'claim {claim.number}: its "{member}" is not that of {where}: copy it from the result')
                return None
        return candidates[-1]

    def _no_item(self, place: tuple[Json, Json]) -> str:
        call, item = place
        if isinstance(call, str) and isinstance(item, int) and (call, item) in self._retrieved.invalid:
            return f"item {item} of call {call} has no valid citation, so nothing can be taken from it"
        calls = list(dict.fromkeys(passage.source.call for passage in self._retrieved.passages))
        known = ", ".join(calls[-_SHOWN:]) or "none yet"
        return f"no result of this run has item {str(item)[:40]!r} of call {str(call)[:40]!r}; calls with passages are {known}"

    def _check_source(self, claim: _Claim, passage: Passage) -> None:
        """Whether the passage is still what the document says."""
        source, citation, where = passage.source, passage.source.citation, f"claim {claim.number}: "
        where += f"item {source.item} of call {source.call}"
        data = passage.text.encode(errors="surrogatepass")
        begin, end = citation.span
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != citation.digest or len(data) != end - begin:
            what = "has not the text that its digest names, because a part of it was removed or changed"
            self._add("source_changed", f"{where} {what}: cite another one")
        call, versions = self._latest[citation.document]
        if citation.version not in versions:
            self._add("source_changed", f"{where} was followed by another version in call {call}: cite that one")
        elif again := self._changed_since(passage):
            self._add("source_changed", f"{where} was returned by call {again.call} with other words: cite that one")
        if why := _not_in_force(passage, self._retrieved.at):
            self._add("not_in_force", f"{where} {why}: cite what is in force, or leave it out")

    def _changed_since(self, passage: Passage) -> Source | None:
        """The last result with the same part of the same version, if its words differ."""
        mine = passage.source.citation
        same = [
            other.source
            for other in self._retrieved.passages
            if (other.source.citation.document, other.source.citation.version, other.source.citation.span)
            == (mine.document, mine.version, mine.span)
        ]
        return same[-1] if same[-1].citation.digest != mine.digest else None

    def _quoted(self, claim: _Claim, passage: Passage) -> list[Number] | None:
        """The numbers of the quote where it stands in the passage; None if it is not there."""
        if passage not in self._numbers:
            text = single_spaced(passage.text)
            self._numbers[passage] = text, numbers_of(text)
        text, numbers = self._numbers[passage]
        short = len(claim.quote.encode(errors="replace")) < SHORTEST_QUOTE and claim.quote != text
        if short or (place := place_of(claim.quote, text, numbers)) is None:
            source = passage.source
            why = f"has less than {SHORTEST_QUOTE} bytes" if short else "is not there, word for word"
            what = f"its quote {why}: copy whole words from the text of item {source.item} of call {source.call}"
            self._add("quote_not_found", f"claim {claim.number}: {what}")
            return None
        return [number for number in numbers if place[0] <= number.start and number.end <= place[1]]

    def _check_numbers(self, claim: _Claim, quoted: Sequence[Number]) -> None:
        """Whether each number of the claim is in its quote."""
        units = units_in(claim.quote)
        for number in numbers_of(claim.words):
            if not number.weak and not any(number.states(other, units) for other in quoted):
                text = claim.words[number.start : number.end][:40]
                what = f"{text!r} is not in its quote: take numbers with their units from the quote, or quote the place"
                self._add("number_not_in_quote", f"claim {claim.number}: {what}")
                return

    def _check_names(self, claim: _Claim) -> None:
        """Whether each link, address and account number of the claim is in its quote."""
        mine, quoted = find_mentions(claim.words), find_mentions(claim.quote)
        kinds = {
            "a link": mine.links - quoted.links,
            "an address": mine.addresses - quoted.addresses,
            "an account or telephone number": mine.accounts - quoted.accounts,
        }
        if unknown := next((kind for kind, names in kinds.items() if names), None):
            what = f"it has {unknown} that is not in its quote: leave it out, or quote the place"
            self._add("name_not_in_quote", f"claim {claim.number}: {what}")

    # ── all claims ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_together(self) -> None:
        """One version of each document, and one number of each unit on one topic."""
        versions: dict[str, _Grounded] = {}
        for found in self._found:
            citation = found.passage.source.citation
            first = versions.setdefault(citation.document, found)
            if first.passage.source.citation.version != citation.version:
                what = "cite one document in two versions: use one"
                self._add("two_versions", f"claims {first.claim.number} and {found.claim.number} {what}")
        for at, found in enumerate(self._found):
            for other in self._found[:at]:
                if (unit := _disagreement(other, found)) is not None:
                    what = f"cite two documents that give different numbers{unit} on one topic"
                    fix = "keep the one that the question is about, and leave the other out"
                    self._add(
                        "documents_disagree", f"claims {other.claim.number} and {found.claim.number} {what}: {fix}"
                    )
                    break


def _latest(passages: Sequence[Passage]) -> dict[str, tuple[str, list[str]]]:
    """By document, the last call that returned it, and the versions that this call returned."""
    found: dict[str, tuple[str, list[str]]] = {}
    for passage in passages:
        call, cited = passage.source.call, passage.source.citation
        before = found.get(cited.document, ("", []))
        versions = before[1] if before[0] == call else []
        found[cited.document] = call, [*versions, *([] if cited.version in versions else [cited.version])]
    return found


def _member(passage: Passage, member: str) -> Json:
    """A member of the passage's citation, as an answer has it."""
    value = getattr(passage.source.citation, member)
    return list(value) if member == "span" else single_spaced(value)


def _not_in_force(passage: Passage, at: int) -> str:
    """Why the document is not in force at that time; "" if it is. A day begins at midnight UTC, and `until` a day includes it."""
    now = datetime.fromtimestamp(at // NANO, UTC)
    try:
        since = None if passage.since is None else _moment(passage.since)
        until = None if passage.until is None else _moment(passage.until, time.max)
    except ValueError:
        return "has no valid dates of being in force"
    if since is not None and now < since:
        return f"is in force only from {passage.since}"
    return f"was in force until {passage.until}" if until is not None and now > until else ""


def _moment(text: str, of_day: time = time.min) -> datetime:
    """The time that an ISO 8601 text names; if it names a day, that time of it. Raises ValueError."""
    if len(text) == len("2026-06-30"):
        return datetime.combine(date.fromisoformat(text), of_day, UTC)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _disagreement(one: _Grounded, two: _Grounded) -> str | None:
    """The unit in which two documents of one topic give different numbers, as a part of a sentence; None without one.

    They are of one topic if the last headings or the titles are the same, or if at least half of the words of the shorter quote,
    without connecting words and units, are in the other one. They give different numbers if both quotes have numbers of a unit
    and none of these is in both.
    """
    if one.passage.source.citation.document == two.passage.source.citation.document:
        return None
    words, others = one.topic_words, two.topic_words
    if not one.headings & two.headings and 2 * len(words & others) < max(1, min(len(words), len(others))):
        return None
    by_unit: list[dict[str, set[Value]]] = [{}, {}]
    for side, values in zip((one, two), by_unit, strict=True):
        for number in side.numbers:
            if not number.weak:
                values.setdefault(number.unit, set()).add(number.value)
    mine, its = by_unit
    for unit in sorted(mine.keys() & its.keys()):
        if not mine[unit] & its[unit]:
            return f" ({unit})" if unit else ""
    return None
