"""Helpers for the tests of several packages: workspaces, servers, runs and their results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).resolve().parents[1]
ROOT: Final = TESTS.parent
CORPORA: Final = Path(os.environ.get("REMIT_CORPORA", ROOT.parent / "shared" / "corpora"))


def corpus(name: str) -> str:
    """The text of an external corpus. Skips the test, with the reason, if the file is missing."""
    path = CORPORA / name
    if not path.is_file():
        pytest.skip(f"no {name}: set REMIT_CORPORA to the folder of the external corpora")
    return path.read_text(encoding="utf-8")
