"""Bodies and queries, parsed strictly before anything reads them.

A text that two readers could read differently is refused: duplicate keys, NaN, numbers beyond 2^53, lone surrogates, deep nesting.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from remit.core import Refusal
from remit.core.parsing import parse_arguments
from remit.server.http.answers import HttpCode, HttpRefusal

MOST_PROBLEMS: Final = 5  # named in one answer
MOST_DROPPED: Final = 8 << 20  # bytes of a body that is too large
REQUEST_ID: Final = "x-request-id"
_REQUEST_ID: Final = re.compile(r"[\x20-\x7e]{1,255}")
_JSON: Final = ("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8")

Model = TypeVar("Model", bound=BaseModel)


def headers(request: Request, name: str) -> list[str]:
    """The values of the headers of that name, which is written small. Starlette's own look-up takes several times as long."""
    searched = name.encode()
    return [value.decode("latin-1") for given, value in request.scope["headers"] if given == searched]


def header(request: Request, name: str) -> str:
    """The first value of `headers`, "" without one."""
    return next(iter(headers(request, name)), "")


def request_id(request: Request) -> str:
    """The header X-Request-ID, by which a client finds its request again; "" without one, or if it is no short printable text."""
    given = header(request, REQUEST_ID)
    return given if given and _REQUEST_ID.fullmatch(given) else ""


async def read_body(request: Request, most: int) -> bytes:
    """The body. Raises HttpRefusal `too_large` if it has more than `most` bytes.

    A connection that is closed with unread bytes is reset, and many clients then lose the answer: so up to `MOST_DROPPED` bytes of a
    body that is too large are read and dropped.
    """
    declared = next(iter(headers(request, "content-length")), "0")
    size = int(declared) if declared.isdecimal() and len(declared) <= 12 else MOST_DROPPED + 1
    parts: list[bytes] = []
    read = 0
    more = size <= MOST_DROPPED
    while more and read <= MOST_DROPPED:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        read += len(part)
        if max(size, read) <= most:
            parts.append(part)
    if max(size, read) > most:
        raise _too_large(most)
    return b"".join(parts)


async def parsed_body(
    request: Request, model: type[Model], most: int, *, wrong_type: HttpCode = "unsupported_media_type"
) -> Model:
    """The body as an object of the model. Raises HttpRefusal, with the code `wrong_type` if it is not declared as JSON."""
    check_declared(request, wrong_type)
    return parsed(await read_body(request, most), model)


def check_declared(request: Request, wrong_type: HttpCode = "unsupported_media_type") -> None:
    """Raise HttpRefusal if the body is not declared as JSON."""
    if header(request, "content-type").lower() not in _JSON:
        raise HttpRefusal(
            wrong_type,
            "the body is not declared as JSON",
            next_step="send the header Content-Type: application/json",
        )


def parsed(body: bytes, model: type[Model]) -> Model:
    """The text of a body as an object of the model. Raises HttpRefusal `invalid_request`."""
    try:
        text = body.decode()
        parse_arguments(text)  # refuses what two readers could read differently
    except UnicodeDecodeError as failure:
        raise HttpRefusal("invalid_request", "the body is not UTF-8", details={"at": failure.start}) from None
    except Refusal as refusal:
        message = f"the body is refused: {refusal.message}"
        raise HttpRefusal("invalid_request", message, details=refusal.details) from None
    try:
        return model.model_validate_json(text)
    except ValidationError as failure:
        raise invalid(failure, "body") from None


def parsed_query(request: Request, model: type[Model]) -> Model:
    """The query as an object of the model. Raises HttpRefusal for a name that the route does not know, and for one that is given twice."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise HttpRefusal(
                "invalid_request", "the query has the same name twice", details={"problem": "duplicate_key"}
            )
        given[name] = value
    try:
        return model.model_validate_strings(given)
    except ValidationError as failure:
        raise invalid(failure, "query") from None


def invalid(failure: ValidationError, what: str) -> HttpRefusal:
    """The first problems, each with its place. Values are not repeated: they can be long, or secret."""
    problems = [
        {"at": ".".join(map(str, problem["loc"]))[:200], "problem": problem["msg"][:200]}
        for problem in failure.errors(include_input=False, include_url=False, include_context=False)[:MOST_PROBLEMS]
    ]
    first = problems[0]
    message = f"the {what} is not what the route accepts: {first['at'] or what}: {first['problem']}"
    return HttpRefusal(
        "invalid_request",
        message,
        details={"problems": problems},
        next_step="correct the request as /openapi.json describes it",
    )


def _too_large(most: int) -> HttpRefusal:
    return HttpRefusal(
        "too_large",
        f"the body has more than {most} bytes",
        next_step="send less in one request",
        headers={"connection": "close"},
    )
