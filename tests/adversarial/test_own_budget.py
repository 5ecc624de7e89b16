"""Limits of trusted code: data of a model, a tool or a peer costs time in proportion to its size, and blocks nothing else.

Processor time is measured, so a busy machine changes nothing. The time between two ticks of a clock in the event loop is the
time for which `remit stop`, the time limit of the run and every other call have to wait.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from remit.broker import CALLS_PER_TURN
from remit.core import WorkspaceError, in_thread, in_thread_uninterrupted
from remit.core.events import CallAnswered, CallDecided, ModelResponded
from remit.core.parsing import Mismatch, check_schema, load_toml, read_rows, validate
from remit.guardrails import Redactor
from remit.guardrails.remembered import Remembered
from remit.guardrails.repeated import Values
from remit.guardrails.secret_formats import OVERLAP, PIECE
from remit.runtime import runner as run
from remit.sandbox.egress.client_hello import ClientHelloReader
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import LARGEST_HEAD, Head, RequestReader
from remit.workspace.session import open_session
from support.principals import OPERATOR
from support.runs import DONE, Play, Played, turn
from support.workspaces.web import add

KEY = "-----BEGIN PRIVATE KEY-----"
PATIENCE_S = 1.0  # of processor time, between two beats
MOST_GROWTH = 12.0  # of 4 times the size; quadratic work takes 16 times as long


async def longest_gap(work: Coroutine[Any, Any, Any]) -> float:
    """The longest processor time of all threads between two ticks of a clock in the event loop while `work` runs."""
    gaps: list[float] = []

    async def beat() -> None:
        last = time.process_time()
        while True:
            await asyncio.sleep(0.01)
            now = time.process_time()
            gaps.append(now - last)
            last = now

    clock = asyncio.ensure_future(beat())
    await asyncio.sleep(0)  # the clock ticks before the work begins, also if that never waits
    try:
        await work
        await asyncio.sleep(0.02)
    finally:
        clock.cancel()
    return max(gaps)


def seconds(work: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(3):
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return min(times)


def many(number: int) -> dict[str, Any]:
    return {"say": "go", "calls": [{"ledger__look": {"name": f"a{index}"}} for index in range(number)]}


# -- calls of one turn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [CALLS_PER_TURN + 1, CALLS_PER_TURN + 2, 1_000, 4_800])
def test_a_turn_of_thousands_of_calls_costs_no_more_than_the_largest_allowed_turn(play: Play, number: int) -> None:
    """Of the calls beyond the limit only one is recorded; its error is for all of them."""
    played = play([many(number), DONE], calls=10)
    answered = [one.event for one in played.records if isinstance(one.event, CallAnswered)]
    assert len(answered) == CALLS_PER_TURN + 1
    error = played.error(0, CALLS_PER_TURN)
    assert (error["code"], error["details"]) == ("budget_exhausted", {"limit": "calls_a_turn", "of": CALLS_PER_TURN})
    (first,) = [one.event for one in played.records if isinstance(one.event, ModelResponded)][:1]
    assert len(first.proposed_calls) == CALLS_PER_TURN + 1
    assert played.ended.finished is not None
    assert played.ended.finished.outcome == "completed"


@pytest.mark.parametrize("number", [1, CALLS_PER_TURN])
def test_every_call_of_the_largest_allowed_turn_is_decided(play: Play, number: int) -> None:
    """The counterpart."""
    played = play([many(number), DONE], calls=200)
    decided = [one.event for one in played.records if isinstance(one.event, CallDecided)]
    assert [one.decision.verdict for one in decided if one.decision] == ["allow"] * number


def test_an_operator_can_stop_a_run_while_thousands_of_calls_are_decided(clerk: Callable[..., Path]) -> None:
    folder = clerk([many(4_800), DONE], calls=10)
    assert asyncio.run(longest_gap(started(folder))) < PATIENCE_S


def started(folder: Path, agent: str = "clerk") -> Coroutine[Any, Any, Any]:
    opened = open_session(folder)
    model = run.open_model_of(opened, agent)
    return run.start_run(
        opened, run.RunRequest(agent=agent, task="go", subject="user:operator", by=OPERATOR, model=model)
    )


# -- secrets -----------------------------------------------------------------------------------------------------------


PIECES = {
    "keys": KEY,
    "keys with bodies": f"{KEY}\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n",
    "other keys": "-----BEGIN RSA PRIVATE KEY-----",
    "first words": "-----BEGIN ",
    "sk": "sk-",
    "sk and more": "sk-a",
    "sk inside": "xsk-a",
    "tokens": "-eyJaaaaaaaa",
    "short tokens": "-eyJ",
}


@pytest.mark.parametrize("kind", PIECES)
def test_no_text_makes_the_search_for_secrets_slow(kind: str) -> None:
    """Four times the text takes about four times as long, also if it repeats the beginning of a secret."""
    short, long = (PIECES[kind] * (size // len(PIECES[kind])) for size in (16_000, 64_000))
    times = [seconds(lambda text=text: Redactor("run").text(text)) for text in (short, long)]
    assert times[1] < max(MOST_GROWTH * times[0], 0.05)


def test_a_text_of_256_kib_of_key_headers_is_redacted() -> None:
    """Each header is a key without an end line: nothing of it remains."""
    text = Redactor("run").text(KEY * (256 * 1024 // len(KEY)))
    assert "BEGIN" not in text
    assert text.startswith("[redacted:")


BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"


@pytest.mark.parametrize(
    "text",
    [
        f"{KEY}\n{BODY}\n{BODY}\n-----END PRIVATE KEY-----",
        f"{KEY}\n{BODY}\n{BODY}\n{BODY[:9]}",  # cut by a limit
        f"{KEY}\\n{BODY}\\n{BODY}==",
        f"-----BEGIN EC PRIVATE KEY-----\n{BODY}\n-----END EC PRIVATE KEY-----",
        f"{KEY}\n{BODY}\n[redacted:00000000]\n{BODY}\n-----END PRIVATE KEY-----",
    ],
    ids=["whole", "cut", "cut and escaped", "of another kind", "with a placeholder"],
)
def test_a_private_key_without_its_end_line_is_redacted_as_a_whole(text: str) -> None:
    cleaned = Redactor("run").text(f"before {text}")
    assert BODY[:9] not in cleaned
    assert cleaned.startswith("before [redacted:")


def test_words_after_the_first_line_of_a_key_are_not_redacted() -> None:
    """The counterpart: text that is not base64 is not part of a key."""
    assert Redactor("run").text(f"{KEY} is how a key begins").endswith(" is how a key begins")


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9",
        "sk-proj-" + "a1B2c3D4e5" * 4,
        "x" + "sk-abc" + "a" * 20 + "T3BlbkFJ" + "b" * 20,
        "ghp_" + "a1B2" * 10,
    ],
)
@pytest.mark.parametrize("at", [0, PIECE - 30, PIECE - 1, PIECE, PIECE + OVERLAP - 10, 3 * PIECE - 20])
def test_a_secret_is_found_anywhere_in_a_long_text(secret: str, at: int) -> None:
    """Long texts are scanned in pieces, and a secret may be at the boundary of two pieces."""
    text = f"{' ' * at} {secret} {'x ' * PIECE * 2}"
    cleaned = Redactor("run").text(text)
    assert secret not in cleaned
    assert secret[-12:] not in cleaned
    assert cleaned.endswith("x x ")


def test_a_secret_longer_than_the_overlap_of_two_pieces_is_redacted_as_a_whole() -> None:
    secret = "sk-" + "a1B2c3D4" * (OVERLAP // 4)
    cleaned = Redactor("run").text(f"{' ' * (PIECE - 100)}{secret} end {'x ' * PIECE}")
    assert secret[-20:] not in cleaned
    assert " end x" in cleaned


def test_a_text_too_long_to_scan_is_withheld_with_a_note() -> None:
    """A text that is not scanned is never shown."""
    size = (16 << 20) + 1
    assert Redactor("run").text("a" * size).startswith(f"[withheld: {size} characters")
    assert Redactor("run").json_text('"' + "a" * size).startswith("[withheld:")


def test_a_known_secret_in_thousands_of_strings_is_redacted_in_linear_time() -> None:
    secret = "c4nary-horse/Battery+staple"
    redactor = Redactor("run", [secret])
    short, long = ([secret] * size for size in (500, 2_000))
    times = [seconds(lambda value=value: redactor.json(value)) for value in (short, long)]
    assert times[1] < MOST_GROWTH * times[0]
    assert {text[:10] for text in redactor.json(long)} == {"[redacted:"}


@pytest.mark.parametrize(
    "text",
    ["&#" + "9" * 5_000, "&#" + "0" * 5_000 + "65;", "&#x" + "f" * 5_000, "&#" + "1" * 8],
    ids=["digits", "zeros", "hex", "eight"],
)
def test_a_number_of_thousands_of_digits_does_not_stop_redaction(text: str) -> None:
    try:
        cleaned = Redactor("run", ["c4nary-horse"]).text(f"{text} c4nary-horse")
    except ValueError as failure:
        pytest.fail(f"it stops all cleaning: {failure}")
    assert cleaned.endswith("]")


def test_a_secret_after_leading_zeros_is_found() -> None:
    """The counterpart."""
    assert "battery" not in Redactor("run", ["Abattery-staple"]).text("&#0000000065;battery-staple")


# -- schemas -----------------------------------------------------------------------------------------------------------

REF = {"$ref": "#/$defs/F"}


def branch(op: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"of": REF, "op": {"type": "string", **more}},
        "required": ["of", "op"],
        "title": op,
    }


IS = {"type": "object", "properties": {"op": {"const": "is", "type": "string"}}, "required": ["op"]}
UNIONS: dict[str, list[dict[str, Any]]] = {
    "distinguished by a word": [branch("not", const="not"), branch("maybe", const="maybe"), IS],
    "distinguished by a list of one": [branch("not", enum=["not"]), branch("maybe", enum=["maybe"]), IS],
    "distinguished by a pattern": [branch("not", pattern="^not$"), branch("maybe", pattern="^maybe$"), IS],
    "not distinguished": [branch("a", minLength=99), branch("b", minLength=98), branch("c"), IS],
}


def union(kind: str) -> dict[str, Any]:
    return {"type": "object", "properties": {"where": REF}, "$defs": {"F": {"anyOf": UNIONS[kind]}}}


def levels(number: int, last: Any = None) -> dict[str, Any]:
    value: Any = {"op": "is"} if last is None else last
    for _ in range(number):
        value = {"of": value, "op": "maybe"}
    return {"where": value}


@pytest.mark.parametrize("last", [None, {"op": 5}], ids=["fits", "does not fit"])
@pytest.mark.parametrize("kind", UNIONS)
def test_a_union_in_a_union_takes_time_in_proportion_to_its_levels(kind: str, last: Any) -> None:
    """Each level costs the same. Without a cache each would double the work, and 30 levels would never end."""
    schema = union(kind)
    assert check_schema(schema) == ()
    times = [seconds(lambda size=size: fits(schema, levels(size, last))) for size in (4, 12)]
    assert times[1] < MOST_GROWTH * times[0]
    assert fits(schema, levels(30, last)) is (last is None)


def test_definitions_that_refer_to_the_next_one_twice_are_visited_once() -> None:
    """The same for the schema alone."""
    definitions = {f"D{n}": {"anyOf": [{"$ref": f"#/$defs/D{n + 1}"}] * 2} for n in range(30)} | {
        "D30": {"type": "null"}
    }
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/D0"}}, "$defs": definitions}
    assert check_schema(schema) == ()
    times = []
    for depth in (16, 24):
        inner = schema | {"$defs": definitions | {f"D{depth}": {"type": "null"}}}
        times.append(seconds(lambda inner=inner: fits(inner, {"a": 5})))
        if depth == 16 and times[0] > 0.5:
            break
    assert len(times) == 2
    assert fits(schema, {"a": None})
    assert not fits(schema, {"a": 1})


def fits(schema: dict[str, Any], value: Any) -> bool:
    try:
        validate(schema, value)
    except Mismatch:
        return False
    return True


def test_defaults_inside_of_unions_are_filled_once_and_only_from_the_branch_that_fits() -> None:
    a = {
        "type": "object",
        "properties": {"k": {"const": "a"}, "n": {"default": 1}, "x": {"type": "integer"}},
        "required": ["k", "x"],
    }
    b = {"type": "object", "properties": {"k": {"const": "b"}, "m": {"default": [2]}}, "required": ["k"]}
    schema = {"type": "array", "items": {"anyOf": [a, b]}}
    given = [{"k": "b"}, {"k": "a", "x": 1}]
    assert validate(schema, given) == [{"k": "b", "m": [2]}, {"k": "a", "x": 1, "n": 1}]
    assert given == [{"k": "b"}, {"k": "a", "x": 1}], "what was given stays as it is"
    assert not fits(schema, [{"k": "a"}])


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^(\w+[- ]?)+$", "a" * 18 + "!"),
        (r"^(a+)+$", "a" * 18 + "!"),
        (r"(x+x+)+y", "x" * 20),
        (r"^(a|aa)+$", "a" * 26 + "!"),
    ],
)
def test_a_pattern_takes_time_in_proportion_to_the_text(pattern: str, text: str) -> None:
    """With backtracking, 26 characters took half a minute."""
    schema = {"type": "string", "pattern": pattern}
    assert check_schema(schema) == ()
    assert not fits(schema, text)
    assert seconds(lambda: fits(schema, text)) < 0.002
    assert not fits(schema, text[:-1] * 1_000 + text[-1])


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", r"\w{1000}", "(?<!x)a", "("])
def test_a_pattern_without_a_linear_engine_is_refused_when_its_tool_is_pinned(pattern: str) -> None:
    faults = check_schema({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})
    assert ["cannot be matched in linear time" in fault for fault in faults] == [True]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"INC-\d+", "see INC-1"), (r"^INC-\d+$", "INC-1"), (r"^INC-\d+$", "see INC-1"), (r"^a$", "a\n"), ("", "a"), (r"\d", "١"), ("é", "né")],
)  # fmt: skip
def test_a_pattern_is_found_where_pydantic_finds_it(pattern: str, text: str) -> None:
    """Anywhere in the text, as JSON Schema says."""
    adapter = TypeAdapter(Annotated[str, Field(pattern=pattern)])
    try:
        expected = adapter.validate_python(text) == text
    except ValidationError:
        expected = False
    assert fits(adapter.json_schema(), text) is expected


@pytest.mark.parametrize("kind", ["numbers", "texts", "objects"])
def test_unique_items_are_found_in_linear_time(kind: str) -> None:
    of: Callable[[int], Any] = {"numbers": int, "texts": str, "objects": lambda n: {"n": n}}[kind]
    schema = {"type": "array", "uniqueItems": True}
    times = [seconds(lambda size=size: fits(schema, [of(n) for n in range(size)])) for size in (1_000, 4_000)]
    assert times[1] < MOST_GROWTH * times[0]
    assert fits(schema, [of(n) for n in range(20)])
    assert not fits(schema, [of(n) for n in (*range(20), 7)])


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"uniqueItems": True}, [1, True], True),
        ({"uniqueItems": True}, [[1], [True]], True),
        ({"uniqueItems": True}, [1, 1.0], False),
        ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ({"enum": [[1]]}, [True], False),
        ({"const": {"a": 0}}, {"a": False}, False),
        ({"multipleOf": 0.1}, 0.3, True),
        ({"multipleOf": 0.01}, 19.99, True),
        ({"multipleOf": 0.1}, 0.35, False),
        ({"multipleOf": 0.1}, 1e300, True),
        ({"multipleOf": 3}, 10, False),
        ({"exclusiveMinimum": 0}, 1e300, True),
        ({"exclusiveMaximum": 0}, -1e300, True),
        ({"exclusiveMinimum": 0}, 0, False),
        ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 3, False),
        ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 9, True),
        ({"anyOf": [{"minimum": 1}, {"maximum": 5}]}, 3, True),
    ],
)
def test_keywords_mean_what_json_schema_says(schema: dict[str, Any], value: Any, expected: bool) -> None:
    assert check_schema(schema) == ()
    assert fits(schema, value) is expected


# -- what is remembered, and what is read from files -------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1_000, 40_000, 200_000])
def test_the_cache_of_texts_is_bounded_by_their_size(size: int) -> None:
    remembered = Remembered(str.upper, most=100_000)
    for number in range(50):
        text = f"{number:0{size}}"
        assert remembered(text) == text
        assert remembered.held <= 100_000 + 64


def test_a_repeated_text_is_computed_once() -> None:
    """The counterpart."""
    worked: list[str] = []
    remembered = Remembered(lambda text: worked.append(text) or text, most=1_000)  # type: ignore[func-returns-value]
    assert [remembered(text) for text in ("a", "b", "a", "a")] == ["a", "b", "a", "a"]
    assert worked == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    ["a." * 2_000 + "a = 1", '"a".' * 2_000 + "a = 1", "x = " + "[" * 5_000, "x = " + "9" * 5_000, "#" * (1 << 23)],
)
def test_a_toml_file_that_takes_too_long_to_parse_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        load_toml(text, file="tool.toml")
    assert refused.value.problems[0].file == "tool.toml"


@pytest.mark.parametrize(
    "text",
    ["- " * 3_000, "[" * 2_000, "- 2001-99-99", "- " + "9" * 20_000, "#" * (1 << 23)],
    ids=["levels", "flow levels", "day", "digits", "length"],
)
def test_a_yaml_file_that_takes_too_long_to_parse_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        list(read_rows(text, file="cases.yaml"))
    assert refused.value.problems[0].file == "cases.yaml"
    # Deep texts are refused by their depth, before the parser builds anything.
    assert ("nested deeper" in refused.value.problems[0].what) is text.startswith(("- - ", "["))


def test_ordinary_files_are_parsed() -> None:
    """The counterpart."""
    assert load_toml('a.b.c = 1\n[d."e.f"]\ng = "a.a.a"', file="f") == {
        "a": {"b": {"c": 1}},
        "d": {"e.f": {"g": "a.a.a"}},
    }
    assert [row.value for row in read_rows("- a: [[1], [2]]\n- b: - c\n".replace("- c", "c"), file="f")] == [
        {"a": [[1], [2]]},
        {"b": "c"},
    ]


def test_labelled_values_are_found_however_many_there_are() -> None:
    values = ["12345", "1234567", "12345678", "99999", "abcdef"]
    assert set(Values(values).find_in("x12345679 abcde abcdef")) == {"12345", "1234567", "abcdef"}
    assert [*Values([]).find_in("x12345")] == []
    assert [*Values(["123"]).find_in("123")] == []


# -- peers that drip ---------------------------------------------------------------------------------------------------


class Dripping:
    """A connection that delivers one byte at a time."""

    def __init__(self, data: bytes, idle: int = 0) -> None:
        self._data = data
        self._at = 0

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        self._at += 1
        return self._data[self._at - 1 : self._at]


def long_head(size: int) -> bytes:
    field = b"x: " + b"a" * 1_000 + b"\r\n"
    return b"GET http://api.test/ HTTP/1.1\r\nhost: api.test\r\n" + field * (size // len(field)) + b"\r\n"


async def read_head(data: bytes) -> Head | None:
    return await RequestReader(Dripping(data)).head()  # type: ignore[arg-type]


async def test_a_request_head_that_arrives_byte_by_byte_is_parsed_once() -> None:
    """Four times the bytes take about four times as long."""

    async def cost(size: int) -> float:
        times: list[float] = []
        for _ in range(2):
            begun = time.thread_time()
            assert await read_head(long_head(size)) is not None
            times.append(time.thread_time() - begun)
        return min(times)

    assert await cost(28_000) < MOST_GROWTH * await cost(7_000)


async def test_twenty_slow_connections_do_not_delay_another_call() -> None:
    heads = asyncio.gather(*(read_head(long_head(28_000)) for _ in range(20)))

    async def work() -> None:
        assert all(head is not None for head in await heads)

    assert await longest_gap(work()) < PATIENCE_S


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b"GET http://api.test/ HTTP/1.1\r\nhost: api.test\r\n\r\n", ""),
        (b"GET http://api.test/ HTTP/1.1\nhost: api.test\r\n\r\n", "malformed"),
        (b"GET http://api.test/ HTTP/1.1\rhost: api.test\r\n\r\n", "malformed"),
        (b"GET http://api.test/ HTTP/1.1\r\n\nhost: api.test\r\n\r\n", "malformed"),
        (b"x" * (LARGEST_HEAD + 2), "malformed"),
    ],
)
async def test_a_request_head_means_the_same_however_it_is_split(data: bytes, verdict: str, cut: int) -> None:
    class Cut(Dripping):
        async def receive(self) -> bytes:
            self._at += cut
            return self._data[self._at - cut : self._at]

    verdict_of_head = ""
    try:
        assert await RequestReader(Cut(data)).head() is not None  # type: ignore[arg-type]
    except Blocked as blocked:
        verdict_of_head = blocked.verdict
    assert verdict_of_head == verdict


def test_a_client_hello_that_arrives_byte_by_byte_is_parsed_once() -> None:
    """Records of one byte each are the slowest form of a ClientHello. Quadratic work takes 64 times as long."""

    def drip(size: int) -> None:
        reader = ClientHelloReader()
        data = b"".join(b"\x16\x03\x01\x00\x01" + bytes([one]) for one in (1, 1, 0, 0, *(0,) * (size // 6)))
        for at in range(len(data)):
            reader.feed(data[at : at + 1])

    assert seconds(lambda: drip(3_000)) < 24 * seconds(lambda: drip(375))


# -- what is large leaves the loop -------------------------------------------------------------------------------------


async def test_long_work_runs_outside_of_the_event_loop() -> None:
    def slow() -> int:
        return sum(number % 7 for number in range(10_000_000))

    assert await longest_gap(in_thread(1 << 20, slow)) < 0.3


async def test_a_task_that_is_cancelled_while_it_redacts_a_result_still_records_it() -> None:
    """The result is recorded first; then the cancellation continues."""
    recorded: list[int] = []

    async def work() -> None:
        recorded.append(await in_thread_uninterrupted(1 << 20, lambda: time.sleep(0.2) or 7))  # type: ignore[func-returns-value]
        await asyncio.sleep(30)
        recorded.append(8)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert recorded == [7]
    assert task.cancelled()


def test_an_operator_can_stop_a_run_while_arguments_of_256_kib_are_redacted(clerk: Callable[..., Path]) -> None:
    text = KEY * (256 * 1024 // len(KEY))
    folder = clerk([turn(ledger__look={"name": "ann", "text": text}), DONE])
    assert asyncio.run(longest_gap(started(folder))) < PATIENCE_S


NOISY = {
    "tool.toml": """
