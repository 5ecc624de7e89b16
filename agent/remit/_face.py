"""The public names of a package, each imported when it is first used, so that a command loads only what it needs.

A package lists its names in `__init__.pyi`, which type checkers read too (Scientific Python SPEC 1).
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

from collections.abc import Callable

import lazy_loader  # type: ignore[import-untyped]

Face = tuple[Callable[[str], object], Callable[[], list[str]], list[str]]


def face(name: str, file: str) -> Face:
    """`__getattr__`, `__dir__` and `__all__` of the package `name` whose `__init__.py` is `file`."""
    attached: Face = lazy_loader.attach_stub(name, file)
    return attached
