"""Records what a tool tried to access and was not granted, from the audit events of its interpreter.

Standard library only. It runs together with untrusted code: what it records helps the author of the tool, and is never
a reason to allow anything.
"""

from __future__ import annotations

import os
import sys
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from remit.sandbox.guest.serving import beneath, readable
else:
    from serving import beneath, readable

_NOTHING = "nothing: a tool reaches only its working folder"
_LONGEST = 2_000
_MOST = 20
_IMPORTS = ("<frozen importlib", "<frozen zipimport")  # the import system tries many paths that do not exist


class Watch:
    """Records each access that was not granted, with the line of the manifest that would allow it.

    It gets Python's audit events (PEP 578), so it also sees what the tool caught and hid, and does not see what a C
    library opens. `paused` is True while the code of the sandbox itself works.
    """

    def __init__(self) -> None:
        self.refused: list[dict[str, str]] = []
        self.variables: set[str] = set()  # those that exist and were read, if that is observed
        self.lacking: set[str] = set()  # those that the tool's own code looked up and did not find
        self.paused = True
        sys.addaudithook(self._on_audit_event)

    def observe(self) -> None:
        """Record environment variables, too.

        Reading one is neither an audit event nor a system call, so `os.environ` is wrapped.
        """
        given = frozenset(os.environ)
        kind: Any = type(os.environ)
        read = kind.__getitem__

        def recorded(environment: Any, name: Any) -> Any:
            if not self.paused:
                self._read(os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name), given)
            return read(environment, name)

        kind.__getitem__ = recorded

    def _read(self, name: str, given: frozenset[str]) -> None:
        """Record a variable that exists.

        A missing one only counts if the tool's own code looked it up: libraries try many.
        """
        frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage] - as below
        while frame.f_back is not None and frame.f_code.co_filename.startswith(("<frozen", os.__file__)):
            frame = frame.f_back
        if name in given:
            self.variables.add(name)
        elif beneath(frame.f_code.co_filename, [self._code]):
            self.lacking.add(name)

    def begin(self, boundary: Mapping[str, Any], layout: Mapping[str, Any]) -> None:
        """Record from now on, with this boundary and what this call grants."""
        self._root: str = boundary["root"]
        self._code: str = boundary["code"]
        self._scratch: str = boundary["scratch"]
        self._mirrored: bool = layout["mirrored"]
        self._reads = {os.path.join(self._root, name) for name in layout["reads"]}
        self._whole = [os.path.normpath(os.path.join(self._root, name)) for name in layout["whole"]]
        self._stores = [os.path.join(self._root, "stores", name) for name in boundary["stores"]]
        self._read_stores = [os.path.join(self._root, "stores", name) for name in boundary["read_stores"]]
        roots = [boundary["network"]["roots"]] if boundary["network"] else []
        self._readable = [*readable(boundary), *roots, "/dev/null", "/dev/zero", "/dev/urandom"]
        self._own = [self._scratch, boundary["temporary"], "/dev/null"]
        self._programs = bool(boundary["programs"])
        self._network = bool(boundary["network"])
        self.refused = []
        self.paused = False

    def _on_audit_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paused:
            return
        try:
            if event == "open":
                if not _importing():
                    self._opened(arguments[0], arguments[2])
            elif event == "sqlite3.connect":
                self._connected(arguments[0])
            elif event in ("os.listdir", "os.scandir"):
                if not _importing():
                    self._opened(arguments[0], 0)
            elif event == "socket.__new__":
                if arguments[1] != 1 and not self._network:  # unix sockets can only be pairs, which are allowed
                    self._note("use", "a network socket", 'hosts = ["name:443"]')
            elif event == "socket.getaddrinfo":
                if not self._network or arguments[0] not in ("127.0.0.1", b"127.0.0.1"):
                    self._note("use", f"{arguments[0]}:{arguments[1]}", f'hosts = ["{arguments[0]}:{arguments[1]}"]')
            elif event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system") and not self._programs:
                self._note("use", _program(arguments[0]), f'programs = ["{_program(arguments[0])}"]')
        except Exception:  # noqa: BLE001 - an audit hook that raises would change what the tool sees
            return

    def _connected(self, database: Any) -> None:
        """SQLite opens a file for writing and falls back to reading; the name may be a URI.

        So its open mode shows nothing.
        """
        if not isinstance(database, (str, bytes, os.PathLike)):
            return
        name = os.fsdecode(cast("str | bytes", os.fspath(database)))
        if name in ("", ":memory:"):
            return
        flags = os.O_RDWR
        if name.startswith("file:"):
            uri = urllib.parse.urlsplit(name)
            options = urllib.parse.parse_qs(uri.query)
            name = urllib.parse.unquote(uri.path)
            if options.get("mode") == ["memory"] or name == ":memory:":
                return
            if options.get("mode") == ["ro"] or "immutable" in options:
                flags = os.O_RDONLY
        full = os.path.normpath(os.path.join(os.getcwd(), name))
        if full in self._reads or beneath(full, self._read_stores):
            flags = os.O_RDONLY
        self._opened(name, flags)

    def _opened(self, path: Any, flags: int) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.fsdecode(cast("str | bytes", os.fspath(path)))
        full = os.path.normpath(os.path.join(os.getcwd(), name))
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        # In scratch, a file that was not granted is missing; then the one in the working folder is what the tool meant.
        if self._mirrored and not writes and beneath(full, [self._scratch]) and not os.path.lexists(full):
            full = os.path.join(self._root, os.path.relpath(full, self._scratch))
            if not os.path.lexists(full):
                return
        if beneath(full, self._own) or beneath(full, self._stores):
            return
        read = [*self._readable, *self._whole, *self._read_stores]
        if not writes and (full in self._reads or beneath(full, read)):
            return
        if beneath(full, [self._root]):
            if not writes and not os.path.lexists(full):
                return
            relative = os.path.relpath(full, self._root)
            self._note("write" if writes else "read", relative, f'{"write" if writes else "read"} = ["{relative}"]')
        else:
            self._note("write" if writes else "read", full, _NOTHING)

    def _note(self, access: str, what: str, allow: str) -> None:
        item = {"access": access, "what": what[:_LONGEST], "allow": allow[:_LONGEST]}
        if len(self.refused) < _MOST and item not in self.refused:
            self.refused.append(item)


def _importing() -> bool:
    """True if the import system opens the file: then its frame is the caller of the hook."""
    return sys._getframe(2).f_code.co_filename.startswith(_IMPORTS)  # pyright: ignore[reportPrivateUsage] - no public function gives the caller as cheaply


def _program(value: Any) -> str:
    return os.fsdecode(value).split()[0] if value else ""
