"""One attempt of one decided call: confine, run, check, commit.

`Attempts` is the broker's only seam to the outside world. `LiveAttempts` confines tools by the kernel; a replay puts
recorded outcomes in its place, so nothing real can happen there.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remit.broker.host_tools import load_host
from remit.core import (
    Access,
    Call,
    Change,
    Code,
    Confinement,
    Connection,
    DeniedAccess,
    Json,
    Landed,
    ReachedLimit,
    Refusal,
    ResourceUsage,
    in_thread,
)
from remit.core.parsing import digest
from remit.sandbox import OWN_FOLDER, Output, Profile, Sandbox, exhausted, message_of, retry_after
from remit.sandbox.egress import Permit
from remit.sandbox.packages import Environment, find_environment, make_environment
from remit.workspace import Tool, Workspace, read_code
from remit.workspace.manifest import Action, ActionSchema, check_output, code_digest, fill_argv, resolve


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """What came of one attempt, before anything is cleaned. `code` None: `value` is the result."""

    code: Code | None
    value: Json = None
    error: str | None = None
    message: str = ""
    retry_after_s: float | None = None
    landed: Landed = "none"
    changes: tuple[Change, ...] = ()
    refused: tuple[DeniedAccess, ...] = ()
    connections: tuple[Connection, ...] = ()
    stderr: str = ""
    spent: ResourceUsage = ResourceUsage()
    limit: ReachedLimit | None = None
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class ProbeOutcome:
    """What a probe found of an effect. `value` is what the call would have returned, None unless it landed."""

    landed: Landed
    value: Json = None
    reason: str = ""


class ToolExecutor(Protocol):
    """Runs one attempt. `prepare` names what it will run in, before anything does."""

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]: ...
    def keyed(self, call: Call) -> bool:
        """Whether the tool, or the server that it asks, is handed an idempotency key for this call."""
        ...

    async def attempt(
        self, call: Call, number: int, *, idempotency_key: str, decide: Callable[[str], bool] | None = None
    ) -> AttemptOutcome:
        """`decide` answers whether the call may go on to a URL that its decision did not name; None: it may not."""
        ...

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """Look whether the call's effect has happened; `number` counts the looks."""
        ...


