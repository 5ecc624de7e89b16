"""The pytest plugin. It is loaded by every pytest of an environment that has Remit, so it imports Remit in fixtures only."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def remit_workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A private copy of the workspace that the test file lies in: journal and traces empty, working folders fresh."""
    from remit.testing import copy_workspace

    return copy_workspace(request.path.parent, tmp_path / "workspace")
