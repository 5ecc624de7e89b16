"""Protections of the guardrails, each with the tests that must fail without it."""

from __future__ import annotations

import asyncio
import html
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from adversarial.mutations.row import Remove, brokered, never, replaced
from remit.core.parsing import map_texts, texts_of
from remit.guardrails import (
    encodings,
    naming,
    printed_secret,
    provenance,
    redaction,
    remembered,
    sanitizer,
    secret_formats,
    secret_sources,
    secrets,
)
from remit.guardrails.content_rules import Content
from remit.guardrails.encodings import Found, KnownSecret, Reading

FETCHED: Final = secret_sources.Fetched.__init__
SECRETS: Final = "adversarial/test_own_budget.py::test_no_text_makes_the_search_for_secrets_slow"


def searched_with(name: str, pattern: str) -> Remove:
    """Search for one format of secrets with a quadratic pattern."""

    def found() -> dict[str, Any]:
        others = dict(secret_formats.formats())
        return {**others, name: (secret_formats._finder(re.compile(pattern)),)}

    return lambda patch: patch.setattr(redaction, "formats", found)


def spread_over_all(self: redaction.Redactor, value: Any, *, keys: bool) -> Any:
    """Compare each string with every match of a secret."""
    joined = Reading("".join(texts_of(value, keys=keys)))
    found = [one for known in self._known for one in known.find(joined)]
    at = 0

    def changed(text: str) -> str:
        nonlocal at
        start, end = at, at + len(text)
        at = end
        own = [Found(max(one.start, start) - start, min(one.end, end) - start, one.secret) for one in found]
        return self._replaced(text, [one for one in own if one.start < one.end])

    return map_texts(value, changed, keys=keys)


def never_dropped(self: Any, text: str, found: Any) -> None:
    self.held += len(text)
    self._known[text] = found


def kept_for_ever(self: secret_sources.Fetched, source: secret_sources.SecretSource, folder: str) -> str:
    """The first value of a command, whatever its time to live is."""
    key = folder, source.command
    if key not in self._values:
        self._values[key] = (0.0, printed_secret.printed_by(source.command, folder))
    return self._values[key][1]


class OneLock(dict[Any, threading.Lock]):
    """One lock, whatever it is for."""

    lock: Final = threading.Lock()

    def setdefault(self, *_: object) -> threading.Lock:  # type: ignore[override]  # what it is asked with is not looked at
        return self.lock


def with_one_lock(self: secret_sources.Fetched, clock: Callable[[], float] = time.monotonic) -> None:
    FETCHED(self, clock)
    self._locks = OneLock()


