"""Compares a run's trace file with its journal, event by event, and rebuilds an incomplete file.

The journal is the source of truth. A file that lacks events is `behind`, as a killed process leaves it: it is rebuilt. A
file with other content was `changed` by a person: it is evidence, so nothing writes over it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from remit.core import RunEnded, UsageError, WorkspaceError
from remit.journal import Chain, ChainFault, Journal
from remit.tracing import TraceFile, read_trace
from remit.tracing.trace_file import trace_path

CopyState: TypeAlias = Literal["complete", "behind", "changed"]


@dataclass(frozen=True, kw_only=True)
class CopyComparison:
    """The state of the file compared with the journal; `faults` say what was changed."""

    state: CopyState
    faults: tuple[ChainFault, ...] = ()


def compare_copy(path: Path, chain: Chain) -> CopyComparison:
    """Compare the file with the journal's events of that run."""
    if not path.exists() or path.stat().st_size == 0:
        return CopyComparison(state="behind")
    try:
        copy = read_trace(path, torn=True)
    except UsageError as failure:
        whole = path.read_bytes().rpartition(b"\n")[0].strip()
        return (
            CopyComparison(state="changed", faults=(_fault(0, str(failure)),))
            if whole
            else CopyComparison(state="behind")
        )
    except WorkspaceError as failure:
        return CopyComparison(state="changed", faults=tuple(_fault(0, str(problem)) for problem in failure.problems))
    faults = compare_copies(copy.chain, chain)
    behind = len(copy.chain.links) < len(chain.links) or any(
        link.body is None and held.body is not None
        # erased in the journal, but not yet in the file
        for link, held in zip(chain.links, copy.chain.links, strict=False)
    )
    if not faults and not behind:
        faults += [fault for fault in copy.faults() if fault.broken]
    if faults:
        return CopyComparison(state="changed", faults=tuple(faults))
    return CopyComparison(state="behind" if behind else "complete")


def compare_copies(copy: Chain, original: Chain) -> list[ChainFault]:
    """The events of a copy that differ from the journal. Missing events, and events erased since, are not faults here."""
    stored = {link.seq: link for link in original.links}
    return [
        _fault(link.seq, f"event {link.seq} of the file differs from the journal")
        for link in copy.links
        if (held := stored.get(link.seq)) != link
        and not (held is not None and held.body is None and held.header == link.header)
    ]


def reconcile(traces: Path, journal: Journal, chain: Chain) -> CopyComparison:
    """Rebuild the run's file if it is behind the journal, and return its state after that.

    The file of a running run is left to its process. A folder that cannot be written does not prevent reading.
    """
    path = trace_path(traces, chain.run)
    comparison = compare_copy(path, chain)
    if comparison.state != "behind" or journal.is_driven(chain.run):
        return comparison
    with suppress(UsageError, RunEnded, OSError), journal.brief_lease(chain.run):
        file = TraceFile(traces, chain.run)
        file.rebuild(chain.links)
        file.close()
        return CopyComparison(state="complete")
    return comparison


def _fault(seq: int, what: str) -> ChainFault:
    return ChainFault(seq=seq, kind="edited", what=what)
