"""What one call may reach, and the command line that builds its room.

`argv` is pure: a profile and a runtime in, the whole bubblewrap command line out.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

from remit.core import Confinement
from remit.core.parsing import digest
from remit.sandbox.egress.permissions import Network
from remit.sandbox.packages.environment import Environment, base_python

Tier: TypeAlias = Literal["full", "landlock"]

# What a tool may import beside the standard library and its own folder: pydantic and what pydantic needs.
PACKAGES: Final = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection")

# And what a tool that reaches the network may import besides: httpx and what httpx needs.
WEB_PACKAGES: Final = ("httpx", "httpcore", "h11", "anyio", "certifi", "idna")

# The files that run in the sandbox.
GUEST_FILES: Final = (
    *(
        "inside.py",
        "guard.py",
        "supervisor.py",
        "base.py",
        "notices.py",
        "scratch_folders.py",
        "onecall.py",
        "outlet.py",
    ),
    *("serving.py", "watch.py", "kernel.py"),
)

FLOATING: Final = "/work/all"  # what holds the working folders of a warm tool's calls
OWN_FOLDER: Final = "/tool"  # where a tool's own files lie in the full tier, the only one that starts programs
SCRATCH_BYTES: Final = 64 << 20  # everything that one call may leave in scratch, and the largest single file
SCRATCH_FILES: Final = 65_536  # as many files and folders, where each call of a warm tool has a file system of its own
TEMPORARY_BYTES: Final = 32 << 20
OPEN_FILES: Final = 256
PROCESSES: Final = 64
BASE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - the sandbox's own, empty at every call
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",  # numerical libraries start threads at import, which a fork does not survive
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One call's confinement, as it was decided.

    `code` and `root` are absolute folders: the tool's own, and the working folder. `reads` are canonical files beneath
    `root`, folders (their own listing), or sets `dir/**`; `writes` are files; `stores` are names of folders
    `stores/<name>` to read and write, `read_stores` of those that are only read; `denied` are files that no set may
    reach. Empty means nothing is allowed. `wall` and `cpu` are seconds, `memory` and `output` bytes. `argv` is for a
    command tool, with every placeholder filled. `environment` holds packages that only this tool imports; None: it has
    none. `trust` "none": each call has a sandbox of its own, in which nothing else of the working folder is even
    mounted. `network` is what of the network the call may reach; None: the tool has none. `tenant` and `user` are whom
    the call is for: no process serves two of them.
    """

    tool: str
    action: str
    source: Literal["python", "command"]
    code: Path
    root: Path
    argv: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    read_stores: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    wall: float = 5.0
    cpu: float = 2.0
    memory: int = 256 << 20
    output: int = 64 << 10
    tier: Confinement = "full"
    tenant: str = ""
    user: str = ""
    trust: Literal["pinned", "none"] = "pinned"
    environment: Environment | None = None
    network: Network | None = None

    @property
    def digest(self) -> str:
        """What is recorded with the attempt: no absolute path and no value of a variable is part of it."""
        return digest(
            {
                "tool": self.tool,
                "action": self.action,
                "source": self.source,
                "argv": list(self.argv),
                "reads": sorted(self.reads),
                "writes": sorted(self.writes),
                "stores": sorted(self.stores),
                "denied": sorted(self.denied),
                "programs": sorted(self.programs),
                "env": sorted(self.env),
                "limits": {"wall": self.wall, "cpu": self.cpu, "memory": self.memory, "output": self.output},
                "tier": self.tier,
                **({"read_stores": sorted(self.read_stores)} if self.read_stores else {}),
                **({"trust": "none"} if self.trust == "none" else {}),
                **({"environment": self.environment.lock} if self.environment else {}),
                **({"network": self.network.model_dump(mode="json")} if self.network is not None else {}),
            }
        )

    def resolved(self) -> Profile:
        """With folders as the kernel names them: a symlink on the way is followed once, here."""
        root, code = Path(os.path.realpath(self.root)), Path(os.path.realpath(self.code))
        return replace(self, root=root, code=code, tenant=os.path.realpath(self.tenant) if self.tenant else "")

    @property
    def only_read_stores(self) -> tuple[str, ...]:
        """Those that no other part of the decision lets it write."""
        return tuple(store for store in self.read_stores if store not in self.stores)

    @property
    def root_per_call(self) -> bool:
        """Whether each call of a warm tool has its own working folder, so that runs with different ones share the tool.

        A store that is written is mounted once for all calls: what lies there outlasts them.
        """
        return self.tier == "full" and not self.stores

    @property
    def root_mount_source(self) -> str:
        """What a sandbox with floating working folders is started with: no process of the tool can reach into it."""
        root = os.fspath(self.root)
        return self.tenant if self.tenant and root.startswith(f"{self.tenant}/") else root

    @property
    def starts_programs(self) -> bool:
        return bool(self.programs) or self.source == "command"

    @property
    def executables(self) -> tuple[str, ...]:
        """What the kernel lets the tool start: names are looked up in the sandbox's PATH."""
        return (*self.programs, *self.argv[:1]) if self.source == "command" else self.programs


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What of this machine every sandbox sees, read-only.

    `folders` are bound at their own paths; `links` are (target, path) symlinks of the root folder; `packages` maps an
    import name to its path on this machine, `web` those that only tools with network see; `inside` is the folder that
    holds the files of `GUEST_FILES`. `account` is who root becomes.
    """

    bwrap: Path | None
    python: str
    folders: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    packages: Mapping[str, str]
    guest_folder: str
    account: int | None = None
    web: Mapping[str, str] = field(default_factory=dict[str, str])

    def packages_of(self, profile: Profile) -> Mapping[str, str]:
        """What the profile's tool may import."""
        if profile.network is None or profile.environment is not None:  # it may bring an httpx of its own
            return self.packages
        return {**self.packages, **self.web}