ROWS: Final = (
    brokered(
        "hidden characters in results are escaped",
        replaced(sanitizer, "with_visible_characters", lambda text: text),
        threats="F7",
        tests=("broker/test_broker.py::test_hidden_characters_of_a_tools_value_are_escaped",),
    ),
    brokered(
        "parts of a secret at the edge of a text are redacted",
        replaced(KnownSecret, "edges", lambda *_: []),
        threats="E10",
        tests=("guardrails/test_content.py::test_each_part_of_a_secret_that_a_size_limit_cut_is_found",),
    ),
    brokered(
        "known secrets are redacted",
        replaced(redaction.Redactor, "_spans", lambda *_: []),
        replaced(redaction.Redactor, "_spread", lambda _, value, **__: value),
        tests=(
            "guardrails/test_content.py::test_a_known_secret_is_found_in_every_encoding",
            "guardrails/test_canaries.py::test_a_secret_of_a_sandboxed_tool_appears_in_no_output",
            "guardrails/test_content.py::test_a_known_secret_is_found_when_several_strings_share_it",
        ),
    ),
    brokered(
        "a secret that another system gives is known to the sanitizer before a call gets it",
        replaced(secrets.RunSecrets, "watch", lambda self, learn: None),
        tests=(
            "guardrails/test_secret_sources.py::test_each_value_of_a_command_is_in_no_record_and_each_call_gets_the_present_one",
            "guardrails/test_secret_sources.py::test_the_sanitizer_knows_a_new_value_before_a_call_gets_it",
        ),
    ),
    brokered(
        "a value of a command is used for its time to live only",
        replaced(secret_sources.Fetched, "value", kept_for_ever),
        tests=(
            "guardrails/test_secret_sources.py::test_a_value_of_a_command_is_used_for_its_time_to_live_and_then_printed_again",
            "guardrails/test_secret_sources.py::test_a_value_whose_time_has_passed_is_never_used_again",
        ),
    ),
    brokered(
        "a secret whose command runs delays no other one",
        replaced(secret_sources.Fetched, "__init__", with_one_lock),
        tests=("guardrails/test_secret_sources.py::test_a_secret_whose_command_still_runs_delays_no_other_one",),
    ),
    brokered(
        "a command of a secret runs in no thread that the rest of a service uses",
        replaced(secrets, "in_own_thread", asyncio.to_thread),
        tests=("guardrails/test_secret_sources.py::test_a_slow_command_takes_no_thread_that_the_rest_of_the_service_uses",),
    ),
    brokered(
        "a command of a secret is ended with all of its processes",
        replaced(os, "killpg", lambda process, number: None),
        tests=(
            "guardrails/test_secret_sources.py::test_a_command_gets_no_other_secret_and_no_input_and_its_processes_end_with_it",
        ),
    ),
    brokered(
        "texts that look like a secret are redacted",
        replaced(redaction.Redactor, "_patterned", lambda _, text: text),
        tests=(
            "broker/test_broker.py::test_a_text_that_looks_like_a_secret_is_in_no_record",
            "guardrails/test_content.py::test_credentials_of_every_known_issuer_are_redacted",
        ),
    ),
    brokered(
        "blocked phrases are blocked",
        never(Content, "blocked"),
        tests=(
            "guardrails/test_content.py::test_a_blocked_phrase_is_blocked_in_arguments_results_and_answers",
            "guardrails/test_content.py::test_a_blocked_result_is_reported_with_its_rule_and_its_effect",
        ),
    ),
    brokered(
        "personal data is redacted",
        replaced(Content, "redact", lambda _, text, *__: text),
        tests=("guardrails/test_content.py::test_valid_personal_data_is_redacted_in_results_and_answers",),
    ),
    brokered(
        "an ordinary word alone names nothing",
        replaced(provenance, "names_thing", lambda words, kind, name, _: provenance._contains_name(words, f"{kind}:{name}")),
        tests=(
            "guardrails/test_open_agents.py::test_a_name_that_an_attacker_took_from_the_task_names_nothing",
            "guardrails/test_naming.py::test_an_ordinary_word_names_a_thing_only_with_evidence_for_its_kind",
        ),
    ),
    brokered(
        "a word for another kind of thing prevents a match",
        replaced(naming, "_means_another_kind", lambda _: False),
        tests=("guardrails/test_naming.py::test_an_ordinary_word_names_a_thing_only_with_evidence_for_its_kind",),
    ),
    brokered(
        "a name that the directory lists for another kind needs a kind word",
        replaced(naming, "_listed_as_another_kind", lambda *_: False),
        tests=("guardrails/test_naming.py::test_the_directory_decides_what_words_alone_do_not",),
    ),
    brokered(
        "a handle that is a word of the task needs evidence",
        replaced(provenance, "refers_by_alias", lambda *_, **__: True),
        tests=("guardrails/test_naming.py::test_a_sender_whose_name_is_a_word_of_the_task_gives_no_links",),
    ),
    brokered(
        "an ambiguous alias adds nothing to the directory",
        replaced(provenance, "_items_by_alias", lambda line, value, *_: provenance._values_at(value, line.path)),
        tests=("guardrails/test_provenance.py::test_a_result_adds_directory_entries_as_its_manifest_declares",),
    ),
    brokered(
        "private keys are found in linear time",
        searched_with("private_key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)-----END [A-Z ]*PRIVATE KEY-----"),
        tests=(
            SECRETS,
            "adversarial/test_own_budget.py::test_a_text_of_256_kib_of_key_headers_is_redacted",
        ),
    ),
    brokered(
        "keys of OpenAI are found in linear time",
        searched_with("openai", r"sk-[A-Za-z0-9-_]*[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}"),
        tests=(SECRETS,),
    ),
    brokered(
        "JSON Web Tokens are found in linear time",
        searched_with("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
        tests=(SECRETS,),
    ),
    brokered(
        "a private key without its end line is redacted",
        replaced(secret_formats, "_KEY_REST", re.compile("(?!)")),
        tests=("adversarial/test_own_budget.py::test_a_private_key_without_its_end_line_is_redacted_as_a_whole",),
    ),
    brokered(
        "a secret that is longer than the overlap is redacted",
        replaced(secret_formats, "_extended_end", lambda _, end: end),
        tests=("adversarial/test_own_budget.py::test_a_secret_longer_than_the_overlap_of_two_pieces_is_redacted_as_a_whole",),
    ),
    brokered(
        "texts that are too long to scan are withheld",
        replaced(redaction, "LONGEST_TEXT", 1 << 30),
        tests=("adversarial/test_own_budget.py::test_a_text_too_long_to_scan_is_withheld_with_a_note",),
    ),
    brokered(
        "known secrets in many strings are found in linear time",
        replaced(redaction.Redactor, "_spread", spread_over_all),
        tests=("adversarial/test_own_budget.py::test_a_known_secret_in_thousands_of_strings_is_redacted_in_linear_time",),
    ),
    brokered(
        "HTML entities of thousands of digits are decoded",
        replaced(encodings, "_without_entities", html.unescape),
        tests=("adversarial/test_own_budget.py::test_a_number_of_thousands_of_digits_does_not_stop_redaction",),
    ),
    brokered(
        "the size of text caches is limited",
        replaced(remembered.Remembered, "_keep", never_dropped),
        tests=("adversarial/test_own_budget.py::test_the_cache_of_texts_is_bounded_by_their_size",),
    ),
)  # fmt: skip
