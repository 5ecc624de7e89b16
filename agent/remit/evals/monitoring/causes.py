"""Finds which change of a workspace fits a change of a measure best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from remit.core import UsageError
from remit.core.parsing import load_json
from remit.evals.monitoring.detector import Share
from remit.journal import RunSummary
from remit.tracing import Objects, read_index
from remit.workspace import CODE_DIGESTS

Used: TypeAlias = Mapping[str, str]  # what a run used, by name: a model, or the digest of a file
NO_CAUSE: Final = "no change of model, prompt, policy or tools fits: look at the provider, the data and the users"
# A change of the definition must explain at least this part of what the change of time explains.
_FITS: Final = 0.5


class Definitions:
    """What runs used: their model, and the files of their workspace that concern their agent. Each bundle is read once."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._files: dict[str, Used] = {}

    def of(self, run: RunSummary) -> Used:
        """What the run used at its end. A bundle that was removed has its digest only."""
        bundle = run.bundles[-1] if run.bundles else ""
        if bundle not in self._files:
            self._files[bundle] = self._read(bundle)
        own = f"agent/{run.agent.removeprefix('agent:')}/"
        files = {
            path: digest
            for path, digest in self._files[bundle].items()
            if path.startswith(own) or not path.startswith("agent/")
        }
        return {"model": run.model, "model of the provider": run.response_model, **files}

    def _read(self, bundle: str) -> Used:
        try:
            files = read_index(self._objects.get(bundle))
            codes = load_json(self._objects.get(files.pop(CODE_DIGESTS)))
        except (UsageError, KeyError):
            return {"definition": bundle}
        return {**files, **{f"tools/{tool} (code)": str(code) for tool, code in dict(codes).items()}}


def causes(
    runs: Sequence[RunSummary], hits: Sequence[bool], at: int, definition: Callable[[RunSummary], Used]
) -> tuple[str, ...]:
    """The changes that fit best, one line each; several if runs have them together. `NO_CAUSE` alone if none fits.

    `hits` says which runs have a value that became frequent at number `at`. A change fits if runs with it have far more hits than
    runs without it: also where old and new definitions are in use at the same time.
    """
    runs_of: defaultdict[tuple[tuple[str, str], ...], list[bool]] = defaultdict(list)
    for run, hit in zip(runs, hits, strict=True):
        runs_of[tuple(definition(run).items())].append(hit)
    used, hits_of = [dict(items) for items in runs_of], list(runs_of.values())
    lines: defaultdict[frozenset[int], list[str]] = defaultdict(list)  # by the definitions that have the change
    for name in dict.fromkeys(name for items in used for name in items):
        values = [items.get(name, "") for items in used]
        for value in dict.fromkeys(values):
            lines[frozenset(number for number, other in enumerate(values) if other == value)].append(
                _line(name, value, values)
            )
    whole = _share(hits)
    fits = {
        having: whole.evidence_of(_share([hit for number in having for hit in hits_of[number]])) for having in lines
    }
    best = max(fits, key=fits.__getitem__)
    return tuple(lines[best]) if fits[best] > _FITS * whole.evidence_of(_share(hits[at:])) else (NO_CAUSE,)


def _share(hits: Sequence[bool]) -> Share:
    return Share(runs=len(hits), hits=sum(hits))


def _line(name: str, value: str, values: Sequence[str]) -> str:
    """`agent/triage/prompt.md: sha256:1f2e3d4c5b6a (before: sha256:…)`."""
    others = dict.fromkeys(other for other in values if other != value)
    return f"{name}: {_short(value)} (other runs: {', '.join(map(_short, others)) or 'none'})"


def _short(value: str) -> str:
    return (value[:19] if value.startswith("sha256:") else value) or "none"
