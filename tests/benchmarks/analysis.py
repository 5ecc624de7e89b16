"""What the reviewer's questions cost: the semantic diff, lint, and a backtest, in processor time of one core.

Rules as in `policy.py`: 500 agents in 100 teams in 30 departments in 8 organisations, globs, 30% with a condition. A diff is
timed with both sides read, and again from their bytes, with nothing remembered from the one before. Every witness is replayed
on both sides. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.analysis.backtest import backtest_rules
from remit.analysis.diff.policy import compare_policies
from remit.analysis.diff.revisions import working_tree
from remit.analysis.diff.witnesses import verify_witnesses
from remit.analysis.lint import lint_rules
from remit.analysis.solver.findings import PolicyDifference
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core.calls import Call, Decision, ProposedCall, ResourceAccess, Subjects, Succeeded
from remit.core.events import AnyEvent, AttemptEnded, CallAnswered, CallDecided, ModelRequested, Recorded, RunStarted
from remit.journal.hash_chain import seal
from remit.policy.language.conditions import read_condition
from remit.policy.language.loader import Vocabulary
from remit.policy.language.patterns import parse_pattern
from support.principals import principal
from support.workspaces.large import large_workspace

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "policies" / "model.conf").read_bytes()
KNOWN = Vocabulary(actions={f"t{tool}.a{action}": None for tool in range(12) for action in range(10)})
DECISIONS, CALLS = 4_000, 20
RATE = 20_000  # decisions a second, at least


def rules(count: int, seed: int) -> list[str]:
    """Roles on three levels, and that many rules."""
    dice = random.Random(seed)
    links = [f"g, agent:a{n}, role:t{dice.randrange(100)}" for n in range(500)]
    links += [f"g, role:t{n}, role:d{n % 30}" for n in range(100)] + [f"g, role:d{n}, role:o{n % 8}" for n in range(30)]
    found: list[str] = []
    for _ in range(count):
        who = dice.choice(
            (
                f"agent:a{dice.randrange(500)}",
                f"role:t{dice.randrange(100)}",
                f"role:d{dice.randrange(30)}",
                f"role:o{dice.randrange(8)}",
            )
        )
        facts = dice.choice((f"args.size <= {dice.randrange(1000)}", "env == 'prod'", "'untrusted' not in labels"))
        tail = dice.choice(("src/**", "docs/*", "x/*.csv", "**/secret/*", "*"))
        where = f"file:projects/p{dice.randrange(count // 25)}/{tail}"
        what = f"t{dice.randrange(12)}.a{dice.randrange(10)}"
        condition = "True" if dice.random() < 0.7 else facts
        found.append(f"p, {who}, {what}, {where}, {condition}, {'allow' if dice.random() < 0.85 else 'deny'}")
    return links + found


def side(rows: list[str]) -> RuleSet:
    files = {"policies/model.conf": MODEL, "policies/rules.csv": "\n".join(rows).encode()}
    return read_rule_set("bench", files, KNOWN)


def taken(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process, and what came out."""
    gc.collect()
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def edits(rows: list[str]) -> dict[str, list[str]]:
    """One edit each, as a pull request makes it."""
    at = next(n for n, row in enumerate(rows) if "role:o" in row and row.endswith("True, allow") and "docs/*" in row)
    limit = next(n for n, row in enumerate(rows) if "args.size <= " in row)
    value = int(rows[limit].split("args.size <= ")[1].split(",")[0])
    return {
        "another order": rows[::-1],
        "one allow more": [*rows, "p, role:o1, t1.a1, file:projects/p1/secret/*, True, allow"],
        "one redundant allow": [*rows, rows[at].replace("docs/*", "docs/x")],
        "one glob wider": [*rows[:at], rows[at].replace("docs/*", "**"), *rows[at + 1 :]],
        "a number by one": [*rows[:limit], rows[limit].replace(f"<= {value}", f"<= {value + 1}"), *rows[limit + 1 :]],
        "one role link more": [*rows, "g, agent:a3, role:d7"],
        "one deny of everything": [*rows, "p, role:d7, *, **, True, deny"],
    }


