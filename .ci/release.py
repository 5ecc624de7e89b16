"""Rehearses a release: builds what it publishes twice, installs it, and says what is inside. Publishes nothing.

    python3 .ci/release.py [--root FOLDER]

Writes into `.cache/release`: the wheel and the sdist, equal in two builds from different places; `sbom.cdx.json` (CycloneDX 1.6)
with every distribution that the wheel and its extras install, and with `--root` every Debian package of that root of an image;
`licenses.md`; `SHA256SUMS`. Exit 1 if a build differs, a distribution is not listed, or a licence does not fit Apache-2.0.
Standard library only; `make release` installs hatchling, uv and cyclonedx-bom before it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / ".cache" / "release"
BIN = ROOT / ".venv" / "bin"
# Builds must not depend on these: the second one has others.
PLACES = (("a", "022", "UTC0"), ("a-folder-with-a-longer-name", "077", "XXX-9"))
# The licences that a distribution may have beside Apache-2.0 code that imports it unchanged. LGPL: see `postgres` in pyproject.toml.
FITTING = re.compile(
    r"apache|\bmit\b|bsd|isc\b|psf|python software foundation|mozilla public license 2|mpl-2|unlicense|zlib|0bsd|cc0|lgpl",
    re.I,
)
DISTRIBUTIONS = """
import json
from importlib.metadata import distributions

def licence(found):
    metadata = found.metadata
    classes = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    stated = metadata["License-Expression"] or ", ".join(classes) or (metadata["License"] or "").strip().partition(chr(10))[0]
    files = [one for one in found.files or () if "dist-info" in str(one) and "licen" in one.name.lower()]
    return stated or ", ".join(" ".join(one.read_text().split()[:6]) for one in files)

print(json.dumps([[found.metadata["Name"], found.version, licence(found)] for found in distributions()]))
"""


class Stop(Exception):
    """What is wrong with the release, in one sentence."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Rehearse a release; publish nothing.")
    parser.add_argument(
        "--root", type=Path, help="the unpacked root of the image, whose Debian packages belong into the SBOM"
    )
    asked = parser.parse_args()
    try:
        rehearse(asked.root)
    except Stop as stop:
        print(f"error: {stop}", file=sys.stderr)
        return 1
    return 0


def rehearse(root: Path | None) -> None:
    version = checked_version()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    wheel, sdist = built_twice(OUT)
    print(f"version {version}: two builds from different places are equal, byte for byte")
    with tempfile.TemporaryDirectory(prefix="remit-release-") as made:
        python = installed(wheel, Path(made))
        found = distributions_of(python)
        bom = bill_of_materials(python, root)
    check_listed(found, bom)
    (OUT / "sbom.cdx.json").write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")
    (OUT / "licenses.md").write_text(licence_list(found))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(OUT.iterdir())]
    (OUT / "SHA256SUMS").write_text("".join(sums))
    print(
        f"{len(found)} distributions, {len(bom['components'])} components in sbom.cdx.json; every licence fits Apache-2.0"
    )
    print(f"{wheel.name}, {sdist.name} and their lists are in {OUT.relative_to(ROOT)}/; nothing was published")


def checked_version() -> str:
    """The version of pyproject.toml, which the changelog must begin with."""
    version = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    if newest is None or newest[1] != version:
        raise Stop(
            f"CHANGELOG.md begins with {newest and newest[1]}, and pyproject.toml says {version}: write what is new"
        )
    return version


