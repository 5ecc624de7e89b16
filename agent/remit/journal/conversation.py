"""The messages of a run, folded from its events.

The graph's checkpoints hold keys, not bodies: whoever needs the conversation folds it again from the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from remit.core import Message, ProposedCall, Result, ToolSpec, call_id
from remit.core.events import AnswerRejected, AnyEvent, CallAnswered, ModelResponded, RunStarted
from remit.core.parsing import canonical_json, digest_bytes


class Conversation:
    """What the model reads next. `digest` covers every message so far, in constant time a message."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._digest = ""
        self._asks: tuple[ProposedCall, ...] = ()
        self._step = 0
        self._answers: dict[int, Result] = {}
        self._offered: tuple[Sequence[ToolSpec] | None, bytes] = (None, b"")

    def fold(self, event: AnyEvent) -> None:
        """Take one event in; results join in the model's own order once all calls of the step are answered."""
        match event:
            case RunStarted():
                self._add(Message(role="system", text=event.prompt))
                self._add(Message(role="user", text=event.task))
            case ModelResponded() if not event.internal:
                proposed_calls = tuple(
                    ask.model_copy(update={"id": call_id(event.step, index)})
                    for index, ask in enumerate(event.proposed_calls)
                )
                self._asks, self._step, self._answers = proposed_calls, event.step, {}
                self._add(Message(role="assistant", text=event.text, proposed_calls=proposed_calls))
            case CallAnswered() if event.step == self._step:
                self._answers[event.index] = event.result
                if len(self._answers) == len(self._asks):
                    for index, ask in enumerate(self._asks):
                        text = canonical_json(self._answers[index].model_dump(mode="json")).decode()
                        self._add(Message(role="tool", text=text, call_id=ask.id))
            case AnswerRejected():
                problems = "".join(f"\n- {problem}" for problem in event.problems)
                self._add(Message(role="user", text=f"Your answer does not hold:{problems}\nAnswer again."))
            case _:
                pass

    @property
    def messages(self) -> Sequence[Message]:
        return self._messages

    def input_digest(self, tools: Sequence[ToolSpec]) -> str:
        """SHA-256 over everything the model is about to read, tools included."""
        if self._offered[0] is not tools:  # the same ones at every turn, and a hundred of them take as long as the turn
            self._offered = tools, canonical_json([tool.model_dump(mode="json") for tool in tools])
        return digest_bytes(b'{"messages":%b,"tools":%b}' % (canonical_json(self._digest), self._offered[1]))

    def _add(self, message: Message) -> None:
        body = canonical_json(message.model_dump(mode="json"))
        self._digest = hashlib.sha256(self._digest.encode() + body).hexdigest()
        self._messages.append(message)
