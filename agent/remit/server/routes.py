"""The one table of routes. The application and the OpenAPI document are made from it."""

from __future__ import annotations

from typing import Final, get_args

from pydantic import BaseModel

from remit.core import Code, Decision, ModelCode
from remit.policy.authzen import ActionSearch, Evaluation, Evaluations, ResourceSearch, SubjectSearch
from remit.server.handlers import approvals, authzen, calls, decisions, events, holds, operation, policy, runs
from remit.server.hooks import HookEvent, claude_code, codex
from remit.server.http.answers import HttpCode
from remit.server.http.route import EVERY_RUN, Handler, Method, Route
from remit.server.mcp import http as mcp

_RUN: Final = "run:own/AGENT or run:other/AGENT"
_DECIDED: Final[tuple[Code | HttpCode, ...]] = (
    "unknown_action",
    "invalid_arguments",
    "content_blocked",
    "denial_loop",
    "budget_exhausted",
    "held",
    "not_found",
)
_ANSWERED: Final[tuple[Code | HttpCode, ...]] = ("approval_invalid", "approval_expired", "approval_rejected")


def _authzen(name: str, summary: str, handler: Handler, body: type[BaseModel], answer: object) -> Route:
    """A route of AuthZEN 1.0: the account must be an enforcement point, and answers have the form of the specification."""
    return Route(
        method="POST",
        path=f"/access/v1/{name}",
        summary=f"AuthZEN: {summary}. Only enforcement points of remit.toml may ask.",
        handler=handler,
        body=body,
        wrong_type="invalid_request",
        answer=answer,
        raw=True,
        codes=("unrecorded",),
    )


def _hook(client: str, handler: Handler) -> Route:
    """A route for the hooks of a coding agent, whose events and answers have the formats of that coding agent."""
    return Route(
        method="POST",
        path=f"/hooks/{client}",
        summary=f"An event of a session of {client}: its hook asks, and its answer says whether a call may run.",
        handler=handler,
        body=HookEvent,
        answer=dict[str, object],
        raw=True,
        act="remit.run",
        resource=f"agent:{client}",
        codes=(*_DECIDED, "policy_denied", "unrecorded", "sandbox_unavailable", "conflict", "diverged"),
    )


def _mcp(method: Method, path: str, summary: str) -> Route:
    """A route of MCP clients: the bodies and answers of streamable HTTP, which the MCP library reads and writes."""
    return Route(
        method=method,
        path=path,
        summary=f"MCP: {summary}",
        handler=mcp.serve,
        answer=dict[str, object],
        raw=True,
        rpc=True,
        streams=True,
        statuses=(202, 406),
        act="remit.run",
        resource="agent:NAME",
        codes=("not_found", "too_large", "unsupported_media_type", "too_many", "conflict"),
        challenge=mcp.challenge,
    )


def _metadata(below: str) -> Route:
    return Route(
        method="GET",
        path=f"{mcp.METADATA}{below}",
        summary="OAuth 2.0 Protected Resource Metadata (RFC 9728): who gives tokens for an address of MCP.",
        public=mcp.metadata,
        answer=dict[str, object],
        raw=True,
    )


