"""Plays calls through the real coding agent, with a scripted model and the hooks of its settings."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.cli.hook.stub_model import NativeCall, StubModel, listening
from remit.core import UsageError

PLAYS_S: Final = 180.0
OLDEST: Final = (2, 1, 295)  # the first version of Claude Code in which a hook that does not start can block
# Nothing of the environment of this process reaches the coding agent but these: no key, and no address of a real model.
_PASSED: Final = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")


@dataclass(frozen=True, kw_only=True)
class Played:
    """What became of the calls: `results` are the results that the model read. `output` is what the coding agent printed."""

    results: tuple[str, ...]
    output: str


def play(
    program: str,
    hooks: Mapping[str, Any],
    project: Path,
    calls: Sequence[NativeCall],
    *,
    prompts: Sequence[str] = ("Do it",),
    variables: Mapping[str, str] | None = None,
    servers: Mapping[str, Any] | None = None,
) -> Played:
    """Let Claude Code make the calls in the project, in one session. Without hooks, each of them would run.

    `variables` are further ones of the environment. `servers` are MCP servers by name, as its option
    `--mcp-config` takes them; it uses no other ones. The calls of the second prompt follow those of the first: each prompt lets the model go
    on until it has made its share of them.
    """
    with tempfile.TemporaryDirectory(prefix="remit-hook-") as home, listening(StubModel(calls=calls)) as model:
        tools = sorted({"Bash", *(call.tool for call in calls)})
        file = Path(home) / "settings.json"
        file.write_text(json.dumps({"hooks": hooks, "permissions": {"allow": tools}}))
        printed: list[str] = []
        session: list[str] = []
        for prompt in prompts:
            command = [*_command(program, prompt, tools, file, servers or {}), *session]
            ended = _run(command, cwd=project, env={**_environment(Path(home), model.url), **(variables or {})})
            printed += [ended.stdout, ended.stderr]
            session = ["--continue"]  # of this project, in the home of this play
        return Played(results=tuple(model.results), output="".join(printed))


def _command(program: str, prompt: str, tools: Sequence[str], settings: Path, servers: Mapping[str, Any]) -> list[str]:
    """Claude Code with these settings and MCP servers, and no other ones."""
    used = json.dumps({"mcpServers": dict(servers)})
    words = [program, "-p", prompt, "--output-format", "json", "--settings", str(settings), "--setting-sources", ""]
    return [*words, "--allowedTools", ",".join(tools), "--strict-mcp-config", "--mcp-config", used]


def _run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PLAYS_S,
            check=False,
        )
    except subprocess.TimeoutExpired as failure:
        raise UsageError(f"the coding agent did not end within {PLAYS_S:g} s") from failure


def _environment(home: Path, url: str) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    return {
        **passed,
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "stub",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
    }


def version_of(program: str) -> tuple[int, ...]:
    """The version of Claude Code. Raises UsageError if it does not say one."""
    try:
        ended = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
        return tuple(int(part) for part in ended.stdout.split()[0].split("."))
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as failure:
        raise UsageError(f"{program!r} does not say its version: {failure}") from failure


def play_denied(program: str, hooks: Mapping[str, Any], *, variables: Mapping[str, str] | None = None) -> str:
    """Let the coding agent start a program of a random name, which leaves a mark. "" if that was blocked, else what let it through."""
    with tempfile.TemporaryDirectory(prefix="remit-hook-") as folder:
        name, project, bin_ = f"remit-doctor-{secrets.token_hex(4)}", Path(folder) / "project", Path(folder) / "bin"
        project.mkdir()
        bin_.mkdir()
        mark = Path(folder) / "it-ran"
        (bin_ / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (bin_ / name).chmod(0o755)
        found_first = {"PATH": os.pathsep.join([str(bin_), os.environ.get("PATH", os.defpath)])}
        call = NativeCall(tool="Bash", given={"command": name})
        played = play(program, hooks, project, [call], variables={**(variables or {}), **found_first})
        if mark.exists():
            return f"the call ran; the model read {played.results[:1]}"
        if not played.results:
            return f"the coding agent made no call: {played.output[-300:].strip()}"
        return ""
