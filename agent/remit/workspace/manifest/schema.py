"""What may stand in a `tool.toml`, key by key, and the rules that hold between its keys."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, cast

from pydantic import AfterValidator, Field

from remit.core import CODES, Effect, Json, Problem, Refusal
from remit.core.parsing import (
    Duration,
    Label,
    Matching,
    Size,
    Summary,
    TomlTable,
    canonical,
    covered,
    hidden_character,
    invalid,
    read_table,
    size,
    toml_line,
)
from remit.sandbox.egress import SHAPE as SHAPE_OF_HOSTS
from remit.workspace.manifest.network_schema import (
    Header,
    HostLine,
    Method,
    Range,
    SecretTable,
    Variable,
    action_network_rules,
    network_rules,
)
from remit.workspace.manifest.touches import (
    LISTED,
    SHAPE,
    Template,
    TouchError,
    check_pattern,
    parse_listing,
    parse_touch,
)

_T = TypeVar("_T", bound=TomlTable)
Source: TypeAlias = Literal["python", "command", "mcp", "host"]
Trust: TypeAlias = Literal["pinned", "none"]

HIDDEN: Final = ("idempotency_key", "resources")  # parameters that the broker fills and the model never sees
RETRIED_CODES: Final = ("timeout", "resource_exhausted", "tool_crashed")
SMALLEST_MEMORY: Final = 64 * 1024**2
LARGEST_SENT: Final = 64 * 1024**2  # a request is read whole before any of it is sent on

# A model sees `tool__action`: at most 31 + 2 + 31 characters, as providers accept (^[a-zA-Z0-9_-]{1,64}$), and one to one
# because no name holds `__` or ends in `_`.
_NAME = r"(?!remit$|none$)(?=.{1,31}$)[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
_OWN_FILE = re.compile(r"\./[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_ARGUMENT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _memory(value: str) -> str:
    if size(value) < SMALLEST_MEMORY:
        raise invalid(f"is {value!r}, too little for an interpreter", 'write "64MiB" or more')
    return value


def _sent(value: str) -> str:
    if size(value) > LARGEST_SENT:
        raise invalid(f"is {value!r}, more than the proxy holds", 'write "64MiB" or less')
    return value


def _address(value: str) -> str:
    try:
        canonical("mail", value)
    except Refusal:
        raise invalid(
            f"is {value!r}, which is no address", 'write who answers for the tool: "team@example.com"'
        ) from None
    return value


def _touch(value: str) -> str:
    try:
        parse_touch(value)
    except TouchError as error:
        raise invalid(f"is wrong: {error.what}", error.fix) from None
    return value


def _listing(value: str) -> str:
    try:
        parse_listing(value)
    except TouchError as error:
        raise invalid(f"is wrong: {error.what}", error.fix) from None
    return value


def _pattern(value: str) -> str:
    try:
        check_pattern(value)
    except TouchError as error:
        raise invalid(f"is wrong: {error.what}", error.fix) from None
    return value


_SNAKE = "write lower-case letters, digits and single _, at most 31"
Name = Annotated[str, Matching(_NAME, "a name", _SNAKE)]
Version = Annotated[str, Matching(r"[0-9]+(?:\.[0-9]+){0,2}(?:[-+][0-9A-Za-z.+-]+)?", "a version", 'write "1.0.0"')]
Memory = Annotated[Size, AfterValidator(_memory)]
Sent = Annotated[Size, AfterValidator(_sent)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Owner = Annotated[str, AfterValidator(_address)]
TouchLine = Annotated[str, AfterValidator(_touch)]
Word = Annotated[str, Matching(r"[^\W\d_]{2,30}(?: [^\W\d_]{2,30})*", "a word", "write letters")]
ListLine = Annotated[str, AfterValidator(_listing)]
Program = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9._+-]*", "a program", 'write its name without a folder: "jq"')]
Entry = Annotated[
    str,
    Matching(
        r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*",
        "an entry",
        'write "package.module:functions"',
    ),
]
ErrorClass = Annotated[
    str, Matching(r"|[A-Z][A-Za-z0-9]*", "an exception class", 'write its name: "FileNotFoundError"')
]


class AlwaysTable(TomlTable):
    """Every call of this tool gets this; reviewed when the tool is pinned. Absent and empty: nothing."""

    hosts: list[HostLine] = Field(default=[], description=f"Hosts that it may reach: {SHAPE_OF_HOSTS}")
    ranges: list[Range] = Field(
        default=[], description='Ranges that are not public and that a host may lie in: "10.20.0.0/16"'
    )
    secrets: list[SecretTable] = Field(default=[], description="Put on the wire by the egress proxy")
    env: list[Variable] = Field(default=[], description="Environment variables")
    programs: list[Program] = Field(default=[], description="Programs that it may start; empty means no subprocess")


class AtMostTable(TomlTable):
    """The ceiling for what one call's touches may open. Absent and empty: nothing."""

    read: list[Pattern] = Field(default=[], description='Files of the working folder: "docs/**", "logs/*.txt"')
    write: list[Pattern] = Field(default=[], description='Files of the working folder: "reports/**"')
    stores: list[Name] = Field(default=[], description="Folders of their own for databases, below stores/")
    hosts: list[HostLine] = Field(default=[], description='Hosts of the URLs that it touches: "**:443" is every name')


