"""The spans of one trace of another tool as the events of a run.

A turn of a model becomes a step, and each executed tool a call of the step that asked for it. Nothing is decided: the decision
says that the call was imported. A call whose action, arguments and resources this workspace knows can be decided later, by
`remit policy backtest`; of any other, its decision says why not.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from remit import __version__
from remit.core import (
    Call,
    Decision,
    Error,
    Failed,
    Principal,
    ProposedCall,
    Refusal,
    Result,
    Subjects,
    Succeeded,
    decision_digest,
    request_digest,
    tool_name,
)
from remit.core.events import (
    AnyEvent,
    CallAnswered,
    CallDecided,
    ImportedFrom,
    ModelRequested,
    ModelResponded,
    RunFinished,
    RunStarted,
)
from remit.core.parsing import parse_arguments
from remit.guardrails import Sanitizer
from remit.journal import Chain, ChainLink, link
from remit.tracing.imported.conventions import AgentWork, Known, ToolRun, Turn, read_span
from remit.tracing.imported.messages import Asked
from remit.tracing.otlp import ReadSpan
from remit.workspace import Workspace, labels_in, labels_of
from remit.workspace.manifest import resolve

_NO_ACTION: Final = "the workspace has no action for the tool"
_NO_ARGUMENTS: Final = "the arguments were not recorded"
_NOT_REVIEWED: Final = "the tool of the action is not pinned"
_UNFIT: Final = "the action does not accept the arguments"
_OUTSIDE: Final = "the manifest of the tool permits no such resource"
_NARROWED: Final = "the action reads whatever the rules permit"
_HIDDEN_NAME: Final = "the name of a resource contains a secret"
_LONGEST_ERROR: Final = 2000  # characters
_MOST_ABOVE: Final = 12  # spans above one in which the same turn or call is looked for


@dataclass(frozen=True, kw_only=True)
class ForeignTrace:
    """One trace of another tool: `tool` is what wrote its spans, `known` are those that mean something, in the order of time.

    `root` is the earliest span without a parent in the trace.
    """

    trace_id: str
    tool: str
    root: ReadSpan
    known: tuple[Known, ...]


@dataclass(kw_only=True)
class Coverage:
    """How much of the imported traces Remit can decide again.

    `decidable` of the `calls` have an action, arguments and resources that this workspace knows; `left_out` counts the others by the
    reason, `unknown_tools` by the tool. `not_executed` calls were asked for, and no span says that a tool ran.
    """

    traces: int = 0
    turns: int = 0
    calls: int = 0
    decidable: int = 0
    not_executed: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])
    unknown_tools: Counter[str] = field(default_factory=Counter[str])


def group_spans(spans: Iterable[ReadSpan]) -> list[ForeignTrace]:
    """The traces, the first one first. A span inside of one that means the same is left out: two tools may have written both."""
    by_trace: dict[str, list[ReadSpan]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    found: list[ForeignTrace] = []
    for trace_id, own in by_trace.items():
        own.sort(key=lambda span: (span.start, span.span_id))
        ids = {span.span_id for span in own}
        root = next((span for span in own if span.parent_id not in ids), own[0])
        known = tuple(_outermost(own))
        if known:
            found.append(ForeignTrace(trace_id=trace_id, tool=known[0].span.scope, root=root, known=known))
    return sorted(found, key=lambda trace: (trace.root.start, trace.trace_id))


def _outermost(spans: Sequence[ReadSpan]) -> Iterator[Known]:
    known = {span.span_id: read for span in spans if (read := read_span(span)) is not None}
    parents = {span.span_id: span.parent_id for span in spans}
    for one in known.values():
        above = one.span.parent_id
        for _ in range(_MOST_ABOVE):
            outer = None if above is None else known.get(above)
            if isinstance(one, Turn) and isinstance(outer, Turn):
                break
            if isinstance(one, ToolRun) and isinstance(outer, ToolRun) and one.name == outer.name:
                break
            above = None if above is None else parents.get(above)
        else:
            yield one


@dataclass(frozen=True, kw_only=True)
class ImportedAs:
    """What imported runs count as: the name of the import, the agent by its name, and the user for whom they acted as a subject.

    `actions` are the actions that tools of the other system stand for, by their name there; a tool with the name of an action needs
    no entry.
    """

    name: str
    agent: str
    user: str
    actions: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Converter:
    """Converts traces to runs. `by` is who imports; `coverage` counts what was converted."""

    what: ImportedAs
    workspace: Workspace
    by: Principal
    sanitizer: Callable[[str], Sanitizer]
    coverage: Coverage = field(default_factory=Coverage)

    def run_of(self, trace: ForeignTrace) -> str:
        """The id of the run: the same for the same trace and import, so that nothing is imported twice."""
        return hashlib.sha256(f"{self.what.name}\0{trace.trace_id}".encode()).hexdigest()[:32]

    def convert(self, trace: ForeignTrace) -> Chain:
        """The run, sealed."""
        run, links = self.run_of(trace), list[ChainLink]()
        self.coverage.traces += 1
        at = trace.root.start
        for time, event in _Conversion(self, trace, run).events():
            at = max(at, time)
            before = links[-1].hash if links else ""
            links.append(link(run, len(links), at, before, event, secrets.token_hex(16)))
        return Chain(run=run, links=tuple(links))


class _Step:
    """One step: its turn (None: calls before any turn), and the calls with the tool that ran, None without one."""

    def __init__(self, turn: Turn | None) -> None:
        self.turn = turn
        self.calls: list[tuple[Asked, ToolRun | None]] = [] if turn is None else [(asked, None) for asked in turn.calls]
        self._waiting: defaultdict[tuple[str, str], deque[int]] = defaultdict(deque)
        for number, (asked, _) in enumerate(self.calls):
            self._waiting[asked.name, asked.id].append(number)
            self._waiting[asked.name, ""].append(number)

    def add(self, tool: ToolRun) -> None:
        """Put a tool to the call that asked for it; a tool for which nobody asked is a call of its own."""
        waiting = self._waiting[tool.name, tool.id]
        while waiting:
            number = waiting.popleft()
            if self.calls[number][1] is None:
                self.calls[number] = self.calls[number][0], tool
                return
        self.calls.append((Asked(id=tool.id, name=tool.name, arguments=tool.arguments), tool))


class _Conversion:
    """The events of one trace."""

    def __init__(self, how: Converter, trace: ForeignTrace, run: str) -> None:
        self._how = how
        self._trace = trace
        self._run = run
        self._sanitizer = how.sanitizer(run)
        self._subjects = Subjects(agent=f"agent:{how.what.agent}", user=how.what.user)

    def events(self) -> Iterator[tuple[int, AnyEvent]]:
        """Each event with its time, in Unix nanoseconds."""
        steps = _steps(self._trace.known)
        yield self._trace.root.start, self._started()
        for number, step in enumerate(steps):
            yield from self._step(number, step)
        yield self._finished(steps)

    def _started(self) -> RunStarted:
        how, trace = self._how, self._trace
        read = [message for one in trace.known if not isinstance(one, ToolRun) for message in one.read]
        task = next((message.text for message in read if message.role in ("user", "human")), trace.root.name)
        prompt = next((message.text for message in read if message.role == "system"), "")
        return RunStarted(
            subjects=self._subjects,
            by=how.by,
            tenant=how.workspace.settings.tenant,
            task=self._sanitizer.text(task),
            prompt=self._sanitizer.text(prompt),
            model=self._word(
                next((one.model for one in trace.known if isinstance(one, Turn) and one.model), "unknown")
            ),
            scripted=False,
            actions=(),
            bundle="",
            policy_digest="",
            confinement="none",
            env=how.workspace.settings.env,
            folder="",
            version=__version__,
            imported=ImportedFrom(name=how.what.name, tool=self._word(trace.tool), trace=self._word(trace.trace_id)),
        )

    def _step(self, number: int, step: _Step) -> Iterator[tuple[int, AnyEvent]]:
        turn = step.turn
        proposed = tuple(self._proposed(asked, ran) for asked, ran in step.calls)
        ran = [(index, asked, tool) for index, (asked, tool) in enumerate(step.calls) if tool is not None]
        begun, ended = (turn.span.start, turn.span.end) if turn else (ran[0][2].span.start,) * 2
        model = self._word(turn.model) if turn else ""
        if turn is not None:
            self._how.coverage.turns += 1
            yield begun, ModelRequested(step=number, model=model, input_digest="")
        responded = ModelResponded(
            step=number,
            text=self._sanitizer.text(turn.text) if turn else "",
            proposed_calls=proposed,
            finish="tool_calls" if proposed else "stop",
            response_model=model,
        )
        yield ended, responded if turn is None else responded.model_copy(update={"usage": turn.usage})
        self._how.coverage.not_executed += len(step.calls) - len(ran)
        calls: dict[int, Call] = {}
        for index, _, tool in ran:
            decided = self._decided(number, index, proposed[index])
            assert decided.call is not None
            calls[index] = decided.call
            yield tool.span.start, decided
        for index, _, tool in sorted(ran, key=lambda one: one[2].span.end):
            result = self._result(calls[index], tool)
            yield tool.span.end, CallAnswered(step=number, index=index, result=result)

    def _proposed(self, asked: Asked, ran: ToolRun | None) -> ProposedCall:
        """The call as it was asked for; with the arguments that the tool really got, if they are recorded."""
        arguments = ran.arguments if ran is not None and ran.arguments is not None else asked.arguments
        name = tool_name(self._how.what.actions.get(asked.name, asked.name))
        return self._sanitizer.proposed_call(ProposedCall(name=name, arguments=arguments, id=asked.id))

    def _decided(self, step: int, index: int, proposed: ProposedCall) -> CallDecided:
        """The decision says that the call was imported, and what is missing to decide it."""
        coverage = self._how.coverage
        coverage.calls += 1
        try:
            call, why = self._known_call(step, index, proposed), ""
            coverage.decidable += 1
        except _NotDecidable as reason:
            why = str(reason)
            coverage.left_out[why] += 1
            if why == _NO_ACTION:
                coverage.unknown_tools[proposed.name] += 1
            call = self._unknown_call(step, index, proposed)
        message = f"not decided: another tool ran it{f'; no rule can decide it, because {why}' if why else ''}"
        decision = Decision(
            verdict="allow",
            reason="imported",
            message=message,
            decision_digest=decision_digest(call.request_digest, ""),
        )
        return CallDecided(step=step, index=index, proposed=proposed, call=call, decision=decision)

    def _known_call(self, step: int, index: int, proposed: ProposedCall) -> Call:
        """The call with its resources. Raises _NotDecidable with the reason if this workspace cannot name them."""
        try:
            tool, action = self._how.workspace.action(proposed.action)
        except Refusal:
            raise _NotDecidable(_NO_ACTION) from None
        if tool.pin is None or not tool.pinned:
            raise _NotDecidable(_NOT_REVIEWED)
        if any(template.form in ("each", "within") for template in action.templates):
            raise _NotDecidable(_NARROWED)
        if proposed.arguments is None:
            raise _NotDecidable(_NO_ARGUMENTS)
        try:
            given = parse_arguments(proposed.arguments)
            arguments, touches = resolve(tool.manifest, action, tool.pin.schemas[action.name], given)
        except Refusal as refusal:
            reason = _OUTSIDE if refusal.code == "policy_denied" else f"{_UNFIT}: {refusal.message}"
            raise _NotDecidable(reason) from None
        if any(self._sanitizer.arguments(touch.resource) != touch.resource for touch in touches):
            raise _NotDecidable(_HIDDEN_NAME)
        return Call(
            run=self._run,
            step=step,
            index=index,
            subjects=self._subjects,
            action=proposed.action,
            arguments=arguments,
            touches=touches,
            effect=action.effect,
            manifest=tool.manifest.digest,
            request_digest=request_digest(self._subjects, proposed.action, arguments, tool.manifest.digest),
        )

    def _unknown_call(self, step: int, index: int, proposed: ProposedCall) -> Call:
        """The call as far as it is known. Its manifest is "", so nothing decides it."""
        name = proposed.action if proposed.action in self._how.what.actions.values() else _plain(proposed.name)
        try:
            arguments = parse_arguments(proposed.arguments or "{}")
        except Refusal:
            arguments = {}
        return Call(
            run=self._run,
            step=step,
            index=index,
            subjects=self._subjects,
            action=name,
            arguments=arguments,
            touches=(),
            effect="once",
            manifest="",
            request_digest=request_digest(self._subjects, name, arguments, ""),
        )

    def _result(self, call: Call, tool: ToolRun) -> Result:
        """The result, with the labels that this workspace puts on it."""
        if tool.failed is not None:
            message = self._sanitizer.text(tool.failed)[:_LONGEST_ERROR] or "the tool failed"
            return Failed(error=Error(code="tool_failed", message=message, attempts=1))
        value = self._sanitizer.json(tool.value, action=call.action)
        if not call.manifest:
            return Succeeded(value=value)
        workspace = self._how.workspace
        _, action = workspace.action(call.action)
        labels = (*action.adds_labels, *labels_of(workspace.labels, call.touches), *labels_in(action, value))
        return Succeeded(value=value, labels=tuple(dict.fromkeys(labels)))

    def _finished(self, steps: Sequence[_Step]) -> tuple[int, RunFinished]:
        trace = self._trace
        works = [one for one in trace.known if isinstance(one, AgentWork)]
        last = steps[-1].turn.text if steps and steps[-1].turn is not None else ""
        answer = self._sanitizer.text(next((one.answer for one in works if one.answer), last))
        end = max((trace.root.end, *(one.span.end for one in trace.known)))
        failed = next(
            (span.error for span in (trace.root, *(one.span for one in works)) if span.error is not None), None
        )
        if failed is None:
            return end, RunFinished(outcome="completed", answer=answer)
        return end, RunFinished(outcome="failed", message=self._sanitizer.text(failed)[:_LONGEST_ERROR])

    def _word(self, text: str) -> str:
        return self._sanitizer.text(text)[:128]


class _NotDecidable(Exception):
    """Why no rule can decide an imported call."""


def _steps(known: Sequence[Known]) -> list[_Step]:
    """The turns with their calls. A tool belongs to the turn that asked for it by its id, else to the last one before it."""
    turns = [one for one in known if isinstance(one, Turn)]
    steps, starts = [_Step(turn) for turn in turns], [turn.span.start for turn in turns]
    asking: defaultdict[str, list[int]] = defaultdict(list)
    for number, turn in enumerate(turns):
        for asked in turn.calls:
            asking[asked.id].append(number)
    first = _Step(None)
    for tool in (one for one in known if isinstance(one, ToolRun)):
        before = bisect_right(starts, tool.span.start)
        found = asking[tool.id] if tool.id else []
        place = bisect_left(found, before)
        chosen = found[place - 1] if place else before - 1
        (first if chosen < 0 else steps[chosen]).add(tool)
    return [first, *steps] if first.calls else steps


def _plain(name: str) -> str:
    """A name of an action for a tool that the workspace does not have."""
    return f"imported.{re.sub(r'[^a-z0-9_]+', '_', name.lower())[:64] or 'unknown'}"
