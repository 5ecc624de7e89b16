"""The services that apprise knows: chat, mail, push. The extra `remit[notify]` brings it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from remit.notifications.messages import Message
from remit.notifications.sending import NotSent

ANSWER_S: Final = 30.0  # seconds for one message
TITLE: Final = "Remit"
# INVARIANT: what apprise logs may hold an address with a token, so nothing of it is written anywhere.
_SILENT: Final = logging.CRITICAL + 1


class ChatSender:
    """Sends messages through apprise. `url` gives the value of the secret now: it may be changed while a service runs."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    async def send(self, message: Message) -> None:
        """Send it. Raises NotSent if the service did not take it.

        A thread sends. It ends after some seconds by itself: apprise has its own limits for connecting and reading.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                await asyncio.to_thread(_send, self._url(), message.line)
        except TimeoutError as failure:
            raise NotSent(f"the service did not answer in {ANSWER_S:g} s") from failure


def _send(url: str, text: str) -> None:
    apprise = _apprise()
    logging.getLogger("apprise").setLevel(_SILENT)
    # No redirect, no plug-in of a folder, nothing stored on disk: the token is for this service only.
    asset = apprise.AppriseAsset(http_redirects=False, plugin_paths=[], secure_logging=True, app_id=TITLE)
    channel = apprise.Apprise(asset=asset)
    if not channel.add(url):
        raise NotSent("the value of the secret is no URL of apprise: see https://github.com/caronc/apprise/wiki")
    try:
        taken = bool(channel.notify(body=text, title=TITLE, body_format="text"))
    except Exception as failure:
        raise NotSent(f"apprise failed: {type(failure).__name__}") from failure
    if not taken:
        raise NotSent("the service did not take it")


def _apprise() -> Any:
    try:
        return import_module("apprise")
    except ImportError:
        raise NotSent("the apprise package is not installed: run `pip install 'remit[notify]'`") from None