class LimitsTable(TomlTable):
    """What one attempt may use."""

    wall: Duration = Field(default="5s", description="Time on the clock")
    cpu: Duration = Field(default="2s", description="Processor time")
    memory: Memory = Field(default="256MiB", description="At least 64MiB")
    output: Size = Field(default="64KiB", description="The result, as JSON")
    sent: Sent = Field(default="1MiB", description="Everything that it sends over the network; at most 64MiB")
    received: Size = Field(default="16MiB", description="Everything that it receives over the network")


class CircuitTable(TomlTable):
    """When a tool that fails by itself (timeout, resource_exhausted, tool_crashed) is left alone for a while."""

    failures: Annotated[int, Field(ge=1, le=1000)] = Field(default=5, description="So many in a row, in any run")
    rest: Duration = Field(default="30s", description="How long; twice as long after each trial that fails")


class RetryTable(TomlTable):
    """When a failed attempt is tried again; never for an action with the effect "once"."""

    attempts: Annotated[int, Field(ge=1, le=10)] = Field(default=1, description="Attempts in all, from 1 to 10")
    on: list[str] = Field(default=[], description=f"Declared errors, or {', '.join(RETRIED_CODES)}")


class ActionTable(TomlTable):
    """One function of the tool."""

    summary: Summary
    touches: list[TouchLine] = Field(default=[], description=f"One line a resource: {SHAPE}")
    effect: Effect = Field(default="once", description="once (the default): irreversible, never tried again")
    retry: RetryTable = RetryTable()
    probe: Name | None = Field(
        default=None, description="The action that looks whether this one happened: its value, or null for no"
    )
    adds_labels: list[Label] = Field(
        default=[], description="Labels that the result puts on the run, and so does what the tool says when it fails"
    )
    removes_labels: list[Label] = Field(
        default=[], description="Labels that the result takes off the run: a declassifier's"
    )
    request_words: list[Word] = Field(default=[], description="By which people ask for it; absent: those of its name")
    adds_to_directory: list[ListLine] = Field(
        default=[], description=f"Resources of the result that the directory then knows: {LISTED}"
    )
    errors: list[Name] | dict[Name, ErrorClass] = Field(
        default=[], description='Names, or names and the exceptions that mean them: { not_found = "FileNotFoundError" }'
    )
    methods: list[Method] = Field(default=[], description="With a URL in touches: what it may be asked with")
    idempotency_header: Header | None = Field(
        default=None, description='With effect = "keyed": the header that carries the key: "Idempotency-Key"'
    )
    run: list[str] = Field(
        default=[],
        description='The argv of a command tool: ["jq", "--", "{filter}", "{path}"]; "./main.js" is a file of its folder',
    )


class ManifestTable(TomlTable):
    """The permission manifest of a Remit tool."""

    name: Name = Field(description="The name of the folder")
    version: Version
    owner: Owner = Field(description="The address of who answers for the tool")
    summary: Summary
    source: Source = Field(default="python", description="host runs unconfined, and only if remit.toml names it")
    host: Entry | None = Field(default=None, description='With source = "host": "package.module:functions"')
    trust: Trust = Field(
        default="pinned",
        description="none: each call gets a sandbox of its own, where only the decided files are mounted; nothing is kept warm",
    )
    always: AlwaysTable = AlwaysTable()
    at_most: AtMostTable = AtMostTable()
    limits: LimitsTable = LimitsTable()
    circuit: CircuitTable = CircuitTable()
    actions: dict[Name, ActionTable]


