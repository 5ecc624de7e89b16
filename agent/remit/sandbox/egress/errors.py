"""Why the proxy refuses a request or a connection, and what it answers."""

from __future__ import annotations

from typing import Final

from remit.core import AddressClass, EgressVerdict

# Refusals by policy: the same request is refused again. All other reasons are ordinary failures of a network.
FINAL: Final[frozenset[EgressVerdict]] = frozenset(
    (
        *("no_call", "not_decided", "not_a_name", "not_public", "not_tls", "other_name", "hidden_name", "malformed"),
        *("quota", "opaque_answer"),
    )
)
_STATUS: Final[dict[EgressVerdict, int]] = {
    "no_call": 407,
    "malformed": 400,
    "not_resolved": 502,
    "unreachable": 502,
    "bad_certificate": 502,
    "bad_answer": 502,
    "idle": 504,
}
# The error types of RFC 9209 section 2.3.
_ERRORS: Final[dict[EgressVerdict, str]] = {
    "not_public": "destination_ip_prohibited",
    "not_resolved": "dns_error",
    "unreachable": "destination_unavailable",
    "bad_certificate": "tls_certificate_error",
    "bad_answer": "http_protocol_error",
    "idle": "http_response_timeout",
    "malformed": "http_request_error",
}
BLOCKED: Final = "blocked by policy, do not retry"


class Blocked(Exception):
    """A refused request or connection. `kind` is the class of its address, if one was checked, never the address."""

    def __init__(self, verdict: EgressVerdict, why: str, *, kind: AddressClass | None = None) -> None:
        self.verdict: EgressVerdict = verdict
        self.why = why
        self.kind: AddressClass | None = kind
        super().__init__(why)

    @property
    def final(self) -> bool:
        """True if the same request would be refused again."""
        return self.verdict in FINAL

    @property
    def text(self) -> str:
        """The body of the response, for the tool and the model."""
        return f"{BLOCKED}: {self.why}" if self.final else self.why

    @property
    def reason(self) -> str:
        """The reason phrase. Some clients show it and ignore the body."""
        return BLOCKED if self.final else "not reached"

    @property
    def status(self) -> int:
        """The HTTP status of the response."""
        return _STATUS.get(self.verdict, 403)

    @property
    def proxy_status(self) -> str:
        """The `Proxy-Status` header (RFC 9209): the response comes from the proxy, not from the server."""
        return f'remit; error={_ERRORS.get(self.verdict, "http_request_denied")}; details="{self.verdict}"'
