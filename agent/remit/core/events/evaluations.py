"""Events of an evaluation, each in the stream `evaluation:ID`, and the grades that they hold."""

from __future__ import annotations

from typing import Literal, TypeAlias

from remit.core.calls import FrozenModel
from remit.core.events.event import Event
from remit.core.principals import Principal

GradeOutcome: TypeAlias = Literal[
    "passed",
    "failed",
    "infrastructure",  # no grade of the agent: the model's provider, the sandbox or the record failed. Never left out of a count
]


class Check(FrozenModel):
    """Records one thing that a scenario expects of a run, and whether it was so. `detail` says what was expected and what was found."""

    name: str  # the key of the scenario: "outcome", "effects", "never", "refused", "asked", "world", "answer", "within", "judge"
    passed: bool
    detail: str = ""
    hard: bool = False  # True for an effect that must never land: one failure fails the whole evaluation


class Sources(FrozenModel):
    """Records how many answers of tools are from where, in a run that goes on from a step of a recorded one.

    `recorded` are from its record; `rerun` are of tools that ran, confined, in its world; `assumed` are of effects that ran nowhere.
    A run that rests on an assumed answer has no grade: its outcome is "infrastructure".
    """

    recorded: int
    rerun: int
    assumed: int


class Grade(FrozenModel):
    """Records the grade of one run. `seconds` is wall-clock time; `money` is in the currency of policies/prices.toml, None if unknown."""

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
    sources: Sources | None = None  # None for a run that began at its beginning


class Variant(FrozenModel):
    """Records one definition of the agent that plays the scenarios. `bundle` is the digest of its files in the object store.

    `agent_digest` is that of the agent alone: model, prompt, settings, actions. `changes` has a line for each difference from the
    definition on disk: "model openai:gpt-5", "prompt prompts/short.md".
    """

    name: str
    model: str
    bundle: str
    agent_digest: str
    policy_digest: str
    changes: tuple[str, ...] = ()


class ScenarioInfo(FrozenModel):
    """Records a scenario as it is played. `digest` covers its row and its world: grades of different digests are not compared.

    `p95` is the most seconds that 95 of 100 repeats may take, None without a limit. `judges` says of each judge how often it agrees
    with people.
    """

    name: str
    note: str
    digest: str
    repeats: int
    p95: float | None = None
    judges: tuple[str, ...] = ()


class EvaluationStarted(Event):
    """Records that an evaluation of an agent begins: each variant plays each scenario as often as it has repeats."""

    type: Literal["evaluation.started"] = "evaluation.started"
    agent: str
    by: Principal
    scenarios: tuple[ScenarioInfo, ...]
    variants: tuple[Variant, ...]  # the first one is the definition on disk


class EvaluationGraded(Event):
    """Records the grade of one run of an evaluation."""

    type: Literal["evaluation.graded"] = "evaluation.graded"
    grade: Grade

    @property
    def key(self) -> str:
        return f"evaluation.graded/{self.grade.variant}/{self.grade.scenario}/{self.grade.repeat}"


class EvaluationFinished(Event):
    """Records that every run of an evaluation has its grade."""

    type: Literal["evaluation.finished"] = "evaluation.finished"
