"""Sanitizes untrusted text: redacts secrets, applies content rules, and escapes invisible characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from remit.core import Json, ProposedCall
from remit.core.parsing import map_texts
from remit.guardrails.content_rules import Content, Where
from remit.guardrails.redaction import Redactor

# C0 and C1 controls except tab and newline, unusual line separators, and the bidirectional and invisible characters that hide
# text from a reader (Unicode TR 36 section 2.6). Tags are U+E0000 to U+E007F. Variation selectors from U+E0100 on can encode
# one byte each.
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def with_visible_characters(text: str) -> str:
    """The text with every hidden character escaped as `\\u{…}`."""
    return HIDDEN.sub(lambda match: f"\\u{{{ord(match.group()):x}}}", text)


def valid(text: str) -> str:
    """The text with everything that is not valid Unicode, such as half of a surrogate pair, replaced by `?`."""
    return text.encode("utf-8", "replace").decode()


class Sanitizer:
    """Makes untrusted text safe to read for models, journals, traces, logs and terminals.

    It redacts known secrets and texts that look like a secret, applies the content rules, and escapes hidden characters.
    """

    def __init__(self, redactor: Redactor, content: Content | None = None) -> None:
        self._redactor = redactor
        self._content = content or Content()

    def learn(self, secrets: Iterable[str]) -> None:
        """Redact these secrets too, from now on."""
        self._redactor.learn(secrets)

    def text(self, text: str, *, where: Where = "result", action: str = "") -> str:
        """Sanitize a text: valid Unicode, hidden characters escaped, secrets and matches of content rules replaced."""
        shown = self._redactor.text(with_visible_characters(valid(text)))
        return self._content.redact(shown, where, action)

    def answer(self, text: str) -> str:
        """Sanitize a model's answer to people; a blocked answer is replaced as a whole."""
        note = self.blocked(text, "answer")
        return self.text(text, where="answer") if note is None else f"[withheld: {note}]"

    def json(self, value: Json, *, action: str = "") -> Json:
        """Sanitize every string of a tool's value."""
        readable = map_texts(value, lambda text: with_visible_characters(valid(text)))
        redacted = self._redactor.json(readable)
        return map_texts(redacted, lambda text: self._content.redact(text, "result", action))

    def blocked(self, value: Json, where: Where, action: str = "") -> str | None:
        """The note of the rule that blocks the value; None if no rule does."""
        return self._content.blocked(value, where, action)

    def arguments(self, value: Json) -> Json:
        """Arguments as they are recorded: unchanged except for secrets."""
        return self._redactor.json(value)

    def without_known_secrets(self, text: str) -> str:
        """A text of a provider that is not changed otherwise: its state, which only it reads, its ids and its words for a fixed set."""
        return self._redactor.known(text)

    def proposed_call(self, proposed: ProposedCall) -> ProposedCall:
        """A proposed call as it is recorded; `redacted` is True if a secret was removed from its arguments."""
        arguments = None if proposed.arguments is None else self._redactor.json_text(valid(proposed.arguments))
        parsed = None if proposed.parsed is None else self._redactor.json(map_texts(proposed.parsed, valid))
        changed = (arguments, parsed) != (proposed.arguments, proposed.parsed)
        return proposed.model_copy(
            update={
                "name": self.text(proposed.name)[:128],
                "id": self.without_known_secrets(proposed.id),
                "arguments": arguments,
                "parsed": parsed,
                "redacted": proposed.redacted or changed,
            }
        )


class AlreadySanitized(Sanitizer):
    """The sanitizer of a replay: recorded texts were sanitized when they were recorded, so nothing is changed."""

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

    def without_known_secrets(self, text: str) -> str:
        return text

    def proposed_call(self, proposed: ProposedCall) -> ProposedCall:
        return proposed
