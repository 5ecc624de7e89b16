"""How many tokens a turn took, in every form in which providers report it."""

from __future__ import annotations

from typing import Any

import pytest

from remit.core.events import Usage
from remit.runtime.models.usage import langchain_usage, openai_usage

BASE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        pytest.param(BASE, Usage(input_tokens=100, output_tokens=20), id="the three numbers"),
        pytest.param(
            {
                **BASE,
                "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 12},
            },
            Usage(input_tokens=100, output_tokens=20, cache_read=64, reasoning=12),
            id="OpenAI's details",
        ),
        pytest.param(
            {**BASE, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
            Usage(input_tokens=100, output_tokens=20, cache_read=64),
            id="a cache hit beside the numbers",
        ),
        pytest.param(
            {**BASE, "cache_read_input_tokens": 64, "cache_creation_input_tokens": 10},
            Usage(input_tokens=100, output_tokens=20, cache_read=64, cache_write=10),
            id="Anthropic's names, behind a proxy",
        ),
        pytest.param(
            {**BASE, "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 10}},
            Usage(input_tokens=100, output_tokens=20, cache_read=64, cache_write=10),
            id="a write in the details",
        ),
        pytest.param(
            {**BASE, "total_tokens": 150, "completion_tokens_details": {"reasoning_tokens": 30}},
            Usage(input_tokens=100, output_tokens=50, reasoning=30),
            id="reasoning in the total only",
        ),
        pytest.param(
            {**BASE, "total_tokens": 150},
            Usage(input_tokens=100, output_tokens=50, reasoning=30),
            id="a total that the parts do not reach",
        ),
        pytest.param({"total_tokens": 120}, Usage(), id="a total only"),
        pytest.param({"prompt_tokens": 100.0, "completion_tokens": 20.0}, Usage(input_tokens=100, output_tokens=20), id="floats"),
        pytest.param({"prompt_tokens": "100", "completion_tokens": -1}, Usage(), id="no numbers of tokens"),
        pytest.param({"prompt_tokens": True, "completion_tokens": None}, Usage(), id="a boolean and null"),
        pytest.param({**BASE, "prompt_tokens_details": None}, Usage(input_tokens=100, output_tokens=20), id="null details"),
        pytest.param(None, Usage(), id="nothing"),
        pytest.param([1], Usage(), id="a list"),
    ],
)  # fmt: skip
def test_what_a_server_reports_is_counted_once_and_in_one_meaning(reported: Any, expected: Usage) -> None:
    assert openai_usage(reported) == expected


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        pytest.param(None, Usage(), id="nothing"),
        pytest.param(
            {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120},
            Usage(input_tokens=100, output_tokens=20),
            id="no details",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "input_token_details": {"cache_read": 64, "cache_creation": 10},
                "output_token_details": {"reasoning": 5},
            },
            Usage(input_tokens=100, output_tokens=20, cache_read=64, cache_write=10, reasoning=5),
            id="all details",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "input_token_details": {
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 7,
                    "ephemeral_1h_input_tokens": 3,
                },
            },
            Usage(input_tokens=100, output_tokens=20, cache_write=10, cache_write_1h=3),
            id="writes by how long they stay",
        ),
    ],
)
def test_what_langchain_reports_is_counted_in_the_same_meaning(reported: Any, expected: Usage) -> None:
    assert langchain_usage(reported) == expected
