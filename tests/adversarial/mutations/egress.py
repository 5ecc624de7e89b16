"""Protections of the network of a sandbox, each with the tests that must fail without it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import h11
import pytest

from adversarial.mutations.row import REACHED, Mutation, brokered, never, replaced
from remit.broker import LiveExecutor
from remit.core.attempts import Connection
from remit.guardrails import Redactor
from remit.sandbox.egress import (
    Answers,
    addresses,
    call_session,
    connect_tunnel,
    forwarder,
    permissions,
    proxy,
    requests,
    response_scrubber,
)
from remit.sandbox.egress.client_hello import ClientHelloReader
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import Head, RequestReader
from remit.tools import recording, workbench
from remit.workspace.manifest.sections import authorities

HEAD: Final = RequestReader.head


async def head_from_its_beginning(self: RequestReader) -> Head | None:
    """Scan all received bytes again for each new byte."""
    while b"\r\n\r\n" not in self._buffer:
        re.search(rb"(?<!\r)\n|\r(?!\n|\Z)", self._buffer)
        self._buffer += await self.connection.receive()
    return await HEAD(self)


TAKE: Final = ClientHelloReader.feed


def hello_from_its_beginning(self: ClientHelloReader, data: bytes) -> Any:
    self._message.clear()
    self._at = self._taken = 0
    return TAKE(self, data)


BODY: Final = response_scrubber.Body


def unopened(response: h11.Response, scrubber: response_scrubber.Scrubber | None) -> response_scrubber.Body:
    """A response in an unknown encoding is passed on unchanged."""
    try:
        return BODY(response, scrubber)
    except Blocked as blocked:
        if blocked.verdict != "opaque_answer":
            raise
        return BODY(response, None)


async def let_through(*_: object) -> None:
    """Replaces a check: it refuses nothing."""


def unchecked_hello(patch: pytest.MonkeyPatch) -> None:
    """Accept any first bytes as the ClientHello of the tunnel's host."""

    async def hello(self: connect_tunnel.Tunnel, name: str) -> bytes:
        return await self._connection.receive()

    patch.setattr(connect_tunnel.Tunnel, "_hello", hello)


def one_for_all(patch: pytest.MonkeyPatch) -> None:
    """Treat every connection as one of the first call."""
    earlier = proxy.ProxyListener._admitted

    async def admitted(self: proxy.ProxyListener, requests: RequestReader, head: Head, address: str) -> None:
        basic = b"Basic " + base64.b64encode(f"call:{next(iter(self._sessions))}".encode())
        fields = [field for field in head.fields if field[0] != b"proxy-authorization"]
        await earlier(self, requests, replace(head, fields=(*fields, (b"proxy-authorization", basic))), address)

    patch.setattr(proxy.ProxyListener, "_admitted", admitted)
    patch.setattr(call_session.CallSession, "accepts", lambda *_: True)


async def unended(self: call_session.CallSession) -> Sequence[Connection]:
    """The connections of a call stay open."""
    return self.ended


def with_lasting_answers(patch: pytest.MonkeyPatch) -> None:
    """The answers of a case are given to every later call of the process too."""
    last: list[Answers] = []
    patch.setattr(LiveExecutor, "use", lambda _, answers: last.append(answers))
    patch.setattr(
        LiveExecutor, "_exchanges", property(lambda _: last[-1] if last else None, lambda *_: None), raising=False
    )


def unredacted(patch: pytest.MonkeyPatch) -> None:
    """Record the texts of a call as they are."""
    for name in ("text", "known", "json"):
        patch.setattr(Redactor, name, lambda _, value: value)


