"""The type of a mutation, and helpers that build one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final, TypeAlias

import pytest

Remove: TypeAlias = Callable[[pytest.MonkeyPatch], None]
DECIDES: Final = ("policy/test_decide.py::test_roles_are_inherited_through_other_roles",)
REACHED: Final = ("sandbox/egress/test_protocol.py::test_an_idle_connection_is_used_again_and_a_closed_one_is_not",)
ANSWERED: Final = ("broker/test_broker.py::test_an_allowed_call_runs_once_and_its_value_reaches_the_model",)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One protection and its tests.

    All `tests` fail without the protection. The tests in `still` keep passing, so the others fail for that reason only.
    `threats` are the attacks that it prevents, by their numbers in the lists for approvals (D), policy and identity (E), and
    retries and errors (F). `fixtures` is True if the tests use those of conftest.py, which takes seconds to import.
    """

    name: str
    remove: tuple[Remove, ...]
    tests: tuple[str, ...]
    threats: tuple[str, ...] = ()
    fixtures: bool = False
    still: tuple[str, ...] = ("sandbox/test_sandbox.py::test_what_a_tool_prints_is_kept_and_is_not_its_answer",)


def brokered(name: str, *remove: Remove, tests: tuple[str, ...], threats: str = "") -> Mutation:
    """A mutation of a stage of the broker; an allowed call still runs."""
    return Mutation(
        name=name, remove=remove, tests=tests, threats=tuple(threats.split()), fixtures=True, still=ANSWERED
    )


def never(where: object, name: str) -> Remove:
    """Disable a check: it raises and returns nothing."""

    async def nothing(*_: object, **__: object) -> None:
        return None

    asynchronous = inspect.iscoroutinefunction(getattr(where, name))
    return replaced(where, name, nothing if asynchronous else lambda *_, **__: None)


def replaced(where: object, name: str, instead: object) -> Remove:
    """Replace one function, class or value; a function also in each module that has imported it by its name."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        before = getattr(where, name)
        patch.setattr(where, name, instead)
        if isinstance(where, ModuleType) and callable(before) and not isinstance(before, type):
            for module in [module for key, module in sys.modules.items() if key.partition(".")[0] == "remit"]:
                for own_name in [own for own, value in vars(module).items() if value is before]:
                    patch.setattr(module, own_name, instead)

    return remove
