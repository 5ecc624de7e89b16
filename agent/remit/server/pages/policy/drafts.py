"""Drafts of rules: changed files that are in force nowhere, and what the analysis says of them.

Each part of a report is what a command prints, run apart in a copy of the workspace that has the changed files.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import secrets
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from remit.analysis import CASES, RULES, FileChange, added, rule_from_approval
from remit.analysis.diff import working_tree
from remit.client import open_trace_of, page_of_runs
from remit.core import Principal, RemitError, UsageError
from remit.core.parsing import read_text
from remit.policy import Policy, cases_beside, rule_files
from remit.server.apart import Apart, CommandAnswer
from remit.tracing import write_portable
from remit.workspace import MARKER, WorkspaceSession

MOST: Final = 50  # drafts that a service keeps; then the oldest goes
MOST_OF_ONE: Final = 5  # drafts of one person; then the oldest of that person goes
BACKTESTED: Final = 100  # runs, the latest that the person may read
AREAS: Final = ("policies", "tools", "agent")
# What is asked of the draft, in its folder, or in that of the workspace for a comparison. Each exits with 0 if nothing needs a look.
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "problems": ("check",),
    "calls": ("policy", "diff", "{before}", "{after}", "--fail-on", "any"),
    "authority": ("diff", "{before}", "{after}", "--fail-on-new"),
    "cases": ("policy", "test"),
    "mutants": ("policy", "test", "--mutate"),
    "backtest": ("policy", "backtest", "{runs}", "--policy", "{after}", "--fail-on-flips"),
}


@dataclass(kw_only=True)
class Draft:
    """Changed files of rules. `parts` are those of the report that are known; `task` computes them."""

    id: str
    by: Principal
    changes: tuple[FileChange, ...]
    parts: dict[str, CommandAnswer] = field(default_factory=dict[str, CommandAnswer])
    runs: int = 0
    task: asyncio.Task[None] | None = None

    @property
    def computes(self) -> bool:
        """True while a part of the report is missing."""
        return self.task is not None and not self.task.done()

    @property
    def patch(self) -> str:
        """The change, as `git apply` reads it."""
        return "".join(line for change in self.changes for line in _patch_of(change))

    def report(self, titles: Mapping[str, str], missing: str) -> str:
        """The report as lines that `git apply` skips."""
        parts = ((titles[name], self.parts[name].text if name in self.parts else missing) for name in PARTS)
        lines = (line for title, text in parts for line in ("", title, *text.splitlines()))
        return "".join(f"# {line}".rstrip() + "\n" for line in lines)


class Drafts:
    """The drafts of a service. INVARIANT: none changes a file of a workspace, and each is shown to its author only."""

    def __init__(self, apart: Apart) -> None:
        self._apart = apart
        self._kept: OrderedDict[str, Draft] = OrderedDict()

    def begin(self, session: WorkspaceSession, policy: Policy, by: Principal, changes: Iterable[FileChange]) -> Draft:
        """Keep a draft, and begin to compute its report. Raises HttpRefusal `too_many` if the service computes too much."""
        own = [one for one in self._kept.values() if _is_of(one, by)]
        for older in own:  # one person computes one report at a time
            if older.task is not None:
                older.task.cancel()
        for oldest in own[: max(0, len(own) + 1 - MOST_OF_ONE)]:
            del self._kept[oldest.id]
        draft = Draft(id=secrets.token_hex(16), by=by, changes=tuple(changes))
        draft.task = self._apart.begin(self._compute(session, policy, draft))
        self._kept[draft.id] = draft
        while len(self._kept) > MOST:
            _, oldest = self._kept.popitem(last=False)
            if oldest.task is not None:
                oldest.task.cancel()
        return draft

    def find(self, id: str, by: Principal) -> Draft | None:
        """The draft of that person with that id."""
        draft = self._kept.get(id)
        return draft if draft is not None and _is_of(draft, by) else None

    async def _compute(self, session: WorkspaceSession, policy: Policy, draft: Draft) -> None:
        with tempfile.TemporaryDirectory(prefix="remit-draft-") as name:
            folder = Path(name)
            await asyncio.to_thread(_write_candidate, session.root, folder / "draft", draft.changes)
            traces = await asyncio.to_thread(_write_traces, session, policy, draft.by, folder)
            draft.runs = len(traces)
            places = {"{before}": [str(session.root)], "{after}": [str(folder / "draft")], "{runs}": traces}
            for part, words in PARTS.items():
                given = [one for word in words for one in places.get(word, [word])]
                compares = any(word in places for word in words)
                if part == "backtest" and not traces:
                    continue
                found = await self._apart.command(*given, folder=session.root if compares else folder / "draft")
                # The place of the copy says nothing to the person who reads the report.
                draft.parts[part] = CommandAnswer(text=found.text.replace(f"{folder}/draft", "draft"), code=found.code)


def _is_of(draft: Draft, by: Principal) -> bool:
    return (draft.by.tenant, draft.by.subject) == (by.tenant, by.subject)


def editable(root: Path) -> dict[str, str]:
    """The text of each file of rules, and of the table of cases beside it, by its path in the workspace."""
    files: dict[str, str] = {}
    for file, path in rule_files(root / "policies"):
        if path.suffix == ".csv":
            files[file] = read_text(path, file=file)
            cases = cases_beside(file)
            if (root / cases).exists():
                files[cases] = read_text(root / cases, file=cases)
    return files


def draft_of_rule(session: WorkspaceSession, run: str, place: tuple[int, int]) -> tuple[FileChange, ...]:
    """The changes that make a rule of an approved call, as `remit approve rule` adds them. Raises UsageError if no rule can."""
    source, files = working_tree(session.root), editable(session.root)
    found = rule_from_approval(source.rule_set(), source.files, session.journal.events(run), place, ())
    texts = {RULES: found.rules, CASES: found.case}
    return tuple(
        FileChange(file=file, before=files.get(file, ""), after=added(files.get(file, ""), text))
        for file, text in texts.items()
    )


def _write_candidate(root: Path, folder: Path, changes: Iterable[FileChange]) -> None:
    folder.mkdir()
    shutil.copy2(root / MARKER, folder / MARKER)
    for area in AREAS:
        if (root / area).is_dir():
            shutil.copytree(root / area, folder / area, symlinks=True)
    for change in changes:
        _write_changed(root, folder, change)


def _write_changed(root: Path, folder: Path, change: FileChange) -> None:
    """Write a changed file into the copy. INVARIANT: no link is followed, since it may lead to the files that are in force."""
    *parts, name = PurePosixPath(change.file).parts
    path = folder
    for part in parts:
        path /= part
        if path.is_symlink():
            path.unlink()
            shutil.copytree((root / path.relative_to(folder)).resolve(), path, symlinks=True)
    (path / name).unlink(missing_ok=True)
    descriptor = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(change.after)


def _write_traces(session: WorkspaceSession, policy: Policy, by: Principal, folder: Path) -> list[str]:
    """Write the latest runs that the person may read as files. A run of which a part was erased is left out."""
    found: list[str] = []
    for row in islice(page_of_runs(session, policy, by, limit=BACKTESTED).runs, BACKTESTED):
        path = folder / f"{row.run}.jsonl"
        try:
            write_portable(open_trace_of(session, row.run, by=by), path)
        except RemitError:
            continue
        found.append(str(path))
    return found


def _patch_of(change: FileChange) -> Iterator[str]:
    before, after = _lines(change.before), _lines(change.after)
    old = f"a/{change.file}" if change.before else "/dev/null"
    for line in difflib.unified_diff(before, after, old, f"b/{change.file}"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(text: str) -> Sequence[str]:
    """The lines as git counts them."""
    return [f"{line}\n" for line in text.split("\n")[:-1]] + ([rest] if (rest := text.rpartition("\n")[2]) else [])


def changed_files(files: Mapping[str, str], sent: Mapping[str, str]) -> tuple[FileChange, ...]:
    """The files whose text was changed. Raises UsageError if a file is none of the rules, or if nothing was changed."""
    if any(file not in files for file in sent):
        raise UsageError("there is no such file of rules")
    after = {file: _as_written(text, files[file]) for file, text in sent.items()}
    found = tuple(
        FileChange(file=file, before=files[file], after=text) for file, text in after.items() if text != files[file]
    )
    if not found:
        raise UsageError("nothing was changed")
    return found


def _as_written(text: str, before: str) -> str:
    """The text of a field of a form, with the ends of lines of a file: a browser sends CR LF (HTML, form submission)."""
    lines = text.replace("\r\n", "\n")
    if lines and before.endswith("\n") and not lines.endswith("\n"):
        lines += "\n"
    return lines.replace("\n", "\r\n") if "\r\n" in before else lines
