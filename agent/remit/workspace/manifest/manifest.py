"""A tool as its author declares it (`tools/<name>/tool.toml`) and as its reviewer pinned it (`policies/tools.lock`).

An absent scope is an empty one, and an empty scope allows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Literal, cast

from pydantic import Field

from remit.core import Effect, FrozenModel, Json, Listing, ResourceAccess, WorkspaceError
from remit.core.parsing import canonical_json, digest, digest_bytes, duration, load_toml, read_table, size
from remit.guardrails import UNTRUSTED
from remit.sandbox.egress import Credential, Exposed, Network, parse_credential, parse_host, url_permissions
from remit.workspace.manifest.schema import (
    HOSTED,
    ActionTable,
    Client,
    Life,
    LimitsTable,
    ManifestTable,
    Source,
    Trust,
    rules,
)
from remit.workspace.manifest.schema import manifest_schema as manifest_schema
from remit.workspace.manifest.sections import (
    PYTHON,
    Argument,
    Authority,
    Part,
    SecretTable,
    argument_of,
    elements,
    filled,
    parse_authorities,
)
from remit.workspace.manifest.targets import Target, target_of
from remit.workspace.manifest.touches import Template, parse_listing, parse_touch
from remit.workspace.manifest.undecided import undecided_actions


class Limits(FrozenModel):
    """The limits of one attempt: wall-clock and processor time in seconds; memory, result and network traffic in bytes."""

    wall: float = 5.0
    cpu: float = 2.0
    memory: int = 256 * 1024**2
    output: int = 64 * 1024
    sent: int = 1024**2
    received: int = 16 * 1024**2


class Breaker(FrozenModel):
    """The circuit breaker: after `failures` in a row the tool is not called for `rest` seconds, longer each time."""

    failures: int = 5
    rest: float = 30.0


class Retry(FrozenModel):
    """The retries of a call: its attempts in all, and the codes or declared errors after which it is retried."""

    attempts: int = 1
    on: tuple[str, ...] = ()


class Action(FrozenModel):
    """One function of a tool.

    `touches` are the lines that name the resources of a call. `probe` is the action that finds out whether this one has
    happened, "" without one. `adds_labels` are the labels that a result, or the error that the tool reports, puts on the run;
    `labels_in_result` has the places in a result where it has further ones, each with those that it may have there, and
    `removes_labels` are those that a result removes. `adds_to_directory` are the places in a result that name resources for the
    directory. `passages` is the place in a result that has passages of documents, "" without any. `request_words` are the words
    by which people ask for the action. `errors` maps each declared error to the
    exception class that means it, "" for a class of its own. `methods` are the HTTP methods for the URLs that it touches, and
    `idempotency_header` is the header with the key of a keyed call. `run` is the argv of a command tool, empty for others, and
    `args` has the types of its arguments.
    `tool` is the tool of an MCP server that it calls. With `cache`, a call is answered from the record of its run if an earlier one read the same. `target` is what its calls should
    take and cost.
    """

    name: str
    summary: str
    touches: tuple[str, ...] = ()
    effect: Effect = "once"
    retry: Retry = Retry()
    probe: str = ""
    adds_labels: tuple[str, ...] = ()
    labels_in_result: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    removes_labels: tuple[str, ...] = ()
    adds_to_directory: tuple[str, ...] = ()
    passages: str = ""
    request_words: tuple[str, ...] = ()
    errors: Mapping[str, str] = Field(default_factory=dict)
    methods: tuple[str, ...] = ()
    idempotency_header: str = ""
    run: tuple[Part, ...] = ()
    args: Mapping[str, Argument] = Field(default_factory=dict)
    tool: str = ""
    cache: bool = False
    target: Target = Target()

    @property
    def own_files(self) -> tuple[str, ...]:
        """The elements of `run` that name a file in the folder of the tool: "./main.js"."""
        return tuple(part for part, _ in elements(self.run) if part.startswith("./"))

    @property
    def means(self) -> tuple[str, ...]:
        """The words by which people ask for it; those of its name if the manifest gives none."""
        return self.request_words or tuple(part for part in self.name.split("_") if len(part) > 2)

    @property
    def listings(self) -> tuple[Listing, ...]:
        return tuple(parse_listing(line) for line in self.adds_to_directory)

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple(parse_touch(touch) for touch in self.touches)


class Manifest(FrozenModel):
    """A tool as its author declares it.

    `hosts`, `ranges`, `credentials`, `authorities`, `exposed`, `env` and `programs` are available to every call; of the secrets in
    `own_secrets`, each user has one of their own. `read` and `write` (patterns of files), `stores` and `url_hosts` are the most that the
    resources of one call may be. With `life` "run", the calls of a run share one live sandbox. `command` and `server_env` start an MCP
    server, and one that runs elsewhere is at `server_url`; with `proc`, a sandbox has a /proc of its own. The source
    "built-in" is Remit itself. The calls of a "hook" are carried out by the coding agent `client`: its `read` and `write` are empty,
    and rules alone limit it. `undecided` are the actions that do not load, each with the line that a person has to decide. `digest` covers the parsed file without
    its targets, so comments, layout and targets do not change it.
    """

    name: str
    version: str
    owner: str
    summary: str
    source: Source | Literal["built-in"]
    host: str = ""
    client: Client | Literal[""] = ""
    trust: Trust = "pinned"
    life: Life = "call"
    proc: bool = False
    command: tuple[str, ...] = ()
    server_env: Mapping[str, str] = Field(default_factory=dict)
    server_url: str = ""
    hosts: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    authorities: tuple[Authority, ...] = ()
    exposed: tuple[Exposed, ...] = ()
    own_secrets: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    url_hosts: tuple[str, ...] = ()
    limits: Limits = Limits()
    breaker: Breaker = Breaker()
    actions: Mapping[str, Action]
    undecided: Mapping[str, int] = Field(default_factory=dict[str, int])
    digest: str

    @property
    def hosted(self) -> bool:
        """True if its calls run outside of every sandbox: in the process of the broker, or in a coding agent."""
        return self.source in HOSTED

    @property
    def confined(self) -> bool:
        """True if something of it runs in a sandbox of this machine."""
        return not self.hosted and self.source != "built-in" and not self.server_url

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of all secrets that its calls may use."""
        names = [item.secret for item in self.credentials] + [item.secret for item in self.exposed]
        return tuple(dict.fromkeys(names))

    def server_command(self, *, python: str, own: str, files: str, packages: str) -> tuple[str, ...]:
        """The command line of its MCP server; `own`, `files` and `packages` are folders in its sandbox."""
        first, *rest = self.command
        values = {"files": files, "packages": packages}
        interpreter = (python, "-S", "-s", "-B", "-X", "utf8") if first == PYTHON else (filled(first, values, own),)
        return (*interpreter, *(filled(part, values, own) for part in rest))

    def server_variables(self, *, own: str, files: str, packages: str) -> dict[str, str]:
        """The environment variables of its MCP server, with the packages of a Python server."""
        values = {"files": files, "packages": packages}
        given = {name: filled(value, values, own) for name, value in self.server_env.items()}
        return {"PYTHONPATH": packages, **given} if self.command[:1] == (PYTHON,) and packages else given

    def network(self, action: Action, touches: Iterable[ResourceAccess]) -> Network | None:
        """What a call of the action with these resources may reach; None for a tool without network."""
        if not self.hosts and not self.url_hosts:
            return None
        urls = url_permissions(touches, action.methods)
        return Network(
            hosts=tuple(map(parse_host, self.hosts)),
            urls=urls,
            at_most=tuple(map(parse_host, self.url_hosts)) if urls else (),
            ranges=self.ranges,
            credentials=self.credentials,
            methods=action.methods if urls else (),
            key_header=action.idempotency_header,
            sent=self.limits.sent,
            received=self.limits.received,
        )


