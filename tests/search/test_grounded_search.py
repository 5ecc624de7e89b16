"""An agent searches, answers with quotes, and other rules take the source of its answer away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from remit import Remit
from remit.analysis.backtest import backtest_rules
from remit.analysis.diff import working_tree
from remit.workspace.session import open_session
from support.runs import Command
from support.workspaces.collections import collections_workspace, write_documents

REFUNDS: Final = "# Refunds\n\n## Late returns\n\nA late return is refunded within 30 days.\n"
QUOTE: Final = "A late return is refunded within 30 days."


def test_an_agent_answers_from_what_it_found_and_a_backtest_names_the_answer_that_loses_its_source(
    tmp_path: Path, command: Command
) -> None:
    work = collections_workspace(tmp_path)
    write_documents(work, "handbook", {"refunds.md": REFUNDS, "hours.md": "# Hours\n\nThe shop opens at nine.\n"})
    claim = {"claim": "You are refunded in 30 days.", "quote": QUOTE}
    wrong = {**claim, "claim": "You are refunded in 14 days."}
    cited = {"citation": {"call": "0.0", "item": 1, "section": "Refunds > Late returns"}}
    turns = [
        {"calls": [{"search__find": {"query": "late return refunded"}}]},
        {"say": json.dumps({"claims": [{**wrong, **cited}]})},
        {"say": json.dumps({"claims": [{**claim, **cited}]})},
    ]
    (tmp_path / "agent/reader/script.yaml").write_text(json.dumps({"turns": turns}))
    agent = tmp_path / "agent/reader/agent.toml"
    agent.write_text(f"{agent.read_text()}\n[answer]\ngrounded = true\n")
    with Remit.open(tmp_path) as client:
        client.call("search.ingest", {"collection": "handbook"}, agent="librarian")
        done = client.run("reader", "When is a late return refunded?")
        assert (done.outcome, json.loads(done.answer)) == ("completed", {"claims": [{**claim, **cited}]})
        assert client.replay(done.run).reproduced
    records = open_session(tmp_path).journal.events(done.run)
    tree = working_tree(tmp_path)
    before = backtest_rules([records], tree.rule_set())
    assert (before.grounded, before.lost_sources) == (1, ())
    rules = tmp_path / "policies/rules.csv"
    denied = "# Refunds are for people\np, agent:reader, search.*, document:handbook/refunds, True, deny\n"
    rules.write_text(rules.read_text() + denied)
    after = backtest_rules([records], working_tree(tmp_path).rule_set())
    (lost,) = after.lost_sources
    assert (lost.claim, lost.document, "Refunds are for people" in lost.message) == (1, "handbook/refunds", True)
    printed = command(tmp_path, "policy", "backtest", "--fail-on-flips")
    assert printed.code == 1
    assert (
        f"{done.run[:8]} claim 1 loses its source handbook/refunds version 1: 'Refunds are for people' denies"
        in printed.out
    )
    assert "1 of 1 grounded answers lose a source" in printed.out
    elsewhere = denied.replace("handbook/refunds", "handbook/hours")
    rules.write_text(rules.read_text().replace(denied, elsewhere))
    assert backtest_rules([records], working_tree(tmp_path).rule_set()).lost_sources == ()