@cache
def runtime(bwrap: Path | None) -> Runtime:
    """This interpreter's runtime: its standard library and libpython, /usr, and the few packages of `PACKAGES`."""
    python = base_python()
    folders = ["/usr"]
    links: list[tuple[str, str]] = []
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if os.path.islink(path):
            links.append((os.readlink(path).lstrip("/"), path))
        elif os.path.isdir(path):
            folders.append(path)
    for path in ("/nix/store", "/etc/ld.so.cache", "/etc/alternatives"):
        if os.path.exists(path):
            folders.append(path)
    # In a virtual environment `platstdlib` would be the environment's own, with all that is installed there.
    compiled = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})
    candidates: list[str] = [python, sysconfig.get_path("stdlib"), compiled]
    library: str | None = sysconfig.get_config_var("LIBDIR")
    for name in ("INSTSONAME", "LDLIBRARY"):
        shared: str | None = sysconfig.get_config_var(name)
        if library and shared and ".so" in shared:
            candidates.append(os.path.join(library, shared))
    for path in dict.fromkeys(candidates):
        if os.path.exists(path) and not any(_beneath(path, folder) for folder in folders):
            folders.append(path)
    return Runtime(
        bwrap=bwrap,
        python=python,
        folders=tuple(folders),
        links=tuple(links),
        packages={name: place for name in PACKAGES if (place := _package(name))},
        web={name: place for name in WEB_PACKAGES if (place := _package(name))},
        guest_folder=os.path.join(os.path.dirname(os.path.realpath(__file__)), "guest"),
    )


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a call finds things, as paths that hold inside its tier. `environment` is "" where the tool has none."""

    guest_folder: str
    code: str
    environment: str
    root: str
    scratch: str
    temporary: str
    packages: Mapping[str, str]


def places(profile: Profile, runtime: Runtime, base: str = "") -> Places:
    """The paths of the full tier are fixed. Those of the Landlock tier are this machine's own, scratch under `base`."""
    if profile.tier == "full":
        found = runtime.packages_of(profile)
        packages = {name: f"/packages/{os.path.basename(path)}" for name, path in found.items()}
        return Places(
            guest_folder="/remit",
            code=OWN_FOLDER,
            environment="/environment" if profile.environment else "",
            root="/work",
            scratch="/scratch",
            temporary="/tmp",  # noqa: S108
            packages=packages,
        )
    return Places(
        guest_folder=runtime.guest_folder,
        code=str(profile.code),
        environment=profile.environment.site if profile.environment else "",
        root=str(profile.root),
        scratch=f"{base}/scratch",
        temporary=f"{base}/tmp",  # noqa: S108
        packages=runtime.packages,
    )


