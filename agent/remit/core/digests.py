"""What a request and a decision are bound to: the digests that decision, approval, attempt and result must agree on."""

from __future__ import annotations

from collections.abc import Mapping

from remit.core.calls import Json, Subjects
from remit.core.parsing.strict_json import digest


def request_digest(subjects: Subjects, action: str, arguments: Mapping[str, Json], manifest: str) -> str:
    """Of who asks for what with which arguments, secrets in them replaced, of which version of the tool."""
    return digest({"subjects": list(subjects.all), "action": action, "arguments": arguments, "manifest": manifest})


def decision_digest(request: str, policy: str, facts: Mapping[str, Json] | None = None) -> str:
    """Of a request under these rules, and of the `facts` that people are shown where they are asked.

    It is what people approve; a grant for another digest does not count (D1, D2).
    """
    parts: dict[str, Json] = {"request": request, "policy": policy}
    return digest({**parts, "facts": dict(facts)} if facts else parts)
