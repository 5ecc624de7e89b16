"""Plays scripted conversations without Remit, observed, and then enforced action by action."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool

from remit.analysis import added, edit_workspace, observed_work, with_enforced
from remit.analysis.diff import working_tree
from remit.core.events import CallDecided
from remit.journal import list_runs
from remit.langchain import RemitMiddleware
from remit.workspace import policy_files
from remit.workspace.session import open_session
from support.workspaces.langchain import Scripted, says

OBSERVING = 'mode = "observe"\nobserve_until = "2099-12-31"\n'


@dataclass(frozen=True, kw_only=True)
class Talk:
    """One conversation: what the person writes, the calls of the model after each message, and the tools of its agent.

    A call is the name of a tool and its arguments. `actions` are the actions of all calls. `begin` resets what the tools act on, and
    returns a function that reads it.
    """

    name: str
    tools: Sequence[BaseTool]
    messages: Sequence[tuple[str, Sequence[tuple[str, dict[str, Any]]]]]
    actions: frozenset[str]
    begin: Callable[[], Callable[[], Any]]

    def turns(self) -> Iterator[AIMessage]:
        for number, (_, calls) in enumerate(self.messages):
            yield from (says(call, text=f"{number}.{at}") for at, call in enumerate(calls))
            yield AIMessage(f"{number}: done")

    def play(self, thread: str, remit: RemitMiddleware | None, checkpointer: Any) -> Any:
        """What is streamed, the messages of the thread, and what the tools have left."""
        read, streamed, state = self.begin(), list[Any](), dict[str, Any]()
        middleware = [] if remit is None else [remit]
        turns = list(self.turns())
        agent = create_agent(Scripted(turns=turns), list(self.tools), middleware=middleware, checkpointer=checkpointer)
        config: Any = {"configurable": {"thread_id": thread}, "recursion_limit": 1000}
        for text, _ in self.messages:
            for mode, part in agent.stream(
                {"messages": [HumanMessage(text)]}, config, stream_mode=["messages", "values"]
            ):
                if mode == "messages":
                    streamed.append(_shown(part[0]))
                else:
                    state = part
        return streamed, [_shown(message) for message in state["messages"]], read()


def _shown(message: Any) -> Any:
    fields = ("name", "status", "artifact", "tool_call_id", "tool_calls")
    return [
        message.type.removesuffix("MessageChunk"),
        message.content,
        *(getattr(message, name, None) for name in fields),
    ]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`changed` are the conversations that were not as without Remit; `refused` of the `enforced` calls were not allowed.

    `still_refused` are recorded calls that lack a rule in spite of the `rules` that the report suggests.
    """

    conversations: int
    calls: int
    changed: list[str]
    rules: int
    still_refused: int
    actions: int
    enforced: int
    refused: int
    observed_s: float
    enforced_s: float

    @property
    def good(self) -> bool:
        return not (self.changed or self.still_refused or self.refused) and self.enforced >= self.calls

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def observe_and_enforce(folder: Path, agent: str, talks: Sequence[Talk], checkpointer: Any) -> Observed:
    """Play all conversations without Remit and observed, write the rules that the report suggests, and enforce action by action.

    After each action that is enforced, the conversations that call it are played again.
    """
    began, changed = time.perf_counter(), list[str]()
    with RemitMiddleware(agent, workspace=folder, mode="observe") as remit:
        for talk in talks:
            plain = talk.play(f"{talk.name} plain", None, checkpointer)
            if talk.play(f"{talk.name} observed", remit, checkpointer) != plain:
                changed.append(talk.name)
    observed_s = time.perf_counter() - began
    rules, still_refused = _add_suggested_rules(folder)
    since, began = time.time_ns(), time.perf_counter()
    actions = sorted({action for talk in talks for action in talk.actions})
    for action in actions:
        _enforce(folder, agent, action)
        with RemitMiddleware(agent, workspace=folder) as remit:
            for talk in talks:
                if action in talk.actions:
                    talk.play(f"{talk.name} {action}", remit, checkpointer)
    enforced, refused = _refusals(folder, since)
    return Observed(
        conversations=len(talks),
        calls=sum(len(calls) for talk in talks for _, calls in talk.messages),
        changed=changed,
        rules=rules,
        still_refused=still_refused,
        actions=len(actions),
        enforced=enforced,
        refused=refused,
        observed_s=observed_s,
        enforced_s=time.perf_counter() - began,
    )


def _add_suggested_rules(folder: Path) -> tuple[int, int]:
    """Write the rules that the report suggests. Returns how many, and how many calls lack a rule even so."""
    opened = open_session(folder)
    runs = (opened.journal.events(row.run) for row in list_runs(opened.journal))
    found = observed_work(working_tree(folder).rule_set(), policy_files(folder), opened.workspace, runs)
    before = policy_files(folder)["policies/rules.csv"].decode()
    edit_workspace(folder, {"policies/rules.csv": added(before, found.suggested.rules).encode()})
    return len(found.suggested.missing), found.suggested.still_refused


def _enforce(folder: Path, agent: str, action: str) -> None:
    file = f"agent/{agent}/agent.toml"
    (folder / file).write_text(with_enforced((folder / file).read_text(), action, file=file))


def _refusals(folder: Path, since: int) -> tuple[int, int]:
    """The enforced calls since then, and those of them that were not allowed."""
    journal = open_session(folder).journal
    decided = [
        item.event
        for row in list_runs(journal)
        if row.started_at >= since
        for item in journal.events(row.run)
        if isinstance(item.event, CallDecided) and item.event.enforced
    ]
    return len(decided), sum(not event.allowed for event in decided)
