"""The first program in the sandbox. It trusts the broker, drops its own rights, and only then runs the tool.

    lock_down         once per sandbox: drop everything that the manifest does not allow for any call
    one call          this process forks the process of the call, waits for it, and reports its end
    a run             `live.py` mounts the files of each call, and forks its process
    many calls        `supervisor.py` keeps a process that has imported the tool (`base.py`); each call is a fork of it

Run by path with `python -I -S -B`; standard library only (and pydantic, for the tool's own types: `decoding.py`). Descriptor 0 is the
channel to the broker, 1 the control socket of this process alone, 2 the pipe for prints. A frame is a length of four
bytes, then JSON; descriptors are sent with the length.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from remit.sandbox.guest import guard, kernel, live, onecall, outlet, supervisor, watch
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import guard
    import kernel
    import live
    import onecall
    import outlet
    import supervisor
    import watch

    del sys.path[0]
    for _name in (
        "base",
        "decoding",
        "guard",
        "kernel",
        "live",
        "notices",
        "onecall",
        "outlet",
        "scratch_folders",
        "serving",
        "supervisor",
        "watch",
    ):  # a tool may have modules with these names
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
    # From here on the broker can kill the sandbox, even if the process that started it is gone.
    first = os.getpid()
    handle = os.pidfd_open(first)
    if boundary["kind"] == "live":
        _report(control, live.readiness(boundary), handle)
        opened = list(kernel.open_paths(_allowed(boundary)))  # once: looking for programs takes longer than a call
        keeper = live.ServerKeeper if boundary["served"] else live.Keeper
        keeper(channel, control, boundary, lambda: _lock_call(boundary, opened)).run()
    if boundary["kind"] == "warm":
        _report(control, b"begun\n", handle)
        supervisor.serve(channel, control, boundary, lambda: lock_down(boundary))
    if boundary["asks"]:
        _answer_for_call(channel, control, boundary, handle)
    lock_down(boundary)
    kernel.install(bytes.fromhex(boundary["filter"]))
    _report(control, b"ready\n", handle)
    child = os.fork()
    if child == 0:
        os.close(control)
        _one_call(channel, boundary, first)
    channel.close()
    _reap(child, control)


def _answer_for_call(channel: socket.socket, control: int, boundary: dict[str, Any], handle: int) -> NoReturn:
    """Run one call of the tier without namespaces in a child that is locked down alone: this process connects in its place.

    INVARIANT: this process runs no code of the tool, and the child has no listener of its filter when it does.
    """
    kernel.no_new_privileges()
    kernel.drop_capabilities()
    ours, theirs = socket.socketpair()
    first, child = os.getpid(), os.fork()
    if child == 0:
        os.close(control)
        lock_down(boundary)
        listener = kernel.install_with_listener(bytes.fromhex(boundary["filter"]))
        socket.send_fds(theirs, [b"!"], [listener])
        os.close(listener)
        _one_call(channel, boundary, first)
    kernel.not_dumpable()
    theirs.close()
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not descriptors:
        os._exit(1)
    _report(control, b"ready\n", handle)
    channel.close()
    outlet.answer_until_ended(descriptors[0], child, boundary["network"]["port"])
    _reap(child, control)


def _report(control: int, line: bytes, handle: int) -> None:
    """Send the first message, with a handle by which the broker can kill this process even if bubblewrap has died."""
    with socket.socket(fileno=os.dup(control)) as sender:
        socket.send_fds(sender, [line], [handle])
    os.close(handle)


def _take_descriptors() -> tuple[socket.socket, int]:
    channel = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10))
    control = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 11)
    # The tool must not find the channel under the numbers 0 and 1, so /dev/null and the prints take these.
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    # Line by line: the author of a tool watches its prints, and those of a killed call must not be lost.
    stdout: Any = sys.stdout  # its declared type does not have `reconfigure`
    stdout.reconfigure(line_buffering=True)
    return channel, control


def seal_devices(boundary: dict[str, Any]) -> None:
    """Make the device nodes read-only.

    They are those of this machine, and a tool that runs as root could change their modes and times.

    If nothing can be mounted here, a filter without the system calls for modes and times is used instead.
    """
    try:
        for device in onecall.DEVICES:
            kernel.mount_read_only(device)
    except OSError:
        boundary["filter"] = boundary["filter_without_mounts"]


def _allowed(boundary: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The paths that the first layer allows, besides scratch."""
    yield from onecall.runtime_access(boundary)
    # Without mounts it cannot be made read-only after the import, and every call could change what the import wrote
    # there.
    changed = boundary["tier"] == "full" or boundary["kind"] != "warm"
    yield boundary["temporary"], kernel.CHANGE if changed else kernel.READ
    if not boundary["floating"]:
        yield boundary["root"], kernel.READ
    for store in boundary["stores"]:
        yield os.path.join(boundary["root"], "stores", store), kernel.STORE


