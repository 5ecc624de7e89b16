"""Runs of the ledger workspace against a server that plays bytes: the calls, and what became of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from remit.core.events import ModelResponded, RunFinished
from support.runs import Played
from support.wire_player import WirePlayer, says

LOOK: Final = "ledger__look"
ANN: Final = '{"name": "ann"}'
END: Final = says("the ledger is in order")

WireRun: TypeAlias = Callable[..., tuple[Played, WirePlayer]]  # of the turns that the server plays


def outcome(played: Played) -> RunFinished:
    assert played.ended.finished is not None
    return played.ended.finished


def responses(played: Played) -> list[ModelResponded]:
    return [item.event for item in played.records if isinstance(item.event, ModelResponded)]


def whole(*items: dict[str, Any], reason: str = "tool_calls", **members: Any) -> dict[str, Any]:
    """A completion that is one document."""
    message = {"role": "assistant", "content": None, "tool_calls": list(items), **members}
    return {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    }
