"""One running sandbox from the broker's side: its command line, the lines that lead to it, its end.

What it is killed by, it cannot take away: a handle on its first process, which takes its namespace along, or a guard.
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
from remit.sandbox.cgroups import Cgroup, delegated, descendants
from remit.sandbox.egress import Egress
from remit.sandbox.network_handover import Handover
from remit.sandbox.profile import (
    BASE_ENVIRONMENT,
    FLOATING,
    OPEN_FILES,
    PROCESSES,
    SCRATCH_BYTES,
    SCRATCH_FILES,
    TEMPORARY_BYTES,
    Places,
    Profile,
    Runtime,
    argv,
)
from remit.sandbox.protocol import ENVELOPE
from remit.sandbox.seccomp import base_filter, boundary_filter, call_filter, this_machine

START_SECONDS: Final = 30.0  # bubblewrap and the interpreter, on a busy machine; the tool's own time counts after it
DRAIN_SECONDS: Final = 2.0
_GUARD_SECONDS: Final = 30.0  # it sweeps as fast as the machine lets it; only one that was stopped takes as long


class DidNotStart(Exception):
    """The sandbox ended before it had locked itself; the text is what it printed.

    `silent`: it printed nothing, so somebody killed it, which says nothing of this machine: it is worth another start.
    """

    def __init__(self, printed: str) -> None:
        self.silent = not printed
        super().__init__(printed or "its process was killed before it was ready, and it printed nothing")


def boundary(
    profile: Profile,
    runtime: Runtime,
    at: Places,
    *,
    warm: bool = False,
    network: Mapping[str, Json] | None = None,
    observed: bool = False,
) -> dict[str, Json]:
    """What `inside.lock_down` needs; the paths are those of its tier. `warm`: it serves many calls; `network`: its way out."""
    machine = this_machine()
    if machine is None:
        raise DidNotStart("there is no filter of system calls for this machine's architecture")
    programs, namespaces = bool(profile.executables), profile.tier == "full"
    locks = bool(programs or profile.stores or profile.read_stores)

    def first_layer(*, mounts: bool) -> str:
        if warm:
            return base_filter(machine, namespaces=mounts, network=network is not None, locks=locks).hex()
        return boundary_filter(
            machine, programs=programs, namespaces=mounts, network=network is not None, observed=observed, locks=locks
        ).hex()

    return {
        "warm": warm,
        "network": network,
        "observed": observed,
        "tier": profile.tier,
        "runtime": [*runtime.folders],
        "packages": dict(at.packages),
        "code": at.code,
        "environment": at.environment,
        "root": at.root,
        "floating": FLOATING if warm and profile.root_per_call else "",
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
    """A folder for scratch where the tier has no mounts of its own; the caller removes it with `remove_base`.

    With `rooms`, of a warm tool's calls, scratch holds these and no others: what knows none of their names finds none.
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
    """Bytes for a whole sandbox: what each of so many processes may hold, and its files in memory."""
    return calls * profile.memory + SCRATCH_BYTES + TEMPORARY_BYTES


class Process:
    """One running sandbox and the broker's ends of its three lines. Leaving it kills everything in it.

    Where no namespace ends what is in it, its first process does once the broker hangs up (`guard.py`).
    `egress`: what serves its way out, where its profile has one.

    INVARIANT: it is entered and left in one thread: bubblewrap dies with the thread that started it.
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
        warm: bool = False,
    ) -> None:
        self._line = argv(profile, runtime, files, warm=warm)
        self._environment = environment(profile, at)
        self._account = account
        self._guarded = profile.tier != "full"
        self.channel: socket.socket
        self.control: socket.socket
        self.prints = self.starter = -1  # `starter` can be read once the process that was started here has ended
        self._first = -1  # a handle on the sandbox's first process
        self._way_out = None if egress is None or profile.network is None else (egress, profile.network)
        self.handover: Handover | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._group: Cgroup | None = None

    def __enter__(self) -> Self:
        self.channel, theirs = socket.socketpair()
        self.control, control = socket.socketpair()
        self.prints, prints = os.pipe()
        if self._way_out is not None:
            self.handover = Handover(*self._way_out)
        try:
            self._process = subprocess.Popen(
                self._line,
                stdin=theirs.fileno(),
                stdout=control.fileno(),
                stderr=prints,
                env=self._environment,
                cwd="/",
                start_new_session=True,  # Ctrl-C is the broker's to answer
                pass_fds=() if self.handover is None else self.handover.numbers,
                user=self._account,
                group=self._account,
                extra_groups=None if self._account is None else (),
            )
        except OSError as failure:
            self.__exit__(None, None, None)
            raise DidNotStart(f"{self._line[0]}: {failure.strerror}") from failure
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
            # Killed, so at most a moment; waited for here because a second cancellation must not leave it unreaped.
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
        """What its first process says; empty at the end. INVARIANT: a handle comes with the first word, and none is taken later.

        Raises:
            BlockingIOError: it says nothing just now.
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
        """What the sandbox is told of its way out; None where it has none."""
        return None if self.handover is None else self.handover.boundary_part

    def limit(self, memory: int, processes: int) -> None:
        """Bound all of it together, where a control group is delegated; called when it is locked and runs nothing yet."""
        parent = delegated()
        if parent is None or self._process is None:
            return
        with suppress(OSError):
            self._group = Cgroup(parent, f"remit-{self._process.pid}", memory=memory, processes=processes)
            for pid in descendants(self._process.pid):
                self._group.add(pid)

    def kill(self) -> None:
        """SIGKILL to its first process takes its namespace along; a guard is told, and sweeps.

        Bubblewrap itself comes last: killed before it has set the other up, it would leave it behind, tied to nobody.
        """
        if self.channel.fileno() < 0:  # it was left before
            return
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)
        if self._guarded:
            return
        if self._first < 0:
            self._wait_for_handle()
        if self._first >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
        self._kill_group()

    def _wait_for_handle(self) -> None:
        """It is starting: in a moment it says so, or reads that nobody is there and ends."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        if poll.poll(DRAIN_SECONDS * 1000):
            with suppress(OSError):
                self.receive()

    def _kill_group(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
