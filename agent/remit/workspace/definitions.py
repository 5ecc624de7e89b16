"""What a workspace defines: its settings, its agents with their budgets, and its tools with their pins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import Field

from remit.core import Confinement, FrozenModel, Json, Refusal
from remit.guardrails import Content
from remit.workspace.answer_contract import AnswerContract
from remit.workspace.labels import LabelRule
from remit.workspace.limits import SharedLimit
from remit.workspace.manifest.manifest import Action, Manifest, Pin


class Budget(FrozenModel):
    """What one run may spend: turns of the model, calls, seconds, tokens, money, bytes of results; None is no bound.

    Tries in vain are counted whoever makes them: `tries` bounds those of one thing in a row, `retries` all beyond the first, `denials` the calls refused in a row. `waiting` bounds the
    calls that wait for people at once.
    """

    steps: int = 30
    calls: int = 60
    wall: float = 600.0
    tokens: int | None = None
    money: float | None = None
    output: int | None = None
    tries: int = 6
    retries: int = 30
    denials: int = 10
    waiting: int = 5


class Price(FrozenModel):
    """What a million tokens cost."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> int:
        """Millionths of the currency."""
        return round(input_tokens * self.input + output_tokens * self.output)


class LookUp(FrozenModel):
    """One call that fills the directory. A value that is `{kind}` stands for every resource of that kind known by then."""

    action: str
    arguments: dict[str, Json] = Field(default_factory=dict)

    @property
    def of(self) -> str:
        """The kind whose names its arguments take; "" where they take none."""
        held = (value for value in self.arguments.values() if isinstance(value, str))
        return next((value[1:-1] for value in held if re.fullmatch(r"\{[a-z][a-z0-9_]*\}", value)), "")


class Agent(FrozenModel):
    """One agent. `prompt` is the text; `actions` are the actions that its model sees, `files.read`, in the file's order.

    `folder` is its working folder relative to the workspace, with `{run}` where each run has its own; `seed` is what a new
    folder is copied from.
    """

    name: str
    summary: str
    model: str
    base_url: str | None = None
    prompt: str
    actions: tuple[str, ...]
    folder: str
    seed: str | None = None
    accept_parsed_arguments: bool = False
    budget: Budget = Budget()
    price: Price | None = None
    answer: AnswerContract | None = None
    directory: tuple[LookUp, ...] = ()


# When stock Casbin must allow a call too: before effects, before every call, or never; rulebooks are checked in any case.
Casbin: TypeAlias = Literal["effects", "always", "load"]


class Settings(FrozenModel):
    """What `remit.toml` says. `identity` None: every account is the user of its own name; empty: no account is anybody.

    `envs` are the environments that rules may name beside `env`; `users` the users that they may name beside those of `identity`.
    `content` False: what people, models and tools said is not recorded. `keep` is for how long runs are kept, as "90d".
    """

    env: str = "local"
    envs: tuple[str, ...] = ()
    users: tuple[str, ...] | None = None
    identity: Mapping[str, str] | None = None
    accept: tuple[Confinement, ...] = ("full",)
    host_tools: tuple[str, ...] = ()
    redact_env: tuple[str, ...] = ()
    content: bool = True
    keep: str | None = None
    casbin: Casbin = "effects"


class Tool(FrozenModel):
    """A tool, the pin that a reviewer gave it, and the digest of its code now ("" where nobody knows)."""

    manifest: Manifest
    pin: Pin | None = None
    code: str = ""

    @property
    def pinned(self) -> bool:
        """Whether manifest and code are those that were reviewed; nothing else may run."""
        return self.pin is not None and (self.pin.manifest, self.pin.code) == (self.manifest.digest, self.code)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Everything that the rooms say. `root` is None for a recorded workspace.

    `files` is the rulebook: every text that the workspace was read from, by its path relative to the root.
    """

    root: Path | None
    settings: Settings
    agents: Mapping[str, Agent]
    tools: Mapping[str, Tool]
    files: Mapping[str, bytes] = field(repr=False)
    limits: tuple[SharedLimit, ...] = ()
    content: Content = Content()
    labels: tuple[LabelRule, ...] = ()

    def action(self, name: str) -> tuple[Tool, Action]:
        """The tool and the action of `files.read`; `unknown_action` where there is none."""
        tool_name, _, action_name = name.partition(".")
        tool = self.tools.get(tool_name)
        action = tool.manifest.actions.get(action_name) if tool else None
        if tool is None or action is None:
            raise Refusal("unknown_action", "no tool of this workspace has that action")
        return tool, action

    def code(self, name: str) -> Path:
        """The folder of the tool of that name, of a workspace that is not a recorded one."""
        assert self.root is not None
        return self.root / "tools" / name


RESERVED: Final = "remit"  # agent/remit is the engine's own source
