"""One stage for outside suites: their tools as host tools of a workspace with one agent, and what Remit decides there.

The functions of a tool are put where its manifest says that they are, in a module of this process alone.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import sys
import tempfile
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from remit.core.calls import Json
from remit.core.events import CallDecided
from remit.sandbox import Sandbox
from remit.tools import workbench as tool
from remit.workspace import loader as workspace
from remit.workspace.session import WorkspaceSession, open_session
from support.workspaces.files import write_files

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
OPERATOR = 'users = ["user:owner"]\n\n[identity]\n"*" = "user:operator"\n'  # whoever starts a run is the operator


@dataclass(frozen=True, kw_only=True)
class HostTool:
    """A suite's tool: its manifest, and its functions by action."""

    manifest: str
    functions: Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A workspace with one agent, the tools by name that it may call, the rules for it, and nothing else.

    `policies` are further files of that folder. `kinds` are those of their resources that
    no tool has. `settings` are further tables of the agent, `identity` one of the workspace.
    """

    agent: str
    tools: Mapping[str, HostTool]
    rules: str
    prompt: str
    budget: Mapping[str, int]
    policies: Sequence[Path] = ()
    settings: str = ""
    kinds: Sequence[str] = ()
    identity: str = ""

    def build(self, folder: Path) -> WorkspaceSession:
        """Write it to the folder, put the functions of its tools into this process, pin them and open it."""
        write_files(folder, self._files())
        for path in (ROOT / "policies" / "model.conf", *self.policies):
            shutil.copy(path, folder / "policies")
        for one in self.tools.values():
            _host(one)
        asyncio.run(tool.pin_tools(workspace.load_workspace(folder), tuple(self.tools), Sandbox(accept=("full",))))
        return open_session(folder)

    def _files(self) -> dict[str, str]:
        name, tools = self.agent, json.dumps(list(self.tools))
        budget = "".join(f"{key} = {most}\n" for key, most in self.budget.items())
        agent = (
            f'name = "{name}"\nsummary = "A scripted agent"\nmodel = "script:none.yaml"\nprompt = "prompt.md"\n'
            f'tools = {tools}\nfolder = "work/{name}"\n\n[budget]\n{budget}\n{self.settings}'
        )
        return {
            "remit.toml": f"host_tools = {tools}\nkinds = {json.dumps(list(self.kinds))}\n\n{self.identity}",
            "policies/rules.csv": self.rules,
            f"agent/{name}/agent.toml": agent,
            f"agent/{name}/prompt.md": self.prompt,
            f"agent/{name}/none.yaml": "turns: []\n",
            **{f"tools/{key}/tool.toml": one.manifest for key, one in self.tools.items()},
        }


def _host(one: HostTool) -> None:
    """Put the functions where the manifest says that they are."""
    module, _, attribute = tomllib.loads(one.manifest)["host"].partition(":")
    setattr(sys.modules.setdefault(module, types.ModuleType(module)), attribute, one.functions)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one workspace, in memory where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="remit-bench-", dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


def with_parameters(
    call: Callable[..., Any], name: str, doc: str, rows: Sequence[tuple[str, Any, Any]]
) -> Callable[..., Any]:
    """The function with these parameters, as if it had been written so."""
    parameters = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for key, kind, default in rows
    ]
    call.__name__, call.__doc__ = name, doc
    call.__signature__ = inspect.Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    call.__annotations__ = {key: kind for key, kind, _ in rows} | {"return": Any}
    return call


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a method, but for its first, which is what it acts on."""
    return list(inspect.signature(function).parameters.values())[1:]


def plain(value: object) -> Json:
    """What a tool returned, as JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def verdict_of(event: CallDecided) -> tuple[str, str] | None:
    """What was first decided of a call, and why: the code of its refusal, or the verdict of policy."""
    if event.round != 0:
        return None
    if event.refusal is not None and not event.refusal.ok:
        return event.refusal.error.code, event.refusal.error.message
    return None if event.decision is None else (event.decision.verdict, event.decision.message)
