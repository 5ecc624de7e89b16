"""`remit tool new NAME --from http URL`: the template of a web service, with that URL."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from remit.core import Refusal, UsageError
from remit.core.parsing import canonical_url
from remit.sandbox.egress import NetworkError, parse_host

_HOST: Final = "api.example.com:443"  # those of the template
_PATH: Final = "/v1/items"
_BASE: Final = "https://api.example.com/v1/items"
LOCAL_RANGES: Final = 'ranges = ["127.0.0.0/8", "::1/128"]   # the service is on this machine'
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


def service_files(texts: Mapping[str, str], url: str) -> dict[str, str]:
    """The texts of the template for items at `url`: an item is one part of the path behind it.

    Raises:
        UsageError: the URL is no https URL without a query, or its path has other characters than letters, digits and . _ ~ -.
    """
    host, path = host_and_path(url)
    name = host.removesuffix(":443")
    changes = {f"{_HOST}{_PATH}": f"{host}{path}", _BASE: f"https://{name}{path}", _HOST: host}
    old = re.compile("|".join(map(re.escape, changes)))  # in one pass: the new texts may contain the old ones
    made = {file: old.sub(lambda match: changes[match[0]], text) for file, text in texts.items()}
    if is_local(host):
        made["tool.toml"] = made["tool.toml"].replace("secrets = ", f"{LOCAL_RANGES}\nsecrets = ", 1)
    return made


def is_local(server: str) -> bool:
    """True if a server, HOST:PORT with or without a path, is on this machine: only `LOCAL_RANGES` let the proxy connect to it."""
    return server.partition(":")[0] == "localhost"


def host_and_path(url: str) -> tuple[str, str]:
    """The host with its port, and the path without a slash at its end. Raises UsageError as `service_files`."""
    try:
        found = canonical_url("https", url)
    except Refusal as refusal:
        raise UsageError(f"{json.dumps(url)} is {refusal.message}") from refusal
    split = urlsplit(found.address)
    path = split.path.rstrip("/")
    if split.query or _PLAIN.fullmatch(path) is None:
        fix = "write https://HOST/PATH, with letters, digits and . _ ~ - in the path"
        raise UsageError(f"{json.dumps(url)} cannot be the address of a service: {fix}")
    host = f"{split.hostname}:{split.port or 443}"
    try:
        parse_host(host)
    except NetworkError as error:
        raise UsageError(f"the host {host!r} {error.what}: {error.fix}") from error
    return host, path
