"""Builds the site in `.cache/site`, without network, unless the one that is there was built from the files as they are now.

PYTHONPATH=docs python -m generator.site      what `make docs` does; tests use the same site
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from generator.repository import ROOT

SITE: Final = ROOT / ".cache" / "site"
_STAMP: Final = ROOT / ".cache" / "site.sha256"
_NOWHERE: Final = "http://127.0.0.1:9"  # a proxy at which nothing answers


class NotBuilt(Exception):
    """MkDocs failed or warned; its output."""


def build() -> bool:
    """Bring the site up to date. False if it was up to date.

    Raises:
        NotBuilt: MkDocs failed or warned.
    """
    SITE.parent.mkdir(exist_ok=True)
    with open(SITE.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _STAMP.is_file() and _STAMP.read_text("utf-8") == _stamp():
            return False
        _STAMP.unlink(missing_ok=True)
        done = mkdocs()
        # Not --quiet: it hides warnings from the strict mode too.
        if done.returncode != 0 or "WARNING" in done.stderr:
            raise NotBuilt(done.stderr)
        _STAMP.write_text(_stamp(), encoding="utf-8")
        return True


def mkdocs(*options: str) -> subprocess.CompletedProcess[str]:
    """Run `mkdocs build` where nothing can be reached."""
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": _NOWHERE, "http_proxy": _NOWHERE}
    command = [sys.executable, "-m", "mkdocs", "build", *options]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def _stamp() -> str:
    """A digest of all files of the repository, and one of the site."""
    known = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(known, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    return f"{_digest({ROOT / os.fsdecode(name) for name in names})}\n{_digest(SITE.rglob('*'))}\n"


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(path for path in paths if path.is_file()):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(data)}\0".encode(errors="surrogateescape") + data)
    return digest.hexdigest()


def main() -> int:
    try:
        built = build()
    except NotBuilt as failure:
        print(failure, file=sys.stderr)
        return 1
    print(f"documentation: {(SITE / 'index.html').relative_to(ROOT)}{'' if built else ' (no file has changed)'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