def manifest_schema() -> Json:
    """The JSON Schema that editors read; published as `tools/tool.schema.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ManifestTable.model_json_schema()}


# -- rules between keys ------------------------------------------------------------------------------------------------


def rules(document: Mapping[str, Json], *, file: str, text: str) -> list[Problem]:
    """What is wrong between keys; parts that are wrong in themselves are left out here, so that both kinds are told at once."""
    return list(_Rules(document, file, text).all())


class _Rules:
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

    def all(self) -> Iterator[Problem]:
        yield from self._hidden_rules((), self._document)
        yield from self._source_rules()
        actions = self._document.get("actions")
        if actions == {}:
            yield self._problem(("actions",), "the tool has no action", "write [actions.NAME] for each function")
        for name in cast("dict[str, Json]", actions) if isinstance(actions, dict) else ():
            table = self._table(ActionTable, "actions", name)
            if table is not None:
                yield from self._action_rules(("actions", name), table)
                yield from self._probe_rules(("actions", name), table)

    def _hidden_rules(self, at: tuple[str, ...], value: Json) -> Iterator[Problem]:
        """What a reviewer does not see, a model may read."""
        if isinstance(value, str):
            if (hidden := hidden_character(value, but="\n\t")) is not None:
                what = f"{'.'.join(at)!r} holds an invisible character {hidden}"
                yield self._problem(at, what, "remove it, or type a space")
        elif isinstance(value, dict):
            for key, item in cast("dict[str, Json]", value).items():
                yield from self._hidden_rules((*at, key), item)
        elif isinstance(value, list):
            for number, item in enumerate(cast("Sequence[Json]", value)):
                yield from self._hidden_rules((*at, str(number)), item)

    def _source_rules(self) -> Iterator[Problem]:
        if self._source == "mcp":
            fix = 'wrap what you need of the server in a tool with source = "python" or "command"'
            yield self._problem(("source",), "source = 'mcp' is reserved: servers inside the sandbox come later", fix)
        if (self._source == "host") is ("host" not in self._document):
            if self._source == "host":
                yield self._problem(("source",), "'host' is missing", 'write host = "package.module:functions"')
            else:
                yield self._problem(("host",), "'host' is only for source = 'host'", "remove it")
        yield from network_rules(self._always, self._problem, self._source)

    def _action_rules(self, at: tuple[str, ...], action: ActionTable) -> Iterator[Problem]:
        templates = [parse_touch(touch) for touch in action.touches]
        yield from self._touch_rules(at, templates)
        yield from self._effect_rules(at, action, templates)
        yield from self._error_rules(at, action)
        yield from self._run_rules(at, action, templates)
        yield from action_network_rules(at, action, templates, self._problem, self._reached())

    def _reached(self) -> bool:
        """Whether the ceiling knows of hosts, where some touch is a URL; nothing bounds a tool of this process."""
        return self._source == "host" or self._at_most is None or bool(self._at_most.hosts)

    def _touch_rules(self, at: tuple[str, ...], templates: list[Template]) -> Iterator[Problem]:
        used: dict[tuple[str, ...], str] = {}
        for number, template in enumerate(templates):
            here = (*at, "touches", str(number))
            if template.argument in HIDDEN:
                fix = "name an argument that the model writes"
                yield self._problem(here, f"{template.argument!r} is filled by Remit and cannot name a resource", fix)
            if template.argument:
                kind = f"{template.kind}:sql" if template.form == "sql" else template.kind
                place = (template.argument, *template.path)
                if used.setdefault(place, kind) != kind:
                    what = f"argument {'/'.join(place)!r} names two kinds: {used[place]} and {kind}"
                    yield self._problem(here, what, "use one argument for each kind")
            if self._at_most is not None:
                yield from self._ceiling_rules(here, template, self._at_most)

    def _ceiling_rules(self, here: tuple[str, ...], template: Template, at_most: AtMostTable) -> Iterator[Problem]:
        if template.kind == "store" and template.constant not in at_most.stores:
            fix = f'write stores = ["{template.constant}"] in [at_most]'
            yield self._problem(here, f"store {template.constant!r} is not in 'at_most.stores'", fix)
        if template.kind != "file":
            return
        patterns = at_most.write if template.access == "write" else at_most.read
        if not patterns:
            fix = f'write {template.access} = ["docs/**"] in [at_most], with the folders that the tool needs'
            yield self._problem(here, f"it may {template.access} no file: 'at_most.{template.access}' is empty", fix)
        elif template.constant and not covered(patterns, template.constant):
            fix = f'add "{template.constant}" to {template.access} in [at_most]'
            yield self._problem(here, f"{template.constant!r} is not in 'at_most.{template.access}'", fix)

    def _effect_rules(self, at: tuple[str, ...], action: ActionTable, templates: list[Template]) -> Iterator[Problem]:
        if action.effect == "read" and any(template.access == "write" for template in templates):
            fix = 'write effect = "idempotent", "keyed" or "once"'
            yield self._problem((*at, "effect"), "effect = 'read', but the action writes", fix)
        if action.effect == "once" and (action.retry.attempts > 1 or action.retry.on):
            fix = 'remove retry, or write the effect that the action really has: "read", "idempotent" or "keyed"'
            yield self._problem((*at, "retry"), "retry on an action with effect 'once' could do it twice", fix)
        if action.removes_labels and action.effect != "once":
            fix = 'remove the line: "once" is the default, and rules ask most of it'
            yield self._problem((*at, "effect"), f"it clears labels, and has effect {action.effect!r}", fix)
        for number, name in enumerate(action.retry.on):
            if name not in RETRIED_CODES and name not in action.errors:
                fix = f"write a name from 'errors' or one of {', '.join(RETRIED_CODES)}"
                yield self._problem(
                    (*at, "retry", "on", str(number)), f"retry on {name!r}, which is no error of it", fix
                )

    def _probe_rules(self, at: tuple[str, ...], action: ActionTable) -> Iterator[Problem]:
        if action.probe is None:
            return
        here, probe = (*at, "probe"), self._table(ActionTable, "actions", action.probe)
        if action.effect not in ("once", "keyed"):
            what = f"a probe for an action with effect {action.effect!r}, which may be done again anyway"
            yield self._problem(here, what, "remove it")
        if probe is None or action.probe not in cast("dict[str, Json]", self._document["actions"]):
            yield self._problem(here, f"the tool has no action {action.probe!r}", "name one of its actions")
            return
        if probe.effect != "read":
            fix = 'name an action that only looks, with effect = "read"'
            yield self._problem(here, f"the probe {action.probe!r} has effect {probe.effect!r}", fix)
        decided = {touch.partition(" ")[2] for touch in action.touches}
        if beyond := [touch for touch in probe.touches if touch.partition(" ")[2] not in decided]:
            fix = "let it look at what the action itself touches, for nothing else was decided"
            yield self._problem(here, f"the probe {action.probe!r} touches more than the action: {beyond[0]!r}", fix)

    def _error_rules(self, at: tuple[str, ...], action: ActionTable) -> Iterator[Problem]:
        for number, name in enumerate(action.errors):
            here = (*at, "errors", name if isinstance(action.errors, dict) else str(number))
            if name in CODES:
                yield self._problem(here, f"error {name!r} has the name of one of Remit's codes", "name it differently")
            kind = action.errors[name] if isinstance(action.errors, dict) else ""
            found = getattr(builtins, kind, None) if kind else None
            if isinstance(found, type) and issubclass(Exception, found):
                yield self._problem(
                    here, f"error {name!r} is {kind}, which is every error", "name a narrower exception"
                )

    def _run_rules(self, at: tuple[str, ...], action: ActionTable, templates: list[Template]) -> Iterator[Problem]:
        if self._source != "command":
            if action.run:
                yield self._problem((*at, "run"), "'run' is only for source = 'command'", "remove it")
            return
        if not action.run:
            yield self._problem(at, "a command action has no 'run'", 'write run = ["program", "--", "{argument}"]')
            return
        if action.run[0] not in self._always.programs:
            fix = f'write programs = ["{action.run[0]}"] in [always]'
            yield self._problem((*at, "run", "0"), f"program {action.run[0]!r} is not in 'always.programs'", fix)
        known = {found[1] for part in action.run if (found := _ARGUMENT.fullmatch(part))}
        for number, part in enumerate(action.run):
            if part.startswith("./") and _OWN_FILE.fullmatch(part) is None:
                fix = 'name a file of the tool\'s own folder: "./main.js"'
                yield self._problem((*at, "run", str(number)), f"{part!r} is not the name of one file", fix)
            if ("{" in part or "}" in part) and _ARGUMENT.fullmatch(part) is None:
                fix = 'one placeholder is one element: "--file", "{path}"'
                yield self._problem((*at, "run", str(number)), f"{part!r} mixes a placeholder with text", fix)
        for number, template in enumerate(templates):
            if template.argument and template.argument not in known:
                fix = f'write "{{{template.argument}}}" in run, or another name here'
                what = f"unknown placeholder {template.argument!r}: 'run' has no such argument"
                yield self._problem((*at, "touches", str(number)), what, fix)
