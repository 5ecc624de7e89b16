"""What tests of several packages share: workspaces to run in, servers to reach, and what a run left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]
ROOT: Final = TESTS.parent
CORPORA: Final = Path(os.environ.get("REMIT_CORPORA", ROOT.parent / "shared" / "corpora"))
