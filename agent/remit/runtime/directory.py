"""The directory of a run: what Remit looks up by itself before the model reads anything.

An agent's `directory` lists calls that only look: contacts, channels, payees. They go the way of every call, decided,
confined and recorded, in turns of Remit's own that the model never sees; what their manifests say they list is then known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from remit.core import ProposedCall
from remit.core.parsing import canonical_json
from remit.guardrails import kind_of
from remit.journal import RunState
from remit.workspace import LookUp

MOST: Final = 100  # calls of one turn; what comes after is not known


def look_ups(directory: Iterable[LookUp], step: int, facts: RunState) -> tuple[ProposedCall, ...]:
    """What is looked up in that step: first what needs nothing, then what needs the names that were found; then nothing."""
    made: list[ProposedCall] = []
    for one in directory:
        if step == 0 and not one.of:
            made.append(_ask(one, ""))
        elif step == 1 and one.of:
            found = sorted(resource for resource in facts.directory if kind_of(resource) == one.of)
            made.extend(_ask(one, resource.partition(":")[2]) for resource in found)
    return tuple(made[:MOST])


def _ask(one: LookUp, name: str) -> ProposedCall:
    arguments = {key: name if value == f"{{{one.of}}}" and one.of else value for key, value in one.arguments.items()}
    return ProposedCall(name=one.action.replace(".", "__", 1), arguments=canonical_json(arguments).decode())
