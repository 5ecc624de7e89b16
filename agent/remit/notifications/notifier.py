"""The loop that sends notifications: a component of `remit serve`, and the whole of `remit notify`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from remit.core import RemitError, UsageError
from remit.guardrails import Secrets
from remit.journal import Journal
from remit.notifications.chat import ChatSender
from remit.notifications.deliveries import ChannelDeliveries, Delivery
from remit.notifications.sending import NotSent, Sender
from remit.notifications.webhook import WebhookSender
from remit.workspace import Channel

IDLE_S: Final = 2.0  # how often a channel looks whether something is due
LONGEST_WAIT_S: Final = 30.0  # between two looks, while the journal cannot be read


class Notifier:
    """Sends notifications to the channels of a workspace. A channel that fails or is slow delays no other one."""

    def __init__(self, journal: Journal, channels: Sequence[Channel], secrets: Secrets) -> None:
        self._deliveries = [ChannelDeliveries(journal, channel, sender_of(channel, secrets)) for channel in channels]

    async def send_due(self) -> list[Delivery]:
        """Make every attempt that is due, and return them. Raises RunEnded if the journal cannot be read or written."""
        made = await asyncio.gather(*(channel.send_due() for channel in self._deliveries))
        return [delivery for of_channel in made for delivery in of_channel]

    async def watch(self, report: Callable[[Delivery | RemitError], None]) -> None:
        """Send what comes up, until it is cancelled. `report` gets each attempt, and each failure of the journal."""
        async with asyncio.TaskGroup() as group:
            for channel in self._deliveries:
                group.create_task(_watch(channel, report))


async def _watch(channel: ChannelDeliveries, report: Callable[[Delivery | RemitError], None]) -> None:
    wait = IDLE_S
    while True:
        try:
            for delivery in await channel.send_due():
                report(delivery)
            wait = IDLE_S
        except RemitError as failure:
            report(failure)
            wait = min(2 * wait, LONGEST_WAIT_S)
        await asyncio.sleep(wait)


def sender_of(channel: Channel, secrets: Secrets) -> Sender:
    """What sends to the channel. The secret is read for each message, so a new value needs no restart."""

    def secret() -> str:
        try:
            return secrets.values((channel.needs,))[channel.needs]
        except UsageError as failure:
            raise NotSent(str(failure)) from failure

    return WebhookSender(channel.webhook, secret) if channel.webhook else ChatSender(secret)
