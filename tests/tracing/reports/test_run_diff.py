"""Comparing two runs: the first difference is found, also with added, moved or renamed calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.calls import ResourceAccess
from remit.core.events import AnyEvent, Recorded, RunFinished
from remit.runtime import runner as run
from remit.tracing.reports.alignment import align_calls
from remit.tracing.reports.run_diff import RunDiff, diff_runs
from remit.tracing.reports.timeline import Timeline, build_timeline
from remit.workspace import session
from support.events import RUN, ask, decided, recorded, started, succeeded
from support.events import turn as asked
from support.principals import OPERATOR
from support.runs import DONE, Command, turn

LOOK = {"ledger__look": {"name": "ann"}}
PAY = {"ledger__pay": {"name": "ben", "amount": 900}}


def played(folder: Path, turns: list[dict[str, Any]], task: str = "keep the ledger") -> str:
    """Play these turns in the ledger workspace and return the run's id."""
    (folder / "agent" / "clerk" / "script.yaml").write_text(json.dumps({"turns": turns}))
    opened = session.open_session(folder)
    start = run.RunRequest(
        agent="clerk", task=task, subject="user:operator", by=OPERATOR, model=run.open_model_of(opened, "clerk")
    )
    return asyncio.run(run.start_run(opened, start)).run


def timeline(*calls: tuple[str, dict[str, Any], Any]) -> Timeline:
    """A run that makes one call a step: action, arguments, value."""
    events: list[AnyEvent] = [started()]
    for step, (action, arguments, value) in enumerate(calls):
        touches = (ResourceAccess(access="read", resource=f"file:{arguments['path']}"),)
        made = decided(step, 0, action=action, arguments=arguments, touches=touches)
        events += [*asked(step, ask(action, json.dumps(arguments))), made, succeeded(step, 0, value=value)]
    return build_timeline(recorded([*events, RunFinished(outcome="completed", answer="done")]))


def kinds(found: RunDiff) -> list[tuple[str, str, str]]:
    return [(one.kind, one.a, one.b) for one in found.differences]


def read(
    path: str, value: Any = "text that is long enough", action: str = "files.read"
) -> tuple[str, dict[str, Any], Any]:
    return action, {"path": path}, value


def test_an_additional_call_does_not_hide_what_follows_it() -> None:
    """Paired by position, every later call would differ; paired by content, only the new one does."""
    a = timeline(read("a"), read("b"), read("c"))
    b = timeline(read("a"), read("new"), read("b"), read("c", "another text altogether"))
    assert kinds(diff_runs(a, b)) == [("extra", "", "1.0"), ("result", "2.0", "3.0")]


def test_a_call_that_moved_is_the_same_call() -> None:
    found = diff_runs(timeline(read("a"), read("b"), read("c")), timeline(read("c"), read("a"), read("b")))
    assert kinds(found) == []
    assert found.moved == (("2.0", "0.0"),)


def test_calls_of_a_renamed_tool_are_paired_by_arguments_and_resources() -> None:
    a, b = timeline(read("a"), read("b")), timeline(read("a", action="docs.open"), read("b", action="docs.open"))
    assert [(pair.a is None, pair.b is None) for pair in align_calls(a, b)] == [(False, False), (False, False)]
    assert kinds(diff_runs(a, b)) == [("request", "0.0", "0.0"), ("request", "1.0", "1.0")]


def test_two_different_calls_with_the_same_action_are_not_paired() -> None:
    """The second run lacks the first call; its only call is paired with the second call."""
    found = diff_runs(
        timeline(read("a", "one text of a"), read("b", "one text of b")), timeline(read("b", "one text of b"))
    )
    assert kinds(found) == [("missing", "0.0", "")]


def test_times_run_ids_and_uuids_are_not_differences_and_everything_else_is() -> None:
    value = {"at": "2026-11-23T19:32:01.5Z", "run": RUN, "id": "0b0e8a52-1d4e-4a39-9f0e-3f8d3c1b2a10", "status": "open"}
    other = {**value, "at": "2026-11-24 08:00:00", "id": "11111111-1d4e-4a39-9f0e-3f8d3c1b2a10"}
    assert diff_runs(timeline(read("a", value)), timeline(read("a", other))).same
    closed = diff_runs(timeline(read("a", value)), timeline(read("a", {**other, "status": "closed"})))
    assert kinds(closed) == [("result", "0.0", "0.0")]
    assert [line for line in closed.differences[0].diff if line[0] in "+-"] == [
        '-    "status": "open"',
        '+    "status": "closed"',
    ]


