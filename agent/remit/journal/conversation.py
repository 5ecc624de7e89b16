"""The messages of a run, as its model reads them, computed from its events.

The graph's state holds numbers and no messages: a process that resumes the run reads the journal and computes
the conversation again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from remit.core import Message, ProposedCall, Result, ToolSpec, call_id
from remit.core.events import AnswerRejected, AnyEvent, CallAnswered, ModelResponded, RunStarted
from remit.core.parsing import canonical_json, digest_bytes


class Conversation:
    """What the model reads next.

    `_digest` covers every message so far and takes constant time for each new one: hashing all messages again before every
    turn would make a long run quadratic.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._digest = ""
        self._proposed_calls: tuple[ProposedCall, ...] = ()
        self._step = 0
        self._answers: dict[int, Result] = {}
        self._offered: tuple[Sequence[ToolSpec] | None, bytes] = (None, b"")

    def fold(self, event: AnyEvent) -> None:
        """Apply one event. Results are added once every call of the step is answered, in the order of the calls.

        Parallel calls end in any order, and the conversation must be the same in a replay.
        """
        match event:
            case RunStarted():
                self._add(Message(role="system", text=event.prompt))
                self._add(Message(role="user", text=event.task))
            case ModelResponded() if not event.internal:
                proposed_calls = tuple(
                    proposed.model_copy(update={"id": call_id(event.step, index)})
                    for index, proposed in enumerate(event.proposed_calls)
                )
                self._proposed_calls, self._step, self._answers = proposed_calls, event.step, {}
                state = event.provider_state
                self._add(
                    Message(role="assistant", text=event.text, proposed_calls=proposed_calls, provider_state=state)
                )
            case CallAnswered() if event.step == self._step:
                self._answers[event.index] = event.result
                if len(self._answers) == len(self._proposed_calls):
                    for index, proposed in enumerate(self._proposed_calls):
                        text = canonical_json(self._answers[index].model_dump(mode="json")).decode()
                        self._add(Message(role="tool", text=text, call_id=proposed.id))
            case AnswerRejected():
                problems = "".join(f"\n- {problem}" for problem in event.problems)
                self._add(Message(role="user", text=f"Your answer is not valid:{problems}\nAnswer again."))
            case _:
                pass

    @property
    def messages(self) -> Sequence[Message]:
        return self._messages

    def input_digest(self, tools: Sequence[ToolSpec]) -> str:
        """The SHA-256 digest of everything that the model is about to read: the messages and the tools offered."""
        if (
            self._offered[0] is not tools
        ):  # the same object at every turn; writing a hundred specs again would double its time
            self._offered = tools, canonical_json([tool.model_dump(mode="json") for tool in tools])
        return digest_bytes(b'{"messages":%b,"tools":%b}' % (canonical_json(self._digest), self._offered[1]))

    def _add(self, message: Message) -> None:
        # Without the state of a provider the digest is that of the versions before, which did not keep it.
        left_out = set() if message.provider_state else {"provider_state"}
        body = canonical_json(message.model_dump(mode="json", exclude=left_out))
        self._digest = hashlib.sha256(self._digest.encode() + body).hexdigest()
        self._messages.append(message)
