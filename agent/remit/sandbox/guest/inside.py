"""The first program in the sandbox. It trusts the broker, takes its own rights away, and only then lets the tool in.

    lock_down         once per sandbox: what the manifest's boundary forbids
    one call          this process waits for the one process that serves it, and reports its end
    many calls        `supervisor.py` keeps a process that imports the tool once (`base.py`), and gives each call a copy of it

Run by path with `python -I -S -B`; standard library only (and pydantic, for the tool's own types). Descriptor 0 is the
channel to the broker, 1 the control line of this process alone, 2 the tool's prints. A frame is four bytes of length, then
JSON; descriptors ride on the length.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from remit.sandbox.guest import guard, kernel, onecall, outlet, supervisor, watch
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import guard
    import kernel
    import onecall
    import outlet
    import supervisor
    import watch

    del sys.path[0]
    for _name in (
        "base",
        "guard",
        "kernel",
        "notices",
        "onecall",
        "outlet",
        "scratch_folders",
        "serving",
        "supervisor",
        "watch",
    ):  # a tool may have modules of these names
        del sys.modules[_name]


def main() -> None:
    channel, control = _take_descriptors()
    boundary, _ = onecall.receive(channel)
    if boundary["tier"] != "full":
        guard.start(channel, os.path.dirname(boundary["scratch"]))
    if boundary["network"]:
        outlet.hand_out(boundary["network"], boundary["temporary"])
    if boundary["tier"] == "full":
        seal_devices(boundary)
    first = os.getpid()
    handle = os.pidfd_open(first)
    if boundary["warm"]:
        _report(control, b"begun\n", handle)
        supervisor.serve(channel, control, boundary, lambda: lock_down(boundary))
    lock_down(boundary)
    kernel.install(bytes.fromhex(boundary["filter"]))
    _report(control, b"ready\n", handle)
    child = os.fork()
    if child == 0:
        os.close(control)
        _one_call(channel, boundary, first)
    channel.close()
    _reap(child, control)


def _report(control: int, line: bytes, handle: int) -> None:
    """The first word, and by what the broker can end this process whatever became of the one that started it."""
    with socket.socket(fileno=os.dup(control)) as speaker:
        socket.send_fds(speaker, [line], [handle])
    os.close(handle)


def _take_descriptors() -> tuple[socket.socket, int]:
    channel = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10))
    control = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 11)
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # Its author watches; and what a killed call has printed is not lost.
    stdout: Any = sys.stdout  # its declared type lacks what it has
    stdout.reconfigure(line_buffering=True)
    return channel, control


def seal_devices(boundary: dict[str, Any]) -> None:
    """The nodes are this machine's own: nobody's modes and times are a tool's to change, whoever it runs as.

    Where nothing may be mounted here, no call that changes modes or times is left instead.
    """
    try:
        for device in onecall.DEVICES:
            kernel.mount_read_only(device)
    except OSError:
        boundary["filter"] = boundary["filter_without_mounts"]


def lock_down(boundary: dict[str, Any]) -> None:
    """Take away what no call of this tool may have, but for the filter. INVARIANT: nothing of the tool has run yet."""
    full = boundary["tier"] == "full"
    kernel.no_new_privileges()
    kernel.drop_capabilities()
    if not boundary["observed"]:  # whoever watches it must read what it asks the kernel for
        kernel.not_dumpable()
    rules = kernel.Ruleset()
    for path, access in onecall.runtime_access(boundary):
        rules.allow_path(path, access)
    # Without mounts, what an import wrote could be written by every call.
    rules.allow_path(boundary["temporary"], kernel.CHANGE if full or not boundary["warm"] else kernel.READ)
    rules.allow_path(boundary["scratch"], kernel.CHANGE)
    if not boundary["floating"]:
        rules.allow_path(boundary["root"], kernel.READ)
    for store in boundary["stores"]:
        rules.allow_path(os.path.join(boundary["root"], "stores", store), kernel.STORE)
    if boundary["network"]:
        rules.allow_connect(boundary["network"]["port"])
    rules.enforce()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, boundary["open_files"])
    _limit(resource.RLIMIT_FSIZE, boundary["file_bytes"])
    _limit(resource.RLIMIT_DATA, boundary["memory"])  # not RLIMIT_AS: that counts what is only reserved
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    _limit(resource.RLIMIT_STACK, 8 << 20)
    if full:  # without a user namespace it counts every process of the account
        _limit(resource.RLIMIT_NPROC, boundary["processes"])


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (most, most))


def _one_call(channel: socket.socket, boundary: dict[str, Any], parent: int) -> NoReturn:
    try:
        kernel.die_with_parent(parent)
        rules = onecall.prepare(boundary, [channel.fileno()])
        call = onecall.narrow(channel, boundary, rules)
        watcher = watch.Watch()
        if boundary["observed"]:
            onecall.be_observed(channel, boundary)
            watcher.observe()
        onecall.serve(channel, boundary, call, None, watcher)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _reap(child: int, control: int) -> None:
    """Wait for the call, sweep what it left behind, and tell the broker what only this process can know."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == child:
            break
    if os.getpid() == 1:  # INVARIANT: the only process of its namespace that is left
        with suppress(ProcessLookupError):
            os.kill(-1, 9)
        with suppress(ChildProcessError):
            while True:
                os.wait4(-1, 0)
    report = {
        "status": os.waitstatus_to_exitcode(status),
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,
    }
    os.write(control, json.dumps(report).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
