"""One running sandbox, from the broker's side: start it, the pipes and sockets to it, kill it.

It cannot prevent its end. In the full tier the broker has a handle (pidfd) on its first process, whose end ends the
whole pid namespace; in the landlock tier a guard process outside the sandbox kills what is left.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from remit.core import Json
from remit.sandbox.cgroups import Cgroup, cgroup_descendants, delegated
from remit.sandbox.egress import Egress
from remit.sandbox.network_handover import Handover
from remit.sandbox.profile import (
    BASE_ENVIRONMENT,
    FLOATING,
    LIVE_FLOATING,
    OPEN_FILES,
    PROCESSES,
    SCRATCH_BYTES,
    SCRATCH_FILES,
    TEMPORARY_BYTES,
    Kind,
    Places,
    Profile,
    Runtime,
    argv,
)
from remit.sandbox.protocol import ENVELOPE
from remit.sandbox.seccomp import base_filter, boundary_filter, call_filter, this_machine

START_SECONDS: Final = (
    30.0  # for bubblewrap and the interpreter, on a busy machine; the limits of the tool count from then on
)
DRAIN_SECONDS: Final = 2.0
_GUARD_SECONDS: Final = 30.0  # it needs far less, unless it was stopped (SIGSTOP)


class DidNotStart(Exception):
    """The sandbox ended before it was locked down. The text is what it printed.

    `silent`: it printed nothing, so it was killed from outside. That is no property of this machine, so another start
    may work.
    """

    def __init__(self, printed: str) -> None:
        self.silent = not printed
        super().__init__(printed or "its process was killed before it was ready, and it printed nothing")


def boundary(
    profile: Profile,
    runtime: Runtime,
    at: Places,
    *,
    kind: Kind = "single",
    network: Mapping[str, Json] | None = None,
    observed: bool = False,
) -> dict[str, Json]:
    """The boundary frame: what `inside.lock_down` needs. Its paths hold inside the sandbox.

    `network`: the part of `Handover`, or None. `observed`: the second filter
    asks the broker.

    Raises:
        DidNotStart: there is no filter of system calls for this machine.
    """
    machine = this_machine()
    if machine is None:
        raise DidNotStart("there is no filter of system calls for this machine's architecture")
    programs, namespaces, warm = bool(profile.executables), profile.tier == "full", kind == "warm"
    floating = FLOATING if warm and profile.root_per_call else LIVE_FLOATING if kind == "live" else ""
    # Databases ask who holds a lock. Other tools must not: the answer shows one process the locks of another.
    locks = bool(programs or profile.stores or profile.read_stores)

    asks = network is not None and not namespaces  # another process connects in the place of the tool

    def first_layer(*, mounts: bool) -> str:
        if warm:
            return base_filter(machine, namespaces=mounts, network=network is not None, locks=locks).hex()
        return boundary_filter(
            machine,
            programs=programs,
            namespaces=mounts,
            network=network is not None,
            asks=asks,
            observed=observed,
            locks=locks,
        ).hex()

    return {
        "kind": kind,
        "network": network,
        "asks": asks,
        "observed": observed,
        "tier": profile.tier,
        "runtime": [*runtime.folders],
        "packages": dict(at.packages),
        "code": at.code,
        "environment": at.environment,
        "root": at.root,
        "floating": floating,
        "served": profile.source == "mcp",
        "proc": profile.proc,
        "scratch": at.scratch,
        "temporary": at.temporary,
        "stores": list(profile.stores),
        "read_stores": list(profile.only_read_stores),
        "programs": list(profile.executables),
        "memory": profile.memory,
        "cpu": profile.cpu,
        "output": profile.output,
        "open_files": OPEN_FILES,
        "processes": 2 * PROCESSES if warm else PROCESSES,
        "largest_answer": profile.output + ENVELOPE,
        "file_bytes": SCRATCH_BYTES,
        "files": SCRATCH_FILES,
        "filter": first_layer(mounts=namespaces),
        "filter_without_mounts": first_layer(mounts=False),
        "call_filter": call_filter(machine, programs=programs, namespaces=namespaces, observed=observed).hex(),
    }


def environment(profile: Profile, at: Places) -> dict[str, str]:
    """The variables of the process; bubblewrap sets those of the full tier itself."""
    if profile.tier == "full":
        return {}
    return {**BASE_ENVIRONMENT, "HOME": at.temporary, "TMPDIR": at.temporary}


def make_base(profile: Profile, scratch_folders: Sequence[str] = ()) -> str | None:
    """A temporary folder for scratch, in the tier without mounts; None in the full tier. Remove it with `remove_base`.

    `scratch_folders` are the random names of the folders for a warm tool's calls. Mode 0100 on their parent then lets a
    process open a folder whose name it knows, and neither list nor add any.
    """
    if profile.tier == "full":
        return None
    base = tempfile.mkdtemp(prefix="remit-")
    for name in ("scratch", "tmp"):
        os.mkdir(f"{base}/{name}", 0o700)
    for name in scratch_folders:
        os.mkdir(f"{base}/scratch/{name}", 0o700)
    if scratch_folders:
        os.chmod(f"{base}/scratch", 0o100)
    return base


def remove_base(base: str) -> None:
    with suppress(OSError):
        os.chmod(f"{base}/scratch", 0o700)
    shutil.rmtree(base, ignore_errors=True)


def group_memory(profile: Profile, calls: int) -> int:
    """Bytes for a whole sandbox with that many calls at once: the memory of each call, and the files in tmpfs."""
    return calls * profile.memory + SCRATCH_BYTES + TEMPORARY_BYTES


class Process:
    """One running sandbox, and the broker's ends of its channel, its control socket and its pipe for prints.

    Leaving the context kills everything in it. In the tier without namespaces, the guard (`guest/guard.py`) does that
    when the broker's end of the channel closes. `egress` serves the sandbox's listener, if its profile has a network.

    INVARIANT: it is entered and left in one thread. `--die-with-parent` makes bubblewrap die with the thread that
    started it.
    """

    def __init__(
        self,
        profile: Profile,
        runtime: Runtime,
        at: Places,
        *,
        account: int | None,
        files: Sequence[str] = (),
        egress: Egress | None = None,
        kind: Kind = "single",
    ) -> None:
        self._argv = argv(profile, runtime, files, kind=kind)
        self._environment = environment(profile, at)
        self._account = account
        self._guarded = profile.tier != "full"
        self.channel: socket.socket
        self.control: socket.socket
        self.prints = self.starter = -1  # `starter` becomes readable when the process started here ends
        self._first = -1  # a handle on the sandbox's first process
        self._proxy = None if egress is None or profile.network is None else (egress, profile.network)
        self.handover: Handover | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._group: Cgroup | None = None

    def __enter__(self) -> Self:
        self.channel, theirs = socket.socketpair()
        self.control, control = socket.socketpair()
        self.prints, prints = os.pipe()
        if self._proxy is not None:
            self.handover = Handover(*self._proxy, namespaces=not self._guarded)
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=theirs.fileno(),
                stdout=control.fileno(),
                stderr=prints,
                env=self._environment,
                cwd="/",
                start_new_session=True,  # so that Ctrl-C reaches the broker only
                pass_fds=() if self.handover is None else self.handover.numbers,
                user=self._account,
                group=self._account,
                extra_groups=None if self._account is None else (),
            )
        except OSError as failure:
            self.__exit__(None, None, None)
            raise DidNotStart(f"{self._argv[0]}: {failure.strerror}") from failure
        finally:
            theirs.close()
            if self.handover is not None:
                self.handover.close_inherited()
            control.close()
            os.close(prints)
        self.starter = os.pidfd_open(self._process.pid)
        for descriptor in (self.channel.fileno(), self.control.fileno(), self.prints):
            os.set_blocking(descriptor, False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self._process is not None:
            # It was killed, so this takes a moment. It blocks because a second cancellation must not leave the process
            # unreaped.
            try:
                self._process.wait(_GUARD_SECONDS if self._guarded else None)
            except subprocess.TimeoutExpired:
                self._kill_group()
                self._process.wait()
        if self._group is not None:
            self._group.close()
        self.channel.close()
        if self.handover is not None:
            self.handover.close()
        self.control.close()
        for descriptor in (self.prints, self.starter, self._first):
            if descriptor >= 0:
                os.close(descriptor)

    def receive(self) -> bytes:
        """The next bytes on the control socket; empty at its end.

        INVARIANT: the handle on the first process comes with its first message, before code of the tool runs; later
        ones are closed.

        Raises:
            BlockingIOError: there is nothing to read now.
        """
        data, descriptors, _, _ = socket.recv_fds(self.control, 65_536, 1, socket.MSG_CMSG_CLOEXEC)
        for descriptor in descriptors:
            if self._first < 0:
                self._first = descriptor
            else:
                os.close(descriptor)
        return data

    @property
    def network(self) -> dict[str, Json] | None:
        """The network part of the boundary frame; None without a network."""
        return None if self.handover is None else self.handover.boundary_part

    def limit(self, memory: int, processes: int) -> None:
        """Limit all of its processes together, if a control group is delegated.

        Call it after the lock-down, before the tool runs.
        """
        parent = delegated()
        if parent is None or self._process is None:
            return
        with suppress(OSError):
            self._group = Cgroup(parent, f"remit-{self._process.pid}", memory=memory, processes=processes)
            for pid in cgroup_descendants(self._process.pid):
                self._group.add(pid)

    def kill(self) -> None:
        """Kill everything in the sandbox: SIGKILL for its first process ends the namespace; a guard gets a closed channel.

        The order matters. Bubblewrap is killed last: if it dies before it has tied the first process to itself, that
        process would go on without a parent that ends it.
        """
        if self.channel.fileno() < 0:  # the context was left before
            return
        with suppress(
            OSError
        ):  # for writing only: what the process had not read is seen at the other end, once it is dead
            self.channel.shutdown(socket.SHUT_WR)
        if self._guarded:
            return
        if self._first < 0:
            self._wait_for_handle()
        if self._first >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
        self._kill_group()

    def _wait_for_handle(self) -> None:
        """The sandbox is still starting: wait until it sends its handle, or sees the closed channel and ends."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        if poll.poll(DRAIN_SECONDS * 1000):
            with suppress(OSError):
                self.receive()

    def _kill_group(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
