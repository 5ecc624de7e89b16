"""The keys of a `tool.toml` about the network, and the rules between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final, Literal, Protocol

from pydantic import AfterValidator, Field

from remit.core import Problem, Refusal
from remit.core.parsing import URL_KINDS, Matching, TomlTable, canonical, invalid
from remit.sandbox.egress import NetworkError, parse_credential, parse_host, parse_range
from remit.workspace.manifest.touches import Template

# Variables that the sandbox sets: a secret with one of these names would change how the tool finds its proxy or files.
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


def _authority_file(value: str) -> str:
    try:
        plain = (
            canonical("file", value) == value and value != "." and not any(part[0] == "." for part in value.split("/"))
        )
    except Refusal:
        plain = False
    if not plain:
        raise invalid(f"is {value!r}, which is not a file of the tool's folder", 'write "corp-ca.pem"')
    return value


AuthorityFile = Annotated[str, AfterValidator(_authority_file)]


class SecretTable(TomlTable):
    """One secret: `remit secret set` stores its value. The egress proxy adds it to requests, or the tool itself gets it."""

    name: SecretName = Field(description="The name under which `remit secret set` stores it")
    host: str | None = Field(default=None, description='The one host that may receive it: "api.example.com:443"')
    header: str | None = Field(default=None, description='"Authorization"')
    value: str | None = Field(default=None, description='"Bearer {name}" or "Basic {base64(name)}"')
    env: Variable | None = Field(
        default=None,
        description="The variable with a placeholder for the secret; with exposed = true, with the secret itself",
    )
    exposed: bool = Field(
        default=False, description="The tool itself gets the secret: for protocols that the proxy does not support"
    )
    per_user: bool = Field(
        default=False,
        description="Each user has one of their own (`remit secret set NAME --user`), and no run uses that of another",
    )


class _Always(Protocol):
    @property
    def hosts(self) -> list[str]: ...
    @property
    def ranges(self) -> list[str]: ...
    @property
    def secrets(self) -> list[SecretTable]: ...
    @property
    def ca(self) -> dict[str, str]: ...
    @property
    def env(self) -> list[str]: ...


class _Action(Protocol):
    @property
    def effect(self) -> str: ...
    @property
    def methods(self) -> Sequence[str]: ...
    @property
    def idempotency_header(self) -> str | None: ...


_Report = Callable[[tuple[str, ...], str, str], Problem]


def network_rules(always: _Always, report: _Report, source: str) -> Iterator[Problem]:
    """The problems between `hosts`, `ranges` and `secrets`."""
    if source in ("host", "hook") and (always.hosts or always.ranges or always.secrets or always.ca):
        key = next(key for key in ("hosts", "ranges", "secrets", "ca") if getattr(always, key))
        yield report(
            ("always", key), f"'always.{key}' has no effect for source = 'host', which runs unconfined", "remove it"
        )
        return
    seen: set[tuple[str, str]] = set()
    variables: set[str] = {*always.env, *_TAKEN}
    for number, secret in enumerate(always.secrets):
        at = ("always", "secrets", str(number))
        if secret.env is not None:
            if secret.env in variables or secret.env.lower().endswith("_proxy"):
                yield report(
                    at,
                    f"the variable {secret.env!r} is used twice, or by the sandbox",
                    "name another variable in 'env'",
                )
            variables.add(secret.env)
        if secret.exposed:
            if secret.env is None or (secret.host, secret.header, secret.value) != (None, None, None):
                fix = f'write {{ name = "{secret.name}", exposed = true, env = "{secret.name.upper()}" }}'
                yield report(at, "an exposed secret needs 'env', and has no host, header or value", fix)
            continue
        if secret.host is None or secret.header is None or secret.value is None:
            fix = "write host, header and value; or exposed = true and env, if the proxy cannot add it"
            yield report(at, f"secret {secret.name!r} has no host, header or value", fix)
            continue
        place = (secret.host, secret.header.lower())
        if place in seen:
            yield report(
                at, f"two secrets have the header {secret.header!r} and the host {secret.host!r}", "keep one of them"
            )
        seen.add(place)
        yield from _credential_rules(at, secret, always, report)


def authority_rules(ca: dict[str, str], lines: Sequence[str], report: _Report) -> Iterator[Problem]:
    """The problems between `ca` and the `lines` of hosts that the manifest has."""
    for place in ca:
        host = parse_host(place)
        at = ("always", "ca", place)
        if not host.whole or "*" in host.name:
            yield report(
                at, f"'ca' has {place!r}, which is not one host", 'write { "git.corp.example:443" = "corp-ca.pem" }'
            )
        elif not any(parse_host(line).covers(host.name, host.port) for line in lines):
            yield report(
                at, f"'ca' has {place!r}, which no line of 'hosts' has", f'write hosts = ["{place}"] in [always]'
            )


def _credential_rules(at: tuple[str, ...], secret: SecretTable, always: _Always, report: _Report) -> Iterator[Problem]:
    assert secret.host is not None
    assert secret.header is not None
    assert secret.value is not None
    try:
        credential = parse_credential(secret.name, secret.host, secret.header, secret.value)
    except NetworkError as error:
        yield report(at, f"secret {secret.name!r} {error.what}", error.fix)
        return
    if not any(parse_host(line).covers(credential.name, credential.port) for line in always.hosts):
        fix = f'write hosts = ["{secret.host}"] in [always]'
        yield report(at, f"secret {secret.name!r} has the host {secret.host!r}, which is not in 'always.hosts'", fix)


def action_network_rules(
    at: tuple[str, ...], action: _Action, templates: Sequence[Template], report: _Report, reached: bool
) -> Iterator[Problem]:
    """The problems between an action's URLs, its methods and its effect. `reached` is True if the manifest allows hosts."""
    urls = [number for number, template in enumerate(templates) if template.kind in URL_KINDS]
    if urls and not reached:
        fix = 'write hosts = ["api.example.com:443"] in [at_most]; "**:443" allows every name'
        yield report((*at, "touches", str(urls[0])), "the action touches a URL, and 'at_most.hosts' is empty", fix)
    elif urls and not action.methods:
        yield report(
            (*at, "touches", str(urls[0])), "the action touches a URL and has no 'methods'", 'write methods = ["GET"]'
        )
    if action.methods and not urls:
        yield report((*at, "methods"), "'methods' is only for an action that touches a URL", "remove it")
    if action.effect == "read" and (writing := sorted(set(action.methods) - {"GET", "HEAD", "OPTIONS"})):
        fix = 'write effect = "idempotent", "keyed" or "once"'
        yield report((*at, "effect"), f"effect = 'read', but 'methods' has {writing[0]}", fix)
    if action.effect == "idempotent" and "POST" in action.methods:
        fix = 'write effect = "once"; or "keyed", with the idempotency_header that the server supports'
        yield report((*at, "effect"), "effect = 'idempotent', but a POST usually is not", fix)
    if action.effect == "keyed" and urls and action.idempotency_header is None:
        fix = 'write idempotency_header = "Idempotency-Key" if the server supports it, else effect = "once"'
        yield report((*at, "effect"), "effect = 'keyed', and no header is named for the key", fix)
    if action.effect != "keyed" and action.idempotency_header is not None:
        yield report(
            (*at, "idempotency_header"), "'idempotency_header' is only for effect = 'keyed'", 'write effect = "keyed"'
        )
