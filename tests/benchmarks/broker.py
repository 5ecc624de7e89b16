"""What the broker holds and what it costs, LangChain side by side in one run: `make bench-broker`.

1. A tool that times out after its effect: how often it runs under LangChain's `ToolRetryMiddleware`, and under Remit.
2. Ways past an approval: arguments changed while people think, the requester's own word, an answer that comes too late.
   Each is tried on LangChain's `HumanInTheLoopMiddleware`, and on Remit.
3. A whole turn of an agent with one call that only reads, its tool in this process: LangGraph's `ToolNode` alone, LangChain's
   middleware (retries, limits, personal data) with checkpoints in SQLite, `RemitMiddleware` in its place with the same
   checkpoints, and Remit's own loop, which decides, records and traces besides.

Bars: the tool runs three times there and once here; nothing runs here that was not approved; a turn under `RemitMiddleware` costs no
more than under LangChain's own middleware.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    PIIMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from remit.broker.approvals import requests as approval
from remit.core.errors import Refusal
from remit.core.events import ApprovalRequested, CallDecided
from remit.journal import AlreadyRecorded, StoredRecord
from remit.journal.run_log import Record
from remit.langchain import RemitMiddleware
from remit.runtime import RunResult
from remit.runtime import runner as run
from remit.workspace.session import WorkspaceSession, open_session
from support.principals import OPERATOR, principal
from support.workspaces.langchain import AGENT, langchain_workspace
from support.workspaces.ledger import effects, ledger_workspace

ANN = {"name": "ann", "amount": 1}
BIG = {"name": "big", "amount": 500}  # what the clerk may pay only with an approval


class Scripted(BaseChatModel):
    """LangChain's side of a scripted model: so many turns with one call each, then an answer."""

    turns: int
    name_of_tool: str
    arguments: dict[str, Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        done = sum(message.type == "ai" for message in messages)
        calls = [{"name": self.name_of_tool, "args": self.arguments, "id": f"c{done}"}] if done < self.turns else []
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="next", tool_calls=calls))])


@contextmanager
def session(turns: Sequence[dict[str, Any]], **options: Any) -> Iterator[WorkspaceSession]:
    """The ledger workspace of the tests, with its ledger in a file."""
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as made:
        folder = Path(made) / "clerk"
        os.environ["LEDGER"] = str(folder / "ledger.jsonl")
        sys.path.insert(0, str(folder / "hosted"))
        sys.modules.pop("ledger_host", None)
        ledger_workspace(folder, list(turns), **options)
        try:
            yield open_session(folder)
        finally:
            sys.path.remove(str(folder / "hosted"))


def play(opened: WorkspaceSession) -> RunResult:
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model)
    return asyncio.run(run.start_run(opened, start))


def calls(name: str, arguments: dict[str, Any], turns: int) -> list[dict[str, Any]]:
    return [*[{"say": "next", "calls": [{name: arguments}]}] * turns, {"say": "done"}]


# -- a tool that times out after its effect --------------------------------------------------------------------------------


def retried_by_langchain() -> int:
    paid: list[str] = []

    @tool
    def pay(name: str, amount: int) -> str:
        """Pay."""
        paid.append(name)
        raise TimeoutError("no answer in time")

    model = Scripted(turns=1, name_of_tool="pay", arguments=ANN)
    retry = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    create_agent(model, [pay], middleware=[retry]).invoke({"messages": [HumanMessage("pay")]})
    return len(paid)


def retried_by_remit() -> int:
    with session(calls("ledger__pay", {"name": "slow", "amount": 1}, 1)) as opened:
        play(opened)
        return len(effects(opened.root))


# -- ways past an approval -------------------------------------------------------------------------------------------------


def langchain_bypasses() -> dict[str, bool]:
    """Whether something ran that nobody who may do so had approved."""
    return {name: _langchain_bypass(name) for name in BYPASSES}


