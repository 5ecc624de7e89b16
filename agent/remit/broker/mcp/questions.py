"""What a server asks a person before it answers a call: a form with a few fields. Other requests of a server are refused.

https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation; from 2026-07-28 on a question is a result, and the call is
made again with the answer: https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from remit.broker.mcp.messages import NotMcp, members
from remit.core import Json
from remit.core.parsing import canonical_json, check_schema

ELICIT: Final = "elicitation/create"
MOST_QUESTIONS: Final = 20  # of one call
_LONGEST_MESSAGE: Final = 2_000
_LARGEST_SCHEMA: Final = 16_384  # bytes of canonical JSON

Answered: TypeAlias = Callable[[Json], Json]  # what a person has answered to a question; None: nobody has


class Elicited(Exception):
    """The server asks a person something that nobody has answered yet.

    `midway` is True if it is in the middle of the call, which was cancelled then; False if it has ended the call with the question.
    """

    def __init__(self, question: Json) -> None:
        self.question = question
        self.midway = False
        super().__init__("the server asks a person")


def answer_to(params: Mapping[str, Json], answered: Answered | None) -> Mapping[str, Json]:
    """The answer of a person to the question in these parameters of `elicitation/create`.

    Raises:
        Elicited: nobody has answered it.
        NotMcp: it is no form that Remit can show and check.
    """
    question = _question(params)
    answer = None if answered is None else answered(question)
    if not isinstance(answer, dict):
        raise Elicited(question)
    return cast("dict[str, Json]", answer)


def answers_to(result: Mapping[str, Json], answered: Answered | None) -> dict[str, Json]:
    """What a request is made again with, after a result that asks for it. Raises as `answer_to`."""
    if result.get("resultType") != "input_required":
        raise NotMcp("a result of an unknown type")
    responses: dict[str, Json] = {}
    asked = members(result.get("inputRequests"))
    if len(asked) > MOST_QUESTIONS:
        raise NotMcp(f"more than {MOST_QUESTIONS} questions")
    for key, request in asked.items():
        method = members(request).get("method")
        if method != ELICIT:
            raise NotMcp(f"a request {str(method)[:40]!r}, which Remit does not offer")
        responses[key] = dict(answer_to(members(members(request).get("params")), answered))
    # What the server keeps in `requestState` goes back as it is, to this request only.
    state = result.get("requestState")
    return {"inputResponses": responses, **({} if state is None else {"requestState": state})}


def _question(params: Mapping[str, Json]) -> Json:
    message, schema = params.get("message"), params.get("requestedSchema")
    if params.get("mode", "form") != "form":
        raise NotMcp("a question that is a link to open, which Remit does not offer")
    if not isinstance(message, str) or not isinstance(schema, dict):
        raise NotMcp("a question without a message or without the schema of its answer")
    if len(message) > _LONGEST_MESSAGE or len(canonical_json(schema)) > _LARGEST_SCHEMA:
        raise NotMcp("a question that is too long")
    if faults := check_schema(cast("Json", schema)):
        raise NotMcp(f"a question whose answer cannot be checked: {faults[0]}")
    return {"message": message, "schema": cast("Json", schema)}
