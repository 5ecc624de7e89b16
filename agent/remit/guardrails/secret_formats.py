"""What a leaked credential looks like, whoever issued it.

Each format is found in time linear in the text. A pattern may repeat without bound only what nothing after it can make the
engine try again, and may not begin inside of what it repeats; a format that cannot be written so is looked for by hand.
`tests/adversarial/test_growth.py` measures each on texts that are made to be slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, TypeAlias, cast

Span: TypeAlias = tuple[int, int]
Finder: TypeAlias = Callable[[str], list[Span]]  # where the secrets of one format stand, in their order

WORD: Final = r"(?i)\b\w{0,40}?(?:passw(?:or)?d|secret|token|api_?key|access_?key|credential)s?"

# Group 1, where there is one, is the secret itself.
_PATTERNS: Final = {
    "aws": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github": r"\bgh[opsur]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    "model_key": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}\b",
    "slack": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "bearer": r"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{16,})",
    "url_password": r"""://[^/\s:@"\\]+:([^/\s:@"\\]{3,})@""",
    "npm": r"_authToken\s{0,3}=\s{0,3}([A-Za-z0-9_./+=-]{8,200})",
    # A word for a secret, and a value that is no word: it has a digit.
    "keyword": WORD + r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?=[^\s\"',;&]{0,200}?[0-9])([^\s\"',;&\[\]{}()]{8,400})",
}
# The detectors of detect-secrets that know a format. Left out: entropy, plain keywords, addresses, Artifactory's "AP…", which
# is any capital word; npm's, which a long line makes slow; and those whose one pattern we have, with more of the secret.
DETECTORS: Final = (
    "aws", "azure_storage_key", "discord", "github_token", "gitlab_token", "mailchimp", "openai", "private_key",
    "pypi_token", "sendgrid", "slack", "square_oauth", "stripe", "telegram_token", "twilio",
)  # fmt: skip

PIECE: Final = 128 << 10  # characters that are looked through at once
OVERLAP: Final = 16 << 10

_MORE = re.compile(r"[A-Za-z0-9._~+/=-]*+")
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
# What follows the first line of a key whose end is missing: lines of base64, of which the last may be cut.
_KEY_REST = re.compile(r"(?:(?:\\[nr]|\s)*+[A-Za-z0-9+/]{16,}+={0,2})*+(?:(?:\\[nr]|\s)*+[A-Za-z0-9+/]{1,15}={0,2}\Z)?")
_PART = r"[A-Za-z0-9_-]"
_FIRST_PART = re.compile(rf"(?<!{_PART}){_PART}{{11,}}+(?=(\.{_PART}{{8,}}+\.{_PART}{{8,}}+))")
_TOKEN = re.compile(r"\beyJ(?=[A-Za-z0-9_-]{8})")
_RUN = re.compile(r"[A-Za-z0-9_-]{51,}+")
_OPENAI = re.compile(r"[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}")


def _private_keys(text: str) -> list[Span]:
    """Keys from their first line to their last; where the last is missing, to the end of what looks like the key."""
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
    """Three parts of base64 with dots between them; the first begins an object of JSON."""
    found: list[Span] = []
    at = 0
    for first in _FIRST_PART.finditer(text):
        begins = _TOKEN.search(text, max(first.start(), at), first.end())
        if begins is not None:
            at = first.end(1)
            found.append((begins.start(), at))
    return found


def _openai(text: str) -> list[Span]:
    """Keys that hold the mark of their issuer in their middle; the detector's own pattern for them is quadratic."""
    return [
        (run.start() + at, run.start() + last) for run in _RUN.finditer(text) for at, last in _openai_spans(run.group())
    ]


def _openai_spans(run: str) -> Iterator[Span]:
    at = run.find("sk-")
    if at >= 0 and (found := [*_OPENAI.finditer(run, at + 3)]):
        yield at, found[-1].end()


_HAND_WRITTEN: Final[Mapping[str, Finder]] = {"private_key": _private_keys, "jwt": _jwts}
# By the name that turns it off, in the order in which they are looked for.
OWN: Final[tuple[str, ...]] = ("private_key", "aws", "github", "model_key", "slack", "jwt", "bearer", "url_password", "npm", "keyword")  # fmt: skip


@cache
def formats() -> Mapping[str, tuple[Finder, ...]]:
    """Every format by the name that can turn it off: our own, then those of detect-secrets."""
    found: dict[str, tuple[Finder, ...]] = {
        name: (_HAND_WRITTEN.get(name) or _finder(re.compile(_PATTERNS[name]), grouped=True),) for name in OWN
    }
    for name in DETECTORS:
        found[name] = (*found.get(name, ()), *((_openai,) if name == "openai" else _detectors(name)))
    return found


def _detectors(name: str) -> tuple[Finder, ...]:
    # Loaded when something is first cleaned: it takes as long as all the rest of a command.
    module: Any = import_module(f"detect_secrets.plugins.{name}")
    members = cast("dict[str, Any]", vars(module)).values()
    kinds: list[Any] = [kind for kind in members if getattr(kind, "__module__", "") == module.__name__]
    return tuple(_finder(one) for kind in kinds for one in getattr(kind, "denylist", ()))


def _finder(pattern: re.Pattern[str], *, grouped: bool = False) -> Finder:
    # detect-secrets groups what it likes; only a group of ours is the secret.
    group = 1 if grouped and pattern.groups else 0

    def find(text: str) -> list[Span]:
        # What holds a placeholder was cleaned before, and stays as it is.
        found = (match for match in _matches(pattern, text) if "[redacted:" not in match.group())
        if len(text) <= PIECE + OVERLAP:
            return [match.span(group) for match in found]
        return [(match.start(group), _extended_end(text, match.end(group))) for match in found]

    return find


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The matches, of a long text piece by piece: no other thread runs while one is looked through.

    A match belongs to the piece in which it begins, and may reach as far into the next one as the longest secret.
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
    """The end of a secret, of which a piece may have cut something."""
    rest = _MORE.match(text, end)
    return end if rest is None else rest.end()
