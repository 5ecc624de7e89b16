"""The questions with which a client asks its user about a call that waits: to confirm it in a form, and to open the page of its request.

INVARIANT: the answer to a form comes from the program of the model. It counts as `confirmed()`, and as no approval of a role.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult

from remit.core import CONFIRMATION
from remit.server.handlers.calls import ApprovalView

CONFIRM: Final = "confirmation"  # the name of the form
OPEN: Final = "approval"  # the name of the question to open the page
_MAKE: Final = "make_this_call"
_FORM: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {_MAKE: {"type": "boolean", "title": "Make this call", "default": False}},
    "required": [_MAKE],
}


def questions_about(
    view: ApprovalView, ctx: ServerRequestContext[Any, Any], page: str, *, unconfirmed: bool
) -> dict[str, ElicitRequest]:
    """The questions that the client can ask, by name. `page` is the address of the page, "" without one.

    `unconfirmed` is True if the rules ask the user to confirm the call, and the user has not yet.
    """
    given = ctx.session.client_capabilities
    can = None if given is None else given.elicitation
    if can is None:
        return {}
    found: dict[str, ElicitRequest] = {}
    if unconfirmed and (can.form is not None or can.url is None):  # without any mode it is a form, as in 2025-06-18
        form = ElicitRequestFormParams(message=f"Confirm this call: {view.summary}", requested_schema=dict(_FORM))
        found[CONFIRM] = ElicitRequest(params=form)
    roles = ", ".join(item.role for item in view.missing if item.role != CONFIRMATION)
    if roles and page and can.url is not None:
        message = f"waits for {roles}: {view.summary}"
        found[OPEN] = ElicitRequest(params=ElicitRequestURLParams(message=message, url=page, elicitation_id=view.id))
    return found


def is_agreed(reply: object) -> bool:
    """True if the user has opened the page."""
    return isinstance(reply, ElicitResult) and reply.action == "accept"


def is_confirmed(reply: object) -> bool:
    """True if the user has said in the form that the call is to be made."""
    return isinstance(reply, ElicitResult) and reply.action == "accept" and (reply.content or {}).get(_MAKE) is True


async def ask(ctx: ServerRequestContext[Any, Any], question: ElicitRequest, request: str) -> ElicitResult | None:
    """The answer of a client of the older protocol; None if it cannot be asked, although it has said so."""
    try:
        if isinstance(question.params, ElicitRequestURLParams):
            return await ctx.session.elicit_url(question.params.message, question.params.url, request, ctx.request_id)
        return await ctx.session.elicit_form(question.params.message, dict(_FORM), ctx.request_id)
    except MCPError:
        return None
