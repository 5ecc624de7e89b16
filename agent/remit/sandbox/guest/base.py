"""The base of a warm tool: import it once, then be copied for each call, and learn nothing of what becomes of the copies.

It holds code of the tool, so nothing that stands in this file is relied on once that has run. What holds it is what the kernel
was told before: `inside.lock_down`, and the filter by which `supervisor.py` answers for it.

* A copy is a child of the supervisor: its end, its use of resources and its number's end are nothing that the base is told.
* A copy is given its call only when it has closed every descriptor that it was born with.
* The base can write nowhere that a copy reads, map nothing that a copy shares, and signal no one.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel, onecall, serving, watch
else:
    import kernel
    import onecall
    import serving
    import watch


def run(boundary: dict[str, Any], line: socket.socket) -> NoReturn:
    """Import the tool, and fork whenever the supervisor lets the system call happen. It is locked down already."""
    parent = os.getppid()
    status = 1
    try:
        onecall.close_others([line.fileno()])
        listener = kernel.install_with_listener(bytes.fromhex(boundary["filter"]))
        socket.send_fds(line, [b"!"], [listener])
        os.close(listener)
        line.close()
        module = serving.load(boundary)
        _warm_up(module)
        gc.collect()
        gc.freeze()  # what a child never frees it never copies
        serving.flush()
        while kernel.fork_sibling():
            pass
        status = _one_call(parent, boundary, module)
    except BaseException:  # noqa: BLE001 - a tool's import may raise anything
        traceback.print_exc()
        serving.flush()
    os._exit(status)


def _warm_up(module: Any) -> None:
    """What every child would otherwise do again: imports, types, validators."""
    importlib.import_module("random")  # reseeded in each child
    for name in serving.public(module):
        with suppress(Exception):  # a function that cannot be an action is no reason not to serve the others
            serving.action(module, name).warm()
    if "httpx" in sys.modules:  # it brings the rest of itself in when it is first used: a tenth of a second
        for name in ("httpcore", "encodings.idna"):
            with suppress(ImportError):
                importlib.import_module(name)
    json.loads(serving.to_json({"warm": [1, 2.5, "é", None, True]}))


def _one_call(parent: int, boundary: dict[str, Any], module: Any) -> int:
    """In a child, which has nothing yet and is told nothing before it has proved that: the status that it ends with."""
    kernel.close_all_from(0)
    channel = socket.socket(fileno=kernel.syscall("accept4", 0, 0, 0, 0))
    kernel.die_with_parent(parent)
    os.setsid()
    folder = f"{boundary['scratch']}/{onecall.receive(channel)[0]['scratch_folder']}"
    own = {**boundary, "scratch": f"{folder}/scratch", "temporary": f"{folder}/tmp"}  # noqa: S108 - its own
    if boundary["floating"]:
        own["root"] = f"{folder}/work"
    for path in (own["scratch"], own["temporary"]):
        os.mkdir(path, 0o700)
    os.environ["HOME"] = os.environ["TMPDIR"] = own["temporary"]
    rules = onecall.prepare(own, [channel.fileno()])
    _refresh()
    watcher = watch.Watch()
    onecall.rehearse(own, watcher)
    for one in serving.actions():
        one.warm()
    call = onecall.narrow(channel, own, rules)
    onecall.serve(channel, own, call, module, watcher)
    onecall.clean(own)
    return 0


def _refresh() -> None:
    """What a copy of a process must not share with its siblings."""
    sys.modules["random"].seed()
    if tempfile := sys.modules.get("tempfile"):
        vars(tempfile)["tempdir"] = None
