"""Writes the files of a workspace of a test."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from remit.workspace.template import starter_folder


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write these texts by their paths below the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_workspace(folder: Path, files: Mapping[str, str]) -> None:
    """Write the texts of a workspace, and the Casbin model of its rules."""
    write_files(folder, files)
    shutil.copyfile(starter_folder() / "policies" / "model.conf", folder / "policies" / "model.conf")
