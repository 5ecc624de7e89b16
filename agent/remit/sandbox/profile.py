"""What one call may access, and the command line that builds its sandbox.

`argv` is a pure function: from a profile and a runtime to the whole bubblewrap command line.
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
Life: TypeAlias = Literal["call", "run"]
Kind: TypeAlias = Literal[
    "single", "warm", "live"
]  # a sandbox for one call, for many calls of a Python tool, for those of a run

# What a tool may import besides the standard library and its own folder: pydantic and its dependencies, and parsers of documents,
# as far as they are installed.
PACKAGES: Final = (
    *("pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),
    *("markdown_it", "mdurl", "pypdf"),
)

# What a tool with network access may import, too: httpx and its dependencies.
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
    *("conformance.py", "decoding.py", "serving.py", "watch.py", "kernel.py", "live.py"),
)

FLOATING: Final = "/work/all"  # where a warm tool's supervisor finds the working folders of its calls
# Where the first process of a live sandbox finds the working folders of its run; nothing else can enter the folder above it.
LIVE_FLOATING: Final = "/inside/all"
SERVER_FILES: Final = (
    "/work/files"  # where an MCP server finds the files of a call: a folder below that of its Landlock rule
)
PACKAGES_FOLDER: Final = "/environment"  # where the packages of a tool are mounted in the full tier
OWN_FOLDER: Final = "/tool"  # where the tool's files are mounted in the full tier, the only tier that starts programs
SCRATCH_BYTES: Final = 64 << 20  # for all files of one call in scratch, and for the largest single file
SCRATCH_FILES: Final = 65_536  # files and folders, in the tmpfs that each call of a warm tool has
TEMPORARY_BYTES: Final = 32 << 20
OPEN_FILES: Final = 256
PROCESSES: Final = 64
BASE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - a tmpfs of the sandbox, empty at the start of each call
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",  # numerical libraries start threads at import, and a fork copies none of them
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one authorized call may access, and its limits. An empty field allows nothing.

    code: the absolute folder of the tool.
    root: the absolute working folder. All other paths are relative to it.
    argv: for a command tool, with every placeholder filled; for an MCP server, what starts it.
    reads: canonical files, folders (only their listing), or sets `dir/**`.
    writes: canonical files.
    stores, read_stores: names of folders `stores/<name>`, to read and write, or to read only.
    denied: files that are left out of every set.
    programs: names of the programs that the tool may start.
    env: environment variables.
    wall, cpu: limits in seconds.
    memory, output: limits in bytes.
    workspace, tenant, user: whom the call is for. No process serves two of them. `workspace` is its absolute folder.
    trust: "none" gives each call a sandbox of its own, where nothing but the granted files is mounted.
    life: "run" lets the calls of `run` share one live sandbox, which no other run gets.
    url: of an MCP server that runs elsewhere, so that nothing is started here; "" for all others.
    proc: the process information of the sandbox itself is mounted at /proc.
    environment: the packages that only this tool imports; None: it has none.
    network: the hosts that the call may connect to; None: no network.
    """

    tool: str
    action: str
    source: Literal["python", "command", "mcp"]
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
    workspace: str = ""
    tenant: str = ""
    user: str = ""
    trust: Literal["pinned", "none"] = "pinned"
    life: Life = "call"
    run: str = ""
    proc: bool = False
    url: str = ""
    environment: Environment | None = None
    network: Network | None = None

    @property
    def digest(self) -> str:
        """Recorded with the attempt.

        It covers no absolute path and no value of a variable, so it is the same on every machine.
        """
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
                **({"life": "run"} if self.life == "run" else {}),
                **({"proc": True} if self.proc else {}),
                **({"url": self.url} if self.url else {}),
                **({"environment": self.environment.lock} if self.environment else {}),
                **({"network": self.network.model_dump(mode="json")} if self.network is not None else {}),
            }
        )

    def resolved(self) -> Profile:
        """The profile with its folders resolved. Symlinks in their paths are followed here, once, and never later."""
        root, code = Path(os.path.realpath(self.root)), Path(os.path.realpath(self.code))
        workspace = os.path.realpath(self.workspace) if self.workspace else ""
        return replace(self, root=root, code=code, workspace=workspace)

    @property
    def only_read_stores(self) -> tuple[str, ...]:
        """The stores that the call may read and not write."""
        return tuple(store for store in self.read_stores if store not in self.stores)

    @property
    def root_per_call(self) -> bool:
        """True if each call of a warm tool gets its own working folder, so that several runs can share the tool.

        Not with a store to write: that is mounted once for all calls, and belongs to one working folder.
        """
        return self.tier == "full" and not self.stores

    @property
    def root_mount_source(self) -> str:
        """The folder that a sandbox with one working folder per call mounts. Only its supervisor can enter it."""
        root = os.fspath(self.root)
        return self.workspace if self.workspace and root.startswith(f"{self.workspace}/") else root

    @property
    def starts_programs(self) -> bool:
        return bool(self.programs) or self.source in ("command", "mcp")

    @property
    def stays_warm(self) -> bool:
        """True if processes of the tool may stand by for its next call."""
        return self.source == "python" and not self.starts_programs and self.trust != "none"

    @property
    def stays_live(self) -> bool:
        """True if the call runs in the live sandbox of its run.

        Not with a store to write, which is mounted when a sandbox starts; nor without mounts.
        """
        fits = self.source == "mcp" or (self.source == "command" and set(self.argv[:1]) <= set(self.programs))
        return (
            fits
            and self.trust != "none"
            and self.life == "run"
            and self.run != ""
            and self.tier == "full"
            and not self.stores
        )

    @property
    def executables(self) -> tuple[str, ...]:
        """The programs that the kernel lets the tool start. Names are looked up in the PATH of the sandbox."""
        return self.programs if self.source == "python" else (*self.programs, *self.argv[:1])


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What every sandbox sees of this machine, read-only.

    `folders` are mounted at their own paths. `links` are (target, path) of symlinks in the root folder. `packages` maps
    an import name to its path on this machine; `web` has those for tools with network access. `guest_folder` holds
    `GUEST_FILES`. `account` is the account that root switches to; None: it stays root.
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
        """The packages that the profile's tool may import."""
        if profile.network is None or profile.environment is not None:  # its packages may include another httpx
            return self.packages
        return {**self.packages, **self.web}


