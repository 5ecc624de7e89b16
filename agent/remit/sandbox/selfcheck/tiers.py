"""Which tiers work on this machine, and as which account tools run: what `remit doctor` prints."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from remit.sandbox.account import NOBODY, account_note, closed_to_others
from remit.sandbox.cgroups import delegated
from remit.sandbox.live.selfcheck import live_note
from remit.sandbox.profile import Runtime, Tier, runtime
from remit.sandbox.selfcheck.bubblewrap import FIXED, find_bwrap, version_of
from remit.sandbox.selfcheck.probe import TierReport, examine

TIERS: Final[tuple[Tier, ...]] = ("full", "landlock")  # the strongest first
_OLD: Final = (
    "bubblewrap {}.{} is older than 0.12, which fixes CVE-2026-87766 (a symlink planted below a writable mount); "
    "no mount of this sandbox lies below a folder that a tool can write, so it is not affected; update bubblewrap anyway"
)
_WEAKER: Final = (
    "temporary files are limited one by one and not in total; a tool can find out which paths exist (`stat`); "
    "no tool can start programs; accept this tier only where the full tier does not work"
)


def probe(*, bwrap: Path | None = None) -> tuple[TierReport, ...]:
    """Try every escape in every tier on this machine: what `remit doctor` prints."""
    here = runtime(bwrap if bwrap is not None else find_bwrap())
    (full, account), (landlock, _) = (try_accounts(tier, here, examine) for tier in TIERS)
    notes: list[str] = []
    if full.works and here.bwrap is not None and (version := version_of(here.bwrap)) < FIXED:
        notes.append(_OLD.format(*version))
    if full.works and os.geteuid() == 0:
        notes.append(account_note(here, account))
    if full.works and (problem := live_note(replace(here, account=account))):
        notes.append(problem)
    if full.works and delegated() is None:
        notes.append(
            "no control group (v2, memory and pids) is delegated here: limits apply to each process, not to their sum"
        )
    return replace(full, note="; ".join(notes)), replace(landlock, note=_WEAKER if landlock.works else "")


def try_accounts(
    tier: Tier, here: Runtime, trying: Callable[[Tier, Runtime], TierReport]
) -> tuple[TierReport, int | None]:
    """The report, and the account that it was made for (None: the broker's own). Root tries the account `nobody` first."""
    if os.geteuid() == 0 and tier == "full" and here.bwrap is not None and not closed_to_others(here):
        report = trying(tier, replace(here, account=NOBODY))
        if report.works:
            return report, NOBODY
    return trying(tier, here), None