def _langchain_bypass(name: str) -> bool:
    paid: list[int] = []

    @tool
    def pay(name: str, amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "paid"

    model = Scripted(turns=1, name_of_tool="pay", arguments=ANN)
    agent: Any = create_agent(
        model, [pay], middleware=[HumanInTheLoopMiddleware({"pay": True})], checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": name}}
    agent.invoke({"messages": [HumanMessage("pay")]}, config)
    if name == "arguments changed while people think":
        last = agent.get_state(config).values["messages"][-1]
        changed = last.model_copy(update={"tool_calls": [{**last.tool_calls[0], "args": {**ANN, "amount": 9999}}]})
        agent.update_state(config, {"messages": [changed]}, as_node="model")
        agent.invoke(None, config)
    # It asks no one who answers, and no answer is ever too late: the same word of anybody at any time.
    agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), config)
    return 9999 in paid if name == "arguments changed while people think" else bool(paid)


def remit_bypasses() -> dict[str, bool]:
    return {name: _remit_bypass(name) for name in BYPASSES}


def _remit_bypass(name: str) -> bool:
    with session(calls("ledger__pay", BIG, 1)) as opened:
        ended = play(opened)
        (waiting,) = ended.waiting
        record = StoredRecord(opened.journal, ended.run)
        BYPASSES[name](opened, record, waiting)
        asyncio.run(run.resume_run(opened, ended.run, by=OPERATOR))
        paid = [row["amount"] for row in effects(opened.root)]
        if name.startswith("arguments"):
            assert paid, "what was approved must still run"
            return paid != [BIG["amount"]]
        return bool(paid)


def _changed(opened: WorkspaceSession, record: Record, waiting: ApprovalRequested) -> None:
    decided = record.get(f"call.decided/{waiting.step}/{waiting.index}/0")
    assert isinstance(decided, CallDecided)
    assert decided.call is not None
    call = decided.call.model_copy(update={"arguments": {**decided.call.arguments, "amount": 9999}})
    with suppress(AlreadyRecorded):
        record.append(decided.model_copy(update={"call": call}))
    _grant(opened, record, waiting, "user:lea", time.time_ns())


def _own(opened: WorkspaceSession, record: Record, waiting: ApprovalRequested) -> None:
    _grant(opened, record, waiting, "user:operator", time.time_ns())


def _late(opened: WorkspaceSession, record: Record, waiting: ApprovalRequested) -> None:
    _grant(opened, record, waiting, "user:lea", waiting.expires_at + 1)


def _grant(opened: WorkspaceSession, record: Record, waiting: ApprovalRequested, approver: str, now: int) -> None:
    try:
        approval.grant_approval(record, waiting, approval.Approval(by=principal(approver),role=waiting.missing[0].role), roles_of=opened.policy.roles_of, now=now)  # fmt: skip
    except Refusal as refusal:
        print(f"  refused: {refusal.code}, {refusal.message}", file=sys.stderr)


BYPASSES: dict[str, Callable[[WorkspaceSession, Record, ApprovalRequested], None]] = {
    "arguments changed while people think": _changed,
    "the requester's own word": _own,
    "an answer that comes too late": _late,
}


# -- what a turn with a call costs -----------------------------------------------------------------------------------------


def langchain_turns(turns: int, *, stack: bool) -> float:
    """Milliseconds for a turn and its call."""

    @tool
    def look(name: str) -> str:
        """Look."""
        return json.dumps({"name": name, "text": ""})

    middleware: list[Any] = (
        [
            ModelCallLimitMiddleware(run_limit=turns + 9),
            ToolCallLimitMiddleware(run_limit=turns + 9),
            ToolRetryMiddleware(max_retries=2),
            PIIMiddleware("email", apply_to_tool_results=True),
        ]
        if stack
        else []
    )
    model = Scripted(turns=turns, name_of_tool="look", arguments={"name": "ann"})
    with tempfile.TemporaryDirectory() as made, SqliteSaver.from_conn_string(f"{made}/c.db") as saver:
        agent: Any = create_agent(model, [look], middleware=middleware, checkpointer=saver if stack else None)
        config: Any = {"recursion_limit": 20 * turns, "configurable": {"thread_id": "t"}}
        before = time.perf_counter()
        agent.invoke({"messages": [HumanMessage("look")]}, config)
        return (time.perf_counter() - before) * 1000 / turns