# The routes that are asked most often come first: Starlette tries them in order.
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/v1/decisions",
        summary="Decide one call of an agent. Nothing runs and nothing is recorded.",
        handler=decisions.decide,
        body=decisions.AskedCall,
        answer=Decision,
        act="remit.run",
        resource="agent:NAME",
        codes=(
            "unknown_action",
            "invalid_arguments",
            "content_blocked",
            "denial_loop",
            "budget_exhausted",
            "held",
            "not_found",
        ),
    ),
    _authzen("evaluation", "decide one question", authzen.evaluate, Evaluation, authzen.Decided),
    _authzen(
        "evaluations",
        "decide several questions",
        authzen.evaluate_each,
        Evaluations,
        authzen.DecidedEach | authzen.Decided,
    ),
    _authzen("search/subject", "which subjects may do this", authzen.find, SubjectSearch, authzen.FoundPage),
    _authzen(
        "search/resource", "on which resources the subject may do this", authzen.find, ResourceSearch, authzen.FoundPage
    ),
    _authzen("search/action", "what the subject may do on the resource", authzen.find, ActionSearch, authzen.FoundPage),
    Route(
        method="GET",
        path="/.well-known/authzen-configuration",
        summary="AuthZEN: the addresses of the decision point.",
        public=authzen.describe,
        answer=dict[str, str],
        raw=True,
    ),
    _hook("claude-code", claude_code),
    _hook("codex", codex),
    Route(
        method="POST",
        path="/v1/calls",
        summary="Make one call as an agent: it is decided, confined and recorded.",
        handler=calls.call,
        body=calls.NewCall,
        answer=calls.CallAnswer,
        statuses=(202,),
        raw=True,
        codes=(
            *get_args(ModelCode),
            "conflict",
            "too_many",
            "sandbox_unavailable",
            "unrecorded",
            "not_found",
            "still_running",
        ),
        act="remit.run",
        resource="agent:NAME",
        idempotent=True,
    ),
    Route(
        method="POST",
        path="/v1/runs",
        summary="Start a run of an agent. It goes on when the request has been answered.",
        handler=runs.start,
        body=runs.NewRun,
        answer=runs.RunView,
        status=202,
        statuses=(200,),
        act="remit.run",
        resource="agent:NAME",
        codes=("conflict", "too_many", "sandbox_unavailable", "unrecorded", "not_found"),
        idempotent=True,
    ),
    Route(
        method="GET",
        path="/v1/runs",
        summary="The runs that you may read, the latest first, in pages.",
        handler=runs.listed,
        query=runs.RunsQuery,
        answer=runs.RunList,
    ),
    Route(
        method="GET",
        path="/v1/runs/{run}",
        summary="One run: its state, and its answer.",
        handler=runs.show,
        answer=runs.RunView,
        act="remit.read",
        resource=_RUN,
    ),
    Route(
        method="GET",
        path="/v1/runs/{run}/events",
        summary="The events of a run: a page, or with `Accept: text/event-stream` a stream that goes on while the run does.",
        handler=events.events,
        query=events.EventsQuery,
        answer=events.EventsPage,
        act="remit.read",
        resource=_RUN,
        codes=("too_many",),
        streams=True,
    ),
    Route(
        method="POST",
        path="/v1/runs/{run}/resume",
        summary="Resume a run where its last process stopped.",
        handler=runs.resume,
        body=runs.Resumed,
        answer=runs.RunView,
        status=202,
        statuses=(200,),
        act="remit.resume",
        resource=_RUN,
        codes=("conflict", "too_many", "sandbox_unavailable"),
    ),
    Route(
        method="GET",
        path="/v1/approvals",
        summary="The open requests for approval that you may answer or read, the oldest first, in pages.",
        handler=approvals.listed,
        query=approvals.ApprovalsQuery,
        answer=approvals.ApprovalList,
    ),
    Route(
        method="GET",
        path="/v1/approvals/{run}/{call}",
        summary="One request for approval: exactly the call that would run.",
        handler=approvals.show,
        answer=calls.ApprovalView,
        act="remit.approve",
        resource=_RUN,
    ),
    Route(
        method="POST",
        path="/v1/approvals/{run}/{call}/grant",
        summary="Approve the call.",
        handler=approvals.grant,
        body=approvals.Grant,
        answer=approvals.GrantView,
        act="remit.approve",
        resource=_RUN,
        codes=_ANSWERED,
    ),
    Route(
        method="POST",
        path="/v1/approvals/{run}/{call}/reject",
        summary="Reject the call. The model reads the reason.",
        handler=approvals.reject,
        body=approvals.Rejection,
        answer=approvals.RejectionView,
        act="remit.approve",
        resource=_RUN,
        codes=_ANSWERED,
    ),
    Route(
        method="GET",
        path="/v1/holds",
        summary="The holds in force, in pages.",
        handler=holds.listed,
        query=holds.HoldsQuery,
        answer=holds.HoldList,
    ),
    Route(
        method="POST",
        path="/v1/holds",
        summary="Hold a run, an agent, a tool, or everything: running calls end, and no new call starts.",
        handler=holds.hold,
        body=holds.NewHold,
        answer=holds.HoldView,
        act="remit.hold",
        resource="the scope",
        codes=("not_found", "approval_required"),
    ),
    Route(
        method="DELETE",
        path="/v1/holds/{scope}",
        summary="Lift a hold.",
        handler=holds.lift,
        answer=holds.LiftedHold,
        act="remit.hold",
        resource="the scope",
        codes=("approval_required",),
    ),
    Route(
        method="POST",
        path="/v1/policy/explain",
        summary="Decide one call as /v1/decisions does, and say what each rule contributes.",
        handler=policy.explain,
        body=decisions.AskedCall,
        answer=policy.ExplanationView,
        act="remit.read",
        resource="run:other/AGENT",
        codes=_DECIDED,
    ),
    Route(
        method="POST",
        path="/v1/policy/who",
        summary="Who may make a call: always, under which conditions, or with whose approval.",
        handler=policy.who,
        body=policy.AskedHolders,
        answer=policy.HolderList,
        act="remit.read",
        resource=EVERY_RUN,
        codes=("not_found", "conflict"),
    ),
    Route(
        method="POST",
        path="/v1/policy/can",
        summary="What a subject may do and may not do.",
        handler=policy.can,
        body=policy.AskedSubject,
        answer=policy.PermissionList,
        act="remit.read",
        resource=EVERY_RUN,
        codes=("not_found", "conflict"),
    ),
    *(
        route
        for path, which in (("/mcp/{agent}", ""), ("/mcp/{agent}/{run}", ", in the conversation of that name"))
        for route in (
            _mcp("POST", path, f"list and call the tools of an agent{which}."),
            _mcp("GET", path, "what the service sends to a client, as a stream."),
            _mcp("DELETE", path, "end a session."),
            _metadata(path),
        )
    ),
    _metadata(""),
    Route(
        method="POST",
        path="/v1/login-links",
        summary="A link with which an account of this machine logs in with a browser. Only over the socket in the workspace.",
        handler=operation.login_link,
        body=operation.NoFields,
        answer=operation.LoginLink,
    ),
    Route(
        method="GET",
        path="/metrics",
        summary="The state of the workspace as metrics, in the text format of Prometheus.",
        handler=operation.metrics,
        answer=str,
        media=operation.PROMETHEUS,
        raw=True,
        act="remit.read",
        resource=EVERY_RUN,
    ),
    Route(
        method="GET",
        path="/healthz",
        summary="Whether the service answers requests.",
        public=operation.health,
        answer=operation.Health,
    ),
    Route(
        method="GET",
        path="/openapi.json",
        summary="This document.",
        public=operation.document,
        answer=dict[str, object],
        raw=True,
    ),
)
