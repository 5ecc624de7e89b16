"""Recognizes a container, and names the settings of it that keep namespaces from working."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

Engine: TypeAlias = Literal["kubernetes", "docker", "podman", ""]

_MARKS: Final[Mapping[str, Engine]] = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
_SECCOMP: Final[Mapping[Engine, str]] = {
    "kubernetes": "securityContext.seccompProfile of the container to {type: Localhost, localhostProfile: remit.json}, where remit.json "
    "is container/seccomp.json of Remit in the folder seccomp/ of the kubelet of each node",
    "docker": "--security-opt seccomp=container/seccomp.json (in compose.yaml: security_opt: [seccomp=./seccomp.json])",
}
_APPARMOR: Final[Mapping[Engine, str]] = {
    "kubernetes": "securityContext.appArmorProfile of the container to {type: Unconfined}",
    "docker": "--security-opt apparmor=unconfined (in compose.yaml: security_opt: [apparmor=unconfined])",
}


def engine() -> Engine:
    """The engine whose container this process is in; "" outside of one. Their environment variables and files say so."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    named = os.environ.get("container", "")  # noqa: SIM112 - its name is in lower case: https://systemd.io/CONTAINER_INTERFACE
    if named:
        return "docker" if named == "docker" else "podman"
    for path, marked in _MARKS.items():
        if os.path.exists(path):
            return marked
    return ""


ACCEPT: Final = (
    'accept the weaker tier with `accept = ["full", "landlock"]` under [sandbox] in remit.toml, which runs Python tools, also with '
    "network, and no programs"
)


def container_fix(*, otherwise: str = ACCEPT) -> str:
    """What to set so that the full tier works in this container, or `otherwise` to do; "" if none of its settings is in the way."""
    if not (found := engine()):
        return ""
    given: Engine = "kubernetes" if found == "kubernetes" else "docker"  # podman has the options of docker
    settings = [_SECCOMP[given]] if _status("Seccomp") == "2" else []
    if _profile().endswith("(enforce)"):
        settings.append(_APPARMOR[given])
    if not settings:  # then it is the machine that forbids namespaces, and not the container
        return ""
    return f"this is a container ({found}): set {', and '.join(settings)}; or {otherwise}"


def _status(name: str) -> str:
    """A field of the status of this process; "" without it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")


def _profile() -> str:
    """The AppArmor profile of this process, such as `docker-default (enforce)`; "" without one."""
    try:
        return Path("/proc/self/attr/apparmor/current").read_text().strip()
    except OSError:
        return ""