name = "noisy"
version = "1"
owner = "tests@example.com"
summary = "Prints without end"
[limits]
output = "1MiB"
[actions.print]
summary = "Print ten mebibytes"
touches = []
effect = "read"
""",
    "main.py": """
import os

def print(size: int) -> str:
    line = b"-----BEGIN PRIVATE KEY-----" * 1000
    for _ in range(size // len(line)):
        os.write(2, line)
    return "done"
""",
}


def test_an_operator_can_stop_a_run_while_ten_mebibytes_of_output_are_redacted(session: Path) -> None:
    rules = "p, agent:web, noisy.*, **, True, allow\np, role:operator, noisy.*, **, True, allow\n"
    add(session, "noisy", NOISY, rules, [turn(noisy__print={"size": 10 << 20})])
    opened = open_session(session)
    model = run.open_model_of(opened, "web")
    ended: list[Any] = []

    async def work() -> None:
        start = run.RunRequest(agent="web", task="print", subject="user:operator", by=OPERATOR, model=model)
        ended.append(await run.start_run(opened, start))

    assert asyncio.run(longest_gap(work())) < PATIENCE_S
    played = Played(folder=session, opened=opened, ended=ended[0])
    printed = json.dumps([recorded.model_dump(mode="json") for recorded in played.records])
    assert "BEGIN PRIVATE KEY" not in printed
