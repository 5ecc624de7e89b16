"""Rules that are published are in force for every process that shares the journal, whatever its files say."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.client import AsyncRemit, publish_rules, publishable_rules, retract_rules
from remit.core import Refusal, RunEnded, UsageError, WorkspaceError
from remit.core.events import PolicyPublished
from remit.journal import WORKSPACE_RUN, check_projections
from remit.workers import Worker
from remit.workspace import open_session
from support.runs import Command
from support.workspaces.ledger import effects, environment, use

PAY = [{"say": "pay", "calls": [{"ledger__pay": {"name": "ann", "amount": 10}}]}, {"say": "done"}]
ASK = [{"say": "pay", "calls": [{"ledger__pay": {"name": "ann", "amount": 500}}]}, {"say": "done"}]
GRANT = "p, user:operator, remit.policy, policy:rules, True, allow"
NOTHING = "p, role:people, ledger.pay, account:*, True, deny"


def write_rule(root: Path, row: str) -> None:
    rules = root / "policies" / "rules.csv"
    rules.write_text(f"{rules.read_text()}\n# A rule of the test\n{row}\n")


@pytest.fixture(autouse=True)
def _pinned(clerk: Callable[..., Path]) -> None:
    """The tool is pinned before there is an event loop."""
    clerk(PAY)


@pytest.fixture
def root(clerk: Callable[..., Path]) -> Path:
    folder = clerk(PAY)
    write_rule(folder, GRANT)
    return folder


def publish(root: Path, row: str = "") -> None:
    """Publish the rules of the files with one more row, and put the files back."""
    rules = root / "policies" / "rules.csv"
    before = rules.read_text()
    opened = open_session(root)
    if row:
        write_rule(root, row)
    publish_rules(opened, publishable_rules(opened), by=AsyncRemit(opened).principal, reason="a test")
    rules.write_text(before)
    opened.journal.close()


async def paid(client: AsyncRemit) -> bool:
    before = len(effects(client.root))
    await client.run("clerk", "pay")
    return len(effects(client.root)) > before


async def test_published_rules_decide_within_a_second_in_processes_that_are_open_already(root: Path) -> None:
    client = AsyncRemit(open_session(root))
    assert await paid(client)
    publish(root, NOTHING)
    assert not await paid(client)
    assert client.policy.digest != publishable_rules(client.session).policy.digest
    assert not await paid(AsyncRemit(open_session(root)))
    await client.close()


async def test_edits_of_files_change_nothing_until_the_rules_are_retracted(root: Path) -> None:
    publish(root)
    client = AsyncRemit(open_session(root))
    write_rule(root, NOTHING)
    time.sleep(0.6)
    assert await paid(client)
    retract_rules(client.session, by=client.principal, reason="back to the files")
    assert not await paid(client)
    with pytest.raises(UsageError, match="no rules are published"):
        retract_rules(client.session, by=client.principal, reason="again")
    await client.close()


async def test_a_run_that_waits_is_decided_again_under_the_published_rules(clerk: Callable[..., Path]) -> None:
    root = clerk(ASK)
    write_rule(root, GRANT)
    client = AsyncRemit(open_session(root))
    run = await client.enqueue("clerk", "pay much")
    worker = Worker([(client.session, client.principal)], slots=1)
    await worker.run(drain=0.0, until_idle=True)
    assert [waiting.run for waiting in await client.approvals()] == [run]
    publish(root, NOTHING)
    resumed = await client.resume(run)
    assert resumed.finished is not None
    assert effects(root) == []
    await client.close()


async def test_who_may_not_publish_is_refused_and_the_rules_in_force_decide_who_may(clerk: Callable[..., Path]) -> None:
    """Not the rules that are to be published: nobody grants themselves the right to publish."""
    root = clerk(PAY)
    opened = open_session(root)
    write_rule(root, GRANT)
    by = AsyncRemit(opened).principal
    with pytest.raises(Refusal, match=r"remit\.policy"):
        publish_rules(opened, publishable_rules(opened), by=by, reason="")
    assert opened.journal.published() == ""
    granted = open_session(root)
    publish_rules(granted, publishable_rules(granted), by=by, reason="")
    assert granted.journal.published()
    with pytest.raises(UsageError, match="published already"):
        publish_rules(granted, publishable_rules(granted), by=by, reason="")


async def test_rules_that_are_not_valid_are_not_published(root: Path) -> None:
    opened = open_session(root)
    write_rule(root, "p, agent:clerk, ledger.payy, account:*, True, allow")
    with pytest.raises(WorkspaceError, match="payy"):
        publishable_rules(opened)


async def test_a_process_that_cannot_load_the_published_rules_decides_nothing(root: Path) -> None:
    """It lacks the agent that they name. Its own rules are not used in their place."""
    behind = AsyncRemit(open_session(root))
    ahead = root.parent / "ahead"
    shutil.copytree(root, ahead)
    shutil.copytree(ahead / "agent/clerk", ahead / "agent/teller")
    text = (ahead / "agent/teller/agent.toml").read_text()
    (ahead / "agent/teller/agent.toml").write_text(text.replace('name = "clerk"', 'name = "teller"'))
    write_rule(ahead, "p, agent:teller, ledger.look, account:*, True, allow")
    opened = open_session(ahead)
    published = publishable_rules(opened)
    opened.journal.close()
    publish_rules(behind.session, published, by=behind.principal, reason="the teller comes")
    with pytest.raises(RunEnded, match="teller"):
        await paid(behind)
    with pytest.raises(WorkspaceError, match="published cannot be loaded here"):
        open_session(root)
    shutil.copytree(ahead / "agent/teller", root / "agent/teller")
    assert await paid(AsyncRemit(open_session(root)))
    await behind.close()


async def test_the_record_has_the_published_rules_and_who_published_them(root: Path) -> None:
    publish(root, NOTHING)
    journal = open_session(root).journal
    recorded = journal.get(WORKSPACE_RUN, journal.published())
    assert recorded is not None
    assert isinstance(recorded.event, PolicyPublished)
    assert NOTHING in recorded.event.files["policies/rules.csv"]
    assert (recorded.event.by.subject, recorded.event.reason) == ("user:operator", "a test")
    assert list(check_projections(journal)) == []


def test_the_command_publishes_and_retracts(root: Path, command: Command) -> None:
    use(root)
    env = environment(root)
    published = command(root, "policy", "publish", "--reason", "a test", "--json", env=env)
    assert published.json["published"] is True
    write_rule(root, NOTHING)
    call = ("call", "ledger.pay", '{"name": "ann", "amount": 10}', "--agent", "clerk", "--dry-run", "--json")
    assert command(root, *call, env=env).json["decision"]["verdict"] == "allow"
    assert "files again" in command(root, "policy", "publish", "--retract", env=env).out
    assert command(root, *call, env=env).json["decision"]["verdict"] == "deny"
