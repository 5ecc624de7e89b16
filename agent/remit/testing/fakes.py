"""Answers in place of tools: a tool executor that runs nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass

from remit.broker import AttemptOutcome, DecodedCall, ProbeOutcome, Ready, receives_key, run_function, run_probe
from remit.core import Call, Confinement, Json, UsageError
from remit.core.parsing import digest
from remit.workspace import Workspace


class NoAnswer(AssertionError):
    """A call reached a `FakeExecutor` that has no answer for it."""


@dataclass(frozen=True, kw_only=True)
class FakeCall:
    """One attempt of one call that reached a `FakeExecutor`: decided, approved and recorded.

    `attempt` counts from 1. `idempotency_key` is "" if the tool receives none.
    """

    action: str
    arguments: dict[str, Json]
    resources: tuple[str, ...]
    step: int
    index: int
    attempt: int
    idempotency_key: str


class FakeExecutor:
    """Answers the calls of a run in place of its tools: nothing runs, and no sandbox is needed.

        fake = FakeExecutor({
            "files.read": {"path": "a.md", "text": "# A", "first_line": 1, "last_line": 1, "total_lines": 1},
            "mail.send": lambda call: f"sent to {call.arguments['to']}",
            "tickets.close": AlreadyClosed("it was closed yesterday"),
        })

    An answer is a value, a function of the `FakeCall`, or an exception, raised or returned. Everything else is as in a live
    run: a value must match the pinned output schema, or the call fails with `invalid_output`, or with `outcome_unknown` for an
    action with effect `once` that writes more than files; an exception is the declared error of its name, or `tool_crashed`;
    retries, limits and content rules apply. An `AssertionError` fails the test, and so does a call without an answer.

    `calls` are the attempts that reached it, in order, over all runs that used it. `confinement` is what rules read as
    `confinement`; calls of host tools have "none". `stores` are the stores of groups that the working folder has: "search/handbook".
    """

    def __init__(
        self, answers: Mapping[str, object], *, confinement: Confinement = "full", stores: Collection[str] = ()
    ) -> None:
        self.confinement: Confinement = confinement
        self.calls: list[FakeCall] = []
        self._answers = dict(answers)
        self._stores = sorted(stores)
        self._workspace: Workspace | None = None

    def use(self, workspace: Workspace) -> None:
        """Answer calls of the tools of that workspace from now on; `capture_run` calls it.

        Raises:
            UsageError: an answer is for an action that no tool has: no call would ever get it.
        """
        known = sorted(
            f"{tool}.{action}" for tool, its in workspace.every_tool.items() for action in its.manifest.actions
        )
        unknown = [action for action in self._answers if action not in known]
        if unknown:
            names = ", ".join(known) or "none"
            raise UsageError(f"FakeExecutor answers {unknown[0]!r}, which no tool has; actions: {names}")
        self._workspace = workspace

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        """See `remit.broker.ToolExecutor`."""
        tool, _ = self._used.action(call.action)
        confinement = "none" if tool.manifest.hosted else self.confinement
        return digest({"fake": call.action}), confinement

    async def read_digest(self, call: Call, number: int) -> str:
        """See `remit.broker.ToolExecutor`. No answer is cached: each call reaches this executor."""
        return ""

    def keyed(self, call: Call) -> bool:
        """See `remit.broker.ToolExecutor`."""
        return receives_key(self._used, call)

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        """See `remit.broker.ToolExecutor`."""
        return tuple(name for found, _, name in (each.partition("/") for each in self._stores) if found == group)

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[DecodedCall]:
        """See `remit.broker.ToolExecutor`. The tool does not run, so its types accept whatever its schema does."""
        yield Ready(run=lambda _: self._attempt(call, number, idempotency_key))

    async def _attempt(self, call: Call, number: int, idempotency_key: str) -> AttemptOutcome:
        fake = FakeCall(
            action=call.action,
            arguments=deepcopy(call.arguments),
            resources=tuple(touch.resource for touch in call.touches),
            step=call.step,
            index=call.index,
            attempt=number,
            idempotency_key=idempotency_key,
        )
        self.calls.append(fake)
        failed: list[AssertionError] = []

        def answer(_: object) -> Json:
            try:
                return self._answer(fake)
            except AssertionError as failure:
                failed.append(failure)
                raise

        outcome = await run_function(self._used, call, answer)
        if failed:
            raise failed[0]
        return outcome

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """See `remit.broker.ToolExecutor`."""
        return await run_probe(self._used, call, lambda probe: self._attempt(probe, number, idempotency_key))

    @property
    def _used(self) -> Workspace:
        if self._workspace is None:
            raise UsageError("the FakeExecutor has no workspace yet: give it to `capture_run`, or call `use`")
        return self._workspace

    def _answer(self, call: FakeCall) -> Json:
        """The value for this attempt. Raises what the tool would raise."""
        if call.action not in self._answers:
            have = ", ".join(sorted(self._answers)) or "none"
            raise NoAnswer(
                f"call {call.step}.{call.index}, {call.action} of {', '.join(call.resources)}, reached the FakeExecutor, "
                f"which has no answer for it (answers: {have}).\n"
                f"  fix: add an answer for {call.action!r} if the call is right; otherwise find the rule that allowed it"
            )
        answer = self._answers[call.action]
        if callable(answer):
            answer = self._called(answer, call)
        if isinstance(answer, BaseException):
            raise answer
        return deepcopy(answer)

    def _called(self, answer: Callable[..., object], call: FakeCall) -> object:
        """What a function answers to this attempt; of a class of exceptions: such an exception."""
        if isinstance(answer, type):
            return answer()
        try:
            return answer(call)
        except StopIteration:
            raise NoAnswer(
                f"call {call.step}.{call.index}, {call.action}, attempt {call.attempt}, reached the FakeExecutor, "
                f"which has used all its answers for it.\n"
                f"  fix: add an answer for {call.action!r} if the call is right"
            ) from None
