"""Explains a failed request to a provider: what happened in the provider's own words, whether to wait, and what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from remit.core import Json, ModelError
from remit.core.parsing import visible
from remit.runtime.models.wire.error_texts import ProviderWords, words_in, words_of
from remit.runtime.models.wire.event_stream import written
from remit.runtime.models.wire.retry_times import wait_of

LONGEST_WORDS: Final = 300  # characters of a provider's error that are shown
WAIT: Final = "wait, then continue the run"

# The status that an error means which comes without one, or within an answer that began as a success.
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "overloaded_error": 529,
    "overloaded": 529,
    "unavailable": 503,
    "server_error": 500,
    "internal_server_error": 500,
    "internal": 500,
    "api_error": 500,
    "timeout_error": 408,
    "deadline_exceeded": 408,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "billing_error": 402,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "context_length_exceeded": 400,
}
_OVERFLOW_CODES: Final = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded", "request_too_large"}
)
_OVERFLOW = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|input) |prompt (?:is )?too long|input (?:is )?too long"
    r"|too many (?:input )?tokens|exceeds the (?:maximum|max) (?:number of )?(?:input )?tokens"
    r"|reduce the length of the (?:messages|prompt|input)|request too large|longer than the model's context",
    re.IGNORECASE,
)
# A quota that does not return with time: its owner has to pay, or to raise it.
_UNPAID: Final = frozenset(
    {"insufficient_quota", "billing_error", "billing_hard_limit_reached", "insufficient_credits"}
)
_PASSING: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, kw_only=True)
class ProviderErrors:
    """Makes the errors of one model. `name` is its name, `key` the variable with its key ("" without one), `secret` the key."""

    name: str
    key: str
    secret: str
    now: Callable[[], float] = time.time

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
        """The provider answered with an error. `headers` have any case; `body` is the whole answer, or its beginning."""
        return self._of_words(words_in(body), status, {name.lower(): value for name, value in headers.items()})

    def within(self, error: Json, headers: Mapping[str, str] | None = None) -> ModelError:
        """An error inside an answer that began as a success: an event of its stream, or JSON under status 200.

        It counts as passing, unless it says that the request is at fault.
        """
        words = words_of(error)
        meant = (_STATUS_OF_CODE.get(code) for code in sorted(words.codes))
        status = words.status or next((status for status in meant if status is not None), None)
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        if status is None:
            wait = wait_of(lower, words.value, words.message, now=self.now())
            reason = self._reason(words)
            if _is_overflow(words, 0):
                return self._overflow(reason)
            return ModelError(
                f"{self.name!r} failed while it answered: {reason}", fix=WAIT, retryable=True, retry_after=wait
            )
        return self._of_words(words, status, lower)

    def unreachable(self, reason: str) -> ModelError:
        """The connection could not be made, or was lost."""
        fix = "check the network, the proxy and base_url, then continue the run"
        return ModelError(f"{self.name!r} cannot be reached: {self.clean(reason)}", fix=fix, retryable=True)

    def late(self) -> ModelError:
        """The provider was silent for too long."""
        return ModelError(f"{self.name!r} did not answer in time", fix=WAIT, retryable=True)

    def unreadable(self, body: bytes) -> ModelError:
        """The answer is not of the expected form; `body` is the part that is not."""
        words = words_in(body)
        what = "a web page" if words.page else "no readable answer"
        return ModelError(
            f"{self.name!r} gave {what}: {self._reason(words)}", fix="check base_url, the proxy and the model's name"
        )

    def clean(self, text: str) -> str:
        """The text on one line of at most `LONGEST_WORDS` characters, without the key and without hidden characters."""
        if self.secret:
            text = text.replace(self.secret, "…")
        # A text of the network may be large, and only its beginning is shown.
        line = visible(" ".join(text[: 8 * LONGEST_WORDS].encode("utf-8", "replace").decode().split()))
        return line if len(line) <= LONGEST_WORDS else line[: LONGEST_WORDS - 1] + "…"

    def _reason(self, words: ProviderWords) -> str:
        try:
            unknown = "" if words.value is None else written(words.value)
        except RecursionError:
            unknown = ""
        return self.clean(words.message or unknown) or "it gave no reason"

    def _overflow(self, reason: str) -> ModelError:
        return ModelError(
            f"{self.name!r} cannot read a conversation of this length: {reason}",
            fix="use a model that reads more, or let the tools return less",
            overflow=True,
        )

    def _of_words(self, words: ProviderWords, status: int, headers: Mapping[str, str]) -> ModelError:
        reason, name = self._reason(words), repr(self.name)
        if _is_overflow(words, status):
            return self._overflow(reason)
        wait = wait_of(headers, words.value, words.message, now=self.now())
        key = self.key or "the server's settings"
        if status == 402 or (status in (403, 429) and words.codes & _UNPAID and wait is None):
            fix = "add credit, or raise the quota of this account"
            return ModelError(f"{name} has no credit or quota left: {reason}", fix=fix)
        match status:
            case 401:
                return ModelError(f"{name} rejected the key: {reason}", fix=f"check {key}")
            case 403:
                fix = f"check what {key} may use, and whether the provider serves this region"
                return ModelError(f"{name} does not permit this request: {reason}", fix=fix)
            case 404:
                return ModelError(f"{name} was not found: {reason}", fix="check the model's name and base_url")
            case _ if status in _PASSING:
                return ModelError(f"{name} is busy: {reason}", fix=WAIT, retryable=True, retry_after=wait)
            case _ if status >= 500 and status != 501:
                message = f"{name} failed with {status}: {reason}"
                return ModelError(message, fix=WAIT, retryable=True, retry_after=wait)
            case _ if status < 400:
                message = f"{name} answered with a redirection ({status})"
                return ModelError(message, fix="set base_url to the address where the server is now")
            case _:
                fix = "check that the model supports tools, and the settings"
                return ModelError(f"{name} rejected the request with {status}: {reason}", fix=fix)


def _is_overflow(words: ProviderWords, status: int) -> bool:
    """True if the request is too long for the model, and not if there were too many requests."""
    if words.codes & _OVERFLOW_CODES or status == 413:
        return True
    return status not in (401, 402, 403, 404, 429) and _OVERFLOW.search(words.message) is not None
