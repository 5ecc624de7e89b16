"""What a `tool.toml` may say of the network, key by key, and the rules that hold between those keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, Literal, Protocol

from pydantic import AfterValidator, Field

from remit.core import Problem
from remit.core.parsing import URL_KINDS, Matching, TomlTable, invalid
from remit.sandbox.egress import NetworkError, parse_credential, parse_host, parse_range
from remit.workspace.manifest.touches import Template

# What the sandbox itself sets: a secret under one of these names would change how the tool finds its proxy or its files.
_TAKEN: Final = frozenset(("PATH", "HOME", "TMPDIR", "LANG"))


def _host(value: str) -> str:
    try:
        parse_host(value)
    except NetworkError as error:
        raise invalid(error.what, error.fix) from None
    return value


def _network(value: str) -> str:
    try:
        return parse_range(value)
    except NetworkError as error:
        raise invalid(error.what, error.fix) from None


HostLine = Annotated[str, AfterValidator(_host)]
Range = Annotated[str, AfterValidator(_network)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Header = Annotated[str, Matching(r"[A-Za-z][A-Za-z0-9-]{0,63}", "a header", 'write its name: "Idempotency-Key"')]
Variable = Annotated[str, Matching(r"[A-Z_][A-Z0-9_]*", "a variable", 'write its name: "TZ"')]
SecretName = Annotated[
    str, Matching(r"[a-z][a-z0-9_]{0,63}", "the name of a secret", "write lower-case letters, digits and _")
]


class SecretTable(TomlTable):
    """One secret, by name: its value is given by `remit secret set`. The proxy puts it on the wire, or it is exposed."""

    name: SecretName
    host: str | None = Field(default=None, description='The one host that may receive it: "api.example.com:443"')
    header: str | None = Field(default=None, description='"Authorization"')
    value: str | None = Field(default=None, description='"Bearer {name}" or "Basic {base64(name)}"')
    env: Variable | None = Field(
        default=None, description="The variable that holds a stand-in for it; where it is exposed, the secret itself"
    )
    exposed: bool = Field(default=False, description="The tool itself holds it: for what cannot go by the proxy")


class _Always(Protocol):
    @property
    def hosts(self) -> list[str]: ...
    @property
    def ranges(self) -> list[str]: ...
    @property
    def secrets(self) -> list[SecretTable]: ...
    @property
    def env(self) -> list[str]: ...


class _Action(Protocol):
    @property
    def effect(self) -> str: ...
    @property
    def methods(self) -> Sequence[str]: ...
    @property
    def idempotency_header(self) -> str | None: ...


_Tell = Callable[[tuple[str, ...], str, str], Problem]


def network_rules(always: _Always, tell: _Tell, source: str) -> Iterator[Problem]:
    """What is wrong between `hosts`, `ranges` and `secrets`."""
    if source == "host" and (always.hosts or always.ranges or always.secrets):
        key = next(key for key in ("hosts", "ranges", "secrets") if getattr(always, key))
        yield tell(("always", key), f"nothing holds a tool of this process to 'always.{key}'", "remove it")
        return
    seen: set[tuple[str, str]] = set()
    variables: set[str] = {*always.env, *_TAKEN}
    for number, secret in enumerate(always.secrets):
        at = ("always", "secrets", str(number))
        if secret.env is not None:
            if secret.env in variables or secret.env.lower().endswith("_proxy"):
                yield tell(at, f"variable {secret.env!r} is taken", "name another variable in 'env'")
            variables.add(secret.env)
        if secret.exposed:
            if secret.env is None or (secret.host, secret.header, secret.value) != (None, None, None):
                fix = f'write {{ name = "{secret.name}", exposed = true, env = "{secret.name.upper()}" }}'
                yield tell(at, "an exposed secret has a variable, and neither host, header nor value", fix)
            continue
        if secret.host is None or secret.header is None or secret.value is None:
            fix = "write host, header and value; or exposed = true and env, where it cannot go by the proxy"
            yield tell(at, f"secret {secret.name!r} does not say where it goes", fix)
            continue
        place = (secret.host, secret.header.lower())
        if place in seen:
            yield tell(at, f"two secrets for {secret.header!r} at {secret.host!r}", "keep one of them")
        seen.add(place)
        yield from _credential_rules(at, secret, always, tell)


def _credential_rules(at: tuple[str, ...], secret: SecretTable, always: _Always, tell: _Tell) -> Iterator[Problem]:
    assert secret.host is not None
    assert secret.header is not None
    assert secret.value is not None
    try:
        credential = parse_credential(secret.name, secret.host, secret.header, secret.value)
    except NetworkError as error:
        yield tell(at, f"secret {secret.name!r} {error.what}", error.fix)
        return
    if not any(parse_host(line).covers(credential.name, credential.port) for line in always.hosts):
        fix = f'write hosts = ["{secret.host}"] in [always]'
        yield tell(at, f"secret {secret.name!r} goes to {secret.host!r}, which is not in 'always.hosts'", fix)


def action_network_rules(
    at: tuple[str, ...], action: _Action, templates: Sequence[Template], tell: _Tell, reached: bool
) -> Iterator[Problem]:
    """What is wrong between an action's URLs, its methods and its effect. `reached`: the ceiling has hosts."""
    urls = [number for number, template in enumerate(templates) if template.kind in URL_KINDS]
    if urls and not reached:
        fix = 'write hosts = ["api.example.com:443"] in [at_most]; "**:443" is every name'
        yield tell((*at, "touches", str(urls[0])), "it may reach no host: 'at_most.hosts' is empty", fix)
    elif urls and not action.methods:
        yield tell((*at, "touches", str(urls[0])), "it touches a URL and says no method", 'write methods = ["GET"]')
    if action.methods and not urls:
        yield tell((*at, "methods"), "'methods' is only for an action that touches a URL", "remove it")
    if action.effect == "read" and (odd := sorted(set(action.methods) - {"GET", "HEAD", "OPTIONS"})):
        fix = 'write effect = "idempotent", "keyed" or "once"'
        yield tell((*at, "effect"), f"effect = 'read', but the action may {odd[0]}", fix)
    if action.effect == "idempotent" and "POST" in action.methods:
        fix = 'write effect = "once"; or "keyed", with the idempotency_header that the server knows'
        yield tell((*at, "effect"), "a POST is not known to be idempotent", fix)
    if action.effect == "keyed" and urls and action.idempotency_header is None:
        fix = 'write idempotency_header = "Idempotency-Key", if the server knows it; else effect = "once"'
        yield tell((*at, "effect"), "effect = 'keyed', and no header carries the key", fix)
    if action.effect != "keyed" and action.idempotency_header is not None:
        yield tell((*at, "idempotency_header"), "only a keyed action has a key", 'write effect = "keyed"')