def lock_down(boundary: dict[str, Any]) -> None:
    """Drop everything that no call of this tool may have, except for the filter, which is loaded next.

    INVARIANT: no code of the tool has run yet.
    """
    _enforce(boundary, _drop_rights(boundary, None))


def _drop_rights(boundary: dict[str, Any], opened: Sequence[kernel.OpenedPath] | None) -> kernel.Ruleset:
    """Drop what needs no scratch, and prepare the first layer. `opened` are its paths, if they were opened before."""
    full = boundary["tier"] == "full"
    kernel.no_new_privileges()
    kernel.drop_capabilities()
    if boundary["network"] and not full:  # another process reads the addresses to which this one connects
        kernel.traceable()
    elif not boundary["observed"]:  # the observer reads paths from the memory of this process
        kernel.not_dumpable()
    rules = kernel.Ruleset()
    for path in kernel.open_paths(_allowed(boundary)) if opened is None else opened:
        rules.allow(path.descriptor, path.access, is_file=path.is_file)
        if opened is None:
            os.close(path.descriptor)
    if boundary["network"] and full:  # without namespaces, no process of the tool connects by itself
        rules.allow_connect(boundary["network"]["port"])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, boundary["open_files"])
    _limit(resource.RLIMIT_FSIZE, boundary["file_bytes"])
    _limit(resource.RLIMIT_DATA, boundary["memory"])  # not RLIMIT_AS, which counts memory that is only reserved
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    _limit(resource.RLIMIT_STACK, 8 << 20)
    if full:  # without a user namespace, this limit counts all processes of the account
        _limit(resource.RLIMIT_NPROC, boundary["processes"])
    return rules


def _enforce(boundary: dict[str, Any], rules: kernel.Ruleset) -> None:
    rules.allow_path(boundary["scratch"], kernel.CHANGE)
    rules.enforce()


def _lock_call(boundary: dict[str, Any], opened: Sequence[kernel.OpenedPath]) -> Callable[[], None]:
    """Drop the rights of a process that will run one call of a live sandbox; what is returned locks it down for that call."""
    rules = _drop_rights(boundary, opened)

    def lock() -> None:
        _enforce(boundary, rules)
        kernel.install(bytes.fromhex(boundary["filter"]))

    return lock


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (most, most))


def _one_call(channel: socket.socket, boundary: dict[str, Any], parent: int) -> NoReturn:
    try:
        kernel.die_with_parent(parent)
        rules, reading = onecall.prepare(boundary, [channel.fileno()])
        call = onecall.narrow(channel, boundary, rules)
        watcher = watch.Watch()
        if boundary["observed"]:
            onecall.be_observed(channel, boundary)
            watcher.observe()
        onecall.serve(channel, boundary, call, None, watcher, reading)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _reap(child: int, control: int) -> NoReturn:
    """Wait for the process of the call, kill what it left, and report its exit status and usage to the broker."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == child:
            break
    if os.getpid() == 1:  # INVARIANT: pid 1 of a namespace of its own, so that -1 means the sandbox and not the machine
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
