"""A line of a manifest that a person still has to decide keeps its action from loading, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.core import Refusal, UsageError
from remit.workspace.definitions import Workspace
from remit.workspace.loader import load_workspace
from remit.workspace.manifest.undecided import open_lines
from support.runs import CommandResult, Remit
from support.workspaces.manifests import COMMAND, FILE, WHOLE, parse

EFFECT = '# decide: effect = "read"\n'
READ = ("files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage")
OF_READ = 'summary = "Read lines'
LIST = ("files.list", '{"folder": "runbooks"}', "--agent", "triage")


def put(session: Path, tool: str, before: str, line: str) -> int:
    """Write the line into the manifest, above that text; the number of the line."""
    path = session / f"tools/{tool}/tool.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, line + before, 1))
    return text[: text.index(before)].count("\n") + 1


def test_an_action_with_a_line_that_is_not_decided_does_not_load_and_is_named_with_its_line() -> None:
    text = COMMAND + EFFECT
    (one,) = open_lines(text)
    problem = one.problem(FILE)
    assert (problem.file, problem.line) == (FILE, len(text.splitlines()))
    action = next(iter(parse(COMMAND).actions))
    assert problem.what == f'action {action!r} has a line that is not decided: effect = "read"'
    assert "remove the line" in (problem.fix or "")
    assert (dict(parse(text).actions), parse(text).undecided) == ({}, {action: problem.line})


PLACES = {
    "below the header of an action": (WHOLE.replace("[actions.read]\n", "[actions.read]\n" + EFFECT), {"read"}),
    "at the end of an action": (WHOLE.replace("\n[actions.write]", EFFECT + "\n[actions.write]"), {"read"}),
    "at the end of the file": (WHOLE + EFFECT, {"write"}),
    "directly above an action": (WHOLE.replace("[actions.write]", EFFECT + "[actions.write]"), {"read", "write"}),
    "in a table of an action that comes later": (WHOLE + "\n[actions.read.target]\n" + EFFECT, {"read"}),
    "behind a comment with characters that end a line elsewhere": (
        "# a" + "\u2028\u2029\x85" * 9 + "b\n" + WHOLE.replace("[actions.read]\n", "[actions.read]\n" + EFFECT),
        {"read"},
    ),
    "in another table": (WHOLE.replace("[limits]\n", "[limits]\n" + EFFECT), {"read", "write"}),
    "in a table behind the actions": (WHOLE + "\n[circuit]\n" + EFFECT, {"read", "write"}),
    "above everything": ("  " + EFFECT + WHOLE, {"read", "write"}),
    "behind a text that looks like a header": (
        WHOLE + 'request_words = ["a"]\n'.replace('"a"', "'''\n[actions.read]\n'''") + EFFECT,
        {"write"},
    ),
    "for a probe of another action": (
        WHOLE.replace("[actions.read]\n", "[actions.read]\n" + EFFECT) + 'probe = "read"\n',
        {"read", "write"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "names"), list(PLACES.values()), ids=list(PLACES))
def test_an_open_line_keeps_the_actions_of_its_table_from_loading_and_one_outside_of_all_every_action(
    text: str, names: set[str]
) -> None:
    manifest = parse(text)
    assert (set(manifest.undecided), set(manifest.actions)) == (names, {"read", "write"} - names)


def test_a_pin_never_covers_an_action_that_is_not_decided() -> None:
    open_ = parse(WHOLE.replace("[actions.read]\n", "[actions.read]\n" + EFFECT))
    assert len({open_.digest, parse(WHOLE).digest, parse(WHOLE + EFFECT).digest}) == 3


def test_other_comments_and_a_line_that_was_decided_change_nothing() -> None:
    assert parse(COMMAND + "# decided in May: the effect is right\n# what to decide: nothing\n") == parse(COMMAND)


def test_a_workspace_with_an_open_line_works_but_for_that_action(remit: Remit, session: Path) -> None:
    """The tool is pinned again: what a person has decided of it runs, and the open action is refused with the line."""
    line = put(session, "files", OF_READ, EFFECT)
    refused = remit("check")
    assert (refused.code, refused.err.count("has a line that is not decided: effect")) == (2, 1)
    assert f"tools/files/tool.toml:{line}: action 'read' has a line that is not decided" in refused.err
    other = remit("call", "tickets.get", '{"key": "INC-2041"}', "--agent", "triage")
    assert other.code == 0, other.out
    assert "is not decided" in remit("tool", "pin", "files").err
    assert remit("call", *LIST).code == 0
    error = error_of(remit("call", *READ, "--json"))
    assert (error["code"], error["details"]["reason"]) == ("policy_denied", "not_decided")
    assert f"tools/files/tool.toml:{line}" in error["message"]
    for again in (("tool", "try", "files.read", "path=a"), ("allow", *READ)):
        shown = remit(*again)
        assert (shown.code != 0, f"tools/files/tool.toml:{line}" in shown.err) == (True, True), shown
    assert f"does not load: line {line}" in remit("tool", "show", "files").out


def test_the_action_is_reviewed_again_once_its_line_is_decided(remit: Remit, session: Path) -> None:
    put(session, "files", OF_READ, EFFECT)
    remit("tool", "pin", "files")
    path = session / "tools/files/tool.toml"
    path.write_text(path.read_text().replace(EFFECT, ""))
    assert error_of(remit("call", *READ, "--json"))["details"]["reason"] == "not_pinned"
    assert remit("tool", "pin", "files").code == 0
    assert remit("call", *READ).code == 0


def test_a_tool_with_a_line_above_its_actions_cannot_be_pinned_and_the_others_run(remit: Remit, session: Path) -> None:
    put(session, "files", "owner =", '# decide: read = ["docs/**"]\n')
    pinned = remit("tool", "pin", "files")
    assert (pinned.code, "the tool has a line that is not decided" in pinned.err) == (2, True)
    assert error_of(remit("call", *READ, "--json"))["details"]["reason"] == "not_decided"
    assert remit("call", "tickets.get", '{"key": "INC-2041"}', "--agent", "triage").code == 0


def test_an_agent_that_does_not_have_the_action_reads_nothing_of_it(remit: Remit, session: Path) -> None:
    put(session, "sql", "owner =", EFFECT)
    error = error_of(remit("call", "sql.query", "{}", "--agent", "librarian", "--json"))
    assert (error["code"], "tool.toml" in str(error)) == ("unknown_action", False)


def test_rules_limits_and_lists_that_name_the_action_stay_valid(session: Path) -> None:
    """All that names actions is loaded: rules, shared limits, tools of an agent, and what fills its directory."""
    for tool in ("files", "sql", "tickets"):
        put(session, tool, "owner =", EFFECT)
    workspace = load_workspace(session)
    assert named(workspace, "triage") >= {"files.read", "tickets.close"}
    assert not named(workspace, "triage") & set(workspace.agents["triage"].actions)
    with pytest.raises(Refusal, match=r"tools/files/tool\.toml:\d+"):
        workspace.action("files.read")
    with pytest.raises((Refusal, UsageError), match="no tool of this workspace"):
        workspace.action("files.raed")


def named(workspace: Workspace, agent: str) -> set[str]:
    return set(workspace.agents[agent].undecided)


def error_of(done: CommandResult) -> dict[str, object]:
    assert done.code == 1, done
    error: dict[str, object] = done.json["error"]
    return error
