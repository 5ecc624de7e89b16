"""Secrets become placeholders before anything is recorded or told.

A placeholder is keyed by the run: equal secrets give equal placeholders within a run and different ones across runs, so a
trace shows that two values were the same without showing either. Cleaning what is already clean changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final, cast

from remit.core import Json
from remit.core.parsing import each_text, texts_of
from remit.guardrails.encodings import SHORTEST_SECRET, Found, KnownSecret, Reading
from remit.guardrails.remembered import Remembered
from remit.guardrails.secret_formats import WORD, formats

REMEMBERED: Final = 2 << 20  # characters of texts whose cleaned form is kept
LONGEST_TEXT: Final = (
    16 << 20
)  # characters of one text; none of a longer one is shown, because looking through it takes too long

_KEY: Final = re.compile(WORD + "$")


class Redactor:
    """Replaces the known secrets, and what looks like one, by `[redacted:<8 hex>]`. `off` names patterns that are not used."""

    def __init__(self, run: str, secrets: Iterable[str] = (), *, off: Collection[str] = ()) -> None:
        self._key = run.encode()
        given = list(secrets)
        # Of a `name:password`, the password alone too.
        known = {word for one in given for word in (one, one.partition(":")[2]) if len(word) >= SHORTEST_SECRET}
        self._known = tuple(KnownSecret(secret) for secret in sorted(known, key=len, reverse=True))
        self._off = frozenset(off)
        # One text is cleaned for the model, the journal, the trace and the log, and names of members again and again.
        self._patterns: Final = Remembered(self._patterned, most=REMEMBERED)

    def text(self, text: str) -> str:
        """The text with every secret replaced; a text beyond `LONGEST_TEXT` is withheld whole."""
        if len(text) > LONGEST_TEXT:
            return f"[withheld: {len(text)} characters, and a text of more than {LONGEST_TEXT} is not looked through for secrets]"
        return self._patterns(self._replaced(text, self._spans(text)))

    def json_text(self, text: str) -> str:
        """JSON text with every secret in it replaced, however it is escaped; text without one stays to the letter."""
        if len(text) > LONGEST_TEXT:
            return self.text(text)
        try:
            value = json.loads(text)
            clean = self.json(value)
        except (ValueError, RecursionError):
            return self.text(text)
        if clean == value and self._replaced(text, self._spans(text)) == text:
            return text
        return json.dumps(clean, ensure_ascii=False, separators=(",", ":"))

    def json(self, value: Json) -> Json:
        """The value with every secret in its strings and keys replaced, also one that is spread over several strings."""
        if self._known:
            value = self._spread(self._spread(value, keys=True), keys=False)
        return self._each(value)

    def _each(self, value: Json, *, secret: bool = False) -> Json:
        if isinstance(value, str):
            hide = (
                secret and "keyword" not in self._off and len(value) >= SHORTEST_SECRET and any(map(str.isdigit, value))
            )
            return self._placeholder(value) if hide and not value.startswith("[redacted:") else self.text(value)
        if isinstance(value, dict):
            members = cast("dict[str, Json]", value)
            return {self.text(str(key)): self._each(item, secret=is_secret_name(key)) for key, item in members.items()}
        if isinstance(value, list | tuple):
            return [self._each(item, secret=secret) for item in cast("list[object]", value)]
        return value

    def _spread(self, value: Json, *, keys: bool) -> Json:
        """Replace known secrets that run over the strings of a value, as chunks and lines make them."""
        joined = Reading("".join(texts_of(value, keys=keys)))
        found = [one for known in self._known for one in known.find(joined)]
        if not found:
            return value
        ahead = deque(sorted(found, key=lambda one: one.start))
        reached: list[Found] = []  # those that a text began, and that may go on in the next
        at = 0

        def replaced(text: str) -> str:
            nonlocal at, reached
            start, end = at, at + len(text)
            at = end
            while ahead and ahead[0].start < end:
                reached.append(ahead.popleft())
            own = [Found(max(one.start, start) - start, min(one.end, end) - start, one.secret) for one in reached]
            reached = [one for one in reached if one.end > end]
            return self._replaced(text, [one for one in own if one.start < one.end])

        return each_text(value, replaced, keys=keys)

    def _spans(self, text: str) -> list[Found]:
        reading = Reading(text)
        return [one for known in self._known for one in (*known.find(reading), *known.edges(text))]

    def _replaced(self, text: str, found: Iterable[Found]) -> str:
        return replace_spans(text, ((one.start, one.end, self._placeholder(one.secret)) for one in found))

    def _patterned(self, text: str) -> str:
        for name, finders in formats().items():
            if name not in self._off:
                for find in finders:
                    if found := find(text):
                        text = replace_spans(
                            text, ((start, end, self._placeholder(text[start:end])) for start, end in found)
                        )
        return text

    def _placeholder(self, secret: str) -> str:
        named = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"[redacted:{named[:8]}]"


def replace_spans(text: str, pieces: Iterable[tuple[int, int, str]]) -> str:
    """The text with each piece (start, end, what stands there instead) replaced; of those that overlap, the first."""
    parts: list[str] = []
    at = 0
    for start, end, instead in sorted(pieces, key=lambda piece: (piece[0], -piece[1])):
        if start >= at:
            parts += [text[at:start], instead]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def is_secret_name(key: object) -> bool:
    """Whether a member is called as secrets are: `password`, `api_key`, `accessToken`."""
    return isinstance(key, str) and _KEY.search(key) is not None
