"""Refuses a call that the tier of this machine cannot confine, and says what would let it run."""

from __future__ import annotations

from typing import Final

from remit.core import RunEnded
from remit.sandbox.profile import Profile, Tier
from remit.sandbox.selfcheck.container import container_fix

REMOVE: Final = "remove the tool from the agent"


def check_fit(profile: Profile, tier: Tier, *, observed: bool) -> None:
    """Raise RunEnded (`sandbox_unavailable`) for a call that cannot run in the tier; `observed`: its accesses are recorded."""
    if tier == "full":
        return
    if profile.starts_programs:
        uses = "starts programs"
    elif observed and profile.network is not None:  # a process has one filter that asks
        uses = "uses the network while it is observed"
    else:
        return
    raise RunEnded(
        "sandbox_unavailable",
        f"tool {profile.tool!r} {uses}, which the landlock tier cannot confine",
        fix=container_fix(otherwise=REMOVE) or f"make bubblewrap work here (see `remit doctor`), or {REMOVE}",
    )
