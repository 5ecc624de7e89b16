"""The protocol of authentication."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request

from remit.core import Principal, RemitError


class NotAuthenticated(RemitError):
    """The request does not prove who sends it. The answer is 401, without the reason."""


class Authenticator(Protocol):
    """Says who sends a request."""

    async def principal(self, request: Request) -> Principal:
        """The principal who sends the request; its tenant chooses the workspace.

        Raises:
            NotAuthenticated: the request does not prove who sends it.
        """
        ...
