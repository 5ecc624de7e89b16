"""Decisions about calls that nobody makes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from remit.core import FrozenModel, Json
from remit.server.http.answers import answered
from remit.server.http.route import Asked

AgentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$", description="The name of the agent")]
ActionName = Annotated[str, Field(min_length=1, max_length=200, description="The action: files.read")]
UserName = Annotated[
    str | None,
    Field(
        pattern=r"^(user:)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$",
        description="Another user to act for, if the rules allow it: remit.impersonate",
    ),
]


class AskedCall(FrozenModel):
    """One call of an agent, which is only decided."""

    agent: AgentName
    action: ActionName
    arguments: dict[str, Json]
    user: UserName = None


async def decide(asked: Asked) -> Response:
    body: AskedCall = asked.body
    asked.authorize_agent(body.agent)
    return answered(await asked.client.decide(body.action, body.arguments, agent=body.agent, user=body.user))
