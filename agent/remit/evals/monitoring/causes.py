"""Finds which change of a workspace fits a change of a measure best."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from remit.core import UsageError
from remit.core.parsing import load_json
from remit.journal import RunSummary
from remit.tracing import Objects, read_index
from remit.workspace import CODE_DIGESTS

Definition: TypeAlias = Mapping[str, str]  # what a run used, by name: a model, or the digest of a file
NO_CAUSE: Final = "no change of model, prompt, policy or tools fits: look at the provider, the data and the users"
# A change of the definition must explain at least this part of what the change of time explains.
_FITS: Final = 0.5
_MODELS: Final = ("model", "model of the provider")


class Definitions:
    """What runs used: their model, and the files of their workspace that concern their agent. Each bundle is read once."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._files: dict[str, Definition] = {}

    def of(self, run: RunSummary) -> Definition:
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

    def _read(self, bundle: str) -> Definition:
        try:
            files = read_index(self._objects.get(bundle))
            codes = load_json(self._objects.get(files.pop(CODE_DIGESTS)))
        except (UsageError, KeyError):
            return {"definition": bundle}
        return {**files, **{f"tools/{tool} (code)": str(code) for tool, code in dict(codes).items()}}


@dataclass
class _Count:
    runs: int = 0
    hits: int = 0

    def add(self, other: _Count) -> None:
        self.runs, self.hits = self.runs + other.runs, self.hits + other.hits


def causes(
    runs: Sequence[RunSummary], hits: Sequence[bool], at: int, definition: Callable[[RunSummary], Definition]
) -> tuple[str, ...]:
    """The changes that fit best, one line each; several if runs have them together. `NO_CAUSE` alone if none fits.

    `hits` says which runs have a value that became frequent at number `at`. A change fits if runs with it have far more hits than
    runs without it: also where old and new definitions are in use at the same time.
    """
    counts: defaultdict[tuple[tuple[str, str], ...], _Count] = defaultdict(_Count)
    for run, hit in zip(runs, hits, strict=True):
        counts[tuple(definition(run).items())].add(_Count(1, int(hit)))
    whole = _sum(counts.values())
    parts: defaultdict[frozenset[int], list[str]] = defaultdict(list)
    used = [dict(items) for items in counts]
    for name in dict.fromkeys(name for items in used for name in items):
        for value in dict.fromkeys(items.get(name, "") for items in used):
            having = frozenset(number for number, items in enumerate(used) if items.get(name, "") == value)
            parts[having].append(_line(name, value, [items.get(name, "") for items in used]))
    by_number = list(counts.values())
    fits = {having: _evidence(_sum(by_number[number] for number in having), whole) for having in parts}
    best = max(fits, key=fits.__getitem__)
    in_time = _evidence(_Count(len(runs) - at, sum(hits[at:])), whole)
    return tuple(parts[best]) if fits[best] > _FITS * in_time else (NO_CAUSE,)


def _sum(counts: Iterable[_Count]) -> _Count:
    total = _Count()
    for count in counts:
        total.add(count)
    return total


def _evidence(having: _Count, whole: _Count) -> float:
    """The logarithm of how much likelier the hits are if the runs with a change have a share of their own; 0 if it is not higher."""
    rest = _Count(whole.runs - having.runs, whole.hits - having.hits)
    if not having.runs or not rest.runs or having.hits * rest.runs <= rest.hits * having.runs:
        return 0.0
    return _likelihood(having) + _likelihood(rest) - _likelihood(whole)


def _likelihood(count: _Count) -> float:
    parts = (count.hits, count.runs - count.hits)
    return sum(part * math.log(part / count.runs) for part in parts if part)


def _line(name: str, value: str, values: Sequence[str]) -> str:
    """`agent/triage/prompt.md: sha256:1f2e3d4c5b6a (before: sha256:…)`."""
    others = dict.fromkeys(other for other in values if other != value)
    return f"{name}: {_short(value)} (other runs: {', '.join(map(_short, others)) or 'none'})"


def _short(value: str) -> str:
    return (value[:19] if value.startswith("sha256:") else value) or "none"
