"""Results as JSON, and the HTTP status of each code.

Every answer is a result: `{"ok": true, "value": …}` or `{"ok": false, "error": {…}}`, with the fields that a model reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, Field
from starlette.responses import Response

from remit.core import NEXT_STEPS, Code, Error, FrozenModel, Json, Refusal, RunEnded, near_names

# The codes of HTTP alone: what is wrong with a request before anything is decided.
HttpCode: TypeAlias = Literal[
    "invalid_request",  # a body, a query or a header is not what the route accepts
    "unauthenticated",  # the request does not prove who sends it
    "forbidden",  # the rules do not let the principal do it
    "not_found",  # there is nothing of that name which the principal may read
    "method_not_allowed",
    "conflict",  # another request has come first, or the object is in another state
    "too_large",
    "unsupported_media_type",
    "misdirected",  # the header Host names another service
    "still_running",  # the call has not ended within the time of the request
    "too_many",  # a limit of the service is reached
    "unavailable",  # the service ends, or cannot do it now
    "internal",  # a defect of Remit; the log of the service says more
]

_STATUS: Final[Mapping[int, tuple[Code | HttpCode, ...]]] = {
    202: ("approval_required", "still_running"),
    400: ("invalid_request", "invalid_arguments", "unknown_action"),
    401: ("unauthenticated",),
    403: ("forbidden", "policy_denied", "approval_rejected", "approval_expired", "approval_invalid"),
    404: ("not_found",),
    405: ("method_not_allowed",),
    409: ("conflict", "cancelled", "diverged"),
    413: ("too_large",),
    415: ("unsupported_media_type",),
    421: ("misdirected",),
    422: ("content_blocked",),
    423: ("held",),
    429: ("too_many", "rate_limited", "budget_exhausted", "denial_loop"),
    500: ("internal",),
    502: (
        "tool_failed",
        "tool_crashed",
        "invalid_output",
        "sandbox_violation",
        "resource_exhausted",
        "outcome_unknown",
    ),
    503: ("unavailable", "circuit_open", "sandbox_unavailable", "unrecorded"),
    504: ("timeout",),
}
STATUS: Final[Mapping[str, int]] = {code: status for status, codes in _STATUS.items() for code in codes}
assert set(STATUS) == {*get_args(HttpCode), *get_args(Code)}

# No answer belongs into a cache, and none is a page.
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-type", b"application/json"),
)


class JsonResponse(Response):
    """A body that is JSON already. Its headers are written here, in a fifth of the time that Starlette takes for each answer."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        given = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self.raw_headers = [*_HEADERS, *given, (b"content-length", str(len(self.body)).encode())]


class ServiceError(FrozenModel):
    """Why a request failed, with the fields of the error of a call.

    `message` says what happened and `next_step` what to do next. `retryable` is True if the same request may succeed later,
    `retry_after_s` is in seconds, None if unknown.
    """

    code: Code | HttpCode
    message: str
    retryable: bool = False
    retry_after_s: float | None = None
    attempts: int = 0
    details: dict[str, Json] = Field(default_factory=dict)
    next_step: str | None = None


class HttpRefusal(Exception):
    """The request is refused with a code. It becomes the answer."""

    def __init__(
        self,
        code: Code | HttpCode,
        message: str,
        *,
        next_step: str | None = None,
        details: Mapping[str, Json] | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.error: Final = ServiceError(
            code=code,
            message=message,
            next_step=next_step,
            details=dict(details or {}),
            retryable=retry_after_s is not None,
            retry_after_s=retry_after_s,
        )
        self.headers: Final = dict(headers or {})
        super().__init__(f"{code}: {message}")


def not_found(what: str, name: str = "", known: Iterable[str] = ()) -> HttpRefusal:
    """The answer for what does not exist, and for what the principal may not read: nobody can tell them apart.

    `known` are names that the principal may read, of which the answer names the nearest one to `name`.
    """
    return HttpRefusal("not_found", f"there is no such {what}", next_step=did_you_mean(name, known))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The nearest known name, as the next step of an answer; None if none is near."""
    return next((f"did you mean {near}?" for near in near_names(name, known)), None)


def conflict(message: str, next_step: str | None = None) -> HttpRefusal:
    return HttpRefusal("conflict", message, next_step=next_step)


def json_response(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON body that is written by `json`; for data of pydantic see `answered`."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return JsonResponse(text, status, headers)


def answered(value: BaseModel | Json, status: int = 200) -> Response:
    """The value as a result that succeeded."""
    if isinstance(value, BaseModel):
        text = b'{"ok":true,"value":' + value.__pydantic_serializer__.to_json(value) + b"}"
        return JsonResponse(text, status)
    return json_response({"ok": True, "value": value}, status)


def answered_text(value: str) -> Response:
    """The value, which is JSON already, as a result that succeeded."""
    return JsonResponse(f'{{"ok":true,"value":{value}}}')


def failed(
    error: ServiceError | Error, *, also: Mapping[str, Json] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The error as a result, with the status of its code. `also` are further members of the result."""
    extra = dict(headers or {})
    if error.retry_after_s is not None:
        extra["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    body: dict[str, Any] = {"ok": False, "error": error.model_dump(mode="json"), **(also or {})}
    return json_response(body, STATUS[error.code], extra)


def error_of(refusal: Refusal) -> ServiceError:
    """The error of a refusal that was raised. INVARIANT: the answer to what the rules deny does not show the rule."""
    if refusal.code == "policy_denied":
        return ServiceError(code="forbidden", message="the rules do not allow it")
    return ServiceError(
        code=refusal.code,
        message=refusal.message,
        retryable=refusal.retryable,
        retry_after_s=refusal.retry_after_s,
        details=dict(refusal.details),
        next_step=refusal.next_step or NEXT_STEPS[refusal.code],
    )


def error_of_run(ended: RunEnded) -> ServiceError:
    """The error of a run that cannot go on. The service's log, and the record of the run, say more."""
    return ServiceError(code=ended.code, message="the service cannot run it now", retryable=True, retry_after_s=60.0)
