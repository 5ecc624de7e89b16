"""What a tool author does: show the permission card, try an action, run the cases, pin the tool.

A tool runs here as in a run of an agent, in the same sandbox, but without policy. Only here does unpinned code run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from remit.broker import AttemptOutcome, Everything, LiveExecutor, describe_host, narrow, try_host
from remit.core import Call, Json, Problem, Refusal, Subjects, UsageError, WorkspaceError, one_of, spelled
from remit.core.parsing import closed, digest, parse_json, table_text, toml_line
from remit.guardrails import Redactor, Sanitizer, Secrets, secrets_of_environment
from remit.sandbox import Profile, Sandbox
from remit.sandbox.egress import Answers, ExchangeLog, Network
from remit.sandbox.packages import check_environment, lock_environment, make_environment
from remit.tools.cases import ToolCase, read_tool_cases
from remit.tools.conformance import disagreements, made_examples
from remit.tools.graph_pins import graph_code, is_graph, pin_graph
from remit.tools.http_rows import answers_of, unanswered, unused
from remit.tools.mcp import listed_server, server_schemas
from remit.tools.source_check import check_source
from remit.workspace import Tool, Workspace
from remit.workspace.manifest import (
    LOCK,
    ActionSchema,
    Manifest,
    Pin,
    ServerPin,
    check_decoded,
    check_schemas,
    command_schema,
    named_arguments,
    open_lines,
    pin,
    resolve,
    write_lock,
    wrong_authorities,
)


@dataclass(frozen=True, kw_only=True)
class ToolCaseResult:
    """The result of one case. `message`: how it differs from the expected result; "" if it passed."""

    file: str
    line: int
    note: str
    passed: bool
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Played:
    """One case after it ran. `call` None: it was refused before the tool started."""

    case: ToolCase
    call: Call | None
    done: AttemptOutcome
    result: ToolCaseResult


_MADE_UP: Final = "made-up-secret-of-a-case-"  # in place of each secret: no case has a real one

_SIGNATURE_FIXES: Final[Mapping[str, str]] = {
    "has no type": "give every parameter and the result a type",
    "has no return type": "give every parameter and the result a type",
    "cannot be passed by name": "write it as a plain named parameter",
    "that LangChain uses itself": "give the parameter another name",
    "is not a finite number": "write a finite default, or None",
    "is not defined": "import the type where main.py runs, not under TYPE_CHECKING",
    "look-around": "write a pattern without (?=, (?!, (?<= and (?<!, or check the text in a validator",
    "typing_extensions.TypedDict": "import TypedDict from typing_extensions",
}


async def derive_pin(workspace: Workspace, tool: Tool, sandbox: Sandbox) -> Pin:
    """The pin of the tool's current files. Its code is imported inside a sandbox, to read the types of its functions.

    Raises:
        WorkspaceError: the code does not fit the manifest.
        RunEnded: `sandbox_unavailable`.
    """
    manifest = tool.manifest
    if not manifest.actions:
        raise WorkspaceError(undecided_problems(workspace, manifest.name))
    if wrong := list(wrong_authorities(manifest.authorities, workspace.code(manifest.name))):
        raise WorkspaceError(wrong)
    hidden: dict[str, tuple[str, ...]] = {}
    server: ServerPin | None = None
    if manifest.source == "mcp":
        values = Secrets(workspace.root).present(manifest.secrets) if workspace.root and manifest.server_url else {}
        server = await listed_server(workspace.code(manifest.name), manifest, sandbox, values)
        schemas = server_schemas(manifest, server)
    elif manifest.source == "command":
        _check_own_files(workspace, manifest)
        schemas = {name: command_schema(action) for name, action in manifest.actions.items()}
    else:
        described = await _described(workspace, manifest, sandbox)
        unfit = [
            Problem(
                file=f"tools/{manifest.name}/main.py",
                what=f"function {name!r}: {item['problem']}",
                fix=_signature_fix(item["problem"]),
            )
            for name, item in described.items()
            if name in manifest.actions and "problem" in item
        ]
        if unfit:
            raise WorkspaceError(unfit)
        schemas = {
            name: ActionSchema(
                description=item["description"], input=closed(item["input"]), output=closed(item["output"])
            )
            for name, item in described.items()
            if name in manifest.actions
        }
        hidden = {name: tuple(described[name]["hidden"]) for name in schemas if described[name]["hidden"]}
    file = f"tools/{manifest.name}/tool.toml"
    problems = check_schemas(manifest, schemas, hidden, file=file, text=workspace.files[file].decode())
    if not problems and manifest.source not in ("command", "mcp"):
        problems = await _disagreements(workspace, manifest, schemas, sandbox)
    if problems:
        raise WorkspaceError(problems)
    return pin(manifest, tool.code, schemas, hidden, server)


def undecided_problems(workspace: Workspace, name: str) -> list[Problem]:
    """The lines of the manifest of a tool that a person still has to decide."""
    file = f"tools/{name}/tool.toml"
    return [one.problem(file) for one in open_lines(workspace.files[file].decode())]


def _signature_fix(problem: str) -> str:
    """What to write for a problem of a function's signature, as `guest/decoding.py` words it."""
    every = "use a type that JSON can represent, such as str, int, list or dict"
    return next((fix for part, fix in _SIGNATURE_FIXES.items() if part in problem), every)