ROWS: Final = (
    Mutation(
        name="a recorded case has only the headers that a client needs",
        remove=(replaced(recording, "_KEPT", re.compile("(?!content-length|connection).*")),),
        tests=("tools/test_recording.py::test_a_recorded_row_has_the_request_and_what_a_client_needs_of_the_response",),
        fixtures=True,
    ),
    Mutation(
        name="what a case records is redacted",
        remove=(unredacted,),
        tests=(
            "tools/test_recording.py::test_a_recorded_row_has_the_request_and_what_a_client_needs_of_the_response",
            "tools/test_recording.py::test_a_call_that_cannot_be_a_case_is_refused_and_nothing_is_written",
        ),
        fixtures=True,
    ),
    Mutation(
        name="a signature in a recorded URL is left out",
        remove=(replaced(recording, "_SIGNATURE", re.compile("(?!)")),),
        tests=("tools/test_recording.py::test_a_recorded_call_passes_without_its_service_and_holds_no_secret",),
        fixtures=True,
    ),
    Mutation(
        name="a case of a tool reaches no network",
        remove=(never(LiveExecutor, "use"),),
        tests=("tools/test_http_cases.py::test_the_requests_of_a_case_are_answered_by_its_rows_and_nothing_reaches_the_network",),
        fixtures=True,
    ),
    Mutation(
        name="the answers of a case are given to that case only",
        remove=(with_lasting_answers,),
        tests=("tools/test_http_cases.py::test_answers_of_a_case_are_for_that_case_only",),
        fixtures=True,
    ),
    Mutation(
        name="a request without a row fails its case",
        remove=(replaced(workbench, "unanswered", lambda _: ""),),
        tests=("tools/test_http_cases.py::test_a_request_without_a_row_fails_the_case_and_is_named_whatever_the_tool_makes_of_it",),
        fixtures=True,
    ),
    Mutation(
        name="a call session belongs to the connections of its call",
        remove=(replaced(call_session.CallSession, "accepts", lambda *_: True),),
        tests=("sandbox/egress/test_call_sessions.py::test_the_stolen_token_of_a_running_call_opens_nothing",),
    ),
    Mutation(
        name="internal addresses are not reached",
        remove=(replaced(addresses, "address_class", lambda _: "public"),),
        tests=(
            "sandbox/egress/test_addresses.py::test_no_spelling_of_an_internal_host_is_reached",
            "sandbox/egress/test_addresses.py::test_a_name_with_an_internal_address_is_refused_and_only_its_class_is_named",
            "sandbox/egress/test_addresses.py::test_a_name_whose_address_changes_is_checked_again_before_it_is_dialled",
        ),
        still=REACHED,
    ),
    Mutation(
        name="host names have one canonical form",
        remove=(replaced(requests, "canonical_host", lambda _, name: name), replaced(requests, "is_address", lambda _: False)),
        tests=("sandbox/egress/test_addresses.py::test_no_spelling_of_an_internal_host_is_reached",),
        still=REACHED,
    ),
    Mutation(
        name="each request is checked against the decision",
        remove=(replaced(call_session.CallSession, "check", let_through), replaced(call_session.CallSession, "may_tunnel", lambda *_: None)),
        tests=(
            "sandbox/egress/test_addresses.py::test_a_redirect_is_decided_again_and_followed_only_where_policy_allows_it",
            "sandbox/egress/test_addresses.py::test_an_empty_list_of_hosts_reaches_nothing",
            "sandbox/egress/test_sandboxed_calls.py::test_a_decided_host_is_reached_from_the_sandbox_and_another_is_not",
            "sandbox/egress/test_sandboxed_calls.py::test_many_calls_at_once_each_reach_their_own_host",
        ),
        still=REACHED,
    ),
    Mutation(
        name="a connection needs the token of its call",
        remove=(one_for_all,),
        tests=("sandbox/egress/test_protocol.py::test_a_tunnel_is_established_only_for_the_decided_call_and_host",),
        still=REACHED,
    ),
    Mutation(
        name="the name in a ClientHello must be the decided host",
        remove=(unchecked_hello,),
        tests=("sandbox/egress/test_protocol.py::test_a_tunnel_without_tls_for_its_host_is_closed",),
        still=REACHED,
    ),
    Mutation(
        name="a request has exactly one length",
        remove=(replaced(requests, "_check_framing", lambda _: None),),
        tests=("sandbox/egress/test_protocol.py::test_no_smuggled_request_reaches_the_server_and_a_valid_one_does",),
        still=REACHED,
    ),
    Mutation(
        name="a secret is sent to its own host only",
        remove=(replaced(permissions.Network, "credentials_at", lambda self, *_: self.credentials),),
        tests=("sandbox/egress/test_protocol.py::test_a_secret_goes_to_its_own_host_under_tls_and_never_to_the_tool",),
        still=REACHED,
    ),
    Mutation(
        name="a host with a private authority has no other one",
        remove=(replaced(proxy.Egress, "trust_of", lambda self, _: self.trust),),
        tests=(
            "sandbox/egress/test_authorities.py::test_no_other_authority_signs_for_a_host_with_a_private_one",
            "sandbox/egress/test_authorities.py::test_a_host_with_a_private_authority_is_reached_and_gets_its_secret",
        ),
        fixtures=True,
    ),
    Mutation(
        name="a file with a private key is no authority",
        remove=(replaced(authorities, "_certificates", lambda folder, name: (folder / name).read_text()),),
        tests=("sandbox/egress/test_authorities.py::test_a_file_that_is_no_authority_is_refused_when_the_tool_is_pinned",),
        fixtures=True,
    ),
    Mutation(
        name="secrets are removed from responses",
        remove=(replaced(response_scrubber.Scrubber, "clean", lambda _, data: data),),
        tests=(
            "sandbox/egress/test_protocol.py::test_an_echoed_secret_is_removed_from_every_part_of_a_response",
            "sandbox/egress/test_sandboxed_calls.py::test_a_tool_that_uses_a_secret_never_has_its_value",
        ),
        still=REACHED,
    ),
    Mutation(
        name="responses in unknown encodings are refused",
        remove=(replaced(forwarder, "Body", unopened),),
        threats=("E12",),
        tests=("sandbox/egress/test_protocol.py::test_a_response_in_an_unknown_encoding_is_refused",),
        still=REACHED,
    ),
    Mutation(
        name="secrets that are split over several pieces are removed",
        remove=(replaced(response_scrubber.Scrubber, "held", lambda *_: 0),),
        tests=("sandbox/egress/test_protocol.py::test_an_echoed_secret_is_removed_from_every_part_of_a_response",),
        still=REACHED,
    ),
    Mutation(
        name="the bytes of a call are limited",
        remove=(
            replaced(call_session.CallSession, "spend_sent", lambda *_: None),
            replaced(call_session.CallSession, "spend_received", lambda *_: None),
        ),
        threats=("E10",),
        tests=("sandbox/egress/test_protocol.py::test_a_call_sends_and_receives_at_most_its_limits",),
        still=REACHED,
    ),
    Mutation(
        name="the connections of a call are closed at its end",
        remove=(replaced(call_session.CallSession, "finish", unended),),
        tests=("sandbox/egress/test_protocol.py::test_the_end_of_a_call_closes_its_connections",),
        still=REACHED,
    ),
    Mutation(
        name="the reason phrase of a response is not taken from the server",
        remove=(replaced(forwarder, "reason_of", lambda status: b"bad token CANARY-5d1e77a0"),),
        tests=("sandbox/egress/test_sent_request.py::test_the_reason_phrase_is_never_the_servers",),
        still=REACHED,
    ),
    Mutation(
        name="no header overrides the decided request",
        remove=(never(forwarder, "check_overrides"),),
        tests=(
            "sandbox/egress/test_sent_request.py::test_a_header_that_overrides_method_url_or_host_is_refused_and_recorded",
        ),
        still=REACHED,
    ),
    brokered(
        "a request head is scanned once",
        replaced(RequestReader, "head", head_from_its_beginning),
        tests=("adversarial/test_own_budget.py::test_a_request_head_that_arrives_byte_by_byte_is_parsed_once",),
    ),
    brokered(
        "a ClientHello is scanned once",
        replaced(ClientHelloReader, "feed", hello_from_its_beginning),
        tests=("adversarial/test_own_budget.py::test_a_client_hello_that_arrives_byte_by_byte_is_parsed_once",),
    ),
)  # fmt: skip
