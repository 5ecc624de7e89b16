"""What the answer of an agent must be, if `agent.toml` says so: one JSON object with a schema, citations, effects, a confidence."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal, cast

from remit.core import CallOutcome, FrozenModel, Json, ReceiptItem, Refusal
from remit.core.parsing import Mismatch, parse_arguments, validate

CITATIONS: Final = "citations"
CONFIDENCE: Final = "confidence"
EFFECTS: Final = "effects"
_FENCE: Final = "```"


class AnswerContract(FrozenModel):
    """The requirements of an answer.

    `shape` is a JSON Schema, None for any object. `citations` is how many results of the run the answer must cite, and
    `confidence` the lowest confidence that it may state, None if it states none. With `receipt` "must-match" it names the calls
    whose effects have happened, all of them and no others. `tries` is how often the model is asked again before the run is
    escalated to people.
    """

    shape: Mapping[str, Json] | None = None
    citations: int = 0
    confidence: float | None = None
    receipt: Literal["attached", "must-match"] = "attached"
    tries: int = 2

    @property
    def instructions(self) -> str:
        """The requirements as the model reads them, at the end of its prompt."""
        lines = ["When you are done, answer with one JSON object and nothing else."]
        if self.shape is not None:
            lines.append(f"It must match this JSON Schema: {json.dumps(self.shape, sort_keys=True)}")
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

    def problems(self, text: str, receipt: Sequence[ReceiptItem]) -> tuple[str, ...]:
        """Why the text is not a valid answer of a run with that receipt; empty if it is valid."""
        try:
            answer = parse_arguments(_unfenced(text))
        except Refusal as refusal:
            return (f"it is not one JSON object: {refusal.message}",)
        results = {item.call for item in receipt if item.outcome == "done" and item.code is None}
        return (
            *self._shape(answer),
            *self._citations(answer, results),
            *self._effects(answer, receipt),
            *self._confidence(answer),
        )

    def _shape(self, answer: Mapping[str, Json]) -> Iterator[str]:
        if self.shape is None:
            return
        known = cast("Mapping[str, Json]", self.shape.get("properties", {}))
        own = {
            CITATIONS: bool(self.citations),
            CONFIDENCE: self.confidence is not None,
            EFFECTS: self.receipt == "must-match",
        }
        rest = {name: value for name, value in answer.items() if name in known or not own.get(name, False)}
        try:
            validate(self.shape, rest, fill=False)
        except Mismatch as mismatch:
            yield f"it does not match the schema: {mismatch}"

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
