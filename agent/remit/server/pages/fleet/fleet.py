"""The fleet: what is held, waits, fails or was lost; budgets and limits; cost and times; denials by rule; rollouts and evaluations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from remit.core import is_principal
from remit.core.events import CODE
from remit.journal import Journal, RolloutState, list_evaluations, list_rollouts
from remit.rollout import evidence_of, evidence_text
from remit.server.authentication import Access, BrowserSession
from remit.server.http.route import EVERY_RUN
from remit.server.pages.assets import string
from remit.server.pages.fleet.figures import NO_RULE, Figures, Over, figures_of
from remit.server.pages.fleet.plots import bar_plot, line_plot
from remit.server.pages.fleet.tools import not_allowed
from remit.server.pages.html import page, redirect
from remit.tracing import GaugeReader, Measurement
from remit.tracing.reports import utc
from remit.workspace import Workspace

if TYPE_CHECKING:
    from remit.server.service import Service

AREA: Final = "fleet"
MOST_LISTED: Final = 10  # rollouts, evaluations
MOST_RULES: Final = 30
# Numbers of `remit metrics` that are shown, in this order, each with the list of runs that it counts.
GAUGES: Final = (
    ("remit.holds", ""),
    ("remit.approvals.waiting", "/approvals"),
    ("remit.effects.in_doubt", "/runs?in_doubt=1"),
    ("remit.alerts", ""),
    ("remit.emergencies.unreviewed", ""),
    ("remit.engines.disagreements", ""),
)


class FleetPages:
    """The page of the fleet of a service."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access

    async def overview(self, request: Request) -> Response:
        """All of it, on one page."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/fleet")
        return await asyncio.to_thread(self._shown, session)

    def _shown(self, session: BrowserSession) -> Response:
        workspace, client = self._service.client(session.principal)
        if not client.may("remit.read", EVERY_RUN):
            return not_allowed(session, string("fleet", "title"))
        defined, journal = workspace.session.workspace, workspace.journal
        gauges = GaugeReader(journal, defined.agents).read()
        figures = figures_of(workspace.session, client.policy, session.principal)
        values: dict[str, Any] = {
            "gauges": [
                {"name": name.replace(".", "_"), "value": round(sum(item.value for item in gauges[name])), "link": link}
                for name, link in GAUGES
            ],
            "states": _states(gauges["remit.runs.unfinished"]),
            "recent": _recent(gauges["remit.runs.recent"]),
            "holds": _holds(journal),
            "budgets": _budgets(defined),
            "limits": [{"note": limit.note, "allowance": limit.allowance} for limit in defined.limits],
            "rollouts": [_rollout(journal, item) for item in list_rollouts(journal, limit=MOST_LISTED)],
            "evaluations": [
                {
                    "id": item.evaluation,
                    "agent": item.agent,
                    "at": utc(item.started),
                    "passed": item.passed,
                    "failed": item.failed,
                    "broken": item.infrastructure,
                    "ended": item.ended is not None,
                }
                for item in list_evaluations(journal, limit=MOST_LISTED)
            ],
        }
        return page("fleet", session=session, area=AREA, **values, **_figures(figures))


def _states(items: Any) -> list[dict[str, Any]]:
    """Runs that have not ended, by agent and state."""
    return [
        {"agent": item.attributes["agent"], "state": item.attributes["state"], "count": round(item.value)}
        for item in items
        if item.value
    ]


def _recent(items: Any) -> list[dict[str, Any]]:
    """Runs of the last 15 minutes that did not complete, by agent, outcome and code."""
    found: list[Measurement] = [item for item in items if item.value and item.attributes["outcome"] != "completed"]
    return [{**item.attributes, "count": round(item.value)} for item in found]


def _holds(journal: Journal) -> list[dict[str, str]]:
    """The holds in force, revocations of code, and people and services that are disabled."""
    return [
        {
            "scope": scope,
            "reason": hold.reason,
            "by": hold.by.subject,
            "kind": "revoked" if scope.startswith(CODE) else "disabled" if is_principal(scope) else "held",
        }
        for scope, hold in journal.holds().items()
    ]


def _budgets(workspace: Workspace) -> list[dict[str, Any]]:
    return [
        {
            "agent": name,
            "steps": agent.budget.steps,
            "calls": agent.budget.calls,
            "wall": f"{agent.budget.wall:g} s",
            "tokens": agent.budget.tokens,
            "money": agent.budget.money,
            "waiting": agent.budget.waiting,
        }
        for name, agent in sorted(workspace.agents.items())
    ]


def _rollout(journal: Journal, item: RolloutState) -> dict[str, Any]:
    opened = item.opened
    return {
        "id": item.id,
        "agent": opened.agent,
        "status": item.status,
        "stage": item.stage.name,
        "number": item.number + 1,
        "of": len(opened.stages),
        "changes": ", ".join(opened.changes),
        "reason": getattr(item.ended, "reason", ""),
        "evidence": [{"broken": one.broken, "text": evidence_text(one)} for one in evidence_of(journal, item)],
    }


def _figures(figures: Figures) -> dict[str, Any]:
    most = max((count for _, count in figures.denials), default=0)
    return {
        "runs": figures.runs,
        "since": utc(figures.since) if figures.runs else "",
        "until": utc(figures.until) if figures.runs else "",
        "actions": [_action(item) for item in figures.actions],
        "denials": [
            {
                "rule": rule if rule != NO_RULE else string("fleet", "no_rule"),
                "count": count,
                "plot": bar_plot(count, most, string("fleet", "denied_plot", count=count)),
            }
            for rule, count in figures.denials[:MOST_RULES]
        ],
    }


def _action(item: Over) -> dict[str, Any]:
    one = item.all
    names = {"agent": one.agent, "action": one.action}
    return {
        **names,
        "calls": one.calls,
        "refused": one.refused,
        "failed": one.failed,
        "p95": f"{one.p95_s:.3f} s" if one.calls else "",
        "cost": "" if one.cost is None else f"{one.cost:.4f}",
        "p95_plot": line_plot(item.p95, string("fleet", "p95_plot", **names)),
        "cost_plot": line_plot(item.cost, string("fleet", "cost_plot", **names)) if one.cost else "",
    }