def action_name(tool: str, action: str) -> str:
    """The name of an action in rules and records: `files.read`."""
    return f"{tool}.{action}"


class ActionSchema(FrozenModel):
    """The JSON Schemas (2020-12) of one action, derived from its code in the sandbox. `input` has no hidden parameters."""

    description: str = ""
    input: dict[str, Json]
    output: dict[str, Json]

    @cached_property
    def shown(self) -> str:
        """What the model reads of the action, as canonical JSON: each call of a tool of a graph is compared with it."""
        return canonical_json({"description": self.description, "input": self.input}).decode()


class ServerPin(FrozenModel):
    """What a reviewer approved of an MCP server: the version of the protocol, and its whole list of tools by name, as it lists them."""

    protocol: str
    tools: dict[str, dict[str, Json]]


class Pin(FrozenModel):
    """What a reviewer approved: the digests of manifest and code, the schemas of the actions, and the tools of an MCP server.

    `hidden` has, by action, the parameters that Remit fills in and the model does not see. `digest` covers everything else.
    """

    version: str
    digest: str
    manifest: str
    code: str
    schemas: dict[str, ActionSchema]
    hidden: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    server: ServerPin | None = None


def pin(
    manifest: Manifest,
    code: str,
    schemas: Mapping[str, ActionSchema],
    hidden: Mapping[str, tuple[str, ...]],
    server: ServerPin | None = None,
) -> Pin:
    """The pin of a tool whose code has the digest `code`."""
    return Pin(
        version=manifest.version,
        digest=pin_digest(manifest.digest, code, schemas, hidden, server),
        manifest=manifest.digest,
        code=code,
        schemas=dict(schemas),
        hidden=dict(hidden),
        server=server,
    )


def pin_digest(
    manifest: str,
    code: str,
    schemas: Mapping[str, ActionSchema],
    hidden: Mapping[str, tuple[str, ...]],
    server: ServerPin | None = None,
) -> str:
    """The digest of everything that a reviewer approves."""
    return digest(
        {
            "manifest": manifest,
            "code": code,
            "schemas": {name: schema.model_dump(mode="json") for name, schema in schemas.items()},
            "hidden": {name: list(names) for name, names in hidden.items()},
            **({} if server is None else {"server": server.model_dump(mode="json")}),
        }
    )


