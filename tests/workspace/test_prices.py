"""`policies/prices.toml`: what a turn costs, and every problem of the file."""

from __future__ import annotations

from decimal import Decimal

import pytest

from remit.core.errors import WorkspaceError
from remit.core.events import Usage
from remit.workspace.prices import Prices, millionths, read_prices

MODEL = '[[model]]\nname = "openai:x"\ninput = 2\noutput = 10\n'


def cost(rest: str, **usage: int) -> Decimal | None:
    return read_prices(MODEL + rest).cost("openai:x", Usage(**{"input_tokens": 1000, "output_tokens": 100, **usage}))


@pytest.mark.parametrize(
    ("rest", "usage", "expected"),
    [
        pytest.param("", {}, "0.003", id="input and output"),
        pytest.param("", {"cache_read": 500, "cache_write": 100}, "0.003", id="a cache without prices is input"),
        pytest.param("cache_read = 0.2", {"cache_read": 500}, "0.0021", id="what the cache gave"),
        pytest.param("cache_write = 2.5", {"cache_write": 400}, "0.0032", id="what the cache took"),
        pytest.param(
            "cache_write = 2.5", {"cache_write": 400, "cache_write_1h": 400}, "0.0032", id="an hour as any other time"
        ),
        pytest.param(
            "cache_write = 2.5\ncache_write_1h = 4",
            {"cache_write": 400, "cache_write_1h": 100},
            "0.00335",
            id="an hour",
        ),
        pytest.param("", {"reasoning": 60}, "0.003", id="reasoning is output"),
        pytest.param("reasoning = 20", {"reasoning": 60}, "0.0036", id="reasoning with a price"),
        pytest.param("turn = 0.5", {}, "0.503", id="each turn"),
        pytest.param("[[model.tier]]\nover = 1000\ninput = 4", {}, "0.003", id="as long as the tier"),
        pytest.param("[[model.tier]]\nover = 999\ninput = 4", {}, "0.005", id="longer than the tier"),
        pytest.param(
            "[[model.tier]]\nover = 10\ninput = 4\n[[model.tier]]\nover = 999\noutput = 20", {}, "0.006", id="two tiers"
        ),
        pytest.param("cache_read = 0.2", {"cache_read": 2000}, "0.0014", id="more from the cache than read"),
    ],
)
def test_a_turn_is_priced_by_its_parts(rest: str, usage: dict[str, int], expected: str) -> None:
    assert cost(rest, **usage) == Decimal(expected)


def test_a_turn_without_a_count_and_a_model_without_a_table_have_no_known_cost() -> None:
    prices = read_prices(MODEL)
    assert prices.cost("openai:x", Usage(input_tokens=1)) is None
    assert prices.cost("openai:y", Usage(input_tokens=1, output_tokens=1)) is None
    assert (prices.knows("openai:x"), prices.knows("openai:y")) == (True, False)


def test_a_script_costs_nothing_unless_the_file_names_it() -> None:
    assert Prices().cost("script:script.yaml", Usage()) == 0
    assert Prices().cost("call:files.read", Usage()) == 0
    named = read_prices(MODEL.replace("openai:x", "script:s.yaml"))
    assert named.cost("script:s.yaml", Usage(input_tokens=1_000_000, output_tokens=0)) == 2


def test_an_amount_is_never_rounded_down_to_what_a_shared_limit_counts() -> None:
    assert [millionths(Decimal(text)) for text in ("0", "0.0000001", "0.000001", "1.0000011")] == [0, 1, 1, 1_000_002]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (MODEL + MODEL, 6, "the model 'openai:x' has two prices"),
        (MODEL + "[[model.tier]]\nover = 5\n[[model.tier]]\nover = 5\n", 5, "not in ascending order"),
        (MODEL.replace("output = 10\n", ""), 1, "output"),
        (MODEL.replace("openai:x", "gpt-5"), 2, "not the name of a model"),
        (MODEL.replace("= 2", "= -2"), 3, "input"),
        (MODEL.replace("= 2", "= inf"), 3, "input"),
        (MODEL.replace("= 2", "= nan"), 3, "input"),
        (MODEL + "cached = 1\n", 5, "cached"),
        ('currency = "dollars"\n', 1, "not a currency"),
    ],
)
def test_a_price_that_could_be_misread_is_reported_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(WorkspaceError) as found:
        read_prices(text)
    assert what in " ".join(problem.what for problem in found.value.problems)
    assert line in [problem.line for problem in found.value.problems]
    assert all(problem.file == "policies/prices.toml" and problem.fix for problem in found.value.problems)


def test_a_lower_price_is_seen_at_every_length_of_a_turn() -> None:
    tiered = read_prices(MODEL + "[[model.tier]]\nover = 1000\ninput = 4").models["openai:x"]
    flat, dear = (read_prices(text).models["openai:x"] for text in (MODEL, MODEL.replace("= 2", "= 5")))
    assert (tiered.is_ever_dearer(flat), flat.is_ever_dearer(tiered)) == (True, False)
    assert (dear.is_ever_dearer(tiered), tiered.is_ever_dearer(dear)) == (True, False)
    assert not flat.is_ever_dearer(flat)
