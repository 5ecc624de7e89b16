"""One call of a warm tool: take a child that stands by, narrow it, hear its answer."""

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
from remit.sandbox.outcome import Output, classify
from remit.sandbox.process import DRAIN_SECONDS
from remit.sandbox.profile import Profile
from remit.sandbox.protocol import Exchange, ToolCall
from remit.sandbox.warm.pool import Pool
from remit.sandbox.warm.zygote_handle import Cold, WarmChild

_ATTEMPTS: Final = 4  # for a call whose child died before it had read what it was told
_PER_CALL: Final = ("action", "argv", "reads", "writes", "denied", "env", "wall", "root", "code", "network")
_MOST_FOLDERS: Final = 256
_BOUNDARY: Final = tuple(one.name for one in fields(Profile) if one.name not in _PER_CALL)


def key_of(profile: Profile) -> Hashable:
    """What one zygote can serve: everything of the profile that no single call decides, and the very files behind it.

    A tool whose files changed, or a folder that another took the place of, has another key.
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
        None if profile.network is None else _reach(profile.network),
        _stamps(code),
        _inode(root),
        *(_inode(f"{root}/stores/{store}") for store in profile.stores),
    )


def _reach(network: Network) -> Hashable:
    """What the manifest says of the network: what a call's own decision adds, the proxy holds for that call alone."""
    return network.hosts, network.at_most, network.ranges, network.credentials


_Stamp: TypeAlias = tuple[int, int, int, int, int]
_seen: dict[
    str, dict[str, _Stamp]
] = {}  # each folder's entries as they last were: looked at one by one, not searched for


def _stamps(folder: str) -> tuple[object, ...]:
    """Every entry below the folder; the time of change is the kernel's and cannot be set back.

    A folder that gained or lost an entry changed itself, so the last list is whole as long as every stamp on it holds.
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
    """One call from its first descriptor to its classified end. Cancelled, it leaves no process of its own and no file.

    Raises:
        Cold: the tool cannot be kept warm; nothing of the call ran.
        DidNotStart: nothing of the call ran.
        Refusal: what the call reads or writes cannot be opened as decided.
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
    """A call whose files are open, and the frame that its process is told."""

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
    """None: the child died unused, or its way out was closed meanwhile, and another may serve."""
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
                if exchange.call_unread and exchange.stop is None:
                    retire = False
                    return None
        exchange.read_prints()
        ending = exchange.ending(started, report)
        answer = classify(profile, ending, declared=declared)
        if answer.limit is not None and report is None:  # how much it used is its parent's to say
            ending = exchange.ending(started, await child.ended(DRAIN_SECONDS))
            answer = classify(profile, ending, declared=declared)
        output = with_network_result(settle(profile, ending, answer, granted, exchange), network_access)
        # What one call filled up, the next would find full; what killed one may have hurt its parent.
        retire = output.code in ("resource_exhausted", "timeout")
        return output
    except asyncio.CancelledError:
        child.end()
        raise
    finally:
        close_files(exchange)
        exchange.unwatch()
        pool.done(child, retire=retire)
