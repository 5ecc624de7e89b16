"""What a workspace defines: its settings, its agents with their budgets, and its tools with their pins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import Field

from remit.core import DEFAULT_TENANT, Confinement, FrozenModel, Json, Level, Refusal, UsageError, one_of, spelled
from remit.core.events import ContextLimits, ModelSettings, Observation
from remit.guardrails import Content, SecretSource
from remit.policy.authzen import EnforcementPoint
from remit.workspace.access.issuers import ApplicationIssuer, OidcIssuer
from remit.workspace.answer_contract import AnswerContract
from remit.workspace.labels import LabelRule
from remit.workspace.limits import SharedLimit
from remit.workspace.manifest import built_in
from remit.workspace.manifest.manifest import Action, Manifest, Pin
from remit.workspace.manifest.targets import Target
from remit.workspace.manifest.undecided import not_decided
from remit.workspace.prices import Prices
from remit.workspace.settings.notify import Channel
from remit.workspace.settings.serve import ServeSettings, WorkerSettings
from remit.workspace.settings.storage import StorageSettings


class Budget(FrozenModel):
    """The limits of one run; None is no limit.

    `steps` are turns of the model; `wall` is in seconds, `output` in bytes of results, `money` in the currency of `Prices`.
    `tries` bounds the unsuccessful tries of one thing in a row, by the model or by the broker; `retries` bounds all tries
    beyond the first; `denials` bounds the calls refused in a row. `model_wait` is how many seconds one process waits for
    models in all, which does not count for `wall`. `waiting` bounds the calls that wait for people at one time.
    """

    steps: int = 30
    calls: int = 60
    wall: float = 600.0
    model_wait: float = 600.0
    tokens: int | None = None
    money: float | None = None
    output: int | None = None
    tries: int = 6
    retries: int = 30
    denials: int = 10
    waiting: int = 5


class LookUp(FrozenModel):
    """A call that Remit makes before the model's first turn, to fill the directory.

    For an argument `{kind}`, one call is made for each resource of that kind that the directory has by then.
    """

    action: str
    arguments: dict[str, Json] = Field(default_factory=dict)

    @property
    def of(self) -> str:
        """The kind in an argument `{kind}`; "" without one."""
        texts = (value for value in self.arguments.values() if isinstance(value, str))
        return next((value[1:-1] for value in texts if re.fullmatch(r"\{[a-z][a-z0-9_]*\}", value)), "")


class GraphFactory(FrozenModel):
    """The function that builds the graph of an agent, in place of Remit's own loop.

    `entry` is `shop:build`: the file `shop.py` of the workspace, and its function. `code` is the digest of both. `calls` are the
    functions of the graph that its models may call: they are part of the graph, so nothing decides them.
    """

    entry: str
    code: str
    calls: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The path of the file, relative to the workspace."""
        return graph_file(self.entry)

    @property
    def function(self) -> str:
        """The name of the function."""
        return self.entry.partition(":")[2]


def graph_file(entry: str) -> str:
    """The path of the file that `module:function` names, relative to the workspace."""
    return entry.partition(":")[0].replace(".", "/") + ".py"


Mode: TypeAlias = Literal["enforce", "observe"]


class Agent(FrozenModel):
    """One agent, as `agent.toml` defines it.

    `models` are asked in this order when one fails. `base_url` is the address of the first one, and `base_urls` are those of others,
    by model; without one, a model is at its provider's own. `prompt` is the text of its file; `actions` are the actions that its model is offered, `files.read`, in the order of the
    file. `folder` is its working folder relative to the workspace; with `{run}` in it, each run has its own. A new folder is a
    copy of `seed`. `target` is what its runs should take and cost. `graph` drives its runs; None: Remit's own loop. `observe` says
    until when decisions on its host tools are not enforced; None: they are. `undecided` are actions of the file that do not load, because
    a line of their manifest is not decided.
    """

    name: str
    summary: str
    models: tuple[str, ...]
    base_url: str | None = None
    base_urls: Mapping[str, str] = Field(default_factory=dict[str, str])
    prompt: str
    actions: tuple[str, ...]
    folder: str
    seed: str | None = None
    accept_parsed_arguments: bool = False
    repair_calls: bool = True
    model_settings: ModelSettings = ModelSettings()
    budget: Budget = Budget()
    answer: AnswerContract | None = None
    context: ContextLimits = ContextLimits()
    target: Target = Target()
    directory: tuple[LookUp, ...] = ()
    graph: GraphFactory | None = None
    observe: Observation | None = None
    undecided: tuple[str, ...] = ()

    @property
    def mode(self) -> Mode:
        """As `agent.toml` has it, whatever the date is."""
        return "enforce" if self.observe is None else "observe"

    @property
    def model(self) -> str:
        """The model that is asked first."""
        return self.models[0]

    def address_of(self, model: str) -> str | None:
        """The address of the model's provider; None: its own. A model that the file does not name is where the first one is."""
        return self.base_urls.get(model, None if model in self.models[1:] else self.base_url)


# For which calls stock Casbin is also asked: those with an effect, all, or none. New rules are checked with it in any case.
Casbin: TypeAlias = Literal["effects", "always", "load"]


class KeepRule(FrozenModel):
    """How long the runs that match are kept: "7d". "" as agent, outcome or label stands for all."""

    keep: str
    agent: str = ""
    outcome: str = ""
    label: str = ""


