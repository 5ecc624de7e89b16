from .assertions import ExpectedEffect, assert_denied, assert_effects, effect
from .captured import CapturedRun, LandedEffect, capture_run, read_run
from .copies import copy_workspace
from .fakes import FakeCall, FakeExecutor
from .replays import assert_replays
from .scripted import ScriptedModel, Turn, turn

__all__ = [
    "CapturedRun",
    "ExpectedEffect",
    "FakeCall",
    "FakeExecutor",
    "LandedEffect",
    "ScriptedModel",
    "Turn",
    "assert_denied",
    "assert_effects",
    "assert_replays",
    "capture_run",
    "copy_workspace",
    "effect",
    "read_run",
    "turn",
]
