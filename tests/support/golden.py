"""Records `traces/golden/format-N/` anew, N being today's format: runs of the counting house that hold every kind of event.

    .venv/bin/python tests/support/golden.py

By hand, and only as long as no release has written format N: a released format's files are what its users have, and prove that
later versions still read and replay them, so they are never written again. That is checked: where a version's tag holds the folder,
nothing is written; raise the number in `tracing/otlp.py` instead, and record the new folder. Read the files before you commit them.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal
from unittest import mock

from support import ROOT
from support.runs import DONE, turn
from support.workspaces.ledger import ledger_workspace, use

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.broker import effects as effect
from remit.broker import holds as hold
from remit.broker.approvals import requests as approval
from remit.core.errors import Refusal
from remit.core.events import AnyEvent, ApprovalRequested, Recorded
from remit.journal.run_log import Record
from remit.runtime import runner as run
from remit.tracing import open_trace, write_portable
from remit.tracing.reader import VERSION
from remit.workspace.session import WorkspaceSession, open_session
from support.lifecycle import Killed, dies_at

NAME: Final = f"traces/golden/format-{VERSION}"
FOLDER: Final = ROOT / NAME
LARGE: Final = turn(ledger__pay={"name": "ann", "amount": 5000})
LIMIT: Final = '[[limit]]\nnote = "So much is enough"\nof = "{of}"\nmost = {most}\nper = "1h"\n'


class Stage:
    """One run of the counting house over the lives of several processes, with people at work in between."""

    def __init__(self, folder: Path, turns: Sequence[dict[str, Any]], **options: Any) -> None:
        use(folder)
        self.folder = ledger_workspace(folder, list(turns), **options)
        self.run = run.new_run_id()

    @property
    def session(self) -> WorkspaceSession:
        return open_session(self.folder)

    @property
    def record(self) -> Record:
        return Record(self.session.journal, self.run)

    def begins(self, *, dies_at: str = "", wait: float = 0.0, seen: Callable[[AnyEvent], None] | None = None) -> None:
        """Its first process takes it as far as it goes, or dies when the first event of that type is recorded."""
        opened = self.session
        start = run.RunRequest(
            agent="clerk",
            task="keep the ledger",
            subject="user:operator",
            account="operator",
            model=run.open_model_of(opened, "clerk"),
            run=self.run,
        )
        with suppress(Killed):
            asyncio.run(run.start_run(opened, start, wait=wait, on_event=self._told(dies_at, seen)))

    def goes_on(self, *, dies_at: str = "") -> None:
        """Another process takes it up, under the files as they are now."""
        with suppress(Killed):
            asyncio.run(run.resume_run(self.session, self.run, account="operator", on_event=self._told(dies_at, None)))

    def _told(self, at: str, seen: Callable[[AnyEvent], None] | None) -> Callable[[Recorded], None]:
        die = dies_at(at)

        def tell(recorded: Recorded) -> None:
            if seen is not None and recorded.event is not None:
                seen(recorded.event)
            die(recorded)

        return tell

    def grants(self, person: str) -> None:
        with suppress(Refusal):  # that too is in the record
            approval.grant_approval(
                *self._asked,
                approval.Approval(approver=f"user:{person}", role="role:lead", account=person),
                roles_of=self.session.policy.roles_of,
                now=time.time_ns(),
            )

    def rejects(self, person: str) -> None:
        approval.reject_approval(*self._asked, now=time.time_ns(), reason="not this month", **self._by(person))

    def revokes(self, person: str) -> None:
        approval.revoke_approval(*self._asked, approver=f"user:{person}", account=person, reason="I misread the amount")

    def settles(self, place: tuple[int, int], landed: Literal["landed", "not_landed"]) -> None:
        effect.settle_effect(self.record, *place, landed=landed, person="user:lea", account="lea", reason="I looked")

    def edits_rules(self, old: str, new: str) -> None:
        rules = self.folder / "policies" / "rules.csv"
        assert old in rules.read_text()
        rules.write_text(rules.read_text().replace(old, new))

    @property
    def _asked(self) -> tuple[Record, ApprovalRequested]:
        record = self.record
        return record, approval.waiting_approvals(record)[0]

    def _by(self, person: str) -> dict[str, Any]:
        return {"approver": f"user:{person}", "account": person, "roles_of": self.session.policy.roles_of}


def model_failed(folder: Path) -> Stage:
    """Held and taken up; refused, broken, unknown and failing calls, a secret; and a model with nothing more to say."""
    mixed = [
        {"ledger__look": {"name": "busy1"}},
        {"ledger__look": {"name": "ann", "text": "key AKIAIOSFODNN7EXAMPLE"}},
        {"ledger__pay": '{"name":'},
        {"ledger__pay": {"name": "vault", "amount": 1}},
        {"shell": {"name": "ann"}},
        {"ledger__look": {"name": "crash"}},
    ]
    stage = Stage(folder, [{"say": "next", "calls": mixed}, turn(ledger__book={"name": "ben", "amount": 2})])
    hold.set_hold(stage.session.journal, "agent:clerk", why="audit", account="op")
    stage.begins()
    hold.lift_hold(stage.session.journal, "agent:clerk", account="op")
    stage.goes_on()
    return stage


def outcome_unknown(folder: Path) -> Stage:
    """The process dies in the middle of a payment; the same in other words is refused afterwards, another is made."""
    payments = [("ann", 5), ("ann", 6), ("ben", 7)]
    stage = Stage(folder, [turn(ledger__pay={"name": name, "amount": amount}) for name, amount in payments] + [DONE])
    stage.begins(dies_at="attempt.begun")
    stage.goes_on()
    return stage


def rejected_and_resumed(folder: Path) -> Stage:
    """One of two large payments is granted, the other rejected, and a process dies in between."""
    both = [{"ledger__pay": {"name": name, "amount": 5000}} for name in ("ann", "ben")]
    stage = Stage(folder, [{"say": "two", "calls": both}, turn(ledger__look={"name": "ann"}), DONE])
    stage.begins()
    stage.rejects("lea")
    stage.grants("leo")
    stage.goes_on(dies_at="attempt.ended")
    stage.goes_on()
    return stage


def rules_changed(folder: Path) -> Stage:
    """A call waits for a lead until an edit of the rules allows it."""
    stage = Stage(folder, [LARGE, DONE])

    def seen(event: AnyEvent) -> None:
        if isinstance(event, ApprovalRequested):
            stage.edits_rules("approved('role:lead')", "args.amount < 9000")

    stage.begins(wait=5.0, seen=seen)
    return stage


def approval_expired(folder: Path) -> Stage:
    """Nobody answers in time."""
    stage = Stage(folder, [LARGE, DONE])
    with mock.patch.object(approval, "LASTS_NS", 0):
        stage.begins()
    return stage


def approval_voided(folder: Path) -> Stage:
    """An approval is taken back, one is refused, one is void once the rules have changed, and the last one counts."""
    stage = Stage(folder, [LARGE, DONE])
    stage.begins()
    stage.grants("lea")
    stage.revokes("lea")
    stage.grants("operator")
    stage.grants("leo")
    stage.edits_rules("args.amount <= 100", "args.amount <= 50")
    stage.goes_on()
    stage.grants("lea")
    stage.goes_on()
    return stage


def effect_settled(folder: Path) -> Stage:
    """A probe finds one effect that nobody saw, a person tells of another."""
    calls = [{"name": name, "amount": 5} for name in ("slow", "slow-and-blind")]
    blind = turn(ledger__wire=calls[1])
    stage = Stage(folder, [turn(ledger__wire=calls[0]), blind, LARGE, blind, DONE])
    stage.begins()
    stage.settles((1, 0), "landed")
    stage.grants("lea")
    stage.goes_on()
    return stage


def budget_spent(folder: Path) -> Stage:
    """Limits that all runs share: reserved, given back, used up."""
    limits = LIMIT.format(of="calls", most=2) + LIMIT.format(of="bytes", most='"1MiB"')
    looks = [{"ledger__look": {"name": name}} for name in ("ann", "ben", "cid")]
    stage = Stage(folder, [{"say": "three", "calls": looks}, DONE], limits=limits)
    stage.begins()
    return stage


def answer_rejected(folder: Path) -> Stage:
    """An answer that stands on nothing is asked for again."""
    good = json.dumps({"cause": "the pool", "citations": ["0.0"]})
    turns = [turn(ledger__look={"name": "ann"}), {"say": "surely it is the pool"}, {"say": good}]
    stage = Stage(folder, turns, budget="[answer]\ncitations = 1")
    stage.begins()
    return stage


SCENES: Final = (
    model_failed,
    outcome_unknown,
    rejected_and_resumed,
    rules_changed,
    approval_expired,
    approval_voided,
    effect_settled,
    budget_spent,
    answer_rejected,
)


def record(scene: Callable[[Path], Stage], folder: Path) -> Path:
    """Play that scene in a house of its own and write it to `FOLDER/SCENE.jsonl`."""
    with tempfile.TemporaryDirectory() as place:
        stage = scene(Path(place) / "clerk")
        opened = stage.session
        path = folder / f"{scene.__name__.replace('_', '-')}.jsonl"
        write_portable(open_trace(opened.traces, opened.journal, stage.run), path)
    return path


def releases(root: Path, folder: str) -> list[str]:
    """The versions whose tag holds that folder. Raises CalledProcessError where git cannot say."""

    def git(*arguments: str) -> list[str]:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    return [tag for tag in git("tag", "--list", "v[0-9]*", "[0-9]*") if git("ls-tree", tag, "--", folder)]


def main(root: Path = ROOT) -> int:
    try:
        released = releases(root, NAME)
    except (OSError, subprocess.CalledProcessError) as failure:
        print(f"error: git cannot say whether format {VERSION} was released: {failure}", file=sys.stderr)
        return 2
    if released:
        what = f"format {VERSION} was released with {released[0]}, and its golden traces are never written again"
        print(f"error: {what}: raise the number in agent/remit/tracing/otlp.py", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place:
        files = [record(scene, Path(place)) for scene in SCENES]
        shutil.rmtree(root / NAME, ignore_errors=True)  # the old ones stay until all of the new ones are there
        (root / NAME).mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, root / NAME / file.name)
            print(f"wrote {NAME}/{file.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
