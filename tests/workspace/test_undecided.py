"""A line of a manifest that a person still has to decide keeps its action from loading."""

from __future__ import annotations

import pytest

from remit.core.errors import WorkspaceError
from support.workspaces.manifests import COMMAND, FILE, parse


def test_an_action_with_a_line_that_is_not_decided_does_not_load_and_is_named_with_its_line() -> None:
    text = COMMAND + '# decide: effect = "read"\n'
    with pytest.raises(WorkspaceError) as error:
        parse(text)
    (problem,) = error.value.problems
    assert (problem.file, problem.line) == (FILE, len(text.splitlines()))
    action = next(iter(parse(COMMAND).actions))
    assert problem.what == f'action {action!r} has a line that is not decided: effect = "read"'
    assert "remove the line" in (problem.fix or "")


def test_a_line_above_the_actions_that_is_not_decided_keeps_the_whole_tool_from_loading() -> None:
    with pytest.raises(WorkspaceError) as error:
        parse('  # decide: owner = "me@example.com"\n' + COMMAND)
    assert error.value.problems[0].what.startswith("the tool has a line that is not decided")


def test_other_comments_and_a_line_that_was_decided_change_nothing() -> None:
    assert parse(COMMAND + "# decided in May: the effect is right\n# what to decide: nothing\n") == parse(COMMAND)
