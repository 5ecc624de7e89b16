"""Random runs, killed and resumed, held, granted, rejected, expired, cut, refused: each is reproduced, from every copy of it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playing import DONE

from remit.broker import holds as hold
from remit.broker.approvals import requests as approval
from remit.core.errors import Refusal
from remit.core.events import Recorded
from remit.journal.run_log import Record
from remit.policy import engine as policy
from remit.replay.recorded import Otherwise
from remit.replay.replayer import replay, tampering
from remit.runtime import runner as run
from remit.tracing import open_trace, read, write_portable
from remit.tracing.reports.reconciliation import mend
from remit.tracing.reports.verification import contradictions
from remit.workspace import session as house
from remit.workspace.bundle import open_rulebook, vocabulary

SEEDS = int(os.environ.get("REMIT_SEEDS", "16"))
SECRET = "AKIAIOSFODNN7EXAMPLE"
UNRELATED = b"\n# nobody\np, agent:zed, ledger.look, account:*, True, allow\n"

CALLS: list[Callable[[random.Random], dict[str, Any]]] = [
    lambda chance: {"ledger__look": {"name": chance.choice(["ann", "ben", "busy1", "busy2", "gone", "crash"])}},
    lambda chance: {"ledger__pay": {"name": "ann", "amount": chance.choice([1, 100, 500, 5000])}},
    lambda chance: {
        "ledger__pay": {"name": chance.choice(["vault", "outside", "cid"]), "amount": chance.choice([1, 900])}
    },
    lambda chance: {"ledger__book": {"name": "ben", "amount": 2}},
    lambda chance: {"ledger__pay": chance.choice(['{"name": "a", "name": "b", "amount": 1}', '{"name":', "[]"])},
    lambda chance: {"ledger__look": {"name": "ann", "text": f"key {SECRET}"}},
    lambda chance: {chance.choice(["shell", "ledger__burn"]): {"name": "ann"}},
    lambda chance: {"ledger__look": {"name": SECRET}},
]


class Killed(BaseException):
    """The process ends here, as by kill -9: nothing after it happens."""


def turns_of(chance: random.Random) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for _ in range(chance.randint(1, 4)):
        calls = [chance.choice(CALLS)(chance) for _ in range(chance.randint(1, 4))]
        turns.append({"say": "next", "calls": calls})
        if chance.random() < 0.08:
            turns[-1]["finish"] = chance.choice(["length", "content_filter"])
    return [*turns, DONE] if chance.random() < 0.8 else turns


def one_life(folder: Path, name: str, user: str | None, model: Any, ends_after: int | None) -> None:
    """What one process does of a run: begin it for `user`, or take it up; and die after so many events."""
    opened = house.open_house(folder)
    seen = 0

    def tell(_: Recorded) -> None:
        nonlocal seen
        seen += 1
        if ends_after is not None and seen >= ends_after:
            raise Killed

    if user is None:
        work = run.resume_run(opened, name, account="t", tell=tell)
    else:
        start = run.Start(agent="clerk", task="pay ann", subject=user, account="t", model=model, run=name)
        work = run.start_run(opened, start, tell=tell)
    try:
        asyncio.run(work)
    finally:
        opened.journal.close()


def live(
    folder: Path, chance: random.Random, model: Any, play: Callable[..., None] = one_life
) -> tuple[house.House, str]:
    """Play one run over several processes' lives, with people and operators at work in between."""
    name = f"{chance.getrandbits(120) + 1:032x}"
    opened = house.open_house(folder)
    holds: list[str] = []
    for life in range(6):
        ends_after = chance.choice([None, None, chance.randint(1, 40)])
        user = chance.choice(["user:operator"] * 4 + ["user:none"]) if life == 0 else None
        with suppress(Killed):
            play(folder, name, user, model, ends_after)
        record = Record(opened.journal, name)
        if record.facts.finished:
            break
        for requested in approval.waiting_approvals(record):
            person = {"approver": chance.choice(["user:lea", "user:leo"]), "account": "t"}
            now: dict[str, Any] = {"roles_of": opened.policy.roles_of, "now": time.time_ns()}
            try:
                if chance.random() < 0.5:
                    approval.grant_approval(record, requested, approval.Approval(role="role:lead", **person), **now)
                elif chance.random() < 0.4:
                    approval.reject_approval(record, requested, reason="no", **person, **now)
            except Refusal:
                continue
        if holds:
            hold.lift_hold(opened.journal, holds.pop(), account="op")
        elif chance.random() < 0.2:
            holds.append(chance.choice(["tool:ledger", "agent:clerk", f"run:{name}", "all"]))
            hold.set_hold(opened.journal, holds[-1], why="audit", account="op")
    return opened, name


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_run_is_reproduced_from_journal_file_and_export(
    clerk: Callable[..., Path], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(approval, "LASTS_NS", chance.choice([approval.LASTS_NS] * 4 + [0]))
    folder = clerk(turns_of(chance), steps=chance.choice([30, 30, 2]), calls=chance.choice([60, 60, 3]))
    model = run.open_model_of(house.open_house(folder), "clerk")
    opened, name = live(folder, chance, model)
    trace = open_trace(opened.traces, opened.journal, name)
    books = {digest: open_rulebook(files) for digest, files in trace.rulebooks().items()}
    write_portable(trace, folder / "portable.jsonl")
    copies = {
        "journal": trace,
        "file": read(opened.traces / f"{name}.jsonl"),
        "export": read(folder / "portable.jsonl"),
    }
    for copy, found in copies.items():
        said = asyncio.run(replay(found.records, books, tampering=tampering(found.faults(), found.chain)))
        assert said.reproduced, (copy, said.divergences)
    assert contradictions(trace.records) == []
    assert mend(opened.traces, trace.chain).state == "whole"
    rules = dict(house.policy_files(folder))
    rules["policies/rules.csv"] += UNRELATED
    other = policy.load_policy(rules, vocabulary(opened.workspace))
    what_if = asyncio.run(replay(trace.records, books, otherwise=Otherwise(policy=other)))
    assert what_if.reproduced, ("a rule that changes nothing", what_if.divergences)
    assert SECRET not in (opened.traces / f"{name}.jsonl").read_text()
