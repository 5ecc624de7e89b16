"""Live reads: executes the reads of a recorded run again now, and compares the results with the recorded ones.

The reads are a run of their own, proposed by a model that only repeats. They are decided by today's rules for the person
who asks, and confined, recorded and traced like any other run. So there is no second way to run a tool.
Only actions that read are repeated. A read is not repeated if its tool runs unconfined, if an argument held a secret, or
if the tool is another version than the recorded one (unless the caller allows that).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remit.core import ENDED, Message, ModelTurn, Principal, ProposedCall, ToolSpec, UsageError
from remit.core.events import AttemptEnded, Recorded
from remit.core.parsing import canonical_json
from remit.replay.divergence import Divergence, unified_diff
from remit.replay.partial import RunPart
from remit.runtime import RunRequest, acting_subject, start_run
from remit.tracing.reports import CallTimeline, Timeline, build_timeline
from remit.workspace import Bundle, Workspace, WorkspaceSession


@dataclass(frozen=True, kw_only=True)
class LiveReads:
    """The result of live reads. `run` is the run that executed them, "" if there was nothing to read.

    `ends` are the new outcomes by the call's place in the recorded run. `kept` counts the calls that were not repeated, by
    reason.
    """

    run: str
    ends: Mapping[RunPart, AttemptEnded]
    divergences: tuple[Divergence, ...]
    kept: Mapping[str, int]

    @property
    def summary(self) -> str:
        """One sentence for a person."""
        kept = "".join(f"; {count} {why}" for why, count in self.kept.items())
        repeated = f"{len(self.ends)} reads repeated" + (f" in run {self.run[:8]}" if self.run else "")
        return f"{repeated}, {len(self.divergences)} differ{kept}"


class RepeatingModel:
    """A model that proposes the reads of an earlier run again, step by step, and then ends the run."""

    scripted = True

    def __init__(self, run: str, steps: Sequence[Sequence[CallTimeline]]) -> None:
        self.name = f"replay:{run}"
        self._steps = steps

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        if step >= len(self._steps):
            return ModelTurn(text="", proposed_calls=(), finish=ENDED)
        proposed_calls = tuple(
            ProposedCall(name=call.proposed.name, arguments=canonical_json(call.arguments).decode())
            for call in self._steps[step]
        )
        return ModelTurn(text="", proposed_calls=proposed_calls, finish="tool_calls")


async def read_live(
    records: Sequence[Recorded],
    bundles: Mapping[str, Bundle],
    session: WorkspaceSession,
    *,
    by: Principal,
    other_version: bool,
) -> LiveReads:
    """Execute the reads of the run again; `by` is who asks for it.

    With `other_version`, another version of a tool than the recorded one may run.

    Raises UsageError if this workspace has no such agent.
    """
    timeline = build_timeline(records)
    started = timeline.started
    assert started is not None  # the caller has checked that the run can be replayed
    chosen, kept = _choose_reads(timeline, bundles[started.bundle].workspace, session, other_version)
    if not chosen:
        return LiveReads(run="", ends={}, divergences=(), kept=kept)
    name = started.subjects.agent.partition(":")[2]
    if name not in session.workspace.agents:
        raise UsageError(f"this workspace has no agent {name!r}: live reads run as the agent of the recorded run")
    steps = [[call for call in chosen if call.step == step] for step in sorted({call.step for call in chosen})]
    ended = await start_run(
        session,
        RunRequest(
            agent=name,
            task=f"repeat the reads of run {timeline.run}",
            subject=acting_subject(session, by, None),
            by=by,
            model=RepeatingModel(timeline.run, steps),
            folder=_working_folder(session, name, timeline.run),
        ),
    )
    again = build_timeline(session.journal.events(ended.run))
    now = {(call.step, call.index): call for call in again.calls}
    pairs = [(call, now.get((at, index))) for at, calls in enumerate(steps) for index, call in enumerate(calls)]
    return _compare_reads(ended.run, pairs, kept)


def _choose_reads(
    timeline: Timeline, recorded: Workspace, session: WorkspaceSession, other_version: bool
) -> tuple[list[CallTimeline], dict[str, int]]:
    """The reads that may be repeated, and the number of other calls by reason."""
    chosen: list[CallTimeline] = []
    kept: dict[str, int] = {}
    for call in timeline.calls:
        why = _reason_against(call, recorded, session, other_version)
        if why is None:
            chosen.append(call)
        elif why:
            kept[why] = kept.get(why, 0) + 1
    return chosen, kept


def _reason_against(
    call: CallTimeline, recorded: Workspace, session: WorkspaceSession, other_version: bool
) -> str | None:
    """Why a call is not repeated; "" if it never ran, None if it is repeated."""
    if not call.attempts or call.attempts[-1].ended is None:
        return ""
    tool_name, _, action_name = call.action.partition(".")
    tool, then = session.workspace.tools.get(tool_name), recorded.tools.get(tool_name)
    action = tool.manifest.actions.get(action_name) if tool else None
    if call.effect != "read" or (action is not None and action.effect != "read"):
        return "from the record: the call has an effect"
    if tool is None or action is None or not tool.pinned:
        return "from the record: this workspace has no pinned version of the tool"
    if tool.manifest.hosted:
        return "from the record: the tool runs unconfined"
    if call.proposed.redacted:
        return "from the record: an argument held a secret"
    same = then is not None and (then.manifest.digest, then.code) == (tool.manifest.digest, tool.code)
    if not same and not other_version:
        return "from the record: the tool has another version now (add --tools . to run it)"
    return None


def _working_folder(session: WorkspaceSession, agent: str, run: str) -> str:
    """The recorded run's own working folder if it still exists, else "".

    The path follows from today's settings. The folder named in the record is not used: a trace can come from anyone.
    """
    folder = session.workspace.agents[agent].folder.replace("{run}", run)
    return folder if (session.root / folder).is_dir() else ""


def _compare_reads(
    run: str, pairs: Sequence[tuple[CallTimeline, CallTimeline | None]], kept: dict[str, int]
) -> LiveReads:
    ends: dict[RunPart, AttemptEnded] = {}
    found: list[Divergence] = []
    for then, now in pairs:
        before, after = then.attempts[-1].ended, now.attempts[-1].ended if now and now.attempts else None
        if before is None or after is None:
            code = now.error.code if now and now.error else "no answer"
            why = f"from the record: refused by today's rules ({code})"
            kept[why] = kept.get(why, 0) + 1
            continue
        place = (then.step, then.index)
        ends[place] = after.model_copy(update={"step": then.step, "index": then.index, "attempt": before.attempt})
        sides = [_outcome_lines(before), _outcome_lines(after)]
        if sides[0] != sides[1]:
            what = f"{' '.join([then.action, *then.resources])} returns a different result now"
            found.append(
                Divergence(
                    kind="result",
                    step=then.step,
                    index=then.index,
                    what=what,
                    diff=unified_diff(*sides, names=("then", "now")),
                )
            )
    return LiveReads(run=run, ends=ends, divergences=tuple(found), kept=kept)


def _outcome_lines(ended: AttemptEnded) -> list[str]:
    members = {"code": ended.code, "error": ended.error, "message": ended.message, "value": ended.value}
    present = {name: value for name, value in members.items() if value not in (None, "")}
    return json.dumps(present, indent=2, sort_keys=True, ensure_ascii=False).replace("\\n", "\n    ").splitlines()


def with_new_outcomes(records: Sequence[Recorded], ends: Mapping[RunPart, AttemptEnded]) -> list[Recorded]:
    """The recorded events, with the outcomes of live reads in place of the recorded outcomes."""
    return [
        item.model_copy(update={"event": ends[item.event.step, item.event.index]})
        if isinstance(item.event, AttemptEnded)
        and (end := ends.get((item.event.step, item.event.index))) is not None
        and end.attempt == item.event.attempt
        else item
        for item in records
    ]
