"""A solver: an agent of Remit solves the samples of a task of Inspect, with the model that Inspect evaluates."""

from __future__ import annotations

from collections.abc import Sequence

from inspect_ai.log import transcript
from inspect_ai.model import ModelOutput
from inspect_ai.solver import Generate, Solver, TaskState, solver
from pydantic import JsonValue

from remit.client import AsyncRemit
from remit.core import UsageError
from remit.core.events import Recorded
from remit.inspect_ai.messages import recorded_messages
from remit.inspect_ai.models import InspectModel
from remit.runtime import agent_of
from remit.tracing.reports import CallTimeline, Timeline, build_timeline


@solver(name="remit")
def remit_solver(agent: str, workspace: str | None = None, user: str | None = None) -> Solver:
    """Let an agent of a Remit workspace solve each sample: its rules, its sandbox and its tools, with the model of Inspect.

    Each sample is one run in the journal of the workspace. The answer is the output of the sample, and `state.metadata["remit"]` has
    what the broker saw: `run`, `outcome`, `code`, `answer`, and for each call its action, resources, verdict, result and whether its
    effect landed. The transcript has the same call by call.

    Args:
        agent: an agent of the workspace, with `accept_parsed_arguments = true`: Inspect hides the text of arguments.
        workspace: its folder; None: the one that the current folder is in.
        user: the user that the agent acts for; None: who runs Inspect.

    Raises:
        UsageError: there is no such agent, or it does not accept parsed arguments.
        WorkspaceError: the workspace is not valid.
    """
    client = AsyncRemit.open(workspace)
    if not agent_of(client.session, agent).accept_parsed_arguments:
        raise UsageError(f"agent {agent!r} gets parsed arguments from Inspect: set `accept_parsed_arguments = true`")

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model, records, turn = InspectModel(), list[Recorded](), 0
        async with client.stream(agent, state.input_text, model=model, user=user) as stream:
            async for recorded in stream:
                if recorded.type == "model.responded":
                    turn = len(records)
                records.append(recorded)
                if recorded.type == "call.answered":
                    transcript().info(_facts(_call_of(recorded, records[turn:])), source="remit")
        if model.failure is not None:
            raise model.failure
        timeline = build_timeline(records)
        state.messages = recorded_messages(records)
        state.output = ModelOutput.from_content(str(model.name), stream.result.answer)
        state.metadata["remit"] = run_facts(timeline)
        state.completed = True
        return state

    return solve


def run_facts(timeline: Timeline) -> dict[str, JsonValue]:
    """What the broker saw of a run, as JSON."""
    finished = timeline.finished
    return {
        "run": timeline.run,
        "outcome": timeline.outcome,
        "code": None if finished is None else finished.code,
        "answer": "" if finished is None else finished.answer,
        "calls": [_facts(call) for call in timeline.calls if not call.internal],
    }


def _call_of(answered: Recorded, turn: Sequence[Recorded]) -> CallTimeline:
    event = answered.event
    assert event is not None  # nothing of a run that goes on is erased
    return next(call for call in build_timeline(turn).calls if (call.step, call.index) == (event.step, event.index))


def _facts(call: CallTimeline) -> dict[str, JsonValue]:
    decision = call.decision
    return {
        "call": call.place,
        "action": call.action,
        "resources": list(call.resources),
        "verdict": None if decision is None else decision.verdict,
        "reason": "" if decision is None else decision.message,
        "policy": "" if decision is None else decision.policy_digest,
        "result": None if call.result is None else "ok" if call.error is None else call.error.code,
        "landed": call.landed,
        "labels": list(call.labels),
    }
