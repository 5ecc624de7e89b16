"""Interrupts of tools: a tool of a graph that calls LangGraph's `interrupt` gets the answers that Remit has recorded.

Only this module reads what LangGraph keeps of a task under private names: `make langgraphs` tests that the oldest and the newest version have them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt

from remit.core import Json, Refusal
from remit.core.parsing import canonical_json, load_json

_SCRATCHPAD: Final = "__pregel_scratchpad"
_SEND: Final = "__pregel_send"
_RESUME: Final = "__resume__"


def with_answers(config: RunnableConfig | None, answers: Sequence[Any]) -> RunnableConfig | None:
    """The configuration for a tool whose interrupts return these answers, in this order. One more interrupt raises GraphInterrupt.

    The last answer also goes to a graph that the tool drives, whose own checkpoint has the earlier ones.
    """
    settings = {} if config is None else config.get("configurable", {})
    if config is None or _SCRATCHPAD not in settings:
        return config
    last = list(answers[-1:])

    def given(consume: bool = False) -> Any:
        return (last.pop() if consume else last[0]) if last else None

    def send(writes: Sequence[tuple[str, Any]]) -> None:
        # LangGraph keeps the answers to Remit's own interrupts only.
        kept = [write for write in writes if write[0] != _RESUME]
        if kept:
            settings[_SEND](kept)

    scratchpad = replace(
        settings[_SCRATCHPAD],
        interrupt_counter=itertools.count().__next__,
        get_null_resume=given,
        resume=list(answers[:-1]),
    )
    return cast("RunnableConfig", {**config, "configurable": {**settings, _SCRATCHPAD: scratchpad, _SEND: send}})


def question_of(raised: GraphInterrupt) -> Json:
    """What the tool asks, as JSON."""
    values = [item.value for item in (raised.args[0] if raised.args else ())]
    return as_json(values[0] if len(values) == 1 else values)


def as_json(value: Any) -> Any:
    """The value as JSON; what JSON cannot say becomes text."""
    with suppress(Refusal, TypeError, ValueError):
        return load_json(canonical_json(value))
    try:
        return load_json(json.dumps(value, default=str))
    except (TypeError, ValueError, RecursionError):  # a key that is no text, NaN, or a value that contains itself
        return f"a value of type {type(value).__name__} that JSON cannot say"
