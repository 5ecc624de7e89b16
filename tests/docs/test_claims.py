"""Every claim of SECURITY.md names a test that exists."""

from __future__ import annotations

import re

from remit.workspace.template import starter_folder
from support import TESTS


def test_every_claim_names_a_test_that_exists() -> None:
    page = (starter_folder() / "SECURITY.md").read_text()
    claimed = re.findall(r"\| `(test_\w+)` \|", page)
    assert len(claimed) >= 20
    written = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert [name for name in claimed if name not in written] == []