class LiveExecutor:
    """Runs tools for real: python and command tools in the sandbox, host tools in this process.

    `folder` is the run's working folder, `secrets` the values of the tools' secrets by name. Host tools are unconfined; only
    those that `remit.toml` names are here at all. `at_hand` gives the function of one call of them, where it is not its
    module's. No process of the sandbox serves another `user`.
    """

    def __init__(
        self,
        workspace: Workspace,
        sandbox: Sandbox,
        folder: Path,
        secrets: Mapping[str, str] | None = None,
        *,
        at_hand: Callable[[Call], Callable[..., Json] | None] | None = None,
        user: str = "",
    ) -> None:
        self._workspace = workspace
        self._sandbox = sandbox
        self._secrets: Mapping[str, str] = secrets or {}
        self._at_hand = at_hand
        self._user = user
        root = workspace.root  # both as the kernel names them, so that one is found beneath the other
        self._tenant = "" if root is None else os.path.realpath(root)
        self._root = Path(os.path.realpath(folder))
        self._hosted: dict[str, Mapping[str, Callable[..., Json]]] = {}
        self._environments: dict[str, Environment | None] = {}  # by the digest of the code that asks for it

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        """The digest of the profile and the confinement that this call will run in.

        Raises:
            Refusal: `policy_denied` where the tool is not the one that was reviewed, or a secret of it is not set.
            RunEnded: `sandbox_unavailable` where no accepted confinement works on this machine.
        """
        tool, action = self._workspace.action(call.action)
        self._check_code(tool)
        for name in tool.manifest.secrets:
            if name not in self._secrets:
                details = {"reason": "no_secret"}
                raise Refusal("policy_denied", f"secret {name!r} of the tool is not set here", details=details)
        if tool.manifest.source == "host":
            self._function(tool, action, call)
            return digest({"host": tool.manifest.host, "action": action.name}), "none"
        return self._profile(tool, action, call).digest, self._sandbox.confinement

    def keyed(self, call: Call) -> bool:
        tool, action = self._workspace.action(call.action)
        hidden = () if tool.pin is None else tool.pin.hidden.get(action.name, ())
        return "idempotency_key" in hidden or action.idempotency_header != ""

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """The decided call's own resources and arguments, in the hands of the action that its manifest names.

        INVARIANT: a probe touches only what the action touches (checked at load), so nothing new is to be decided.
        """
        tool, action = self._workspace.action(call.action)
        assert tool.pin is not None  # the broker refuses unpinned tools before it decides
        probe, schema = tool.manifest.actions[action.probe], tool.pin.schemas[action.probe]
        known = schema.input.get("properties", {})
        try:
            self._check_code(tool)
            arguments, touches = resolve(
                tool.manifest, probe, schema, {name: value for name, value in call.arguments.items() if name in known}
            )
            update = {"action": f"{tool.manifest.name}.{probe.name}", "arguments": arguments, "touches": touches}
            looked = call.model_copy(update={**update, "effect": "read"})
            found = await self.attempt(looked, number, idempotency_key=idempotency_key)
            if found.code is not None:
                return ProbeOutcome(landed="unknown", reason=found.message or found.code)
            if found.value is None:
                return ProbeOutcome(landed="not_landed")
            check_output(tool.pin.schemas[action.name], found.value)
        except Refusal as refusal:
            return ProbeOutcome(landed="unknown", reason=refusal.message)
        return ProbeOutcome(landed="landed", value=found.value)

    async def attempt(
        self, call: Call, number: int, *, idempotency_key: str, decide: Callable[[str], bool] | None = None
    ) -> AttemptOutcome:
        tool, action = self._workspace.action(call.action)
        assert tool.pin is not None  # the broker refuses unpinned tools before it decides
        arguments = dict(call.arguments)
        hidden = tool.pin.hidden.get(action.name, ())
        if "idempotency_key" in hidden:
            arguments["idempotency_key"] = idempotency_key
        if "resources" in hidden:
            arguments["resources"] = [touch.resource for touch in call.touches]
        if tool.manifest.source == "host":
            return await self._host(tool, action, call, arguments)
        profile = self._profile(tool, action, call)
        if profile.environment is not None and not profile.environment.made:
            await asyncio.to_thread(make_environment, profile.code)
        output = await self._sandbox.run(
            profile,
            arguments,
            declared=action.errors,
            permit=Permit(
                values={one.secret: self._secrets[one.secret] for one in tool.manifest.credentials},
                decide=decide,
                key=idempotency_key,
            ),
            variables={one.env: self._secrets[one.secret] for one in tool.manifest.exposed},
        )
        return await self._settle(tool, action, call, output)

    async def _settle(self, tool: Tool, action: Action, call: Call, output: Output) -> AttemptOutcome:
        """Check first, commit last: a result that breaks its promise leaves no file behind."""
        code, error, message, value = output.code, output.error, output.message, output.value
        changes: tuple[Change, ...] = ()
        try:
            if code is None:
                assert tool.pin is not None
                try:
                    schema = tool.pin.schemas[action.name]
                    await in_thread(output.spent.output_bytes, check_output, schema, value)
                except Refusal as refusal:
                    code, message, value = refusal.code, refusal.message, None
            if code is None and output.scratch is not None:
                try:
                    changes = output.scratch.commit()
                except Refusal as refusal:
                    code, message, value = refusal.code, refusal.message, None
        finally:
            if output.scratch is not None:
                output.scratch.discard()
        return AttemptOutcome(
            code=code,
            value=value,
            error=error if code == "tool_failed" else None,
            message=message,
            retry_after_s=output.retry_after_s,
            landed=landed(call, code),
            changes=changes,
            refused=output.refused,
            connections=output.connections,
            stderr=output.stderr,
            spent=output.spent,
            limit=output.limit,
        )

    def _profile(self, tool: Tool, action: Action, call: Call) -> Profile:
        manifest = tool.manifest
        return Profile(
            tool=manifest.name,
            action=action.name,
            source="command" if manifest.source == "command" else "python",
            code=self._workspace.code(manifest.name),
            argv=fill_argv(action, call.arguments, own=OWN_FOLDER),
            root=self._root,
            reads=_named(call, "file", "read"),
            writes=_named(call, "file", "write"),
            stores=_named(call, "store", "write"),
            read_stores=_named(call, "store", "read"),
            programs=manifest.programs,
            env={name: os.environ[name] for name in manifest.env if name in os.environ},
            wall=manifest.limits.wall,
            cpu=manifest.limits.cpu,
            memory=manifest.limits.memory,
            output=manifest.limits.output,
            tier=self._sandbox.confinement,
            tenant=self._tenant,
            user=self._user,
            trust=manifest.trust,
            environment=self._environment(tool),
            network=manifest.network(action, call.touches),
        )

    def _environment(self, tool: Tool) -> Environment | None:
        if tool.manifest.source != "python":
            return None
        if tool.code not in self._environments:
            self._environments[tool.code] = find_environment(self._workspace.code(tool.manifest.name))
        return self._environments[tool.code]

    def _check_code(self, tool: Tool) -> None:
        """The code that is about to run is the code that was pinned, also in the tenth hour of a run."""
        if code_digest(read_code(self._workspace.code(tool.manifest.name))) != tool.code:
            raise Refusal(
                "policy_denied",
                f"the files of tool {tool.manifest.name!r} have changed since the run began",
                details={"reason": "not_pinned"},
            )

    async def _host(self, tool: Tool, action: Action, call: Call, arguments: dict[str, Json]) -> AttemptOutcome:
        function = self._function(tool, action, call)
        started = time.monotonic()
        code: Code | None = None
        limit: ReachedLimit | None = None
        error, message, value, after, size = None, "", None, None, 0
        assert tool.pin is not None
        schema = tool.pin.schemas[action.name]
        try:
            value, size = await asyncio.wait_for(
                # What was decided stays as it is, whatever the tool does to what it is given.
                asyncio.to_thread(_returned, function, copy.deepcopy(arguments), schema),
                tool.manifest.limits.wall,
            )
            if size > tool.manifest.limits.output:
                limit = ReachedLimit(name="output", most=tool.manifest.limits.output, used=size, unit="bytes")
                code, message, value = "resource_exhausted", exhausted(limit), None
        except Refusal as refusal:
            code, message, value = refusal.code, refusal.message, None
        except TimeoutError:
            most = tool.manifest.limits.wall
            code, message = "timeout", f"no result within {most:g} s"
            limit = ReachedLimit(name="wall", most=most, used=round(time.monotonic() - started, 3), unit="s")
        except _FromTool as wrapped:
            failure = wrapped.__cause__
            assert failure is not None
            error = next((name for name, kind in action.errors.items() if _is_declared(failure, name, kind)), None)
            code = "tool_failed" if error else "tool_crashed"
            message = message_of(failure) if error else type(failure).__name__
            after = retry_after(failure) or None
        return AttemptOutcome(
            code=code,
            value=value,
            error=error,
            message=message,
            retry_after_s=after,
            landed=landed(call, code),
            spent=ResourceUsage(wall_s=time.monotonic() - started, output_bytes=size if code is None else 0),
            limit=limit,
        )

    def _function(self, tool: Tool, action: Action, call: Call) -> Callable[..., Json]:
        """What a call of a host tool runs."""
        given = None if self._at_hand is None else self._at_hand(call)
        if given is not None:
            return given
        manifest = tool.manifest
        if manifest.name not in self._hosted:
            self._hosted[manifest.name] = load_host(manifest)
        return self._hosted[manifest.name][action.name]


