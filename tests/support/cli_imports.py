"""What `support.cli_server` forks commands from: a process with all modules imported, and with a sandbox whose tier is found.

Python's fork server imports this module once, before the first command.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from importlib import import_module
from pkgutil import walk_packages

import remit
from remit.core import RunEnded
from remit.guardrails.secret_formats import DETECTORS
from remit.sandbox import Sandbox

_NOT_IMPORTED = (".guest", ".breakout", ".langchain", ".inspect_ai", "__main__")  # run confined, or need an extra

for module in walk_packages(remit.__path__, "remit."):
    if not any(part in module.name for part in _NOT_IMPORTED):
        import_module(module.name)
for name in (*(f"detect_secrets.plugins.{name}" for name in DETECTORS), "ruamel.yaml.mergevalue", "support.cli_server"):
    import_module(name)
with suppress(RunEnded):  # without a sandbox, each command finds that out by itself
    _ = Sandbox.shared(("full",)).confinement

gc.collect()
gc.freeze()  # what is imported stays: no collection of a command looks at it again
