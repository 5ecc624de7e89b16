"""The golden traces are reproduced."""

from pathlib import Path

from remit.testing import assert_replays


def test_the_golden_traces_are_reproduced() -> None:
    """Under the rules that each run recorded; nothing runs."""
    assert_replays(Path(__file__).parent.parent / "traces" / "golden")
