"""A private copy of a workspace, so that a test changes nothing of the original."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from remit.workspace import MARKER, RESERVED, find_workspace, load_workspace

FOLDERS: Final = ("agent", "tools", "policies")
IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc")


def copy_workspace(path: Path | str, target: Path | str) -> Path:
    """Copy the workspace that the folder `path` lies in to the new folder `target`, and return that.

    The copy has settings, agents, tools and policies, with the seeds of the agents. Journal and traces are empty, and working
    folders that a run makes are missing. An agent's working folder without a seed, and the same for each run, is copied.
    Modules of host tools are not copied: they are imported from where Python finds them.

    Raises:
        UsageError: there is no workspace.
        WorkspaceError: a file of the workspace is not valid.
    """
    root, target = find_workspace(Path(path)), Path(target)
    agents = load_workspace(root).agents.values()
    made = {root / agent.folder.partition("{run}")[0] for agent in agents if agent.seed or "{run}" in agent.folder}
    given = {agent.seed or agent.folder for agent in agents if agent.seed or "{run}" not in agent.folder}

    def ignored(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder)
        skipped = {name for name in names if inside / name in made or inside / name == root / "agent" / RESERVED}
        return skipped | set(IGNORED(folder, names))

    target.mkdir(parents=True)
    shutil.copy2(root / MARKER, target / MARKER)
    for name in (*FOLDERS, *sorted(given)):
        if (root / name).is_dir() and not (target / name).exists():
            shutil.copytree(root / name, target / name, symlinks=True, ignore=ignored)
    return target
