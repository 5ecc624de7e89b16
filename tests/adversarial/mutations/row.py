"""One row of the table of mutations, and what builds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import pytest

Remove: TypeAlias = Callable[[pytest.MonkeyPatch], None]


DECIDES: Final = ("policy/test_decide.py::test_roles_are_read_through_other_roles",)


REACHED: Final = (
    "sandbox/egress/test_protocol.py::test_a_connection_is_used_again_and_one_that_the_server_closed_is_not",
)


ANSWERED: Final = ("broker/test_broker.py::test_an_allowed_call_runs_once_and_its_value_reaches_the_model",)


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """`tests` fail, every one of them, once the protection is gone; `still` goes on passing, so that they fail for that.

    `threats` are the attacks that it stands against, by their numbers in the list of approvals (D), policy and identity (E), and
    retries and errors (F). `fixtures`: they use those of conftest.py, which takes seconds to import.
    """

    name: str
    remove: tuple[Remove, ...]
    tests: tuple[str, ...]
    threats: tuple[str, ...] = ()
    fixtures: bool = False
    still: tuple[str, ...] = ("sandbox/test_sandbox.py::test_what_a_tool_prints_is_kept_and_is_not_its_answer",)


def brokered(name: str, *remove: Remove, tests: tuple[str, ...], threats: str = "") -> Ablation:
    """A stage of the broker's line; a call that is allowed still runs."""
    given = tuple(threats.split())
    return Ablation(name=name, remove=remove, tests=tests, threats=given, fixtures=True, still=ANSWERED)


def never(where: object, name: str) -> Remove:
    """Nothing is said by that check."""
    return lambda patch: patch.setattr(where, name, lambda *_, **__: None)


def replaced(where: object, name: str, instead: object) -> Remove:
    """Put something else in the place of one function or value."""
    return lambda patch: patch.setattr(where, name, instead)
