"""A test secret in every encoding, and a search for leaks of it."""

from __future__ import annotations

import base64
import json
import urllib.parse
from pathlib import Path

CANARY = "c4nary-horse/Battery+staple~0815"
ENCODINGS: dict[str, str] = {
    "as it is": CANARY,
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 in the middle": base64.b64encode(f"x{CANARY}yz".encode()).decode(),
    "base64 for urls": base64.urlsafe_b64encode(f"xy{CANARY}z".encode()).decode(),
    "base64 on lines": "\n".join(base64.b64encode(CANARY.encode()).decode()[at : at + 16] for at in range(0, 44, 16)),
    "base32": base64.b32encode(f"q{CANARY}".encode()).decode(),
    "hex": CANARY.encode().hex(),
    "hex, upper case and spaced": CANARY.encode().hex(" ").upper(),
    "percent": urllib.parse.quote(CANARY, safe=""),
    "percent, all of it": "".join(f"%{byte:02x}" for byte in CANARY.encode()),
    "JSON": "".join(f"\\u{ord(character):04x}" for character in CANARY),
    "JSON, slashes only": json.dumps(CANARY).replace("/", "\\/"),
    "HTML": "".join(f"&#{ord(character)};" for character in CANARY),
    "HTML, hex": "".join(f"&#x{ord(character):X};" for character in CANARY),
    "a url": f"https://user:{urllib.parse.quote(CANARY)}@host/?key={CANARY}",
}


def leaks(text: str) -> list[str]:
    """The encodings of the canary that the text contains, and every piece of it of ten characters."""
    pieces = {CANARY[at : at + 10] for at in range(len(CANARY) - 9)}
    return [name for name, written in ENCODINGS.items() if written in text] + [
        piece for piece in pieces if piece in text
    ]


def everything(folder: Path) -> str:
    """The contents of all files that a run writes, with the journal, and without the scripts of models, which tests write."""
    scripts = {path.read_bytes() for path in folder.glob("agent/*/*.yaml")}
    written = [path.read_bytes() for path in (folder / "traces").rglob("*") if path.is_file()]
    return "\n".join(data.decode("utf-8", "replace") for data in written if data not in scripts)
