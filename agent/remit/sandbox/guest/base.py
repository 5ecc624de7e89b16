"""The base of a warm tool (its zygote process): imports the tool once, and is forked for each call.

Threat: an import can replace any function of this file, and could pass data from one call to the next. So nothing in
this file is relied on after the import. The limits are set in the kernel before: `inside.lock_down`, and the filter
whose notifications `supervisor.py` answers.

* A child belongs to the supervisor (CLONE_PARENT): the base cannot wait for it, and learns neither its exit status nor
  its usage.
* A child gets its call only after it has closed every descriptor that it inherited.
* The base cannot write where a child reads, map memory that a child shares, or send a signal.
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
    from remit.sandbox.guest import decoding, kernel, onecall, serving, watch
else:
    import decoding
    import kernel
    import onecall
    import serving
    import watch


def run(boundary: dict[str, Any], line: socket.socket) -> NoReturn:
    """Import the tool, then fork whenever the supervisor lets the `clone` continue. The process is already locked down."""
    parent = os.getppid()
    status = 1
    try:
        onecall.close_others([line.fileno()])
        listener = kernel.install_with_listener(bytes.fromhex(boundary["filter"]))
        socket.send_fds(line, [b"!"], [listener])
        # The tool's import comes next, so the base must not keep the listener: the process that has it answers the
        # notifications.
        os.close(listener)
        line.close()
        module = serving.load(boundary)
        _warm_up(module)
        gc.collect()
        gc.freeze()  # the collector then leaves these objects alone, so a child copies fewer pages
        serving.flush()
        # Each round blocks in `clone` until the supervisor has an order for a child. In the child the loop ends, with 0.
        while kernel.fork_sibling():
            pass
        status = _one_call(parent, boundary, module)
    except BaseException:  # noqa: BLE001 - a tool's import may raise anything
        traceback.print_exc()
        serving.flush()
    os._exit(status)


def _warm_up(module: Any) -> None:
    """Do once what every child would otherwise repeat: imports, types, validators."""
    importlib.import_module("random")  # reseeded in each child
    for name in decoding.public(module):
        with suppress(Exception):  # a function that cannot be an action must not stop the others
            decoding.action(module, name).warm()
    if "httpx" in sys.modules:  # it imports the rest of itself at its first use, which takes a tenth of a second
        for name in ("httpcore", "encodings.idna"):
            with suppress(ImportError):
                importlib.import_module(name)
    json.loads(serving.to_json({"warm": [1, 2.5, "é", None, True]}))


def _one_call(parent: int, boundary: dict[str, Any], module: Any) -> int:
    """Serve one call in a child; return the status that it exits with.

    The order is what the supervisor checks: close everything, then ask for the call by `accept4`. The supervisor saw
    the first in the kernel's notification, and answers the second by installing the descriptors of the call.
    """
    kernel.close_all_from(0)
    channel = socket.socket(fileno=kernel.syscall("accept4", 0, 0, 0, 0))
    kernel.die_with_parent(parent)
    os.setsid()
    folder = f"{boundary['scratch']}/{onecall.receive(channel)[0]['scratch_folder']}"
    own = {**boundary, "scratch": f"{folder}/scratch", "temporary": f"{folder}/tmp"}  # noqa: S108 - a folder of this call
    if boundary["floating"]:
        own["root"] = f"{folder}/work"
    for path in (own["scratch"], own["temporary"]):
        os.mkdir(path, 0o700)
    os.environ["HOME"] = os.environ["TMPDIR"] = own["temporary"]
    rules, reading = onecall.prepare(own, [channel.fileno()])
    _refresh()
    watcher = watch.Watch()
    onecall.rehearse(own, watcher)
    for action in decoding.actions():
        action.warm()
    call = onecall.narrow(channel, own, rules)
    onecall.serve(channel, own, call, module, watcher, reading)
    onecall.clean(own)
    return 0


def _refresh() -> None:
    """Renew what forked siblings must not share: random numbers, and the cached name of the temporary folder."""
    sys.modules["random"].seed()
    if tempfile := sys.modules.get("tempfile"):
        vars(tempfile)["tempdir"] = None
