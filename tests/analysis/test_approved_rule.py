"""A rule is made of what people keep approving: the narrowest row, a case that pins it, and a backtest."""

from __future__ import annotations

import asyncio

import pytest

from remit.analysis import rule_from_approval
from remit.analysis.diff import working_tree
from remit.client import Remit
from remit.core import UsageError
from remit.runtime import runner as run
from support.lifecycle import LARGE, another, granted, resumed
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, Played, turn

ROW = "p, agent:clerk, ledger.pay, account:ann, args.amount <= 5000, allow"


def approved(played: Played) -> Played:
    granted(played, played.ended.waiting[0])
    return resumed(played)


def test_the_rule_allows_what_was_approved_and_no_larger_amount_or_other_account(play: Play, command: Command) -> None:
    played = approved(play(LARGE))
    place = f"{played.ended.run[:8]}/0.0"
    shown = command(played.folder, "approve", "rule", place, "--json").json
    assert shown["rules"].splitlines()[1] == ROW
    assert "approved by user:lea in run" in shown["rules"]
    assert shown["changes"] == [f"{place}: ask -> allow"]
    assert ROW not in (played.folder / "policies/rules.csv").read_text()
    assert command(played.folder, "approve", "rule", place, "--write").code == 0
    assert command(played.folder, "policy", "test").code == 0
    again = another(played, LARGE)
    assert (again.ended.waiting, len(again.effects)) == ((), 2)
    for other in (turn(ledger__pay={"name": "ann", "amount": 5001}), turn(ledger__pay={"name": "ben", "amount": 5000})):
        assert len(another(played, [other, DONE]).ended.waiting) == 1


def test_the_facts_under_which_it_was_approved_are_conditions_of_the_rule(play: Play) -> None:
    played = play([DONE])
    rules = played.folder / "policies/rules.csv"
    text = rules.read_text()
    rules.write_text(text.replace("approved('role:lead')", "not 'seen' in labels and approved('role:lead')"))
    after = approved(another(played, LARGE))
    source = working_tree(played.folder)
    found = rule_from_approval(source.rule_set(), source.files, after.records, (0, 0), [after.records])
    assert found.rules.splitlines()[1] == ROW.replace("<= 5000", "<= 5000 and 'seen' not in labels")


def test_a_call_that_nobody_approved_makes_no_rule(play: Play) -> None:
    played = play(LARGE)
    source = working_tree(played.folder)
    with pytest.raises(UsageError, match=r"nobody approved a call 0\.0"):
        rule_from_approval(source.rule_set(), source.files, played.records, (0, 0), [])


def test_after_the_third_like_approval_a_rule_is_offered(play: Play) -> None:
    """Other amounts to the same account are alike; another account is not."""
    played = play([DONE])
    lea = Remit(played.opened, principal=principal("lea"))
    counts: list[int] = []
    for name, amount in (("ann", 5000), ("ben", 5000), ("ann", 700), ("ann", 5000)):
        asked = another(played, [turn(ledger__pay={"name": name, "amount": amount}), DONE])
        counts.append(lea.approve(asked.ended.run).like)
        asyncio.run(run.resume_run(asked.opened, asked.ended.run, by=OPERATOR))
    assert counts == [1, 1, 2, 3]
