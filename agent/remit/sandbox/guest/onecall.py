"""One call in a process of its own: prepare the rules, narrow them to the granted files, decode, run the tool, answer.

It has two phases. In the first, the arguments are decoded: the process has no secret and no ticket of the proxy, and it
cannot write what outlives it. Then it reports the decoded arguments and waits. The broker sends the second frame, with
secrets and ticket, only when it has recorded that the attempt begins; only then is the function called. The byte after
that frame stays unread until the line before the function: a process that ends earlier leaves it, and the kernel
reports that to the broker.

Standard library only. Everything here is trusted until `serve` imports or calls the tool, and nothing is after that. In
a warm tool the import ran before and may have replaced these functions: then the first layer (`inside.lock_down`) and
the supervisor hold.
"""

from __future__ import annotations

import contextvars
import json
import math
import os
import resource
import shutil
import socket
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.sandbox.guest import conformance, decoding, kernel, serving, watch
else:
    import conformance
    import decoding
    import kernel
    import serving
    import watch

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_LARGEST_REQUEST = 8 << 20
# The report that the arguments are as given, with its length. Most calls send it, so it is made in advance.
_AS_GIVEN = b'\0\0\0\x23{"kind":"decoded","arguments":null}'
_MEMORY = b'{"kind":"raised","name":"MemoryError","message":""}'  # made in advance: later there may be no memory for it


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next frame, {} if it has no body, and the descriptors sent with it. The process exits if the channel is at its end."""
    head, descriptors, _, _ = socket.recv_fds(channel, 4, 253, socket.MSG_CMSG_CLOEXEC)
    size = int.from_bytes(head, "big")
    if len(head) != 4 or size > _LARGEST_REQUEST:
        os._exit(1)
    body = bytearray()
    while len(body) < size:
        part = channel.recv(size - len(body))
        if not part:
            os._exit(1)
        body += part
    return json.loads(bytes(body)) if size else {}, descriptors


def send(channel: socket.socket, body: bytes, descriptors: list[int]) -> None:
    """Send the answer and close the channel for writing: the broker takes that as the end of the answer."""
    message = len(body).to_bytes(4, "big") + body
    # Descriptors can only be sent with the first part; the rest of a long message follows without.
    sent = socket.send_fds(channel, [message], descriptors) if descriptors else channel.send(message)
    if sent < len(message):
        channel.sendall(message[sent:])
    channel.shutdown(socket.SHUT_WR)


def report(channel: socket.socket, frame: dict[str, Any]) -> None:
    """Send a frame of the first phase."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    channel.sendall(len(body).to_bytes(4, "big") + body)


# ---- before the tool -------------------------------------------------------------------------------------------------


