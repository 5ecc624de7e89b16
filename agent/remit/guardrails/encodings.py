"""Where a known secret stands in a text, in whatever encoding it came there.

Found are: as it is, base64, base64url, base32, hex, and percent, JSON and HTML escapes, mixed too; wrapped over lines; and a
part of it where a text was cut, because what stands at an edge may be one piece of it.
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

SHORTEST_SECRET: Final = 8  # shorter values would blank out ordinary words
_LEAST: Final = 6  # characters of a piece at an edge that are more than chance
_UNICODE = re.compile(r"\\u\{?([0-9a-fA-F]{2,6})\}?|\\x([0-9a-fA-F]{2})")
_PADDED = re.compile(r"&#0++(?=[0-9])")
_HUGE = re.compile(r"&#[0-9]{8,}+;?")
_WRAPPED: Final = r"(?:\\[nr]|\s)*"  # what puts an encoding on several lines
_DUMPED: Final = r"(?:\\[nr]|[\s:,-]|0x)*"  # what stands between the bytes of a dump


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a text, and the secret that it is or was cut from."""

    start: int
    end: int
    secret: str


class Reading:
    """A text, and as a reader of each encoding would put it together: made once, for however many secrets are looked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def unescaped(self) -> tuple[str, ...]:
        """As it is, and as readers of escapes would read it, one after the other."""
        text, views = self.text, [self.text]
        if "%" in text:
            views.append(unquote(text, errors="replace"))
        if "\\" in text:
            views.append(_UNICODE.sub(_character, text).replace("\\/", "/").replace('\\"', '"').replace("\\\\", "\\"))
        if "&" in text:
            views.append(_without_entities(text))
        if len(views) > 2:  # some characters so, others otherwise
            views.append(
                _without_entities(unquote(_UNICODE.sub(_character, text).replace("\\/", "/"), errors="replace"))
            )
        return tuple(views)

    @cached_property
    def packed(self) -> str:
        """Without what `_WRAPPED` allows between two characters."""
        return "".join(self.text.split()).replace("\\n", "").replace("\\r", "")

    @cached_property
    def dumped(self) -> str:
        """Without what `_DUMPED` allows between two digits."""
        plain = self.packed.lower()
        for between in (":", ",", "-", "0x"):
            plain = plain.replace(between, "")
        return plain


class KnownSecret:
    """One secret, and what to look for. Nothing slow is tried before something quick says that it is there."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        data = secret.encode("utf-8", "surrogatepass")
        self._escaped = re.compile("".join(_alternatives(character) for character in secret))
        self._hex = data.hex()
        sixty_four = _stable_parts(data, 3, 6, base64.b64encode)
        self._cores = sixty_four | {core.translate(str.maketrans("+/", "-_")) for core in sixty_four}
        self._cores |= _stable_parts(data, 5, 5, base64.b32encode)

    def find(self, reading: Reading) -> list[Found]:
        """Every place where it stands whole."""
        text, found = reading.text, list[Found]()
        if any(self.secret in view for view in reading.unescaped):
            found += [Found(match.start(), match.end(), self.secret) for match in self._escaped.finditer(text)]
        if self._hex in reading.dumped:
            found += self._spread(_DUMPED, self._hex, text, re.IGNORECASE)
        for core in self._cores:
            if core in reading.packed:  # the characters around it hold some of its bits
                found += self._spread(_WRAPPED, core, text, around="[A-Za-z0-9+/_-]?")
        return found

    def edges(self, text: str) -> list[Found]:
        """The end of the text where the secret begins there, its beginning where the secret ends there."""
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
    # Python reads no number of thousands of digits: leading zeros say nothing, and more than 7 digits are no character.
    return html.unescape(_HUGE.sub("\ufffd", _PADDED.sub("&#", text)))


def _character(match: re.Match[str]) -> str:
    number = int(match[1] or match[2], 16)
    return chr(number) if number < 0x110000 else match[0]


def _alternatives(character: str) -> str:
    """A pattern for every way to write that character."""
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
    # The longest first: a backslash that escapes must not be left behind.
    return f"(?:{'|'.join(sorted(ways, key=len, reverse=True))})"


def _stable_parts(data: bytes, group: int, bits: int, encode: Callable[[bytes], bytes]) -> set[str]:
    """What every text that holds the secret has in common in that encoding, for each place in a group where it may begin.

    That is the part which its neighbours do not change, so it never reaches the padding.
    """
    cores: set[str] = set()
    for offset in range(group):
        text = encode(b"\0" * offset + data).decode()
        first = -(-offset * 8 // bits)
        cores.add(text[first : (offset + len(data)) * 8 // bits])
    return {core for core in cores if len(core) >= _LEAST}


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
        quoted = {quote(word, safe=safe) for safe in ("", "/", ":", "/:@")} | {quote_plus(word)}
        found |= quoted | {re.sub("%[0-9A-F]{2}", lambda one: one[0].lower(), text) for text in quoted}
        found |= {data.hex(), data.hex().upper()}
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found |= _stable_parts(data, 3, 6, encode)
    return frozenset(text for text in found if len(text) >= SHORTEST_SECRET)