@cache
def runtime(bwrap: Path | None) -> Runtime:
    """The runtime of this interpreter: its standard library and libpython, /usr, and the packages of `PACKAGES`."""
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
    # In a virtual environment, `platstdlib` is a folder of the environment, with everything that is installed there.
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
    """The paths that the process of a call sees. `environment` is "" if the tool has no packages of its own."""

    guest_folder: str
    code: str
    environment: str
    root: str
    scratch: str
    temporary: str
    packages: Mapping[str, str]


def places(profile: Profile, runtime: Runtime, base: str = "") -> Places:
    """Fixed paths in the full tier; the paths of this machine in the landlock tier, with scratch under `base`."""
    if profile.tier == "full":
        on_disk = runtime.packages_of(profile)
        packages = {name: f"/packages/{os.path.basename(path)}" for name, path in on_disk.items()}
        return Places(
            guest_folder="/remit",
            code=OWN_FOLDER,
            environment=PACKAGES_FOLDER if profile.environment else "",
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
        packages=runtime.packages_of(profile),
    )


def argv(profile: Profile, runtime: Runtime, files: Sequence[str] = (), *, kind: Kind = "single") -> list[str]:
    """The command line that starts `inside.py` in the profile's tier.

    INVARIANT: nothing secret is on it, because every process of the machine can read it. Variables are sent later, in
    the call's frame. `files` are the files of the working folder that a tool without trust gets.
    """
    at = places(profile, runtime)
    python = [runtime.python, "-I", "-S", "-B", "-X", "utf8", f"{at.guest_folder}/inside.py"]
    if profile.tier != "full":
        return python
    assert runtime.bwrap is not None  # `Sandbox.confinement` was checked before
    line = [
        str(runtime.bwrap),
        # Each by name: `--unshare-all` silently skips the user namespace if it may not make one.
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *("--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        # In its own user namespace, and for its first process alone, which mounts and unmounts the scratch folders of
        # calls, reads what a call asks for by `connect`, and enters folders that the tool cannot.
        *("--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SYS_PTRACE", "--cap-add", "CAP_DAC_READ_SEARCH"),
        *("--cap-add", "CAP_SETPCAP"),  # so that the processes it starts can drop them permanently
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
    ]
    # INVARIANT: no mount target lies beneath a folder that a tool can write: a planted symlink would redirect it
    # (CVE-2026-87766).
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
    line += _working_folder(profile, files, kind)
    line += ["--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp", "--size", str(SCRATCH_BYTES), "--tmpfs", "/scratch"]  # noqa: S108
    line += ["--proc", "/proc"] if profile.proc else []
    line += ["--remount-ro", "/"]  # after the last mount: bubblewrap makes the mount points in this folder
    for name, value in BASE_ENVIRONMENT.items():
        line += ["--setenv", name, value]
    return [*line, "--chdir", "/", "--", *python]


def _working_folder(profile: Profile, files: Sequence[str], kind: Kind) -> list[str]:
    root = str(profile.root)
    if kind == "live":  # mode 0000, as below; the files of a call are mounted at /work, while it runs
        inside = ["--perms", "0000", "--dir", "/inside", "--dir", "/inside/tree"]
        work = ["--dir", "/work", "--dir", SERVER_FILES] if profile.source == "mcp" else ["--dir", "/work"]
        return [*work, *inside, "--ro-bind", profile.root_mount_source, LIVE_FLOATING]
    if kind == "warm" and profile.root_per_call:
        # Mode 0000: only the supervisor enters it, by CAP_DAC_READ_SEARCH; the tool's processes have no capability.
        return ["--perms", "0000", "--dir", "/work", "--ro-bind", profile.root_mount_source, FLOATING]
    if profile.trust == "none":
        line = ["--dir", "/work"]
        for name in files:  # a file swapped since the grant is mounted, but Landlock allows the granted inode only
            line += ["--ro-bind-try", f"{root}/{name}", f"/work/{name}"]
        for store in profile.only_read_stores:
            line += ["--ro-bind-try", f"{root}/stores/{store}", f"/work/stores/{store}"]
    else:  # this includes the stores that are only read
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
