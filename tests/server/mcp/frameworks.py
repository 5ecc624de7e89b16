"""Agents of other frameworks with the tools of `/mcp/AGENT`: `make mcp-frameworks`. Needs uv and the network.

Each framework gets an environment of its own, outside of the lock. Its model follows a script, so nothing leaves this machine afterwards.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from remit.client import AsyncRemit
from remit.journal import list_runs
from remit.workspace import open_session
from support import TESTS
from support.mcp_clients import CLOSE, READ, SECRET
from support.principals import principal
from support.service_process import ServiceProcess, service_process

FRAMEWORKS: Final = {
    "langchain_agent.py": ("langchain==1.5.2", "langchain-mcp-adapters==0.3.2"),
    "openai_agent.py": ("openai-agents==0.24.0",),
}
PAUSE_S: Final = 5.0  # within which another person approves


@contextmanager
def approving(service: ServiceProcess) -> Iterator[None]:
    """Dana approves whatever waits."""
    over = threading.Event()

    def approve() -> None:
        headers = {"authorization": "Bearer dana"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=30) as dana:
            while not over.wait(0.2):
                for waiting in dana.get("/v1/approvals").json()["value"]["approvals"]:
                    dana.post(f"/v1/approvals/{waiting['id']}/grant", json={"reason": "seen"})

    person = threading.Thread(target=approve)
    person.start()
    try:
        yield
    finally:
        over.set()
        person.join()


@pytest.mark.parametrize("program", FRAMEWORKS)
async def test_an_agent_of_a_framework_is_allowed_denied_and_approved_and_its_run_is_replayed(
    session: Path, tmp_path: Path, program: str
) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed")
    environment = tmp_path / "environment"
    python = str(environment / "bin" / "python")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(environment)], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", python, *FRAMEWORKS[program]], check=True)
    (session / "agent/triage/incident/stores/tickets/tickets.lock").unlink()
    calls: list[Any] = [[*READ, 0], [*SECRET, 0], [*CLOSE, 0], [*CLOSE, PAUSE_S]]
    with service_process(session, log=tmp_path / "log") as service, approving(service):
        words = [
            python,
            str(TESTS / "benchmarks/mcp_frameworks" / program),
            f"{service.url}/mcp/triage",
            json.dumps(calls),
        ]
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        print(f"{program}: {time.monotonic() - began:.1f} s")
    results = [json.loads(text[text.index("{") :]) for text in json.loads(done.stdout.splitlines()[-1])]
    codes = ["ok" if item["ok"] else item["error"]["code"] for item in results]
    assert codes == ["ok", "policy_denied", "approval_required", "ok"], results
    opened = open_session(session)
    ((run),) = list_runs(opened.journal)
    assert (run.outcome, run.calls) == ("completed", 3)
    assert (await AsyncRemit(opened, principal("operator")).replay(run.run)).reproduced