def _check_own_files(workspace: Workspace, manifest: Manifest) -> None:
    file = f"tools/{manifest.name}/tool.toml"
    missing = [
        Problem(
            file=file,
            line=toml_line(workspace.files[file].decode(), "actions", action.name, "run"),
            what=f"'run' names {part!r}, which is not a file of the tool's folder",
            fix=f"write tools/{manifest.name}/{part[2:]}",
        )
        for action in manifest.actions.values()
        for part in action.own_files
        if not (workspace.code(manifest.name) / part).is_file()
    ]
    if missing:
        raise WorkspaceError(missing)


async def _described(workspace: Workspace, manifest: Manifest, sandbox: Sandbox) -> Json:
    """The functions of the tool, by name: `description`, `input`, `output`, `hidden`; or `problem`."""
    if manifest.hosted:
        return describe_host(manifest, workspace.root)
    try:
        return await sandbox.describe(_importing(workspace, manifest, sandbox))
    except Refusal as refusal:
        what = f"{refusal.message}\n{refusal.details.get('stderr', '')}".rstrip()
        problem = Problem(file=f"tools/{manifest.name}/main.py", what=what, fix="fix the code")
        found = [item.problem for item in check_source(workspace, manifest.name) if item.level == "error"]
        raise WorkspaceError([problem, *found]) from refusal


def _importing(workspace: Workspace, manifest: Manifest, sandbox: Sandbox) -> Profile:
    """A profile that opens no files: importing the tool needs none."""
    code = workspace.code(manifest.name)
    check_environment(code)
    return Profile(
        tool=manifest.name,
        action="",
        source="python",
        code=code,
        root=code,
        wall=max(manifest.limits.wall, 20.0),
        cpu=max(manifest.limits.cpu, 10.0),
        memory=manifest.limits.memory,
        output=1024 * 1024,
        tier=sandbox.confinement,
        environment=make_environment(code),
        network=Network() if manifest.hosts or manifest.url_hosts else None,
    )


async def _disagreements(
    workspace: Workspace, manifest: Manifest, schemas: Mapping[str, ActionSchema], sandbox: Sandbox
) -> tuple[Problem, ...]:
    """Where the types or the signature of a function do not accept what its schema accepts; see `conformance.py`."""
    made = made_examples(schemas)
    file = f"tools/{manifest.name}/{'tool.toml' if manifest.hosted else 'main.py'}"
    if manifest.hosted:
        return disagreements(schemas, made, try_host(manifest, made, workspace.root), file=file)
    try:
        tried = await sandbox.conform(_importing(workspace, manifest, sandbox), made)
    except Refusal as refusal:
        if refusal.code in ("timeout", "resource_exhausted"):  # a slow validator is bounded in each call
            return ()
        what = f"the examples of its arguments could not be tried: {refusal.message}"
        return (Problem(file=file, what=what, fix="let each validator return a value or raise ValueError"),)
    return disagreements(schemas, made, tried, file=file)


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """The Python interpreter of a tool, for an editor. `locked`: its lock file was written again."""

    path: Path
    packages: Mapping[str, str]
    locked: bool


def interpreter(
    workspace: Workspace, name: str, *, upgrade: bool = False, tell: Callable[[str], None] | None = None
) -> Interpreter:
    """Lock the packages of a tool if its requirements changed, and install them if they are missing.

    Raises:
        UsageError: the tool is a command tool.
        WorkspaceError: a package is not available as a wheel.
        RunEnded: `sandbox_unavailable`: uv or the package index is missing.
    """
    if known_tool(workspace, name).manifest.source == "command":
        raise UsageError(f"{name!r} is a command tool: it starts programs and has no interpreter")
    code = workspace.code(name)
    locked = lock_environment(code, upgrade=upgrade)
    made = make_environment(code, report=tell)
    if made is None:
        return Interpreter(path=Path(sys.executable), packages={}, locked=False)
    return Interpreter(path=made.interpreter, packages=made.packages, locked=locked)


