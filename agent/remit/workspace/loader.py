"""Loads a workspace: the folder with `remit.toml`, its agents, tools, labels and limits.

Every problem of every file is reported, not only the first. The same code reads live files and the recorded bundle of a
run, so that a replay has the same rules as the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from remit.core import READ_RESULT, Json, Problem, Refusal, WorkspaceError, near_names
from remit.core.events import ContextLimits, ModelSettings
from remit.core.parsing import (
    TomlTable,
    check_schema,
    digest,
    digest_bytes,
    duration,
    load_toml,
    parse_arguments,
    read_table,
    size,
    toml_line,
)
from remit.guardrails import CONTENT, Content, read_content
from remit.policy.authzen import check_points
from remit.workspace.access.issuers import issuer_problems
from remit.workspace.answer_contract import AnswerContract
from remit.workspace.definitions import (
    RESERVED,
    Agent,
    Budget,
    GraphFactory,
    LookUp,
    Settings,
    Tool,
    Workspace,
    graph_file,
)
from remit.workspace.file_schema import MARKER, AgentTable, ContextTable, SettingsTable
from remit.workspace.files import WorkspaceFiles
from remit.workspace.labels import LABELS, LabelRule, read_labels
from remit.workspace.limits import LIMITS, SharedLimit, read_limits
from remit.workspace.manifest.manifest import Pin, parse_manifest
from remit.workspace.manifest.observation import read_observation
from remit.workspace.manifest.pins import LOCK, check_schemas, read_graph_pins, read_lock
from remit.workspace.manifest.targets import target_of
from remit.workspace.prices import PRICES, Prices, read_prices
from remit.workspace.settings.notify import channel_problems
from remit.workspace.settings.reading import settings_of
from remit.workspace.settings.version import check_version

_T = TypeVar("_T", bound=TomlTable)


def load_workspace(root: Path) -> Workspace:
    """The workspace at `root`, as its files are now.

    Raises:
        WorkspaceError: with every problem of every file except the rules, which `load_policy` reads.
    """
    reading = WorkspaceFiles(root)
    try:
        workspace = load_files(reading.files, root=root, code=reading.code)
    except WorkspaceError as error:
        raise WorkspaceError([*reading.problems, *error.problems]) from error
    if reading.problems:
        raise WorkspaceError(reading.problems)
    return workspace


def load_files(files: Mapping[str, bytes], *, root: Path | None, code: Mapping[str, str] | None) -> Workspace:
    """The workspace of these files; `code` is the digest of each tool's code.

    Raises:
        WorkspaceError: with every problem of every file.
    """
    check_version(files)
    return _Loading(files, root, code or {}).workspace()


class _Loading:
    """One pass over the files of a workspace. A problem is collected and the pass continues."""

    def __init__(self, files: Mapping[str, bytes], root: Path | None, code: Mapping[str, str]) -> None:
        self._files = files
        self._root = root
        self._code = code
        self._problems: list[Problem] = []
        self._texts: dict[str, str] = {}
        self._broken: set[str] = set()  # tools whose manifest could not be read
        self._graph_pins: Mapping[str, str] = {}

    def workspace(self) -> Workspace:
        for name in sorted(self._files):
            try:
                self._texts[name] = self._files[name].decode()
            except UnicodeDecodeError as failure:
                line = self._files[name].count(b"\n", 0, failure.start) + 1
                self._problem(name, line, "the text is not UTF-8", "save the file as UTF-8")
        settings = self._settings()
        tools = self._tools()
        agents = self._agents(tools)
        self._check_host_tools(settings, tools)
        named = channel_problems(settings.notify, agents, MARKER, self._texts.get(MARKER, ""))
        self._problems.extend(named)
        self._problems.extend(issuer_problems(settings.issuers.values(), file=MARKER, text=self._texts.get(MARKER, "")))
        self._problems.extend(check_points(settings.enforcement_points, tools, file=MARKER))
        limits = self._limits(tools, agents)
        content = self._content()
        labels = self._labels()
        prices = self._prices()
        workspace = Workspace(
            root=self._root,
            settings=settings,
            agents=agents,
            tools=tools,
            files=dict(self._files),
            limits=limits,
            prices=prices or Prices(),
            content=content,
            labels=labels,
            graph_pins=self._graph_pins,
        )
        if prices is not None:
            self._check_prices(workspace)
        if self._problems:
            raise WorkspaceError(self._problems)
        return workspace

    def _problem(self, file: str, line: int | None, what: str, fix: str) -> None:
        self._problems.append(Problem(file=file, line=line, what=what, fix=fix))

    def _settings(self) -> Settings:
        if MARKER not in self._files:
            self._problem(MARKER, None, "the workspace has no remit.toml", "create it; it may be empty")
        table = self._table(SettingsTable, MARKER)
        return Settings() if table is None else settings_of(table)

    def _tools(self) -> dict[str, Tool]:
        pins: dict[str, Pin] = {}
        if LOCK in self._texts:
            try:
                pins = read_lock(self._texts[LOCK])
                self._graph_pins = read_graph_pins(self._texts[LOCK])
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
                    file, line, f"'name' is {manifest.name!r}, but the folder is {name!r}", f'write name = "{name}"'
                )
                continue
            self._broken.discard(name)
            # A pin of an earlier version stays with the tool: `Tool.pinned` compares its digests with the current ones.
            tool = Tool(manifest=manifest, pin=pins.get(name), code=self._code.get(name, ""))
            # The pinned schemas belong to the pinned manifest, so they are compared with no other.
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
                self._problem(
                    file, None, f"agent/{name} holds the source of Remit itself", "give the agent another name"
                )
            elif (table := self._table(AgentTable, file)) is not None:
                agents[name] = self._agent(file, name, table, tools)
        return agents

    def _agent(self, file: str, name: str, table: AgentTable, tools: Mapping[str, Tool]) -> Agent:
        text = self._texts[file]
        if table.name != name:
            line = toml_line(text, "name")
            self._problem(file, line, f"'name' is {table.name!r}, but the folder is {name!r}", f'write name = "{name}"')
        prompt = f"agent/{name}/{table.prompt}"
        if prompt not in self._files:
            self._problem(
                file, toml_line(text, "prompt"), f"'prompt' is {table.prompt!r}, which is not a file", f"write {prompt}"
            )
        # A recorded workspace has no folders, and a replay reads neither the script nor the seed.
        models = self._models(file, table)
        if self._root is not None:
            self._check_scripts(file, name, table, models)
            if table.seed is not None and not (self._root / table.seed).is_dir():
                fix = "write a folder relative to the workspace, or remove the line"
                self._problem(file, toml_line(text, "seed"), f"'seed' is {table.seed!r}, which is not a folder", fix)
        answer = self._answer(file, name, table)
        actions = tuple(dict.fromkeys(self._actions(file, table, tools)))
        if answer is not None and answer.grounded:
            self._check_passages(file, table, tools, actions)
        return Agent(
            name=name,
            summary=table.summary,
            models=models,
            base_url=table.base_url,
            base_urls=table.base_urls,
            prompt=self._texts.get(prompt, "") + ("" if answer is None else f"\n{answer.instructions}"),
            actions=actions,
            folder=table.folder or f"work/{name}/{{run}}",
            seed=table.seed,
            accept_parsed_arguments=table.accept_parsed_arguments,
            repair_calls=table.repair_calls,
            model_settings=ModelSettings.model_validate(
                {**table.model_settings.model_dump(), "stop": tuple(table.model_settings.stop)}
            ),
            budget=budget_of(table),
            answer=answer,
            context=_context(table.context),
            target=target_of(table.target),
            directory=self._directory(file, table, tools, actions),
            graph=self._graph(file, table),
            undecided=(undecided := tuple(self._undecided(table, tools))),
            observe=read_observation(file, text, table, tools, (*actions, *undecided), self._problems),
        )

    def _graph(self, file: str, table: AgentTable) -> GraphFactory | None:
        """The graph of the agent, with the digest of its file; None if agent.toml names none, or a file that is missing."""
        if (entry := table.graph) is None:
            return None
        path, line = graph_file(entry), toml_line(self._texts[file], "graph")
        if table.answer is not None:
            fix = "remove one of them: only Remit's own loop can ask for another answer"
            self._problem(file, line, "'graph' and [answer] are both there", fix)
        if path not in self._files:
            self._problem(file, line, f"'graph' is {entry!r}, and {path} is not a file", f"write {path}")
            return None
        code = digest({"entry": entry, "file": digest_bytes(self._files[path])})
        return GraphFactory(entry=entry, code=code, calls=tuple(table.graph_calls))

    def _check_scripts(self, file: str, name: str, table: AgentTable, models: Sequence[str]) -> None:
        assert self._root is not None
        key = "model" if table.models is None else "models"
        for kind, _, script in (model.partition(":") for model in models):
            if kind == "script" and not (self._root / "agent" / name / script).is_file():
                fix = f"write agent/{name}/{script}, or name another model"
                what = f"{key!r} names the script {script!r}, which is not a file"
                self._problem(file, toml_line(self._texts[file], key), what, fix)

    def _models(self, file: str, table: AgentTable) -> tuple[str, ...]:
        """The models of the agent, from `model` or `models`."""
        text = self._texts[file]
        models = table.models if table.models is not None else [table.model] if table.model is not None else []
        if not models:
            self._problem(file, 1, "the key 'model' is missing", "write model = …")
        elif table.model is not None and table.models is not None:
            fix = "write `model` for one model, or `models` for a list of them"
            self._problem(file, toml_line(text, "models"), "'model' and 'models' are both there", fix)
        elif len(set(models)) < len(models):
            self._problem(file, toml_line(text, "models"), "'models' names a model twice", "name each model once")
        for other in table.base_urls:
            if other not in models[1:]:
                where = toml_line(text, "base_urls", other)
                fix = "name a model that `models` has after the first one; `base_url` is the address of the first one"
                self._problem(file, where, f"'base_urls' names {other!r}, which is not such a model", fix)
        return tuple(models)

    def _directory(
        self, file: str, table: AgentTable, tools: Mapping[str, Tool], own: Sequence[str]
    ) -> tuple[LookUp, ...]:
        """The calls that Remit makes by itself. Nobody approves them, so they must only read and must fill the directory."""
        for number, row in enumerate(table.directory):
            tool, _, name = row.action.partition(".")
            action = tools[tool].manifest.actions.get(name) if tool in tools else None
            if action is not None and row.action in own and action.effect == "read" and action.adds_to_directory:
                continue
            if tool not in self._broken and row.action not in _undecided_of(tools):
                line = toml_line(self._texts[file], "directory", str(number), "action")
                fix = 'write one of the agent\'s actions that has effect = "read" and adds_to_directory'
                self._problem(file, line, f"'action' is {row.action!r}, which cannot fill the directory", fix)
        return tuple(LookUp(action=row.action, arguments=row.args) for row in table.directory if row.action in own)

    def _answer(self, file: str, name: str, table: AgentTable) -> AnswerContract | None:
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
                faults = (f"'schema' is {given.shape!r}, which is not a file",)
            except Refusal as refusal:
                faults = (f"'schema' is {path}, which is not one JSON object: {refusal.message}",)
            for fault in faults:
                self._problem(file, line, fault, f"write a JSON Schema of an object in {path}")
        return AnswerContract(
            shape=shape,
            citations=given.citations,
            confidence=given.confidence,
            receipt=given.receipt,
            grounded=given.grounded,
            tries=given.tries,
        )

    def _check_passages(self, file: str, table: AgentTable, tools: Mapping[str, Tool], own: Sequence[str]) -> None:
        """Report a grounded answer of an agent that can retrieve nothing."""
        named = [action.partition(".") for action in own]
        known = [tools[tool].manifest.actions[name] for tool, _, name in named if tool in tools]
        unread = self._broken & {tool for tool, _, _ in named} or [*self._undecided(table, tools)]
        if not any(action.passages for action in known) and not unread:
            fix = (
                'add a tool like "search" to `tools`, or write passages = "items/*" for an action that returns passages'
            )
            what = "'grounded' is true, and no action of the agent returns passages"
            self._problem(file, toml_line(self._texts[file], "answer", "grounded"), what, fix)

    def _limits(self, tools: Mapping[str, Tool], agents: Mapping[str, Agent]) -> tuple[SharedLimit, ...]:
        if LIMITS not in self._texts:
            return ()
        known = [f"{tool}.{action}" for tool in tools for action in tools[tool].manifest.actions]
        known += _undecided_of(tools)
        try:
            return read_limits(self._texts[LIMITS], actions=known, agents=tuple(agents))
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return ()

    def _prices(self) -> Prices | None:
        """The prices of the models; None if their file has problems."""
        try:
            return read_prices(self._texts[PRICES]) if PRICES in self._texts else Prices()
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return None

    def _check_prices(self, workspace: Workspace) -> None:
        """Report each agent whose money is limited and that has a model without a price."""
        for name, agent in workspace.agents.items():
            file = f"agent/{name}/agent.toml"
            for model in agent.models if workspace.limits_money(name) else ():
                if not workspace.prices.knows(model):
                    line = toml_line(self._texts[file], "budget", "money")
                    what = f"the money of agent {name!r} is limited, and {PRICES} has no price of its model {model!r}"
                    fix = f"run `remit prices sync`, or write a table of the model in {PRICES}"
                    self._problem(file, line, what, fix)

    def _actions(self, file: str, table: AgentTable, tools: Mapping[str, Tool]) -> Iterable[str]:
        known = [f"{tool}.{action}" for tool in tools for action in tools[tool].manifest.actions] + [READ_RESULT]
        for number, name in enumerate(table.tools):
            tool, dot, _ = name.partition(".")
            if not dot and tool in tools:
                yield from (f"{tool}.{action}" for action in tools[tool].manifest.actions)
            elif name in known:
                yield name
            elif tool not in self._broken and name not in _undecided_of(
                tools
            ):  # the problems of its manifest are reported already
                line = toml_line(self._texts[file], "tools", str(number))
                near = near_names(name, known if dot else tools)
                fix = (
                    f"write {near[0]!r}"
                    if near
                    else f"write one of {', '.join(tools) or 'the tools, of which there are none yet'}"
                )
                self._problem(
                    file,
                    line,
                    f"'tools' has {name!r}, which is not {'an action' if dot else 'a tool'} of this workspace",
                    fix,
                )

    def _undecided(self, table: AgentTable, tools: Mapping[str, Tool]) -> Iterable[str]:
        """The actions that the agent names and that do not load yet."""
        named = {*table.tools}
        return (name for name in _undecided_of(tools) if named & {name, name.partition(".")[0]})

    def _content(self) -> Content:
        try:
            return read_content(self._texts[CONTENT]) if CONTENT in self._texts else Content()
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return Content()

    def _labels(self) -> tuple[LabelRule, ...]:
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
                    MARKER, line, f"'host_tools' has {name!r}, which is not a tool with source = 'host'", "remove it"
                )
        for name, tool in tools.items():
            if tool.manifest.source == "host" and name not in settings.host_tools:
                file = f"tools/{name}/tool.toml"
                what = "a tool with source = 'host' runs unconfined, and remit.toml does not allow it"
                fix = f'add "{name}" to host_tools in {MARKER}, or remove the tool'
                self._problem(file, toml_line(self._texts[file], "source"), what, fix)

    def _named(self, area: str, marker: str) -> Iterable[tuple[str, str]]:
        """The files `area/NAME/marker`, each with its NAME."""
        for file in sorted(self._files):
            path = PurePosixPath(file)
            if len(path.parts) == 3 and path.parts[0] == area and path.name == marker:
                yield file, path.parts[1]

    def _table(self, kind: type[_T], file: str) -> _T | None:
        if file not in self._texts:
            return None
        text = self._texts[file]
        try:
            document = load_toml(text, file=file)
        except WorkspaceError as error:
            self._problems.extend(error.problems)
            return None
        table, problems = read_table(kind, document, file=file, text=text)
        self._problems.extend(problems)
        return table


def _undecided_of(tools: Mapping[str, Tool]) -> list[str]:
    """The actions that do not load because a line of their manifest is not decided."""
    return [f"{tool}.{action}" for tool, one in tools.items() for action in one.manifest.undecided]


def _context(table: ContextTable) -> ContextLimits:
    return ContextLimits(limit=None if table.limit is None else size(table.limit), result=size(table.result))


def budget_of(table: AgentTable) -> Budget:
    """The budget that agent.toml gives."""
    given = table.budget
    output = None if given.output is None else size(given.output)
    times = {"wall": duration(given.wall), "model_wait": duration(given.model_wait)}
    return Budget.model_validate({**given.model_dump(), **times, "output": output})
