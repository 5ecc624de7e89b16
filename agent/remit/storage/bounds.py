"""What every kind of shared storage refuses, and how it says so."""

from __future__ import annotations

from typing import Final

from remit.core import RunEnded

LARGEST: Final = 1 << 30  # bytes of one object: a changed one must not fill the memory
FIX: Final = "restore access to it, or free space there, then resume the run: `remit run --resume`"


def check_size(store: str, name: str, size: int) -> None:
    """Raise RunEnded (`unrecorded`) for an object that is larger than Remit writes any."""
    if size > LARGEST:
        raise unusable(store, "read", f"{name} has {size} bytes, and Remit writes at most {LARGEST}")


def unusable(name: str, verb: str, cause: str) -> RunEnded:
    """The error of storage that cannot be `read` or `written`."""
    return RunEnded("unrecorded", f"the storage {name} cannot be {verb}: {cause}", fix=FIX)
