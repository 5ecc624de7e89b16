"""What the answer of an agent must be, if `agent.toml` says so: one JSON object with a schema, citations, effects, a confidence."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, cast

from remit.core import (
    NOTHING_RETRIEVED,
    AnswerCode,
    AnswerProblem,
    CallOutcome,
    FrozenModel,
    Json,
    ReceiptItem,
    Refusal,
    Retrieved,
    Source,
)
from remit.core.parsing import Mismatch, parse_arguments, validate
from remit.guardrails import Grounding

CITATIONS: Final = "citations"
CLAIMS: Final = "claims"
CONFIDENCE: Final = "confidence"
EFFECTS: Final = "effects"
_FENCE: Final = "```"
_GROUNDED: Final = (
    f'Its member "{CLAIMS}" is a list of what you state, one statement each: {{"claim": your words, "quote": words of the source, '
    '"citation": {"call": "0.0", "item": 1, "section": "Refunds > Late returns"}}. "call" is the member of the result that has '
    'the source, "item" its place there, counted from 1, and "section" its section. Copy the quote word for word from the text of '
    "that item: whole words, at least 12 characters. Each number of a claim must be in its quote, with the same unit. If the "
    f'results do not answer the question, do not guess: write "{CLAIMS}": [].'
)


class AnswerContract(FrozenModel):
    """The requirements of an answer.

    `shape` is a JSON Schema, None for any object. `citations` is how many results of the run the answer must cite, and
    `confidence` the lowest confidence that it may state, None if it states none. With `receipt` "must-match" it names the calls
    whose effects have happened, all of them and no others. With `grounded` it is a list of claims, each with a literal quote from
    what the run retrieved. `tries` is how often the model is asked again before the run is escalated to people.
    """

    shape: Mapping[str, Json] | None = None
    citations: int = 0
    confidence: float | None = None
    receipt: Literal["attached", "must-match"] = "attached"
    grounded: bool = False
    tries: int = 2

    @property
    def instructions(self) -> str:
        """The requirements as the model reads them, at the end of its prompt."""
        lines = ["When you are done, answer with one JSON object and nothing else."]
        if self.shape is not None:
            lines.append(f"It must match this JSON Schema: {json.dumps(self.shape, sort_keys=True)}")
        if self.grounded:
            lines.append(_GROUNDED)
        if self.citations:
            lines.append(
                f'Its member "{CITATIONS}" is a list of at least {self.citations} results that support it, each by its '
                'member "call": ["2.1"].'
            )
        if self.receipt == "must-match":
            lines.append(
                f'Its member "{EFFECTS}" is a list of all calls whose effects have happened, each by the member "call" of its '
                'result: ["3.0"], or [] without one. A call that only reads has no effect. Leave out each call that was '
                "refused, that failed, or whose outcome is unknown."
            )
        if self.confidence is not None:
            lines.append(
                f'Its member "{CONFIDENCE}" is a number from 0 to 1: how certain you are. Do not guess: state the real value.'
            )
        return "\n".join(lines) + "\n"

    def check(
        self, text: str, receipt: Sequence[ReceiptItem], retrieved: Retrieved = NOTHING_RETRIEVED
    ) -> tuple[tuple[AnswerProblem, ...], tuple[Source, ...]]:
        """Why the text is not a valid answer of a run with that receipt, which retrieved that; none if it is valid.

        With them the source of each claim of a grounded answer, in the order of the claims.
        """
        try:
            answer = parse_arguments(_unfenced(text))
        except Refusal as refusal:
            return (AnswerProblem(code="invalid_json", message=f"it is not one JSON object: {refusal.message}"),), ()
        results = {item.call for item in receipt if item.outcome == "done" and item.code is None}
        found: tuple[tuple[AnswerCode, Iterator[str]], ...] = (
            ("schema_mismatch", self._shape(answer)),
            ("wrong_citations", self._citations(answer, results)),
            ("wrong_effects", self._effects(answer, receipt)),
            ("low_confidence", self._confidence(answer)),
            ("unsourced_words", self._unsourced(answer)),
        )
        problems = tuple(AnswerProblem(code=code, message=text) for code, texts in found for text in texts)
        if not self.grounded:
            return problems, ()
        grounding = Grounding(answer.get(CLAIMS), retrieved)
        return (*problems, *grounding.problems), grounding.sources

    def _shape(self, answer: Mapping[str, Json]) -> Iterator[str]:
        if self.shape is None:
            return
        known = cast("Mapping[str, Json]", self.shape.get("properties", {}))
        rest = {name: value for name, value in answer.items() if name in known or name not in self._own_members}
        try:
            validate(self.shape, rest, fill=False)
        except Mismatch as mismatch:
            yield f"it does not match the schema: {mismatch}"

    @property
    def _own_members(self) -> frozenset[str]:
        """The members that the contract itself asks for."""
        own = {
            CITATIONS: bool(self.citations),
            CLAIMS: self.grounded,
            CONFIDENCE: self.confidence is not None,
            EFFECTS: self.receipt == "must-match",
        }
        return frozenset(name for name, asked in own.items() if asked)

    def _unsourced(self, answer: Mapping[str, Json]) -> Iterator[str]:
        """Members of a grounded answer that nobody asked for: words in them would have no source."""
        if self.grounded and self.shape is None and (others := sorted(answer.keys() - self._own_members)):
            yield f"it has the member {others[0][:40]!r}: write what you state as claims, and leave it out"

    def _citations(self, answer: Mapping[str, Json], results: Collection[str]) -> Iterator[str]:
        if not self.citations:
            return
        if (places := _texts(answer.get(CITATIONS))) is None:
            yield f'"{CITATIONS}" is not a list of texts'
            return
        known = ", ".join(sorted(results, key=_order)) or "none yet"
        if unknown := sorted(places - set(results)):
            yield f"it cites {', '.join(map(repr, unknown))}, which no result of this run has; results are {known}"
        if len(places & set(results)) < self.citations:
            cited_results = len(places & set(results))
            yield f"it cites {cited_results} results of this run and must cite {self.citations}; results are {known}"

    def _effects(self, answer: Mapping[str, Json], receipt: Sequence[ReceiptItem]) -> Iterator[str]:
        if self.receipt != "must-match":
            return
        if (named := _texts(answer.get(EFFECTS))) is None:
            yield f'"{EFFECTS}" is not a list of texts'
            return
        calls = {item.call: item for item in receipt}
        for place in sorted(named - calls.keys()):
            yield f'"{EFFECTS}" names {place!r}, which no call of this run has'
        for item in receipt:
            if item.call in named and item.landed != "landed":
                yield f'"{EFFECTS}" names {item.call}, and {item.action} {_NOT_LANDED[item.outcome]}'
            elif item.call not in named and item.landed == "landed":
                yield f'"{EFFECTS}" does not name {item.call}, and the effect of {item.action} has happened'

    def _confidence(self, answer: Mapping[str, Json]) -> Iterator[str]:
        if self.confidence is None:
            return
        sure = answer.get(CONFIDENCE)
        if not isinstance(sure, int | float) or isinstance(sure, bool) or not 0 <= sure <= 1:
            yield f'"{CONFIDENCE}" is not a number from 0 to 1'
        elif sure < self.confidence:
            yield f"its confidence is {sure:g}, and at least {self.confidence:g} is required: find out more"


# Why a call with that outcome has no effect that an answer may name.
_NOT_LANDED: Final[Mapping[CallOutcome, str]] = {
    "done": "has no effect: it only reads",
    "refused": "was refused",
    "failed": "failed without an effect",
    "waiting": "has not been carried out",
    "unknown": "has an unknown outcome",
}


def _texts(value: Json) -> set[str] | None:
    """The texts of a list; None for anything else."""
    items = cast("Sequence[object]", value) if isinstance(value, list) else (None,)
    return {item for item in items if isinstance(item, str)} if all(isinstance(item, str) for item in items) else None


def _unfenced(text: str) -> str:
    """The text between Markdown fences on lines of their own; the whole text without such fences."""
    inner = text.strip()
    if not (inner.startswith(_FENCE) and inner.endswith(_FENCE) and len(inner) >= 2 * len(_FENCE)):
        return text
    before, _, rest = inner[len(_FENCE) : -len(_FENCE)].removeprefix("json").partition("\n")
    between, line_end, after = rest.rpartition("\n")
    return between if line_end and not before.strip() and not after.strip() else text


def _order(place: str) -> tuple[int, ...]:
    return tuple(int(part) for part in place.split("."))
