"""How the run state changes by what happens while a call runs: its tool asks a person, and its live sandbox is given something."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from remit.core import Principal
from remit.core.events import AnswerGiven, AnyEvent, QuestionAnswered, QuestionAsked, RunStarted
from remit.journal.run_state import OpenCall, RunState


def questioned(state: RunState, event: AnyEvent) -> RunState:
    """The state after one more event. The function of the tool has returned when it asks, and runs again once it has the answer.

    An answer of the user counts like words of the task; that of another person does not.
    """
    if isinstance(event, AnswerGiven) and (call := state.open.get((event.step, event.index))) is not None:
        return replace(state, open={**state.open, (event.step, event.index): replace(call, replied=True)})
    if not isinstance(event, QuestionAsked | QuestionAnswered):
        return state
    place = (event.step, event.index)
    asked = event if isinstance(event, QuestionAsked) else None
    if (call := state.open.get(place)) is not None:
        state = replace(
            state, open={**state.open, place: replace(call, attempting=asked is None, question=asked, replied=False)}
        )
    if isinstance(event, QuestionAsked) or not isinstance(event.answer, str) or state.started is None:
        return state
    return (
        replace(state, user_answers=(*state.user_answers, event.answer))
        if _is_of_user(state.started, event.by)
        else state
    )


def given(
    state: RunState, call: OpenCall | None, labels: Collection[str], *, begins: bool = False
) -> Mapping[str, frozenset[str]]:
    """`RunState.given` with these labels for the live sandbox of the call's tool.

    A tool has one once an attempt of it begins. What a call returns was known in it, so the labels of results count too.
    """
    tool = "" if call is None else call.action.partition(".")[0]
    before = state.given.get(tool)
    if not begins and (before is None or not labels):
        return state.given
    return {**state.given, tool: (before or frozenset()).union(labels)}


def _is_of_user(started: RunStarted, by: Principal) -> bool:
    return by.subject == started.subjects.user
