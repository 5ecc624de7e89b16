"""What a tool returned, before anyone reads it: checked against its schema, cleaned of control characters and secrets."""

from __future__ import annotations

import re

from remit.call import Ask, Json
from remit.redact import Redactor, each_text

# C0 and C1 controls except tab and newline, and the bidirectional and invisible characters that hide text from a reader
# (Unicode TR 36 section 2.6; tags are U+E0000 to U+E007F).
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with every hidden character written out as `\\u{…}`."""
    return HIDDEN.sub(lambda match: f"\\u{{{ord(match.group()):x}}}", text)


class Guard:
    """One guard before model, journal, trace and terminal."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def text(self, text: str) -> str:
        """Text that someone else wrote, fit to be read: valid Unicode, nothing hidden, no secret."""
        return self._redactor.text(visible(text.encode("utf-8", "replace").decode()))

    def json(self, value: Json) -> Json:
        """A tool's value, every string of it fit to be read."""
        return each_text(value, self.text)

    def arguments(self, value: Json) -> Json:
        """Arguments as they are recorded: exact but for secrets."""
        return self._redactor.json(value)

    def ask(self, ask: Ask) -> Ask:
        """What the model asked, as it is recorded."""
        arguments = None if ask.arguments is None else self._redactor.json_text(ask.arguments)
        parsed = None if ask.parsed is None else self._redactor.json(ask.parsed)
        changed = (arguments, parsed) != (ask.arguments, ask.parsed)
        return ask.model_copy(
            update={
                "name": self.text(ask.name)[:128],
                "arguments": arguments,
                "parsed": parsed,
                "redacted": ask.redacted or changed,
            }
        )
