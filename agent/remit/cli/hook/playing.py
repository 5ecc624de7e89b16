"""Plays calls through the real coding agent, with a scripted model and the hooks of its settings."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from remit.cli.hook.model_apis import NativeCall
from remit.cli.hook.stub_model import StubModel, listening
from remit.core import UsageError

PLAYS_S: Final = 180.0
_VERSION: Final = re.compile(r"\d{1,6}(?:\.\d{1,6}){1,3}", re.ASCII)
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


def play_codex(
    program: str,
    hooks: Mapping[str, Any],
    project: Path,
    calls: Sequence[NativeCall],
    *,
    variables: Mapping[str, str] | None = None,
    servers: Mapping[str, Any] | None = None,
) -> Played:
    """Let Codex make the calls in the project, in one session, without its own sandbox. Without hooks, each of them would run.

    These hooks count as trusted. Those of a person count once that person has trusted them in Codex. `servers` are as in `play`.
    """
    with tempfile.TemporaryDirectory(prefix="remit-hook-") as home, listening(StubModel(calls=calls)) as model:
        (Path(home) / "config.toml").write_text(_codex_settings(model.url, servers or {}))
        (Path(home) / "hooks.json").write_text(json.dumps({"hooks": hooks}))
        # It starts programs by a login shell, which sets a PATH of its own.
        path = (variables or {}).get("PATH", os.environ.get("PATH", os.defpath))
        for profile in (".profile", ".zprofile"):
            (Path(home) / profile).write_text(f"export PATH={shlex.quote(path)}\n")
        words = ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", "--dangerously-bypass-hook-trust"]
        own = {"CODEX_HOME": home, "STUB_KEY": "stub", **(variables or {})}
        ended = _run([program, *words, "Do it"], cwd=project, env={**_environment(Path(home), model.url), **own})
        return Played(results=tuple(model.results), output=ended.stdout + ended.stderr)


def _codex_settings(url: str, servers: Mapping[str, Any]) -> str:
    """The file config.toml of a Codex that asks this model only. JSON texts and lists are TOML too."""
    lines = [
        'model = "stub"',
        'model_provider = "stub"',
        "[analytics]",
        "enabled = false",
        "[model_providers.stub]",
        'name = "stub"',
        f'base_url = "{url}/v1"',
        'wire_api = "responses"',
        'env_key = "STUB_KEY"',
    ]
    for name, server in servers.items():
        # It does not ask its model before the server has started.
        lines += [f"[mcp_servers.{name}]", "required = true", "startup_timeout_sec = 60"]
        lines += [*(f"{key} = {json.dumps(server[key])}" for key in ("command", "args"))]
        lines += [f"[mcp_servers.{name}.env]", *(f"{key} = {json.dumps(text)}" for key, text in server["env"].items())]
    return "\n".join(lines) + "\n"


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
    """The version of a coding agent. Raises UsageError if it does not say one."""
    try:
        ended = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise UsageError(f"{program!r} does not say its version: {failure}") from failure
    if (found := _VERSION.search(ended.stdout)) is None:
        raise UsageError(f"{program!r} does not say its version: {ended.stdout[:100]!r}")
    return tuple(map(int, found[0].split(".")))


def play_denied(
    client: Player, program: str, hooks: Mapping[str, Any], *, variables: Mapping[str, str] | None = None
) -> str:
    """Let the coding agent start a program of a random name, which leaves a mark. "" if that was blocked, else what let it through.

    INVARIANT: blocked is only what runs without the hooks: a call that failed for another reason shows nothing.
    """
    ran, played = _started(client, program, {}, variables)
    if not ran:
        return f"the coding agent made no call, also without hooks: {played.output[-300:].strip()}"
    ran, played = _started(client, program, hooks, variables)
    if ran:
        return f"the call ran; the model read {played.results[:1]}"
    return "" if played.results else f"the coding agent made no call: {played.output[-300:].strip()}"


def _started(
    client: Player, program: str, hooks: Mapping[str, Any], variables: Mapping[str, str] | None
) -> tuple[bool, Played]:
    """Whether the program was started."""
    with tempfile.TemporaryDirectory(prefix="remit-hook-") as folder:
        name, project, bin_ = f"remit-doctor-{secrets.token_hex(4)}", Path(folder) / "project", Path(folder) / "bin"
        project.mkdir()
        bin_.mkdir()
        mark = Path(folder) / "it-ran"
        (bin_ / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (bin_ / name).chmod(0o755)
        found_first = {"PATH": os.pathsep.join([str(bin_), os.environ.get("PATH", os.defpath)])}
        made = [client.starts(name)]
        played = client.play(program, hooks, project, made, variables={**(variables or {}), **found_first})
        return mark.exists(), played


class Play(Protocol):
    """Lets a coding agent make calls in a project, in one session, under these hooks. Without them, each of the calls would run."""

    def __call__(
        self,
        program: str,
        hooks: Mapping[str, Any],
        project: Path,
        calls: Sequence[NativeCall],
        *,
        variables: Mapping[str, str] | None = None,
    ) -> Played: ...


@dataclass(frozen=True, kw_only=True)
class Player:
    """How one coding agent is played: the name of its program, its package of npm, and the oldest version whose hooks hold as Remit
    writes them. `starts` makes the call that starts a program.
    """

    program: str
    package: str
    oldest: tuple[int, ...]
    play: Play
    starts: Callable[[str], NativeCall]


PLAYERS: Final[Mapping[str, Player]] = {
    # From 2.1.295 on, a hook that does not start blocks.
    "claude-code": Player(
        program="claude",
        package="@anthropic-ai/claude-code",
        oldest=(2, 1, 295),
        play=play,
        starts=lambda name: NativeCall(tool="Bash", given={"command": name}),
    ),
    # From 0.124.0 on, hooks are in force without a setting, and are asked about patches and MCP tools too.
    "codex": Player(
        program="codex",
        package="@openai/codex",
        oldest=(0, 124, 0),
        play=play_codex,
        starts=lambda name: NativeCall(tool="exec_command", given={"cmd": name}),
    ),
}
