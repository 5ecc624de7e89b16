"""A corpus that everyone can make: the manual pages of a fixed list of Debian packages, as Markdown, with known-item queries.

A query is the line by which a page describes itself (its section NAME), which is removed from the page: the page is what the query
looks for. Nothing is installed: `apt-get download` fetches the packages, and `dpkg-deb` unpacks them below a cache.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    *(
        "manpages",
        "manpages-dev",
        "libssl-doc",
        "freebsd-manpages",
        "erlang-manpages",
        "perl-doc",
        "tcl8.6-doc",
        "tk8.6-doc",
    ),
    *(
        "ncurses-doc",
        "libx11-doc",
        "git-man",
        "systemd",
        "coreutils",
        "util-linux",
        "iproute2",
        "zsh-common",
        "openssh-client",
    ),
    *(
        "netpbm",
        "gmt",
        "samba-common-bin",
        "nmap",
        "ffmpeg",
        "qemu-system-common",
    ),
)
_HEADING = re.compile(r"\.S([HSh])\s+\"?([^\"]*)\"?")
_ESCAPES: Final = (
    (re.compile(r"\\f(?:[A-Z0-9]|\(..|\[[^]]*\])|\\s[-+]?\d+|\\[&/,|^%]|\\\*\(..|\\\*."), ""),
    (re.compile(r"\\-"), "-"),
    (re.compile(r"\\\((?:aq|cq|oq)"), "'"),
    (re.compile(r"\\e"), r"\\"),
    (re.compile(r"\\\(..|\\\[[^]]*\]|\\."), " "),
)


@dataclass(frozen=True)
class Page:
    """One manual page: its name, its sections, and the query that looks for it ("" if it does not describe itself)."""

    name: str
    sections: list[tuple[str, str]]
    query: str

    @property
    def markdown(self) -> str:
        """The page without its section NAME."""
        return f"# {self.name}\n\n" + "\n\n".join(f"## {heading}\n\n{text}" for heading, text in self.sections) + "\n"


def fetch(cache: Path) -> Path:
    """Download and unpack the packages, unless that is done. Returns the folder with their files.

    Raises:
        SystemExit: there is no mirror, or it has none of these packages.
    """
    key = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    folder = cache / f"manual-pages-{key}"
    done = folder / "done.json"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    missing: list[str] = []
    for package in PACKAGES:
        if subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True).returncode:
            missing.append(package)
    archives = sorted(folder.glob("*.deb"))
    if not archives:
        raise SystemExit("error: apt-get downloads no package\n    fix: run this on Debian or Ubuntu, with a mirror")
    for archive in archives:
        subprocess.run(["dpkg-deb", "-x", archive.name, "files"], cwd=folder, check=True)
        archive.unlink()
    names = [urllib.parse.unquote(archive.name) for archive in archives]
    done.write_text(json.dumps({"packages": names, "missing": missing}))
    return folder


def pages(folder: Path) -> Iterator[Page]:
    """The pages of the unpacked packages, in an order that does not depend on the machine."""
    files = (folder / "files/usr/share/man").glob("man[1-9]*/*.gz")
    for path in sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).digest()):
        if path.is_file() and not path.is_symlink():
            text = gzip.decompress(path.read_bytes()).decode(errors="replace")
            if len(text) >= 600 and not text.startswith(".so "):
                yield _page(path.name.removesuffix(".gz"), text)


def _page(name: str, text: str) -> Page:
    sections: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading is not None:
            sections.append((" ".join(_plain(heading[2]).split()) or "-", []))
        elif sections and not line.startswith(('.\\"', "'\\\"", '\\"')):
            lines = sections[-1][1]
            if re.match(r"\.(?:PP|P|LP|TP|IP|Pp|It|sp)\b", line):
                lines.append("\n")
            lines.append(_plain(re.sub(r"^[.']\s*\w+\s*", "", line)))
    query = ""
    kept: list[tuple[str, str]] = []
    for title, lines in sections:
        joined = re.sub(
            r"\n\s*\n+", "\n\n", re.sub(r"[ \t]+", " ", re.sub(r"(?<!\n)\n(?!\n)", " ", "\n".join(lines)))
        ).strip()
        if title.upper() == "NAME" and not query:
            query = next(iter(re.split(r" -+ | \\- ", " ".join(joined.split()), maxsplit=1)[1:]), "")
        elif len(joined) > 80:
            kept.append((title, joined))
    return Page(name, kept, query if 4 <= len(query.split()) <= 20 else "")


def _plain(text: str) -> str:
    for pattern, replacement in _ESCAPES:
        text = pattern.sub(replacement, text)
    return text
