"""A receiver of webhooks on loopback, which checks signatures with code of its own, and a journal with calls that wait."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from remit.core.events import AnyEvent
from remit.guardrails import Secrets
from remit.journal import WORKSPACE_RUN, Journal, StoredRecord
from remit.notifications import Notifier
from remit.workspace import Channel
from support.events import RUN, decided, requested, started
from support.http_servers import ReceivedRequest, Response, Server

KEY: Final = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER_KEY: Final = "whsec_" + base64.b64encode(b"o" * 32).decode()
CANARY: Final = "SECRETPLAN"


class Receiver(Server):
    """Answers with the status codes of `answers` in turn, and 200 once they are used up."""

    def __init__(self, *answers: int | Response) -> None:
        self._left = list(answers)
        super().__init__(self._next)

    def _next(self, _: ReceivedRequest) -> Response:
        answer = self._left.pop(0) if self._left else 200
        return answer if isinstance(answer, Response) else Response(status=answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.requests]


def is_signed(request: ReceivedRequest, key: str = KEY) -> bool:
    """True if the request has a signature under that key, computed as the specification says."""
    signed = b".".join(
        (request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), request.body)
    )
    made = hmac.new(base64.b64decode(key.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}" in request.headers["webhook-signature"].split(" ")


@contextmanager
def receiving(*answers: int | Response) -> Iterator[Receiver]:
    """A receiver, until the end of the block."""
    with Receiver(*answers) as receiver:
        yield receiver


def waiting(journal: Journal, run: str = RUN, *, index: int = 0, **changes: Any) -> None:
    """A run of `agent:triage` with a call that waits for role:lead; its task and its arguments have the canary."""
    record = StoredRecord(journal, run)
    if index == 0:
        record.append(started(task=f"find the {CANARY}", **changes))
    record.append(decided(0, index, "ask", action="service.restart", effect="once", arguments={"name": CANARY}))
    record.append(requested(0, index).model_copy(update={"summary": f"service.restart {CANARY}"}))


def notifier(journal: Journal, *channels: Channel, root: Path | None = None) -> Notifier:
    """The notifications of these channels; the secret `hook` is in the environment."""
    return Notifier(journal, channels, Secrets(root or Path("/nowhere")))


def channel(receiver: Receiver, name: str = "oncall", **changes: Any) -> Channel:
    """A channel with the webhook of the receiver."""
    made = Channel(name=name, webhook=receiver.url, secret="hook", service="https://remit.example.com")
    return made.model_copy(update=changes)


def noted(journal: Journal, *kinds: type[AnyEvent]) -> list[AnyEvent]:
    """The events of notifications in the stream of the workspace, of those kinds."""
    found = [item.event for item in journal.events(WORKSPACE_RUN)]
    return [event for event in found if event is not None and isinstance(event, kinds)]