async def pin_tools(workspace: Workspace, names: tuple[str, ...], sandbox: Sandbox) -> dict[str, str]:
    """Pin the current files of tools, and of the graphs of agents (`agent:NAME`). Returns "new", "changed" or "unchanged" for each.

    Raises:
        UsageError: there is no such tool, or no such agent with a graph.
    """
    assert workspace.root is not None
    pins = {name: tool.pin for name, tool in workspace.tools.items() if tool.pin is not None}
    changes: dict[str, str] = {}
    graphs = {name: code for name, code in workspace.graph_pins.items() if name in workspace.agents}
    for name in names:
        if is_graph(name):
            changes[name] = pin_graph(workspace, name, graphs)
            continue
        made = await derive_pin(workspace, known_tool(workspace, name), sandbox)
        before = pins.get(name)
        changes[name] = "new" if before is None else "unchanged" if before == made else "changed"
        pins[name] = made
    (workspace.root / LOCK).write_text(write_lock(pins, graphs), encoding="utf-8")
    return changes


async def try_action(
    workspace: Workspace, name: str, arguments: Mapping[str, Json], folder: Path, sandbox: Sandbox, *, yes: bool = False
) -> tuple[Call, AttemptOutcome]:
    """Run one action of a tool, pinned or not, in a sandbox that has the resources of these arguments only.

    Raises:
        Refusal: the arguments are not valid, or the action is irreversible and `yes` is False.
    """
    tool, _ = workspace.action(name)
    return await attempt(await _fresh(workspace, tool, sandbox), name, arguments, folder, sandbox, yes=yes)


async def fresh_workspace(workspace: Workspace, action: str, sandbox: Sandbox) -> Workspace:
    """The workspace with a pin for the current files of the tool of that action."""
    return await _fresh(workspace, workspace.action(action)[0], sandbox)


def known_secrets(workspace: Workspace, tool: str) -> list[str]:
    """The secrets of a tool, and the values of environment variables that count as secrets."""
    assert workspace.root is not None
    own = Secrets(workspace.root, workspace.settings.secrets).present(workspace.tools[tool].manifest.secrets)
    return [*own.values(), *secrets_of_environment(workspace.settings.redact_env)]


async def _fresh(workspace: Workspace, tool: Tool, sandbox: Sandbox) -> Workspace:
    """The workspace with a pin for the current files of that tool."""
    fresh = tool.model_copy(update={"pin": await derive_pin(workspace, tool, sandbox)})
    return replace(workspace, tools={**workspace.tools, fresh.manifest.name: fresh})


async def attempt(
    workspace: Workspace,
    name: str,
    arguments: Mapping[str, Json],
    folder: Path,
    sandbox: Sandbox,
    *,
    yes: bool,
    exchanges: Answers | ExchangeLog | None = None,
) -> tuple[Call, AttemptOutcome]:
    """One attempt. With the answers of a case, it reaches no network and gets no secret."""
    fresh, action = workspace.action(name)
    assert fresh.pin is not None
    if action.effect == "once" and not yes:
        raise Refusal("approval_required", f"{name} cannot be undone", next_step="add --yes to run it")
    canonical, touches = resolve(fresh.manifest, action, fresh.pin.schemas[action.name], dict(arguments))
    call = Call(
        run="0" * 32,
        step=0,
        index=0,
        subjects=Subjects(agent="agent:none", user="user:none"),
        action=name,
        arguments=canonical,
        touches=touches,
        effect=action.effect,
        manifest=fresh.manifest.digest,
        request_digest=digest({"action": name, "arguments": canonical}),
    )
    assert workspace.root is not None
    secrets = fresh.manifest.secrets
    is_case = isinstance(exchanges, Answers)
    kept = Secrets(workspace.root, workspace.settings.secrets)
    values = {name: f"{_MADE_UP}{name}" for name in secrets} if is_case else kept.values(secrets)
    key, named = digest({"try": canonical}), named_arguments(action)
    executor = LiveExecutor(workspace, sandbox, folder, values)
    if exchanges is not None:
        executor.use(exchanges)
    call = narrow(call, action, executor, Everything())
    try:
        async with executor.decode(call, 1, named=named, idempotency_key=key) as decoded:
            check_decoded(action, fresh.pin.schemas[action.name], canonical, decoded.arguments)
            done = await decoded.attempt()
    finally:
        sandbox.end_run(call.run)
    sanitizer = Sanitizer(Redactor(call.run, values.values(), off=workspace.content.off), workspace.content)
    message, stderr = sanitizer.text(done.message, action=name), sanitizer.text(done.stderr, action=name)
    return call, replace(done, value=sanitizer.json(done.value, action=name), message=message, stderr=stderr)


