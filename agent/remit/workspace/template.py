"""`remit init`: the same rooms that this repository has, for a user's own project.

The wheel ships `tools/`, `policies/` and `agent/triage/` as `remit/_starter`; an editable install has no such folder and
falls back to the checkout. One source of truth.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from remit.core import UsageError
from remit.workspace.file_schema import MARKER

STARTER_FILES: Final = (
    "remit.toml",
    "tools",
    "policies",
    "agent/triage",
    "traces/README.md",
    "traces/codes.md",
    "traces/alerts.yaml",
)
IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc", "schemas.cache")
CODEOWNERS: Final = """# What agents may do is reviewed by security, whoever proposes it. Put your team's name here.
/policies/    @your-org/security
/remit.toml   @your-org/security
/tools/*/tool.toml     @your-org/security
/agent/*/agent.toml    @your-org/security
/.github/CODEOWNERS    @your-org/security
/.github/workflows/remit.yml    @your-org/security
"""
WORKFLOW: Final = """name: remit
on: pull_request
permissions: {}   # the job that reads a stranger's change may write nothing
jobs:
  authority:
    runs-on: ubuntu-latest
    permissions: {contents: read}
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, persist-credentials: false}
      - uses: astral-sh/setup-uv@v6
      - run: uvx --from remit remit check
      - run: uvx --from remit remit policy check
      - run: uvx --from remit remit policy test --mutate
      - name: What may agents do now that they could not do before?
        env: {BASE: "${{ github.event.pull_request.base.sha }}"}
        shell: bash   # which alone lets a failure before the pipe fail the step
        run: uvx --from remit remit diff "git:$BASE" --format markdown | tee authority.md >> "$GITHUB_STEP_SUMMARY"
      - uses: actions/upload-artifact@v4
        with: {name: authority, path: authority.md}
  comment:
    needs: authority
    if: github.event.pull_request.head.repo.full_name == github.repository
    runs-on: ubuntu-latest
    permissions: {pull-requests: write}
    steps:
      - uses: actions/download-artifact@v4
        with: {name: authority}
      - env: {GH_TOKEN: "${{ github.token }}", PR: "${{ github.event.pull_request.number }}", GH_REPO: "${{ github.repository }}"}
        run: gh pr comment "$PR" --body-file authority.md --edit-last --create-if-none
"""
GITIGNORE: Final = "/work/\n/traces/*\n!/traces/*.md\n!/traces/alerts.yaml\n!/traces/golden/\n"
# Beside the rooms, and only where the project has none of its own: who reviews them, and the step that tells what changed.
PROJECT_FILES: Final = {
    ".gitignore": GITIGNORE,
    ".github/CODEOWNERS": CODEOWNERS,
    ".github/workflows/remit.yml": WORKFLOW,
}


def starter_folder() -> Path:
    """Where the starter files lie: in the wheel, or in the checkout that this package is run from."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_starter"
    return shipped if shipped.is_dir() else package.parent.parent


def write_starter(folder: Path) -> list[str]:
    """Write the rooms into `folder` and return the files, relative to it; an existing file is never overwritten.

    Raises UsageError where `folder` already has something that would be overwritten.
    """
    source = starter_folder()
    taken = [room for room in STARTER_FILES if (folder / room).exists()]
    if (folder / MARKER).exists() or taken:
        raise UsageError(f"{folder} already has {', '.join(taken)}: name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for room in STARTER_FILES:
        (folder / room).parent.mkdir(parents=True, exist_ok=True)
        if (source / room).is_dir():
            shutil.copytree(source / room, folder / room, ignore=IGNORED)
        else:
            shutil.copyfile(source / room, folder / room)
    for name, text in PROJECT_FILES.items():
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    return sorted(
        path.relative_to(folder).as_posix()
        for room in (*STARTER_FILES, *PROJECT_FILES)
        for path in [folder / room, *(folder / room).rglob("*")]
        if path.is_file()
    )
