"""Models that fail: behind a server that plays bytes, or asked again soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from remit.runtime import runner as run
from remit.runtime.models import model_list, open_model
from remit.workspace.session import open_session
from support.principals import OPERATOR
from support.runs import Played
from support.wire_player import Turn, WirePlayer
from support.wire_runs import WireRun


@pytest.fixture
def against(clerk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> WireRun:
    """Run the agent with a model whose server plays these turns."""
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def played(turns: Sequence[Turn], *, budget: str = "") -> tuple[Played, WirePlayer]:
        folder = clerk([], budget=budget)
        opened = open_session(folder)
        with WirePlayer(turns) as player:
            model = open_model("openai:some", folder=folder, base_url=player.base_url)
            start = run.RunRequest(agent="clerk", task="look", subject="user:operator", by=OPERATOR, model=model)
            return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start))), player

    return played


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says nothing of when to come back is asked again after about 50 ms."""
    monkeypatch.setattr(model_list, "FIRST_S", 0.05)
