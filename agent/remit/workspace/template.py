"""`remit init`: writes a starter workspace, with the tools, policies, schemas and agents of this repository.

The wheel has these files in `remit/_starter`. An editable install has no such folder and uses the checkout, so there is only
one copy of them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

from remit.core import UsageError
from remit.core.parsing import read_text
from remit.workspace.file_schema import MARKER

STARTER_FILES: Final = (
    "remit.toml",
    "tools",
    "policies",
    ".remit/schemas",
    "agent/triage",
    "agent/support",
    "agent/librarian",
    "traces/README.md",
    "traces/codes.md",
    "traces/alerts.yaml",
    "traces/alerts.test.yaml",
)
# Tests of the agent `triage`, written if the project has no such file; and where a checkout has them.
TESTS: Final = "tests/test_triage.py"
TESTS_IN_CHECKOUT: Final = "tests/starter/test_triage.py"
IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc", "schemas.cache")
CODEOWNERS: Final = """# Security reviews every change of what agents may do. Put your team's name here.
/policies/    @your-org/security
# The rules of a team, below policies/TEAM/, are the team's; what they may name is not:
# /policies/billing/             @your-org/billing
# /policies/billing/team.toml    @your-org/security
/remit.toml   @your-org/security
/tools/*/tool.toml     @your-org/security
/agent/*/agent.toml    @your-org/security
/.github/CODEOWNERS    @your-org/security
/.github/workflows/remit.yml    @your-org/security
"""
WORKFLOW: Final = """name: remit
on: pull_request
permissions: {}   # the job that reads an untrusted change has no write permission
jobs:
  authority:
    runs-on: ubuntu-latest
    permissions: {contents: read}
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, persist-credentials: false}
      - uses: astral-sh/setup-uv@v6
      - run: uvx --from remit remit check --format github   # fails on what [check] in remit.toml says
      - run: uvx --from remit remit policy test --mutate
      - name: What may agents do now that they could not do before?
        env: {BASE: "${{ github.event.pull_request.base.sha }}"}
        shell: bash   # with pipefail: a failure before the pipe fails the step
        run: uvx --from remit remit diff "git:$BASE" --format markdown | tee authority.md >> "$GITHUB_STEP_SUMMARY"
      - uses: actions/upload-artifact@v4
        with: {name: authority, path: authority.md}
  tests:
    runs-on: ubuntu-latest
    permissions: {contents: read}
    steps:
      - uses: actions/checkout@v4
        with: {persist-credentials: false}
      - uses: astral-sh/setup-uv@v6
      - run: uvx --with 'remit[testing]' pytest tests
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
GITIGNORE: Final = "__pycache__/\n/work/\n/traces/*\n!/traces/*.md\n!/traces/alerts*.yaml\n!/traces/golden/\n"
_LINK_TO_DOCS: Final = re.compile(r"\[([^\]]+)\]\(\.\./docs/([^)]+)\)")
# Written only if the project has no such file: the reviewers of each folder, and the CI step that reports what changed.
PROJECT_FILES: Final = {
    ".gitignore": GITIGNORE,
    ".github/CODEOWNERS": CODEOWNERS,
    ".github/workflows/remit.yml": WORKFLOW,
}


def starter_folder() -> Path:
    """The folder of the starter files: in the wheel, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_starter"
    return shipped if shipped.is_dir() else package.parent.parent


def write_starter(folder: Path) -> list[str]:
    """Write the starter files into `folder` and return their names, relative to it.

    Raises UsageError if that would overwrite a file or a folder.
    """
    source = starter_folder()
    taken = [name for name in STARTER_FILES if (folder / name).exists()]
    if (folder / MARKER).exists() or taken:
        raise UsageError(f"{folder} already has {', '.join(taken)}: name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in STARTER_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=IGNORED)
        else:
            shutil.copyfile(source / name, folder / name)
    for name in ("tools", "policies", "traces"):
        _name_pages_of_docs(folder / name / "README.md")
    if not (folder / TESTS).exists():
        (folder / TESTS).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / (TESTS if source.name == "_starter" else TESTS_IN_CHECKOUT), folder / TESTS)
    for name, text in PROJECT_FILES.items():
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    return sorted(
        path.relative_to(folder).as_posix()
        for name in (*STARTER_FILES, TESTS, *PROJECT_FILES)
        for path in [folder / name, *(folder / name).rglob("*")]
        if path.is_file()
    )


def _name_pages_of_docs(readme: Path) -> None:
    """Name the pages of Remit's documentation instead of linking to them: a workspace has no `docs/` of Remit."""
    text = read_text(readme, file=readme.name)
    readme.write_text(_LINK_TO_DOCS.sub(r"\1 (`docs/\2` of Remit)", text), encoding="utf-8")
