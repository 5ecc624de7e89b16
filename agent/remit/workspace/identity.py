"""Who asks, in this workspace: the principal of this process, and the user for whom an account stands."""

from __future__ import annotations

import os
import pwd
import re

from remit.core import NOBODY, Principal, Refusal
from remit.workspace.definitions import Settings
from remit.workspace.file_schema import SUBJECT

_acts_for: str | None = None  # the account for which this process acts; None: its own


def principal_of_process(settings: Settings) -> Principal:
    """The principal of this process: its operating-system account. Only an entry point calls it, and passes it on."""
    account = _os_account()
    subject = subject_of(settings, account)
    return Principal(subject=subject, authenticated="os_account", account=account, tenant=settings.tenant)


def act_for(account: str) -> None:
    """Let this process act for another account of the operating system. Only a service does that, in the process of one command."""
    global _acts_for
    _acts_for = account


def subject_of(settings: Settings, account: str) -> str:
    """The user of an operating-system account; `user:none` for an account that `[identity]` does not have."""
    if settings.identity is None:
        subject = f"user:{account}"
        return subject if re.fullmatch(SUBJECT, subject) else NOBODY
    return settings.identity.get(account) or settings.identity.get("*") or NOBODY


def check_tenant(settings: Settings, by: Principal) -> None:
    """Raise Refusal `policy_denied` if the principal is not of the tenant of this workspace."""
    if by.tenant != settings.tenant:
        raise Refusal(
            "policy_denied",
            f"{by.subject} is of the tenant {by.tenant!r}, and this workspace of the tenant {settings.tenant!r}",
            next_step="use the workspace of that tenant",
        )


def _os_account() -> str:
    """The operating-system account of this process: the effective user, never an environment variable."""
    return account_of(os.geteuid()) if _acts_for is None else _acts_for


def account_of(uid: int) -> str:
    """The name of an operating-system account."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"
