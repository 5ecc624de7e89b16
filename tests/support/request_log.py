"""What `make requests` has sent already: one line of JSON for each part that passed, so that it goes on where it stopped.

python -m support.request_log FILE    prints what was sent, and how often each status came back
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from support import TESTS

PLACE: Final = os.environ.get("REMIT_REQUESTS_LOG", "")


def skip_if_sent(part: str, size: int) -> None:
    """Skip the test if as many requests of this part have passed before, with the files of now."""
    if any(row["part"] == part and row["size"] == size for row in _rows()):
        pytest.skip("sent before, with the files of now")


def note(part: str, size: int, seen: Mapping[int, int]) -> None:
    """Note that the part has passed. `seen` counts answers by status."""
    if PLACE:
        row = {"files": _files(), "part": part, "size": size, "seen": seen}
        with Path(PLACE).open("a") as log:  # a short line is written whole, also beside another process
            log.write(json.dumps(row) + "\n")


def _rows() -> list[dict[str, Any]]:
    """What has passed with the files of now."""
    if not PLACE or not Path(PLACE).exists():
        return []
    rows = map(json.loads, Path(PLACE).read_text().splitlines())
    return [row for row in rows if row["files"] == _files()]


@cache
def _files() -> str:
    """The digest of the package and of the tests of the service."""
    found = hashlib.sha256()
    for folder in (TESTS.parent / "agent" / "remit", TESTS / "server"):
        for path in sorted(folder.rglob("*.py")):
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def main(place: str) -> None:
    rows = [json.loads(line) for line in Path(place).read_text().splitlines()]
    rows = [row for row in rows if row["files"] == _files()]
    every = Counter[str]()
    for row in sorted(rows, key=lambda row: row["part"]):
        every.update(row["seen"])
        print(f"{sum(row['seen'].values()):7} {row['part']:70} {_text(row['seen'])}")
    print(f"{every.total():7} in all {_text(every)}")


def _text(seen: Mapping[str, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(seen.items()))


if __name__ == "__main__":
    main(sys.argv[1])
