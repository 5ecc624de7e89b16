"""Packages that one benchmark alone needs, fetched by version and hash, without what they themselves ask for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

BENCH = Path(__file__).parents[3] / ".bench"


def fetch(name: str, packages: str) -> Path:
    """The folder `.bench/NAME` with the wheels that `packages` names, whole or not at all.

    `packages` are lines of a requirements file, each with a hash. A folder made of other lines is made anew. Only for the
    end of `sys.path`: nothing there may stand before what Remit itself imports.
    """
    folder = BENCH / name
    stamp = folder / "requirements.txt"
    if stamp.is_file() and stamp.read_text() == packages:
        return folder
    BENCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BENCH) as made:
        wanted, target = Path(made) / "requirements.txt", Path(made) / "target"
        wanted.write_text(packages)
        uv = [str(Path(sys.executable).parent / "uv"), "pip", "install", "-q", "--no-deps", "--require-hashes"]
        subprocess.run([*uv, "--only-binary", ":all:", "--target", str(target), "-r", str(wanted)], check=True)
        (target / stamp.name).write_text(packages)
        if folder.exists():
            folder.rename(Path(made) / "old")
        target.rename(folder)
    return folder
