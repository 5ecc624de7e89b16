"""The digests that bind the decision, the approval, the attempt and the result of a call to each other."""

from __future__ import annotations

from collections.abc import Mapping

from remit.core.calls import Json, Subjects
from remit.core.parsing.strict_json import digest


def request_digest(subjects: Subjects, action: str, arguments: Mapping[str, Json], manifest: str) -> str:
    """The digest of a call: its subjects, its action, its arguments (secrets replaced) and the version of the tool."""
    return digest({"subjects": list(subjects.all), "action": action, "arguments": arguments, "manifest": manifest})


def decision_digest(request: str, policy: str, facts: Mapping[str, Json] | None = None) -> str:
    """The digest of a decision: the call, the rules, and the `facts` that an approver is shown.

    People approve this digest. A grant for another one does not count, so an approval does not apply to a changed call,
    to changed rules or to facts that the approver did not see (threats D1, D2).
    """
    parts: dict[str, Json] = {"request": request, "policy": policy}
    return digest({**parts, "facts": dict(facts)} if facts else parts)
