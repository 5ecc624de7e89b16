"""How long to wait before a provider is asked again, as its headers and its error say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from remit.core import Json
from remit.runtime.models.wire.event_stream import is_array, is_object

LONGEST_WAIT: Final = 7 * 24 * 3600.0  # seconds; a longer time is not believed
_MOST_VALUES: Final = 200  # of an error that are looked at
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = (
    r"(\d{1,12}(?:\.\d{1,9})?)\s?(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
)
_PARTS = re.compile(_PART)
_DURATION = re.compile(rf"(?:{_PART}[ ,]*)+")
_IN_WORDS = re.compile(rf"(?:again|retry|wait|reset|resets)\D{{0,24}}?((?:{_PART}(?:,? and |[ ,])?)+)")
_RESET = re.compile(r"(?:x-ratelimit|anthropic-ratelimit|ratelimit)-(?:(.+)-)?reset(?:-(.+))?")
# Members of an error that hold a time to wait or the time of a reset, without `_` and `-`, in lower case.
_MEMBERS: Final = frozenset(
    {"retryafter", "retryafterms", "retryafterseconds", "retrydelay", "resetsinseconds", "resetsat", "resetat"}
)


def wait_of(headers: Mapping[str, str], error: Json, message: str, *, now: float) -> float | None:
    """In how many seconds the provider says to ask again; None if it does not say.

    `headers` have names in lower case, `error` is the error as a value, `message` is its text, `now` is Unix seconds. The first
    that says something counts, in this order: `Retry-After`, the error, the reset times of used-up limits, the text.
    """
    found = (
        _milliseconds(headers.get("retry-after-ms", ""))
        or _wait(headers.get("retry-after", ""), now)
        or next(_waits_in(error, now), None)
        or _reset_in(headers, now)
        or _in_words(message)
    )
    return found if found is not None and 0 < found <= LONGEST_WAIT else None


def _milliseconds(text: str) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000


def _wait(value: object, now: float) -> float | None:
    """Seconds from now. A number is seconds or, if it is very large, a Unix time in seconds or milliseconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number: float | None = float(value) if abs(value) < 1e15 else None
    else:
        number = _number(value) if isinstance(value, str) else None
    if number is not None:
        return number / 1000 - now if number > 1e11 else number - now if number > 1e9 else number
    if not isinstance(value, str) or not (text := value.strip()[:64]):
        return None
    if _DURATION.fullmatch(text.lower()):
        return _duration(text.lower())
    return _time(text, now)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,15}(?:\.\d{1,9})?\s*", text) else None


def _duration(text: str) -> float:
    parts: list[tuple[str, str]] = _PARTS.findall(text)
    return sum(float(number) * _UNITS["ms" if unit.startswith(("ms", "milli")) else unit[0]] for number, unit in parts)


def _time(text: str, now: float) -> float | None:
    """Seconds until a date of HTTP or of RFC 3339."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, OverflowError):
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return None


def _waits_in(error: Json, now: float) -> Iterator[float]:
    """Every time to wait in the members of the error, at any depth."""
    ahead: list[Json] = [error]
    for _ in range(_MOST_VALUES):
        if not ahead:
            return
        value: Json = ahead.pop(0)
        if is_array(value):
            ahead.extend(value[:_MOST_VALUES])
        elif is_object(value):
            for name, item in list(value.items())[:_MOST_VALUES]:
                plain = name.lower().replace("_", "").replace("-", "")
                if plain == "headers" and is_object(item):
                    texts = {key.lower(): text for key, text in item.items() if isinstance(text, str)}
                    wait = _wait(texts.get("retry-after", ""), now) or _reset_in(texts, now)
                elif plain in _MEMBERS:
                    wait = _milliseconds(str(item)) if plain.endswith("ms") else _wait(item, now)
                else:
                    ahead.append(item)
                    continue
                if wait is not None and wait > 0:
                    yield wait


def _reset_in(headers: Mapping[str, str], now: float) -> float | None:
    """The longest time until a used-up limit is reset. A limit without a count of what remains counts as used up."""
    waits: list[float] = []
    for name, value in headers.items():
        found = _RESET.fullmatch(name)
        if found is None:
            continue
        remaining = headers.get(name.replace("reset", "remaining"), "0").strip()
        wait = _wait(value, now)
        if wait is not None and remaining in ("0", "0.0", ""):
            waits.append(wait)
    return max(waits, default=None)


def _in_words(message: str) -> float | None:
    """The duration in a text such as `Please try again in 2m0s`."""
    found = _IN_WORDS.search(message[:2000].lower())
    return None if found is None else _duration(found[1])
