"""One attempt of one decided call: confine, run, check, commit.

`ToolExecutor` is the only interface through which the broker runs tools. `LiveExecutor` runs them in the sandbox. A replay
replaces it by an executor that returns recorded outcomes, so nothing real can happen.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from remit.broker.host import block_value, decode_for_host, load_host, refuse_outside_of_hooks, run_function
from remit.broker.mcp import speaker_of, with_server
from remit.broker.ports import AttemptOutcome, During, ProbeOutcome, Question, landed, mismatch_of, result_refusal
from remit.broker.refusals import no_secret
from remit.core import (
    Access,
    Call,
    Change,
    Confinement,
    Json,
    Refusal,
    ResourceAccess,
    SchemaMismatch,
    UsageError,
    in_thread,
)
from remit.core.events import AttemptProgressed
from remit.core.parsing import digest
from remit.guardrails import RunSecrets, Sanitizer
from remit.journal import Record
from remit.sandbox import OWN_FOLDER, CallContext, Output, Profile, Sandbox, digest_of_reads, stores_of
from remit.sandbox.egress import Answers, ExchangeLog, Permit
from remit.sandbox.packages import Environment, find_environment, make_environment
from remit.workspace import Tool, Workspace, read_code
from remit.workspace.manifest import (
    Action,
    check_decoded,
    check_output,
    code_digest,
    fill_argv,
    named_arguments,
    resolve,
    with_authorities,
    with_grant_text,
)

PROGRESS_LINES: Final = 100  # of one attempt that are recorded while it runs; the end of the attempt has everything
PROGRESS_CHARACTERS: Final = 500  # of one line


@dataclass(kw_only=True)
class Progress:
    """Records what a tool prints or yields in one attempt, line by line, sanitized: people see it before the result. Nothing waits for it."""

    record: Record
    sanitizer: Sanitizer
    call: Call
    attempt: int
    _line: bytearray = field(default_factory=bytearray)
    _count: int = 0

    def see(self, printed: bytes) -> None:
        """Add what was printed. A line is recorded once it is complete."""
        if self._count >= PROGRESS_LINES:
            return
        self._line += printed
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            self._record(line[: 4 * PROGRESS_CHARACTERS].decode(errors="replace").strip())
        self._line = rest[: 4 * PROGRESS_CHARACTERS]

    def _record(self, text: str) -> None:
        if not text or self._count >= PROGRESS_LINES:
            return
        self._count += 1
        progressed = AttemptProgressed(
            step=self.call.step,
            index=self.call.index,
            attempt=self.attempt,
            number=self._count,
            text=self.sanitizer.text(text, action=self.call.action)[:PROGRESS_CHARACTERS],
        )
        if self.record.get(progressed.key) is None:  # an attempt that asked a person goes on
            self.record.append(progressed)


class DecodedCall(Protocol):
    """A call whose arguments are decoded, and whose function is not called yet: nothing has happened."""

    @property
    def arguments(self) -> Mapping[str, Json] | None:
        """The named arguments as the function gets them, as JSON, without those that JSON cannot represent.

        None: all are as decided.
        """
        ...

    async def attempt(self, during: During | None = None) -> AttemptOutcome:
        """Run the call."""
        ...


class ToolExecutor(Protocol):
    """Runs one attempt. `prepare` returns the confinement of the attempt before anything runs."""

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]: ...
    async def read_digest(self, call: Call, number: int) -> str:
        """The digest of everything that the call can read, now; "" if its action is not cached, or if that cannot be read."""
        ...

    def keyed(self, call: Call) -> bool:
        """True if the tool or its server receives an idempotency key for this call."""
        ...

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        """The names of the stores of a group in the working folder, before the call is decided.

        Raises:
            Refusal: `resource_exhausted`: there are too many.
        """
        ...

    def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AbstractAsyncContextManager[DecodedCall]:
        """Decode the arguments into the types of the tool, and hold the call until the context is left.

        The broker records the attempt before `DecodedCall.attempt`, so what happens here must have no effect.

        Raises:
            Refusal: `invalid_arguments`: the tool does not accept the arguments.
        """
        ...

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """Find out if the effect of the call has happened; `number` counts the probes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A decoded call: the decoded arguments, and what runs it."""

    run: Callable[[During], Awaitable[AttemptOutcome]]
    arguments: Mapping[str, Json] | None = None

    async def attempt(self, during: During | None = None) -> AttemptOutcome:
        return await self.run(during or During())


class LiveExecutor:
    """Runs tools for real: python and command tools in the sandbox, host tools in this process.

    `folder` is the working folder of the run; `secrets` maps the names of the tools' secrets to their values. Host tools are
    not confined, and only those that `remit.toml` names are loaded. `host_function` returns the function of one call of a
    host tool, if it is not the one of its module; `root` is the folder of such modules, None: that of the workspace. A sandbox
    process serves only one `user`.
    """

    def __init__(
        self,
        workspace: Workspace,
        sandbox: Sandbox,
        folder: Path,
        secrets: Mapping[str, str] | RunSecrets | None = None,
        *,
        host_function: Callable[[Call], Callable[..., Json] | None] | None = None,
        user: str = "",
        root: Path | None = None,
    ) -> None:
        self._modules = root or workspace.root
        self._workspace = workspace
        self._sandbox = sandbox
        self._secrets = secrets if isinstance(secrets, RunSecrets) else RunSecrets(secrets or {})
        self._host_function = host_function
        self._user = user
        self._folder = "" if workspace.root is None else os.path.realpath(workspace.root)
        self._root = Path(os.path.realpath(folder))  # both resolved, so that one path is a prefix of the other
        self._hosted: dict[str, Mapping[str, Callable[..., Json]]] = {}
        self._environments: dict[str, Environment | None] = {}  # by the digest of the code that needs it
        self._exchanges: Answers | ExchangeLog | None = None
        self.on_server: Callable[[str, Sequence[str]], Awaitable[None]] | None = None  # see `McpCall.compared`
        self._written: Callable[[Call, Sequence[Change]], tuple[Change, ...]] | None = None

    def keep_files(self, written: Callable[[Call, Sequence[Change]], tuple[Change, ...]]) -> None:
        """Let `written` keep the files that a call wrote, before its result is recorded; it returns all of them."""
        self._written = written

    def use(self, exchanges: Answers | ExchangeLog) -> None:
        """Let the answers of a test case come in place of the network, or log what the network answers. No run does."""
        self._exchanges = exchanges

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        """The digest of the profile, and the confinement, that this call will run in.

        Raises:
            Refusal: `policy_denied` if the tool changed after its review, or one of its secrets is not set.
            RunEnded: `sandbox_unavailable` if no accepted confinement works on this machine.
        """
        tool, action = self._workspace.action(call.action)
        self._check_code(tool)
        for name in tool.manifest.secrets:
            if not self._secrets.has(name):
                raise no_secret(tool.manifest.name, f"secret {name!r} is not set: run `remit secret set {name}`")
        if tool.manifest.hosted:
            self._function(tool, action, call)
            return digest({"host": tool.manifest.host or tool.manifest.client, "action": action.name}), "none"
        profile = self._profile(tool, action, call)
        return profile.digest, profile.tier

    def expect(self, name: str) -> None:
        """Let the sandbox prepare for a call of that action in this working folder, if its tool is warm. Nothing runs."""
        tool, action = self._workspace.action(name)
        if tool.manifest.source == "python" and tool.pinned:
            self._sandbox.expect(self._profile(tool, action, None))

    async def read_digest(self, call: Call, number: int) -> str:
        tool, action = self._workspace.action(call.action)
        if not action.cache:
            return ""
        try:
            return await asyncio.to_thread(digest_of_reads, self._profile(tool, action, call))
        except (OSError, Refusal):  # the call itself finds out what is wrong
            return ""

    def keyed(self, call: Call) -> bool:
        return receives_key(self._workspace, call)

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        return stores_of(self._root, group)

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        """Call the probe action of the manifest with the resources and arguments of the decided call.

        INVARIANT: a probe touches only what the action touches (checked when the manifest loads), so the decision covers it.
        """
        try:
            self._check_code(self._workspace.action(call.action)[0])
        except Refusal as refusal:
            return ProbeOutcome(landed="unknown", reason=refusal.message)

        async def attempt(probe: Call) -> AttemptOutcome:
            tool, action = self._workspace.action(probe.action)
            assert tool.pin is not None  # the broker refuses unpinned tools before it decides
            named = named_arguments(action)
            async with self.decode(probe, number, named=named, idempotency_key=idempotency_key) as decoded:
                check_decoded(action, tool.pin.schemas[action.name], probe.arguments, decoded.arguments)
                return await decoded.attempt()

        return await run_probe(self._workspace, call, attempt)

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[DecodedCall]:
        tool, action = self._workspace.action(call.action)
        assert tool.pin is not None  # the broker refuses unpinned tools before it decides
        arguments = dict(call.arguments)
        hidden = tool.pin.hidden.get(action.name, ())
        if "idempotency_key" in hidden:
            arguments["idempotency_key"] = idempotency_key
        if "resources" in hidden:
            arguments["resources"] = [touch.resource for touch in call.touches]
        if "permitted" in hidden:
            permitted = {} if call.narrowing is None else call.narrowing.permitted
            arguments["permitted"] = {kind: patterns.model_dump(mode="json") for kind, patterns in permitted.items()}
        if tool.manifest.hosted:
            function = self._function(tool, action, call)
            wall = tool.manifest.limits.wall
            run, shown = await decode_for_host(function, arguments, named, wall=wall)
            yield Ready(run=lambda during: run_function(self._workspace, call, run, during.on_print), arguments=shown)
            return
        profile = self._profile(tool, action, call)
        if profile.environment is not None and not profile.environment.made:
            await asyncio.to_thread(make_environment, profile.code)
        try:
            secrets = await self._secrets.current(tool.manifest.secrets)
        except UsageError as failure:
            raise no_secret(tool.manifest.name, str(failure)) from failure
        declared, speaker = action.errors, speaker_of(tool, action, arguments, self.on_server)
        async with self._sandbox.open(profile, arguments, named=named, declared=declared, speaker=speaker) as opened:

            async def attempt(during: During) -> AttemptOutcome:
                values = {item.secret: secrets[item.secret] for item in tool.manifest.credentials}
                context = CallContext(
                    permit=Permit(values=values, decide=during.decide, key=idempotency_key, exchanges=self._exchanges),
                    variables={item.env: secrets[item.secret] for item in tool.manifest.exposed},
                    # What is printed in pieces can hold a part of a secret, which no redaction finds.
                    on_print=None if tool.manifest.exposed else during.on_print,
                    answered=during.answered,
                )
                output = await opened.run(context)
                outcome = await self._settle(tool, action, call, output)
                return replace(outcome, read_digest=await self.read_digest(call, number))

            yield Ready(run=attempt, arguments=opened.decoded)

    async def _settle(self, tool: Tool, action: Action, call: Call, output: Output) -> AttemptOutcome:
        """Check the result first and commit its files last: a result that fails its schema leaves no file behind."""
        code, error, message, value = output.code, output.error, output.message, output.value
        next_step = output.next_step
        changes: tuple[Change, ...] = ()
        mismatch: SchemaMismatch | None = None
        try:
            if output.question is not None:
                raise Question(output.question, "", output.connections)
            if code is None:
                assert tool.pin is not None
                try:
                    schema = tool.pin.schemas[action.name]
                    await in_thread(output.spent.output_bytes, check_output, schema, value)
                except Refusal as refusal:
                    code, value, next_step = refusal.code, None, refusal.next_step
                    message, mismatch = result_refusal(call, refusal), mismatch_of(refusal)
            if code is None and output.scratch is not None:
                try:
                    changes = output.scratch.commit()
                except Refusal as refusal:
                    code, message, value, next_step = refusal.code, refusal.message, None, refusal.next_step
        finally:
            if output.scratch is not None:
                output.scratch.discard()
        if self._written is not None and call.effect != "read":
            changes = await asyncio.to_thread(self._written, call, changes)
        content = block_value(value)
        return AttemptOutcome(
            code=code,
            value=content.value,
            objects=(*content.objects, *output.objects),
            error=error if code == "tool_failed" else None,
            message=message,
            next_step=next_step,
            retry_after_s=output.retry_after_s,
            landed=landed(call, code, entered=output.entered),
            changes=changes,
            refused=tuple(with_grant_text(tool.manifest, action, item) for item in output.refused),
            connections=output.connections,
            stderr=output.stderr,
            spent=output.spent,
            limit=output.limit,
            frames=output.frames,
            mismatch=mismatch,
        )

    def _profile(self, tool: Tool, action: Action, call: Call | None) -> Profile:
        """The profile of a call; None: of one that is not resolved, which may access nothing."""
        manifest, touches, code = tool.manifest, call.touches if call else (), self._workspace.code(tool.manifest.name)
        profile = Profile(
            tool=manifest.name,
            action=action.name,
            source="command" if manifest.source == "command" else "python",
            code=code,
            argv=() if call is None else fill_argv(action, call.arguments, own=OWN_FOLDER),
            root=self._root,
            reads=_resources(touches, "file", "read"),
            writes=_resources(touches, "file", "write"),
            stores=_resources(touches, "store", "write"),
            read_stores=_resources(touches, "store", "read"),
            programs=manifest.programs,
            env={name: os.environ[name] for name in manifest.env if name in os.environ},
            wall=manifest.limits.wall,
            cpu=manifest.limits.cpu,
            memory=manifest.limits.memory,
            output=manifest.limits.output,
            tier="none" if manifest.server_url else self._sandbox.confinement,  # of one elsewhere, nothing runs here
            workspace=self._folder,
            tenant=self._workspace.settings.tenant,
            user=self._user,
            trust=manifest.trust,
            life=manifest.life,
            run="" if call is None else call.run,
            proc=manifest.proc,
            environment=self._environment(tool),
            network=with_authorities(manifest.network(action, touches), manifest.authorities, code, tool.code),
        )
        return with_server(profile, manifest)

    def _environment(self, tool: Tool) -> Environment | None:
        if tool.manifest.source not in ("python", "mcp"):
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
        """The function that a call of a host tool runs. Raises Refusal for a tool of a coding agent that has not asked for it."""
        function = None if self._host_function is None else self._host_function(call)
        if function is not None:
            return function
        manifest = tool.manifest
        if manifest.source == "hook":  # refused before an attempt is recorded: nothing has happened
            refuse_outside_of_hooks()
        if manifest.name not in self._hosted:
            self._hosted[manifest.name] = load_host(manifest, self._modules)
        return self._hosted[manifest.name][action.name]


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


def _resources(touches: Sequence[ResourceAccess], kind: str, access: Access) -> tuple[str, ...]:
    """What a call was decided for, of that kind and with exactly that access."""
    return tuple(touch.name for touch in touches if (touch.kind, touch.access) == (kind, access))
