"""Assembles one turn of a model from the pieces of an answer, whichever provider it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from remit.core import Json, ModelError, ModelTurn, ProposedCall
from remit.core.events import Deviation, Usage
from remit.runtime.models.wire.event_stream import is_object

SILENCE_S: Final = 120.0  # seconds without a byte from the provider
TURN_S: Final = 600.0  # seconds for one whole turn; reasoning models think for minutes
TURN_CHARACTERS: Final = 4 * 1024 * 1024  # of text, arguments and state in one turn
LONGEST_NAME: Final = 512  # characters of the name and of the id of a call; what is longer is not read on
_PIECE: Final = 16  # characters that each piece counts in addition, so that empty pieces are bounded, too

_FINISH_KEYS: Final = ("finish_reason", "stop_reason", "done_reason", "stopReason")
# Other words for a complete turn, and for one that reached a limit.
_FINISH: Final[Mapping[str, str]] = {
    **dict.fromkeys(("end_turn", "stop_sequence", "complete", "completed", "eos", "eos_token", "stop_token"), "stop"),
    **dict.fromkeys(("end_of_turn", "finish", "finished", "normal", "end"), "stop"),
    **dict.fromkeys(("tool_use", "function_call", "tool_call", "tool_calls_only"), "tool_calls"),
    **dict.fromkeys(("max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"), "length"),
}
_BRACKET = re.compile(r'["\\{}\[\]]')


def finish_of(metadata: Mapping[str, Any]) -> str:
    """Why the turn ended, as OpenAI's finish reason where one fits; "" if the metadata does not say."""
    reason: Any = next((value for key in _FINISH_KEYS if (value := metadata.get(key))), None)
    if not reason and metadata.get("status") == "completed":  # OpenAI's Responses API
        reason = "stop"
    elif not reason and metadata.get("status") == "incomplete":
        details: Any = metadata.get("incomplete_details")
        reason = details.get("reason") if is_object(details) else None
        reason = reason or "length"
    word = readable(str(reason)[:64].lower()) if reason else ""
    return _FINISH.get(word, word)


class CallPieces:
    """One call while it arrives. `parsed` is set if a library hides the text of the arguments."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = ""
        self.name = ""
        self.parsed: dict[str, Json] | None = None
        self._fragments: list[str] = []
        self._read = 0  # fragments that `is_closed` has read
        self._depth, self._in_text, self._escaped = 0, False, False

    @property
    def has_arguments(self) -> bool:
        return bool(self._fragments)

    def add(self, text: str) -> None:
        if text:
            self._fragments.append(text)

    def is_closed(self) -> bool:
        """True if the arguments so far are a whole object. Each fragment is read once, so all calls together take linear time."""
        for fragment in self._fragments[self._read :]:
            self._scan(fragment)
        self._read = len(self._fragments)
        return self.has_arguments and self._depth <= 0 and not self._in_text

    def _scan(self, text: str) -> None:
        skipped = 1 if self._escaped else 0
        self._escaped = False
        for match in _BRACKET.finditer(text):
            if match.start() < skipped:
                continue
            match match[0]:
                case "\\":
                    skipped = match.start() + 2
                    self._escaped = skipped > len(text)
                case '"':
                    self._in_text = not self._in_text
                case "{" | "[" if not self._in_text:
                    self._depth += 1
                case "}" | "]" if not self._in_text:
                    self._depth -= 1
                case _:
                    pass

    def proposed(self) -> ProposedCall:
        name, id_ = readable(self.name[:LONGEST_NAME]), readable(self.id[:LONGEST_NAME])
        if self.parsed is not None:
            return ProposedCall(name=name, arguments=None, parsed=self.parsed, id=id_)
        # Several providers stream a call without arguments as no text at all.
        return ProposedCall(name=name, arguments=escaped("".join(self._fragments)) or "{}", id=id_)


class TurnBuilder:
    """One turn while it arrives. `offered` are the names of the tools that the model may call.

    Raises ModelError from `count` if the turn is too long, and from `turn` if it announces calls and has none.
    """

    def __init__(self, offered: Collection[str]) -> None:
        self.finish = ""
        self.model = ""
        self.usage = Usage()
        self.refusal: list[str] = []
        self.deviations: set[Deviation] = set()
        self.calls: list[CallPieces] = []
        self._offered = frozenset(offered)
        self._text: list[str] = []
        self._by_index: dict[int | str, CallPieces] = {}
        self._characters = 0

    def add_text(self, text: str) -> None:
        self.count(len(text))
        self._text.append(text)

    def count(self, characters: int) -> None:
        self._characters += characters + _PIECE
        if self._characters > TURN_CHARACTERS:
            raise ModelError(
                f"the turn of the model is longer than {TURN_CHARACTERS} characters",
                fix="limit the length of the answer in the provider's settings",
            )

    def new_call(self, index: int | str | None = None) -> CallPieces:
        call = CallPieces(len(self.calls))
        self.calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call

    def call_at(self, index: int | str | None, id_: str, name: str) -> CallPieces:
        """The call that a piece with this index, id and name belongs to. Adds the name.

        Servers give every call the index 0, or none, repeat the name in each piece, or send no id.
        """
        if index is None:
            same = next((call for call in reversed(self.calls[-64:]) if id_ and call.id == id_), None)
            call = same or (self.calls[-1] if self.calls else None)
        else:
            call = self._by_index.get(index)
        if call is None or self._is_new(call, id_, name):
            if index is None or index in self._by_index:
                self.deviations.add("calls_without_index")
            call = self.new_call(index)
        call.id = call.id or id_
        if name and name != call.name and len(call.name) < LONGEST_NAME:
            call.name += name
        return call

    def _is_new(self, call: CallPieces, id_: str, name: str) -> bool:
        """True if a piece begins another call than `call`, which has the same index."""
        if not name or not call.name:
            return False  # a piece without a name continues a call
        if id_ and call.id:
            return id_ != call.id
        if not call.has_arguments:
            return name != call.name and call.name in self._offered  # else the name comes in pieces
        return name != call.name or call.is_closed()

    def turn(self, state: str = "") -> ModelTurn:
        """The whole turn. `state` is that of the provider."""
        text = readable("".join(self._text))
        finish = self.finish or "length"
        if not text.strip() and not self.calls and self.refusal:
            text, finish = readable("".join(self.refusal)), "refusal"
        if finish == "tool_calls" and not self.calls:
            raise ModelError(
                "the model ended its turn with a tool call, but the stream contains no readable call",
                fix="check that the server streams tool_calls with index and function, like OpenAI's",
            )
        return ModelTurn(
            text=text,
            proposed_calls=tuple(call.proposed() for call in self.calls),
            finish=finish,
            usage=self.usage,
            response_model=readable(self.model)[:200],
            provider_state=state,
            deviations=tuple(sorted(self.deviations)),
        )


def escaped(text: str) -> str:
    """The same JSON, with lone surrogates escaped, so that the text can be recorded and then refused."""
    return without_surrogates(text, lambda match: f"\\u{ord(match[0]):04x}")


def readable(text: str) -> str:
    """The text, with each lone surrogate replaced, so that it can be recorded."""
    return without_surrogates(text, lambda _: "\ufffd")


def without_surrogates(text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Joins surrogate pairs that two chunks divided, and replaces lone surrogates."""
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return re.sub("[\ud800-\udfff]", replace, joined)
