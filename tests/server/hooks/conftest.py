"""The starter workspace with the tool pack of Claude Code."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.hooked import with_pack


@pytest.fixture
def packed(session: Path) -> Path:
    return with_pack(session)
