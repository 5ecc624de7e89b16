"""What a person reads of a provider's error, whether waiting helps, and for how long."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from remit.core.messages import ModelError
from remit.runtime.models.wire.error_texts import words_in
from remit.runtime.models.wire.provider_errors import ProviderErrors

NOW = 1_790_000_000.0
ERRORS = ProviderErrors(name="openai:x", key="OPENAI_API_KEY", secret="sk-secret", now=lambda: NOW)


def refused(status: int, body: Any = None, **headers: str) -> ModelError:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return ERRORS.refused(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a", "code": "x"}}, "a"),
        ({"error": "a"}, "a"),
        ([{"error": {"message": "a", "status": "INVALID_ARGUMENT"}}], "a"),
        ({"error": {"error": {"message": "a"}}}, "a"),
        ({"detail": "a"}, "a"),
        ({"detail": [{"loc": ["body", 0], "msg": "a"}, {"loc": ["query"], "msg": "b"}]}, "body.0: a: query: b"),
        ({"message": "a", "object": "error"}, "a"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "a"}}, "a"),
        ({"title": "a", "detail": "b", "status": 400}, "a: b"),
        ({"statusCode": 404, "message": "a", "error": "Not Found"}, "a: Not Found"),
        ({"base_resp": {"status_code": 1004, "status_msg": "a"}}, "a"),
        ({"errors": [{"message": "a"}]}, "a"),
        ({"code": 20012, "msg": "a"}, "a"),
        ({"error": {"message": '{"error": {"message": "a"}}'}}, "a"),
        ({"error": {"message": "a", "metadata": {"raw": "b"}}}, "a: b"),
        ({"unknown": "member"}, ""),
        (b"  plain words\n", "plain words"),
        (b"<html><head><style>p {}</style></head><body>Bad &amp; gone<br>now</body></html>", "Bad & gone now"),
        (b'event: error\ndata: {"error": {"message": "a"}}\n\n', "a"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
    ],
)
def test_the_words_of_an_error_are_found_in_each_form(body: Any, message: str) -> None:
    assert words_in(body if isinstance(body, bytes) else json.dumps(body).encode()).message == message


def test_an_error_is_one_short_line_without_the_key_and_hidden_characters() -> None:
    error = refused(400, {"error": {"message": "key sk-secret\nis \u202ebad\x1b[31m " + "x" * 5000}})

    assert "sk-secret" not in error.message
    assert error.message.isprintable()
    assert "\\u{202e}bad\\u{1b}[31m" in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (refused(529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}), True),
        (refused(503, b"<html>down</html>"), True),
        (refused(500), True),
        (refused(501), False),
        (refused(429, {"error": {"message": "slow down"}}), True),
        (refused(429, {"error": {"code": "insufficient_quota", "message": "pay"}}), False),
        (refused(429, {"error": {"code": "insufficient_quota", "message": "again in 2 hours"}}), True),
        (refused(402, {"error": "pay"}), False),
        (refused(408), True),
        (refused(400, {"error": "no"}), False),
        (refused(401), False),
        (refused(403), False),
        (refused(404), False),
        (refused(302), False),
        (ERRORS.within({"error": {"message": "gone", "code": 502}}), True),
        (ERRORS.within({"error": {"message": "gone"}}), True),
        (ERRORS.within({"error": {"message": "no", "type": "invalid_request_error"}}), False),
        (ERRORS.within({"error": {"message": "who?", "code": 401}}), False),
        (ERRORS.unreachable("reset"), True),
        (ERRORS.late(), True),
        (ERRORS.unreadable(b"<p>hello"), False),
    ],
)
def test_a_failure_passes_or_it_does_not(error: ModelError, retryable: bool) -> None:
    assert error.retryable is retryable
    assert error.fix


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": "context_length_exceeded", "message": "maximum context length is 8192 tokens"}}),
        (400, {"error": {"type": "exceed_context_size_error", "message": "exceeds the available context size"}}),
        (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
        (400, {"error": {"message": "The input token count (1) exceeds the maximum number of tokens allowed (2)"}}),
        (413, {"error": {"message": "Request too large for model, limit TPM 6000", "code": "rate_limit_exceeded"}}),
        (422, {"detail": "Input is too long: reduce the length of the messages"}),
        (500, {"error": "the context window of the model is too small"}),
    ],
)
def test_a_conversation_that_is_too_long_is_named_as_that(status: int, body: Any) -> None:
    error = refused(status, body)

    assert (error.overflow, error.retryable) == (True, False)
    assert "cannot read a conversation of this length" in error.message


def test_an_overflow_inside_a_stream_is_named_as_that() -> None:
    assert ERRORS.within({"error": {"message": "exceeds the context window", "code": 400}}).overflow
    assert ERRORS.within({"error": {"message": "exceeds the context window"}}).overflow


@pytest.mark.parametrize(
    "body", [{"error": {"message": "Rate limit: 30000 tokens per minute"}}, {"error": {"message": "too many requests"}}]
)
def test_too_many_requests_are_no_overflow(body: Any) -> None:
    assert not refused(429, body).overflow


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (None, {"retry_after": "30"}, 30),
        (None, {"Retry_After": "0.5"}, 0.5),
        (None, {"retry_after_ms": "1500"}, 1.5),
        (None, {"retry_after": "Mon, 21 Sep 2026 14:14:20 GMT"}, 60),
        (None, {"retry_after": "soon"}, None),
        (None, {"retry_after": "-5"}, None),
        (None, {"retry_after": "9" * 14}, None),
        (None, {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}, 360),
        (None, {"x_ratelimit_remaining_tokens": "12", "x_ratelimit_reset_tokens": "6m0s"}, None),
        (None, {"x_ratelimit_reset": str(int((NOW + 90) * 1000))}, 90),
        (
            None,
            {
                "anthropic_ratelimit_requests_remaining": "0",
                "anthropic_ratelimit_requests_reset": "2026-09-21T14:14:00Z",
            },
            40,
        ),
        ({"error": {"message": "Please try again in 2m0s."}}, {}, 120),
        ({"error": {"message": "Limit reached. Please try again in 20ms"}}, {}, 0.02),
        ({"error": {"message": "Please retry in 34.07s"}}, {}, 34.07),
        ({"error": {"message": "Quota used; resets after 1 hour and 5 minutes"}}, {}, 3900),
        ({"error": {"message": "retry later, 3 of 10 used"}}, {}, None),
        ([{"error": {"details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "34s"}]}}], {}, 34),
        (
            {"error": {"message": "x", "metadata": {"headers": {"X-RateLimit-Reset": str(int(NOW * 1000 + 5000))}}}},
            {},
            5,
        ),
        ({"error": {"type": "usage_limit_reached", "resets_in_seconds": 7200}}, {}, 7200),
        ({"error": {"type": "usage_limit_reached", "resets_at": NOW + 50}}, {}, 50),
        ({"error": {"retry_after": 3}}, {"retry_after": "2"}, 2),
        (b"try again in 5 seconds", {}, 5),
    ],
)
def test_the_time_to_wait_is_the_one_that_the_provider_says(
    body: Any, headers: dict[str, str], seconds: float | None
) -> None:
    assert refused(429, body, **headers).retry_after == (None if seconds is None else pytest.approx(seconds, abs=0.01))


def test_hostile_errors_take_linear_time() -> None:
    bodies = [
        b"<script" * 100_000,
        b'{"error":' * 50_000,
        json.dumps({"error": [{"message": "again in " * 5000}] * 5000}).encode(),
        b"again 1 s, and " * 50_000,
        ("1" * 100_000 + "s").encode(),
    ]
    began = time.process_time()
    for body in bodies:
        refused(429, body)
    assert time.process_time() - began < 2
