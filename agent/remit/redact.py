"""Secrets become placeholders before anything is recorded or told.

A placeholder is keyed by the run: equal secrets give equal placeholders within a run and different ones across runs, so a
trace shows that two values were the same without showing either. Cleaning what is already clean changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from remit.call import Json

SHORTEST_SECRET = 8  # shorter values would blank out ordinary words

# What a leaked credential looks like, whoever issued it. Group 1, where there is one, is the secret itself.
PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"\bgh[opsur]_[A-Za-z0-9]{36,}\b"),
    re.compile(r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}\b"),
    re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{16,})"),
    re.compile(r"""://[^/\s:@"\\]+:([^/\s:@"\\]{3,})@"""),
)


def spellings(secret: str) -> frozenset[str]:
    """The secret in every spelling that an answer may give it back in: JSON, percent-encoded, HTML, hex, base64.

    Of a `name:password`, the password alone too.
    """
    found: set[str] = set()
    password = secret.partition(":")[2]
    for word in (secret, password) if len(password) >= SHORTEST_SECRET else (secret,):
        data = word.encode()
        found |= {word, *(json.dumps(word, ensure_ascii=ascii)[1:-1] for ascii in (True, False)), html.escape(word)}
        found |= {json.dumps(word)[1:-1].replace("/", "\\/")}
        quoted = {urllib.parse.quote(word, safe=safe) for safe in ("", "/", ":", "/:@")} | {
            urllib.parse.quote_plus(word)
        }
        found |= quoted | {re.sub("%[0-9A-F]{2}", lambda one: one[0].lower(), text) for text in quoted}
        found |= {data.hex(), data.hex().upper()}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found |= set(_encoded(data, encode))
    return frozenset(text for text in found if len(text) >= SHORTEST_SECRET)


def _encoded(data: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """What base64 of any text around it holds of the secret: the part that its neighbours do not change, by alignment."""
    for before in range(3):
        text = encode(bytes(before) + data).decode().rstrip("=")
        whole = (before + len(data)) * 8 // 6  # characters that no byte after it changes
        yield text[-(-before * 8 // 6) : whole]


class Redactor:
    """Replaces the known secrets, and what looks like one, by `[redacted:<8 hex>]`."""

    def __init__(self, run: str, secrets: Iterable[str] = ()) -> None:
        self._key = run.encode()
        known = sorted({text for secret in secrets for text in spellings(secret)}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """The text with every secret replaced."""
        if self._known is not None:
            text = self._known.sub(lambda match: self._placeholder(match.group()), text)
        for pattern in PATTERNS:
            text = pattern.sub(self._replace, text)
        return text

    def json_text(self, text: str) -> str:
        """JSON text with every secret in it replaced, however it is escaped; text without one stays to the letter."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text)
        clean = self.json(value)
        return text if clean == value else json.dumps(clean, ensure_ascii=False, separators=(",", ":"))

    def json(self, value: Json) -> Json:
        """The value with every secret in its strings and keys replaced."""
        return each_text(value, self.text)

    def _replace(self, match: re.Match[str]) -> str:
        whole, group = match.group(), 1 if match.re.groups else 0
        if match.group(group).startswith("[redacted:"):
            return whole
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return whole[:start] + self._placeholder(match.group(group)) + whole[end:]

    def _placeholder(self, secret: str) -> str:
        return (
            f"[redacted:{hmac.new(self._key, secret.encode('utf-8', 'surrogatepass'), hashlib.sha256).hexdigest()[:8]}]"
        )


def each_text(value: Json, change: Callable[[str], str]) -> Json:
    """The value with `change` made to every string of it, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        members = cast("dict[str, Json]", value)
        return {change(str(key)): each_text(item, change) for key, item in members.items()}
    if isinstance(value, list | tuple):
        return [each_text(item, change) for item in cast("list[object]", value)]
    return value
