"""Evaluations without a run: outcomes that a test names or draws, as the runner would grade them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from remit.evals import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant
from remit.evals.statistics import ScenarioOutcomes, VariantOutcomes

JUDGES = ("tone agrees with people in 94 % (84 to 98) of 60 answers",)
LETTERS: Mapping[str, GradeOutcome] = {"p": "passed", "f": "failed", "i": "infrastructure"}


def variant(name: str = "now", *changes: str) -> Variant:
    return Variant(
        name=name,
        model="script:a.yaml",
        bundle="sha256:b",
        agent_digest="sha256:a",
        policy_digest="sha256:p",
        changes=changes,
    )


def outcomes(**letters: str) -> VariantOutcomes:
    """One letter for each repeat: p passed, f failed, i infrastructure, - not played yet."""
    return VariantOutcomes(
        agent="triage",
        variant=variant(),
        scenarios=tuple(
            ScenarioOutcomes(
                name=name,
                digest=f"sha256:{name}",
                repeats=len(each),
                outcomes=tuple(LETTERS[letter] for letter in each.rstrip("-")),
            )
            for name, each in letters.items()
        ),
    )


def drawn(random_: random.Random, rates: Sequence[float], repeats: int) -> VariantOutcomes:
    """Outcomes of scenarios that pass at these rates."""
    return outcomes(
        **{
            f"s{at}": "".join("p" if random_.random() < rate else "f" for _ in range(repeats))
            for at, rate in enumerate(rates)
        }
    )


def evaluation(
    variants: Mapping[str, Mapping[str, str]] | None = None,
    *,
    detail: str = "expected files.write",
    p95: float | None = None,
    **letters: str,
) -> Evaluation:
    """An evaluation whose variants have these letters for each scenario; the letters of "now" are `letters`.

    A failed run has the failed check `effects` with that detail; the letter h is one that is hard.
    """
    whole = {"now": letters, **(variants or {})}
    grades = tuple(
        _grade(name, scenario, repeat, letter, detail)
        for name, rows in whole.items()
        for scenario, row in rows.items()
        for repeat, letter in enumerate(row)
        if letter != "-"
    )
    return Evaluation(
        id="e0123",
        agent="triage",
        started=1_764_000_000_000_000_000,
        ended=None
        if any("-" in row for rows in whole.values() for row in rows.values())
        else 1_764_000_060_000_000_000,
        scenarios=tuple(
            ScenarioInfo(
                name=name, note=f"note of {name}", digest=f"sha256:{name}", repeats=len(row), p95=p95, judges=JUDGES
            )
            for name, row in letters.items()
        ),
        variants=tuple(variant(name, *(() if name == "now" else ("prompt short.md",))) for name in whole),
        grades=grades,
    )


def _grade(name: str, scenario: str, repeat: int, letter: str, detail: str) -> Grade:
    failed = Check(name="effects", passed=False, detail=detail, hard=letter == "h")
    return Grade(
        scenario=scenario,
        variant=name,
        repeat=repeat,
        run=f"{name}-{scenario}-{repeat}",
        outcome="failed" if letter == "h" else LETTERS[letter],
        checks=(Check(name="outcome", passed=True), *((failed,) if letter in "fh" else ())),
        reason=detail if letter == "i" else "",
        seconds=1.0 + repeat,
        calls=5,
        tokens=1000,
        money=0.01,
    )
