"""A plug-in of pytest: the rooms in which the sandbox's tests call a tool. Apart from conftest.py, which takes seconds to import."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.sandbox import Tier
from support.sandbox import ToolHarness


@pytest.fixture(params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> ToolHarness:
    """In each tier."""
    tier: Tier = request.param
    return ToolHarness(base=tmp_path, tier=tier)


@pytest.fixture
def full(tmp_path: Path) -> ToolHarness:
    return ToolHarness(base=tmp_path, tier="full")
