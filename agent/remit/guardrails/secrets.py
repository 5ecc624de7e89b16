"""Secrets by name, stored outside of the workspace: in the environment, in a private file, in a vault with a client, or in a keyring.

A stored secret belongs to one workspace, so another workspace cannot read it by its name. Order of the search:

    REMIT_SECRET_<NAME>          the value itself
    REMIT_SECRET_<NAME>_FILE     a file that contains the value
    [secrets.NAME]               of remit.toml: a file that contains the value, or a command that prints it
    remit secret set NAME        the store of this account, or its keyring
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from remit.core import UsageError, in_own_thread
from remit.guardrails.encodings import SHORTEST_SECRET
from remit.guardrails.secret_sources import Fetched, SecretSource

Source: TypeAlias = Literal["environment", "file", "command", "store", "keyring", "missing"]

LONGEST: Final = 16 << 10  # bytes
_LARGEST_STORE: Final = 1 << 20  # characters
_KEYRING: Final = "keyring"
_Kept: TypeAlias = (
    str | dict[Literal["keyring"], Literal[True]]
)  # the value, or a mark that the value is in the keyring
_STORE: Final[TypeAdapter[dict[str, dict[str, _Kept]]]] = TypeAdapter(dict[str, dict[str, _Kept]])


@dataclass(frozen=True, kw_only=True)
class Secret:
    """The value of a secret and where it comes from; `value` is "" for a missing one."""

    name: str
    source: Source
    value: str = ""

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r}, source={self.source!r})"


_FETCHED: Final = Fetched()  # of this process: each run of a service uses what the one before has fetched


class Secrets:
    """The secrets of one workspace. Each read returns the current value. `sources` are the tables `[secrets.NAME]` of remit.toml.

    Of the secrets in `own`, each user has one of their own, and these are those of `user`, "" for nobody's. A variable of the
    environment has no user, so it is not one of them.
    """

    def __init__(
        self,
        root: Path,
        sources: Mapping[str, SecretSource] | None = None,
        fetched: Fetched = _FETCHED,
        *,
        own: Collection[str] = (),
        user: str = "",
    ) -> None:
        self._root = str(root.resolve())
        self._sources = sources or {}
        self._fetched = fetched
        self._own = frozenset(own)
        self._user = user
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
        self._store = Path(base) / "remit" / "secrets.json"

    def get(self, name: str) -> Secret:
        """Read one secret.

        Raises:
            UsageError: other accounts can read its file, its command fails, or its value is not valid.
        """
        match self._place(name):
            case "environment", value:
                return Secret(name=name, source="environment", value=check_value(name, value))
            case "file", path:
                return Secret(name=name, source="file", value=check_value(name, self._of_file(path, name)))
            case "command", _:
                try:
                    value = self._fetched.value(self._source(name), self._root)
                except UsageError as failure:
                    raise UsageError(f"secret {name!r} has no value: {failure}") from failure
                return Secret(name=name, source="command", value=check_value(name, value))
            case _:
                return self._kept(name)

    def _place(self, name: str) -> tuple[Source, str]:
        """Where the value is looked for: the environment with the value, a file with its path, a command, or the store."""
        variable = f"REMIT_SECRET_{name.upper()}"
        if name not in self._own:
            if (value := os.environ.get(variable)) is not None:
                return "environment", value
            if (path := os.environ.get(f"{variable}_FILE")) is not None:
                return "file", path
        if name not in self._sources:
            return "store", ""
        source = self._source(name)
        return ("file", source.file) if source.file else ("command", "")

    def _source(self, name: str) -> SecretSource:
        """The table of the secret; INVARIANT: of a secret that each user has of their own, that of this user only."""
        if name not in self._own:
            return self._sources[name]
        try:
            return self._sources[name].of_user(self._user)
        except UsageError as failure:
            raise UsageError(f"secret {name!r} belongs to each user: {failure}") from None

    def _of_file(self, path: str, name: str) -> str:
        # Resolved first: a mounted secret is a link, which its system moves to each new version.
        found = os.path.realpath(os.path.join(self._root, path))
        try:
            return _read(Path(found)).rstrip("\r\n")
        except FileNotFoundError:
            variable = f"REMIT_SECRET_{name.upper()}_FILE"
            where, fix = (f" of {variable}", ", or unset the variable") if variable in os.environ else ("", "")
            raise UsageError(f"file {path}{where} does not exist: correct the path{fix}") from None

    def _kept(self, name: str) -> Secret:
        stored = of_user(name, self._user) if name in self._own else name
        kept = self._stored().get(stored)
        if kept is None:
            return Secret(name=name, source="missing")
        if not isinstance(kept, str):
            value = _keyring().get_password(self._service, stored)
            if value is None:
                return Secret(name=name, source="missing")
            return Secret(name=name, source="keyring", value=check_value(name, value))
        return Secret(name=name, source="store", value=check_value(name, kept))

    def source(self, name: str) -> Source:
        """Where the value of the secret comes from; no command runs."""
        found, _ = self._place(name)
        return self._kept(name).source if found == "store" else found

    def changes(self, name: str) -> bool:
        """True if the value may change while Remit runs: another system keeps it, or each user sets their own."""
        return name in self._own or self._place(name)[0] in ("file", "command")

    def users(self, name: str) -> tuple[str, ...]:
        """The users of whom the store has such a secret."""
        prefix = of_user(name, "")
        return tuple(sorted(stored.removeprefix(prefix) for stored in self._stored() if stored.startswith(prefix)))

    def values(self, names: Iterable[str]) -> dict[str, str]:
        """The values of these secrets.

        Raises:
            UsageError: one of them is missing; the message names the command that sets it.
        """
        secrets = [self.get(name) for name in names]
        for secret in secrets:
            if secret.source == "missing":
                raise UsageError(self.missing(secret.name))
        return {secret.name: secret.value for secret in secrets}

    def missing(self, name: str) -> str:
        """That the secret has no value, and what to do."""
        if name not in self._own:
            return f"secret {name!r} is not set: run `remit secret set {name}`"
        if not self._user:
            return f"secret {name!r} belongs to each user, and nobody is the user here: name one"
        return f"secret {name!r} is not set for {self._user}: run `remit secret set {name} --user {self._user}`"

    def present(self, names: Iterable[str]) -> dict[str, str]:
        """The values of those of these secrets that are set. No command runs: it counts only if it has run already."""
        every: dict[str, str] = {}
        for name in names:
            if self._place(name)[0] == "command":
                every[name] = self._fetched.present(self._source(name), self._root)
            else:
                every[name] = self.get(name).value
        return {name: value for name, value in every.items() if value}

    def set(self, name: str, value: str, *, keyring: bool = False) -> Source:
        """Store a secret for this workspace.

        Raises:
            UsageError: the value is not valid, or other accounts can read the store.
        """
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
            raise UsageError(
                f"{self._store} is not a valid secret store: move it away and set the secrets again"
            ) from None

    def _write(self, text: str) -> None:
        """Replace the store atomically; other accounts can never read it."""
        temporary = self._store.with_name(f".secrets.{os.getpid()}")
        with suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(self._store)


def of_user(name: str, user: str) -> str:
    """The name under which the store has the secret of that user; no other secret has such a name."""
    return f"{name}@{user}"


class RunSecrets:
    """The secrets that the calls of one run use. What another system keeps is read again for each call.

    INVARIANT: the sanitizer of the run knows a value before a call gets it: see `watch`.
    """

    def __init__(self, values: Mapping[str, str], secrets: Secrets | None = None, changing: Iterable[str] = ()) -> None:
        self._values = dict(values)
        self._secrets = secrets
        self._changing = frozenset(changing)
        self._seen = set(values.values())
        self._watching: list[Callable[[Collection[str]], None]] = []

    @classmethod
    def opened(cls, secrets: Secrets, names: Iterable[str]) -> RunSecrets:
        """The present values of these secrets. One that another system does not give now is refused when a call needs it.

        Raises:
            UsageError: one is missing; the message names the command that sets it.
        """
        changing = [name for name in names if secrets.changes(name)]
        found = cls(secrets.values(name for name in names if name not in changing), secrets, changing)
        for name in changing:
            with suppress(UsageError):
                found.read([name])
        return found

    @property
    def values(self) -> tuple[str, ...]:
        """Every value that this run has known, also those that have changed since."""
        return tuple(self._seen)

    def watch(self, learn: Callable[[Collection[str]], None]) -> None:
        """Let `learn` get each new value before a call gets it."""
        self._watching.append(learn)

    def has(self, name: str) -> bool:
        """True if the secret is set, or another system keeps it."""
        return name in self._values or name in self._changing

    def read(self, names: Iterable[str]) -> dict[str, str]:
        """The present values of these secrets. It may run commands, which block. Raises UsageError for one without a value."""
        return {name: self._current(name) for name in names}

    async def current(self, names: Sequence[str]) -> dict[str, str]:
        """As `read`, without blocking the event loop."""
        return self.read(names) if self._changing.isdisjoint(names) else await in_own_thread(self.read, names)

    def _current(self, name: str) -> str:
        if name not in self._changing:
            return self._values[name]
        assert self._secrets is not None  # `opened` gives both
        value = self._secrets.values((name,))[name]
        if value not in self._seen:
            for learn in self._watching:
                learn((value,))
            self._seen.add(value)
        return value


def check_value(name: str, value: str) -> str:
    """Check the value of a secret and return it.

    Raises:
        UsageError: the value is too short to be redacted, or could break out of an HTTP header.
    """
    if len(value) < SHORTEST_SECRET:
        raise UsageError(f"secret {name!r} is too short to be redacted: use at least {SHORTEST_SECRET} characters")
    if len(value.encode("utf-8", "replace")) > LONGEST or not value.isascii() or not value.isprintable():
        raise UsageError(f"secret {name!r} must be one line of printable ASCII of at most {LONGEST} bytes")
    return value


def _read(path: Path) -> str:
    """Read a file that only this account can read.

    Raises:
        FileNotFoundError: there is no such file.
        UsageError: the file cannot be read, or another account owns it or can read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as failure:
        raise UsageError(f"secret file {path} cannot be read: {failure.strerror}") from failure
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
            raise UsageError(f"secret file {path} is not a regular file of this account: change its owner")
        if status.st_mode & 0o077:
            raise UsageError(f"other accounts can read the secret file {path}: run `chmod 600 {path}`")
        with os.fdopen(descriptor, encoding="utf-8", errors="replace", closefd=False) as file:
            return file.read(_LARGEST_STORE)
    finally:
        os.close(descriptor)


def _keyring() -> Any:
    try:
        return import_module("keyring")
    except ImportError:
        raise UsageError("the keyring package is not installed: run `pip install 'remit[keyring]'`") from None
