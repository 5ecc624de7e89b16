"""The table `[storage]` of `remit.toml`: what the machines of one deployment share beside the journal."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from remit.core import FrozenModel
from remit.core.parsing import Matching, Size, TomlTable, invalid, size

StorageUrl = Annotated[
    str,
    Matching(
        r"/[^\s]+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9._-]+)*",
        "a bucket or a folder",
        'write "s3://BUCKET/PREFIX", or the path of a folder that all machines have: "/mnt/remit"',
    ),
]
Endpoint = Annotated[
    str,
    Matching(
        r"https://[^\s@/?#]+|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?",
        "the address of an S3-compatible service, and only one of this machine may be without TLS",
        'write "https://HOST"; credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    ),
]
Region = Annotated[str, Matching(r"[a-z0-9-]{1,40}", "a region", 'write "eu-central-1"')]


class StorageSettings(FrozenModel):
    """Shared storage: a bucket or a folder, "" for none; `endpoint` "" is AWS. `cache` bounds the copies on this machine, in bytes."""

    url: str = ""
    endpoint: str = ""
    region: str = ""
    cache: int = 2 << 30


class StorageTable(TomlTable):
    """What the machines of one deployment share beside the journal. Absent: the folder `traces/` of each machine, as for one machine."""

    url: StorageUrl | None = Field(
        default=None, description='"s3://BUCKET/PREFIX", or the path of a folder that all machines have'
    )
    endpoint: Endpoint | None = Field(
        default=None,
        description="The address of an S3-compatible service; absent: AWS. Credentials come from AWS_… variables",
    )
    region: Region | None = Field(default=None, description="The region of the bucket; absent: AWS_REGION")
    cache: Size = Field(default="2GiB", description="How much of it this machine keeps as copies below traces/objects")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse an endpoint without a bucket."""
        if self.endpoint is not None and not (self.url or "").startswith("s3://"):
            raise invalid("has an endpoint and no bucket", 'write url = "s3://BUCKET/PREFIX", or leave endpoint out')
        return self

    def settings(self) -> StorageSettings:
        """The settings of this table."""
        return StorageSettings(
            url=self.url or "", endpoint=self.endpoint or "", region=self.region or "", cache=size(self.cache)
        )
