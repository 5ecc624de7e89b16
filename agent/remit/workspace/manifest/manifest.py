"""A tool as its author declares it (`tools/<name>/tool.toml`) and as its reviewer pinned it (`policies/tools.lock`).

Absent, empty and filled are three things: an absent scope is empty, and empty means that nothing is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from pydantic import Field

from remit.core import Effect, FrozenModel, Json, Listing, ResourceAccess, WorkspaceError
from remit.core.parsing import digest, digest_bytes, duration, load_toml, read_table, size
from remit.sandbox.egress import Credential, Exposed, Network, parse_credential, parse_host, url_permissions
from remit.workspace.manifest.network_schema import SecretTable
from remit.workspace.manifest.schema import ActionTable, ManifestTable, Source, Trust, rules
from remit.workspace.manifest.schema import manifest_schema as manifest_schema
from remit.workspace.manifest.touches import Template, parse_listing, parse_touch


class Limits(FrozenModel):
    """What one attempt may use: seconds of wall and processor time, bytes of memory, result and network traffic."""

    wall: float = 5.0
    cpu: float = 2.0
    memory: int = 256 * 1024**2
    output: int = 64 * 1024
    sent: int = 1024**2
    received: int = 16 * 1024**2


class Breaker(FrozenModel):
    """After how many failures in a row a tool rests, and for how many seconds at first."""

    failures: int = 5
    rest: float = 30.0


class Retry(FrozenModel):
    """How often a call is attempted in all, and after which codes or declared errors it is attempted again."""

    attempts: int = 1
    on: tuple[str, ...] = ()


class Action(FrozenModel):
    """One function of a tool. `errors` maps each declared error to the exception class that means it, "" for its own.

    `returns` are the labels that a result, or what the tool says of its failure, puts on the run, `clears` those that it takes off it, `lists` where it names
    resources that the directory then knows; `words` are those by which people ask for it; `run` is the argv of a command tool, empty for others. `methods`
    are those by which the URLs that it touches may be asked; `idempotency_header` carries a keyed call's key to their server.
    `probe` names the action that looks whether this one has happened, "" where none can.
    """

    name: str
    summary: str
    touches: tuple[str, ...] = ()
    effect: Effect = "once"
    retry: Retry = Retry()
    probe: str = ""
    adds_labels: tuple[str, ...] = ()
    removes_labels: tuple[str, ...] = ()
    adds_to_directory: tuple[str, ...] = ()
    request_words: tuple[str, ...] = ()
    errors: Mapping[str, str] = Field(default_factory=dict)
    methods: tuple[str, ...] = ()
    idempotency_header: str = ""
    run: tuple[str, ...] = ()

    @property
    def own_files(self) -> tuple[str, ...]:
        """The elements of `run` that name a file of the tool's own folder: "./main.js"."""
        return tuple(part for part in self.run if part.startswith("./"))

    @property
    def means(self) -> tuple[str, ...]:
        """The words that stand for it, those of its name where the manifest gives none."""
        return self.request_words or tuple(part for part in self.name.split("_") if len(part) > 2)

    @property
    def listings(self) -> tuple[Listing, ...]:
        return tuple(parse_listing(line) for line in self.adds_to_directory)

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple(parse_touch(touch) for touch in self.touches)


