"""Judges: agents without tools that say whether an answer is good, where no other key of a scenario can check it.

A judge counts only if its calibration shows how often it agrees with people. Its calibration is an evaluation of its own: at least
`LEAST_ROWS` scenarios in `agent/JUDGE/evals/`, each an answer that a person has labelled, and the baseline of their outcomes. The
baseline names the digest of the judge, so a judge that has changed has no calibration.

A judge reads what the judged agent wrote, and that text can persuade it. What must never happen is for `never` and `effects`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from remit.core import FrozenModel, Problem, Refusal, RemitError, UsageError, WorkspaceError
from remit.core.events import Check
from remit.core.parsing import parse_arguments
from remit.evals.baseline import BASELINE, read_baseline
from remit.evals.definitions import agent_digest
from remit.evals.scenarios import FOLDER, Scenario, read_scenarios, script_problems
from remit.evals.statistics import ScenarioOutcomes, suite_interval
from remit.workspace import Workspace

LEAST_ROWS: Final = 50
VERDICT: Final = "passed"  # the member of a judge's answer: true or false


class NoVerdict(RemitError):
    """A judge said neither yes nor no: the run that it should have judged has no grade."""


class Judge(FrozenModel):
    """A judge that counts. `agreement` is the share of labelled answers with which it agrees, with its interval."""

    agent: str
    rows: int
    agreement: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = (f"{100 * rate:.0f}" for rate in self.interval)
        return (
            f"{self.agent} agrees with people in {100 * self.agreement:.0f} % ({low} to {high}) of {self.rows} answers"
        )


def judging_task(question: str, task: str, answer: str) -> str:
    """The task of a judge, in which the texts of others are JSON strings: no line of them can look like one of the task."""
    return f"Question: {question}\nTask of the agent: {json.dumps(task)}\nAnswer of the agent: {json.dumps(answer)}"


def judgement(judge: Judge, run: str, answer: str) -> Check:
    """What the answer of a judge says. Raises NoVerdict if it is no JSON object whose member `passed` is true or false."""
    try:
        given = parse_arguments(answer)
    except Refusal as refusal:
        raise NoVerdict(f"judge {judge.agent!r} gave no verdict in run {run}: {refusal.message}") from refusal
    passed = given.get(VERDICT)
    if not isinstance(passed, bool):
        raise NoVerdict(f"judge {judge.agent!r} gave no verdict in run {run}: its answer has no member {VERDICT!r}")
    return Check(name="judge", passed=passed, detail=f"{given.get('reason', 'no reason')} ({judge}; run {run})")


def judges_of(workspace: Workspace, scenarios: Sequence[Scenario]) -> dict[str, Judge]:
    """The judges that the scenarios name. Raises WorkspaceError, with the line of each scenario whose judge does not count."""
    judges: dict[str, Judge] = {}
    problems: list[Problem] = []
    for scenario in scenarios:
        for named in scenario.expect.judge:
            try:
                judges[named.agent] = judges.get(named.agent) or read_judge(workspace, named.agent)
            except UsageError as error:
                what, _, fix = str(error).partition(": ")
                problems.append(Problem(file=scenario.file, line=scenario.line, what=what, fix=fix))
    if problems:
        raise WorkspaceError(problems)
    return judges


def read_judge(workspace: Workspace, name: str) -> Judge:
    """The judge, if it counts.

    Raises:
        UsageError: it does not count, with the reason and what to do.
        WorkspaceError: its scenarios or its baseline are not valid.
    """
    assert workspace.root is not None
    agent = workspace.agents.get(name)
    if agent is None:
        raise UsageError(f"judge {name!r} is no agent of this workspace: write agent/{name}/agent.toml")
    if agent.actions:
        raise UsageError(f"judge {name!r} has tools: write `tools = []` in agent/{name}/agent.toml")
    file = f"agent/{name}/{FOLDER}/{BASELINE}"
    again = f"label answers in agent/{name}/{FOLDER}, and run `remit eval {name} --write-baseline`"
    if not (workspace.root / file).is_file():
        raise UsageError(f"judge {name!r} has no calibration: {again}")
    baseline = read_baseline(workspace.root / file, file=file)
    if baseline.variant.agent_digest != agent_digest(agent):
        raise UsageError(f"judge {name!r} has changed since its calibration: {again}")
    labels = {scenario.name: (scenario.digest, label) for scenario, label in _labelled(read_scenarios(workspace, name))}
    known = [outcomes for outcomes in baseline.scenarios if labels.get(outcomes.name, ("", None))[0] == outcomes.digest]
    if len(known) < LEAST_ROWS:
        raise UsageError(f"judge {name!r} has {len(known)} of at least {LEAST_ROWS} labelled answers: {again}")
    return _calibrated(name, known, Counter(labels[outcomes.name][1] for outcomes in known), again)


def check_scenarios(workspace: Workspace) -> tuple[int, list[Problem]]:
    """How many scenarios the agents of a workspace on disk have, and every problem of them and of their judges."""
    root, count, problems = workspace.root, 0, list[Problem]()
    assert root is not None
    for agent in workspace.agents:
        if (root / "agent" / agent / FOLDER).is_dir():
            try:
                scenarios = read_scenarios(workspace, agent)
                count += len(scenarios)
                problems.extend(script_problems(root / "agent" / agent, scenarios))
                judges_of(workspace, scenarios)
            except WorkspaceError as error:
                problems.extend(error.problems)
    return count, problems


def _labelled(scenarios: Sequence[Scenario]) -> Iterator[tuple[Scenario, bool]]:
    for scenario in scenarios:
        answer = scenario.expect.answer
        label = None if answer is None else answer.members.get(VERDICT)
        if isinstance(label, bool):
            yield scenario, label


def _calibrated(name: str, known: Sequence[ScenarioOutcomes], labels: Counter[bool], again: str) -> Judge:
    rates = [outcomes.passed / len(outcomes.outcomes) for outcomes in known]
    agreement = sum(rates) / len(rates)
    interval = suite_interval(rates, sum(len(outcomes.outcomes) for outcomes in known))
    # A judge that always gives the more frequent label agrees that often, and knows nothing.
    if interval[0] <= max(labels.values()) / len(known):
        raise UsageError(
            f"judge {name!r} agrees with people in {100 * agreement:.0f} % of {len(known)} answers, which is no better than "
            f"always the same verdict: correct its prompt or its model, {again}"
        )
    return Judge(agent=name, rows=len(known), agreement=agreement, interval=interval)
