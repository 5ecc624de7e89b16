"""The clerk writes notes, and nothing else."""

from pathlib import Path

from remit.testing import assert_denied, assert_effects, capture_run, effect, turn


def test_the_clerk_writes_a_note(remit_workspace: Path) -> None:
    """The whole run: decided, confined and recorded."""
    run = capture_run(remit_workspace, "clerk", "write it down")
    assert_effects(run, [effect("notes.add", "file:notes/today.md")])
    assert run.answer == "I wrote it down."


def test_a_long_note_is_denied(remit_workspace: Path) -> None:
    """The rule allows 1000 characters. Here the model is the test's."""
    long = turn(notes__add={"path": "notes/long.md", "text": "x" * 1001})
    run = capture_run(remit_workspace, "clerk", "write it down", model=[long, turn("I may not.")])
    assert_denied(run, "notes.add", code="policy_denied")
    assert_effects(run, [])
