"""What others wrote, before anyone reads it: cleaned of secrets, of what may not pass, and of what a reader would not see."""

from __future__ import annotations

import re

from remit.core import Json, ProposedCall
from remit.core.parsing import each_text
from remit.guardrails.content_rules import Content, Where
from remit.guardrails.redaction import Redactor

# C0 and C1 controls except tab and newline, line ends that are none, and the bidirectional and invisible characters that hide
# text from a reader (Unicode TR 36 section 2.6): tags are U+E0000 to U+E007F, and each of the variation selectors from U+E0100
# on can carry a byte.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """The text with every hidden character written out as `\\u{…}`."""
    return HIDDEN.sub(lambda match: f"\\u{{{ord(match.group()):x}}}", text)


def valid(text: str) -> str:
    """The text without what is no Unicode, as half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


class Sanitizer:
    """One guard before model, journal, trace, log and terminal: known secrets and what looks like one, the reviewer's rules
    on content, and whatever a reader would not see."""

    def __init__(self, redactor: Redactor, content: Content | None = None) -> None:
        self._redactor = redactor
        self._content = content or Content()

    def text(self, text: str, *, where: Where = "result", action: str = "") -> str:
        """Text that someone else wrote, fit to be read: valid Unicode, nothing hidden, no secret, nothing to be replaced."""
        shown = self._redactor.text(visible(valid(text)))
        return self._content.redact(shown, where, action)

    def answer(self, text: str) -> str:
        """What a model said to people, as they may read it; nothing of it where a rule blocks some of it."""
        note = self.blocked(text, "answer")
        return self.text(text, where="answer") if note is None else f"[withheld: {note}]"

    def json(self, value: Json, *, action: str = "") -> Json:
        """A tool's value, every string of it fit to be read."""
        seen = each_text(value, lambda text: visible(valid(text)))
        clean = self._redactor.json(seen)
        return each_text(clean, lambda text: self._content.redact(text, "result", action))

    def blocked(self, value: Json, where: Where, action: str = "") -> str | None:
        """Why none of the value may pass, in the reviewer's words; None where it may."""
        return self._content.blocked(value, where, action)

    def arguments(self, value: Json) -> Json:
        """Arguments as they are recorded: exact but for secrets."""
        return self._redactor.json(value)

    def ask(self, ask: ProposedCall) -> ProposedCall:
        """What the model asked, as it is recorded."""
        arguments = None if ask.arguments is None else self._redactor.json_text(valid(ask.arguments))
        parsed = None if ask.parsed is None else self._redactor.json(each_text(ask.parsed, valid))
        changed = (arguments, parsed) != (ask.arguments, ask.parsed)
        return ask.model_copy(
            update={
                "name": self.text(ask.name)[:128],
                "arguments": arguments,
                "parsed": parsed,
                "redacted": ask.redacted or changed,
            }
        )


class AlreadySanitized(Sanitizer):
    """The guard of a replay: what is recorded was cleaned by the guard of its day, and stays as it is."""

    def __init__(self, content: Content) -> None:
        super().__init__(Redactor(""), content)

    def text(self, text: str, *, where: Where = "result", action: str = "") -> str:
        return text

    def answer(self, text: str) -> str:
        return text

    def json(self, value: Json, *, action: str = "") -> Json:
        return value

    def arguments(self, value: Json) -> Json:
        return value

    def ask(self, ask: ProposedCall) -> ProposedCall:
        return ask
