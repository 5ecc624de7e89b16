"""Secrets that other systems keep: the tables `[secrets.NAME]` of `remit.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from remit.core.parsing import Duration, Matching, TomlTable, duration, invalid
from remit.guardrails import SecretSource

SecretName = Annotated[
    str, Matching(r"[a-z][a-z0-9_]{0,63}", "the name of a secret", "write lower-case letters, digits and _")
]


def _program(value: list[str]) -> list[str]:
    if not value or not all(value) or any("\0" in part for part in value):
        raise invalid(
            "is not a command", 'write its program and arguments: ["vault", "kv", "get", "-field=token", "secret/jira"]'
        )
    return value


class SecretSourceTable(TomlTable):
    """Where the value of a secret comes from, if `remit secret set` does not store it: a command that prints it, or a file."""

    command: Annotated[list[str], AfterValidator(_program)] | None = Field(
        default=None,
        description='Prints the value, as the account of Remit, without a shell, within 10 s: ["vault", "kv", "get", …]',
    )
    file: str | None = Field(
        default=None, description="In place of `command`: the file with the value, which is read again for each call"
    )
    ttl: Duration = Field(default="5m", description="How long a value of the command is used before it runs again")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.command is None) == (self.file is None or not self.file):
            raise invalid("needs one of command and file", 'write command = ["vault", …] or file = "/run/secrets/…"')
        return self


def sources_of(tables: Mapping[str, SecretSourceTable]) -> dict[str, SecretSource]:
    """Where these secrets come from, by name."""
    return {
        name: SecretSource(command=tuple(table.command or ()), file=table.file or "", ttl=duration(table.ttl))
        for name, table in tables.items()
    }