def code_digest(files: Mapping[str, bytes]) -> str:
    """The digest of every file in a tool's folder, by path relative to it, except manifest, cases, caches and hidden files."""
    return digest({path: digest_bytes(data) for path, data in files.items() if is_code(path)})


def is_code(path: str) -> bool:
    """True if a file in a tool's folder is part of its code."""
    parts = path.split("/")
    return path not in ("tool.toml", "cases.yaml") and not any(
        part == "__pycache__" or part.startswith(".") for part in parts
    )


def parse_manifest(text: str, *, file: str) -> Manifest:
    """The manifest in the text of a `tool.toml`.

    Raises:
        WorkspaceError: with every problem of the file, its line and its fix.
    """
    whole = load_toml(text, file=file)
    undecided = undecided_actions(text, whole)
    # INVARIANT: only decided actions are checked, loaded, and part of the digest; so no pin covers an action that is not decided.
    document = _without_actions(whole, undecided) if undecided else whole
    table, problems = read_table(ManifestTable, document, file=file, text=text)
    problems += rules(document, file=file, text=text, may_be_empty=bool(undecided))
    if table is None or problems:
        raise WorkspaceError(sorted(problems, key=lambda problem: problem.line or 0))
    always, at_most = table.always, table.at_most
    return Manifest(
        name=table.name,
        version=table.version,
        owner=table.owner,
        summary=table.summary,
        source=table.source,
        host=table.host or "",
        client=table.client or "",
        trust=table.trust,
        life=_life(table),
        proc=always.proc,
        command=() if table.server is None else tuple(table.server.command),
        server_env={} if table.server is None else dict(table.server.env),
        server_url="" if table.server is None else table.server.url or "",
        hosts=tuple(always.hosts),
        ranges=tuple(always.ranges),
        credentials=tuple(_credential(secret) for secret in always.secrets if not secret.exposed),
        authorities=parse_authorities(always.ca),
        exposed=tuple(Exposed(secret=item.name, env=item.env or "") for item in always.secrets if item.exposed),
        own_secrets=tuple(item.name for item in always.secrets if item.per_user),
        env=tuple(always.env),
        programs=tuple(always.programs),
        read=tuple(at_most.read),
        write=tuple(at_most.write),
        stores=tuple(at_most.stores),
        url_hosts=tuple(at_most.hosts),
        limits=_limits(table.limits),
        breaker=Breaker(failures=table.circuit.failures, rest=duration(table.circuit.rest)),
        actions={name: _action(name, action, table.source) for name, action in table.actions.items()},
        undecided=undecided,
        digest=digest(_without_targets(document)),
    )


def _without_actions(document: dict[str, Json], left_out: Mapping[str, int]) -> dict[str, Json]:
    actions = document.get("actions")
    if not isinstance(actions, dict):
        return document
    kept = {name: table for name, table in cast("dict[str, Json]", actions).items() if name not in left_out}
    return {**document, "actions": kept}


def _without_targets(document: dict[str, Json]) -> dict[str, Json]:
    """What a reviewer approves: a target permits nothing, so its change needs no review."""
    actions = {
        name: {key: value for key, value in action.items() if key != "target"}
        for name, action in document["actions"].items()
    }
    return {**document, "actions": actions}


def _life(table: ManifestTable) -> Life:
    if table.source == "mcp":
        return "run"
    return table.life or ("run" if table.source == "command" and table.trust != "none" else "call")


def _limits(table: LimitsTable) -> Limits:
    return Limits(
        wall=duration(table.wall),
        cpu=duration(table.cpu),
        memory=size(table.memory),
        output=size(table.output),
        sent=size(table.sent),
        received=size(table.received),
    )


def _credential(table: SecretTable) -> Credential:
    assert table.host is not None  # `network_rules` has checked these
    assert table.header is not None
    assert table.value is not None
    return parse_credential(table.name, table.host, table.header, table.value, table.env or "")


def _action(name: str, table: ActionTable, source: Source) -> Action:
    # INVARIANT: everything that the server of another party returns is untrusted, whatever its manifest says.
    labels = dict.fromkeys((*table.adds_labels, *((UNTRUSTED,) if source == "mcp" else ())))
    return Action(
        name=name,
        summary=table.summary,
        touches=tuple(table.touches),
        effect=table.effect,
        retry=Retry(attempts=table.retry.attempts, on=tuple(table.retry.on)),
        probe=table.probe or "",
        adds_labels=tuple(labels),
        labels_in_result={at: tuple(labels) for at, labels in table.labels_in_result.items()},
        removes_labels=tuple(table.removes_labels),
        adds_to_directory=tuple(table.adds_to_directory),
        passages=table.passages or "",
        request_words=tuple(table.request_words),
        errors=dict(table.errors) if isinstance(table.errors, dict) else dict.fromkeys(table.errors, ""),
        methods=tuple(table.methods),
        idempotency_header=table.idempotency_header or "",
        run=tuple(part if isinstance(part, str) else tuple(part) for part in table.run),
        args={name: argument_of(argument) for name, argument in table.args.items()},
        tool=(table.tool or name) if source == "mcp" else "",
        cache=table.cache,
        target=target_of(table.target),
    )
