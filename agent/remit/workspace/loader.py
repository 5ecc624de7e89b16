"""A workspace: the folder around `remit.toml`, with its agents and tools, read whole and strictly.

Every problem of every file is reported at once. The same code reads live files and a run's recorded rulebook.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

from pydantic import Field

from remit.core.calls import Confinement, Json, Noun
from remit.core.errors import Problem, Refusal, UsageError, WorkspaceError
from remit.core.parsing.json_schema import check_schema
from remit.core.parsing.names import parse_arguments
from remit.core.parsing.toml import Table, read_table, read_toml
from remit.core.parsing.toml import toml_line as toml_line
from remit.guardrails.content_rules import CONTENT, Content, read_content
from remit.workspace.answer_contract import Answer
from remit.workspace.file_schema import MARKER as MARKER
from remit.workspace.file_schema import SUBJECT, AgentTable, SettingsTable, plain_path
from remit.workspace.labels import LABELS, Labelled, read_labels
from remit.workspace.limits import LIMITS, Limit, read_limits
from remit.workspace.manifest.manifest import Action, Manifest, Pin, code_digest, is_code, parse_manifest
from remit.workspace.manifest.pins import LOCK, check_schemas, read_lock
from remit.workspace.manifest.schema import duration, size

RESERVED: Final = "remit"  # agent/remit is the engine's own source
NOBODY: Final = "user:none"

_T = TypeVar("_T", bound=Table)

_RULES = re.compile(r"policies/[^/]+\.(?:conf|csv)|policies/tools\.lock|policies/(?:limits|content|labels)\.toml")


# -- what the rest of Remit reads --------------------------------------------------------------------------------------


class Budget(Noun):
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


class Price(Noun):
    """What a million tokens cost."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> int:
        """Millionths of the currency."""
        return round(input_tokens * self.input + output_tokens * self.output)


class LookUp(Noun):
    """One call that fills the directory. A value that is `{kind}` stands for every resource of that kind known by then."""

    action: str
    arguments: dict[str, Json] = Field(default_factory=dict)

    @property
    def of(self) -> str:
        """The kind whose names its arguments take; "" where they take none."""
        held = (value for value in self.arguments.values() if isinstance(value, str))
        return next((value[1:-1] for value in held if re.fullmatch(r"\{[a-z][a-z0-9_]*\}", value)), "")


class Agent(Noun):
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
    answer: Answer | None = None
    directory: tuple[LookUp, ...] = ()


class Settings(Noun):
    """What `remit.toml` says. `identity` None: every account is the user of its own name; empty: no account is anybody.

    `content` False: what people, models and tools said is not recorded. `keep` is for how long runs are kept, as "90d".
    """

    env: str = "local"
    identity: Mapping[str, str] | None = None
    accept: tuple[Confinement, ...] = ("full",)
    host_tools: tuple[str, ...] = ()
    redact_env: tuple[str, ...] = ()
    content: bool = True
    keep: str | None = None


class Tool(Noun):
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
    limits: tuple[Limit, ...] = ()
    content: Content = Content()
    labels: tuple[Labelled, ...] = ()

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


def find(start: Path) -> Path:
    """The workspace that `start` lies in: the nearest folder upwards with a `remit.toml`."""
    here = start.resolve()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file():
            return folder
    raise UsageError(f"no {MARKER} in {str(here)!r} or above it; write a workspace with `remit init`")


def load(root: Path) -> Workspace:
    """The workspace at `root`, as its files are now.

    Raises:
        WorkspaceError: with every problem of every room, except in the rules, which `policy.load` reads.
    """
    reading = _Reading(root)
    try:
        workspace = load_files(reading.files, root=root, code=reading.code)
    except WorkspaceError as error:
        raise WorkspaceError([*reading.problems, *error.problems]) from error
    if reading.problems:
        raise WorkspaceError(reading.problems)
    return workspace


def load_files(files: Mapping[str, bytes], *, root: Path | None, code: Mapping[str, str] | None) -> Workspace:
    """The workspace that those files make; `code` gives each tool's code digest.

    Raises:
        WorkspaceError: with every problem.
    """
    return _Loading(files, root, code or {}).workspace()


def read_code(folder: Path) -> dict[str, bytes]:
    """The files of a tool's folder that `code_digest` covers, by path relative to it.

    Raises:
        WorkspaceError: a symbolic link, which could change what runs without changing the folder.
    """
    found: dict[str, bytes] = {}
    links: list[Problem] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not is_code(name):
            continue
        if path.is_symlink():
            fix = "put a copy of the file there"
            links.append(
                Problem(file=f"tools/{folder.name}/{name}", what="a tool's folder holds a symbolic link", fix=fix)
            )
        elif path.is_file():
            found[name] = path.read_bytes()
    if links:
        raise WorkspaceError(links)
    return found


