"""Secrets become placeholders before anything is recorded or told.

A placeholder is keyed by the run: equal secrets give equal placeholders within a run and different ones across runs, so a
trace shows that two values were the same without showing either. Cleaning what is already clean changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, Final, cast

from remit.core import Json
from remit.core.parsing import each_text, texts_of
from remit.guardrails.encodings import SHORTEST_SECRET, Found, KnownSecret, Reading

_WORD: Final = r"(?i)\b\w{0,40}?(?:passw(?:or)?d|secret|token|api_?key|access_?key|credential)s?"

# What a leaked credential looks like, whoever issued it. Group 1, where there is one, is the secret itself.
OWN: Final = {
    "private_key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)-----END [A-Z ]*PRIVATE KEY-----",
    "aws": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github": r"\bgh[opsur]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    "model_key": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}\b",
    "slack": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "jwt": r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "bearer": r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{16,})",
    "url_password": r"""://[^/\s:@"\\]+:([^/\s:@"\\]{3,})@""",
    "npm": r"_authToken\s{0,3}=\s{0,3}([A-Za-z0-9_./+=-]{8,200})",
    # A word for a secret, and a value that is no word: it has a digit. Bounded, so that no text makes it slow.
    "keyword": _WORD + r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?=[^\s\"',;&]{0,200}?[0-9])([^\s\"',;&\[\]{}()]{8,400})",
}
REMEMBERED: Final = 512  # texts, and what came of each
LONGEST_REMEMBERED: Final = 8_192  # characters

_KEY: Final = re.compile(_WORD + "$")
# The detectors of detect-secrets that know a format. Left out: entropy, plain keywords, addresses, Artifactory's "AP…", which
# is any capital word; npm's, which a long line makes slow; and those whose one pattern OWN has, with more of the secret.
DETECTORS: Final = (
    "aws", "azure_storage_key", "discord", "github_token", "gitlab_token", "mailchimp", "openai", "private_key",
    "pypi_token", "sendgrid", "slack", "square_oauth", "stripe", "telegram_token", "twilio",
)  # fmt: skip


@cache
def patterns() -> dict[str, tuple[re.Pattern[str], ...]]:
    """Every pattern by the name that can turn it off: our own, then those of detect-secrets."""
    found: dict[str, tuple[re.Pattern[str], ...]] = {name: (re.compile(text),) for name, text in OWN.items()}
    for name in DETECTORS:
        # Loaded when something is first cleaned: it takes as long as all the rest of a command.
        module: Any = import_module(f"detect_secrets.plugins.{name}")
        members = cast("dict[str, Any]", vars(module)).values()
        kinds: list[Any] = [kind for kind in members if getattr(kind, "__module__", "") == module.__name__]
        more: tuple[re.Pattern[str], ...] = tuple(one for kind in kinds for one in getattr(kind, "denylist", ()))
        found[name] = (*found.get(name, ()), *more)
    return found


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
        self._remembered: Final = lru_cache(maxsize=REMEMBERED)(self._patterned)

    def text(self, text: str) -> str:
        """The text with every secret replaced."""
        return self._patterns(self._replaced(text, self._spans(text)))

    def json_text(self, text: str) -> str:
        """JSON text with every secret in it replaced, however it is escaped; text without one stays to the letter."""
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
            return {self.text(str(key)): self._each(item, secret=names_secret(key)) for key, item in members.items()}
        if isinstance(value, list | tuple):
            return [self._each(item, secret=secret) for item in cast("list[object]", value)]
        return value

    def _spread(self, value: Json, *, keys: bool) -> Json:
        """Replace known secrets that run over the strings of a value, as chunks and lines make them."""
        joined = Reading("".join(texts_of(value, keys=keys)))
        found = [one for known in self._known for one in known.find(joined)]
        if not found:
            return value
        at = 0

        def replaced(text: str) -> str:
            nonlocal at
            start, end = at, at + len(text)
            at = end
            own = [Found(max(one.start, start) - start, min(one.end, end) - start, one.secret) for one in found]
            return self._replaced(text, [one for one in own if one.start < one.end])

        return each_text(value, replaced, keys=keys)

    def _spans(self, text: str) -> list[Found]:
        reading = Reading(text)
        return [one for known in self._known for one in (*known.find(reading), *known.edges(text))]

    def _replaced(self, text: str, found: Iterable[Found]) -> str:
        return spliced(text, ((one.start, one.end, self._placeholder(one.secret)) for one in found))

    def _patterns(self, text: str) -> str:
        return self._remembered(text) if len(text) <= LONGEST_REMEMBERED else self._patterned(text)

    def _patterned(self, text: str) -> str:
        for name, kinds in patterns().items():
            if name not in self._off:
                for pattern in kinds:
                    text = pattern.sub(self._replace, text)
        return text

    def _replace(self, match: re.Match[str]) -> str:
        whole = match.group()
        # detect-secrets groups what it likes; only where all of a pattern is one group and more is the group the secret.
        group = 1 if match.re.groups == 1 and len(match.group(1) or "") >= 3 and match.re.pattern in _GROUPED else 0
        secret = match.group(group)
        if "[redacted:" in whole:
            return whole
        start, end = match.start(group) - match.start(), match.end(group) - match.start()
        return whole[:start] + self._placeholder(secret) + whole[end:]

    def _placeholder(self, secret: str) -> str:
        named = hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"[redacted:{named[:8]}]"


_GROUPED: Final = frozenset(OWN.values())


def spliced(text: str, pieces: Iterable[tuple[int, int, str]]) -> str:
    """The text with each piece (start, end, what stands there instead) replaced; of those that overlap, the first."""
    parts: list[str] = []
    at = 0
    for start, end, instead in sorted(pieces, key=lambda piece: (piece[0], -piece[1])):
        if start >= at:
            parts += [text[at:start], instead]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def names_secret(key: object) -> bool:
    """Whether a member is called as secrets are: `password`, `api_key`, `accessToken`."""
    return isinstance(key, str) and _KEY.search(key) is not None
