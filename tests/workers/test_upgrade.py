"""A rolling upgrade: runs that wait go on with what they began with, and the rules in force decide, on every worker.

`make fleet` upgrades beside 50 waiting runs; here few wait.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from workers.test_workers import PAY, ended, until, with_rule, worker_of, working

from remit.client import AsyncRemit, publish_rules, publishable_rules
from remit.core.events import (
    NANO,
    CallDecided,
    PolicyChanged,
    PolicyPublished,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
)
from remit.journal import WORKSPACE_RUN
from remit.workspace import open_session
from support.postgres import Server, journals_in
from support.principals import principal
from support.workspaces.ledger import effects, pin
from support.workspaces.supervisor import pin_graph
from support.workspaces.typed import Bank, bank

RUNS: Final = int(os.environ.get("REMIT_UPGRADED_RUNS", "3"))
LEA: Final = principal("user:lea")
PUBLISHES: Final = "p, user:operator, remit.policy, policy:rules, True, allow"
TOOL: Final = '''
def pay(to: str, amount: int) -> str:
    """Pay."""
    return entered(f"v1 {to} {amount}")
'''
GRAPH: Final = """
from langchain.agents import create_agent
from langgraph.graph import END, START, MessagesState, StateGraph


def build(parts):
    def close(state):
        last = state["messages"][-1]
        return {"messages": [last.model_copy(update={"content": f"{last.text} (graph v1)"})]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", create_agent(parts.model, parts.only("bank.pay"), system_prompt=parts.prompt))
    graph.add_node("close", close)
    graph.add_edge(START, "agent")
    graph.add_edge("agent", "close")
    graph.add_edge("close", END)
    return graph.compile(checkpointer=parts.checkpointer)
"""


@pytest.fixture(autouse=True)
def _on_postgres(postgres_server: Server) -> Iterator[None]:
    with journals_in(postgres_server):
        yield


def version_a(folder: Path, *, graph: bool) -> Bank:
    shop = bank(folder, TOOL, rules="approved('role:lead')")
    shop.script({"pay": {"to": "ann", "amount": 5}}, {"pay": {"to": "bob", "amount": 5}})
    with_rule(folder, PUBLISHES)
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "g, user:lea, role:lead\n")
    settings = folder / "remit.toml"
    settings.write_text(settings.read_text().replace("[identity]", 'users = ["user:lea"]\n[identity]'))
    if graph:
        agent = folder / "agent/clerk/agent.toml"
        agent.write_text(agent.read_text().replace('tools = ["bank"]', 'tools = ["bank"]\ngraph = "shop:build"'))
        (folder / "shop.py").write_text(GRAPH)
        pin_graph(folder)
    return shop


def deploy_b(shop: Bank, *, graph: bool) -> None:
    """Other code, another manifest, another prompt and another graph, all reviewed."""
    main, manifest = shop.folder / "tools/bank/main.py", shop.folder / "tools/bank/tool.toml"
    main.write_text(main.read_text().replace("v1 {to}", "v2 {to}"))
    manifest.write_text(manifest.read_text().replace('version = "1.0.0"', 'version = "2.0.0"'))
    (shop.folder / "agent/clerk/prompt.md").write_text("Pay late.\n")
    if graph:
        (shop.folder / "shop.py").write_text(GRAPH.replace("graph v1", "graph v2"))
        pin_graph(shop.folder)
    pin(shop.folder)


def publish(root: Path, row: str) -> None:
    """Publish the rules of the files with one more row, as a reviewer does on another machine."""
    rules = root / "policies" / "rules.csv"
    before = rules.read_text()
    opened = open_session(root)
    with_rule(root, row)
    publish_rules(opened, publishable_rules(opened), by=AsyncRemit(opened).principal, reason="a test")
    rules.write_text(before)
    opened.journal.close()


def decisions(events: list[Recorded]) -> Iterator[tuple[int, str]]:
    """The time of each decision, and the digest of the rules that it was made under."""
    digest = ""
    for item in events:
        if isinstance(item.event, RunStarted | RunResumed | PolicyChanged):
            digest = item.event.policy_digest
        elif isinstance(item.event, CallDecided):
            yield item.at, digest


@pytest.fixture(params=[False, True], ids=["loop", "graph"])
def graph(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def shop(tmp_path: Path, graph: bool) -> Bank:
    """Version A, pinned before there is an event loop."""
    return version_a(tmp_path / "shop", graph=graph)


@pytest.fixture
def deploy(shop: Bank, tmp_path: Path, graph: bool) -> Callable[[], None]:
    """Puts version B in place of version A: it was built and pinned before."""
    built = Bank(folder=tmp_path / "built")
    shutil.copytree(shop.folder, built.folder, ignore=shutil.ignore_patterns("traces", "work"))
    deploy_b(built, graph=graph)

    def deployed() -> None:
        shutil.copytree(built.folder, shop.folder, dirs_exist_ok=True)

    return deployed


async def test_runs_that_wait_through_an_upgrade_go_on_with_their_version_under_the_rules_in_force(
    shop: Bank, deploy: Callable[[], None]
) -> None:
    old = AsyncRemit(open_session(shop.folder))
    runs = [await old.enqueue("clerk", "pay ann and bob") for _ in range(RUNS)]
    await worker_of([old], 4, []).run(drain=0.0, until_idle=True)
    assert len(await old.approvals()) == RUNS
    await old.close()

    deploy()
    publish(shop.folder, "p, agent:clerk, bank.pay, account:bob, True, deny")
    new = AsyncRemit(open_session(shop.folder))
    for _ in range(2):  # an approval under the old rules is void: the person is asked again
        for waiting in await new.approvals():
            await new.acting_as(LEA).approve(waiting.run)
        await worker_of([new], 4, []).run(drain=0.0, until_idle=True)
    assert shop.effects == ["v1 ann 5"] * RUNS
    for run in runs:
        events = new.session.journal.events(run)
        started, finished = events[0].event, events[-1].event
        assert isinstance(started, RunStarted)
        assert isinstance(finished, RunFinished)
        assert (started.prompt, finished.outcome) == ("Pay.\n", "completed")
        assert "v2" not in finished.answer
        assert list(decisions(events))[-1][1] == new.policy.digest
    fresh = await new.enqueue("clerk", "pay ann")
    started = new.session.journal.events(fresh)[0].event
    assert isinstance(started, RunStarted)
    assert started.prompt == "Pay late.\n"
    await new.close()


@pytest.fixture
def desk(clerk: Callable[..., Path]) -> Path:
    pay = [{"say": "pay", "calls": [{"ledger__pay": {"name": f"a{number}", "amount": 1}}]} for number in range(16)]
    return with_rule(clerk([*pay, {"say": "done"}]), PUBLISHES)


async def test_no_worker_decides_under_the_old_rules_a_second_after_others_are_published(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_SLOW", "0.1")
    clients = [AsyncRemit(open_session(desk)) for _ in range(3)]
    journal = clients[0].session.journal
    runs = [await clients[0].enqueue("clerk", "pay") for _ in range(2 * RUNS)]
    async with working([clients[1]], slots=RUNS) as one, working([clients[2]], slots=RUNS) as two:
        await until(lambda: len(effects(desk)) >= 2 * RUNS)
        publish(desk, "p, agent:clerk, ledger.pay, account:a15, True, deny")
        await until(lambda: {*ended(one), *ended(two)} == set(runs), 120.0)
    published = next(item for item in journal.events(WORKSPACE_RUN) if isinstance(item.event, PolicyPublished))
    late = [digest for run in runs for at, digest in decisions(journal.events(run)) if at > published.at + NANO]
    assert len(late) > len(runs)
    assert set(late) == {clients[0].policy.digest}
    assert not [row for row in effects(desk) if row["name"] == "a15"]
    for client in clients:
        await client.close()


async def test_a_worker_that_cannot_load_the_published_rules_takes_no_run_and_another_one_drives_them(
    clerk: Callable[..., Path], tmp_path: Path
) -> None:
    root = with_rule(clerk(PAY), PUBLISHES)
    ahead = tmp_path / "ahead"
    shutil.copytree(root, ahead)
    shutil.copytree(ahead / "agent/clerk", ahead / "agent/teller")
    text = (ahead / "agent/teller/agent.toml").read_text()
    (ahead / "agent/teller/agent.toml").write_text(text.replace('name = "clerk"', 'name = "teller"'))
    behind = AsyncRemit(open_session(root))
    run = await behind.enqueue("clerk", "pay")
    async with working([behind]) as reports:
        await until(lambda: ended(reports) == [run])
        publish(ahead, "p, agent:teller, ledger.look, account:*, True, allow")
        able = AsyncRemit(open_session(ahead))
        later = await able.enqueue("clerk", "pay")
        await until(lambda: len(reports) > 1)
        assert "teller" in reports[-1].error
        assert [item.event.type for item in able.session.journal.events(later) if item.event] == ["run.started"]
        assert len(effects(root)) == 1
        async with working([able]) as others:
            await until(lambda: ended(others) == [later])
    assert ended(reports) == [run]
    for client in (behind, able):
        await client.close()