def subject_of(settings: Settings, account: str) -> str:
    """The user that an operating-system account is; `user:none` for an account that `[identity]` does not know."""
    if settings.identity is None:
        subject = f"user:{account}"
        return subject if re.fullmatch(SUBJECT, subject) else NOBODY
    return settings.identity.get(account) or settings.identity.get("*") or NOBODY


# -- reading -----------------------------------------------------------------------------------------------------------


class _Reading:
    """The live files of a workspace, and what is wrong with them as files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files: dict[str, bytes] = {}
        self.code: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._read(MARKER)
        for path in self._children("policies"):
            if _RULES.fullmatch(name := f"policies/{path.name}"):
                self._read(name)
        for path in self._children("tools"):
            if path.is_dir() and self._inhabited(path, "tool.toml"):
                self._read(f"tools/{path.name}/tool.toml")
                self._read_code(path)
        for path in self._children("agent"):
            if path.is_dir() and path.name != RESERVED and self._inhabited(path, "agent.toml"):
                self._read(f"agent/{path.name}/agent.toml")
                self._read_named(path.name)

    def _children(self, folder: str) -> list[Path]:
        path = self._root / folder
        return sorted(path.iterdir()) if path.is_dir() else []

    def _inhabited(self, folder: Path, marker: str) -> bool:
        if folder.name.startswith(".") or folder.name == "__pycache__":
            return False
        if (folder / marker).is_file():
            return True
        if any(path.is_file() and is_code(path.relative_to(folder).as_posix()) for path in folder.rglob("*")):
            file = folder.relative_to(self._root).as_posix()
            self.problems.append(
                Problem(file=file, what=f"the folder has no {marker}", fix=f"write {file}/{marker}, or remove it")
            )
        return False

    def _read(self, name: str) -> None:
        try:
            self.files[name] = (self._root / name).read_bytes()
        except OSError as failure:
            what = f"cannot be read: {failure.strerror}"
            self.problems.append(Problem(file=name, what=what, fix="make it a file that you may read"))

    def _read_code(self, folder: Path) -> None:
        try:
            self.code[folder.name] = code_digest(read_code(folder))
        except WorkspaceError as error:
            self.problems.extend(error.problems)
        except OSError as failure:
            what = f"cannot be read: {failure.strerror}"
            self.problems.append(Problem(file=f"tools/{folder.name}", what=what, fix="make its files readable"))

    def _read_named(self, agent: str) -> None:
        """The prompt and the answer's schema, if a well-formed agent.toml names them; what is wrong is told by `_Loading`."""
        for keys in (("prompt",), ("answer", "schema")):
            try:
                named: Any = read_toml(self.files[f"agent/{agent}/agent.toml"].decode(), file="")
                for key in keys:
                    named = named[key]
                path = f"agent/{agent}/{plain_path(named)}"
            except (KeyError, TypeError, ValueError, AttributeError, WorkspaceError):
                continue
            if (self._root / path).is_file():
                self._read(path)


