"""Runs a command as a container engine does: no capabilities, no new privileges, and a seccomp profile in the engines' format.

    python -m support.container PROFILE.json CAPABILITIES COMMAND…

libseccomp loads the profile, as it does in runc and crun. `ordinary` derives what engines use without further settings from
the profile of `container/seccomp.json`: no new namespaces and no mounts.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any, Final

from support import ROOT

PROFILE: Final = ROOT / "container" / "seccomp.json"
# Docker's default has these for CAP_SYS_ADMIN or CAP_SYS_PTRACE only.
# https://github.com/moby/profiles/blob/main/seccomp/default.json
PRIVILEGED: Final = frozenset(
    (
        *("mount", "umount", "umount2", "pivot_root", "unshare", "setns", "open_tree", "move_mount", "mount_setattr"),
        *(
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "pidfd_getfd",
            "keyctl",
            "add_key",
            "request_key",
            "clone",
            "clone3",
        ),
    )
)
NEW_NAMESPACES: Final = 2114060288  # the flags of `clone` that Docker refuses
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_OPS: Final = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_OTHER_ARCHES: Final = (0x40000003, 0x4000003E)  # i386 and x32, whose calls would otherwise end the process
_ARCHES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def ordinary() -> dict[str, Any]:
    """The profile of a container without settings of its own."""
    profile: dict[str, Any] = json.loads(PROFILE.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in PRIVILEGED]
    refused = sorted(PRIVILEGED - {"clone", "clone3"})
    threads = {"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    profile["syscalls"] += [
        {"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [threads]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
    ]
    return profile


def load(profile: dict[str, Any]) -> None:
    """Load the profile for this process and all that it starts."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    filter_ = ctypes.c_void_p(library.seccomp_init(_ERRNO | profile["defaultErrnoRet"]))
    arch = _ARCHES[os.uname().machine]
    for token in _OTHER_ARCHES if arch == "amd64" else ():
        assert library.seccomp_arch_add(filter_, ctypes.c_uint32(token)) == 0
    for rule in profile["syscalls"]:
        if arch not in rule.get("includes", {}).get("arches", [arch]):
            continue
        action = _ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else _ERRNO | rule.get("errnoRet", errno.EPERM)
        compared = [
            Comparison(item["index"], _OPS[item["op"]], item["value"], item["valueTwo"])
            for item in rule.get("args", [])
        ]
        array = (Comparison * len(compared))(*compared)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0 and action != _ERRNO | profile["defaultErrnoRet"]:
                code = library.seccomp_rule_add_array(filter_, ctypes.c_uint32(action), number, len(compared), array)
                assert code in (0, -errno.EEXIST), f"{name}: {os.strerror(-code)}"
    assert library.seccomp_load(filter_) == 0


def drop_capabilities(kept: frozenset[int]) -> None:
    """Drop every capability but those, also for programs that are started."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if number not in kept:
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
    if os.geteuid() == 0:
        low = sum(1 << number for number in kept)
        libc.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", low, low, low, 0, 0, 0))


def main() -> None:
    profile, kept, *command = sys.argv[1:]
    drop_capabilities(frozenset(map(int, filter(None, kept.split(",")))))
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    load(json.loads(Path(profile).read_text()))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