def argv(profile: Profile, runtime: Runtime, files: Sequence[str] = (), *, warm: bool = False) -> list[str]:
    """The command line that starts `inside.py` in the profile's tier. Nothing secret is on it: variables travel later.

    `files` are those that a tool without trust is given, of the working folder, and no other. `warm`: it serves many calls.
    """
    at = places(profile, runtime)
    python = [runtime.python, "-I", "-S", "-B", "-X", "utf8", f"{at.guest_folder}/inside.py"]
    if profile.tier != "full":
        return python
    assert runtime.bwrap is not None  # the sandbox looks before it starts a call
    line = [
        str(runtime.bwrap),
        # Each by name: `--unshare-all` silently leaves the user namespace out where it may not make one.
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        # Of its own namespace, and of its first process alone: it mounts what a call writes to, and takes it out again.
        *("--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SYS_PTRACE", "--cap-add", "CAP_DAC_READ_SEARCH"),
        *("--cap-add", "CAP_SETPCAP"),  # so that what it starts can give them up for good
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
    ]
    # INVARIANT: no mount target lies beneath a folder that a tool can write, or a planted symlink would redirect it.
    for folder in runtime.folders:
        line += ["--ro-bind", folder, folder]
    for target, path in runtime.links:
        line += ["--symlink", target, path]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        line += ["--dev-bind", device, device]
    for name in GUEST_FILES:
        line += ["--ro-bind", f"{runtime.guest_folder}/{name}", f"/remit/{name}"]
    for name, path in runtime.packages_of(profile).items():
        line += ["--ro-bind", path, at.packages[name]]
    line += ["--ro-bind", str(profile.code), at.code]
    if profile.environment is not None:
        line += ["--ro-bind", profile.environment.site, at.environment]
    line += _working_folder(profile, files, warm=warm)
    line += ["--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp", "--size", str(SCRATCH_BYTES), "--tmpfs", "/scratch"]  # noqa: S108
    line += ["--remount-ro", "/"]
    for name, value in BASE_ENVIRONMENT.items():
        line += ["--setenv", name, value]
    return [*line, "--chdir", "/", "--", *python]


def _working_folder(profile: Profile, files: Sequence[str], *, warm: bool) -> list[str]:
    root = str(profile.root)
    if warm and profile.root_per_call:
        # Nobody but a first process with the right to pass it may enter the folder that it lies in.
        return ["--perms", "0000", "--dir", "/work", "--ro-bind", profile.root_mount_source, FLOATING]
    if profile.trust == "none":
        line = ["--dir", "/work"]
        for name in files:  # one that is gone, or swapped for another, was granted as an inode and is refused as a name
            line += ["--ro-bind-try", f"{root}/{name}", f"/work/{name}"]
        for store in profile.only_read_stores:
            line += ["--ro-bind-try", f"{root}/stores/{store}", f"/work/stores/{store}"]
    else:  # a store that is only read is a part of it
        line = ["--ro-bind", root, "/work"]
    for store in profile.stores:
        line += ["--bind", f"{root}/stores/{store}", f"/work/stores/{store}"]
    return line


def _beneath(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _package(name: str) -> str | None:
    """The folder or file of one import name, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    return spec.submodule_search_locations[0] if spec.submodule_search_locations else spec.origin
