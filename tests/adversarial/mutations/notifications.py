"""Protections of notifications, each with the tests that must fail without it."""

from __future__ import annotations

import secrets
from typing import Final

import httpx

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.core.events import NotificationBegun, NotificationSent
from remit.notifications import chat, deliveries, messages, subjects, webhook
from remit.workspace.settings import notify

_DELIVERIES: Final = "notifications/test_deliveries.py::"
_CHANNELS: Final = "notifications/test_channels.py::"
_DIES: Final = "test_a_process_that_dies_around_the_sending_is_followed_by_another_with_the_same_id"
_QUEUE: Final = f"{_DELIVERIES}test_a_pass_has_a_bounded_queue_and_the_rest_waits_in_the_journal[sqlite]"


def _row(name: str, remove: Remove, test: str) -> Mutation:
    """A mutation after which messages are still sent."""
    return Mutation(name=name, remove=(remove,), tests=(test,), fixtures=True, still=(_QUEUE,))


def _key_of_its_own(event: NotificationBegun | NotificationSent) -> str:
    return f"{event.type}/{secrets.token_hex(8)}"


ROWS: Final = (
    _row(
        "of several services one makes an attempt",
        replaced(NotificationBegun, "key", property(_key_of_its_own)),
        f"{_DELIVERIES}test_of_two_services_one_sends_each_notification[sqlite]",
    ),
    _row(
        "a delivery is known by its key",
        replaced(NotificationSent, "key", property(_key_of_its_own)),
        f"{_DELIVERIES}{_DIES}[sqlite-after]",
    ),
    _row(
        "an attempt whose process may live is not made again",
        replaced(deliveries, "CLAIM_NS", 0),
        f"{_DELIVERIES}{_DIES}[sqlite-after]",
    ),
    _row(
        "every attempt has the same id",
        replaced(messages, "digest", lambda _: secrets.token_hex(32)),
        f"{_DELIVERIES}test_attempts_become_rarer_and_end[sqlite]",
    ),
    _row(
        "a notification has no arguments",
        replaced(subjects, "_action", lambda journal, run, request: request.summary),
        f"{_DELIVERIES}test_a_call_that_waits_is_one_signed_sentence_with_a_link_and_without_its_arguments[sqlite]",
    ),
    _row(
        "a channel whose receiver is away rests",
        replaced(deliveries, "REST_S", -1.0),
        f"{_DELIVERIES}test_a_channel_whose_receiver_is_away_rests_and_then_goes_on[sqlite]",
    ),
    _row(
        "a webhook follows no redirect",
        replaced(webhook, "open_client", lambda _: httpx.AsyncClient(follow_redirects=True)),
        f"{_CHANNELS}test_a_redirect_is_not_followed[307-sqlite]",
    ),
    _row(
        "the wish of a receiver to wait is bounded",
        replaced(webhook, "LONGEST_WISH_S", 1e9),
        f"{_CHANNELS}test_a_receiver_that_speaks_nonsense_is_a_failed_attempt[a year-sqlite]",
    ),
    _row(
        "what apprise logs is written nowhere",
        replaced(chat, "_SILENT", 0),
        f"{_CHANNELS}test_apprise_sends_the_sentence_and_the_link[sqlite]",
    ),
    _row(
        "only an address of this machine may be without TLS",
        replaced(notify, "LOOPBACK", ("127.0.0.1", "a.example")),
        f"{_CHANNELS}test_a_channel_that_cannot_work_is_a_problem_of_the_workspace[without TLS]",
    ),
)
