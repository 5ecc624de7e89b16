"""Principals of tests: who starts, approves and holds."""

from __future__ import annotations

from typing import Any, Final

from remit.core import Principal


def principal(name: str, *, account: str | None = None, **changes: Any) -> Principal:
    """The user of that name, or the subject `agent:NAME`, with the account of the same name or another one."""
    kind, _, rest = name.rpartition(":")
    made = Principal(subject=f"{kind or 'user'}:{rest}", authenticated="os_account", account=account or rest)
    return made.model_copy(update=changes)


OPERATOR: Final = principal("operator", account="tester")
