"""One call of a warm tool: take an idle child, have it decode the arguments, have it run, read its answer."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, TypeAlias

from remit.core import Json
from remit.sandbox.account import account_for
from remit.sandbox.egress.permissions import Network
from remit.sandbox.file_grants import GrantedFiles
from remit.sandbox.network_handover import CallContext, NetworkAccess, with_network_result
from remit.sandbox.one_shot import call_frame, close_files, settle
from remit.sandbox.outcome import Ending, Output, classify_ending, undecoded
from remit.sandbox.process import DRAIN_SECONDS
from remit.sandbox.profile import Profile
from remit.sandbox.protocol import DECODE_SECONDS, Exchange, ToolCall
from remit.sandbox.warm.pool import Pool
from remit.sandbox.warm.zygote_handle import Cold, WarmChild, child_folder

_ATTEMPTS: Final = 4  # for a call whose child died before it read the call
_PER_CALL: Final = ("action", "argv", "run", "reads", "writes", "denied", "env", "wall", "root", "code", "network")
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


def expect_call(pool: Pool, profile: Profile) -> None:
    """Let idle children of the warm tool, if it is one, be made for the working folder of the profile."""
    with suppress(OSError):  # the call itself finds out what is wrong
        pool.expect((account_for(profile, pool.runtime), key_of(profile)), child_folder(profile))


@asynccontextmanager
async def open_warm(
    pool: Pool, profile: Profile, call: ToolCall, *, on_print: Callable[[bytes], None] | None
) -> AsyncGenerator[WarmCall]:
    """Decode the arguments of one call in a child of a warm tool. When the context is left, no process and no file is left.

    Raises:
        Cold: the tool cannot be kept warm; no part of the call ran.
        DidNotStart: the warm sandbox did not start; no part of the call ran.
        Refusal: what the call reads or writes cannot be opened as granted, or the tool does not accept the arguments.
    """
    granted = GrantedFiles(profile, call.allowed)
    try:
        account = account_for(profile, pool.runtime, granted.files)
        key = (account, key_of(profile))
        prepared = _Prepared(profile=profile, granted=granted, call=call, frame=call_frame(profile, granted, call))
        for _ in range(_ATTEMPTS):
            opened = WarmCall(await pool.take(key, profile, account), pool, prepared, on_print)
            try:
                if await opened.open():
                    yield opened
                    return
            finally:
                opened.close()
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


class WarmCall:
    """One call in a child of a warm tool. Its arguments are decoded; `run` has the function called.

    `decoded` are the named arguments as the function would get them; None: all are as given.
    """

    def __init__(
        self, child: WarmChild, pool: Pool, prepared: _Prepared, on_print: Callable[[bytes], None] | None
    ) -> None:
        self._child = child
        self._pool = pool
        self._prepared = prepared
        self._exchange = Exchange(child.channel, child.prints, prepared.profile, on_print)
        self._decode_s = 0.0
        self._state: Literal["decoding", "waiting", "running", "over"] = "decoding"
        # The zygote is retired unless the call is known to have ended well: also after an exception.
        self._retire = True

    @property
    def decoded(self) -> Mapping[str, Json] | None:
        return self._exchange.decoded

    async def open(self) -> bool:
        """Have the child decode the arguments. False if it died unused, or its listener was closed: another may serve.

        Raises:
            Refusal: `invalid_arguments`: the tool does not accept the arguments.
        """
        profile, exchange = self._prepared.profile, self._exchange
        listener = self._child.zygote.listener
        if listener is not None and not listener.open:
            return False
        limit = min(profile.wall, DECODE_SECONDS)
        started = time.monotonic()
        await exchange.decode(self._prepared.granted, self._prepared.frame, limit)
        self._decode_s = time.monotonic() - started
        if exchange.waiting:
            self._state = "waiting"
            return True
        ending, unread = await self._ending(started, replace(profile, wall=limit))
        if unread:
            self._retire = False
            return False
        refusal = undecoded(replace(profile, wall=limit), ending)
        self._retire = refusal.details.get("reason") != "refused_by_validator"
        raise refusal

    async def run(self, context: CallContext) -> Output:
        """Have the function called, with what only a recorded attempt gets."""
        profile, exchange, child = self._prepared.profile, self._exchange, self._child
        self._state = "running"
        exchange.on_print = context.on_print or exchange.on_print
        started = time.monotonic() - self._decode_s
        async with (
            network_access := NetworkAccess(child.zygote.listener, profile.network, context, source=child.source)
        ):
            await exchange.finish(network_access.variables, profile.wall)
            ending, _ = await self._ending(started, profile)
        answer = classify_ending(profile, ending, declared=self._prepared.call.declared)
        output = settle(profile, ending, answer, self._prepared.granted, exchange)
        # What one call has filled up would be full for the next, and what ended it may have damaged its parent.
        self._retire = output.code in ("resource_exhausted", "timeout")
        return with_network_result(output, network_access)

    async def _ending(self, started: float, profile: Profile) -> tuple[Ending, bool]:
        """How the process ended, and whether it never read the call, so that another may serve it."""
        exchange, child, report = self._exchange, self._child, None
        self._state = "over"
        if exchange.stop is not None or not exchange.complete:
            child.end()
            report = await child.ended(DRAIN_SECONDS)
        exchange.read_prints()
        ending = exchange.ending(started, report)
        # Only the parent of the process knows how much it used.
        if report is None and classify_ending(profile, ending, declared=self._prepared.call.declared).limit is not None:
            ending = exchange.ending(started, await child.ended(DRAIN_SECONDS))
        return ending, exchange.call_unread and exchange.stop is None

    def close(self) -> None:
        """Give the child back. One that still runs, or waits for its second frame, is killed: its call does not go on."""
        if self._state != "over":
            self._child.end()
            self._retire = self._state != "waiting"
        close_files(self._exchange)
        self._exchange.unwatch()
        self._pool.done(self._child, retire=self._retire)
