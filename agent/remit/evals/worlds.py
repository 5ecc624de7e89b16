"""The world of a scenario: the working folder that each of its runs starts with, and the answers of what is outside of it.

Nothing of a run leaves its world: no call reaches the network, a program of the host or a secret.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from remit.broker import AttemptOutcome, DecodedCall, ProbeOutcome, Ready, ToolExecutor, run_function
from remit.core import Call, Confinement, FrozenModel, Json, Refusal, UsageError
from remit.core.parsing import canonical, digest, digest_bytes, invalid
from remit.workspace import Workspace

NOT_IN_SCENARIO: Final = "not_in_scenario"  # the error of a call that leaves the world and for which there is no answer


class Answer(FrozenModel):
    """What a call gets that would leave the world: a value, or an error that its tool declares."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    action: str = Field(description="TOOL.ACTION")
    arguments: dict[str, Json] = Field(default={}, description="Arguments that the call must have; others may differ")
    value: Json = Field(default=None, description="What the call returns")
    error: str | None = Field(default=None, description="In place of a value: an error that the tool declares")
    message: str = Field(default="", description="The message of that error")

    @model_validator(mode="after")
    def _one(self) -> Answer:
        if ("value" in self.model_fields_set) == ("error" in self.model_fields_set):
            raise invalid("has not exactly one of `value` and `error`", "write one of them")
        return self

    def answers(self, call: Call) -> bool:
        """True if it is the answer of that call."""
        same = (name in call.arguments and call.arguments[name] == value for name, value in self.arguments.items())
        return call.action == self.action and all(same)


def relative_path(value: str) -> str:
    """The path of a file of the world, or beside agent.toml. Otherwise raises the error of a validator."""
    try:
        plain = canonical("file", value) == value != "."
    except Refusal:
        plain = False
    if not plain:
        raise invalid(f"names {value!r}, which is not a plain relative path", 'write it as "folder/file"')
    return value


RelativePath = Annotated[str, AfterValidator(relative_path)]


class World(FrozenModel):
    """A folder of the workspace, changed by `files` and `without`, and the answers of what is outside of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: RelativePath | None = Field(
        default=None, description="A folder of the workspace; absent: the seed of the agent"
    )
    files: dict[RelativePath, str] = Field(
        default={}, description="Files in place of those of the seed, or beside them: text by path"
    )
    without: list[RelativePath] = Field(default=[], description="Files and folders of the seed that are left out")
    answers: list[Answer] = Field(default=[], description="The first answer that fits a call is used")

    run: RelativePath | None = Field(
        default=None, description="A recorded run beside agent.toml: the scenario goes on from one of its steps"
    )
    step: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="With `run`: the first step that is played"
    )

    @model_validator(mode="after")
    def _from_step(self) -> World:
        if (self.run is None) != (self.step is None):
            raise invalid("has only one of `run` and `step`", "write both, or none")
        return self

    def digest(self, root: Path) -> str:
        """The digest of all files of the world. `root` is the workspace."""
        files = {name: data if isinstance(data, str) else digest_bytes(data) for name, data in self._contents(root)}
        return digest(files | {name: digest_bytes(text.encode()) for name, text in self.files.items()})

    def write(self, root: Path, folder: Path) -> None:
        """Write the world as the new folder `folder`."""
        if self.seed is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(root / self.seed, folder, symlinks=True)
        for name in self.without:
            path = _inside(folder, name)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, text in self.files.items():
            path = _inside(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a symbolic link of the seed is replaced, not followed
            path.write_text(text, encoding="utf-8")

    def _contents(self, root: Path) -> Iterator[tuple[str, bytes | str]]:
        """The files of the seed that the world has, by name; of a symbolic link its target, as text."""
        if self.seed is None:
            return
        seed = root / self.seed
        if not seed.is_dir():
            raise UsageError(f"the seed {self.seed!r} is not a folder of the workspace: write such a folder")
        if missing := [name for name in self.without if not (seed / name).exists()]:
            raise UsageError(f"the seed {self.seed!r} has no {missing[0]!r}: remove it from `without`")
        for path in sorted(seed.rglob("*")):
            name = path.relative_to(seed).as_posix()
            if any(name == left or name.startswith(f"{left}/") for left in self.without):
                continue
            if path.is_symlink():
                yield name, str(path.readlink())
            elif path.is_file():
                yield name, path.read_bytes()


def _inside(folder: Path, name: str) -> Path:
    """The path of a file of the world. Raises UsageError if a symbolic link of the seed leads out of it."""
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{name!r} lies behind a symbolic link that leads out of the world: remove the link from the seed"
        )
    return path


class WorldExecutor:
    """Carries out the calls of a run in its world: tools that need nothing else run confined, all others get an answer.

    INVARIANT: `live` gets a call only of a tool that runs confined, has no network and needs no secret.
    """

    def __init__(self, live: ToolExecutor, workspace: Workspace, answers: Sequence[Answer]) -> None:
        self._live = live
        self._workspace = workspace
        self._answers = answers

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        """See `remit.broker.ToolExecutor`."""
        return (
            self._live.prepare(call, number) if self._is_inside(call) else (digest({"answered": call.action}), "none")
        )

    async def read_digest(self, call: Call, number: int) -> str:
        """See `remit.broker.ToolExecutor`. What a scenario answers is not cached."""
        return await self._live.read_digest(call, number) if self._is_inside(call) else ""

    def keyed(self, call: Call) -> bool:
        """See `remit.broker.ToolExecutor`."""
        return self._live.keyed(call)

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        """See `remit.broker.ToolExecutor`."""
        return self._live.stores(call, group)

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[DecodedCall]:
        """See `remit.broker.ToolExecutor`."""
        if self._is_inside(call):
            async with self._live.decode(call, number, named=named, idempotency_key=idempotency_key) as decoded:
                yield decoded
        else:
            yield Ready(run=lambda _: self._answer(call))

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """See `remit.broker.ToolExecutor`."""
        if self._is_inside(call):
            return await self._live.probe(call, number, idempotency_key=idempotency_key)
        return ProbeOutcome(landed="unknown", reason="the world of the scenario does not have the tool")

    def obstacle(self, call: Call) -> str:
        """Why the call would leave the world and gets no answer; "" if it runs inside, or gets one."""
        return "" if self._found(call) is not None else self._way_out(call)

    def _is_inside(self, call: Call) -> bool:
        return self._found(call) is None and not self._way_out(call)

    def _way_out(self, call: Call) -> str:
        """How the tool of the call reaches something outside of the world; "" if it cannot."""
        tool, action = self._workspace.action(call.action)
        name = tool.manifest.name
        if tool.manifest.source not in ("python", "command"):
            return f"the tool {name!r} runs unconfined"
        if tool.manifest.secrets:
            return f"the tool {name!r} uses secrets"
        return "" if tool.manifest.network(action, call.touches) is None else f"the tool {name!r} uses the network"

    def _found(self, call: Call) -> Answer | None:
        return next((answer for answer in self._answers if answer.answers(call)), None)

    async def _answer(self, call: Call) -> AttemptOutcome:
        answer = self._found(call)
        if answer is not None and answer.error is None:
            return await run_function(self._workspace, call, lambda _: deepcopy(answer.value))
        message = "the scenario has no answer for this call, and an evaluation reaches no network, host or secret"
        return AttemptOutcome(
            code="tool_failed",
            error=NOT_IN_SCENARIO if answer is None else answer.error,
            message=message if answer is None else answer.message,
            next_step="continue without this call" if answer is None else None,
            landed="none" if call.effect == "read" else "not_landed",
        )
