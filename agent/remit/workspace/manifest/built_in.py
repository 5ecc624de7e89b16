"""The one action that Remit itself carries out: it reads a part of an earlier result of the same run.

It is named in agent.toml, decided by the rules, recorded and replayed like every other action. It has no folder below `tools/` and
no line in `tools.lock`, because its code is Remit's own.
"""

from __future__ import annotations

from typing import Final

from remit.core import READ_RESULT, Json
from remit.core.parsing import digest
from remit.workspace.manifest.manifest import Action, ActionSchema, Manifest, pin

_TOOL, _, _ACTION = READ_RESULT.partition(".")
_ERRORS: Final = {"not_found": ""}
_INPUT: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "call": {
            "type": "string",
            "pattern": r"^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$",
            "description": 'The member "call" of the result',
        },
        "offset": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**40,
            "default": 0,
            "description": "The first character to read, from 0",
        },
        "find": {
            "type": "string",
            "maxLength": 1000,
            "default": "",
            "description": "Read from the first place at or after the offset that has this text",
        },
    },
    "required": ["call"],
    "additionalProperties": False,
}
_OUTPUT: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "offset": {"type": "integer"},
        "end": {"type": "integer"},
        "characters": {"type": "integer"},
    },
    "required": ["text", "offset", "end", "characters"],
    "additionalProperties": False,
}
_SCHEMA: Final = ActionSchema(
    description="Continue at `end`; the result is read to its end if `end` is `characters`.",
    input=_INPUT,
    output=_OUTPUT,
)

MANIFEST: Final = Manifest(
    name=_TOOL,
    version="1.0.0",
    owner="",
    summary="What Remit itself does for a run",
    source="built-in",
    actions={
        _ACTION: Action(
            name=_ACTION,
            summary="Read a part of an earlier result of this run, of which you got only the beginning and the end",
            touches=("use result:{call}",),
            effect="read",
            errors=_ERRORS,
        )
    },
    digest=digest({"built-in": _TOOL, "input": _INPUT, "output": _OUTPUT}),
)
PIN: Final = pin(MANIFEST, "", {_ACTION: _SCHEMA}, {})
