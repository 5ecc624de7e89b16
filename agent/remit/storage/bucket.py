"""A bucket of an S3-compatible service, through obstore. Its credentials come from the environment, as AWS's own programs read them.

obstore (MIT, one wheel, no packages of its own but typing-extensions) is chosen before boto3 (five packages, 25 MB), s3fs and
aioboto3 (aiohttp besides, tied to old versions of botocore) and minio (last release of its server's vendor in maintenance).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from remit.storage.bounds import check_size, unusable

TIMEOUT: Final = timedelta(seconds=20)  # of one request
PATIENCE: Final = timedelta(seconds=30)  # for a request and its retries
LOOPBACK: Final = ("http://127.0.0.1:", "http://localhost:", "http://[::1]:")


class Bucket:
    """The part of a bucket whose names begin with `prefix`."""

    def __init__(self, bucket: str, prefix: str, *, endpoint: str, region: str) -> None:
        self._name = f"s3://{bucket}" + (f"/{prefix}" if prefix else "")
        config = {"virtual_hosted_style_request": "false"} if endpoint else {}
        config |= {"endpoint": endpoint} if endpoint else {}
        config |= {"region": region} if region else {}
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            config=config,  # type: ignore[arg-type] # keys of AWS's own names
            client_options={"timeout": TIMEOUT, "allow_http": endpoint.startswith(LOOPBACK)},
            retry_config={"max_retries": 4, "retry_timeout": PATIENCE},
        )

    def put(self, name: str, data: bytes) -> None:
        with self._failing("written"):
            obstore.put(self._store, name, data, use_multipart=False)

    def get(self, name: str) -> bytes | None:
        with self._failing("read"):
            try:
                found = obstore.get(self._store, name)
                check_size(self._name, name, found.meta["size"])
                return bytes(found.bytes())
            except FileNotFoundError as failure:
                if "NoSuchBucket" in str(failure):
                    raise
                return None

    def names(self, prefix: str) -> Sequence[str]:
        with self._failing("read"):
            pages = obstore.list(self._store, prefix=prefix)  # pyright: ignore[reportUnknownMemberType] - Arrow's types
            return sorted(item["path"] for page in pages for item in page)

    def remove(self, name: str) -> None:
        with self._failing("written"):
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                return

    @contextmanager
    def _failing(self, verb: str) -> Generator[None]:
        try:
            yield
        except (BaseError, OSError) as failure:
            raise unusable(self._name, verb, _short(failure)) from failure


def _short(failure: Exception) -> str:
    """The first line of the service's answer, without what obstore prints of itself."""
    return next((line.strip() for line in str(failure).splitlines() if line.strip()), type(failure).__name__)[:300]
