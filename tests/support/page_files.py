"""The files of docs/examples/ whose bodies stand in pages, so that a page reads well on a code host and in a shell.

python tests/support/page_files.py --write     writes the bodies into the pages again, after a file was changed

The file is the source: it is type-checked and runs as a test. Above its block, a page names it by its path from docs/:

    <!-- file: examples/shop/shop.py -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
SHOWN: Final = re.compile(r"(?<=^<!-- file: )(\S+)( -->\n```[^\n]*\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)


def files_of(text: str) -> Iterator[tuple[str, str]]:
    """The files that a page shows: the path from docs/, and the body that stands in the page."""
    for match in SHOWN.finditer(text):
        yield match[1], match[3]


def with_files(text: str) -> str:
    """The page with the bodies that its files have now."""
    return SHOWN.sub(lambda match: f"{match[1]}{match[2]}{body(match[1])}", text)


def body(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8").rstrip("\n") + "\n"


def main(words: list[str]) -> int:
    if words != ["--write"]:
        print(__doc__)
        return 2
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        if (after := with_files(before)) != before:
            page.write_text(after, encoding="utf-8")
            print(f"wrote {page.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
