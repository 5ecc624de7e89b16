"""Raises alerts and closes them. An alert is an event of the workspace, and in force until it is closed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from remit.core import Principal, UsageError, one_of, spelled
from remit.core.events import AlertClosed, AlertRaised
from remit.evals.monitoring.drift import Drift
from remit.evals.monitoring.targets import TargetResult
from remit.journal import WORKSPACE_RUN, AlreadyRecorded, Journal, alerts_in_force, find_run, raise_alert


def alert_of_drifts(journal: Journal, drifts: Iterable[Drift]) -> list[AlertRaised]:
    """Raise an alert for each drift that has none yet, also none that was closed. Returns the new ones."""
    raised_at = {
        item.event.alert: item.at for item in journal.every("alert.raised") if isinstance(item.event, AlertRaised)
    }
    new: list[AlertRaised] = []
    for alert, drift in ((drift.alert, drift) for drift in drifts):
        first = find_run(journal, drift.since)
        # An alert that is younger than the change is about it, even if the drift is seen at another run this time.
        known = first is not None and raised_at.get(alert.alert, -1) >= (first.ended_at or 0)
        if not known and raise_alert(journal, alert):
            new.append(alert)
    return new


def alert_of_targets(journal: Journal, results: Sequence[TargetResult], agent: str = "") -> list[AlertRaised]:
    """Raise an alert for each target that is passed or expected to be, and close those of all others, also of targets that are gone.

    `agent` is the one agent that was compared, "" for all. Returns the new alerts.
    """
    bad = [item.alert for item in results if item.state in ("passed", "expected")]
    stay = {alert.alert for alert in bad} | {item.alert.alert for item in results if item.state == "unknown"}
    for alert in alerts_in_force(journal):
        if alert.kind == "target" and agent in ("", alert.agent) and alert.alert not in stay:
            close_alert(journal, alert.alert)
    return [alert for alert in bad if raise_alert(journal, alert)]


def close_alert(journal: Journal, name: str, by: Principal | None = None) -> AlertClosed:
    """Record that an alert is no longer in force; `by` is the person who says so, None if its target is met again.

    Raises:
        UsageError: no alert of that name is in force.
    """
    known = [alert.alert for alert in alerts_in_force(journal)]
    if name not in known:
        raise UsageError(f"no alert {spelled(name)} is in force: {one_of(name, known)}")
    while True:
        number = (journal.head(WORKSPACE_RUN) or (-1, ""))[0] + 1
        closed = AlertClosed(number=number, alert=name, by=by)
        try:
            journal.append_shared(WORKSPACE_RUN, closed)
        except AlreadyRecorded:
            continue  # another process closed an alert at the same time
        return closed
