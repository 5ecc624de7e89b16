"""Finished runs of one agent, as rows of the list of runs and as events in a journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from remit.core.calls import Subjects
from remit.core.events import AnyEvent, ModelRequested, ModelResponded, RunFinished, Usage
from remit.core.parsing import canonical_json
from remit.journal import RunSummary, StoredRecord, open_journal
from remit.tracing import Objects
from remit.workspace import CODE_DIGESTS
from support.events import EPOCH, ask, decided, ended, failed, intended, requested, started, succeeded

NANO: Final = 10**9
SUBJECTS: Final = Subjects(agent="agent:triage", user="user:ann")


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """A finished run: when it began, how long it took, and what happened in it."""

    number: int
    begin: int = EPOCH
    seconds: float = 1.0
    refused: bool = False
    asked: bool = False
    outcome: Any = "completed"
    cost: Decimal | None = Decimal("0.01")
    actions: Sequence[str] = ("files.read",)
    call_s: float = 0.01
    model: str = "openai:gpt-5"
    response_model: str = "gpt-5-2026-01"
    bundle: str = "sha256:" + "0" * 64

    @property
    def run(self) -> str:
        return f"{self.number * 2654435761 % 2**32:08x}{self.number:024x}"

    @property
    def summary(self) -> RunSummary:
        """Its line of the list of runs."""
        return RunSummary(
            run=self.run,
            started_at=self.begin,
            ended_at=self.begin + int(self.seconds * NANO),
            tenant="default",
            agent="agent:triage",
            user="user:ann",
            task="",
            task_digest="",
            model=self.model,
            scripted=False,
            state="finished",
            outcome=self.outcome,
            code=None,
            steps=1,
            calls=len(self.actions) + self.refused,
            denied=int(self.refused),
            first_denied=None,
            first_failed=None,
            asked=int(self.asked),
            cost=self.cost,
            actions=dict.fromkeys(self.actions, 1),
            response_model=self.response_model,
            bundles=(self.bundle,),
        )

    def events(self) -> Iterable[tuple[int, AnyEvent]]:
        """Its events, each with its time."""
        begin, called = self.begin, self.begin + int(self.call_s * NANO)
        yield begin, started(subjects=SUBJECTS, model=self.model, bundle=self.bundle)
        yield begin, ModelRequested(step=0, model=self.model, input_digest="i")
        names = [*self.actions, *(["mail.send"] if self.refused else [])]
        yield (
            begin,
            ModelResponded(
                step=0,
                text="",
                proposed_calls=tuple(map(ask, names)),
                finish="tool_calls",
                usage=Usage(input_tokens=100, output_tokens=10),
                cost=self.cost,
                response_model=self.response_model,
            ),
        )
        for index, action in enumerate(self.actions):
            yield begin, decided(0, index, "ask" if self.asked else "allow", action=action)
            if self.asked:
                yield begin, requested(0, index)
                yield begin, decided(0, index, round=1, action=action)
            yield begin, intended(0, index)
            yield called, ended(0, index)
            yield called, succeeded(0, index)
        if self.refused:
            yield called, decided(0, len(self.actions), "deny", action="mail.send")
            yield called, failed(0, len(self.actions))
        yield begin + int(self.seconds * NANO), RunFinished(outcome=self.outcome)


@dataclass
class _Clock:
    now: int = EPOCH


def write_runs(folder: Path, runs: Iterable[LiveRun]) -> None:
    """Record the runs in the journal of the workspace."""
    clock = _Clock()
    (folder / "traces").mkdir(mode=0o700, exist_ok=True)
    with open_journal(folder / "traces" / "journal.db", clock=lambda: clock.now) as journal:
        for run in runs:
            record = StoredRecord(journal, run.run)
            for clock.now, event in run.events():
                record.append(event)


def stored_bundle(objects: Objects, files: Mapping[str, str], codes: Mapping[str, str] | None = None) -> str:
    """The digest of a bundle with these files, and with the digests of the code of tools."""
    data = {path: text.encode() for path, text in files.items()}
    return objects.put_bundle({**data, CODE_DIGESTS: canonical_json(dict(codes or {"files": "sha256:" + "c" * 64}))})