class Settings(FrozenModel):
    """The settings in `remit.toml`.

    `tenant` is the one tenant of the workspace. `identity` maps accounts to users; None: every account is the user of the same name; empty: no account has a user. `envs`
    are environments that rules may name beside `env`; `kinds` are kinds of resources that rules may name beside those of the tools; `users` are users that rules may name beside those of `identity`.
    `journal` is the URL of the journal in PostgreSQL, "" for the file in `traces/`, which the accounts of the operating-system
    group `journal_group` share. With `content` False, what people, models and tools wrote is not recorded. `keep` is how long runs are kept, "90d"; None: without end; the first of `keep_rules` that
    matches a run comes before it. `issuers` say who asks the service, by name. `seal` is
    how long after its end a run is sealed. `fail_on` is the level at which a check fails. `secrets` are files and commands that give the values of secrets, by name. `notify` are the channels to which notifications go,
    `serve` is how `remit serve` listens, and its limits, and `worker` are those of `remit worker`; `storage` is what all machines share.
    `enforcement_points` are the applications that may ask for decisions, by name.
    """

    tenant: str = DEFAULT_TENANT
    env: str = "local"
    envs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    users: tuple[str, ...] | None = None
    identity: Mapping[str, str] | None = None
    accept: tuple[Confinement, ...] = ("full",)
    host_tools: tuple[str, ...] = ()
    redact_env: tuple[str, ...] = ()
    content: bool = True
    keep: str | None = None
    keep_rules: tuple[KeepRule, ...] = ()
    seal: str = "1d"
    casbin: Casbin = "effects"
    fail_on: Level = "error"
    issuers: Mapping[str, OidcIssuer | ApplicationIssuer] = Field(
        default_factory=dict[str, OidcIssuer | ApplicationIssuer]
    )
    journal: str = ""
    journal_group: str = ""
    secrets: Mapping[str, SecretSource] = Field(default_factory=dict[str, SecretSource])
    notify: tuple[Channel, ...] = ()
    serve: ServeSettings = ServeSettings()
    worker: WorkerSettings = WorkerSettings()
    storage: StorageSettings = StorageSettings()
    enforcement_points: Mapping[str, EnforcementPoint] = Field(default_factory=dict)


class Tool(FrozenModel):
    """A tool with its manifest, its pin (None: never reviewed), and the digest of its code now ("" if unknown)."""

    manifest: Manifest
    pin: Pin | None = None
    code: str = ""

    @property
    def pinned(self) -> bool:
        """True if manifest and code are those that were reviewed. A tool that is not pinned does not run."""
        return self.pin is not None and (self.pin.manifest, self.pin.code) == (self.manifest.digest, self.code)


# Remit's own tool, whose action every agent may name.
BUILT_IN: Final = Tool(manifest=built_in.MANIFEST, pin=built_in.PIN)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Everything that the files of a workspace define. `root` is None for a recorded workspace.

    `files` are the bytes of every file from which it was read, by path relative to the root. `graph_pins` are the digests of the
    reviewed graphs, by agent.
    """

    root: Path | None
    settings: Settings
    agents: Mapping[str, Agent]
    tools: Mapping[str, Tool]
    files: Mapping[str, bytes] = field(repr=False)
    limits: tuple[SharedLimit, ...] = ()
    prices: Prices = Prices()
    content: Content = Content()
    labels: tuple[LabelRule, ...] = ()
    graph_pins: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def every_tool(self) -> dict[str, Tool]:
        """The tools of the workspace and Remit's own, by name."""
        return {**self.tools, BUILT_IN.manifest.name: BUILT_IN}

    def agent(self, name: str) -> Agent:
        """The agent with that name. Raises UsageError if there is none."""
        if name not in self.agents:
            raise UsageError(f"there is no agent {spelled(name)} here: {one_of(name, self.agents)}")
        return self.agents[name]

    def action(self, name: str) -> tuple[Tool, Action]:
        """The tool and the action with the name `files.read`.

        Raises:
            Refusal: `unknown_action` without one; `policy_denied` if a line of it is not decided.
        """
        tool_name, _, action_name = name.partition(".")
        tool = BUILT_IN if tool_name == BUILT_IN.manifest.name else self.tools.get(tool_name)
        action = tool.manifest.actions.get(action_name) if tool else None
        if tool is not None and (line := tool.manifest.undecided.get(action_name)) is not None:
            raise not_decided(tool_name, action_name, line)
        if tool is None or action is None:
            known = (f"{one}.{its}" for one, has in self.tools.items() for its in has.manifest.actions)
            what = f"no tool of this workspace has the action {spelled(name[:64])}"
            raise Refusal("unknown_action", what, next_step=one_of(name, known))
        return tool, action

    def tools_of(self, agent: str) -> tuple[str, ...]:
        """The tools whose actions the agent is offered, without Remit's own."""
        named = (action.partition(".")[0] for action in self.agents[agent].actions)
        return tuple(dict.fromkeys(tool for tool in named if tool in self.tools))

    def graph_of(self, agent: str) -> GraphFactory | None:
        """The graph of the agent; None if Remit's own loop drives its runs. Raises UsageError if nobody has reviewed it."""
        graph = self.agents[agent].graph
        if graph is not None and self.graph_pins.get(agent) != graph.code:
            what = f"the graph of agent {agent!r} is not the reviewed one"
            raise UsageError(f"{what}: review {graph.file}, then run `remit tool pin agent:{agent}`")
        return graph

    def limits_money(self, agent: str) -> bool:
        """True if a budget or a shared limit bounds the money of that agent: then its model needs a price."""
        shared = any(limit.of == "money" and limit.agent in ("", agent) for limit in self.limits)
        return shared or self.agents[agent].budget.money is not None

    def code(self, name: str) -> Path:
        """The folder of the tool with that name. The workspace must not be a recorded one."""
        assert self.root is not None
        return self.root / "tools" / name


RESERVED: Final = "remit"  # agent/remit holds the source of Remit itself
