"""The messages of a run, as its model reads them, computed from its events.

The graph's state holds numbers and no messages: a process that resumes the run reads the journal and computes
the conversation again.

Two things keep it short. Of a long result the model reads the beginning and the end, if it can read the rest by
`remit.read_result`. If the whole still becomes too long, `ContextReduced` leaves out the oldest turns, and names their calls instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from remit.core import (
    READ_RESULT,
    SMALLEST_EXCERPT,
    Failed,
    Message,
    ToolSpec,
    call_id,
    excerpt_message,
    result_message,
    tool_name,
)
from remit.core.events import (
    AcceptedChanges,
    AnswerRejected,
    AnyEvent,
    CallAnswered,
    ContextReduced,
    ModelResponded,
    RunResumed,
    RunStarted,
)
from remit.core.parsing import canonical_json, digest_bytes

LISTED_FIRST: Final = 10  # of the calls that are left out, the lines that are always kept
LISTED_BYTES: Final = 2048  # of the other ones


@dataclass(kw_only=True)
class _Turn:
    """One turn of the model with the results of its calls, and what follows them.

    `results` are the whole results by the index of their calls, as texts, and `outcomes` "ok" or the code of each.
    """

    step: int
    message: Message
    results: dict[int, str] = field(default_factory=dict[int, str])
    outcomes: dict[int, str] = field(default_factory=dict[int, str])
    following: list[Message] = field(default_factory=list[Message])

    def add(self, answered: CallAnswered) -> None:
        result = answered.result
        self.results[answered.index] = result_message(f"{self.step}.{answered.index}", result)
        self.outcomes[answered.index] = result.error.code if isinstance(result, Failed) else "ok"

    def answers(self, most: int | None, *, readable: bool) -> list[Message]:
        """The results as messages, in the order of the calls; none before all calls are answered."""
        calls = self.message.proposed_calls if len(self.results) == len(self.message.proposed_calls) else ()
        texts = [
            whole if most is None or len(whole.encode()) <= most else excerpt_message(whole, most, readable=readable)
            for whole in map(self.results.__getitem__, range(len(calls)))
        ]
        return [
            Message(role="tool", text=text, call_id=proposed.id) for text, proposed in zip(texts, calls, strict=True)
        ]

    def messages(self, most: int | None, *, readable: bool) -> list[Message]:
        return [self.message, *self.answers(most, readable=readable), *self.following]

    def lines(self, known: Collection[str]) -> list[str]:
        """One line for each call. An action that is not `known` is not named: the model made its name up."""
        return [
            f"{self.step}.{index} {proposed.action if proposed.action in known else 'no action of yours'}: "
            f"{self.outcomes.get(index, 'no result')}"
            for index, proposed in enumerate(self.message.proposed_calls)
        ]


class Conversation:
    """What the model reads next.

    `result_bytes` is how long a result may be that the model reads whole; None: of any length. `_digest` covers every message so
    far and takes constant time for each new one: hashing all messages again before every turn would make a long run quadratic.
    """

    def __init__(self) -> None:
        self.result_bytes: int | None = None
        self._actions: frozenset[str] = frozenset()  # those that the model is offered
        self._opening: list[Message] = []
        self._left_out: list[str] = []  # a line for each call of the turns that are left out
        self._turns: list[_Turn] = []
        self._messages: list[Message] = []
        self._bytes = 0
        self._digest = ""
        self._offered: tuple[Sequence[ToolSpec] | None, bytes] = (None, b"")

    def fold(self, event: AnyEvent) -> None:
        """Apply one event. Results are added once every call of the step is answered, in the order of the calls.

        Parallel calls end in any order, and the conversation must be the same in a replay.
        """
        match event:
            case RunStarted():
                self._actions = frozenset(event.actions)
                self.result_bytes = event.context.result if self._can_read else None
                self._opening = [Message(role="system", text=event.prompt), Message(role="user", text=event.task)]
                self._add(*self._opening)
            case RunResumed(accepted=AcceptedChanges() as accepted) if self._opening:
                self._actions = frozenset(accepted.actions)
                self._opening[0] = Message(role="system", text=accepted.prompt)
                self._write(self._turns[0].step if self._turns else 0)
            case ModelResponded() if not event.internal:
                proposed_calls = tuple(
                    proposed.model_copy(update={"id": call_id(event.step, index)})
                    for index, proposed in enumerate(event.proposed_calls)
                )
                state = event.provider_state
                message = Message(
                    role="assistant", text=event.text, proposed_calls=proposed_calls, provider_state=state
                )
                self._turns.append(_Turn(step=event.step, message=message))
                self._add(message)
            case CallAnswered() if self._turns and event.step == self._turns[-1].step:
                turn = self._turns[-1]
                turn.add(event)
                self._add(*turn.answers(self.result_bytes, readable=self._can_read))
            case AnswerRejected() if self._turns:
                problems = "".join(f"\n- {problem.message}" for problem in event.problems)
                message = Message(role="user", text=f"Your answer is not valid:{problems}\nAnswer again.")
                self._turns[-1].following.append(message)
                self._add(message)
            case ContextReduced():
                self._reduce(event)
            case _:
                pass

    @property
    def messages(self) -> Sequence[Message]:
        return self._messages

    def input_digest(self, tools: Sequence[ToolSpec]) -> str:
        """The SHA-256 digest of everything that the model is about to read: the messages and the tools offered."""
        return digest_bytes(b'{"messages":%b,"tools":%b}' % (canonical_json(self._digest), self._specs(tools)))

    def size(self, tools: Sequence[ToolSpec]) -> int:
        """The bytes of everything that the model is about to read, as JSON: the messages and the tools offered."""
        return self._bytes + len(self._specs(tools))

    def reduction(self, most: int, tools: Sequence[ToolSpec]) -> tuple[int, int | None] | None:
        """How the conversation gets a size of at most `most`: the values of `ContextReduced.before` and `.result`.

        First the oldest turns are left out, and at last the results of the latest turn are shown in less. None if that is not enough.
        """
        fixed = sum(map(_bytes_of, self._opening)) + len(self._specs(tools))
        now = (self._turns[0].step if self._turns else 0, self.result_bytes)
        shown = self.result_bytes
        while True:
            sizes = [sum(map(_bytes_of, turn.messages(shown, readable=self._can_read))) for turn in self._turns]
            size, lines = fixed + sum(sizes), list(self._left_out)
            for turn, its in zip(self._turns, sizes, strict=True):
                note = _bytes_of(self._note(lines, turn.step)) if lines else 0
                if size + note <= most and (turn.step, shown) != now:
                    return turn.step, shown
                size -= its
                lines.extend(turn.lines(self._actions))
            longest = max((len(message.text) for message in self._messages if message.role == "tool"), default=0)
            shown = (longest if shown is None else shown) // 2
            if shown < SMALLEST_EXCERPT:
                return None

    @property
    def _can_read(self) -> bool:
        return READ_RESULT in self._actions

    def _specs(self, tools: Sequence[ToolSpec]) -> bytes:
        if (
            self._offered[0] is not tools
        ):  # the same object at every turn; writing a hundred specs again would double its time
            self._offered = tools, canonical_json([tool.model_dump(mode="json") for tool in tools])
        return self._offered[1]

    def _reduce(self, event: ContextReduced) -> None:
        """Leave out the turns before a step, and write the messages of the others again."""
        self.result_bytes = event.result
        while self._turns and self._turns[0].step < event.before:
            self._left_out.extend(self._turns.pop(0).lines(self._actions))
        self._write(event.before)

    def _write(self, before: int) -> None:
        """Write the messages again, without the turns before that step."""
        self._messages, self._bytes, self._digest = [], 0, ""
        self._add(*self._opening)
        if self._left_out:
            self._add(self._note(self._left_out, before))
        for turn in self._turns:
            self._add(*turn.messages(self.result_bytes, readable=self._can_read))

    def _note(self, lines: Sequence[str], before: int) -> Message:
        """What stands in place of the turns before a step, whose calls are `lines`: the first ones, and as many of the last as fit."""
        kept, space = len(lines), LISTED_BYTES
        while kept > LISTED_FIRST and (space := space - len(lines[kept - 1].encode()) - 3) > 0:
            kept -= 1
        between = [f"({kept - LISTED_FIRST} more calls)"] if kept > LISTED_FIRST else []
        read = f'You can still read each result: call {tool_name(READ_RESULT)}, with its "call".'
        text = [
            f"Remit left out the conversation before step {before}, because it became too long. Its calls were:",
            *(f"- {line}" for line in (*lines[:LISTED_FIRST], *between, *lines[max(kept, LISTED_FIRST) :])),
            read if self._can_read else "Their results are not shown again.",
        ]
        return Message(role="user", text="\n".join(text))

    def _add(self, *messages: Message) -> None:
        for message in messages:
            body = _body(message)
            self._digest = hashlib.sha256(self._digest.encode() + body).hexdigest()
            self._bytes += len(body) + 1
            self._messages.append(message)


def _body(message: Message) -> bytes:
    # Without the state of a provider the digest is that of the versions before, which did not keep it.
    left_out: set[str] = set() if message.provider_state else {"provider_state"}
    return canonical_json(message.model_dump(mode="json", exclude=left_out))


def _bytes_of(message: Message) -> int:
    return len(_body(message)) + 1  # a comma follows it in the list that is sent