class _Loading:
    """One pass over the files of a workspace; collects problems and goes on."""

    def __init__(self, files: Mapping[str, bytes], root: Path | None, code: Mapping[str, str]) -> None:
        self._files = files
        self._root = root
        self._code = code
        self._problems: list[Problem] = []
        self._texts: dict[str, str] = {}
        self._broken: set[str] = set()  # tools whose manifest could not be read

    def workspace(self) -> Workspace:
        for name in sorted(self._files):
            try:
                self._texts[name] = self._files[name].decode()
            except UnicodeDecodeError as failure:
                line = self._files[name].count(b"\n", 0, failure.start) + 1
                self._problem(name, line, "not UTF-8", "save it as UTF-8")
        settings = self._settings()
        tools = self._tools()
        agents = self._agents(tools)
        self._check_host_tools(settings, tools)
        limits = self._limits(tools, agents)
        content = self._content()
        labels = self._labels()
        if self._problems:
            raise WorkspaceError(self._problems)
        return Workspace(
            root=self._root,
            settings=settings,
            agents=agents,
            tools=tools,
            files=dict(self._files),
            limits=limits,
            content=content,
            labels=labels,
        )

    def _problem(self, file: str, line: int | None, what: str, fix: str) -> None:
        self._problems.append(Problem(file=file, line=line, what=what, fix=fix))

    def _settings(self) -> Settings:
        if MARKER not in self._files:
            self._problem(MARKER, None, "the workspace has no remit.toml", "write an empty one")
        table = self._table(SettingsTable, MARKER)
        if table is None:
            return Settings()
        return Settings(
            env=table.env,
            identity=table.identity,
            accept=tuple(table.sandbox.accept),
            host_tools=tuple(table.host_tools),
            redact_env=tuple(table.redact.env),
            content=table.traces.content,
            keep=table.traces.keep,
        )

    def _tools(self) -> dict[str, Tool]:
        pins: dict[str, Pin] = {}
        if LOCK in self._texts:
            try:
                pins = read_lock(self._texts[LOCK])
            except WorkspaceError as error:
                self._problems.extend(error.problems)
        tools: dict[str, Tool] = {}
        for file, name in self._named("tools", "tool.toml"):
            self._broken.add(name)
            if file not in self._texts:
                continue
            try:
                manifest = parse_manifest(self._texts[file], file=file)
            except WorkspaceError as error:
                self._problems.extend(error.problems)
                continue
            if manifest.name != name:
                line = toml_line(self._texts[file], "name")
                self._problem(
                    file, line, f"'name' is {manifest.name!r}, and the folder is {name!r}", f'write name = "{name}"'
                )
                continue
            self._broken.discard(name)
            tool = Tool(manifest=manifest, pin=pins.get(name), code=self._code.get(name, ""))
            if tool.pinned and tool.pin is not None:
                self._problems.extend(
                    check_schemas(manifest, tool.pin.schemas, tool.pin.hidden, file=file, text=self._texts[file])
                )
            tools[name] = tool
        return tools

    def _agents(self, tools: Mapping[str, Tool]) -> dict[str, Agent]:
        agents: dict[str, Agent] = {}
        for file, name in self._named("agent", "agent.toml"):
            if name == RESERVED:
                self._problem(file, None, f"{name!r} is the engine's own folder", "give the agent another name")
            elif (table := self._table(AgentTable, file)) is not None:
                agents[name] = self._agent(file, name, table, tools)
        return agents

    def _agent(self, file: str, name: str, table: AgentTable, tools: Mapping[str, Tool]) -> Agent:
        text = self._texts[file]
        if table.name != name:
            line = toml_line(text, "name")
            self._problem(file, line, f"'name' is {table.name!r}, and the folder is {name!r}", f'write name = "{name}"')
        prompt = f"agent/{name}/{table.prompt}"
        if prompt not in self._files:
            self._problem(
                file, toml_line(text, "prompt"), f"'prompt' names no file: {table.prompt!r}", f"write {prompt}"
            )
        if self._root is not None:
            kind, _, script = table.model.partition(":")
            if kind == "script" and not (self._root / "agent" / name / script).is_file():
                fix = f"write agent/{name}/{script}, or name another model"
                self._problem(file, toml_line(text, "model"), f"'model' names no file: {script!r}", fix)
            if table.seed is not None and not (self._root / table.seed).is_dir():
                fix = "name a folder, relative to the workspace, or remove the line"
                self._problem(file, toml_line(text, "seed"), f"'seed' names no folder: {table.seed!r}", fix)
        answer = self._answer(file, name, table)
        actions = tuple(dict.fromkeys(self._actions(file, table, tools)))
        return Agent(
            name=name,
            summary=table.summary,
            model=table.model,
            base_url=table.base_url,
            prompt=self._texts.get(prompt, "") + ("" if answer is None else f"\n{answer.instructions}"),
            actions=actions,
            folder=table.folder or f"work/{name}/{{run}}",
            seed=table.seed,
            accept_parsed_arguments=table.accept_parsed_arguments,
            budget=self._budget(file, table),
            price=None if table.price is None else Price(input=table.price.input, output=table.price.output),
            answer=answer,
            directory=self._directory(file, table, tools, actions),
        )

    def _directory(
        self, file: str, table: AgentTable, tools: Mapping[str, Tool], own: Sequence[str]
    ) -> tuple[LookUp, ...]:
        """What Remit looks up by itself, which only looks and lists something."""
        for number, one in enumerate(table.directory):
            tool, _, name = one.action.partition(".")
            action = tools[tool].manifest.actions.get(name) if tool in tools else None
            if action is not None and one.action in own and action.effect == "read" and action.lists:
                continue
            if tool not in self._broken:
                line = toml_line(self._texts[file], "directory", str(number), "action")
                fix = 'name one of the agent\'s actions that has effect = "read" and lists something'
                self._problem(file, line, f"{one.action!r} fills no directory", fix)
        return tuple(LookUp(action=one.action, arguments=one.args) for one in table.directory)

    def _answer(self, file: str, name: str, table: AgentTable) -> Answer | None:
        given = table.answer
        if given is None:
            return None
        shape: Mapping[str, Json] | None = None
        if given.shape is not None:
            path, line = f"agent/{name}/{given.shape}", toml_line(self._texts[file], "answer", "schema")
            try:
                shape = parse_arguments(self._texts[path])
                faults = check_schema(shape)
            except KeyError:
                faults = (f"'schema' names no file: {given.shape!r}",)
            except Refusal as refusal:
                faults = (f"{path} is not one JSON object: {refusal.message}",)
            for fault in faults:
                self._problem(file, line, fault, f"write a JSON Schema of an object in {path}")
        return Answer(shape=shape, citations=given.citations, confidence=given.confidence, tries=given.tries)

    def _budget(self, file: str, table: AgentTable) -> Budget:
        given = table.budget
        if given.money is not None and table.price is None:
            line = toml_line(self._texts[file], "budget", "money")
            self._problem(file, line, "'money' is bounded, and nothing says what a token costs", "write [price]")
        output = None if given.output is None else size(given.output)
        return Budget.model_validate({**given.model_dump(), "wall": duration(given.wall), "output": output})

    def _limits(self, tools: Mapping[str, Tool], agents: Mapping[str, Agent]) -> tuple[Limit, ...]:
        if LIMITS not in self._texts:
            return ()
        known = [f"{tool}.{action}" for tool in tools for action in tools[tool].manifest.actions]
        try:
            limits = read_limits(self._texts[LIMITS], actions=known, agents=tuple(agents))
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return ()
        for number, limit in enumerate(limits):
            for name, agent in agents.items():
                if limit.of == "money" and agent.price is None and limit.agent in ("", name):
                    line = toml_line(self._texts[LIMITS], "limit", str(number), "of")
                    fix = f"write [price] in agent/{name}/agent.toml"
                    self._problem(LIMITS, line, f"nothing says what a token of agent {name!r} costs", fix)
        return limits

    def _actions(self, file: str, table: AgentTable, tools: Mapping[str, Tool]) -> Iterable[str]:
        known = [f"{tool}.{action}" for tool in tools for action in tools[tool].manifest.actions]
        for number, name in enumerate(table.tools):
            tool, dot, _ = name.partition(".")
            if not dot and tool in tools:
                yield from (action for action in known if action.startswith(f"{tool}."))
            elif name in known:
                yield name
            elif tool not in self._broken:  # a broken manifest is a problem of its own
                line = toml_line(self._texts[file], "tools", str(number))
                near = get_close_matches(name, known if dot else tools, n=1)
                fix = (
                    f"write {near[0]!r}"
                    if near
                    else f"name one of {', '.join(tools) or 'the tools, of which there are none yet'}"
                )
                self._problem(file, line, f"no such {'action' if dot else 'tool'}: {name!r}", fix)

    def _content(self) -> Content:
        try:
            return read_content(self._texts[CONTENT]) if CONTENT in self._texts else Content()
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return Content()

    def _labels(self) -> tuple[Labelled, ...]:
        try:
            return read_labels(self._texts[LABELS]) if LABELS in self._texts else ()
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return ()

    def _check_host_tools(self, settings: Settings, tools: Mapping[str, Tool]) -> None:
        for number, name in enumerate(settings.host_tools):
            if name not in self._broken and (name not in tools or tools[name].manifest.source != "host"):
                line = toml_line(self._texts.get(MARKER, ""), "host_tools", str(number))
                self._problem(
                    MARKER, line, f"'host_tools' names {name!r}, which is no tool with source = 'host'", "remove it"
                )
        for name, tool in tools.items():
            if tool.manifest.source == "host" and name not in settings.host_tools:
                file = f"tools/{name}/tool.toml"
                what = "source = 'host' runs unconfined, and remit.toml does not name the tool"
                fix = f'add "{name}" to host_tools in {MARKER}, or remove the tool'
                self._problem(file, toml_line(self._texts[file], "source"), what, fix)

    def _named(self, room: str, marker: str) -> Iterable[tuple[str, str]]:
        for file in sorted(self._files):
            path = PurePosixPath(file)
            if len(path.parts) == 3 and path.parts[0] == room and path.name == marker:
                yield file, path.parts[1]

    def _table(self, kind: type[_T], file: str) -> _T | None:
        if file not in self._texts:
            return None
        text = self._texts[file]
        try:
            document = read_toml(text, file=file)
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return None
        table, problems = read_table(kind, document, file=file, text=text)
        self._problems.extend(problems)
        return table
