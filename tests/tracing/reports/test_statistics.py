"""What runs cost and how long they take, as `remit trace list --stats` counts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from remit.tracing.reports.statistics import percentile
from support.lifecycle import PRICE, TAKES, metered
from support.runs import DONE


def test_latency_tokens_and_cost_are_listed_by_agent_and_action(
    clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three turns of 900 tokens in and 100 out, each asking for one look; nothing is answered."""
    from remit.cli import remit

    folder = clerk([DONE], prices=PRICE, steps=3)
    metered(folder, TAKES)
    monkeypatch.chdir(folder)

    def stats(*args: str) -> Any:
        return CliRunner().invoke(remit, ["trace", "list", "--stats", *args], catch_exceptions=False)

    (row,) = json.loads(stats("--json").output)
    assert (row["agent"], row["action"], row["calls"], row["refused"]) == ("clerk", "ledger.look", 3, 0)
    assert (row["input_tokens"], row["output_tokens"], row["cost"]) == (2700, 300, 0.0057)
    assert 0 < row["p50_s"] <= row["p95_s"]
    shown = stats("--since", "1h").output.splitlines()
    assert shown[0].split()[:2] == ["agent", "action"]
    assert shown[1].startswith("clerk  ledger.look")
    assert shown[1].endswith("0.0057")
    assert stats("--since", "yesterday").exit_code == 2


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 95), percentile([7.0], 95), percentile([], 50)) == (50, 95, 7, 0)
