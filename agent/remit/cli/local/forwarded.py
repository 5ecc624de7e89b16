"""Which commands a service carries out for another account.

INVARIANT: none of them reads or writes a file that an argument names, and none starts a program that the caller chooses: they have the rights
of the account of the service. What is not listed here, the process of the caller does by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "approve list": frozenset({"--json", "--break-glass"}),
    "approve show": frozenset({"--json", "--full"}),
    "approve grant": frozenset({"--json", "--role", "--reason", "--minutes", "--more", "--resource", "--if", "--yes"}),
    "approve reject": frozenset({"--json", "--reason"}),
    "approve revoke": frozenset({"--json", "--reason"}),
    "approve review": frozenset({"--json", "--note"}),
    "approve act": frozenset({"--json", "--role"}),
    "call": frozenset({"--json", "--agent", "--user", "--dry-run", "--wait"}),
    "policy explain": frozenset(
        {
            "--json",
            "--agent",
            "--user",
            "--args",
            "--label",
            "--calls",
            "--approval",
            "--named-by-user",
            "--env",
            "--time",
        }
        | {"--quoted-by-user", "--requested-by-user", "--identified", "--contains", "--confinement"}
    ),
    "run": frozenset({"--json", "--user", "--resume", "--run-id", "--wait"}),
    "trace list": frozenset(
        {"--json", "--failed", "--denied", "--agent", "--user", "--action", "--code", "--state", "--since", "--limit"}
        | {"--conversation", "--evaluation", "--imported", "--decisions", "--format", "--stats"}
    ),
    "trace show": frozenset({"--json", "--all", "--step", "--failures"}),
    "trace verify": frozenset({"--json", "--head"}),
}
_RUN: Final = re.compile(r"[0-9a-f]{1,32}")  # not the name of a file
_OF_RUNS: Final = ("trace show", "trace verify")


def command_of(words: Sequence[str]) -> str:
    """The command that a service carries out for these words; "" if there is none."""
    command = next((name for name in (" ".join(words[:2]), *words[:1]) if name in OPTIONS), "")
    rest = words[len(command.split()) :]
    if any(word.startswith("-") and word.partition("=")[0] not in OPTIONS.get(command, ()) for word in rest):
        return ""
    if command in _OF_RUNS and not (rest and all(_RUN.fullmatch(word) or _is_option(word) for word in rest)):
        return ""
    return command


def _is_option(word: str) -> bool:
    return word.startswith("--")
