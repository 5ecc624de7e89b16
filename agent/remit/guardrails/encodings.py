"""Finds a known secret in a text, also when it is encoded.

Encodings: plain, base64, base64url, base32, hex, and percent, JSON and HTML escapes, also mixed and wrapped over lines. At the
start and the end of a text a part of a secret is found too, because the text may have been cut there.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import quote, quote_plus, unquote

SHORTEST_SECRET: Final = 8  # characters; redacting shorter values would remove ordinary words
_LEAST: Final = 6  # characters of a partial match at an edge; a shorter one can be a coincidence
_UNICODE = re.compile(r"\\u\{?([0-9a-fA-F]{2,6})\}?|\\x([0-9a-fA-F]{2})")
_PADDED = re.compile(r"&#0++(?=[0-9])")
_HUGE = re.compile(r"&#[0-9]{8,}+;?")
_WRAPPED: Final = r"(?:\\[nr]|\s)*"  # line breaks inside of an encoded secret
_DUMPED: Final = r"(?:\\[nr]|[\s:,-]|0x)*"  # separators between the bytes of a hex dump


@dataclass(frozen=True, slots=True)
class Found:
    """One match in a text, and the secret that it is or is a part of."""

    start: int
    end: int
    secret: str


class Reading:
    """A text and its decoded forms. They are computed once, however many secrets are searched for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def unescaped(self) -> tuple[str, ...]:
        """The text as it is, and with each kind of escapes decoded."""
        text, views = self.text, [self.text]
        if "%" in text:
            views.append(unquote(text, errors="replace"))
        if "\\" in text:
            views.append(_UNICODE.sub(_character, text).replace("\\/", "/").replace('\\"', '"').replace("\\\\", "\\"))
        if "&" in text:
            views.append(_without_entities(text))
        if len(views) > 2:  # a text can mix several kinds of escapes
            views.append(
                _without_entities(unquote(_UNICODE.sub(_character, text).replace("\\/", "/"), errors="replace"))
            )
        return tuple(views)

    @cached_property
    def packed(self) -> str:
        """The text without line breaks and spaces (see `_WRAPPED`)."""
        return "".join(self.text.split()).replace("\\n", "").replace("\\r", "")

    @cached_property
    def dumped(self) -> str:
        """The text in lower case without the separators of a hex dump (see `_DUMPED`)."""
        plain = self.packed.lower()
        for between in (":", ",", "-", "0x"):
            plain = plain.replace(between, "")
        return plain


class KnownSecret:
    """One secret and its search patterns. A fast substring test comes before each slow pattern."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        data = secret.encode("utf-8", "surrogatepass")
        self._escaped = re.compile("".join(_alternatives(character) for character in secret))
        self._hex = data.hex()
        in_base64 = _stable_parts(data, 3, 6, base64.b64encode)
        self._cores = in_base64 | {core.translate(str.maketrans("+/", "-_")) for core in in_base64}
        self._cores |= _stable_parts(data, 5, 5, base64.b32encode)

    def find(self, reading: Reading) -> list[Found]:
        """Every place where the whole secret occurs."""
        text, found = reading.text, list[Found]()
        if any(self.secret in view for view in reading.unescaped):
            found += [Found(match.start(), match.end(), self.secret) for match in self._escaped.finditer(text)]
        if self._hex in reading.dumped:
            found += self._spread(_DUMPED, self._hex, text, re.IGNORECASE)
        for core in self._cores:
            if core in reading.packed:  # the characters next to it encode some of its bits, so they are replaced too
                found += self._spread(_WRAPPED, core, text, around="[A-Za-z0-9+/_-]?")
        return found

    def edges(self, text: str) -> list[Found]:
        """Parts of the secret at the edges: its beginning at the end of the text, its end at the beginning of the text."""
        size, least = len(self.secret), max(_LEAST, len(self.secret) // 3)
        found: list[Found] = []
        for length in range(min(size - 1, len(text)), least - 1, -1):
            if text.endswith(self.secret[:length]):
                found.append(Found(len(text) - length, len(text), self.secret))
                break
        for length in range(min(size - 1, len(text)), least - 1, -1):
            if text.startswith(self.secret[size - length :]):
                found.append(Found(0, length, self.secret))
                break
        return found

    def _spread(self, between: str, core: str, text: str, flags: int = 0, *, around: str = "") -> list[Found]:
        pattern = around + between.join(re.escape(character) for character in core) + around + ("=*" if around else "")
        return [Found(match.start(), match.end(), self.secret) for match in re.finditer(pattern, text, flags)]


def _without_entities(text: str) -> str:
    # int() refuses numbers of thousands of digits. Leading zeros are dropped, and more than 7 digits are never a character.
    return html.unescape(_HUGE.sub("\ufffd", _PADDED.sub("&#", text)))


def _character(match: re.Match[str]) -> str:
    number = int(match[1] or match[2], 16)
    return chr(number) if number < 0x110000 else match[0]


def _alternatives(character: str) -> str:
    """A pattern that matches every escaped form of that character."""
    number = ord(character)
    percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    named = html.escape(character, quote=True)
    ways = [
        re.escape(character),
        f"(?i:{percent})",
        rf"(?i:\\u\{{?0*{number:x}\}}?)",
        rf"(?i:\\x{number:02x})",
        rf"(?i:&\#0*{number};|&\#x0*{number:x};)",
        *([re.escape(named)] if named != character else []),
        *([rf"\\{re.escape(character)}"] if character in '"\\/' else []),
    ]
    # The longest form first, so that the backslash of an escape is replaced too.
    return f"(?:{'|'.join(sorted(ways, key=len, reverse=True))})"


def _stable_parts(data: bytes, group: int, bits: int, encode: Callable[[bytes], bytes]) -> set[str]:
    """The parts of the encoded secret that do not depend on the bytes around it, one for each offset in an encoding group.

    `group` is the number of bytes in a group, `bits` the number of bits of one encoded character. Bits of the first and last
    characters belong to neighbouring bytes, so those characters are left out, and with them the padding.
    """
    cores: set[str] = set()
    for offset in range(group):
        text = encode(b"\0" * offset + data).decode()
        first = -(-offset * 8 // bits)
        cores.add(text[first : (offset + len(data)) * 8 // bits])
    return {core for core in cores if len(core) >= _LEAST}


def spellings(secret: str) -> frozenset[str]:
    """The secret in every encoding that a server may use to return it: JSON, percent-encoded, HTML, hex, base64.

    The password of a `name:password` is included on its own.
    """
    found: set[str] = set()
    password = secret.partition(":")[2]
    for word in (secret, password) if len(password) >= SHORTEST_SECRET else (secret,):
        data = word.encode()
        found |= {word, *(json.dumps(word, ensure_ascii=ascii)[1:-1] for ascii in (True, False)), html.escape(word)}
        found |= {json.dumps(word)[1:-1].replace("/", "\\/")}
        quoted = {quote(word, safe=safe) for safe in ("", "/", ":", "/:@")} | {quote_plus(word)}
        found |= quoted | {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), text) for text in quoted}
        found |= {data.hex(), data.hex().upper()}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found |= _stable_parts(data, 3, 6, encode)
    return frozenset(text for text in found if len(text) >= SHORTEST_SECRET)