def test_a_loop_of_hundreds_of_calls_is_compared_at_once() -> None:
    calls = [read("a")] * 400
    found = diff_runs(timeline(*calls[:3]), timeline(*calls))
    assert len(found.differences) == 397
    assert {one.kind for one in found.differences} == {"extra"}


def test_a_slower_call_is_named_with_both_times() -> None:
    slow = [item.model_copy(update={"at": item.at + (item.seq >= 4) * 3_000_000_000}) for item in _records()]
    (one,) = diff_runs(build_timeline(_records()), build_timeline(slow)).slower
    assert (one.a, one.b, one.name) == ("0.0", "0.0", "files.read file:docs/a.md")
    assert one.after - one.before == pytest.approx(3.0)


def _records() -> list[Recorded]:
    return recorded([started(), *asked(0, ask()), decided(0, 0), succeeded(0, 0), RunFinished(outcome="completed")])


def test_a_changed_rule_is_named_with_the_call_whose_decision_it_changed(
    clerk: Callable[..., Path], command: Command
) -> None:
    """The policy bundles of both runs are compared too: one command shows the edit and its consequence."""
    folder = clerk([])
    turns = [turn(**LOOK), {"say": "pay", "calls": [{"ledger__pay": {"name": "ann", "amount": 7}}]}, DONE]
    good = played(folder, turns)
    rules = folder / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text() + "\n# Ann is paid by hand from now on\np, agent:clerk, ledger.pay, account:ann, True, deny\n"
    )
    bad = played(folder, turns)
    done = command(folder, "trace", "diff", bad[:8], "--last-good")
    assert done.code == 1, done.err
    assert done.out.startswith(f"{good[:8]} and {bad[:8]}: 2 calls in both runs\n")
    assert "changed policies/rules.csv" in done.out
    assert "+p, agent:clerk, ledger.pay, account:ann, True, deny" in done.out
    assert (
        "first divergence at step 1.0, decision: ledger.pay account:ann: was allow, now deny by policies/rules.csv:"
        in done.out
    )
    assert "(Ann is paid by hand from now on)" in done.out
    diff = command(folder, "trace", "diff", good, bad, "--json").json
    assert (diff["ok"], [one["kind"] for one in diff["differences"]]) == (False, ["decision", "result"])


def test_the_last_good_run_is_an_earlier_run_of_the_same_agent_and_task(
    clerk: Callable[..., Path], command: Command
) -> None:
    folder = clerk([])
    first = played(folder, [turn(**LOOK), DONE])
    played(folder, [turn(**LOOK), DONE], task="another task")
    played(folder, [turn(**LOOK)])  # the script ends: failed
    bad = played(folder, [turn(**LOOK)])
    later = played(folder, [turn(**LOOK), DONE])
    done = command(folder, "trace", "diff", bad, "--last-good", "--json")
    assert (done.code, done.json["a"], done.json["b"]) == (1, first, bad)
    assert [one["kind"] for one in done.json["differences"]] == ["outcome"]
    same = command(folder, "trace", "diff", later, "--last-good")
    assert (same.code, "no divergence" in same.out) == (0, True)
    assert command(folder, "trace", "diff", bad, str(folder / "traces" / f"{bad}.jsonl")).code == 0


def test_diff_without_a_last_good_run_says_what_to_do(clerk: Callable[..., Path], command: Command) -> None:
    folder = clerk([])
    only = played(folder, [turn(**LOOK), DONE])
    for args in (
        ["diff", only, "--last-good"],
        ["diff", only],
        ["diff", only, only, "--last-good"],
        ["diff", only, "nope"],
    ):
        done = command(folder, "trace", *args)
        assert (done.code, done.out) == (2, "")
        assert "rror" in done.err
        assert "Traceback" not in done.err
