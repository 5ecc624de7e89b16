"""Random runs (killed, resumed, held, approved, rejected, expired, refused) are reproduced from every copy of the record."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.broker.approvals import requests as approval
from remit.policy import engine as policy
from remit.replay.recorded import WhatIf
from remit.replay.replayer import find_tampering, replay
from remit.runtime import runner as run
from remit.tracing import open_trace, read_trace, write_portable
from remit.tracing.reports.reconciliation import reconcile
from remit.tracing.reports.verification import find_contradictions
from remit.workspace import session
from remit.workspace.bundle import open_bundle, vocabulary
from support.bulk_runs import SECRET, play_run, turns_of

SEEDS = int(os.environ.get("REMIT_SEEDS", "16"))
UNRELATED = b"\n# nobody\np, user:bob, ledger.look, account:*, True, allow\n"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_run_is_reproduced_from_journal_file_and_export(
    clerk: Callable[..., Path], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(approval, "LASTS_NS", chance.choice([approval.LASTS_NS] * 4 + [0]))
    folder = clerk(turns_of(chance), steps=chance.choice([30, 30, 2]), calls=chance.choice([60, 60, 3]))
    model = run.open_model_of(session.open_session(folder), "clerk")
    opened, name = play_run(folder, chance, model)
    trace = open_trace(opened.traces, opened.journal, name)
    books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
    write_portable(trace, folder / "portable.jsonl")
    copies = {
        "journal": trace,
        "file": read_trace(opened.traces / f"{name}.jsonl"),
        "export": read_trace(folder / "portable.jsonl"),
    }
    for copy, found in copies.items():
        result = asyncio.run(replay(found.records, books, tampering=find_tampering(found.faults(), found.chain)))
        assert result.reproduced, (copy, result.divergences)
    assert find_contradictions(trace.records) == []
    assert reconcile(opened.traces, opened.journal, trace.chain).state == "complete"
    rules = dict(session.policy_files(folder))
    rules["policies/rules.csv"] += UNRELATED
    other = policy.load_policy(rules, vocabulary(opened.workspace))
    what_if = asyncio.run(replay(trace.records, books, what_if=WhatIf(policy=other)))
    assert what_if.reproduced, ("a rule that changes nothing", what_if.divergences)
    assert SECRET not in (opened.traces / f"{name}.jsonl").read_text()