def built_twice(out: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of the commit that is checked out, in the folder `out`. What is not committed is not part of them."""
    source = run(["git", "archive", "HEAD"], ROOT).stdout
    builds: list[Mapping[str, bytes]] = []
    with tempfile.TemporaryDirectory(prefix="remit-build-") as made:
        for name, mask, zone in PLACES:
            folder = Path(made) / name
            umask = os.umask(int(mask, 8))
            try:
                with tarfile.open(fileobj=BytesIO(source)) as archive:
                    # Python before 3.11.4, which Debian 12 has, knows no filters. The archive is our own commit.
                    archive.extraction_filter = getattr(tarfile, "data_filter", None)
                    archive.extractall(folder)
                line = [str(BIN / "python"), "-m", "hatchling", "build", "-d", str(folder / "dist")]
                run(line, folder, {"TZ": zone, "PYTHONPATH": ""})
            finally:
                os.umask(umask)
            builds.append({path.name: path.read_bytes() for path in (folder / "dist").iterdir()})
    one, other = builds
    if different := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
        raise Stop(f"two builds differ in {', '.join(different)}")
    for name, content in one.items():
        (out / name).write_bytes(content)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def installed(wheel: Path, folder: Path) -> Path:
    """The interpreter of a new environment with the wheel and the locked versions of everything that its extras ask for."""
    uv, python = str(BIN / "uv"), folder / "env" / "bin" / "python"
    run([uv, "venv", "-q", "--python", str(BIN / "python"), str(folder / "env")], ROOT)
    locked = [uv, "export", "-q", "--frozen", "--no-default-groups", "--all-extras", "--no-emit-project"]
    (folder / "locked.txt").write_bytes(run(locked, ROOT).stdout)
    install = [uv, "pip", "install", "-q", "--python", str(python), "--no-deps"]
    run([*install, "--require-hashes", "-r", str(folder / "locked.txt")], ROOT)
    run([*install, str(wheel)], ROOT)
    run([uv, "pip", "check", "-q", "--python", str(python)], ROOT)
    return python


def distributions_of(python: Path) -> Sequence[tuple[str, str, str]]:
    """Name, version and licence of every distribution that an interpreter finds."""
    found = json.loads(run([str(python), "-I", "-c", DISTRIBUTIONS], ROOT).stdout)
    return sorted((name, version, licence) for name, version, licence in found)


def bill_of_materials(python: Path, root: Path | None) -> dict[str, Any]:
    line = [
        str(BIN / "cyclonedx-py"),
        "environment",
        "--output-reproducible",
        "--pyproject",
        "pyproject.toml",
        str(python),
    ]
    bom: dict[str, Any] = json.loads(run(line, ROOT).stdout)
    bom["components"] += [] if root is None else list(debian_components(root))
    return bom


def debian_components(root: Path) -> Iterator[dict[str, str]]:
    """The installed packages of a Debian root, as `dpkg-query` lists them (purl: the `deb` type of the package-url specification)."""
    status = root / "var/lib/dpkg/status"
    if not status.is_file():
        raise Stop(f"{root} is no root of Debian: {status} is missing")
    for block in status.read_text().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture|Status): (.+)$", block, re.M))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={fields['Architecture']}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def check_listed(found: Sequence[tuple[str, str, str]], bom: Mapping[str, Any]) -> None:
    root = bom["metadata"]["component"]["name"]
    listed = {(plain(one["name"]), one["version"]) for one in bom["components"]}
    missing = [
        f"{name} {version}"
        for name, version, _ in found
        if plain(name) != root and (plain(name), version) not in listed
    ]
    if missing:
        raise Stop(f"the SBOM does not list {', '.join(missing)}")


def licence_list(found: Sequence[tuple[str, str, str]]) -> str:
    if unfit := [f"{name} ({licence or 'none'})" for name, _, licence in found if not FITTING.search(licence)]:
        raise Stop(f"these licences are not known to fit Apache-2.0: {', '.join(unfit)}")
    rows = [f"| {name} | {version} | {licence} |" for name, version, licence in found]
    head = "# Licences of what Remit and its extras install\n\n| distribution | version | licence |\n|---|---|---|"
    return "\n".join([head, *rows, ""])


def plain(name: str) -> str:
    """The normalized name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def run(line: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(line, cwd=folder, env={**os.environ, **(env or {})}, capture_output=True, check=False)
    if done.returncode:
        raise Stop(f"{' '.join(line[:4])} failed: {done.stderr.decode(errors='replace').strip()[-2000:]}")
    return done


if __name__ == "__main__":
    sys.exit(main())