class _FromTool(Exception):
    """Whatever a host tool raised."""


def _returned(function: Callable[..., Json], arguments: dict[str, Json], schema: ActionSchema) -> tuple[Json, int]:
    """What the function returned, checked, and how many bytes it is. A `Refusal` is not the tool's word: its graph's, or ours."""
    raised, value = _caught(function, arguments)
    if isinstance(raised, Refusal):
        raise raised
    if raised is not None:
        raise _FromTool from raised
    check_output(schema, value)
    return value, len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _caught(function: Callable[..., Json], arguments: dict[str, Json]) -> tuple[BaseException | None, Json]:
    """What the function raised, or what it returned: a tool that exits takes only itself away.

    It runs in a thread of its own, where no interrupt of this process arrives: one that is raised here is the tool's.
    """
    try:
        return None, function(**arguments)
    except BaseException as failure:  # noqa: BLE001 - foreign code: whatever it raises becomes a code
        return failure, None


def _named(call: Call, kind: str, access: Access) -> tuple[str, ...]:
    """What the call was decided for, of that kind and with exactly that access."""
    return tuple(touch.name for touch in call.touches if (touch.kind, touch.access) == (kind, access))


def landed(call: Call, code: Code | None) -> Landed:
    """What is known of the effect after an attempt that ended with `code`.

    Files reach the working folder only by the broker's own commit, so a failed attempt of a call that writes nothing else
    has not landed, whatever the tool did. A tool's declared error is its own word that nothing happened.
    """
    if call.effect == "read":
        return "none"
    if code is None:
        return "landed"
    only_files = all(touch.access != "use" and touch.kind == "file" for touch in call.touches if touch.access != "read")
    if only_files or code in ("tool_failed", "sandbox_unavailable"):
        return "not_landed"
    return "unknown"


def _is_declared(failure: BaseException, name: str, kind: str) -> bool:
    names: set[str] = {base.__name__ for base in type(failure).__mro__}
    return (kind or "".join(part.title() for part in name.split("_"))) in names
