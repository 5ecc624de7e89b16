"""The wheels of a tool's packages, kept under the hashes of its lock: a run goes on after uv's cache and the index have lost them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

import remit.outgoing
from remit.core import Json, UsageError
from remit.core.parsing import digest_bytes, load_toml, read_file
from remit.sandbox.packages.requirements import LOCK

_LARGEST: Final = 1 << 30  # bytes of one wheel
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SECONDS: Final = 5.0  # until an index answers


class WheelStore(Protocol):
    """Objects under the digests of their bytes; `get` checks the digest."""

    def keeps(self, digest: str) -> bool:
        """True if the object is stored."""
        ...

    def get(self, digest: str) -> bytes:
        """The object. Raises UsageError if it is missing or was changed."""
        ...

    def put(self, data: bytes) -> str:
        """Store the object and return its digest."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel of a lock file: its file name, where it is, and the digest of its bytes."""

    name: str
    url: str
    digest: str


def locked_wheels(lock: bytes) -> list[Wheel]:
    """The wheels that a lock file names by address and SHA-256, for every system. Raises WorkspaceError if it is not TOML."""
    packages = cast("list[dict[str, Json]]", load_toml(lock.decode(), file=LOCK).get("package", []))
    found = ((item.get("url"), item.get("hash")) for package in packages for item in package.get("wheels", []))
    return [
        Wheel(name=unquote(urlsplit(url).path.rpartition("/")[2]), url=url, digest=hashed)
        for url, hashed in found
        if isinstance(url, str) and isinstance(hashed, str) and _SHA256.fullmatch(hashed)
    ]


def keep_wheels(code: Path, site: str, store: WheelStore, report: Callable[[str], None] | None) -> None:
    """Store the wheels of the packages that are installed in `site`, if they are not stored yet.

    `report` gets a line before wheels are fetched, and one if an index does not answer: then they are not kept.

    Raises:
        RunEnded: `unrecorded`: they cannot be stored.
    """

    def tell(text: str) -> None:
        if report is not None:
            report(text)

    missing = [wheel for wheel in _installed(code, site) if not store.keeps(wheel.digest)]
    if not missing or os.environ.get("UV_OFFLINE"):
        return
    tell(f"keeping {len(missing)} packages of {code.name}, so that its runs can go on without network …")
    try:
        for wheel in missing:
            store.put(_fetched(wheel))
    except OSError as failure:
        tell(f"not all packages of {code.name} are kept, so that a run that goes on may need its index: {failure}")


def use_wheels(lock: bytes, store: WheelStore, folder: Path) -> bytes:
    """The lock file with the stored wheels in place of their addresses; they are written into the new folder `folder`.

    uv checks each of them against its hash in the lock.
    """
    folder.mkdir()
    text = lock.decode()
    for wheel in locked_wheels(lock):
        if "/" not in wheel.name and store.keeps(wheel.digest):
            try:
                (folder / wheel.name).write_bytes(store.get(wheel.digest))
            except UsageError:  # it was changed: the one at the address is installed instead
                continue
            text = text.replace(f'"{wheel.url}"', f'"{(folder / wheel.name).as_uri()}"')
    return text.encode()


def _installed(code: Path, site: str) -> Iterator[Wheel]:
    """Of each installed package, the wheel that fits this interpreter best, as uv chooses it."""
    versions = {canonicalize_name(item.name): item.version for item in distributions(path=[site])}
    ranks: dict[Tag, int] = {tag: rank for rank, tag in enumerate(sys_tags())}
    best: dict[str, tuple[int, Wheel]] = {}
    for wheel in locked_wheels(read_file(code / LOCK, file=LOCK)):
        try:
            name, version, _, tags = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename:
            continue
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is None or versions.get(name) != str(version):
            continue
        if name not in best or rank < best[name][0]:
            best[name] = (rank, wheel)
    return (wheel for _, wheel in best.values())


def _fetched(wheel: Wheel) -> bytes:
    """The bytes of a wheel from its address. Raises OSError if it is not there, or others are there."""
    try:
        data = remit.outgoing.download(wheel.url, most=_LARGEST, seconds=_SECONDS)
    except remit.outgoing.TooLarge as failure:
        raise OSError(f"{wheel.name} has more than {_LARGEST >> 20} MiB") from failure
    except remit.outgoing.FAILURES as failure:
        raise OSError(f"{wheel.name}: {type(failure).__name__}") from failure
    if digest_bytes(data) != wheel.digest:
        raise OSError(f"{wheel.name} is not the one of the lock")
    return data
