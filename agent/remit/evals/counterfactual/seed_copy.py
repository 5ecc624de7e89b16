"""A copy of the seed of an agent, in which tools run confined. It is removed afterwards, so that nothing lands."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from remit.broker import LiveExecutor
from remit.core import Call, RunEnded
from remit.evals.counterfactual.versions import NEW, RecordedCall, RecordedCalls, Version
from remit.evals.worlds import World, WorldExecutor
from remit.replay import RecordEnds
from remit.sandbox import Sandbox
from remit.workspace import Agent, Workspace
from remit.workspace.manifest import named_arguments


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where tools may run: in a copy of `world`, made in the folder `below`; None: that of temporary files.

    `workspace` has the code of the tools, and `root` is the workspace that has the seed.
    """

    workspace: Workspace
    world: World
    root: Path
    below: Path | None = None


@dataclass(kw_only=True)
class SeedCopy:
    """A working folder for one counterfactual run. Calls run in it one at a time.

    `applied` are the names of the effects that its content has, and `running` those of the effects that it gets next. `workspace` has
    the code of the tools, and `definition` says which version of them the run has. `why_not` says why no call can run in it, "" if
    calls can.
    """

    workspace: Workspace
    definition: Workspace
    folder: Path
    executor: WorldExecutor
    recorded: RecordedCalls
    why_not: str = ""
    applied: set[str] = field(default_factory=set[str])
    running: set[str] = field(default_factory=set[str])
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _unrepeatable_known: dict[str, str] = field(default_factory=dict[str, str])

    def obstacle(self, call: Call, version: Version) -> str:
        """Why the call cannot run in the copy when what it touches has that version; "" if it can.

        INVARIANT: what runs here has no network and no secret, and sees no file outside of the copy. So nothing lands.
        """
        if self.why_not:
            return self.why_not
        name = call.action.partition(".")[0]
        tool, own = self.workspace.every_tool.get(name), self.definition.every_tool.get(name)
        same = tool is not None and own is not None and (tool.manifest.digest, tool.code) == (call.manifest, own.code)
        if tool is None or not same or not tool.pinned:
            return f"this workspace has another version of the tool {name!r}"
        if why_not := self.executor.obstacle(call):
            return why_not
        return self.missing(version)

    def missing(self, version: Version) -> str:
        """Which of these effects the copy cannot get, and why; "" if it can get all."""
        for name in sorted(version):
            if why_not := self._unrepeatable(name):
                return f"{_described(name)} changed it, {why_not}"
        return ""

    def _unrepeatable(self, name: str) -> str:
        """Why the copy cannot get the effect of that name; "" if it can, or has it already."""
        if name in self.applied or name in self.running:
            return ""
        if name not in self._unrepeatable_known:
            self._unrepeatable_known[name] = self._why_not_repeated(name)
        return self._unrepeatable_known[name]

    def _why_not_repeated(self, name: str) -> str:
        effect = self.recorded.by_name.get(name)
        if effect is None:
            return "and did not run in the copy of the seed"
        if effect.redacted or effect.version is None or any(end is None or end.lost for end in effect.ends.values()):
            return "and cannot be repeated: an argument or its outcome is not known"
        obstacle = self.obstacle(effect.call, effect.version)
        return f"and cannot be repeated: {obstacle}" if obstacle else ""

    async def catch_up(self, version: Version) -> None:
        """Repeat those recorded effects of the version that the copy does not have yet.

        Raises:
            RecordEnds: one of them has another outcome here.
        """
        for effect in sorted((self.recorded.by_name[name] for name in version - self.applied), key=_begun):
            assert effect.version is not None  # there was no obstacle
            await self.catch_up(effect.version)
            await self._repeat(effect)
            self.applied.add(effect.name)

    async def _repeat(self, effect: RecordedCall) -> None:
        call = effect.call
        _, action = self.workspace.action(call.action)
        for number, ended in effect.ends.items():
            assert ended is not None
            self.executor.prepare(call, number)
            named, key = named_arguments(action), effect.keys[number]
            async with self.executor.decode(call, number, named=named, idempotency_key=key) as decoded:
                outcome = await decoded.attempt()
            then = (ended.cause or ended.code, ended.value, ended.changes)
            if (outcome.code, outcome.value, outcome.changes) != then:
                what = f"the recorded effect of {call.action} at step {effect.name}"
                raise RecordEnds(f"{what} has another outcome in a copy of the seed, so what it changed is not known")


def _described(effect: str) -> str:
    """The effect of that name, for a person."""
    new = effect.removeprefix(NEW)
    return f"call {effect} of the record" if new == effect else f"call {new} of this run"


def _begun(effect: RecordedCall) -> int:
    return effect.begun


@contextmanager
def copied_seed(
    place: Place, definition: Workspace, agent: Agent, user: str, recorded: RecordedCalls
) -> Generator[SeedCopy]:
    """The world of one counterfactual run, for as long as the context lasts."""
    workspace = place.workspace
    with TemporaryDirectory(prefix="counterfactual-", dir=place.below) as parent:
        folder, why_not = Path(parent) / "work", ""
        sandbox = Sandbox.shared(workspace.settings.accept)
        seed = place.world.seed
        if seed is None or "{run}" not in agent.folder or not (place.root / seed).is_dir():
            why_not = "the files that the run began with are unknown: its agent has no seed, or no folder for each run"
            folder.mkdir()
        else:
            place.world.write(place.root, folder)
            try:
                _ = sandbox.confinement
            except RunEnded as unavailable:
                why_not = unavailable.message
        live = LiveExecutor(workspace, sandbox, folder, user=user)
        executor = WorldExecutor(live, workspace, place.world.answers)
        yield SeedCopy(
            workspace=workspace,
            definition=definition,
            folder=folder,
            executor=executor,
            recorded=recorded,
            why_not=why_not,
        )
