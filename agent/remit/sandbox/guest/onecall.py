"""One call in a process of its own: hold the rules ready, narrow them to the decision, run the tool, answer, end.

Standard library only. Until `serve` imports or calls the tool, everything here is trusted; after that, nothing is.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import socket
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel, serving, watch
else:
    import kernel
    import serving
    import watch

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_LARGEST_REQUEST = 8 << 20
_MEMORY = b'{"kind":"raised","name":"MemoryError","message":""}'  # ready before there is no memory to make it


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next frame and the descriptors on it; the process ends where there is none."""
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
    return json.loads(bytes(body)), descriptors


def send(channel: socket.socket, body: bytes, descriptors: list[int]) -> None:
    """The answer, and then nothing more: the broker reads to the end."""
    message = len(body).to_bytes(4, "big") + body
    sent = socket.send_fds(channel, [message], descriptors) if descriptors else channel.send(message)
    if sent < len(message):
        channel.sendall(message[sent:])
    channel.shutdown(socket.SHUT_WR)


# ---- before the tool -------------------------------------------------------------------------------------------------


def runtime_access(boundary: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """What every layer holds: the runtime, the tool's folder and packages, and the programs that it may start."""
    for path in (*serving.readable(boundary), "/dev/zero", "/dev/urandom"):
        yield path, kernel.READ
    yield "/dev/null", kernel.READ_FILE | kernel.WRITE_FILE
    if boundary["network"]:
        yield boundary["network"]["roots"], kernel.READ_FILE
    for path in serving.executables(boundary["programs"]):
        yield path, kernel.READ_FILE | kernel.EXECUTE


def prepare(boundary: dict[str, Any], keep: list[int]) -> kernel.Ruleset:
    """Everything of the second layer that does not depend on the decision.

    INVARIANT: nothing but the standard three, `keep` and the ruleset stays open, so no descriptor leads out of the sandbox.
    """
    rules = kernel.Ruleset()
    for path, access in runtime_access(boundary):
        rules.allow_path(path, access)
    for path in (boundary["scratch"], boundary["temporary"]):
        rules.allow_path(path, kernel.CHANGE)
    if boundary["network"]:
        rules.allow_connect(boundary["network"]["port"])
    close_others([*keep, rules.descriptor])
    seconds = math.ceil(boundary["cpu"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    if not boundary["observed"]:
        kernel.install(bytes.fromhex(boundary["call_filter"]))
    return rules


def be_observed(channel: socket.socket, boundary: dict[str, Any]) -> None:
    """From here on the broker is asked. INVARIANT: nothing of the tool has run, and it never holds what answers."""
    listener = kernel.install_with_listener(bytes.fromhex(boundary["call_filter"]))
    socket.send_fds(channel, [b"!"], [listener])
    os.close(listener)


def close_others(keep: list[int]) -> None:
    """Close every descriptor above the standard three but those of `keep`."""
    first = 3
    for descriptor in sorted(keep):
        if descriptor > first:
            kernel.syscall("close_range", first, descriptor - 1, 0)
        first = descriptor + 1
    kernel.close_all_from(first)


def narrow(channel: socket.socket, boundary: dict[str, Any], rules: kernel.Ruleset | None) -> dict[str, Any]:
    """Keep only what this decision opened: the broker sends each inode, and this process grants itself no other.

    Without `rules` it is a rehearsal, which opens nothing.
    INVARIANT: every received descriptor is closed before the tool runs; one from outside would lead out with `..`.
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
    if rules is not None:
        rules.enforce()
    _lay_out(boundary, frame["layout"])
    os.environ.update(frame["env"])
    return frame


def _lay_out(boundary: dict[str, Any], layout: dict[str, Any]) -> None:
    """Give the tool its current folder: the working folder itself, or scratch with the decided files in their places."""
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
    for name in layout["links"]:
        with suppress(FileExistsError):
            os.symlink(os.path.join(root, name), name)
    for name in layout["copies"]:
        with suppress(FileNotFoundError):
            shutil.copyfile(os.path.join(root, name), name)
    for store in layout["stores"]:
        os.makedirs("stores", exist_ok=True)
        os.symlink(os.path.join(root, "stores", store), os.path.join("stores", store))


# ---- the tool --------------------------------------------------------------------------------------------------------


def serve(
    channel: socket.socket,
    boundary: dict[str, Any],
    call: dict[str, Any],
    module: types.ModuleType | None,
    watcher: watch.Watch,
) -> None:
    """Run the tool and send its one answer. `module` is the tool where it was imported before."""
    before = _written(call["layout"])
    watcher.begin(boundary, call["layout"])
    descriptors: list[int] = []
    answer: dict[str, Any]
    value = "null"
    try:
        answer, value = _answer(boundary, call, module)
        if answer["kind"] == "value":
            descriptors = _collect(call["layout"], before, answer)
    except MemoryError:
        send(channel, _MEMORY, [])
        return
    except serving.NotJson as failure:
        answer = {"kind": "invalid", "message": str(failure)}
    except BaseException as failure:  # noqa: BLE001 - a tool may raise anything
        watcher.paused = True  # a traceback opens source files
        answer = serving.raised(failure, call["declared"], boundary["code"])
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
    if len(data) > boundary["largest_answer"]:
        data, descriptors = json.dumps({"kind": "oversized", "size": len(value.encode())}).encode(), []
    send(channel, data, descriptors)


def _answer(
    boundary: dict[str, Any], call: dict[str, Any], module: types.ModuleType | None
) -> tuple[dict[str, Any], str]:
    """The answer without its value, and the value as JSON text."""
    if call["mode"] == "command":
        answer = serving.run_command(call["argv"], boundary["output"], call["declared"])
        return answer, serving.to_json(answer.pop("value", None))
    if module is None:
        module = serving.load(boundary)
    if call["mode"] == "describe":
        return {"kind": "value"}, serving.to_json(serving.describe(module))
    return {"kind": "value"}, serving.to_json(serving.perform(module, call["function"], call["arguments"]))


def rehearse(boundary: dict[str, Any], watcher: watch.Watch) -> None:
    """Go through a whole call that does nothing: its memory is this process's own before the real one comes."""
    broker, channel = socket.socketpair()
    layout: dict[str, Any] = {"mirrored": False, "reads": [], "writes": [], "whole": []}
    call: dict[str, Any] = {
        "mode": "call",
        "function": "rehearsal",
        "arguments": {},
        "declared": {},
        "env": {},
        "layout": layout,
    }
    body = json.dumps({**call, "kinds": []}).encode()
    broker.send(len(body).to_bytes(4, "big") + body)
    frame = narrow(channel, boundary, None)
    serve(channel, boundary, frame, serving.REHEARSAL, watcher)
    broker.close()
    channel.close()
    serving.forget(frame["function"])


def _written(layout: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """What the decided files look like before the tool runs; those that are not there are left out."""
    seen: dict[str, tuple[int, int, int]] = {}
    for name in layout["writes"]:
        try:
            status = os.lstat(name)
        except OSError:
            continue
        seen[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return seen


def _collect(layout: dict[str, Any], before: dict[str, tuple[int, int, int]], answer: dict[str, Any]) -> list[int]:
    """Open every decided file that the tool wrote, so that the broker holds the inode and not a name."""
    if not layout["mirrored"]:
        return []
    after = _written(layout)
    changed = [name for name in layout["writes"] if name in after and after[name] != before.get(name)]
    answer["files"] = changed
    answer["removed"] = [name for name in layout["writes"] if name in before and name not in after]
    dropped = serving.undecided_files(layout)
    if dropped:
        answer["note"] = f"remit: {len(dropped)} files outside the decision were dropped: {', '.join(dropped[:5])}"
    return [os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC) for name in changed]


def clean(boundary: dict[str, Any]) -> bool:
    """Remove what the call left in its folders; whether they are gone."""
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
