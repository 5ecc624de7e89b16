"""The private certificate authorities of a tool: files in its folder, each for one host. Its pin covers them as it covers the code."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from remit.core import FrozenModel, Problem, Refusal, WorkspaceError
from remit.core.parsing import read_text
from remit.sandbox.egress import HostAuthority, Network, parse_host

LARGEST: Final = 256 << 10  # bytes of one file
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"


class Authority(FrozenModel):
    """One entry of `ca`: the file with the authorities that sign the certificates of one host. No other authority may."""

    name: str
    port: int
    file: str


def parse_authorities(table: dict[str, str]) -> tuple[Authority, ...]:
    """The entries of `ca`, whose hosts are valid."""
    hosts = ((parse_host(host), file) for host, file in table.items())
    return tuple(Authority(name=host.name, port=host.port, file=file) for host, file in hosts)


def with_authorities(
    network: Network | None, authorities: tuple[Authority, ...], folder: Path, code: str
) -> Network | None:
    """The network with the certificates of each entry. `folder` is that of the tool, and `code` the digest of its files.

    Raises:
        Refusal: `policy_denied`: a file cannot be read.
    """
    if network is None or not authorities:
        return network
    try:
        return network.model_copy(update={"authorities": _read(authorities, folder, code)})
    except WorkspaceError as error:
        raise Refusal(
            "policy_denied",
            f"an authority of tool {folder.name!r} cannot be read: {error.problems[0].what}",
            details={"reason": "no_authority"},
            next_step="continue without this tool, and tell the user to run `remit check`",
        ) from error


@lru_cache(maxsize=64)
def _read(authorities: tuple[Authority, ...], folder: Path, code: str) -> tuple[HostAuthority, ...]:
    return tuple(
        HostAuthority(name=item.name, port=item.port, certificates=_certificates(folder, item.file))
        for item in authorities
    )


def wrong_authorities(authorities: Iterable[Authority], folder: Path) -> Iterator[Problem]:
    """What is wrong with the files of the entries."""
    for item in authorities:
        try:
            _certificates(folder, item.file)
        except WorkspaceError as error:
            yield from error.problems


def _certificates(folder: Path, name: str) -> str:
    file = f"tools/{folder.name}/{name}"
    text = read_text(folder / name, file=file, most=LARGEST)
    if "PRIVATE KEY-----" in text:
        _refuse(file, "it has a private key, which nothing here needs", "remove the key: only certificates belong here")
    if _BEGIN not in text:
        _refuse(file, "it has no certificate in PEM", f"write the authority's certificate, which begins with {_BEGIN}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as failure:
        reason = getattr(failure, "reason", None) or "it is damaged"
        _refuse(
            file, f"a certificate in it cannot be read: {reason}", "export the authority's certificate again, as PEM"
        )
    return text


def _refuse(file: str, what: str, fix: str) -> None:
    raise WorkspaceError([Problem(file=file, what=what, fix=fix)])
