"""Opens the granted files beneath the working folder. What the call may then access is the opened inode, not a name.

Every path is opened relative to the folder's descriptor, and no symlink is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remit.core import Json, Refusal
from remit.core.parsing import is_name
from remit.sandbox.guest import kernel
from remit.sandbox.profile import Profile
from remit.sandbox.scratch import Scratch, make_folders

MOST_FILES: Final = 2_000
MOST_WRITES: Final = 64  # one message holds their descriptors
_DEEPEST: Final = 64
_PROTECTED: Final = ("policies", "tools", "agent", "traces", "remit.toml")


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """The files and folders of a set, canonical and sorted.

    `denied` and `odd` count what was left out: files that are not allowed; symlinks, devices, sockets, names that are
    not text.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...]
    denied: int
    odd: int


def expand(root: Path, pattern: str, allowed: Callable[[str], bool]) -> Expansion:
    """Every file of the set `dir/**` beneath `root` that `allowed` accepts. A folder that does not exist has no files.

    Raises:
        Refusal: `resource_exhausted` for more than `MOST_FILES` files or folders.
    """
    descriptor = open_root(root)
    try:
        return expand_beneath(descriptor, folder_of(pattern), allowed)
    finally:
        os.close(descriptor)


def stores_of(root: Path, group: str) -> tuple[str, ...]:
    """The names of the folders in `stores/GROUP` beneath `root`, sorted; none if there is no such folder.

    Raises:
        Refusal: `resource_exhausted` for more than `MOST_FILES` entries.
    """
    names: list[str] = []
    descriptor = open_root(root)
    try:
        folder = kernel.open_beneath(descriptor, f"stores/{group}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return ()
        raise
    finally:
        os.close(descriptor)
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == MOST_FILES:
                    raise Refusal("resource_exhausted", f"'stores/{group}' holds more than {MOST_FILES} stores")
                if _is_text(entry.name) and entry.is_dir(follow_symlinks=False) and is_name("store", entry.name):
                    names.append(entry.name)
    finally:
        os.close(folder)
    return tuple(sorted(names))


def folder_of(pattern: str) -> str:
    """`docs` of `docs/**`; `.` of `**` and `./**`."""
    return pattern.removesuffix("**").rstrip("/") or "."


def is_set(name: str) -> bool:
    return name == "**" or name.endswith("/**")


def expand_beneath(root: int, start: str, allowed: Callable[[str], bool]) -> Expansion:
    # A stack instead of recursion: the depth of the folders is the working folder's, not ours.
    walk = _FolderWalk(start, allowed)
    while walk.waiting:
        folder = walk.waiting.pop()
        if folder.count("/") > _DEEPEST:
            raise Refusal(
                "resource_exhausted",
                f"{start!r} is nested deeper than {_DEEPEST} folders",
                next_step="name a folder further down",
            )
        try:
            descriptor = kernel.open_beneath(root, folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as failure:
            # Removed or swapped for a symlink since its parent was listed, or closed to this account: it has no files.
            if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                continue
            raise
        walk.folders.append(folder)
        try:
            walk.read_folder(descriptor, folder)
        finally:
            os.close(descriptor)
    return Expansion(
        files=tuple(sorted(walk.files)),
        folders=tuple(sorted(walk.folders)),
        denied=walk.denied,
        odd=walk.odd,
    )


class _FolderWalk:
    """The state of one expansion. `waiting` are folders that are not read yet."""

    def __init__(self, start: str, allowed: Callable[[str], bool]) -> None:
        self._start = start
        self._allowed = allowed
        self._seen = 0
        self.waiting = [start]
        self.files: list[str] = []
        self.folders: list[str] = []
        self.denied = 0
        self.odd = 0

    def read_folder(self, descriptor: int, folder: str) -> None:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                self._add(entry, entry.name if folder == "." else f"{folder}/{entry.name}")
                # Checked at each entry: a single folder can have more names than fit into memory.
                self._seen += 1
                if len(self.files) > MOST_FILES or self._seen > 10 * MOST_FILES:
                    raise Refusal(
                        "resource_exhausted",
                        f"{self._start!r} holds more than {MOST_FILES} files",
                        next_step="name a smaller folder",
                    )

    def _add(self, entry: os.DirEntry[str], name: str) -> None:
        if not _is_text(name):
            self.odd += 1
        elif entry.is_dir(follow_symlinks=False):
            self.waiting.append(name)
        elif not entry.is_file(follow_symlinks=False):
            self.odd += 1
        elif self._allowed(name):
            self.files.append(name)
        else:
            self.denied += 1


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return name.isprintable()


def open_root(root: Path) -> int:
    return os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


@dataclass(frozen=True, kw_only=True)
class FileGrant:
    """One descriptor that the call is narrowed to. `kind` decides which Landlock rights it gets."""

    descriptor: int
    kind: str  # "file" | "list" | "store" | "read_store"


class GrantedFiles:
    """The granted files of one call, beneath its working folder.

    Owns a descriptor of that folder until `close` or `scratch`.

    `mirrored` is True if the tool works in scratch, where the granted files appear under their own names. That is
    needed if it writes, if it lists a folder, or if it may see only a part of a set.

    Raises:
        Refusal: the working folder does not exist, or what was granted cannot be opened as granted.
    """

    def __init__(self, profile: Profile, allowed: Callable[[str], bool]) -> None:
        self._profile = profile
        _refuse_protected(profile)
        denied = frozenset(profile.denied)
        try:
            self.root = open_root(profile.root)
        except FileNotFoundError as failure:
            raise Refusal("invalid_arguments", "the working folder does not exist") from failure
        try:
            # Before the sandbox starts: bubblewrap cannot mount a folder that does not exist.
            for store in profile.stores:
                self._make_store(store)
            self._plan(lambda name: name not in denied and allowed(name))
        except BaseException:
            self.close()
            raise

    def _make_store(self, store: str) -> None:
        try:
            os.close(make_folders(self.root, f"stores/{store}", mode=0o700))
        except OSError as failure:
            if failure.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
                raise Refusal(
                    "sandbox_violation",
                    f"the store 'stores/{store}' cannot be opened: a file or a symlink is on its path",
                    next_step="continue without this tool, and tell the user to remove that file",
                ) from failure
            raise

    def _plan(self, allowed: Callable[[str], bool]) -> None:
        files: dict[str, None] = {}
        folders: dict[str, None] = {}
        listed: dict[str, tuple[str, ...]] = {}
        whole: list[str] = []
        left_out = 0
        for name in self._profile.reads:
            if is_set(name):
                expansion = expand_beneath(self.root, folder_of(name), allowed)
                files |= dict.fromkeys(expansion.files)
                folders |= dict.fromkeys(expansion.folders)
                whole.append(folder_of(name))
                left_out += expansion.denied
            elif self._is_folder(name):
                listed[name] = self._names(name)
            else:
                files[name] = None
        if len(files) > MOST_FILES:
            raise Refusal(
                "resource_exhausted", f"the call reads more than {MOST_FILES} files", next_step="name a smaller folder"
            )
        self.files = tuple(files)
        self.left_out = left_out
        self.mirrored = bool(self._profile.writes or listed or left_out or self._profile.trust == "none")
        # READ_DIR cannot leave single names out, so a folder is listed in place only if all of its files are granted.
        self._whole = () if self.mirrored else tuple(whole)
        self._folders = tuple(folders)
        self._listed = listed

    @property
    def layout(self) -> dict[str, object]:
        """How `onecall` lays out scratch, as JSON."""
        if not self.mirrored:
            return {"mirrored": False, "reads": list(self.files), "writes": [], "whole": list(self._whole)}
        written = set(self._profile.writes)
        links = [name for name in self.files if name not in written]
        for folder, names in self._listed.items():
            links += [name if folder == "." else f"{folder}/{name}" for name in names]
        return {
            "mirrored": True,
            "reads": list(self.files),
            "writes": list(self._profile.writes),
            "whole": [],
            "folders": [*self._folders, *self._listed],
            "links": links,
            "copies": [name for name in self.files if name in written],
            "stores": [*self._profile.stores, *self._profile.only_read_stores],
        }

    @property
    def tree(self) -> dict[str, Json]:
        """What the first process of a live sandbox mounts for the call, as JSON: see `guest/live.py`."""
        written, found = set(self._profile.writes), set(self.files)
        listed = (
            name if folder == "." else f"{folder}/{name}" for folder, names in self._listed.items() for name in names
        )
        return {
            "folders": [*self._folders, *self._listed],
            "files": [name for name in self.files if name not in written],
            "listed": [name for name in listed if name not in found],
            "copies": [name for name in self.files if name in written],
            "writes": list(self._profile.writes),
            "stores": list(self._profile.only_read_stores),
        }

    def grants(self) -> Iterator[FileGrant]:
        """Open each granted file, folder and store; the caller closes the descriptors.

        What is missing or is a symlink is skipped: the tool then finds no such file.
        """
        for name in self.files:
            yield from self._grant(name, "file", stat.S_ISREG)
        for name in self._whole:
            yield from self._grant(name, "list", stat.S_ISDIR)
        for name in self._profile.stores:
            yield from self._grant(f"stores/{name}", "store", stat.S_ISDIR)
        for name in self._profile.only_read_stores:
            yield from self._grant(f"stores/{name}", "read_store", stat.S_ISDIR)

    def scratch(self, files: Mapping[str, int], removed: tuple[str, ...]) -> Scratch:
        """The written files.

        `Scratch` now owns the descriptor of the working folder, until it is committed or discarded.
        """
        root, self.root = self.root, -1
        return Scratch(root, files, removed)

    def close(self) -> None:
        if self.root >= 0:
            os.close(self.root)
            self.root = -1

    def _grant(self, name: str, kind: str, fits: Callable[[int], bool]) -> Iterator[FileGrant]:
        # O_PATH opens without effect, also a fifo or a device. Its type is checked on the descriptor: the name could be
        # swapped between a check and the opening.
        try:
            descriptor = kernel.open_beneath(self.root, name, os.O_PATH | os.O_NOFOLLOW)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EACCES):
                return
            raise
        if fits(os.fstat(descriptor).st_mode):
            yield FileGrant(descriptor=descriptor, kind=kind)
        else:
            os.close(descriptor)

    def _is_folder(self, name: str) -> bool:
        try:
            os.close(kernel.open_beneath(self.root, name, os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
        return True

    def _names(self, folder: str) -> tuple[str, ...]:
        descriptor = kernel.open_beneath(self.root, folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = [name for name in os.listdir(descriptor) if _is_text(name)]
        finally:
            os.close(descriptor)
        if len(names) > MOST_FILES:
            raise Refusal(
                "resource_exhausted",
                f"{folder!r} holds more than {MOST_FILES} names",
                next_step="name a smaller folder",
            )
        return tuple(sorted(names))


def _refuse_protected(profile: Profile) -> None:
    """Refuse writes to the workspace's own folders and to version control, whatever the policy allows."""
    if not profile.writes:
        return
    # A second check, besides the policy: a rule that allows too much must not let a tool change its own rules or pins.
    is_workspace = (profile.root / "remit.toml").exists()
    for name in profile.writes:
        parts = name.split("/")
        if is_set(name) or ".." in parts or name.startswith("/"):
            raise Refusal("invalid_arguments", f"{name!r} does not name a single file to write")
        if ".git" in parts or parts[0] == "stores" or (is_workspace and parts[0] in _PROTECTED):
            raise Refusal("policy_denied", f"no tool may write {name!r}")
    if len(profile.writes) > MOST_WRITES:
        raise Refusal(
            "resource_exhausted",
            f"the call names more than {MOST_WRITES} files to write",
            next_step="name fewer files in one call",
        )
