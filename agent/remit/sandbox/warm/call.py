"""One call of a warm tool: take an idle child, send it the call, read its answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final, TypeAlias

from remit.core import Json
from remit.sandbox.account import account_for
from remit.sandbox.egress.permissions import Network
from remit.sandbox.file_grants import GrantedFiles
from remit.sandbox.network_handover import CallContext, NetworkAccess, with_network_result
from remit.sandbox.one_shot import call_frame, close_files, settle
from remit.sandbox.outcome import Output, classify_ending
from remit.sandbox.process import DRAIN_SECONDS
from remit.sandbox.profile import Profile
from remit.sandbox.protocol import Exchange, ToolCall
from remit.sandbox.warm.pool import Pool
from remit.sandbox.warm.zygote_handle import Cold, WarmChild

_ATTEMPTS: Final = 4  # for a call whose child died before it read the call
_PER_CALL: Final = ("action", "argv", "reads", "writes", "denied", "env", "wall", "root", "code", "network")
_MOST_FOLDERS: Final = 256
# What a zygote is made for: every field of the profile, also a later one, except those that a single call decides.
_BOUNDARY: Final = tuple(item.name for item in fields(Profile) if item.name not in _PER_CALL)


def key_of(profile: Profile) -> Hashable:
    """The key of the zygotes that can serve the profile: what is not specific to one call, and the identity of files.

    A tool whose files changed, or a folder that was replaced by another one, has another key.
    """
    code, root = (
        os.fspath(profile.code),
        profile.root_mount_source if profile.root_per_call else os.fspath(profile.root),
    )
    return (
        root,
        code,
        *(getattr(profile, name) for name in _BOUNDARY),
        *sorted(profile.env),
        None if profile.network is None else _network_key(profile.network),
        _stamps(code),
        _inode(root),
        *(_inode(f"{root}/stores/{store}") for store in profile.stores),
    )


def _network_key(network: Network) -> Hashable:
    """The network part of the manifest.

    What the decision of a single call adds is enforced by the proxy, for that call alone.
    """
    return network.hosts, network.at_most, network.ranges, network.credentials


_Stamp: TypeAlias = tuple[int, int, int, int, int]
# The entries of each folder at the last look. Checking known entries is faster than listing the folder again.
_seen: dict[str, dict[str, _Stamp]] = {}


def _stamps(folder: str) -> tuple[object, ...]:
    """The stamps of every entry below the folder. They include the change time (ctime), which no program can set back.

    Adding or removing an entry changes the folder's own stamp, so the last list is complete while every stamp on it is
    unchanged.
    """
    known = _seen.get(folder)
    if known is None or not _unchanged(known):
        known = {folder: _stamp(os.stat(folder)), **dict(_search(folder))}
        if len(_seen) > _MOST_FOLDERS:
            _seen.clear()
        _seen[folder] = known
    return tuple(known.items())


def _unchanged(known: dict[str, _Stamp]) -> bool:
    try:
        return all(_stamp(os.lstat(path)) == stamp for path, stamp in known.items())
    except OSError:
        return False


def _search(folder: str) -> Iterator[tuple[str, _Stamp]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path, _stamp(entry.stat(follow_symlinks=False))
            if entry.is_dir(follow_symlinks=False):
                yield from _search(entry.path)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


async def perform_warm(
    pool: Pool,
    profile: Profile,
    call: ToolCall,
    *,
    on_print: Callable[[bytes], None] | None,
    context: CallContext | None = None,
) -> Output:
    """Run one call in a child of a warm tool. If it is cancelled, it leaves no process of its own and no file.

    Raises:
        Cold: the tool cannot be kept warm; no part of the call ran.
        DidNotStart: the warm sandbox did not start; no part of the call ran.
        Refusal: what the call reads or writes cannot be opened as granted.
    """
    granted = GrantedFiles(profile, call.allowed)
    try:
        account = account_for(profile, pool.runtime, granted.files)
        key = (account, key_of(profile))
        prepared = _Prepared(profile=profile, granted=granted, call=call, frame=call_frame(profile, granted, call))
        for _ in range(_ATTEMPTS):
            child = await pool.take(key, profile, account)
            output = await _once(child, pool, prepared, on_print, context)
            if output is not None:
                return output
        pool.mark_cold(key, "its processes die before they are used")
        raise Cold("its processes die before they are used")
    finally:
        granted.close()


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A call whose files are open, and the frame for its process."""

    profile: Profile
    granted: GrantedFiles
    call: ToolCall
    frame: Mapping[str, Json]


async def _once(
    child: WarmChild,
    pool: Pool,
    prepared: _Prepared,
    on_print: Callable[[bytes], None] | None,
    context: CallContext | None,
) -> Output | None:
    """Run the call in this child; None if the child died unused, or its listener was closed, so that another may serve."""
    # The zygote is retired unless the call is known to have ended well: also after an exception.
    retire = True
    profile, granted, declared = prepared.profile, prepared.granted, prepared.call.declared
    exchange = Exchange(child.channel, child.prints, profile, on_print)
    listener = child.zygote.listener
    try:
        if listener is not None and not listener.open:
            return None
        network_access = NetworkAccess(listener, profile.network, context, child.source)
        async with network_access:
            started = time.monotonic()
            await exchange.send_and_receive(granted, network_access.with_variables(prepared.frame))
            report = None
            if exchange.stop is not None or not exchange.complete:
                child.end()
                report = await child.ended(DRAIN_SECONDS)
                # The tool did not run, so running the call again in another child repeats no effect.
                if exchange.call_unread and exchange.stop is None:
                    retire = False
                    return None
        exchange.read_prints()
        ending = exchange.ending(started, report)
        answer = classify_ending(profile, ending, declared=declared)
        if answer.limit is not None and report is None:  # only the parent of the process knows how much it used
            ending = exchange.ending(started, await child.ended(DRAIN_SECONDS))
            answer = classify_ending(profile, ending, declared=declared)
        output = with_network_result(settle(profile, ending, answer, granted, exchange), network_access)
        # What one call has filled up would be full for the next, and what ended it may have damaged its parent.
        retire = output.code in ("resource_exhausted", "timeout")
        return output
    except asyncio.CancelledError:
        child.end()
        raise
    finally:
        close_files(exchange)
        exchange.unwatch()
        pool.done(child, retire=retire)
