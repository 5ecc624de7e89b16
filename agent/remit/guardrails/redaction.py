"""Replaces secrets by placeholders before a text is recorded or shown.

A placeholder is keyed by the run: equal secrets have equal placeholders within a run and different ones across runs. A trace
therefore shows that two values are the same without showing either. Redacting a text twice changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections import deque
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final, cast

from remit.core import Json
from remit.core.parsing import map_texts, texts_of
from remit.guardrails.encodings import SHORTEST_SECRET, Found, KnownSecret, Reading
from remit.guardrails.remembered import Remembered
from remit.guardrails.secret_formats import WORD, formats

REMEMBERED: Final = 2 << 20  # characters of texts whose redacted form is cached
SHORT: Final = 64  # characters: names of members, codes and actions are the same in every run
LONGEST_TEXT: Final = 16 << 20  # characters; a longer text is withheld, because scanning it takes too long

_KEY: Final = re.compile(WORD + "$")


class Redactor:
    """Replaces known secrets, and texts that look like a secret, by `[redacted:<8 hex>]`. `off` names unused patterns."""

    def __init__(self, run: str, secrets: Iterable[str] = (), *, off: Collection[str] = ()) -> None:
        self._key = run.encode()
        self._words: frozenset[str] = frozenset()
        self._known: tuple[KnownSecret, ...] = ()
        self.learn(secrets)
        self._off = frozenset(off)
        # The same text is redacted for the model, the journal, the trace and the log, and names of members many times.
        self._patterns: Final = Remembered(self._patterned, most=REMEMBERED)

    def learn(self, secrets: Iterable[str]) -> None:
        """Replace these secrets too, from now on."""
        # The password of a `name:password` is also a secret on its own.
        words = {word for value in secrets for word in (value, value.partition(":")[2]) if len(word) >= SHORTEST_SECRET}
        if not words <= self._words:
            self._words |= words
            self._known = tuple(KnownSecret(word) for word in sorted(self._words, key=len, reverse=True))

    def text(self, text: str) -> str:
        """The text with every secret replaced; a text longer than `LONGEST_TEXT` is replaced as a whole."""
        if len(text) > LONGEST_TEXT:
            return f"[withheld: {len(text)} characters; only texts of up to {LONGEST_TEXT} are scanned for secrets]"
        return self._patterns(self.known(text))

    def known(self, text: str) -> str:
        """The text with known secrets replaced only: a signature looks like a secret, and must stay as it is."""
        return self._replaced(text, self._spans(text)) if self._known else text

    def json_text(self, text: str) -> str:
        """JSON text with every secret replaced, however it is escaped; a text without a secret is returned unchanged."""
        if len(text) > LONGEST_TEXT:
            return self.text(text)
        try:
            value = json.loads(text)
            clean = self.json(value)
        except (ValueError, RecursionError):
            return self.text(text)
        if clean == value and self.known(text) == text:
            return text
        return json.dumps(clean, ensure_ascii=False, separators=(",", ":"))

    def json(self, value: Json) -> Json:
        """The value with every secret in its strings and keys replaced, also a secret that several strings share."""
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
        """Replace known secrets that are split over the strings of a value, for example over chunks or lines.

        One pass over the strings and the sorted matches, so the time is linear in both.
        """
        joined = Reading("".join(texts_of(value, keys=keys)))
        found = [match for known in self._known for match in known.find(joined)]
        if not found:
            return value
        ahead = deque(sorted(found, key=lambda match: match.start))
        reached: list[Found] = []  # matches that begin in an earlier string and may continue in the next one
        at = 0

        def replaced(text: str) -> str:
            nonlocal at, reached
            start, end = at, at + len(text)
            at = end
            while ahead and ahead[0].start < end:
                reached.append(ahead.popleft())
            own = [
                Found(max(match.start, start) - start, min(match.end, end) - start, match.secret) for match in reached
            ]
            reached = [match for match in reached if match.end > end]
            return self._replaced(text, [match for match in own if match.start < match.end])

        return map_texts(value, replaced, keys=keys)

    def _spans(self, text: str) -> list[Found]:
        reading = Reading(text)
        return [match for known in self._known for match in (*known.find(reading), *known.edges(text))]

    def _replaced(self, text: str, found: Iterable[Found]) -> str:
        return replace_spans(text, ((match.start, match.end, self._placeholder(match.secret)) for match in found))

    def _patterned(self, text: str) -> str:
        if len(text) <= SHORT and _has_no_format(text):
            return text
        for name, finders in formats().items():
            if name not in self._off:
                for find in finders:
                    if found := find(text):
                        text = replace_spans(
                            text, ((start, end, self._placeholder(text[start:end])) for start, end in found)
                        )
        return text

    def _placeholder(self, secret: str) -> str:
        # Keyed, so that nobody can test guesses of a secret against the placeholders of other runs.
        tag = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"[redacted:{tag[:8]}]"


def replace_spans(text: str, pieces: Iterable[tuple[int, int, str]]) -> str:
    """The text with each piece (start, end, replacement) replaced; of overlapping pieces the first one wins."""
    parts: list[str] = []
    at = 0
    for start, end, instead in sorted(pieces, key=lambda piece: (piece[0], -piece[1])):
        if start >= at:
            parts += [text[at:start], instead]
        at = max(at, end)
    return "".join([*parts, text[at:]])


@lru_cache(maxsize=4096)
def _has_no_format(text: str) -> bool:
    """True if nothing in the text looks like a secret, by any format."""
    return not any(finder.begins(text) for finders in formats().values() for finder in finders)


def secrets_of_environment(named: Collection[str]) -> list[str]:
    """The values of the environment variables that are `named`, or whose names suggest a secret."""
    return [value for name, value in os.environ.items() if name in named or is_secret_name(name)]


def is_secret_name(key: object) -> bool:
    """True if the name of a member suggests a secret: `password`, `api_key`, `accessToken`."""
    return isinstance(key, str) and _KEY.search(key) is not None
