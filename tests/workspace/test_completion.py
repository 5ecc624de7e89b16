"""A shell completes the names of a workspace, quickly and within bounds, also while a file of it is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.runs import Remit


def completed(remit: Remit, *words: str, cwd: Path | None = None) -> list[str]:
    """What bash offers after these words, of which the last one is not complete. It splits words at a colon, and writes behind it."""
    split = " ".join(("remit", *words)).replace(":", " : ").split(" ")
    line = {
        "_REMIT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(split),
        "COMP_CWORD": str(len(split) - 1),
    }
    done = remit(env=line, cwd=cwd)
    assert done.err == ""
    return [offer.partition(",")[2] for offer in done.out.split()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("run", "t"), ["triage"]),
        (("call", "fi"), ["files.list", "files.read", "files.search", "files.write"]),
        (("call", "t"), ["tickets.close", "tickets.comment", "tickets.create", "tickets.get"]),
        (("call", ""), ["files.", "http.", "python.", "search.", "sql.", "tickets."]),
        (("call", "sql.q"), ["sql.query"]),
        (("allow", "sql.q"), ["sql.query"]),
        (("call", "files.read", "--agent", ""), ["librarian", "support", "triage"]),
        (("tool", "show", "s"), ["search", "sql"]),
        (("tool", "pin", "files", "h"), ["http"]),
        (("tool", "try", "python.r"), ["python.run"]),
        (("policy", "explain", "tickets.c"), ["tickets.close", "tickets.comment", "tickets.create"]),
        (("report", "su"), ["support"]),
        (("stop", "--tool", "s"), ["search", "sql"]),
        (("policy", "who", "tickets.c"), ["tickets.close", "tickets.comment", "tickets.create"]),
        (("policy", "can", "agent:t"), ["triage"]),
        (("principal", "disable", "user:m"), ["mara"]),
        (("call", "files.read", "--user", "user:d"), ["dana"]),
        (("pol",), ["policy"]),
        (("tool", "show", "nothing"), []),
        (("call", "../"), []),
    ],
    ids=" ".join,
)  # fmt: skip
def test_names_are_completed_where_they_are_meant(remit: Remit, words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(remit, *words) == offered


def test_the_newest_runs_are_completed(remit: Remit) -> None:
    run = remit("call", "files.read", '{"path": "logs/payments.log", "lines": 1}', "--agent", "triage", "--json").json[
        "run"
    ]
    for words in (("trace", "show", run[:3]), ("replay", ""), ("approve", "show", "")):
        assert completed(remit, *words) == [run[:8]]


def test_a_broken_workspace_is_completed_as_far_as_it_goes_and_none_elsewhere(
    remit: Remit, session: Path, tmp_path: Path
) -> None:
    (session / "tools/files/tool.toml").write_text("[[[")
    (session / "policies/rules.csv").write_text("nonsense")
    assert completed(remit, "call", "files.") == []
    assert completed(remit, "call", "sql.") == ["sql.query"]
    assert completed(remit, "run", "") == ["librarian", "support", "triage"]
    assert completed(remit, "run", "", cwd=tmp_path) == []


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("polcy", "check"), "Did you mean policy?"),
        (("tool", "try", "files.raed", "path=a"), "did you mean files.read?"),
        (("tool", "show", "flies"), "did you mean files?"),
        (("run", "trige", "x"), "did you mean triage?"),
        (("call", "files.read", "{}", "--agent", "trige"), "did you mean triage?"),
        (("policy", "explain", "sql.qurey", "table:a", "--agent", "triage"), "did you mean sql.query?"),
        (("policy", "explain", "sql.query", "table:a", "--agent", "trige"), "did you mean agent:triage?"),
        (("policy", "explain", "sql.query", "table:a", "--agent", "triage", "--user", "dna"), "did you mean user:dana?"),
        (("policy", "explain", "sql.query", "table:a", "--agent", "triage", "--label", "untrsted"), "did you mean untrusted?"),
        (("policy", "explain", "sql.query", "table:a", "--agent", "triage", "--env", "locl"), "did you mean local?"),
        (("policy", "explain", "sql.query", "table:a", "--agent", "triage", "--approval", "oncal-lead"), "did you mean role:oncall-lead?"),
        (("policy", "can", "agent:trige"), "did you mean agent:triage?"),
        (("report", "trige"), "did you mean triage?"),
        (("eval", "play", "trige"), "did you mean triage?"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_misspelled_name_is_answered_with_the_near_one(remit: Remit, words: tuple[str, ...], near: str) -> None:
    done = remit(*words)
    assert (done.code, near in done.err) in ((2, True), (1, True)), done.out + done.err
