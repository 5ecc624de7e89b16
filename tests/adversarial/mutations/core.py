"""Protections of parsers and types that all packages share, each with the tests that must fail without it."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from adversarial.mutations.row import REACHED, Mutation, brokered, never, replaced
from remit.core import threads
from remit.core.calls import ProposedCall, Subjects
from remit.core.parsing import bounded_readers, exact_json, hidden_characters, json_schema, json_validation, urls


def forgetful_definition(self: Any, reference: str, value: Any, path: Any) -> None:
    """A definition is checked again for each branch that names it."""
    self.value(json_schema.resolved(self._root, reference), value, path)


UNION: Final = json_validation._Check._union


def any_branch(self: Any, branches: Any, value: Any, path: Any, *, exactly_one: bool) -> None:
    UNION(self, branches, value, path, exactly_one=False)


class Backtracking:
    """A pattern in the backtracking engine of Python."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def isinstance_python(self, text: str) -> bool:
        return self._pattern.search(text) is not None


@dataclass(frozen=True)
class Unhashed:
    """A value whose hash is constant, so it is compared with every other one."""

    value: Any

    def __hash__(self) -> int:
        return 0


def folded(self: ProposedCall) -> str:
    """Match action names leniently, by normalized letters."""
    plain = unicodedata.normalize("NFKC", self.name).casefold().replace("\u0430", "a")
    return "".join(letter for letter in plain if letter.isalnum() or letter in "_.").strip("_").replace("__", ".", 1)


class EarlyIdle(threads._OwnThreads):
    """A thread counts as idle while its function runs."""

    def _next(self, inbox: Any) -> Any:
        work = super()._next(inbox)
        self._idle.append(inbox)
        return work


class Inherited(threads._OwnThreads):
    """A process that is forked takes the idle threads of its parent for its own."""

    def __init__(self) -> None:
        self._idle = []


ROWS: Final = (
    brokered(
        "a thread is used again only after its function has returned",
        replaced(threads, "_OWN_THREADS", EarlyIdle()),
        tests=("core/test_threads.py::test_a_function_that_has_not_returned_keeps_its_thread_to_itself",),
    ),
    brokered(
        "a process that is forked uses no thread of its parent",
        replaced(threads, "_OWN_THREADS", Inherited()),
        tests=("core/test_threads.py::test_a_process_that_is_forked_starts_threads_of_its_own",),
    ),
    Mutation(
        name="nesting, names and aliases of a file are limited before it is parsed",
        remove=(never(bounded_readers, "_check_toml"), never(bounded_readers, "_check_aliases")),
        tests=(
            "core/parsing/test_bounded_readers.py::test_a_hostile_toml_text_is_one_problem_with_its_line",
            "core/parsing/test_bounded_readers.py::test_a_hostile_yaml_text_is_a_problem",
        ),
        still=("core/parsing/test_bounded_readers.py::test_ordinary_texts_are_read_as_before",),
    ),
    Mutation(
        name="hidden characters are escaped in output",
        remove=(replaced(hidden_characters, "_replaced", lambda text, *_: text),),
        tests=(
            "tracing/test_way_out.py::test_a_hidden_character_is_written_as_its_number_and_all_others_stay",
            "tracing/test_way_out.py::test_a_hostile_trace_file_prints_no_raw_control_from_any_field",
        ),
        still=("core/parsing/test_bounded_readers.py::test_ordinary_texts_are_read_as_before",),
    ),
    Mutation(
        name="ambiguous paths are refused",
        remove=(replaced(urls, "_part", lambda kind, part: urls._escaped(kind, part, urls._PLAIN)),),
        tests=(
            "core/parsing/test_url_paths.py::test_a_path_that_servers_read_in_two_ways_is_refused",
            "sandbox/egress/test_sent_request.py::test_an_ambiguous_path_reaches_no_server",
        ),
        still=REACHED,
    ),
    brokered(
        "arguments are compared with their types",
        replaced(exact_json, "_same", lambda text, value: json.loads(text) == value),
        tests=("langchain/test_decided_arguments.py::test_a_call_that_is_changed_after_its_decision_does_not_run",),
    ),
    brokered(
        "action names are compared exactly",
        replaced(ProposedCall, "action", property(folded)),
        threats="E2 E3",
        tests=("broker/test_broker.py::test_a_name_that_only_looks_like_an_action_is_unknown",),
    ),
    brokered(
        "the user of an agent must be allowed too",
        replaced(Subjects, "all", property(lambda self: (self.agent, self.agent))),
        threats="E5",
        tests=("broker/test_broker.py::test_both_the_agent_and_its_user_must_be_allowed",),
    ),
    brokered(
        "nested unions are validated once",
        replaced(json_validation._Check, "_referred", forgetful_definition),
        tests=("adversarial/test_own_budget.py::test_a_union_in_a_union_takes_time_in_proportion_to_its_levels",),
    ),
    brokered(
        "oneOf needs exactly one matching branch",
        replaced(json_validation._Check, "_union", any_branch),
        tests=("adversarial/test_own_budget.py::test_keywords_mean_what_json_schema_says",),
    ),
    brokered(
        "patterns of schemas run in a linear engine",
        replaced(json_validation, "compiled", Backtracking),
        tests=("adversarial/test_own_budget.py::test_a_pattern_takes_time_in_proportion_to_the_text",),
    ),
    brokered(
        "patterns without a linear engine are refused",
        replaced(json_schema, "_SHAPES", {**json_schema._SHAPES, "pattern": lambda text: isinstance(text, str)}),
        tests=("adversarial/test_own_budget.py::test_a_pattern_without_a_linear_engine_is_refused_when_its_tool_is_pinned",),
    ),
    brokered(
        "unique items are found by hashing",
        replaced(json_validation, "_written", lambda value, _: Unhashed(value)),
        tests=("adversarial/test_own_budget.py::test_unique_items_are_found_in_linear_time",),
    ),
    brokered(
        "multipleOf is computed in decimal",
        replaced(json_validation, "_decimal", lambda value, _: Fraction(value)),
        tests=("adversarial/test_own_budget.py::test_keywords_mean_what_json_schema_says",),
    ),
    brokered(
        "the size and depth of TOML are limited",
        never(bounded_readers, "_check_toml"),
        tests=("adversarial/test_own_budget.py::test_a_toml_file_that_takes_too_long_to_parse_is_refused_with_its_name",),
    ),
    brokered(
        "the size of YAML is limited",
        never(bounded_readers, "_check_yaml"),
        tests=("adversarial/test_own_budget.py::test_a_yaml_file_that_takes_too_long_to_parse_is_refused_with_its_name",),
    ),
    brokered(
        "long work runs outside of the event loop",
        replaced(threads, "LARGE", 1 << 40),
        tests=("adversarial/test_own_budget.py::test_long_work_runs_outside_of_the_event_loop",),
    ),
)  # fmt: skip
