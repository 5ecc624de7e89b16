"""The resources by which a comparison shows its findings: those of this workspace's runs, cases and working folders."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from remit.cli.run_argument import open_for_person

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from remit.analysis.diff import RealNames
    from remit.core.events import Recorded
    from remit.workspace import Workspace

_MOST_RUNS: Final = 20  # of which the names are read, the latest first


def known_names(root: Path | None, workspace: Workspace | None) -> RealNames:
    """The names in that workspace; without a folder, none."""
    from remit.analysis.diff import RealNames, names_in_cases, names_in_records, names_in_seeds
    from remit.policy import read_case_tables

    if root is None:
        return RealNames()
    policies = root / "policies" if (root / "policies").is_dir() else root
    seeds = names_in_seeds(workspace) if workspace is not None else ()
    return RealNames((*names_in_records(_recorded(root)), *names_in_cases(read_case_tables(policies)), *seeds))


def _recorded(root: Path) -> Iterator[Sequence[Recorded]]:
    """The events of the latest runs; none where the journal is not there, or this account may not read it."""
    from remit.core import RemitError
    from remit.journal import list_runs

    if not (root / "traces" / "journal.db").is_file():
        return
    try:
        journal = open_for_person(root).journal
        for run in islice(list_runs(journal), _MOST_RUNS):
            yield journal.events(run.run)
    except RemitError:
        return
