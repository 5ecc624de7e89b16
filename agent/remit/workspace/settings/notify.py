"""The channels to which notifications go: the tables `[notify.NAME]` of `remit.toml`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Final, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from remit.core import FrozenModel, Problem
from remit.core.events import NotificationKind
from remit.core.parsing import Matching, TomlTable, invalid, toml_line
from remit.workspace.settings.secrets import SecretName

KINDS: Final[tuple[NotificationKind, ...]] = ("approval", "lost", "in-doubt", "hold")
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

_Role = Annotated[str, Matching(r"role:[a-z][a-z0-9_-]{0,63}", "a role", 'write "role:NAME"')]
_Kind: TypeAlias = Literal["approval", "lost", "in-doubt", "hold"]


def _address(value: str) -> str:
    """The address, if it is one of HTTPS or of this machine, and holds no password; otherwise raises the error of a validator."""
    fix = 'write "https://HOST/PATH"'
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise invalid(f"is {value!r}, which is not an address", fix) from None
    if not host or not value.isascii() or not value.isprintable() or " " in value or parts.fragment:
        raise invalid(f"is {value!r}, which is not an address", fix)
    if parts.username is not None or parts.password is not None:
        raise invalid("has a user or a password, which everybody who reads the file would see", f"{fix} and `secret`")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise invalid(f"is {value!r}, and only an address of this machine may be without TLS", fix)
    return value


def _service(value: str) -> str:
    if urlsplit(_address(value)).query:
        raise invalid(f"is {value!r}, and links are below it", 'write "https://HOST" or "https://HOST/PATH"')
    return value.rstrip("/")


class NotifyTable(TomlTable):
    """One channel to which notifications go: a signed webhook, or a service that apprise knows."""

    webhook: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None, description="The address that gets a signed request for each notification; needs `secret`"
    )
    secret: SecretName | None = Field(
        default=None, description='The secret with which the webhook is signed: its value is "whsec_" and base64'
    )
    apprise: SecretName | None = Field(
        default=None,
        description="In place of `webhook`: the secret whose value is an apprise URL, as slack://… or mailtos://…",
    )
    kinds: Annotated[list[_Kind], Field(min_length=1)] = Field(
        default=list(KINDS),
        description="What is notified: approvals that wait, runs that are lost, effects in doubt, holds. Absent: all",
    )
    agents: list[str] = Field(default=[], description='Only for these agents: ["triage"]. Absent: for all')
    roles: list[_Role] = Field(
        default=[], description='Of approvals, only those that need one of these roles: ["role:oncall-lead"]'
    )
    service: Annotated[str, AfterValidator(_service)] | None = Field(
        default=None, description='The address of `remit serve` as people reach it: "https://remit.example.com"'
    )

    @model_validator(mode="after")
    def _has_one_destination(self) -> Self:
        if (self.webhook is None) == (self.apprise is None):
            raise invalid("needs one of webhook and apprise", 'write webhook = "https://…" or apprise = "SECRET"')
        if (self.webhook is None) != (self.secret is None):
            raise invalid("has a webhook without its secret, or a secret without a webhook", 'write secret = "NAME"')
        return self


class Channel(FrozenModel):
    """Where notifications go, and which; empty `agents` and `roles` are no condition.

    Either `webhook` with the secret `secret`, or the secret `apprise`; the others are "". `service` is the address to which links lead,
    "" without one.
    """

    name: str
    webhook: str = ""
    secret: str = ""
    apprise: str = ""
    kinds: tuple[NotificationKind, ...] = KINDS
    agents: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    service: str = ""

    @property
    def needs(self) -> str:
        """The name of the secret that it uses."""
        return self.secret or self.apprise


def channels_of(tables: Mapping[str, NotifyTable]) -> tuple[Channel, ...]:
    """The channels that the file names, in its order."""
    return tuple(
        Channel(
            name=name,
            webhook=table.webhook or "",
            secret=table.secret or "",
            apprise=table.apprise or "",
            kinds=tuple(table.kinds),
            agents=tuple(table.agents),
            roles=tuple(table.roles),
            service=table.service or "",
        )
        for name, table in tables.items()
    )


def channel_problems(channels: Collection[Channel], agents: Collection[str], file: str, text: str) -> Iterator[Problem]:
    """The channels that name an agent which does not exist: they would stay silent."""
    for channel in channels:
        for number, agent in enumerate(channel.agents):
            if agent not in agents:
                line = toml_line(text, "notify", channel.name, "agents", str(number))
                what = f"'notify.{channel.name}.agents' has {agent!r}, which is not an agent"
                yield Problem(file=file, line=line, what=what, fix="write the name of a folder of agent/, or remove it")
