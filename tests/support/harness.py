"""A pytest plug-in with the fixtures of the sandbox's tests.

It is separate from conftest.py, which takes seconds to import.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.sandbox import Tier
from support.sandbox import ToolHarness


@pytest.fixture(params=["full", "landlock"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> ToolHarness:
    """A tool and a working folder, once in each tier."""
    tier: Tier = request.param
    return ToolHarness(base=tmp_path, tier=tier)


@pytest.fixture
def full(tmp_path: Path) -> ToolHarness:
    """A tool and a working folder in the full tier."""
    return ToolHarness(base=tmp_path, tier="full")