@contextmanager
def scratch_folder(workspace: Workspace, name: str) -> Generator[Path]:
    """A temporary working folder: a copy of the seed of an agent, if possible one that has the tool; else empty."""
    seeds = [
        (any(action.startswith(f"{name}.") for action in agent.actions), agent.seed)
        for agent in workspace.agents.values()
        if agent.seed is not None
    ]
    with tempfile.TemporaryDirectory(prefix="remit-try-") as made:
        folder = Path(made) / "work"
        if seeds and workspace.root is not None:
            shutil.copytree(workspace.root / max(seeds)[1], folder, symlinks=True)
        else:
            folder.mkdir()
        yield folder


async def run_tool_cases(workspace: Workspace, name: str, sandbox: Sandbox) -> list[ToolCaseResult]:
    """Run the cases of a tool, each in its own empty folder."""
    return [played.result async for played in play(workspace, name, sandbox)]


async def play(workspace: Workspace, name: str, sandbox: Sandbox) -> AsyncGenerator[Played]:
    """Run the cases of a tool one after the other, with the full outcome of each."""
    assert workspace.root is not None
    file = f"tools/{name}/cases.yaml"
    cases = read_tool_cases(table_text(workspace.root / file, file=file), file, name)
    fresh = await _fresh(workspace, known_tool(workspace, name), sandbox) if cases else workspace
    for case in cases:
        yield await play_case(fresh, case, sandbox)


async def play_case(workspace: Workspace, case: ToolCase, sandbox: Sandbox) -> Played:
    """Run one case; the workspace has a pin for the current files of its tool."""
    call: Call | None = None
    tool = case.action.partition(".")[0]
    answers = answers_of(case.setup.http, workspace.code(tool), tool)
    with tempfile.TemporaryDirectory(prefix="remit-case-") as made:
        folder = Path(made)
        for name, text in case.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        try:
            call, done = await attempt(
                workspace, case.action, case.arguments, folder, sandbox, yes=True, exchanges=answers
            )
        except Refusal as refusal:
            done = AttemptOutcome(code=refusal.code, message=refusal.message)
        difference = unanswered(answers) or case.judge(
            value=done.value, code=done.code, error=done.error, message=done.message, folder=folder
        )
        difference = difference or unused(answers)
    file = f"tools/{tool}/cases.yaml"
    result = ToolCaseResult(file=file, line=case.line, note=case.note, passed=not difference, message=difference)
    return Played(case=case, call=call, done=done, result=result)


def code_of(workspace: Workspace, name: str) -> str:
    """The digest of the present code of a tool, or of the graph of `agent:NAME`. Raises UsageError if there is none."""
    return graph_code(workspace, name) if is_graph(name) else known_tool(workspace, name).code


def known_tool(workspace: Workspace, name: str) -> Tool:
    """The tool of that name. Raises UsageError if there is none."""
    if name not in workspace.tools:
        raise UsageError(f"there is no tool {spelled(name)}: {one_of(name, workspace.tools)}")
    return workspace.tools[name]


def parse_pairs(pairs: tuple[str, ...], schema: ActionSchema) -> dict[str, Json]:
    """Turn `key=value` words into arguments: text if the schema has a string there, else JSON."""
    return parse_fields(pairs, schema.input)


def parse_fields(pairs: tuple[str, ...], schema: Mapping[str, Json]) -> dict[str, Json]:
    """As `parse_pairs`, for any object of which `schema` is the JSON Schema."""
    arguments: dict[str, Json] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} is not an argument: write it as key=value")
        properties: dict[str, Json] = schema.get("properties", {})
        described = properties.get(key)
        if isinstance(described, dict) and cast("dict[str, Json]", described).get("type") == "string":
            arguments[key] = value
        else:
            try:
                arguments[key] = parse_json(value)
            except Refusal:  # not JSON, or a number that is not exact: it stays a text
                arguments[key] = value
    return arguments
