"""The directory of a run: what Remit looks up before the model's first turn.

An agent's `[[directory]]` lists read-only calls, such as contacts, channels or payees. They are decided, confined and recorded
like every call, in internal turns that the model does not see. The resources that their manifests list in `adds_to_directory`
are then in the directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from remit.core import ProposedCall, tool_name
from remit.core.parsing import canonical_json
from remit.guardrails import kind_of
from remit.journal import RunState
from remit.workspace import LookUp

MAX_CALLS: Final = 100  # in one turn; further look-ups are dropped


def directory_calls(directory: Iterable[LookUp], step: int, state: RunState) -> tuple[ProposedCall, ...]:
    """The look-ups of one step: in step 0 those without `of`, in step 1 one call for each name found; later none."""
    calls: list[ProposedCall] = []
    for look_up in directory:
        if step == 0 and not look_up.of:
            calls.append(_proposed(look_up, ""))
        elif step == 1 and look_up.of:
            resources = sorted(resource for resource in state.directory if kind_of(resource) == look_up.of)
            calls.extend(_proposed(look_up, resource.partition(":")[2]) for resource in resources)
    return tuple(calls[:MAX_CALLS])


def _proposed(look_up: LookUp, name: str) -> ProposedCall:
    placeholder = f"{{{look_up.of}}}"
    arguments = {
        key: name if look_up.of and value == placeholder else value for key, value in look_up.arguments.items()
    }
    return ProposedCall(name=tool_name(look_up.action), arguments=canonical_json(arguments).decode())
