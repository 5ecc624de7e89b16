"""Reads JSON strictly and writes canonical JSON (RFC 8785).

A text that two JSON readers could read differently is refused. Digests are computed over the canonical form.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, cast

import rfc8785

from remit.core.errors import Refusal

if TYPE_CHECKING:  # `remit.core.calls` loads pydantic, and `remit --help` does not need it
    from collections.abc import Iterable

    from remit.core.calls import Json

LONGEST_ARGUMENTS: Final = 1024 * 1024  # bytes of UTF-8
DEEPEST: Final = 32  # objects and arrays inside each other
LARGEST_INTEGER: Final = 2**53 - 1  # RFC 8785 section 3.2.2.3: larger integers are not exact in every JSON reader
WRITTEN_AS_INTEGER: Final = 1e21  # RFC 8785 writes larger numbers with an exponent
_plain_json: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode
# A string without an end matches to the end of the text: trying again at each of its quotes would be quadratic.
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[][{}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_arguments(text: str) -> dict[str, Json]:
    """The JSON object that the model wrote.

    A whole number has one value, so `5.0` is the integer 5.

    Raises:
        Refusal: `invalid_arguments` for a text that two readers might read differently (duplicate keys, NaN, inexact numbers,
            unpaired surrogates), more than 1 MiB or more than 32 levels. `details` have the problem and, if known, its offset.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        _not_json("not_object", "the arguments must be one JSON object")
    return cast("dict[str, Json]", value)


def parse_json(text: str, *, longest: int = LONGEST_ARGUMENTS) -> Json:
    """Any JSON value, read as strictly as `parse_arguments`. `longest` is the most bytes of UTF-8 that it may have."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as failure:
        _not_json("lone_surrogate", "the text is not valid Unicode", failure.start)
    if size > longest:
        _not_json("too_long", f"the text is longer than {longest} bytes")
    if text.startswith("\ufeff"):
        _not_json("byte_order_mark", "the text starts with a byte order mark", 0)
    _check_depth(text)
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as failure:
        problem = "trailing_text" if failure.msg == "Extra data" else "not_json"
        _not_json(problem, f"the text is not JSON: {failure.msg.lower()}", failure.pos)
    if "\\u" in text:  # only an escape can be half a character: the text itself is valid
        _check_strings(value)
    return value


def canonical_json(value: Json) -> bytes:
    """The canonical JSON of the value (RFC 8785). Raises Refusal `invalid_arguments` if it is not a JSON value."""
    try:
        if _is_plain(value):
            with suppress(UnicodeEncodeError):
                return _plain_json(value).encode()
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as failure:
        raise Refusal(
            "invalid_arguments", "the value cannot be written as canonical JSON", details={"problem": "not_canonical"}
        ) from failure


def _is_plain(value: object) -> bool:
    """True if Python's own encoder writes the value as RFC 8785 does; it takes a tenth of the time.

    RFC 8785 writes floats differently. It sorts keys by UTF-16 code units, which is Python's order only for ASCII keys.
    """
    kind = type(value)
    if kind is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str or not key.isascii() or not _is_plain(item):
                return False
        return True
    if kind is list or kind is tuple:
        for item in cast("list[object]", value):  # noqa: SIM110 - a generator would double the time
            if not _is_plain(item):
                return False
        return True
    return kind is str or value is None or kind is bool or (kind is int and abs(cast("int", value)) <= LARGEST_INTEGER)


def digest(value: Json) -> str:
    """`sha256:` and 64 hex digits over the canonical JSON."""
    return digest_bytes(canonical_json(value))


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _check_depth(text: str) -> None:
    """Count the brackets outside of strings first, so that the parser never recurses deeper than `DEEPEST`."""
    if text.count("[") + text.count("{") <= DEEPEST:  # most texts, in a tenth of the time
        return
    depth = 0
    for token in _STRUCTURE.finditer(text):
        match token.group():
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case _:
                continue
        if depth > DEEPEST:
            _not_json("too_deep", f"objects and arrays are nested deeper than {DEEPEST}", token.start())


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        _not_json("duplicate_key", "an object has the same key twice")
    return value


def _integer(digits: str) -> int:
    # The length is checked first: Python raises an error for an integer with thousands of digits.
    if len(digits) > 17 or abs(number := int(digits)) > LARGEST_INTEGER:
        _not_json("number_out_of_range", f"a whole number is beyond ±{LARGEST_INTEGER}; write it as a string")
    return number


def _float(digits: str) -> float | int:
    number = float(digits)
    if number.is_integer() and abs(number) <= LARGEST_INTEGER:
        return int(number)
    if abs(number) == float("inf") or LARGEST_INTEGER < abs(number) < WRITTEN_AS_INTEGER:
        _not_json("number_out_of_range", "a number is too large to be exact in every JSON reader; write it as a string")
    return number


def _constant(_name: str) -> NoReturn:
    _not_json("not_finite", "NaN and Infinity are not JSON")


# Made once: making it takes longer than to read a short text.
_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _check_strings(value: Json) -> None:
    stack: list[Json] = [value]
    while stack:
        item: Json = stack.pop()
        if isinstance(item, str) and _SURROGATE.search(item):
            _not_json("lone_surrogate", "a string has half a character (an unpaired surrogate)")
        if isinstance(item, list | dict):
            stack.extend(cast("Iterable[Json]", item))
        if isinstance(item, dict):
            stack.extend(cast("dict[str, Json]", item).values())


def _not_json(problem: str, message: str, at: int | None = None) -> NoReturn:
    details = {"problem": problem} if at is None else {"problem": problem, "at": at}
    raise Refusal("invalid_arguments", message, details=details)
