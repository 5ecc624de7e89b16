"""One attempt of one decided call: confine, run, check, commit.

`ToolExecutor` is the only interface through which the broker runs tools. `LiveExecutor` runs them in the sandbox. A replay
replaces it by an executor that returns recorded outcomes, so nothing real can happen.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
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
    """The outcome of one attempt before it is sanitized. If `code` is None, `value` is the result."""

    code: Code | None
    value: Json = None
    error: str | None = None
    message: str = ""
    next_step: str | None = None
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
    """The outcome of a probe of an effect. `value` is what the call would have returned; None unless it landed."""

    landed: Landed
    value: Json = None
    reason: str = ""


class ToolExecutor(Protocol):
    """Runs one attempt. `prepare` returns the confinement of the attempt before anything runs."""

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]: ...
    def keyed(self, call: Call) -> bool:
        """True if the tool or its server receives an idempotency key for this call."""
        ...

    async def attempt(
        self, call: Call, number: int, *, idempotency_key: str, decide: Callable[[str], bool] | None = None
    ) -> AttemptOutcome:
        """Run the call. `decide` returns True if the call may follow a redirect to that URL; None allows no redirect."""
        ...

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """Find out if the effect of the call has happened; `number` counts the probes."""
        ...


class LiveExecutor:
    """Runs tools for real: python and command tools in the sandbox, host tools in this process.

    `folder` is the working folder of the run; `secrets` maps the names of the tools' secrets to their values. Host tools are
    not confined, and only those that `remit.toml` names are loaded. `host_function` returns the function of one call of a
    host tool, if it is not the one of its module. A sandbox process serves only one `user`.
    """

    def __init__(
        self,
        workspace: Workspace,
        sandbox: Sandbox,
        folder: Path,
        secrets: Mapping[str, str] | None = None,
        *,
        host_function: Callable[[Call], Callable[..., Json] | None] | None = None,
        user: str = "",
    ) -> None:
        self._workspace = workspace
        self._sandbox = sandbox
        self._secrets: Mapping[str, str] = secrets or {}
        self._host_function = host_function
        self._user = user
        root = workspace.root  # resolved like the folder below, so that one path is a prefix of the other
        self._folder = "" if root is None else os.path.realpath(root)
        self._root = Path(os.path.realpath(folder))
        self._hosted: dict[str, Mapping[str, Callable[..., Json]]] = {}
        self._environments: dict[str, Environment | None] = {}  # by the digest of the code that needs it

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        """The digest of the profile, and the confinement, that this call will run in.

        Raises:
            Refusal: `policy_denied` if the tool changed after its review, or one of its secrets is not set.
            RunEnded: `sandbox_unavailable` if no accepted confinement works on this machine.
        """
        tool, action = self._workspace.action(call.action)
        self._check_code(tool)
        for name in tool.manifest.secrets:
            if name not in self._secrets:
                details = {"reason": "no_secret"}
                raise Refusal(
                    "policy_denied",
                    f"secret {name!r} of tool {tool.manifest.name!r} is not set",
                    details=details,
                    next_step=f"continue without this tool, and tell the user to run `remit secret set {name}`",
                )
        if tool.manifest.source == "host":
            self._function(tool, action, call)
            return digest({"host": tool.manifest.host, "action": action.name}), "none"
        return self._profile(tool, action, call).digest, self._sandbox.confinement

    def keyed(self, call: Call) -> bool:
        return receives_key(self._workspace, call)

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """Call the probe action of the manifest with the resources and arguments of the decided call.

        INVARIANT: a probe touches only what the action touches (checked when the manifest loads), so the decision covers it.
        """
        try:
            self._check_code(self._workspace.action(call.action)[0])
        except Refusal as refusal:
            return ProbeOutcome(landed="unknown", reason=refusal.message)
        return await run_probe(
            self._workspace, call, lambda probe: self.attempt(probe, number, idempotency_key=idempotency_key)
        )

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
            function = self._function(tool, action, call)
            return await run_function(self._workspace, call, arguments, function)
        profile = self._profile(tool, action, call)
        if profile.environment is not None and not profile.environment.made:
            await asyncio.to_thread(make_environment, profile.code)
        output = await self._sandbox.run(
            profile,
            arguments,
            declared=action.errors,
            permit=Permit(
                values={item.secret: self._secrets[item.secret] for item in tool.manifest.credentials},
                decide=decide,
                key=idempotency_key,
            ),
            variables={item.env: self._secrets[item.secret] for item in tool.manifest.exposed},
        )
        return await self._settle(tool, action, call, output)

    async def _settle(self, tool: Tool, action: Action, call: Call, output: Output) -> AttemptOutcome:
        """Check the result first and commit its files last: a result that fails its schema leaves no file behind."""
        code, error, message, value = output.code, output.error, output.message, output.value
        next_step = output.next_step
        changes: tuple[Change, ...] = ()
        try:
            if code is None:
                assert tool.pin is not None
                try:
                    schema = tool.pin.schemas[action.name]
                    await in_thread(output.spent.output_bytes, check_output, schema, value)
                except Refusal as refusal:
                    code, message, value, next_step = refusal.code, refusal.message, None, refusal.next_step
            if code is None and output.scratch is not None:
                try:
                    changes = output.scratch.commit()
                except Refusal as refusal:
                    code, message, value, next_step = refusal.code, refusal.message, None, refusal.next_step
        finally:
            if output.scratch is not None:
                output.scratch.discard()
        return AttemptOutcome(
            code=code,
            value=value,
            error=error if code == "tool_failed" else None,
            message=message,
            next_step=next_step,
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
            reads=_resources(call, "file", "read"),
            writes=_resources(call, "file", "write"),
            stores=_resources(call, "store", "write"),
            read_stores=_resources(call, "store", "read"),
            programs=manifest.programs,
            env={name: os.environ[name] for name in manifest.env if name in os.environ},
            wall=manifest.limits.wall,
            cpu=manifest.limits.cpu,
            memory=manifest.limits.memory,
            output=manifest.limits.output,
            tier=self._sandbox.confinement,
            workspace=self._folder,
            tenant=self._workspace.settings.tenant,
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
        """Raise `policy_denied` if the code of the tool is not the pinned one. Checked before every attempt, in long runs too."""
        if code_digest(read_code(self._workspace.code(tool.manifest.name))) != tool.code:
            raise Refusal(
                "policy_denied",
                f"the files of tool {tool.manifest.name!r} have changed since the run began",
                details={"reason": "not_pinned"},
                next_step="continue without this tool, and tell the user that it must be reviewed again",
            )

    def _function(self, tool: Tool, action: Action, call: Call) -> Callable[..., Json]:
        """The function that a call of a host tool runs."""
        function = None if self._host_function is None else self._host_function(call)
        if function is not None:
            return function
        manifest = tool.manifest
        if manifest.name not in self._hosted:
            self._hosted[manifest.name] = load_host(manifest)
        return self._hosted[manifest.name][action.name]


async def run_function(
    workspace: Workspace, call: Call, arguments: dict[str, Json], function: Callable[..., Json]
) -> AttemptOutcome:
    """Carry out one attempt by a function of this process, in a thread of its own, within the limits of the tool.

    The returned value must match the pinned output schema. An exception is the declared error of that name, or a crash.
    """
    tool, action = workspace.action(call.action)
    started = time.monotonic()
    code: Code | None = None
    limit: ReachedLimit | None = None
    error, message, value, after, size = None, "", None, None, 0
    assert tool.pin is not None
    schema = tool.pin.schemas[action.name]
    try:
        value, size = await asyncio.wait_for(
            # A copy, so that the tool cannot change the decided arguments for later attempts.
            asyncio.to_thread(_checked_value, function, copy.deepcopy(arguments), schema),
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
    except _RaisedByTool as wrapped:
        code, error, message, after = _failure_of(action, wrapped.__cause__)
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


def _failure_of(action: Action, failure: BaseException | None) -> tuple[Code, str | None, str, float | None]:
    """The code, the declared error, its message, and the seconds to wait, of an exception that a tool raised."""
    assert failure is not None
    after = retry_after(failure) or None
    error = next((name for name, kind in action.errors.items() if _is_declared(failure, name, kind)), None)
    if error is None:
        return "tool_crashed", None, type(failure).__name__, after
    return "tool_failed", error, message_of(failure), after


async def run_probe(
    workspace: Workspace, call: Call, attempt: Callable[[Call], Awaitable[AttemptOutcome]]
) -> ProbeOutcome:
    """Find out by the probe action of the manifest if the effect of the call has happened; `attempt` runs the probe."""
    tool, action = workspace.action(call.action)
    assert tool.pin is not None  # the broker refuses unpinned tools before it decides
    probe, schema = tool.manifest.actions[action.probe], tool.pin.schemas[action.probe]
    accepted = schema.input.get("properties", {})
    try:
        arguments, touches = resolve(
            tool.manifest,
            probe,
            schema,
            {name: value for name, value in call.arguments.items() if name in accepted},
        )
        update = {"action": f"{tool.manifest.name}.{probe.name}", "arguments": arguments, "touches": touches}
        outcome = await attempt(call.model_copy(update={**update, "effect": "read"}))
        if outcome.code is not None:
            return ProbeOutcome(landed="unknown", reason=outcome.message or outcome.code)
        if outcome.value is None:
            return ProbeOutcome(landed="not_landed")
        check_output(tool.pin.schemas[action.name], outcome.value)
    except Refusal as refusal:
        return ProbeOutcome(landed="unknown", reason=refusal.message)
    return ProbeOutcome(landed="landed", value=outcome.value)


def receives_key(workspace: Workspace, call: Call) -> bool:
    """True if the tool or its server receives an idempotency key for this call."""
    tool, action = workspace.action(call.action)
    hidden = () if tool.pin is None else tool.pin.hidden.get(action.name, ())
    return "idempotency_key" in hidden or action.idempotency_header != ""


class _RaisedByTool(Exception):
    """Wraps an exception of a host tool."""


def _checked_value(function: Callable[..., Json], arguments: dict[str, Json], schema: ActionSchema) -> tuple[Json, int]:
    """The checked return value of the function, and its size in bytes.

    Raises:
        Refusal: the graph or the broker refused the call; it is not an error of the tool.
        _RaisedByTool: the tool raised an exception, which is the cause.
    """
    raised, value = _call_and_catch(function, arguments)
    if isinstance(raised, Refusal):
        raise raised
    if raised is not None:
        raise _RaisedByTool from raised
    check_output(schema, value)
    return value, len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _call_and_catch(function: Callable[..., Json], arguments: dict[str, Json]) -> tuple[BaseException | None, Json]:
    """The exception of the function, or its return value. A tool that calls `sys.exit` ends only its own call.

    It runs in a separate thread, which never receives the interrupts of this process. Any KeyboardInterrupt comes from the tool.
    """
    try:
        return None, function(**arguments)
    except BaseException as failure:  # noqa: BLE001 - any exception of a tool becomes an error code
        return failure, None


def _resources(call: Call, kind: str, access: Access) -> tuple[str, ...]:
    """What the call was decided for, of that kind and with exactly that access."""
    return tuple(touch.name for touch in call.touches if (touch.kind, touch.access) == (kind, access))


def landed(call: Call, code: Code | None) -> Landed:
    """What is known about the effect after an attempt that ended with `code`.

    Files reach the working folder only when the broker commits them. A failed attempt that writes only files has therefore
    not landed. With a declared error the tool itself states that nothing happened.
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
