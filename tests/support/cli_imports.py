"""Imports what commands import. Loaded once, by the process from which `support.cli_server` forks commands."""

from __future__ import annotations

import gc
from importlib import import_module

from remit.cli import COMMANDS
from remit.guardrails.secret_formats import DETECTORS

for module in (
    "support.cli_server",
    "remit.client",
    "remit.runtime.runner",
    "remit.replay.replayer",
    "remit.analysis.workspace_check",
    "remit.tools.workbench",
    *(f"remit.cli.{module}" for module, _ in COMMANDS.values()),
    *(f"detect_secrets.plugins.{name}" for name in DETECTORS),
):
    import_module(module)

gc.collect()
gc.freeze()  # what is imported stays: no collection of a command looks at it again
