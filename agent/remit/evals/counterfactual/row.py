"""Writes a recorded run, from one of its steps, as a scenario of its agent: it fails now, and passes once the agent is better."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.core import UsageError
from remit.core.events import Recorded
from remit.core.parsing import read_text, visible_json
from remit.tracing import Trace, write_portable
from remit.tracing.reports import CallTimeline, Timeline, build_timeline

RUNS: Final = "evals/runs"  # in the folder of the agent: the recorded runs of its scenarios
FILE: Final = "evals/runs.yaml"


@dataclass(frozen=True, kw_only=True)
class WrittenRow:
    """A scenario that was written: the file of its row, the copy of its recorded run, and whether the recorded run fails it."""

    file: Path
    copy: Path
    fails_now: bool


def write_row(trace: Trace, step: int, better: Sequence[Recorded] | None, folder: Path) -> WrittenRow:
    """Add a scenario to the agent in `folder`, beside a copy of the recorded run.

    `better` are the events of the run as it goes on with a better agent: its outcome and its effects are expected, and the refused
    calls of the record that it does not make are not. None: those of the recorded run, without any refused call.

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
    was = build_timeline(trace.records)
    now = was if better is None else build_timeline(better)
    made = set[str]() if better is None else {_call(call) for call in now.calls}
    refused = [call for call in was.calls if call.step >= step and call.error is not None and call.error.attempts == 0]
    avoided = [call for call in dict.fromkeys(map(_call, refused)) if call not in made]
    task = "" if was.started is None else was.started.task
    row = [
        f"- name: {name}\n",
        f"  note: {_text(f'run {trace.run[:8]} from step {step}: say here what it must show')}\n",
        f"  task: {_text(task)}\n",
        f"  world: {{run: {_text(f'{RUNS}/{copy.name}')}, step: {step}}}\n",
        f"  expect:\n    outcome: {now.outcome if now.finished else 'completed'}\n",
        *_listed("effects", [f"{{{call}}}" for call in _effects(now)]),
        *(_listed("refused", [f"{{{call}, at_most: 0}}" for call in avoided]) if avoided else ()),
    ]
    file.write_text("".join([f"{before}\n" if before else "", *row]), encoding="utf-8")
    fails = bool(avoided) or (was.outcome, _effects(was)) != (now.outcome, _effects(now))
    return WrittenRow(file=file, copy=copy, fails_now=fails)


def _effects(timeline: Timeline) -> list[str]:
    """The effects that landed, each once."""
    return list(dict.fromkeys(_call(call) for call in timeline.calls if call.landed in ("landed", "unknown")))


def _listed(key: str, items: Sequence[str]) -> Iterator[str]:
    yield f"    {key}:{'' if items else ' []'}\n"
    yield from (f"      - {item}\n" for item in items)


def _call(call: CallTimeline) -> str:
    resource = f", resource: {_text(call.resources[-1])}" if call.resources else ""
    return f"action: {call.action}{resource}"


def _text(text: str) -> str:
    """The text as a double-quoted scalar, which YAML reads like JSON."""
    return visible_json(json.dumps(text, ensure_ascii=False))
