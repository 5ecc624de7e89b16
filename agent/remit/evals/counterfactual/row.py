"""Writes a recorded run, from one of its steps, as a scenario of its agent: it fails now, and passes once the agent is better."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from remit.core import UsageError
from remit.core.events import Recorded
from remit.core.parsing import read_text, visible_json
from remit.tracing import Trace, write_portable
from remit.tracing.reports import CallTimeline, build_timeline

RUNS: Final = "evals/runs"  # in the folder of the agent: the recorded runs of its scenarios
FILE: Final = "evals/runs.yaml"


def write_row(trace: Trace, step: int, played: Sequence[Recorded], folder: Path) -> tuple[Path, Path]:
    """Add a scenario to the agent in `folder`, beside a copy of the recorded run. Returns the files of both.

    `played` are the events of the run as it goes on with a better agent: its outcome and its effects are expected. A call that was
    refused in the recorded run from that step on, and that the better agent does not make, is expected no more.

    Raises:
        UsageError: the agent has a scenario of that name.
    """
    name = f"run-{trace.run[:8]}-{step}"
    copy, file = folder / RUNS / f"{trace.run[:16]}.jsonl", folder / FILE
    before = read_text(file, file=str(file)) if file.exists() else ""
    if f"- name: {name}\n" in before:
        raise UsageError(f"{str(file)!r} has the scenario {name!r} already: remove it, or choose another step")
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_portable(trace, copy)
    row = "".join(_lines(trace, step, played, f"{RUNS}/{copy.name}", name))
    file.write_text(f"{before}\n{row}" if before else row, encoding="utf-8")
    return file, copy


def _lines(trace: Trace, step: int, played: Sequence[Recorded], copy: str, name: str) -> Iterator[str]:
    was, now = build_timeline(trace.records), build_timeline(played)
    assert was.started is not None  # checked when the run was opened
    yield f"- name: {name}\n"
    yield f"  note: {_text(f'run {trace.run[:8]} from step {step}: say here what it must show')}\n"
    yield f"  task: {_text(was.started.task)}\n"
    yield f"  world: {{run: {_text(copy)}, step: {step}}}\n"
    yield f"  expect:\n    outcome: {'completed' if now.finished is None else now.outcome}\n"
    effects = [call for call in now.calls if call.landed in ("landed", "unknown")]
    yield from _listed("effects", list(dict.fromkeys(f"{{{_call(call)}}}" for call in effects)))
    made = {_call(call) for call in now.calls}
    refused = [call for call in was.calls if call.step >= step and call.error is not None and call.error.attempts == 0]
    kept = dict.fromkeys(_call(call) for call in refused if _call(call) not in made or played is trace.records)
    if kept:
        yield from _listed("refused", [f"{{{call}, at_most: 0}}" for call in kept])


def _listed(key: str, items: Sequence[str]) -> Iterator[str]:
    yield f"    {key}:{'' if items else ' []'}\n"
    yield from (f"      - {item}\n" for item in items)


def _call(call: CallTimeline) -> str:
    resource = f", resource: {_text(call.resources[-1])}" if call.resources else ""
    return f"action: {call.action}{resource}"


def _text(text: str) -> str:
    """The text as a double-quoted scalar, which YAML reads like JSON."""
    return visible_json(json.dumps(text, ensure_ascii=False))
