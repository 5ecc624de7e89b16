"""The message about a subject: one sentence, and a link or a command. It has no arguments and no content."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from remit.core import Json
from remit.core.events import NANO
from remit.core.parsing import digest
from remit.notifications.subjects import Subject
from remit.workspace import Channel

_TYPES: Final = {
    "approval": "approval.waiting",
    "lost": "run.lost",
    "in-doubt": "effect.in_doubt",
    "hold": "hold.set",
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent. `id` is the same in every attempt, so that a receiver drops what comes twice. `link` is "" without a page."""

    id: str
    text: str
    link: str
    body: dict[str, Json]

    @property
    def line(self) -> str:
        """The text for people, with what to open or to run."""
        return f"{self.text} {self.link}" if self.link else self.text


def message_of(subject: Subject, channel: Channel) -> Message:
    """The message about the subject to that channel."""
    link = f"{channel.service}/{subject.path}" if channel.service and subject.path else ""
    text = subject.text if link else f"{subject.text} To see it: {subject.command}"
    data: dict[str, Json] = {"text": text, "agent": subject.agent, "run": subject.run, "link": link}
    at = datetime.fromtimestamp(subject.at / NANO, UTC).isoformat(timespec="milliseconds")
    named = digest([channel.name, subject.id, str(subject.at)]).removeprefix("sha256:")
    return Message(
        id=f"msg_{named[:32]}",
        text=text,
        link=link,
        body={"type": _TYPES[subject.kind], "timestamp": at, "data": data},
    )
