"""JSON is read strictly and has one canonical spelling."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from remit.core.errors import Refusal
from remit.core.parsing.strict_json import canonical_json, digest, digest_bytes, parse_arguments
from support import corpus

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def json_problem(text: str) -> str:
    with pytest.raises(Refusal) as refused:
        parse_arguments(text)
    assert refused.value.code == "invalid_arguments"
    return str(refused.value.details["problem"])


def numbers(value: Any) -> list[float]:
    """Every number at any depth of a JSON value."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for item in inner for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"to": "ann", "to": "mallory"}', "duplicate_key"),
        ('{"a": {"to": 1, "\\u0074o": 2}}', "duplicate_key"),
        ('{"amount": NaN}', "not_finite"),
        ('{"amount": -Infinity}', "not_finite"),
        ('{"amount": 9007199254740992}', "number_out_of_range"),
        ('{"amount": -9007199254740992}', "number_out_of_range"),
        ('{"amount": 1e309}', "number_out_of_range"),
        ('{"amount": 1e18}', "number_out_of_range"),
        ('{"amount": ' + "1" * 100_000 + "}", "number_out_of_range"),
        ('{"a": ' + "[" * 32 + "]" * 32 + "}", "too_deep"),
        ('{"a": ' + "[" * 200_000, "too_deep"),
        ('{"a": "\\ud800"}', "lone_surrogate"),
        ('{"\\udfff": 1}', "lone_surrogate"),
        ('{"a": ["\ud800"]}', "lone_surrogate"),
        ('{"a": "' + "x" * 1024 * 1024 + '"}', "too_long"),
        ('{"a": 1} {"b": 2}', "trailing_text"),
        ('{"a": 1}]', "trailing_text"),
        ('\ufeff{"a": 1}', "byte_order_mark"),
        ('{"to": "ann", "amount": 10', "not_json"),
        ("{'a': 1}", "not_json"),
        ('{"a": 1,}', "not_json"),
        ('{"a": "\n"}', "not_json"),
        ("", "not_json"),
        ("[]", "not_object"),
        ('"text"', "not_object"),
        ("null", "not_object"),
    ],
)
def test_arguments_that_two_readers_could_read_differently_are_refused(text: str, expected: str) -> None:
    assert json_problem(text) == expected


def test_the_offset_of_an_error_is_reported() -> None:
    with pytest.raises(Refusal) as refused:
        parse_arguments('{"a": 1} x')
    assert refused.value.details == {"problem": "trailing_text", "at": 9}


def test_brackets_inside_strings_are_no_nesting() -> None:
    text = json.dumps({"a": "[" * 500 + '\\"' + "{" * 500})
    assert parse_arguments(text) == json.loads(text)


def test_a_text_full_of_quotes_that_never_end_is_refused_at_once() -> None:
    assert json_problem('{"' + '\\"' * 500_000) == "not_json"
    assert json_problem('{"a": "\\') == "not_json"


def test_a_whole_number_has_one_spelling() -> None:
    read = parse_arguments('{"a": 5.0, "b": 5, "c": -0.0, "d": 1e2, "e": -7, "f": 0.5, "g": -7.0}')
    assert read == {"a": 5, "b": 5, "c": 0, "d": 100, "e": -7, "f": 0.5, "g": -7}
    assert {type(read[name]) for name in "abcdeg"} == {int}


@UNHURRIED
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_canonical_json_writes_is_read_back_or_refused_as_too_large(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    if any(2**53 <= abs(number) < 1e21 for number in numbers(value)):  # floats that JSON readers do not keep
        assert json_problem(text) == "number_out_of_range"
        return
    read = parse_arguments(text)
    assert read == value
    written = canonical_json(read)
    assert parse_arguments(written.decode()) == read
    assert canonical_json(parse_arguments(written.decode())) == written


@UNHURRIED
@given(st.dictionaries(st.text(), JSON, max_size=4))
@example({"\ud800": 1, "a": "\udfff"})
@example({"é": 1, "\U0001f600": 2, "\uffff": 3})
@example({"a": 2**53, "b": 1.0, "c": '\x00\x1f\x7f\u2028/\\"'})
def test_canonical_json_is_written_as_rfc_8785_says(value: dict[str, Any]) -> None:
    """Compared with the library that implements the standard, for both encoders."""
    try:
        expected = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(Refusal):
            canonical_json(value)
        return
    assert canonical_json(value) == expected


@UNHURRIED
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_digest_depends_on_the_value_and_not_on_its_spelling(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    try:
        expected = digest(value)
    except Refusal:
        return
    assert digest(json.loads(json.dumps(backwards, indent=1))) == expected
    assert expected == digest_bytes(canonical_json(value))
    assert expected.startswith("sha256:")
    assert len(expected) == 7 + 64


def test_a_value_that_json_cannot_express_has_no_digest() -> None:
    for value in (float("nan"), 2**53, "\ud800", {"a": float("inf")}):
        with pytest.raises(Refusal, match="canonical JSON"):
            digest(value)


def test_the_outside_json_suite_is_read_strictly() -> None:
    stricter = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}  # valid, and read in two ways
    checked = 0
    for line in corpus("jsontestsuite.jsonl").splitlines():
        case = json.loads(line)
        name = case["name"].rpartition("/")[2]
        try:
            text = base64.b64decode(case["b64"]).decode()
        except UnicodeDecodeError:
            assert not name.startswith("y_"), name
            continue
        try:
            parse_arguments('{"value": ' + text + "}")
            accepted = True
        except Refusal:
            accepted = False
        if name.startswith(("y_", "n_")):
            assert accepted is (name.startswith("y_") and name not in stricter), name
            checked += 1
    assert checked > 250


def test_naughty_strings_survive_arguments_and_canonical_json() -> None:
    strings = json.loads(corpus("blns.json"))
    assert len(strings) > 400
    for text in strings:
        arguments = {"value": text, text: 1}
        assert parse_arguments(json.dumps(arguments)) == arguments
        assert parse_arguments(canonical_json(arguments).decode()) == arguments
