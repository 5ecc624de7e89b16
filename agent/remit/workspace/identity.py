"""The operating-system account of this process, and the user for whom it stands."""

from __future__ import annotations

import os
import pwd
import re
from typing import Final

from remit.workspace.definitions import Settings
from remit.workspace.file_schema import SUBJECT

NOBODY: Final = "user:none"


def subject_of(settings: Settings, account: str) -> str:
    """The user of an operating-system account; `user:none` for an account that `[identity]` does not have."""
    if settings.identity is None:
        subject = f"user:{account}"
        return subject if re.fullmatch(SUBJECT, subject) else NOBODY
    return settings.identity.get(account) or settings.identity.get("*") or NOBODY


def os_account() -> str:
    """The operating-system account of this process: the effective user, never an environment variable."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid-{os.geteuid()}"
