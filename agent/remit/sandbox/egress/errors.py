"""What the proxy says of a connection that it does not let through."""

from __future__ import annotations

from typing import Final

from remit.core import AddressClass, EgressVerdict

# Reasons of policy: asking again is no use. The others are what any network does now and then.
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
# RFC 9209 section 2.3.
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
    """A connection or a request ends here. `kind` is the class of the address, where one was judged; never the address."""

    def __init__(self, verdict: EgressVerdict, why: str, *, kind: AddressClass | None = None) -> None:
        self.verdict: EgressVerdict = verdict
        self.why = why
        self.kind: AddressClass | None = kind
        super().__init__(why)

    @property
    def final(self) -> bool:
        return self.verdict in FINAL

    @property
    def text(self) -> str:
        """What the tool reads, and through it the model."""
        return f"{BLOCKED}: {self.why}" if self.final else self.why

    @property
    def reason(self) -> str:
        """The words beside the status, which some clients show and nothing else."""
        return BLOCKED if self.final else "not reached"

    @property
    def status(self) -> int:
        return _STATUS.get(self.verdict, 403)

    @property
    def proxy_status(self) -> str:
        """The `Proxy-Status` header (RFC 9209), by which a tool knows that the answer is not the server's."""
        return f'remit; error={_ERRORS.get(self.verdict, "http_request_denied")}; details="{self.verdict}"'
