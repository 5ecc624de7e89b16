"""Secrets by name, kept out of the workspace: in the environment, in a file of this account alone, or in its keyring.

A stored secret belongs to one workspace, so that another one cannot ask for it by its name. Looked for in this order:

    REMIT_SECRET_<NAME>          the value itself
    REMIT_SECRET_<NAME>_FILE     a file that holds it
    remit secret set NAME        the account's own store, or its keyring
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from remit.core import UsageError
from remit.guardrails.encodings import SHORTEST_SECRET

Source: TypeAlias = Literal["environment", "file", "store", "keyring", "missing"]

LONGEST: Final = 16 << 10  # bytes
_LARGEST_STORE: Final = 1 << 20  # characters
_KEYRING: Final = "keyring"
_Kept: TypeAlias = str | dict[Literal["keyring"], Literal[True]]  # the value, or that the keyring has it
_STORE: Final[TypeAdapter[dict[str, dict[str, _Kept]]]] = TypeAdapter(dict[str, dict[str, _Kept]])


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Where a secret is found; `value` is "" for one that is missing."""

    name: str
    source: Source
    value: str = ""

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r}, source={self.source!r})"


class Secrets:
    """The secrets of one workspace, as they are now."""

    def __init__(self, root: Path) -> None:
        self._root = str(root.resolve())
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
        self._store = Path(base) / "remit" / "secrets.json"

    def get(self, name: str) -> Secret:
        """One secret. Raises UsageError for one that others can read, or that cannot be a secret."""
        variable = f"REMIT_SECRET_{name.upper()}"
        if (value := os.environ.get(variable)) is not None:
            return Secret(name=name, source="environment", value=check_value(name, value))
        if (path := os.environ.get(f"{variable}_FILE")) is not None:
            try:
                return Secret(name=name, source="file", value=check_value(name, _read(Path(path)).rstrip("\r\n")))
            except FileNotFoundError:
                raise UsageError(f"{path}, which {variable}_FILE names, is not there") from None
        kept = self._stored().get(name)
        if kept is None:
            return Secret(name=name, source="missing")
        if not isinstance(kept, str):
            found = _keyring().get_password(self._service, name)
            if found is None:
                return Secret(name=name, source="missing")
            return Secret(name=name, source="keyring", value=check_value(name, found))
        return Secret(name=name, source="store", value=check_value(name, kept))

    def values(self, names: Iterable[str]) -> dict[str, str]:
        """The values of all these. Raises UsageError with the command that sets the first one that is missing."""
        found = [self.get(name) for name in names]
        for one in found:
            if one.source == "missing":
                raise UsageError(f"secret {one.name!r} is not set here; run `remit secret set {one.name}`")
        return {one.name: one.value for one in found}

    def present(self, names: Iterable[str]) -> dict[str, str]:
        """The values of those that are there."""
        return {one.name: one.value for one in map(self.get, names) if one.source != "missing"}

    def set(self, name: str, value: str, *, keyring: bool = False) -> Source:
        """Store it for this workspace. Raises UsageError where it cannot be a secret, or the store is not this account's alone."""
        kept: _Kept = check_value(name, value)
        if keyring:
            _keyring().set_password(self._service, name, value)
            kept = {_KEYRING: True}
        self._store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._store.parent / ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            every = self._every()
            every.setdefault(self._root, {})[name] = kept
            self._write(json.dumps(every, indent=1))
        finally:
            os.close(lock)
        return "keyring" if keyring else "store"

    @property
    def _service(self) -> str:
        return f"remit {self._root}"

    def _stored(self) -> Mapping[str, _Kept]:
        return self._every().get(self._root, {})

    def _every(self) -> dict[str, dict[str, _Kept]]:
        try:
            text = _read(self._store)
        except FileNotFoundError:
            return {}
        try:
            return _STORE.validate_json(text)
        except ValidationError:
            raise UsageError(f"{self._store} is no store of secrets; move it away and set them again") from None

    def _write(self, text: str) -> None:
        """Whole or not at all, and never readable by others."""
        making = self._store.with_name(f".secrets.{os.getpid()}")
        with suppress(FileNotFoundError):
            making.unlink()
        descriptor = os.open(making, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        making.replace(self._store)


def check_value(name: str, value: str) -> str:
    """The value. Raises UsageError where it could not be kept out of a record, or could end a header."""
    if len(value) < SHORTEST_SECRET:
        raise UsageError(
            f"secret {name!r} has fewer than {SHORTEST_SECRET} characters: it could not be told from words"
        )
    if len(value.encode("utf-8", "replace")) > LONGEST or not value.isascii() or not value.isprintable():
        raise UsageError(f"secret {name!r} is not one line of printable ASCII")
    return value


def _read(path: Path) -> str:
    """A file that only this account can read. Raises FileNotFoundError, or UsageError with the fix."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise UsageError(f"{path} cannot be read: {failure.strerror}") from failure
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
            raise UsageError(f"{path} holds secrets and is no file of this account")
        if status.st_mode & 0o077:
            raise UsageError(f"{path} holds secrets and others can read it; run `chmod 600 {path}`")
        with os.fdopen(descriptor, encoding="utf-8", errors="replace", closefd=False) as file:
            return file.read(_LARGEST_STORE)
    finally:
        os.close(descriptor)


def _keyring() -> Any:
    try:
        return import_module("keyring")
    except ImportError:
        raise UsageError("there is no keyring here; run `pip install 'remit[keyring]'`") from None
