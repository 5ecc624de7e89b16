"""One execution of a custom graph: each turn of its model and each of its calls is at a step of the record.

An execution always begins at the beginning of the graph. What is in the record already is answered from there: a request is
recognized by what it asks. So a killed run goes on, a run goes on after an approval, and a replay needs no other code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from remit.broker import ApprovalPending
from remit.core import Json, ProposedCall, Refusal, Result, ToolSpec, call_id, in_thread
from remit.core.events import AnyEvent, ModelRequested, ModelResponded, RunFinished
from remit.core.parsing import digest
from remit.runtime.custom_graph.messages import (
    ai_message,
    arguments_of,
    message_id,
    messages_of,
    proposed_call,
    tool_message,
)
from remit.runtime.graph import AgentGraph, CustomGraph, ModelInput, Paused

NO_ANSWER: Final = "the graph ended without an answer: the last of the `messages` in its state has no text"


class Stopped(Exception):
    """The run has ended, so the graph gets nothing more."""


class Turns:
    """What the graph asks for in one execution. Its methods run in Remit's event loop."""

    def __init__(self, graph: AgentGraph, custom: CustomGraph) -> None:
        self._graph = graph
        self._custom = custom
        self._record = graph.record
        self._asking, self._deciding = asyncio.Lock(), asyncio.Lock()
        self._taken: set[int] = set()
        self._decided: set[int] = set()
        self._running: dict[tuple[int, int], asyncio.Task[Result]] = {}
        events = self._record.every()
        self._expected = _requests(custom.recorded if custom.recorded is not None else events)
        self._requested = {event.step for event in events if isinstance(event, ModelRequested)}
        self._responses: dict[str, ModelResponded] = {}  # by the id of the graph's message
        self._proposed: dict[str, tuple[tuple[int, int], ProposedCall]] = {}  # with its place, by its id there
        for event in events:
            if isinstance(event, ModelResponded):
                self._keep(event)

    async def look_up(self) -> None:
        """Fill the directory of the agent, in internal turns before those of the graph."""
        step = 0
        while True:
            response = self._record.get(f"model.responded/{step}/-/-") or self._graph.look_up(step)
            if not isinstance(response, ModelResponded) or not response.internal:
                return
            self._taken.add(step)
            self._keep(response)
            for index in range(len(response.proposed_calls)):
                with suppress(Paused):  # a look-up that needs an approval adds nothing to the directory
                    await self._perform((step, index))
            step += 1

    async def ask(self, messages: Sequence[BaseMessage], offered: Sequence[ToolSpec]) -> AIMessage:
        """The turn of the model that answers these messages. The turns of a run come one after the other.

        Raises:
            Paused: the run cannot go on now.
            Stopped: the run has ended.
            UsageError: the model cannot read the messages.
        """
        read = messages_of(messages, self._responses)
        asked: Json = {
            "messages": [message.model_dump(mode="json") for message in read],
            "tools": [spec.model_dump(mode="json") for spec in offered],
        }
        identity = digest(asked)
        async with self._asking:
            self._check_open()
            step = self._take(identity)
            response = self._responses.get(message_id(step))
            if response is None:
                self._graph.check_hold()
                own = [spec.name for spec in offered if spec not in self._graph.tools]
                number = sum(before < step for before in self._requested)
                given = ModelInput(number=number, messages=read, tools=offered, digest=identity, own=own)
                response = await self._next_turn(step, given)
        await self._record.commit()
        if response is None:
            raise Stopped
        return ai_message(response)

    async def _next_turn(self, step: int, given: ModelInput) -> ModelResponded | None:
        """The turn that a model gives now; None if that ended the run."""
        try:
            response = await self._graph.next_turn(step, given)
        finally:
            if self._record.get(f"model.requested/{step}/-/-") is not None:
                self._requested.add(step)
        return None if response is None else self._keep(response)

    async def call(self, name: str, arguments: Json, identifier: str | None) -> ToolMessage:
        """The result of a call: of the turn that has this id and these arguments, or else one that the graph makes itself.

        Raises: see `ask`.
        """
        self._check_open()
        place = self._place(name, arguments, identifier or "")
        if place is None:
            async with self._asking:
                place = self._own_turn(name, arguments), 0
        result = await self._perform(place)
        await self._record.commit()
        return tool_message(name, identifier or "", place, result)

    async def end(self, answer: str) -> None:
        """End the run with the answer of the graph. Calls that the graph left out are cancelled, so each has one result."""
        for response in list(self._responses.values()):
            for index in range(len(response.proposed_calls)):
                if self._record.get(f"call.answered/{response.step}/{index}/-") is None:
                    await self._decide(response.step)
                    reason = "the graph ended without this call"
                    refusal = Refusal("cancelled", reason, details={"problem": "left_behind"})
                    await self._graph.broker.give_up(response.step, index, refusal)
        text = await in_thread(len(answer), self._graph.broker.sanitizer.answer, answer)
        if text.strip():
            self._record.append(RunFinished(outcome="completed", answer=text))
        else:
            self._record.append(RunFinished(outcome="failed", message=NO_ANSWER))

    def fail(self, message: str) -> None:
        """End the run because the graph failed."""
        if not self._record.state.finished:
            self._record.append(RunFinished(outcome="failed", message=self._graph.broker.sanitizer.text(message)))

    async def settle(self) -> None:
        """Wait for the model and the calls that are still at work. They have time limits of their own."""
        async with self._asking:
            pass
        if self._running:
            await asyncio.wait(self._running.values())

    @property
    def waits(self) -> bool:
        """True if a call waits for approval."""
        return any(call.waiting for call in self._record.state.open.values())

    def _check_open(self) -> None:
        if self._record.state.finished:
            raise Stopped

    def _keep(self, response: ModelResponded) -> ModelResponded:
        self._responses[message_id(response.step)] = response
        for index, proposed in enumerate(response.proposed_calls):
            self._proposed[call_id(response.step, index)] = (response.step, index), proposed
        return response

    def _take(self, identity: str) -> int:
        """The step of the request: the first one of the record that asks for the same, or a new one."""
        left = [(step, known) for step, known in self._expected if step not in self._taken]
        same = [step for step, known in left if known == identity]
        repeated = [step for step, _ in left if step < self._custom.repeated]
        known_steps = [step for step, _ in self._expected]
        step = next(iter((*same, *repeated)), None)
        if step is None:
            step = max(-1, self._record.state.step, *known_steps, *self._taken) + 1
        self._taken.add(step)
        return step

    def _place(self, name: str, arguments: Json, identifier: str) -> tuple[int, int] | None:
        """The place of the call in a turn of the model; None for a call that the graph made or changed."""
        if identifier not in self._proposed:
            return None
        place, proposed = self._proposed[identifier]
        return place if proposed.name == name and arguments_of(proposed) == arguments else None

    def _own_turn(self, name: str, arguments: Json) -> int:
        """The step of a call that the graph makes itself: a turn that no model wrote."""
        proposed = proposed_call(name, arguments, "")
        step = self._take(_identity(proposed.name, arguments_of(proposed)))
        if message_id(step) not in self._responses:
            received = self._graph.broker.receive(step, (proposed,))
            response = ModelResponded(step=step, text="", proposed_calls=received, finish="tool_calls")
            self._record.append(response)
            self._keep(response)
        return step

    async def _decide(self, step: int) -> None:
        async with self._deciding:
            if step not in self._decided:
                await self._graph.decide({"step": step})
                self._decided.add(step)

    async def _perform(self, place: tuple[int, int]) -> Result:
        """The result of the call. A second request for a call that is running waits for the same result."""
        await self._decide(place[0])
        if place not in self._running:
            self._running[place] = asyncio.ensure_future(self._graph.broker.perform(*place))
        try:
            return await asyncio.shield(self._running[place])
        except ApprovalPending:
            raise Paused({"step": place[0], "index": place[1]}) from None


def _requests(events: Sequence[AnyEvent]) -> list[tuple[int, str]]:
    """What the graph asked for at each step, as a digest: the input of its model, or a call of its own."""
    asked = {event.step: event.input_digest for event in events if isinstance(event, ModelRequested)}
    for event in events:
        if isinstance(event, ModelResponded) and not event.internal and event.step not in asked:
            asked[event.step] = "".join(_identity(call.name, arguments_of(call)) for call in event.proposed_calls)
    return sorted(asked.items())


def _identity(name: str, arguments: Json) -> str:
    return digest({"name": name, "arguments": arguments})