def recorded() -> list[list[Recorded]]:
    """Runs of the starter's agent, twenty calls each, with the events that a broker records for a call."""
    subjects = Subjects(agent="agent:triage", user="user:operator")
    started = RunStarted(
        subjects=subjects, by=principal("ann"), task="why", prompt="", model="script:x", scripted=True, actions=("files.read",),
        bundle="", policy_digest="", confinement="full", env="local", folder="work", version="0",
    )  # fmt: skip
    allowed = Decision(verdict="allow", reason="allowed", message="yes")
    runs: list[list[Recorded]] = []
    for run in range(DECISIONS // CALLS):
        events: list[AnyEvent] = [started]
        for step in range(CALLS):
            path = f"logs/{run}/{step}.log"
            place = {"step": step, "index": 0}
            call = Call(
                run=f"{run:032x}", subjects=subjects, action="files.read", arguments={"path": path, "lines": 400},
                touches=(ResourceAccess(access="read", resource=f"file:{path}"),), effect="read", manifest="sha256:0", request_digest="", **place,
            )  # fmt: skip
            events += [
                ModelRequested(step=step, model="x", input_digest=""),
                CallDecided(
                    proposed=ProposedCall(name="files__read", arguments=None), call=call, decision=allowed, **place
                ),
                AttemptEnded(attempt=0, code=None, **place),
                CallAnswered(result=Succeeded(value={}, labels=("untrusted",)), **place),
            ]
        runs.append([seal(f"{run:032x}", seq, seq, "", event, "") for seq, event in enumerate(events)])
    return runs


BEFORE, OTHER = "../before", "../other"  # the workspace with three rows less, and one with other rules

# Commands over a whole workspace: each in a process of its own, as people start them.
COMMANDS = {
    "check": ("check",),
    "policy check": ("policy", "check"),
    "policy explain": ("policy", "explain", "t0.read", "file:p0/x", "--agent", "a0", "--user", "operator"),
    "policy who": ("policy", "who", "t0.read", "file:p0/x"),
    "policy can": ("policy", "can", "agent:a0"),
    "policy can, all of an operator": ("policy", "can", "user:operator"),
    "policy diff, three edits": ("policy", "diff", BEFORE, "."),
    "diff, three edits": ("diff", BEFORE, "."),
    "policy diff, another policy": ("policy", "diff", OTHER, "."),
    "diff, another policy": ("diff", OTHER, "."),
}
# A half of the rules differs: no pull request is like that, so these have no bar of time.
UNBOUND = ("policy diff, another policy", "diff, another policy")


def changed_rows(rows: list[str]) -> list[str]:
    """The rows, each with a narrower resource."""
    return [
        row.replace("/**", "/part/**").replace("/out/", "/out/part/").replace("/docs/*", "/docs/a*") for row in rows
    ]


def command(folder: Path, *words: str) -> tuple[float, int]:
    """Processor seconds of the command and of its children, and the lines that it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "remit", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, (done.stdout + done.stderr).count("\n")


def main() -> int:
    report: list[dict[str, Any]] = []
    missed = False

    def tell(name: str, seconds: float, bar: float | None, found: str, *, wrong: bool = False) -> None:
        nonlocal missed
        over = (bar is not None and seconds > bar) or wrong
        missed = missed or over
        report.append({"what": name, "seconds": seconds, "bar": bar, "found": found})
        shown = "" if bar is None else f"bar {bar:.1f} s{'  MISSED' if over else ''}"
        print(f"{name:<44} {seconds:8.3f} s  {shown:<18} {found}")

    def compared(name: str, old: list[str], new: list[str], bar: float) -> None:
        parse_pattern.cache_clear()
        read_condition.cache_clear()
        reading, (before, after) = taken(lambda: (side(old), side(new)))
        seconds, found = taken(lambda: compare_policies(before, after))
        assert isinstance(found, PolicyDifference)
        replayed = verify_witnesses(found)
        tell(
            name,
            seconds,
            bar,
            f"{reading + seconds:.3f} s with reading both; "
            f"{len(found.findings)} changes, {replayed.replayed} witnesses, {len(replayed.wrong)} wrong",
            wrong=bool(replayed.wrong),
        )

    for count in (1_000, 10_000):
        rows = rules(count, 1)
        for name, new in edits(rows).items():
            compared(f"diff {count:>6} rules, {name}", rows, new, 0.5)
    compared("diff   1000 rules, an unrelated policy", rules(1_000, 1), rules(1_000, 2), 2.0)
    for count in (1_000, 10_000):
        whole = side(rules(count, 1))
        seconds, remarks = taken(lambda whole=whole: lint_rules(whole))
        tell(f"lint {count:>6} rules", seconds, None, f"{len(remarks)} remarks")
    starter = working_tree(ROOT).rule_set()
    runs = recorded()
    seconds, found = min((taken(lambda: backtest_rules(runs, starter)) for _ in range(3)), key=lambda one: one[0])
    assert (found.decided, found.flips) == (DECISIONS, ())
    tell(f"backtest {DECISIONS} decisions", seconds, DECISIONS / RATE, f"{DECISIONS / seconds:,.0f} decisions a second")
    with tempfile.TemporaryDirectory() as made:
        folder = large_workspace(Path(made) / "now", rules=5_000, tools=300, agents=50)
        before = Path(shutil.copytree(folder, Path(made) / "before"))
        rows = (before / "policies/rules.csv").read_text().splitlines()
        (before / "policies/rules.csv").write_text("\n".join([*rows[:1000], *rows[1001:2000], *rows[2001:-1]]) + "\n")
        other = Path(shutil.copytree(folder, Path(made) / "other"))
        (other / "policies/rules.csv").write_text("\n".join([*rows[:2500], *changed_rows(rows[2500:])]) + "\n")
        for name, words in COMMANDS.items():
            seconds, lines = command(folder, *words)
            bar = None if name in UNBOUND else 5.0
            tell(f"{name}, 5,000 rules", seconds, bar, f"{lines} lines", wrong=not 0 < lines <= 200)
    folder = ROOT / ".bench"
    folder.mkdir(exist_ok=True)
    (folder / "analysis.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
