"""The turns of a scripted model, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, TypedDict

from remit.core import Json
from remit.runtime.models import ScriptedModel

__all__ = ["ScriptedModel", "Turn", "turn"]

# The arguments of one call: a mapping, or the raw text that the model writes, to test text that is not JSON.
Arguments: TypeAlias = Mapping[str, Json] | str


class Turn(TypedDict, total=False):
    """One turn of a scripted model, as `script.yaml` has it: its text, its calls as `{NAME: ARGUMENTS}`, and how it ends.

    `finish` is "stop", "tool_calls", "length" or "content_filter". Without it, a turn with calls ends with "tool_calls".
    """

    say: str
    calls: list[dict[str, Arguments]]
    finish: str


def turn(say: str = "", *, finish: str = "", **calls: Arguments | list[Arguments]) -> Turn:
    """One turn of a scripted model, with one call for each keyword; a list of arguments is several calls of one action.

        turn(files__read={"path": "a.md"})                          # the action files.read
        turn("two", files__read=[{"path": "a.md"}, {"path": "b.md"}])
        turn("The answer.")                                         # a turn without calls ends the run

    Args:
        say: the text of the turn; the answer of the run if the turn has no calls.
        finish: "length" or "content_filter" for a turn that was cut off.
        calls: arguments by the name that the model writes: `TOOL__ACTION`.
    """
    made: Turn = {"say": say, "calls": []}
    for name, given in calls.items():
        several: list[Arguments] = given if isinstance(given, list) else [given]
        made["calls"] += [{name: arguments} for arguments in several]
    if finish:
        made["finish"] = finish
    return made
