"""What stock Casbin's second opinion adds to a call with an effect: `make bench-second_opinion`.

Figures are processor time of the whole process for one call, for Casbin answers in a thread of its own; each request's best of
several passes counts. The rules are those of the starter, and those of `bench-policy` at 10,000.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from policy import generate_policy

from remit.core import Request
from remit.policy import Policy, SecondOpinion, load_policy, read_cases, read_folder, request_of
from remit.policy.casbin_reference import load_stock_enforcer

ROOT = Path(__file__).parents[2]
PASSES = 7
MOST_MS = {"the starter's rules": 0.5, "10,000 rules": 2.0}
COMPARED = 20  # requests that a whole enforcer is asked about too, which takes a second each at 10,000 rules


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One rulebook; milliseconds a call."""

    rules: str
    p50_ms: float
    p99_ms: float
    build_ms: float
    asked: int
    wrong: int


def measured(name: str, policy: Policy, requests: Sequence[Request], files: dict[str, bytes]) -> Figure:
    began = time.process_time()
    opinion = SecondOpinion(policy)
    build = time.process_time() - began
    answers = opinion.allows_each(requests)
    best = [float("inf")] * len(requests)
    for _ in range(PASSES):
        for at, request in enumerate(requests):
            began_ns = time.process_time_ns()
            opinion.allows(request)
            best[at] = min(best[at], (time.process_time_ns() - began_ns) / 1e6)
    whole = load_stock_enforcer(files)
    wrong = sum(answer is not policy.judge(one).allowed for one, answer in zip(requests, answers, strict=True))
    wrong += sum(answers[at] is not whole.allows(one) for at, one in enumerate(requests[:COMPARED]))
    costs = sorted(best)
    return Figure(
        rules=name,
        p50_ms=median(costs),
        p99_ms=costs[int(len(costs) * 0.99)],
        build_ms=build * 1e3,
        asked=len(requests),
        wrong=wrong,
    )


def figures() -> list[Figure]:
    folder = ROOT / "policies"
    files = read_folder(folder)
    starter = load_policy(files)
    cases = read_cases(starter, (folder / "cases.yaml").read_text(encoding="utf-8"), "")
    made = generate_policy(10_000)
    return [
        measured("the starter's rules", starter, [request_of(starter, case) for _, case in cases], files),
        measured("10,000 rules", load_policy(made.files), made.requests[:500], made.files),
    ]


def main() -> int:
    """Measure, print, write `.bench/second_opinion.json`; 1 where a bar is missed."""
    found = figures()
    held = True
    for one in found:
        ok = one.p50_ms <= MOST_MS[one.rules] and not one.wrong
        held &= ok
        print(
            f"{'held  ' if ok else 'MISSED'} {one.rules}: {one.p50_ms:.3f} ms a call (at most {MOST_MS[one.rules]}), "
            f"p99 {one.p99_ms:.3f} ms, built in {one.build_ms:.1f} ms, {one.wrong} of {one.asked} answers differ"
        )
    out = ROOT / ".bench"
    out.mkdir(exist_ok=True)
    (out / "second_opinion.json").write_text(json.dumps([asdict(one) for one in found], indent=2))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
