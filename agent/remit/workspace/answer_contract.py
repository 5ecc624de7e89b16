"""What the answer of an agent must be, if `agent.toml` says so: one JSON object with a schema, citations and a confidence."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, cast

from remit.core import FrozenModel, Json, Refusal
from remit.core.parsing import Mismatch, parse_arguments, validate

CITATIONS: Final = "citations"
CONFIDENCE: Final = "confidence"
_FENCE: Final = "```"


class AnswerContract(FrozenModel):
    """The requirements of an answer.

    `shape` is a JSON Schema, None for any object. `citations` is how many results of the run the answer must cite, and
    `confidence` the lowest confidence that it may state, None if it states none. `tries` is how often the model is asked again
    before the run is escalated to people.
    """

    shape: Mapping[str, Json] | None = None
    citations: int = 0
    confidence: float | None = None
    tries: int = 2

    @property
    def instructions(self) -> str:
        """The requirements as the model reads them, at the end of its prompt."""
        lines = ["When you are done, answer with one JSON object and nothing else."]
        if self.shape is not None:
            lines.append(f"It must match this JSON Schema: {json.dumps(self.shape, sort_keys=True)}")
        if self.citations:
            lines.append(
                f'Its member "{CITATIONS}" is a list of at least {self.citations} results that support it, each as '
                '"TURN.CALL", both counted from 0: "2.1" is the second call of your third turn.'
            )
        if self.confidence is not None:
            lines.append(
                f'Its member "{CONFIDENCE}" is a number from 0 to 1: how certain you are. Do not guess: state the real value.'
            )
        return "\n".join(lines) + "\n"

    def problems(self, text: str, results: Collection[str]) -> tuple[str, ...]:
        """Why the text is not a valid answer; empty if it is. `results` are the places of calls that succeeded: "2.1"."""
        try:
            answer = parse_arguments(_unfenced(text))
        except Refusal as refusal:
            return (f"it is not one JSON object: {refusal.message}",)
        return (*self._shape(answer), *self._citations(answer, results), *self._confidence(answer))

    def _shape(self, answer: Mapping[str, Json]) -> Iterator[str]:
        if self.shape is None:
            return
        known = cast("Mapping[str, Json]", self.shape.get("properties", {}))
        own = {CITATIONS: bool(self.citations), CONFIDENCE: self.confidence is not None}
        rest = {name: value for name, value in answer.items() if name in known or not own.get(name, False)}
        try:
            validate(self.shape, rest, fill=False)
        except Mismatch as mismatch:
            yield f"it does not match the schema: {mismatch}"

    def _citations(self, answer: Mapping[str, Json], results: Collection[str]) -> Iterator[str]:
        if not self.citations:
            return
        given = answer.get(CITATIONS)
        cited = list(cast("Sequence[object]", given)) if isinstance(given, list) else [None]
        if not all(isinstance(item, str) for item in cited):
            yield f'"{CITATIONS}" is not a list of texts'
            return
        places = cast("set[str]", set(cited))
        known = ", ".join(sorted(results, key=_order)) or "none yet"
        if unknown := sorted(places - set(results)):
            yield f"it cites {', '.join(map(repr, unknown))}, which no result of this run has; results are {known}"
        if len(places & set(results)) < self.citations:
            cited_results = len(places & set(results))
            yield f"it cites {cited_results} results of this run and must cite {self.citations}; results are {known}"

    def _confidence(self, answer: Mapping[str, Json]) -> Iterator[str]:
        if self.confidence is None:
            return
        sure = answer.get(CONFIDENCE)
        if not isinstance(sure, int | float) or isinstance(sure, bool) or not 0 <= sure <= 1:
            yield f'"{CONFIDENCE}" is not a number from 0 to 1'
        elif sure < self.confidence:
            yield f"its confidence is {sure:g}, and at least {self.confidence:g} is required: find out more"


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
