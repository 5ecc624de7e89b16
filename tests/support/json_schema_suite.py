"""The official test suite of JSON Schema, draft 2020-12, in one committed file, so that no test needs the network.

The `jsonschema` source distribution contains the suite (https://github.com/json-schema-org/JSON-Schema-Test-Suite, MIT). To
write the file again:

    pip download --no-deps --no-binary jsonschema jsonschema==4.26.0
    python tests/support/json_schema_suite.py jsonschema-4.26.0.tar.gz
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUITE = Path(__file__).with_name("json_schema_suite.json")
SOURCE = "jsonschema-4.26.0.tar.gz"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
_FOLDER = "jsonschema-4.26.0/json/"


@dataclass(frozen=True, kw_only=True)
class Group:
    """One schema of the suite and its cases: a description, a value, and whether the value is valid."""

    file: str
    name: str
    schema: Any
    cases: tuple[tuple[str, Any, bool], ...]


def groups() -> list[Group]:
    """Every group of the suite that a validator must pass; the optional ones are not part of it."""
    suite = json.loads(SUITE.read_text(encoding="utf-8"))
    assert suite["sha256"] == SHA256
    return [
        Group(
            file=file,
            name=group["description"],
            schema=group["schema"],
            cases=tuple((case["description"], case["data"], case["valid"]) for case in group["tests"]),
        )
        for file, written in suite["files"].items()
        for group in written
    ]


def write(sdist: Path) -> None:
    """Write the suite from the source distribution, after its hash was compared."""
    found = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"error: {sdist} has the hash {found}, and {SOURCE} has {SHA256}")
    with tarfile.open(sdist) as archive:

        def text(name: str) -> str:
            member = archive.extractfile(name)
            assert member is not None
            return member.read().decode()

        folder = f"{_FOLDER}tests/draft2020-12/"
        names = sorted(name for name in archive.getnames() if name.startswith(folder) and name.endswith(".json"))
        files = {name.removeprefix(folder): json.loads(text(name)) for name in names if "/optional/" not in name}
        suite = {"source": SOURCE, "sha256": SHA256, "license": text(f"{_FOLDER}LICENSE"), "files": files}
    SUITE.write_text(json.dumps(suite, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
