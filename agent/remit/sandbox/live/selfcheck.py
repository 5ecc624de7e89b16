"""Finds out whether files can be mounted in a running sandbox on this machine: a note of `remit doctor`."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from remit.sandbox.egress import Egress
from remit.sandbox.live.call import open_live
from remit.sandbox.live.pool import LivePool
from remit.sandbox.network_handover import CallContext
from remit.sandbox.process import DidNotStart
from remit.sandbox.profile import Profile, Runtime
from remit.sandbox.protocol import ToolCall
from remit.sandbox.warm.zygote_handle import Cold

# Ubuntu's profile `bwrap-userns-restrict` lets bubblewrap make namespaces and takes the capabilities from what it starts.
PROFILE: Final = "abi <abi/4.0>, include <tunables/global> profile bwrap {} flags=(unconfined) {{ userns, }}"
_NOTE: Final = (
    "no file can be mounted in a running sandbox here ({}), so each call of a command tool starts a sandbox of its own; "
    "with AppArmor, write this line to /etc/apparmor.d/bwrap and run `apparmor_parser -r /etc/apparmor.d/bwrap`: {}"
)


def live_note(runtime: Runtime) -> str:
    """Why command tools do not get live sandboxes on this machine, and the AppArmor profile that allows them; "" if they do."""
    with tempfile.TemporaryDirectory(prefix="remit-probe-") as made:
        base = Path(made)
        base.chmod(0o755)  # for the account that root switches to
        (base / "decided").write_text("decided")
        with ThreadPoolExecutor(1) as thread:  # because the caller may run in an event loop
            failure = thread.submit(lambda: asyncio.run(_tried(runtime, base))).result()
    return _NOTE.format(failure, PROFILE.format(runtime.bwrap)) if failure else ""


async def _tried(runtime: Runtime, base: Path) -> str:
    """Read a mounted file in a live sandbox; what failed, or ""."""
    egress = Egress()
    pool = LivePool(runtime, egress)
    profile = Profile(
        tool="self-check",
        action="read",
        source="command",
        code=base,
        root=base,
        argv=("cat", "decided"),
        reads=("decided",),
        programs=("cat",),
        life="run",
        run="self-check",
    )
    call = ToolCall(arguments={}, declared={}, allowed=lambda _: True)
    try:
        async with open_live(pool, profile, call, on_print=None) as opened:
            output = await opened.run(CallContext())
    except (Cold, DidNotStart, OSError) as failure:
        return str(failure) or type(failure).__name__
    finally:
        pool.close()
        egress.close()
    return "" if output.value == "decided" else output.message or "the file was not there"
