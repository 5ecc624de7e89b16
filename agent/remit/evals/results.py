"""The grades of an evaluation: what reports, comparisons and baselines read, and the form in which they are stored as JSON.

An evaluation lets each variant of an agent play each scenario several times. Each repeat is one run and has one grade.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from remit.core import FrozenModel

GradeOutcome: TypeAlias = Literal[
    "passed",
    "failed",
    "infrastructure",  # no grade of the agent: the model's provider, the sandbox or the record failed. Never left out of a count
]


class Check(FrozenModel):
    """One thing that a scenario expects of a run, and whether it was so. `detail` says what was expected and what was found."""

    name: str  # the key of the scenario: "outcome", "effects", "refused", "world", "answer", "within", "judge"
    passed: bool
    detail: str = ""
    hard: bool = False  # True for an effect that must never land: one failure fails the whole evaluation


class Grade(FrozenModel):
    """The grade of one run. `seconds` is wall-clock time; `money` is in the currency of policies/prices.toml, None if unknown."""

    scenario: str
    variant: str
    repeat: int  # from 0
    run: str  # its id; "" if it could not start
    outcome: GradeOutcome
    checks: tuple[Check, ...] = ()
    reason: str = ""  # why the outcome is "infrastructure"
    seconds: float
    calls: int
    tokens: int
    money: float | None = None


class Variant(FrozenModel):
    """One definition of the agent that plays the scenarios. `bundle` is the digest of its files in the object store.

    `changes` has a line for each difference from the definition on disk: "model openai:gpt-5", "prompt prompts/short.md".
    """

    name: str
    model: str
    bundle: str
    policy_digest: str
    changes: tuple[str, ...] = ()


class ScenarioInfo(FrozenModel):
    """A scenario as it was played. `digest` covers its row and its world: grades of different digests are not compared."""

    name: str
    note: str
    digest: str
    repeats: int


class Evaluation(FrozenModel):
    """All grades of one evaluation. `started` and `ended` are Unix nanoseconds; `ended` is None while it is played."""

    id: str
    agent: str
    started: int
    ended: int | None = None
    scenarios: tuple[ScenarioInfo, ...]
    variants: tuple[Variant, ...]  # the first one is the definition on disk
    grades: tuple[Grade, ...] = ()
