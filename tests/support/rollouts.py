"""Rollouts of the ledger workspace: a candidate in a folder beside it, opened at any stage, and runs of many users."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from remit.core.events import Bar, Recorded, RolloutOpened, RunStarted, Stage, StageName
from remit.journal import RolloutState
from remit.rollout import HARD, SOFT, files_of_definition, open_rollout
from remit.runtime import RunRequest, RunResult, open_model_of, start_run
from remit.tracing import ObjectStore
from remit.workspace import WorkspaceSession, load_workspace_and_policy
from support.principals import OPERATOR
from support.runs import Played

RULE = "\n# Operators change the clerk step by step\np, role:people, remit.rollout, agent:clerk, True, allow\n"


def candidate_of(folder: Path, *, turns: Sequence[Any] | None = None, **files: Callable[[str], str]) -> Path:
    """A copy of the workspace beside it, with other turns of its script, and each file (`rules`, `prompt`) edited."""
    named = {"rules": "policies/rules.csv", "prompt": "agent/clerk/prompt.md", "agent": "agent/clerk/agent.toml"}
    copy = folder.with_name(f"{folder.name}-candidate")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("traces", "work", "*.jsonl"))
    if turns is not None:
        (copy / "agent" / "clerk" / "script.yaml").write_text(json.dumps({"turns": list(turns)}))
    for name, edit in files.items():
        path = copy / named[name]
        path.write_text(edit(path.read_text()))
    return copy


def opened_at(
    session: WorkspaceSession,
    candidate: Path,
    *stages: StageName,
    share: float = 1.0,
    unit: str = "user",
    bars: Sequence[Bar] | None = None,
) -> RolloutState:
    """An open rollout of the clerk whose first stage is the first of `stages`."""
    workspace, policy = load_workspace_and_policy(candidate)
    files, live = files_of_definition(workspace), files_of_definition(session.workspace)
    every = (*(Bar(name=name) for name in SOFT[:3]), *(Bar(name=name, hard=True) for name in HARD))
    opened = rollout_opened(
        candidate=ObjectStore(session.traces / "objects").put_bundle(files),
        policy_digest=policy.digest,
        live_policy=session.policy.digest,
        changes=tuple(sorted(path for path in files if files[path] != live.get(path))),
        stages=tuple(Stage(name=name, share=share if name in ("canary", "full") else 0.0) for name in stages),
        bars=tuple(every if bars is None else bars),
        unit=unit,
    )
    return open_rollout(session.journal, opened)


def rollout_opened(**changes: Any) -> RolloutOpened:
    """The first event of a rollout of the clerk, of a candidate that nobody has stored."""
    event = {
        "agent": "agent:clerk",
        "candidate": "sha256:1",
        "policy_digest": "sha256:2",
        "live_policy": "sha256:2",
        "changes": ("agent/clerk/prompt.md",),
        "stages": (Stage(name="canary", share=0.5), Stage(name="full", share=1.0)),
        "bars": (Bar(name="failed"),),
        "alpha": 0.05,
        "salt": "0123456789abcdef",
        "by": OPERATOR,
    }
    return RolloutOpened.model_validate({**event, **changes})


def ran(
    session: WorkspaceSession,
    *,
    user: str = "user:operator",
    run: str | None = None,
    on_event: Callable[[Recorded], None] | None = None,
) -> Played:
    """A run of the clerk for that user, with the model that it has on disk."""
    model = open_model_of(session, "clerk")
    start = RunRequest(agent="clerk", task="keep the ledger", subject=user, by=OPERATOR, model=model, run=run)
    ended: RunResult = asyncio.run(start_run(session, start, on_event=on_event))
    return Played(folder=session.root, opened=session, ended=ended)


def started(played: Played) -> RunStarted:
    """The first event of a run."""
    event = played.records[0].event
    assert isinstance(event, RunStarted)
    return event
