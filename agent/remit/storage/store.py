"""What Remit needs of shared storage: a folder that the machines share, or a bucket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from remit.core import UsageError


class Store(Protocol):
    """Bytes under names such as `objects/3f2a…`. Threads share one.

    Every method raises RunEnded (`unrecorded`) if the storage cannot be reached or used.
    """

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under that name, in place of what is there. It is safe once this returns."""
        ...

    def get(self, name: str) -> bytes | None:
        """What is kept under that name; None if nothing is. The caller checks that it is what was put there."""
        ...

    def names(self, prefix: str) -> Sequence[str]:
        """Every name that begins with `prefix`, which ends with "/", in order."""
        ...

    def remove(self, name: str) -> None:
        """Keep nothing under that name any more."""
        ...


def open_store(url: str, *, part: str = "", endpoint: str = "", region: str = "") -> Store | None:
    """The storage that a URL names: `/folder`, or `s3://bucket/prefix` of the service at `endpoint`, "" for AWS; None for no URL.

    `part` is the tenant whose names are kept apart from those of others, "" for all of it.

    Raises UsageError if the URL names neither, or a package is missing.
    """
    return None if not url else _opened(url, part, endpoint, region, os.getpid())


@cache
def _opened(url: str, part: str, endpoint: str, region: str, _process: int) -> Store:
    """One store for all sessions of a process: it has connections."""
    if url.startswith("/"):
        from remit.storage.folder import FolderStore  # noqa: PLC0415 - most workspaces share nothing

        return FolderStore(Path(url), part)
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(
            f"{url!r} is no storage: write s3://BUCKET/PREFIX, or the path of a folder that the machines share"
        )
    if find_spec("obstore") is None:
        raise UsageError('storage in a bucket needs obstore: pip install "remit[s3]"')
    from remit.storage.bucket import Bucket  # noqa: PLC0415 - the library is optional

    return Bucket(parts.netloc, f"{parts.path}/{part}".strip("/"), endpoint=endpoint, region=region)
