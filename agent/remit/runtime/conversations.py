"""The next run of a conversation, and what it has from the runs before.

A run ends before the next one of its conversation begins, so at most one of them can have an effect at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from remit.core import UsageError
from remit.core.events import BoundedApproval, ConversationRun, InDoubtEffect
from remit.core.parsing import digest
from remit.journal import PRUNED, WORKSPACE_RUN, Journal, RunInConversation, RunState, StoredRecord

WORDS_KEPT: Final = 16 * 1024  # characters of earlier messages
NAMES_KEPT: Final = 1000  # of the directory
VALUES_KEPT: Final = 2000  # of one label
ENOUGH: Final = ("complete",)  # content from which it is known what a run has read
_UNKNOWN: Final = "so what this thread has read is not known: begin a new thread"


def next_run(
    journal: Journal, conversation: str, message: str, last: RunInConversation | None, before: RunState | None
) -> tuple[str, ConversationRun]:
    """The id of the next run of the conversation, and its place there, with what the runs before leave to it.

    `last` is its latest run, which has ended, and `before` the state of that; None for the first one.
    The id follows from the conversation and the number: two processes that begin the next run at the same time begin the same run.

    Raises:
        UsageError: the last run has not ended, or what it has read is not known: it was erased or deleted, or has no content.
    """
    number = 1 if last is None else last.number + 1
    run = digest({"conversation": conversation, "number": number}).removeprefix("sha256:")[:32]
    if last is not None and not last.has_ended:
        raise UsageError(
            f"run {last.run[:8]} of this thread has not ended; to see why: remit trace show {last.run[:8]}"
        )
    if journal.head(run) is not None or journal.get(WORKSPACE_RUN, f"{PRUNED}{run}") is not None:
        raise UsageError(f"run {run[:8]} of this thread was erased or deleted, {_UNKNOWN}")
    if last is None or before is None:
        return run, ConversationRun(id=conversation, number=number, message=message)
    if before.started is None or before.conversation is None or before.started.content not in ENOUGH:
        raise UsageError(f"the content of run {last.run[:8]} was not recorded, {_UNKNOWN}")
    return run, _left_by(journal, last.run, before, before.conversation, number, message)


def _left_by(
    journal: Journal, run: str, state: RunState, place: ConversationRun, number: int, message: str
) -> ConversationRun:
    """What the run leaves to the next one."""
    actions = {*place.calls, *state.settled}
    return ConversationRun(
        id=place.id,
        number=number,
        message=message,
        after=run,
        **_known(state),
        calls={name: place.calls.get(name, 0) + state.settled.get(name, 0) for name in sorted(actions)},
        doubts=tuple(_doubts(journal, run, state)),
        bounded=tuple(_bounded(journal, run, state)),
    )


def _known(state: RunState) -> dict[str, Any]:
    """What a run knows, for another run.

    Words and names that are too many are left out: then less counts as known. Values that are too many become "": then every
    text counts as containing one.
    """
    return {
        "words": state.words[-WORDS_KEPT:],
        "labels": tuple(sorted(state.labels)),
        "directory": tuple(sorted(state.directory)[:NAMES_KEPT]),
        "values": {
            label: tuple(sorted(values)) if len(values) <= VALUES_KEPT else ("",)
            for label, values in state.values.items()
        },
    }


def inside_of(place: ConversationRun, around: RunState) -> ConversationRun:
    """The place of a run inside of the tool of another run, with what that run knows too."""
    known = _known(around)
    values = {
        label: tuple(sorted({*place.values.get(label, ()), *known["values"].get(label, ())}))
        for label in {*place.values, *known["values"]}
    }
    labels = tuple(sorted({*place.labels, *known["labels"]}))
    directory = tuple(sorted({*place.directory, *known["directory"]}))
    return place.model_copy(update={**known, "labels": labels, "directory": directory, "values": values})


def _doubts(journal: Journal, run: str, state: RunState) -> Iterator[InDoubtEffect]:
    """The effects that may have happened, as people have settled them since."""
    for doubt in state.doubts:
        if not doubt.run:
            yield doubt.model_copy(update={"run": run})
        elif doubt.settled is not None:
            yield doubt
        else:
            place = (doubt.step, doubt.index)
            known = StoredRecord(journal, doubt.run).state.doubts
            yield from (
                item.model_copy(update={"run": doubt.run}) for item in known if (item.step, item.index) == place
            )


def _bounded(journal: Journal, run: str, state: RunState) -> Iterator[BoundedApproval]:
    """The approvals of further calls that nobody has revoked since."""
    for item in state.bounded:
        if not item.run:
            yield item.model_copy(update={"run": run})
        elif any(item.granted == other.granted for other in StoredRecord(journal, item.run).state.bounded):
            yield item