def remit_turns(turns: int) -> float:
    budget = f"tries = 1000\nretries = {turns}"
    with session(
        calls("ledger__look", {"name": "ann"}, turns), steps=turns + 9, calls=turns + 9, budget=budget
    ) as opened:
        before = time.perf_counter()
        ended = play(opened)
        assert ended.finished is not None
        assert ended.finished.outcome == "completed", ended.finished
        return (time.perf_counter() - before) * 1000 / turns


def middleware_turns(turns: int) -> float:
    """Milliseconds for a turn and its call of an agent of LangChain under Remit, in a thread with checkpoints in SQLite."""
    budget = f"\n[budget]\nsteps = {turns + 9}\ncalls = {turns + 9}\ntries = 1000\nretries = 1000\n"
    model = Scripted(turns=turns, name_of_tool="get_order", arguments={"order": "1"})
    with tempfile.TemporaryDirectory() as made, SqliteSaver.from_conn_string(f"{made}/c.db") as saver:
        sys.path.insert(0, f"{made}/desk/hosted")
        sys.modules.pop("shop", None)
        folder = langchain_workspace(Path(made) / "desk", AGENT=AGENT + budget)
        tools = importlib.import_module("shop").TOOLS
        with RemitMiddleware("desk", workspace=folder) as remit:
            agent: Any = create_agent(model, tools, middleware=[remit], checkpointer=saver)
            config: Any = {"recursion_limit": 20 * turns, "configurable": {"thread_id": "t"}}
            before = time.perf_counter()
            state = agent.invoke({"messages": [HumanMessage("look")]}, config)
            taken = (time.perf_counter() - before) * 1000 / turns
        sys.path.remove(f"{made}/desk/hosted")
    assert sum(json.loads(message.content)["ok"] for message in state["messages"] if message.type == "tool") == turns
    return taken


def main() -> int:
    """Measure, print, write `.bench/broker.json`; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    retried = {"langchain": retried_by_langchain(), "remit": retried_by_remit()}
    print(
        f"a tool that times out after its effect runs {retried['langchain']} times under LangChain, {retried['remit']} under Remit"
    )
    passed = {"langchain": langchain_bypasses(), "remit": remit_bypasses()}
    for name in BYPASSES:
        message = {side: "runs" if found[name] else "runs nothing" for side, found in passed.items()}
        print(f"{name}: LangChain {message['langchain']}, Remit {message['remit']}")
    measures: dict[str, Callable[[int], float]] = {
        "ToolNode": lambda turns: langchain_turns(turns, stack=False),
        "LangChain's stack": lambda turns: langchain_turns(turns, stack=True),
        "RemitMiddleware": middleware_turns,
        "Remit": remit_turns,
    }
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(options.rounds):  # by turns, so that a busy machine is busy for all
        for name, measure in measures.items():
            gc.collect()  # a full collection takes as long as ten turns, and would fall to any of them
            taken[name].append(measure(options.turns))
    bare = median(taken["ToolNode"])
    for name, found in taken.items():
        print(f"{name:<18} {median(found):7.2f} ms a turn with its call   {median(found) / bare:5.1f} x")
    ratio = median(taken["RemitMiddleware"]) / median(taken["LangChain's stack"])
    bars = [
        ("the tool runs three times there and once here", retried == {"langchain": 3, "remit": 1}),
        ("nothing runs here that was not approved", not any(passed["remit"].values())),
        (
            f"a turn under RemitMiddleware costs {ratio:.2f} times LangChain's own middleware (at most 1.0)",
            ratio <= 1.0,
        ),
    ]
    print("\n".join(f"{'held  ' if ok else 'MISSED'} {text}" for text, ok in bars))
    out = ROOT / ".bench"
    out.mkdir(exist_ok=True)
    body = {"retried": retried, "bypasses": passed, "ms": taken, "bars": bars}
    (out / "broker.json").write_text(json.dumps(body, indent=2))
    return 0 if all(ok for _, ok in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
