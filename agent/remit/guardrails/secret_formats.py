"""Formats of credentials of many issuers, to find secrets that were not stored as one.

Each format is found in time linear in the text. A pattern repeats without bound only where nothing that follows can make the
engine backtrack, and it cannot begin inside of its own repetition. A format that no such pattern can express has a
hand-written finder. `tests/adversarial/test_growth.py` measures each on texts that are built to be slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final, TypeAlias, cast

Span: TypeAlias = tuple[int, int]
Search: TypeAlias = Callable[[str], list[Span]]  # the secrets of one format in a text, in order


@dataclass(frozen=True)
class Finder:
    """Finds the secrets of one format. `begins` is false for a text without one, and takes a part of the time of a search."""

    search: Search
    begins: Callable[[str], object]

    def __call__(self, text: str) -> list[Span]:
        return self.search(text)


WORD: Final = r"(?i)\b\w{0,40}?(?:passw(?:or)?d|secret|token|api_?key|access_?key|credential)s?"

# Group 1, if there is one, is the secret itself.
_PATTERNS: Final = {
    "aws": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github": r"\bgh[opsur]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    "model_key": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}\b",
    "remit_key": r"\bremit_[0-9a-f]{16}_[A-Za-z0-9_-]{43}",
    "slack": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "bearer": r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{16,})",
    "url_password": r"""://[^/\s:@"\\]+:([^/\s:@"\\]{3,})@""",
    "npm": r"_authToken\s{0,3}=\s{0,3}([A-Za-z0-9_./+=-]{8,200})",
    # A word for a secret, followed by a value with a digit: without a digit it is usually an ordinary word.
    "keyword": WORD + r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?=[^\s\"',;&]{0,200}?[0-9])([^\s\"',;&\[\]{}()]{8,400})",
}
# The detectors of detect-secrets that match a format. Left out: entropy, plain keywords and addresses (too many false matches);
# Artifactory's "AP…" (matches any capital word); npm's (slow on a long line); and those whose only pattern is covered above.
DETECTORS: Final = (
    "aws", "azure_storage_key", "discord", "github_token", "gitlab_token", "mailchimp", "openai", "private_key",
    "pypi_token", "sendgrid", "slack", "square_oauth", "stripe", "telegram_token", "twilio",
)  # fmt: skip

PIECE: Final = 128 << 10  # characters that are scanned at once
OVERLAP: Final = 16 << 10

_MORE = re.compile(r"[A-Za-z0-9._~+/=-]*+")
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
# The rest of a key without an end line: lines of base64, of which the last may be cut.
_KEY_REST = re.compile(r"(?:(?:\\[nr]|\s)*+[A-Za-z0-9+/]{16,}+={0,2})*+(?:(?:\\[nr]|\s)*+[A-Za-z0-9+/]{1,15}={0,2}\Z)?")
_PART = r"[A-Za-z0-9_-]"
_FIRST_PART = re.compile(rf"(?<!{_PART}){_PART}{{11,}}+(?=(\.{_PART}{{8,}}+\.{_PART}{{8,}}+))")
_TOKEN = re.compile(r"\beyJ(?=[A-Za-z0-9_-]{8})")
_RUN = re.compile(r"[A-Za-z0-9_-]{51,}+")
_OPENAI = re.compile(r"[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}")


def _private_keys(text: str) -> list[Span]:
    """Private keys from their first to their last line; without a last line, to the end of the base64 lines."""
    found: list[Span] = []
    ends = _KEY_ENDS.finditer(text)
    end = next(ends, None)
    at = 0
    for begins in _KEY_BEGINS.finditer(text):
        if begins.start() < at:
            continue
        while end is not None and end.start() < begins.end():
            end = next(ends, None)
        if end is not None:
            at = end.end()
        else:
            rest = _KEY_REST.match(text, begins.end())
            at = begins.end() if rest is None else rest.end()
        found.append((begins.start(), at))
    return found


def _jwts(text: str) -> list[Span]:
    """JSON Web Tokens: three base64 parts with dots between them, of which the first begins a JSON object."""
    found: list[Span] = []
    at = 0
    for first in _FIRST_PART.finditer(text):
        begins = _TOKEN.search(text, max(first.start(), at), first.end())
        if begins is not None:
            at = first.end(1)
            found.append((begins.start(), at))
    return found


def _openai(text: str) -> list[Span]:
    """OpenAI keys, which have a fixed mark in their middle. The pattern of detect-secrets is quadratic."""
    return [
        (run.start() + at, run.start() + last) for run in _RUN.finditer(text) for at, last in _openai_spans(run.group())
    ]


def _openai_spans(run: str) -> Iterator[Span]:
    at = run.find("sk-")
    if at >= 0 and (found := [*_OPENAI.finditer(run, at + 3)]):
        yield at, found[-1].end()


_HAND_WRITTEN: Final[Mapping[str, Search]] = {"private_key": _private_keys, "jwt": _jwts}
# The names that turn a format off, in the order of the search.
OWN: Final[tuple[str, ...]] = ("private_key", "aws", "github", "model_key", "remit_key", "slack", "jwt", "bearer", "url_password", "npm", "keyword")  # fmt: skip


@cache
def formats() -> Mapping[str, tuple[Finder, ...]]:
    """The finders of every format by the name that turns it off: our own formats, then those of detect-secrets."""
    finders: dict[str, tuple[Finder, ...]] = {name: (_own(name),) for name in OWN}
    for name in DETECTORS:
        found = (Finder(_openai, _openai),) if name == "openai" else _detectors(name)
        finders[name] = (*finders.get(name, ()), *found)
    return finders


def _own(name: str) -> Finder:
    if (search := _HAND_WRITTEN.get(name)) is not None:
        return Finder(search, search)
    return _finder(re.compile(_PATTERNS[name]), grouped=True)


def _detectors(name: str) -> tuple[Finder, ...]:
    # Imported at the first use, because the import takes as long as the rest of a command.
    module: Any = import_module(f"detect_secrets.plugins.{name}")
    members = cast("dict[str, Any]", vars(module)).values()
    kinds: list[Any] = [kind for kind in members if getattr(kind, "__module__", "") == module.__name__]
    return tuple(_finder(pattern) for kind in kinds for pattern in getattr(kind, "denylist", ()))


def _finder(pattern: re.Pattern[str], *, grouped: bool = False) -> Finder:
    # In our patterns group 1 is the secret; in the patterns of detect-secrets a group can be anything.
    group = 1 if grouped and pattern.groups else 0

    def find(text: str) -> list[Span]:
        # A match that contains a placeholder was redacted before, so it stays as it is.
        found = (match for match in _matches(pattern, text) if "[redacted:" not in match.group())
        if len(text) <= PIECE + OVERLAP:
            return [match.span(group) for match in found]
        return [(match.start(group), _extended_end(text, match.end(group))) for match in found]

    return Finder(find, pattern.search)


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The matches of a pattern. A long text is scanned piece by piece, because `re` blocks all other threads meanwhile.

    A match belongs to the piece where it begins, and can reach up to `OVERLAP` characters into the next one.
    """
    at = 0
    while len(text) - at > PIECE + OVERLAP:
        last = end = at + PIECE
        for match in pattern.finditer(text, at, end + OVERLAP):
            if match.start() >= end:
                break
            yield match
            last = max(end, match.end())
        at = last
    yield from pattern.finditer(text, at)


def _extended_end(text: str, end: int) -> int:
    """The end of a secret that the end of a piece may have cut short."""
    rest = _MORE.match(text, end)
    return end if rest is None else rest.end()
