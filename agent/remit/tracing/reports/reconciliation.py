"""The file of a run against its journal: event for event; what a kill cut off is written again, what was changed is told.

The journal is the truth. A file that lacks events is behind it, as a kill leaves it; a file that says something else was
changed by somebody, and is left as it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from remit.core import RunEnded, UsageError, WorkspaceError
from remit.journal import Chain, ChainFault, is_run_locked, lock_run
from remit.tracing import TraceFile, read
from remit.tracing.trace_file import trace_path

State: TypeAlias = Literal["whole", "behind", "changed"]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """How the file stands to the journal; `faults` say what was changed."""

    state: State
    faults: tuple[ChainFault, ...] = ()


def compare_copy(path: Path, chain: Chain) -> Copy:
    """Compare the file with the journal's events of that run."""
    if not path.exists() or path.stat().st_size == 0:
        return Copy(state="behind")
    try:
        copy = read(path, torn=True)
    except UsageError as failure:
        whole = path.read_bytes().rpartition(b"\n")[0].strip()
        return Copy(state="changed", faults=(_fault(0, str(failure)),)) if whole else Copy(state="behind")
    except WorkspaceError as failure:
        return Copy(state="changed", faults=tuple(_fault(0, str(problem)) for problem in failure.problems))
    faults = compare_copies(copy.chain, chain)
    behind = len(copy.chain.links) < len(chain.links) or any(
        link.body is None and held.body is not None
        for link, held in zip(chain.links, copy.chain.links, strict=False)  # erased since, and not yet from the file
    )
    if not faults and not behind:
        faults += [fault for fault in copy.faults() if fault.broken]
    if faults:
        return Copy(state="changed", faults=tuple(faults))
    return Copy(state="behind" if behind else "whole")


def compare_copies(copy: Chain, original: Chain) -> list[ChainFault]:
    """The events of a copy that are not the journal's; those that it lacks, or that were erased since, are no fault here."""
    stored = {link.seq: link for link in original.links}
    return [
        _fault(link.seq, f"event {link.seq} of the file is not the journal's")
        for link in copy.links
        if (held := stored.get(link.seq)) != link
        and not (held is not None and held.body is None and held.header == link.header)
    ]


def reconcile(traces: Path, chain: Chain) -> Copy:
    """The state of the run's file, once what a kill cut off has been written again.

    A run that some process drives is left to it, and a folder that cannot be written is no reason not to read.
    """
    path = trace_path(traces, chain.run)
    found = compare_copy(path, chain)
    if found.state != "behind" or is_run_locked(traces, chain.run):
        return found
    with suppress(UsageError, RunEnded, OSError), lock_run(traces, chain.run):
        file = TraceFile(traces, chain.run)
        file.rebuild(chain.links)
        file.close()
        return Copy(state="whole")
    return found


def _fault(seq: int, what: str) -> ChainFault:
    return ChainFault(seq=seq, kind="edited", what=what)
