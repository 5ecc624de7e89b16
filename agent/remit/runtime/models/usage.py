"""Reads how many tokens a turn took, in the forms in which providers and LangChain report them.

The forms differ in what they call a part, and in what they count into the whole. `Usage` has one meaning for all: the input
contains what was read from and written to the cache, and the output contains the reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from remit.core.events import Usage

_MOST: Final = 2**53  # a larger number is no count of tokens


def openai_usage(reported: object) -> Usage:
    """The `usage` object of a chat completion of OpenAI or of a server with its interface.

    Some servers leave reasoning out of `completion_tokens` and count it in `total_tokens` only: the difference is then output.
    """
    usage = _mapping(reported)
    read, written = _mapping(usage.get("prompt_tokens_details")), _mapping(usage.get("completion_tokens_details"))
    input_tokens, output_tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    total, reasoning = _count(usage.get("total_tokens")), _count(written.get("reasoning_tokens"))
    if input_tokens is not None and total is not None and total > input_tokens + (output_tokens or 0):
        missing = total - input_tokens - (output_tokens or 0)
        output_tokens = (output_tokens or 0) + missing
        reasoning = missing if reasoning is None else max(reasoning, missing)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        # Their names at OpenAI, DeepSeek, Moonshot, and at proxies in front of Anthropic.
        cache_read=_first(
            read.get("cached_tokens"),
            usage.get("prompt_cache_hit_tokens"),
            usage.get("cached_tokens"),
            usage.get("cache_read_input_tokens"),
        ),
        cache_write=_first(
            read.get("cache_write_tokens"), read.get("cache_creation_tokens"), usage.get("cache_creation_input_tokens")
        ),
        reasoning=reasoning,
    )


def langchain_usage(reported: object) -> Usage:
    """LangChain's `usage_metadata` of a message; without one, no number is known."""
    usage = _mapping(reported)
    read, written = _mapping(usage.get("input_token_details")), _mapping(usage.get("output_token_details"))
    write = _count(read.get("cache_creation"))
    # Anthropic's library divides what was written by how long it stays, and then leaves the sum out.
    short, hour = _count(read.get("ephemeral_5m_input_tokens")), _count(read.get("ephemeral_1h_input_tokens"))
    if short or hour:
        write = max(write or 0, (short or 0) + (hour or 0))
    return Usage(
        input_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
        cache_read=_count(read.get("cache_read")),
        cache_write=write,
        cache_write_1h=hour,
        reasoning=_count(written.get("reasoning")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _first(*values: object) -> int | None:
    return next((count for value in values if (count := _count(value)) is not None), None)


def _count(value: object) -> int | None:
    """The value as a number of tokens; None if it is none. Some servers write whole numbers with a decimal point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _MOST:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else None
