"""Seals finished runs: all events of a run become one compressed object with two parts.

The headers and the chain are in one part, the salts and bodies, by digest, in the other one: a body can be erased while the
chain is still verified. A sealed run takes about a tenth of the space. It is listed, read, verified and replayed like any
other; an event that is added to it later, such as a settled effect, follows in the table of events.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Container, Sequence
from typing import Any, Final

from remit.journal.hash_chain import ChainLink

LONGEST: Final = 1 << 30  # bytes of one part, unpacked; a changed object must not fill the memory
_FIELDS: Final = ("seq", "at", "type", "key", "prev", "hash", "payload_digest")


def pack(links: Sequence[ChainLink]) -> tuple[bytes, bytes]:
    """The two parts of the sealed object of these events."""
    headers = [[link.header[name] for name in _FIELDS] for link in links]
    bodies = {link.payload_digest: [link.salt, link.body] for link in links if link.body is not None}
    return _packed(headers), _packed(bodies)


def unpack(run: str, chain: bytes, bodies: bytes) -> list[ChainLink]:
    """The events of a sealed run. Raises ValueError if the object is damaged."""
    kept: dict[str, tuple[str, str]] = dict(_unpacked(bodies))
    links: list[ChainLink] = []
    for values in _unpacked(chain):
        header = dict(zip(_FIELDS, values, strict=True))
        salt, body = kept.get(header["payload_digest"], (None, None))
        links.append(ChainLink(run=run, salt=salt, body=body, **header))
    return links


def without_bodies(run: str, chain: bytes, bodies: bytes, erased: Container[int]) -> bytes:
    """The second part without the bodies of the events with these numbers."""
    return pack([link for link in unpack(run, chain, bodies) if link.seq not in erased])[1]


def _packed(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), 9)


def _unpacked(data: bytes) -> Any:
    try:
        decompressor = zlib.decompressobj()
        text = decompressor.decompress(data, LONGEST)
        if decompressor.unconsumed_tail or not decompressor.eof:
            raise ValueError("a sealed run is damaged: it is cut, or too long")
    except zlib.error as failure:
        raise ValueError(f"a sealed run is damaged: {failure}") from failure
    return json.loads(text)
