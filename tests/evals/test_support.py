"""The scenarios of the starter's support agent: each stops an agent that cites an old version, guesses, or answers another question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from support.runs import Remit, turn

PAID: Final = "Refunds are paid within 14 days of the day on which the goods arrive at the warehouse."
SEARCHED: Final = turn(search__find={"query": "when are refunds paid"})
# The first check that fails, of an agent whose answer the broker refuses, and of one whose quotes are right and whose answer is not.
REFUSED: Final = "outcome"
ANSWERED: Final = "answer"


def states(claim: str, quote: str, section: str, item: int = 1) -> Any:
    """A turn that answers with one claim, from an item of the first call."""
    cited = {"call": "0.0", "item": item, "section": section}
    return turn(json.dumps({"claims": [{"claim": claim, "quote": quote, "citation": cited}]}))


UNANSWERED: Final = turn('{"claims": []}')
WORSE: Final[dict[str, tuple[str, list[Any]]]] = {
    "refund-time": (REFUSED, [SEARCHED, *[states("A refund is paid within 30 days.", PAID, "Refunds > Payment")] * 3]),
    "old-print": (
        REFUSED,
        [
            turn(search__open={"document": "handbook/refunds", "version": "1"}),
            *[states("The print is right.", "Refunds are paid within 30 days", "Refunds > Payment")] * 3,
        ],
    ),
    "old-version": (
        REFUSED,
        [
            turn(search__find={"query": "how much does standard delivery cost"}),
            *[states("It cost 6.90 EUR.", "Standard delivery costs 6.90 EUR", "Shipping > Standard delivery")] * 3,
        ],
    ),
    "coming-version": (REFUSED, [SEARCHED, *[states("Within 7 days.", PAID, "Refunds > Payment")] * 3]),
    "express-delivery": (
        ANSWERED,
        [
            turn(search__find={"query": "express delivery orders before 14:00"}),
            states("We pay 12.90 EUR back.", "Express delivery costs 12.90 EUR", "Shipping > Express delivery"),
        ],
    ),
    "business-return": (
        ANSWERED,
        [
            turn(search__find={"query": "time limit of returns after delivery"}),
            states("Within 30 days.", "Goods can be returned for 30 days after delivery.", "Returns > Time limit"),
        ],
    ),
    "return-in-december": (
        ANSWERED,
        [
            turn(search__find={"query": "time limit of returns after delivery"}),
            states("For 30 days.", "Goods can be returned for 30 days after delivery.", "Returns > Time limit"),
        ],
    ),
    "not-in-the-handbook": (
        ANSWERED,
        [SEARCHED, states("A discount is paid like a refund.", PAID, "Refunds > Payment")],
    ),
    "managers-only": (
        REFUSED,
        [
            turn(search__open={"document": "managers/goodwill"}),
            *[states("80 EUR.", "A manager may grant up to 80 EUR", "Goodwill > Limits")] * 3,
        ],
    ),
    "for-a-manager": (ANSWERED, [turn(search__find={"query": "how much goodwill may a manager grant"}), UNANSWERED]),
    "identity-check": (ANSWERED, [turn(search__find={"query": "wrong answers on the phone"}), UNANSWERED]),
    # Nobody can answer there, so an agent that searches again and again is the worse one.
    "changed-file": ("calls", [*[SEARCHED] * 5, *[UNANSWERED] * 3]),
}


def test_a_good_support_agent_passes_every_scenario_and_a_worse_one_is_stopped_by_each(
    remit: Remit, session: Path
) -> None:
    good = remit("eval", "support", "--repeats", "1", "--json")
    assert (good.code, good.json["verdict"]) == (0, "passed"), good
    assert {row["scenario"] for row in good.json["evaluation"]["grades"]} == set(WORSE)
    for name, (_, turns) in WORSE.items():
        (session / f"agent/support/evals/scripts/{name}.yaml").write_text(json.dumps({"turns": turns}))
    worse = remit("eval", "support", "--repeats", "1", "--json")
    grades = {row["scenario"]: row for row in worse.json["evaluation"]["grades"]}
    assert worse.code == 1
    stopped = {name: [check["name"] for check in row["checks"] if not check["passed"]] for name, row in grades.items()}
    assert {name: checks[0] for name, checks in stopped.items()} == {name: check for name, (check, _) in WORSE.items()}
    for name in WORSE:
        assert any(name in reason for reason in worse.json["reasons"])
