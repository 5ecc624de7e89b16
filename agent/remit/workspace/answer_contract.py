"""What an agent's last words must be, where `agent.toml` says so: one JSON object that fits, stands on results, and is sure."""

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
    """What is asked of an answer.

    `shape` is a JSON Schema, None for any object; `citations` how many results of the run it must name, `confidence` the
    least that it may claim, None for no such claim; `tries` how often it is asked for again before people are.
    """

    shape: Mapping[str, Json] | None = None
    citations: int = 0
    confidence: float | None = None
    tries: int = 2

    @property
    def instructions(self) -> str:
        """What the model is told of it, at the end of its prompt."""
        lines = ["When you are done, answer with one JSON object and nothing else."]
        if self.shape is not None:
            lines.append(f"It fits this JSON Schema: {json.dumps(self.shape, sort_keys=True)}")
        if self.citations:
            lines.append(
                f'Its member "{CITATIONS}" is a list of at least {self.citations} results that it stands on, each as '
                '"TURN.CALL", both counted from 0: "2.1" is the second call of your third turn.'
            )
        if self.confidence is not None:
            lines.append(f'Its member "{CONFIDENCE}" says from 0 to 1 how sure you are. Do not guess: say what is so.')
        return "\n".join(lines) + "\n"

    def problems(self, text: str, results: Collection[str]) -> tuple[str, ...]:
        """Why the text is no such answer; empty where it is. `results` are the places of calls that succeeded."""
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
            yield f"it does not fit the schema: {mismatch}"

    def _citations(self, answer: Mapping[str, Json], results: Collection[str]) -> Iterator[str]:
        if not self.citations:
            return
        given = answer.get(CITATIONS)
        cited = list(cast("Sequence[object]", given)) if isinstance(given, list) else [None]
        if not all(isinstance(one, str) for one in cited):
            yield f'"{CITATIONS}" is no list of texts'
            return
        places = cast("set[str]", set(cited))
        known = ", ".join(sorted(results, key=_order)) or "none yet"
        if unknown := sorted(places - set(results)):
            yield f"it cites what is no result of this run: {', '.join(map(repr, unknown))}; results are {known}"
        if len(places & set(results)) < self.citations:
            yield f"it stands on {len(places & set(results))} results of this run, not on {self.citations}; they are {known}"

    def _confidence(self, answer: Mapping[str, Json]) -> Iterator[str]:
        if self.confidence is None:
            return
        sure = answer.get(CONFIDENCE)
        if not isinstance(sure, int | float) or isinstance(sure, bool) or not 0 <= sure <= 1:
            yield f'"{CONFIDENCE}" is no number from 0 to 1'
        elif sure < self.confidence:
            yield f"it is sure to {sure:g}, and less than {self.confidence:g} is not enough: find out more"


def _unfenced(text: str) -> str:
    """What stands between fences on lines of their own; all of it where none do."""
    inner = text.strip()
    if not (inner.startswith(_FENCE) and inner.endswith(_FENCE) and len(inner) >= 2 * len(_FENCE)):
        return text
    before, _, rest = inner[len(_FENCE) : -len(_FENCE)].removeprefix("json").partition("\n")
    between, line_end, after = rest.rpartition("\n")
    return between if line_end and not before.strip() and not after.strip() else text


def _order(place: str) -> tuple[int, ...]:
    return tuple(int(part) for part in place.split("."))