class Manifest(FrozenModel):
    """A tool as its author declares it. `digest` is over what the file says, so a comment changes nothing.

    `hosts`, `ranges`, `credentials`, `exposed`, `env`, `programs` are given to every call; `read`, `write` (patterns of
    files), `stores` and `url_hosts` are the most that one call's touches may open.
    """

    name: str
    version: str
    owner: str
    summary: str
    source: Source
    host: str = ""
    trust: Trust = "pinned"
    hosts: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    exposed: tuple[Exposed, ...] = ()
    env: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    url_hosts: tuple[str, ...] = ()
    limits: Limits = Limits()
    breaker: Breaker = Breaker()
    actions: Mapping[str, Action]
    digest: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that some call of it uses."""
        names = [one.secret for one in self.credentials] + [one.secret for one in self.exposed]
        return tuple(dict.fromkeys(names))

    def network(self, action: Action, touches: Iterable[ResourceAccess]) -> Network | None:
        """What a call of the action with these touches may reach; None for a tool without network."""
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
    """`files.read`"""
    return f"{tool}.{action}"


class ActionSchema(FrozenModel):
    """JSON Schemas (2020-12) of one action, as derived inside the sandbox; hidden parameters are not in `input`."""

    description: str = ""
    input: dict[str, Json]
    output: dict[str, Json]


class Pin(FrozenModel):
    """What a reviewer approved. `hidden` names, by action, the parameters that Remit fills."""

    version: str
    digest: str
    manifest: str
    code: str
    schemas: dict[str, ActionSchema]
    hidden: dict[str, tuple[str, ...]] = Field(default_factory=dict)


def pin(
    manifest: Manifest, code: str, schemas: Mapping[str, ActionSchema], hidden: Mapping[str, tuple[str, ...]]
) -> Pin:
    """The pin of a tool whose code has that digest."""
    return Pin(
        version=manifest.version,
        digest=pin_digest(manifest.digest, code, schemas, hidden),
        manifest=manifest.digest,
        code=code,
        schemas=dict(schemas),
        hidden=dict(hidden),
    )


def pin_digest(
    manifest: str, code: str, schemas: Mapping[str, ActionSchema], hidden: Mapping[str, tuple[str, ...]]
) -> str:
    """Over everything that a reviewer approves."""
    return digest(
        {
            "manifest": manifest,
            "code": code,
            "schemas": {name: schema.model_dump(mode="json") for name, schema in schemas.items()},
            "hidden": {name: list(names) for name, names in hidden.items()},
        }
    )


def code_digest(files: Mapping[str, bytes]) -> str:
    """Over every file of a tool's folder, by path relative to it, except manifest, cases, caches and hidden files."""
    return digest({path: digest_bytes(data) for path, data in files.items() if is_code(path)})


def is_code(path: str) -> bool:
    """Whether a file of a tool's folder is part of what runs."""
    parts = PurePosixPath(path).parts
    return path not in ("tool.toml", "cases.yaml") and not any(
        part == "__pycache__" or part.startswith(".") for part in parts
    )


def parse_manifest(text: str, *, file: str) -> Manifest:
    """The manifest.

    Raises:
        WorkspaceError: with every problem, its line and what to write.
    """
    document = load_toml(text, file=file)
    whole, problems = read_table(ManifestTable, document, file=file, text=text)
    problems += rules(document, file=file, text=text)
    if whole is None or problems:
        raise WorkspaceError(sorted(problems, key=lambda problem: problem.line or 0))
    always, at_most, limits = whole.always, whole.at_most, whole.limits
    return Manifest(
        name=whole.name,
        version=whole.version,
        owner=whole.owner,
        summary=whole.summary,
        source=whole.source,
        host=whole.host or "",
        trust=whole.trust,
        hosts=tuple(always.hosts),
        ranges=tuple(always.ranges),
        credentials=tuple(_credential(one) for one in always.secrets if not one.exposed),
        exposed=tuple(Exposed(secret=one.name, env=one.env or "") for one in always.secrets if one.exposed),
        env=tuple(always.env),
        programs=tuple(always.programs),
        read=tuple(at_most.read),
        write=tuple(at_most.write),
        stores=tuple(at_most.stores),
        url_hosts=tuple(at_most.hosts),
        limits=Limits(
            wall=duration(limits.wall),
            cpu=duration(limits.cpu),
            memory=size(limits.memory),
            output=size(limits.output),
            sent=size(limits.sent),
            received=size(limits.received),
        ),
        breaker=Breaker(failures=whole.circuit.failures, rest=duration(whole.circuit.rest)),
        actions={name: _action(name, action) for name, action in whole.actions.items()},
        digest=digest(document),
    )


def _credential(table: SecretTable) -> Credential:
    assert table.host is not None  # `network_rules`
    assert table.header is not None
    assert table.value is not None
    return parse_credential(table.name, table.host, table.header, table.value, table.env or "")


def _action(name: str, table: ActionTable) -> Action:
    return Action(
        name=name,
        summary=table.summary,
        touches=tuple(table.touches),
        effect=table.effect,
        retry=Retry(attempts=table.retry.attempts, on=tuple(table.retry.on)),
        probe=table.probe or "",
        adds_labels=tuple(table.adds_labels),
        removes_labels=tuple(table.removes_labels),
        adds_to_directory=tuple(table.adds_to_directory),
        request_words=tuple(table.request_words),
        errors=dict(table.errors) if isinstance(table.errors, dict) else dict.fromkeys(table.errors, ""),
        methods=tuple(table.methods),
        idempotency_header=table.idempotency_header or "",
        run=tuple(table.run),
    )
