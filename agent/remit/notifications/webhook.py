"""A signed webhook, as Standard Webhooks 1.0 defines it (https://www.standardwebhooks.com).

The receiver computes the signature again, refuses an old timestamp, and drops an id that it knows.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from remit.notifications.messages import Message
from remit.notifications.sending import NotSent
from remit.outgoing import FAILURES, Bounds, Response, open_client

ANSWER_S: Final = 15.0  # seconds for the whole request
CONNECT_S: Final = 5.0
LONGEST_WISH_S: Final = 3600.0  # of a receiver, how long to wait
_PREFIX: Final = "whsec_"
_BOUNDS: Final = Bounds(connect=CONNECT_S, silence=ANSWER_S)
_KEY_BYTES: Final = range(24, 65)
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


class WebhookSender:
    """Sends signed requests to one address. `secret` gives the value of the secret now: it may be changed while a service runs.

    Several keys, separated by a space, sign each request: so a key is replaced without a gap.
    """

    def __init__(self, url: str, secret: Callable[[], str], *, clock: Callable[[], float] = time.time) -> None:
        self._url, self._secret, self._clock = url, secret, clock

    async def send(self, message: Message) -> None:
        """Send it. Raises NotSent unless the receiver answers 2xx in time. No redirect is followed, and no answer's body is read."""
        content = json.dumps(message.body, separators=(",", ":"), ensure_ascii=True).encode()
        sent_at = int(self._clock())
        headers = {
            "content-type": "application/json",
            "user-agent": "remit",
            "webhook-id": message.id,
            "webhook-timestamp": str(sent_at),
            "webhook-signature": " ".join(
                signature(key, message.id, sent_at, content) for key in self._secret().split()
            ),
        }
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                open_client(_BOUNDS) as client,
                client.stream("POST", self._url, content=content, headers=headers) as answer,
            ):
                _check(answer, self._clock())
        except TimeoutError as failure:
            raise NotSent(f"the receiver did not answer in {ANSWER_S:g} s") from failure
        except FAILURES as failure:
            raise NotSent(f"the receiver cannot be reached: {type(failure).__name__}") from failure


def signature(key: str, id: str, sent_at: int, content: bytes) -> str:
    """The signature of a request under a key, "whsec_" and base64: `v1,` and the base64 of an HMAC-SHA-256.

    Raises:
        NotSent: the key is none.
    """
    try:
        data = base64.b64decode(key.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not key.startswith(_PREFIX) or len(data) not in _KEY_BYTES:
        raise NotSent('the secret of the webhook is no key: it must be "whsec_" and the base64 of 24 to 64 bytes')
    signed = f"{id}.{sent_at}.".encode() + content
    return f"v1,{base64.b64encode(hmac.new(data, signed, hashlib.sha256).digest()).decode()}"


def _check(answer: Response, now: float) -> None:
    status = answer.status_code
    if 200 <= status < 300:
        return
    if status == 410:  # Gone: the receiver wants no more of this
        raise NotSent("the receiver answered 410: it is gone", for_good=True)
    busy = status in (408, 425, 429) or status >= 500
    raise NotSent(
        f"the receiver answered {status}",
        after_s=_wish(answer.headers.get("retry-after", ""), now),
        of_message=not busy,
    )


def _wish(value: str, now: float) -> float:
    """The seconds that `Retry-After` asks for (RFC 9110, 10.2.3): a number or a date; 0 for anything else."""
    value = value.strip()[:64]
    if _SECONDS.fullmatch(value):
        return min(float(value), LONGEST_WISH_S)
    try:
        return min(max(parsedate_to_datetime(value).timestamp() - now, 0.0), LONGEST_WISH_S)
    except (ValueError, OverflowError):
        return 0.0
