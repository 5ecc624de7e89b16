"""Protections of commands that a service carries out, each with the tests that must fail without it."""

from __future__ import annotations

import re
from typing import Final

from adversarial.mutations.row import Mutation, Remove, replaced
from remit.cli.local import executing, forwarded, peers

_TESTS: Final = "server/test_local_commands.py::"


def _row(name: str, remove: Remove, test: str) -> Mutation:
    """A mutation after which a command is still done by itself."""
    still = (f"{_TESTS}test_a_command_that_reads_or_writes_what_an_argument_names_is_not_for_a_service[words0]",)
    return Mutation(name=name, remove=(remove,), tests=(f"{_TESTS}{test}",), fixtures=True, still=still)


ROWS: Final = (
    _row(
        "a service refuses accounts that the kernel cannot name",
        replaced(executing, "is_overflow", lambda _: False),
        "test_the_number_that_stands_for_accounts_of_a_container_is_refused_even_if_it_is_mapped",
    ),
    _row(
        "a process that executes commands serves one account",
        replaced(executing, "_is_of", lambda *_: True),
        "test_the_process_of_one_account_answers_no_other_account",
    ),
    _row(
        "a command trusts only a folder of the owner of the workspace",
        replaced(peers, "_is_of_owner_alone", lambda *_: True),
        "test_a_folder_that_others_can_change_is_not_used",
    ),
    _row(
        "a command trusts only a socket of the owner of the folder",
        replaced(peers, "_is_socket_of", lambda *_: True),
        "test_a_folder_or_socket_that_is_a_link_is_not_used",
    ),
    _row(
        "a command asks the kernel who listens",
        replaced(peers, "peer_uid", lambda _: 0),
        "test_a_process_of_another_account_that_listens_is_not_used",
    ),
    _row(
        "a service reads no trace file that the caller names",
        replaced(forwarded, "_RUN", re.compile(".*", re.DOTALL)),
        "test_a_command_that_reads_or_writes_what_an_argument_names_is_not_for_a_service[words3]",
    ),
)
