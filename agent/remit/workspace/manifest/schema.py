"""The keys of a `tool.toml`, with their types and messages, and the rules between them."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, cast

from pydantic import Field

from remit.core import CODES, Effect, Json, Problem
from remit.core.parsing import (
    Duration,
    Label,
    Size,
    Summary,
    TomlTable,
    covered,
    hidden_character,
    read_table,
    toml_line,
)
from remit.sandbox.egress import SHAPE as SHAPE_OF_HOSTS
from remit.workspace.manifest.fields import (
    Entry,
    ErrorClass,
    LabelPath,
    ListLine,
    Memory,
    Name,
    Owner,
    PassagePath,
    Pattern,
    Program,
    Sent,
    StoreLine,
    TouchLine,
    Version,
    Word,
)
from remit.workspace.manifest.sections import (
    ArgumentTable,
    AuthorityFile,
    Header,
    HostLine,
    Method,
    Range,
    SecretTable,
    ServerTable,
    ServerTool,
    Variable,
    action_network_rules,
    at_url,
    authority_rules,
    command_rules,
    network_rules,
    placeholders,
    server_action_rules,
    server_rules,
)
from remit.workspace.manifest.targets import TargetTable
from remit.workspace.manifest.touches import LISTED, SHAPE, Template, parse_touch

_T = TypeVar("_T", bound=TomlTable)
Source: TypeAlias = Literal["python", "command", "mcp", "host", "hook"]
Client: TypeAlias = Literal["claude-code", "codex"]
Trust: TypeAlias = Literal["pinned", "none"]
Life: TypeAlias = Literal["call", "run"]

# the sources whose calls run outside of every sandbox
HOSTED: Final = ("host", "hook")
# parameters that the broker fills in and the model never sees
HIDDEN: Final = ("idempotency_key", "resources", "permitted")
RETRIED_CODES: Final = ("timeout", "resource_exhausted", "tool_crashed")


class AlwaysTable(TomlTable):
    """What every call of this tool may use. It is reviewed when the tool is pinned. Absent or empty: nothing."""

    hosts: list[HostLine] = Field(default=[], description=f"Hosts that the tool may reach: {SHAPE_OF_HOSTS}")
    ranges: list[Range] = Field(default=[], description='Private address ranges in which a host may be: "10.20.0.0/16"')
    secrets: list[SecretTable] = Field(default=[], description="Secrets that the egress proxy adds to requests")
    ca: dict[HostLine, AuthorityFile] = Field(
        default={},
        description='The file of this folder with the private authorities of a host: { "git.corp.example:443" = "corp-ca.pem" }',
    )
    env: list[Variable] = Field(default=[], description="Environment variables that the tool may read")
    programs: list[Program] = Field(default=[], description="Programs that the tool may start; empty: no subprocess")
    proc: bool = Field(
        default=False, description="true: /proc, with the processes of its sandbox and figures of the machine"
    )


class AtMostTable(TomlTable):
    """The most that the resources of one call may be. Absent or empty: nothing."""

    read: list[Pattern] = Field(default=[], description='Files of the working folder: "docs/**", "logs/*.txt"')
    write: list[Pattern] = Field(default=[], description='Files of the working folder: "reports/**"')
    stores: list[StoreLine] = Field(
        default=[], description='Names of database folders below stores/: "tickets"; "search/*" for those of a group'
    )
    hosts: list[HostLine] = Field(default=[], description='Hosts of the URLs in touches; "**:443" allows every name')


class LimitsTable(TomlTable):
    """The limits of one attempt."""

    wall: Duration = Field(default="5s", description="Wall-clock time")
    cpu: Duration = Field(default="2s", description="Processor time")
    memory: Memory = Field(default="256MiB", description="At least 64MiB")
    output: Size = Field(default="64KiB", description="Size of the result, as JSON")
    sent: Sent = Field(default="1MiB", description="Bytes sent over the network; at most 64MiB")
    received: Size = Field(default="16MiB", description="Bytes received over the network")


class CircuitTable(TomlTable):
    """When a failing tool (timeout, resource_exhausted, tool_crashed) is not called for a while."""

    failures: Annotated[int, Field(ge=1, le=1000)] = Field(default=5, description="Failures in a row, over all runs")
    rest: Duration = Field(
        default="30s", description="How long it is not called; twice as long after each trial that fails"
    )


class RetryTable(TomlTable):
    """When a failed call is retried; never for an action with effect = "once"."""

    attempts: Annotated[int, Field(ge=1, le=10)] = Field(default=1, description="Attempts in all, from 1 to 10")
    on: list[str] = Field(default=[], description=f"Declared errors, or {', '.join(RETRIED_CODES)}")


class ActionTable(TomlTable):
    """One function of the tool."""

    summary: Summary
    touches: list[TouchLine] = Field(default=[], description=f"One line for each resource: {SHAPE}")
    effect: Effect = Field(default="once", description="once (the default): not reversible, never retried")
    retry: RetryTable = RetryTable()
    probe: Name | None = Field(
        default=None,
        description="The action that finds out whether this one happened: it returns the value, or null if not",
    )
    adds_labels: list[Label] = Field(
        default=[], description="Labels that the result, or a reported error, puts on the run"
    )
    labels_in_result: dict[LabelPath, list[Label]] = Field(
        default={},
        description='Where the result has labels for the run, and which: { "items/*/labels/*" = ["confidential"] }',
    )
    removes_labels: list[Label] = Field(
        default=[], description="Labels that the result removes from the run (declassification)"
    )
    request_words: list[Word] = Field(
        default=[], description="Words by which people ask for the action; absent: those of its name"
    )
    adds_to_directory: list[ListLine] = Field(
        default=[], description=f"Resources in the result that are added to the directory: {LISTED}"
    )
    passages: PassagePath | None = Field(
        default=None,
        description='Where its result has passages of documents, which grounded answers may cite: "items/*"',
    )
    errors: list[Name] | dict[Name, ErrorClass] = Field(
        default=[], description='Names of errors, or names with their exceptions: { not_found = "FileNotFoundError" }'
    )
    methods: list[Method] = Field(default=[], description="HTTP methods for the URLs in touches")
    idempotency_header: Header | None = Field(
        default=None, description='With effect = "keyed": the header for the key: "Idempotency-Key"'
    )
    cache: bool = Field(
        default=False,
        description="true: its result follows from arguments and files alone, so the same call of a run runs once",
    )
    target: TargetTable = TargetTable()
    tool: ServerTool | None = Field(
        default=None,
        description='With source = "mcp": the tool of the server (absent: the name of the action), or a resource: "memo://{name}"',
    )
    run: list[str | list[str]] = Field(
        default=[],
        description='The argv of a command tool: ["jq", "--", "{filter}", "{path}"]; a list in it is left out if one of its arguments is '
        'not given: ["--since={since}"]; "./main.js" is a file of the tool\'s folder',
    )
    args: dict[str, ArgumentTable] = Field(
        default={}, description="The types of the arguments in run: [actions.NAME.args]; absent: required strings"
    )


class ManifestTable(TomlTable):
    """The permission manifest of a Remit tool."""

    name: Name = Field(description="The name of the folder")
    version: Version
    owner: Owner = Field(description="The mail address of the owner")
    summary: Summary
    source: Source = Field(
        default="python",
        description="host: runs unconfined, and only if remit.toml names the tool in host_tools; "
        "hook: a coding agent carries the calls out, and Remit only decides and records them",
    )
    host: Entry | None = Field(default=None, description='With source = "host": "package.module:functions"')
    client: Client | None = Field(
        default=None, description='With source = "hook": the coding agent, whose tools the actions are'
    )
    trust: Trust = Field(
        default="pinned",
        description="none: each call gets a new sandbox with only the files of the call; no process is reused",
    )
    life: Life | None = Field(
        default=None,
        description="run: the calls of a run share one sandbox, and what it was given counts as known to each later call; "
        "call: one sandbox for each call. Absent: run for a command tool that is trusted, call for others",
    )
    server: ServerTable | None = None
    always: AlwaysTable = AlwaysTable()
    at_most: AtMostTable = AtMostTable()
    limits: LimitsTable = LimitsTable()
    circuit: CircuitTable = CircuitTable()
    actions: dict[Name, ActionTable] = Field(description="One table for each function: [actions.NAME]")


def manifest_schema() -> Json:
    """The JSON Schema that editors read; published as `tools/tool.schema.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ManifestTable.model_json_schema()}


# -- rules between keys ------------------------------------------------------------------------------------------------


def rules(document: Mapping[str, Json], *, file: str, text: str, may_be_empty: bool = False) -> list[Problem]:
    """The problems between keys. Keys that are not valid by themselves are skipped, so that both kinds are reported together.

    `may_be_empty`: the manifest has actions that are not decided yet, and may have no others.
    """
    return list(_Rules(document, file, text).all(may_be_empty))


class _Rules:
    """One check of the rules between the keys of a manifest."""

    def __init__(self, document: Mapping[str, Json], file: str, text: str) -> None:
        self._document = document
        self._file = file
        self._text = text
        self._source = str(document.get("source", "python"))
        self._always = self._table(AlwaysTable, "always") or AlwaysTable()
        self._at_most = self._table(AtMostTable, "at_most")

    def _table(self, kind: type[_T], *path: str) -> _T | None:
        value: Json = self._document
        for key in path:
            value = cast("dict[str, Json]", value).get(key, {}) if isinstance(value, dict) else {}
        return read_table(kind, value, file=self._file, text=self._text)[0]

    def _problem(self, path: tuple[str, ...], what: str, fix: str) -> Problem:
        return Problem(file=self._file, line=toml_line(self._text, *path), what=what, fix=fix)

    def all(self, may_be_empty: bool) -> Iterator[Problem]:
        yield from self._hidden_rules((), self._document)
        yield from self._source_rules()
        actions = self._document.get("actions")
        if actions == {} and not may_be_empty:
            yield self._problem(("actions",), "the tool has no actions", "write [actions.NAME] for each function")
        for name in cast("dict[str, Json]", actions) if isinstance(actions, dict) else ():
            table = self._table(ActionTable, "actions", name)
            if table is not None:
                yield from self._action_rules(("actions", name), table)
                yield from self._probe_rules(("actions", name), table)

    def _hidden_rules(self, at: tuple[str, ...], value: Json) -> Iterator[Problem]:
        """Problems of invisible characters: a model reads them and a reviewer does not see them."""
        if isinstance(value, str):
            if (hidden := hidden_character(value, but="\n\t")) is not None:
                what = f"{'.'.join(at)!r} has an invisible character {hidden}"
                yield self._problem(at, what, "remove it, or write a space")
        elif isinstance(value, dict):
            for key, item in cast("dict[str, Json]", value).items():
                yield from self._hidden_rules((*at, key), item)
        elif isinstance(value, list):
            for number, item in enumerate(cast("Sequence[Json]", value)):
                yield from self._hidden_rules((*at, str(number)), item)

    def _source_rules(self) -> Iterator[Problem]:
        if (self._source == "host") is ("host" not in self._document):
            if self._source == "host":
                yield self._problem(("source",), "the key 'host' is missing", 'write host = "package.module:functions"')
            else:
                yield self._problem(("host",), "'host' is only for source = 'host'", "remove it")
        if (self._source == "hook") is ("client" not in self._document):
            if self._source == "hook":
                yield self._problem(("source",), "the key 'client' is missing", 'write client = "claude-code"')
            else:
                yield self._problem(("client",), "'client' is only for source = 'hook'", "remove it")
        for key in ("always", "at_most") if self._source == "hook" else ():
            if key in self._document:
                what = f"'{key}' on a tool with source = 'hook': Remit gives it nothing, and confines nothing of it"
                yield self._problem((key,), what, "remove it, and limit the tool by rules")
        yield from self._sandbox_rules()
        server = self._table(ServerTable, "server") if "server" in self._document else None
        yield from server_rules(self._document, server, self._always, self._problem)
        yield from network_rules(self._always, self._problem, self._source)
        reached = [*self._always.hosts, *(self._at_most.hosts if self._at_most is not None else ())]
        yield from authority_rules(self._always.ca, reached, self._problem)

    def _sandbox_rules(self) -> Iterator[Problem]:
        if self._document.get("life") == "run":
            if self._source not in ("command", "mcp"):
                yield self._problem(("life",), "life = 'run' is only for source = 'command' and 'mcp'", "remove it")
            elif self._document.get("trust") == "none":
                fix = "remove one of the two: without trust, each call has a sandbox of its own"
                yield self._problem(("life",), "life = 'run' and trust = 'none' exclude each other", fix)
        if self._always.proc and self._source == "host":
            yield self._problem(("always", "proc"), "'proc' is only for tools that run in a sandbox", "remove it")

    def _action_rules(self, at: tuple[str, ...], action: ActionTable) -> Iterator[Problem]:
        templates = [parse_touch(touch) for touch in action.touches]
        yield from self._touch_rules(at, templates)
        yield from self._effect_rules(at, action, templates)
        yield from self._error_rules(at, action)
        yield from self._run_rules(at, action, templates)
        yield from server_action_rules(
            self._source, at, action, templates, self._problem, elsewhere=at_url(self._document)
        )
        yield from action_network_rules(at, action, templates, self._problem, self._reached())

    def _reached(self) -> bool:
        """True if `[at_most]` allows hosts; a tool with source = "host" or "hook" runs unconfined, so no host needs to be allowed."""
        return self._source in HOSTED or self._at_most is None or bool(self._at_most.hosts)

    def _touch_rules(self, at: tuple[str, ...], templates: list[Template]) -> Iterator[Problem]:
        used: dict[tuple[str, ...], str] = {}
        for number, template in enumerate(templates):
            here = (*at, "touches", str(number))
            if template.argument in HIDDEN:
                fix = "write an argument that the model fills in"
                yield self._problem(here, f"Remit fills in {template.argument!r}, so it cannot name a resource", fix)
            if template.argument:
                kind = f"{template.kind}:sql" if template.form == "sql" else template.kind
                place = (template.argument, *template.path)
                if used.setdefault(place, kind) != kind:
                    what = f"argument {'/'.join(place)!r} names resources of two kinds: {used[place]} and {kind}"
                    yield self._problem(here, what, "use a separate argument for each kind")
            if self._at_most is not None:
                yield from self._ceiling_rules(here, template, self._at_most)

    def _ceiling_rules(self, here: tuple[str, ...], template: Template, at_most: AtMostTable) -> Iterator[Problem]:
        if template.kind == "store" and template.store not in at_most.stores:
            fix = f'write stores = ["{template.store}"] in [at_most]'
            yield self._problem(here, f"store {template.store!r} is not in 'at_most.stores'", fix)
        if template.kind != "file" or self._source == "hook":
            return
        patterns = at_most.write if template.access == "write" else at_most.read
        if not patterns:
            fix = f'write {template.access} = ["docs/**"] in [at_most], with the folders that the tool needs'
            yield self._problem(
                here, f"the action may {template.access} files, and 'at_most.{template.access}' is empty", fix
            )
        elif template.constant and not covered(patterns, template.constant):
            fix = f'add "{template.constant}" to {template.access} in [at_most]'
            if template.constant.isidentifier():
                fix = f"write file:{{{template.constant}}} if it is an argument; or {fix}"
            yield self._problem(here, f"{template.constant!r} is not in 'at_most.{template.access}'", fix)

    def _effect_rules(self, at: tuple[str, ...], action: ActionTable, templates: list[Template]) -> Iterator[Problem]:
        if action.effect == "read" and any(template.access == "write" for template in templates):
            fix = 'write effect = "idempotent", "keyed" or "once"'
            yield self._problem((*at, "effect"), "effect = 'read', but the action writes", fix)
        if action.effect == "once" and (action.retry.attempts > 1 or action.retry.on):
            fix = 'remove retry, or write the real effect: "read", "idempotent" or "keyed"'
            yield self._problem((*at, "retry"), "'retry' on an action with effect 'once' could execute it twice", fix)
        if action.removes_labels and action.effect != "once":
            fix = 'remove this line: the default "once" has the strictest rules'
            yield self._problem((*at, "effect"), f"effect = {action.effect!r}, but the action removes labels", fix)
        if action.passages is not None and action.effect != "read":
            fix = 'write effect = "read", or remove it'
            yield self._problem((*at, "passages"), f"'passages' on an action with effect = {action.effect!r}", fix)
        if action.cache and (other := self._not_in_digest(action)):
            fix = "remove it: only an action that reads files and stores, and nothing else, can be cached"
            yield self._problem((*at, "cache"), f"'cache' on an action with {other}", fix)
        for number, name in enumerate(action.retry.on):
            if name not in RETRIED_CODES and name not in action.errors:
                fix = f"write a name from 'errors', or one of {', '.join(RETRIED_CODES)}"
                yield self._problem(
                    (*at, "retry", "on", str(number)), f"'retry.on' has {name!r}, which is not in 'errors'", fix
                )

    def _not_in_digest(self, action: ActionTable) -> str:
        """What the action does or reads beside files and stores; "" if nothing."""
        if action.effect != "read":
            return f"effect = {action.effect!r}"
        if any(parse_touch(touch).form == "within" for touch in action.touches):
            return "resources that the rules permit one by one"
        given = [f"'always.{key}'" for key in ("hosts", "secrets", "env", "proc") if getattr(self._always, key)]
        given += ["'at_most.hosts'"] if self._at_most is not None and self._at_most.hosts else []
        return f"source = '{self._source}'" if self._source in HOSTED else next(iter(given), "")

    def _probe_rules(self, at: tuple[str, ...], action: ActionTable) -> Iterator[Problem]:
        if action.probe is None:
            return
        here, probe = (*at, "probe"), self._table(ActionTable, "actions", action.probe)
        if action.effect not in ("once", "keyed"):
            what = f"effect = {action.effect!r} needs no probe: the action may be repeated"
            yield self._problem(here, what, "remove it")
        if probe is None or action.probe not in cast("dict[str, Json]", self._document["actions"]):
            yield self._problem(
                here, f"'probe' is {action.probe!r}, which is no action of the tool", "write one of its actions"
            )
            return
        if probe.effect != "read":
            fix = 'write an action with effect = "read"'
            yield self._problem(here, f"the probe {action.probe!r} has effect {probe.effect!r}", fix)
        decided = {touch.partition(" ")[2] for touch in action.touches}
        if beyond := [touch for touch in probe.touches if touch.partition(" ")[2] not in decided]:
            fix = "use only the resources of the action: policy decided on no others"
            yield self._problem(
                here, f"the probe {action.probe!r} touches {beyond[0]!r}, which the action does not", fix
            )

    def _error_rules(self, at: tuple[str, ...], action: ActionTable) -> Iterator[Problem]:
        for number, name in enumerate(action.errors):
            here = (*at, "errors", name if isinstance(action.errors, dict) else str(number))
            if name in CODES:
                yield self._problem(here, f"the error {name!r} has the name of a code of Remit", "use another name")
            kind = action.errors[name] if isinstance(action.errors, dict) else ""
            exception = getattr(builtins, kind, None) if kind else None
            if isinstance(exception, type) and issubclass(Exception, exception):
                yield self._problem(
                    here, f"the error {name!r} is {kind}, which matches every error", "write a narrower exception"
                )

    def _run_rules(self, at: tuple[str, ...], action: ActionTable, templates: list[Template]) -> Iterator[Problem]:
        if self._source != "command":
            if action.run:
                yield self._problem((*at, "run"), "'run' is only for source = 'command'", "remove it")
            if action.args:
                yield self._problem((*at, "args"), "'args' is only for source = 'command'", "write types in main.py")
            return
        if not action.run:
            yield self._problem(at, "a command action has no 'run'", 'write run = ["program", "--", "{argument}"]')
            return
        yield from command_rules(at, action.run, action.args, self._always.programs, self._problem)
        known = placeholders([part if isinstance(part, str) else tuple(part) for part in action.run])
        for number, template in enumerate(templates):
            if template.argument and template.argument not in known:
                fix = f'write "{{{template.argument}}}" in run, or another name here'
                what = f"the placeholder {template.argument!r} is not in 'run'"
                yield self._problem((*at, "touches", str(number)), what, fix)
