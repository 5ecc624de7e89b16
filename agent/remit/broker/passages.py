"""What the calls of a run returned of documents, from the record of the run alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from pydantic import ValidationError

from remit.core import Citation, Failed, Json, Passage, Refusal, Retrieved, Source, Succeeded
from remit.core.events import AnyEvent, CallAnswered, CallDecided, ModelResponded
from remit.core.parsing import canonical_json
from remit.workspace import Workspace
from remit.workspace.manifest import values_at


def retrieved_by(events: Iterable[AnyEvent], workspace: Workspace, at: int) -> Retrieved:
    """The passages in the results of a run, at the time of its answer (Unix nanoseconds).

    The manifest of an action says in `passages` where they are. Look-ups that Remit makes itself are left out: the model does
    not read them.
    """
    internal: set[int] = set()
    actions: dict[tuple[int, int], str] = {}
    passages: list[Passage] = []
    invalid: set[tuple[str, int]] = set()
    searched = False
    for event in events:
        if isinstance(event, ModelResponded):
            internal.update({event.step} if event.internal else ())
        elif isinstance(event, CallDecided):
            actions[event.step, event.index] = "" if event.call is None or event.step in internal else event.call.action
        elif isinstance(event, CallAnswered) and (path := _path(workspace, actions.get((event.step, event.index), ""))):
            result, call = event.result, f"{event.step}.{event.index}"
            searched = searched or isinstance(result, Succeeded) or result.error.code == "tool_failed"
            for item, value in enumerate(() if isinstance(result, Failed) else values_at(result.value, path), start=1):
                if (passage := _passage(call, item, value)) is None:
                    invalid.add((call, item))
                else:
                    passages.append(passage)
    return Retrieved(passages=tuple(passages), searched=searched, invalid=frozenset(invalid), at=at)


def _path(workspace: Workspace, name: str) -> Sequence[str]:
    """Where the results of that action have passages; empty for an action without them."""
    tool, _, action = name.partition(".")
    found = workspace.every_tool[tool].manifest.actions.get(action) if tool in workspace.every_tool else None
    return () if found is None or not found.passages else found.passages.split("/")


def _passage(call: str, item: int, value: Json) -> Passage | None:
    """The passage that one item of a result is; None if it has not the form of one."""
    members = cast("dict[str, Json]", value) if isinstance(value, dict) else {}
    text, title, in_force = members.get("text"), members.get("title", ""), members.get("in_force")
    dates = cast("dict[str, Json]", in_force) if isinstance(in_force, dict) else {}
    since, until = dates.get("from"), dates.get("until")
    if not isinstance(text, str) or not isinstance(title, str) or not isinstance(in_force, dict):
        return None
    if not isinstance(since, str | None) or not isinstance(until, str | None):
        return None
    try:
        citation = Citation.model_validate_json(canonical_json(members.get("citation")))
    except (ValidationError, Refusal):
        return None
    source = Source(call=call, item=item, citation=citation)
    return Passage(source=source, text=text, title=title, since=since, until=until)
