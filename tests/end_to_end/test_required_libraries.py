"""A run really uses the libraries that the project requires; they are not only installed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from sqlmodel import Session, create_engine, select

from remit.journal.storage.tables import EventRow
from remit.runtime.models.selection import open_model
from remit.runtime.runner import RunRequest, start_run
from remit.workspace.session import open_session
from support.openai_server import OpenAIServer, Reply
from support.otlp_collector import collecting
from support.principals import OPERATOR
from support.runs import TASK

# Each library, with the module whose functions a run must call.
REQUIRED: Final = {
    "langgraph": "langgraph.pregel",  # drives the steps
    "pydantic": "pydantic.main",  # reads and makes every typed value
    "httpx": "httpx",  # asks the model
    "opentelemetry-sdk": "opentelemetry.sdk.trace",  # sends the spans
}


def test_a_run_of_the_triage_agent_uses_each_required_library(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the function calls of the interpreter in every thread.

    The model is one that a server on loopback answers for, the spans arrive at a real collector, and a SQLModel session reads the journal.
    """
    called: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            called[frame.f_globals.get("__name__", "")] += 1

    replies = [Reply(calls=[("files__read", '{"path": "logs/checkout.log"}')]), Reply(text="The pool is too small.")]
    with collecting() as (address, bodies), OpenAIServer(replies) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        threading.setprofile(count)
        sys.setprofile(count)
        try:
            opened = open_session(session)
            model = open_model("openai:any", folder=session, base_url=server.base_url)
            start = RunRequest(agent="triage", task=TASK, subject="user:operator", by=OPERATOR, model=model)
            ended = asyncio.run(start_run(opened, start))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # None removes the profiler; the type stub does not say so
    assert ended.finished is not None
    assert ended.finished.outcome == "completed"
    idle = {
        library
        for library, module in REQUIRED.items()
        if not any(name == module or name.startswith(f"{module}.") for name in called)
    }
    assert not idle
    assert any(b"execute_tool files.read" in body for body in bodies)
    with Session(create_engine(f"sqlite:///{session / 'traces' / 'journal.db'}")) as session:
        rows = session.exec(select(EventRow).where(EventRow.run == ended.run)).all()
    assert [row.type for row in rows] == [item.type for item in opened.journal.events(ended.run)]
