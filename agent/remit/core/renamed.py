"""Former names in files that people write, with the names that replaced them: messages use them as the fix.

This table is removed at version 0.1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FACTS: Final[Mapping[str, str]] = {
    "named": "named_by_user",
    "known": "identified",
    "unknown": "unidentified",
    "carries": "contains",
    "said": "quoted_by_user",
    "intended": "requested_by_user",
}

# By the kind of file: a condition of a rule, a row of policies/cases.yaml, a tool.toml.
RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    "fact": _FACTS,
    "case": _FACTS,
    "manifest": {
        "returns": "adds_labels",
        "clears": "removes_labels",
        "lists": "adds_to_directory",
        "words": "request_words",
    },
}
