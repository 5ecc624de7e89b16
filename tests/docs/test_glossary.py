"""The glossary is the one list of terms: what it names is in the code, and what a rule or a trace names is in the glossary."""

from __future__ import annotations

import re
from typing import Final, get_args

from remit.core.attempts import Landed
from remit.core.calls import Effect, Verdict
from remit.core.renamed import RENAMED
from remit.policy.language.facts import FACTS, SIDES
from support import ROOT

PAGE: Final = (ROOT / "docs" / "glossary.md").read_text("utf-8")
CODE: Final = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "agent" / "remit").rglob("*.py")))


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| term", "| fact"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_name_that_the_glossary_gives_is_in_the_code() -> None:
    names = [name for cells in rows() if len(cells) == 4 for name in re.findall(r"`([^`]+)`", cells[2])]
    assert len(names) > 60
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", CODE)] == []


def test_a_term_stands_in_one_row() -> None:
    terms = [cells[0] for cells in rows()]
    assert sorted({term for term in terms if terms.count(term) > 1}) == []


def test_every_fact_of_a_condition_is_in_the_glossary_and_no_other() -> None:
    listed = {cells[0].strip("`") for cells in rows() if len(cells) == 3}
    assert listed == {*FACTS, *SIDES, "has", "calls", "approved", "confirmed"}


def test_closed_sets_are_listed_whole() -> None:
    for values, term in ((get_args(Effect), "effect"), (get_args(Verdict), "verdict"), (get_args(Landed), "landed")):
        (meaning,) = [cells[1] for cells in rows() if cells[0] == term]
        assert [value for value in values if f"`{value}`" not in meaning] == [], term


def test_a_former_name_is_in_no_rule_case_or_manifest_of_the_repository() -> None:
    policies = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "policies").rglob("*.csv")))
    rules = "\n".join(line for line in policies.splitlines() if line.startswith("p,"))
    assert [name for name in RENAMED["fact"] if re.search(rf"(?<!')\b{name}\b(?!')", rules)] == []
    manifests = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "tools").rglob("tool.toml")))
    assert [name for name in RENAMED["manifest"] if re.search(rf"^{name} =", manifests, re.MULTILINE)] == []
