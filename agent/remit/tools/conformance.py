"""Compares the published schemas of a tool with its types and its signatures, by examples made from the schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from remit.core import Json, Problem, Refusal
from remit.tools.examples import examples
from remit.workspace.manifest import ActionSchema, check_output

ARGUMENTS: Final = 40  # examples of the arguments of one action
RESULTS: Final = 20  # examples of its result
_LONGEST: Final = 300  # characters of an example in a message

_FIXES: Final[Mapping[str, str]] = {
    "type": "let the type accept what its schema says: remove what overrides the schema, or use a simpler type",
    "crash": "raise ValueError in the validator for a value that it does not accept",
    "signature": "give each parameter the name that the schema has",
    "result": "use a return type whose values are written as its schema says",
}


def made_examples(
    schemas: Mapping[str, ActionSchema], *, count: int = ARGUMENTS, seed: int = 0
) -> dict[str, dict[str, list[Json]]]:
    """Examples of the arguments and of the result of each action."""
    return {
        name: {
            "arguments": list(examples(schema.input, count, seed=seed)),
            "results": list(examples(schema.output, count * RESULTS // ARGUMENTS, seed=seed)),
        }
        for name, schema in schemas.items()
    }


def disagreements(
    schemas: Mapping[str, ActionSchema],
    made: Mapping[str, Mapping[str, Sequence[Json]]],
    tried: Mapping[str, Mapping[str, Sequence[Mapping[str, Json]]]],
    *,
    file: str,
) -> tuple[Problem, ...]:
    """The first disagreement of each action, with its example.

    `made` are the examples and `tried` what the tool made of them (`guest/conformance.py`). A value that the types refuse for a
    reason that no JSON Schema can say is no disagreement.
    """
    found: list[Problem] = []
    for name, schema in schemas.items():
        first = next(_disagreements(schema, made[name], tried.get(name, {})), None)
        if first is not None:
            what, kind = first
            found.append(Problem(file=file, what=f"function {name!r}: {what}", fix=_FIXES[kind]))
    return tuple(found)


def _disagreements(
    schema: ActionSchema, made: Mapping[str, Sequence[Json]], tried: Mapping[str, Sequence[Mapping[str, Json]]]
) -> Iterator[tuple[str, str]]:
    for example, outcome in zip(made["arguments"], tried.get("arguments", ()), strict=False):
        kind = str(outcome.get("kind", "words"))
        if kind in _FIXES:
            yield f"its schema accepts {_shown(example)}, and the function does not: {outcome.get('message', '')}", kind
    for example, outcome in zip(made["results"], tried.get("results", ()), strict=False):
        if outcome.get("kind") == "result":
            yield f"its result {_shown(example)} cannot be written as JSON: {outcome.get('message', '')}", "result"
        elif "value" in outcome:
            try:
                check_output(schema, outcome["value"])
            except Refusal as refusal:
                yield f"its schema does not accept its result {_shown(outcome['value'])}: {refusal.message}", "result"


def _shown(example: Json) -> str:
    text = json.dumps(example, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