def runtime_access(boundary: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The paths that every layer allows: the runtime, the tool's folder and packages, and the programs that it may start."""
    for path in (*serving.readable(boundary), "/dev/zero", "/dev/urandom"):
        yield path, kernel.READ
    yield "/dev/null", kernel.READ_FILE | kernel.WRITE_FILE
    if boundary["network"]:
        yield boundary["network"]["roots"], kernel.READ_FILE
    if boundary["proc"]:
        yield "/proc", kernel.READ
    for path in serving.executables(boundary["programs"]):
        yield path, kernel.READ_FILE | kernel.EXECUTE


def prepare(boundary: dict[str, Any], keep: list[int]) -> tuple[kernel.Ruleset, kernel.Ruleset]:
    """Prepare the part of the second layer that is the same for every call, and the layer for decoding.

    The latter takes away every write but those to temporary files. The filter of calls makes new layers impossible.

    INVARIANT: only the three standard descriptors, `keep` and the two rulesets stay open. An inherited descriptor would keep
    the access that it was opened with, whatever Landlock allows later.
    """
    rules = kernel.Ruleset()
    for path, access in runtime_access(boundary):
        rules.allow_path(path, access)
    for path in (boundary["scratch"], boundary["temporary"]):
        rules.allow_path(path, kernel.CHANGE)
    if boundary["network"] and boundary["tier"] == "full":
        rules.allow_connect(boundary["network"]["port"])
    reading = kernel.Ruleset()
    reading.allow_path("/", kernel.READ | kernel.EXECUTE)
    reading.allow_path("/dev/null", kernel.READ_FILE | kernel.WRITE_FILE)
    reading.allow_path(boundary["temporary"], kernel.CHANGE)
    close_others([*keep, rules.descriptor, reading.descriptor])
    # At the soft limit SIGXCPU ends the process; a tool that ignores it meets SIGKILL one second later.
    seconds = math.ceil(boundary["cpu"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    # An observed call loads its second filter later, in `be_observed`: its own preparations are not to be recorded.
    if not boundary["observed"]:
        kernel.install(bytes.fromhex(boundary["call_filter"]))
    return rules, reading


def be_observed(channel: socket.socket, boundary: dict[str, Any]) -> None:
    """Load the filter that notifies the broker, and send the listener to it.

    INVARIANT: no code of the tool has run, and the tool never has the listener: the process that has it answers the
    notifications.
    """
    listener = kernel.install_with_listener(bytes.fromhex(boundary["call_filter"]))
    socket.send_fds(channel, [b"!"], [listener])
    os.close(listener)


def close_others(keep: list[int]) -> None:
    """Close every descriptor except 0, 1, 2 and those of `keep`."""
    first = 3
    for descriptor in sorted(keep):
        if descriptor > first:
            kernel.syscall("close_range", first, descriptor - 1, 0)
        first = descriptor + 1
    kernel.close_all_from(first)


def narrow(channel: socket.socket, boundary: dict[str, Any], rules: kernel.Ruleset | None) -> dict[str, Any]:
    """Restrict this process to the granted files; return the frame of the call.

    The broker sends each granted file by descriptor.

    Without `rules` it is a rehearsal, which restricts nothing.
    INVARIANT: every received descriptor is closed before the tool runs. Through one of a folder outside, `..` would
    lead out.
    """
    access = {"file": kernel.READ_FILE, "list": kernel.READ_DIR, "store": kernel.STORE, "read_store": kernel.READ}
    while True:
        frame, descriptors = receive(channel)
        if rules is None:
            break
        for descriptor, kind in zip(descriptors, frame["kinds"], strict=True):
            rules.allow(descriptor, access[kind], is_file=kind == "file")
            os.close(descriptor)
        if "layout" in frame:
            break
    # Enforced before the layout is used, so that laying out scratch can read nothing but the granted files.
    if rules is not None:
        rules.enforce()
    _lay_out(boundary, frame["layout"])
    os.environ.update(frame["env"])
    return frame


def _lay_out(boundary: dict[str, Any], layout: dict[str, Any]) -> None:
    """Enter the tool's current folder: the working folder, or scratch with the granted files under their names."""
    root: str = boundary["root"]
    scratch: str = boundary["scratch"]
    if not layout["mirrored"]:
        os.chdir(root)
        return
    os.chdir(scratch)
    for folder in layout["folders"]:
        os.makedirs(folder, exist_ok=True)
    for name in (*layout["writes"], *layout["links"]):
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    # A link for what is only read, a copy for what is written too: the original must not change before the commit.
    for name in layout["links"]:
        with suppress(FileExistsError):
            os.symlink(os.path.join(root, name), name)
    for name in layout["copies"]:
        with suppress(FileNotFoundError):
            shutil.copyfile(os.path.join(root, name), name)
    for store in layout["stores"]:
        name = os.path.join("stores", store)
        os.makedirs(os.path.dirname(name), exist_ok=True)
        os.symlink(os.path.join(root, name), name)


# ---- the tool --------------------------------------------------------------------------------------------------------


def serve(
    channel: socket.socket,
    boundary: dict[str, Any],
    call: dict[str, Any],
    module: types.ModuleType | None,
    watcher: watch.Watch,
    reading: kernel.Ruleset | None,
) -> None:
    """Run the tool and send one answer. `module` is the tool, if it was imported before.

    `reading` is the layer for decoding; it is not needed if the call may write nothing, and None in a rehearsal.
    """
    if reading is not None and (not call["writes"] or call["mode"] != "call"):
        os.close(reading.descriptor)
        reading = None
    before = _written(call["layout"])
    watcher.begin(boundary, call["layout"])
    descriptors: list[int] = []
    answer: dict[str, Any]
    value = "null"
    try:
        answer, value = _answer(channel, boundary, call, module, reading)
        if answer["kind"] == "value":
            descriptors = _collect(call["layout"], before, answer)
    except MemoryError:  # nothing more may be allocated, not even an answer
        send(channel, _MEMORY, [])
        return
    except decoding.Refused as failure:
        answer = {"kind": "refused", "argument": failure.argument, "message": str(failure)}
    except (serving.NotJson, decoding.NotEncoded) as failure:
        answer = {"kind": "invalid", "message": str(failure)}
    except BaseException as failure:  # noqa: BLE001 - a tool may raise anything
        watcher.paused = True  # a traceback opens source files
        answer = serving.raised(failure, call["declared"], boundary["code"])
    # What follows is the work of this file and not of the tool.
    watcher.paused = True
    if watcher.refused:
        answer["refused"] = watcher.refused
    if boundary["observed"]:
        answer["variables"], answer["lacking"] = sorted(watcher.variables), sorted(watcher.lacking)
    serving.flush()
    used = resource.getrusage(resource.RUSAGE_SELF)
    answer["cpu"], answer["memory"] = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    body = json.dumps(answer, separators=(",", ":"))
    if answer["kind"] == "value":
        body = f'{body[:-1]},"value":{value}}}'
    data = body.encode()
    # The broker would end the call for an answer of this size; so the size itself is the answer.
    if len(data) > boundary["largest_answer"]:
        data, descriptors = json.dumps({"kind": "oversized", "size": len(value.encode())}).encode(), []
    send(channel, data, descriptors)


def _answer(
    channel: socket.socket,
    boundary: dict[str, Any],
    call: dict[str, Any],
    module: types.ModuleType | None,
    reading: kernel.Ruleset | None,
) -> tuple[dict[str, Any], str]:
    """The answer without its value, and the value as JSON text, so that a large value is serialized only once."""
    if call["mode"] == "describe":
        return {"kind": "value"}, serving.to_json(conformance.describe(serving.load(boundary)))
    if call["mode"] == "conform":
        return {"kind": "value"}, serving.to_json(conformance.of_module(serving.load(boundary), call["arguments"]))
    if call["mode"] == "command":
        _begin(channel, None)
        answer = serving.run_command(call["argv"], boundary["output"], call["declared"])
        return answer, serving.to_json(answer.pop("value", None))
    if module is None:
        action = decoding.action(serving.load(boundary), call["function"])
        report(channel, {"kind": "loaded"})
    else:
        action = decoding.action(module, call["function"])

    def decode() -> tuple[decoding.Decoded, dict[str, Any] | None]:
        decoded = action.decode(call["arguments"])
        return decoded, action.as_json(decoded, call["named"])

    if reading is not None and action.runs_code:
        decoded, shown = _without_writing(reading, decode)
    else:
        if reading is not None:
            os.close(reading.descriptor)
        decoded, shown = decode()
    _begin(channel, shown)
    return {"kind": "value"}, serving.to_json(
        action.call(decoded, lambda generator: serving.gathered(generator, serving.print_now))
    )


def _begin(channel: socket.socket, decoded: dict[str, Any] | None) -> None:
    """End the first phase: report the decoded arguments, None if they are as given; wait for the second frame.

    INVARIANT: nothing stands between the last line and the call of the function. A process that has not taken the last
    byte has not called it.
    """
    if decoded is None:
        channel.sendall(_AS_GIVEN)
    else:
        report(channel, {"kind": "decoded", "arguments": decoded})
    frame, _ = receive(channel)
    if frame:
        os.environ.update(frame["env"])
    if not channel.recv(1):
        os._exit(1)


def _without_writing(layer: kernel.Ruleset, work: Callable[[], Any]) -> Any:
    """The result of `work`, done in a thread that can read as this process can, and write only temporary files.

    A Landlock layer holds for one thread and those that it starts, and cannot be taken off again. So the thread that
    will call the function keeps its rights. The memory is shared: against code that changes it this is no boundary, and
    an import of that tool is none either.
    """
    outcome: list[Any] = []

    def restricted() -> None:
        try:
            layer.enforce()
            outcome.extend((work(), None))
        except BaseException as failure:  # noqa: BLE001 - raised again below, in the thread of the call
            outcome.extend((None, failure))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(restricted,))
    thread.start()
    thread.join()
    result, failure = outcome
    if failure is not None:
        raise failure
    return result


def rehearse(boundary: dict[str, Any], watcher: watch.Watch) -> None:
    """Run a call that does nothing.

    It touches the memory that a call needs, so that the real call need not copy those pages.
    """
    broker, channel = socket.socketpair()
    layout: dict[str, Any] = {"mirrored": False, "reads": [], "writes": [], "whole": []}
    call: dict[str, Any] = {
        "mode": "call",
        "function": "rehearsal",
        "arguments": {},
        "named": [],
        "writes": False,
        "declared": {},
        "env": {},
        "layout": layout,
    }
    report(broker, {**call, "kinds": []})
    broker.sendall(b"\0\0\0\0!")
    frame = narrow(channel, boundary, None)
    serve(channel, boundary, frame, decoding.REHEARSAL, watcher, None)
    broker.close()
    channel.close()
    decoding.forget(frame["function"])


def _written(layout: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Inode, time and size of each file that the call may write. Files that do not exist are left out."""
    status_by_name: dict[str, tuple[int, int, int]] = {}
    for name in layout["writes"]:
        try:
            status = os.lstat(name)
        except OSError:
            continue
        status_by_name[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return status_by_name


def _collect(layout: dict[str, Any], before: dict[str, tuple[int, int, int]], answer: dict[str, Any]) -> list[int]:
    """Open every granted file that the tool changed.

    The broker gets descriptors, so that no name can be swapped afterwards.
    """
    if not layout["mirrored"]:
        return []
    after = _written(layout)
    changed = [name for name in layout["writes"] if name in after and after[name] != before.get(name)]
    answer["files"] = changed
    answer["removed"] = [name for name in layout["writes"] if name in before and name not in after]
    if note := serving.not_saved(serving.undecided_files(layout)):
        answer["note"] = note
    return [os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC) for name in changed]


def clean(boundary: dict[str, Any]) -> bool:
    """Remove the folders of the call; True if they are gone."""
    with suppress(OSError):
        os.chdir("/")
    for path in (boundary["temporary"], boundary["scratch"]):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
    return not any(os.path.lexists(path) for path in (boundary["temporary"], boundary["scratch"]))
