"""What triage may do, without a sandbox: answers stand in place of the tools."""

from pathlib import Path

from remit.testing import FakeExecutor, assert_denied, assert_effects, capture_run, effect, turn

TASK = "Find out why checkout fails"


def test_triage_writes_no_log(remit_workspace: Path) -> None:
    """A text in a log may say what it wants."""
    model = [turn(files__write={"path": "logs/checkout.log", "text": "all is well"}), turn("I may not.")]
    run = capture_run(remit_workspace, "triage", TASK, model=model, executor=FakeExecutor({}))
    assert_denied(run, "files.write", code="policy_denied")
    assert_effects(run, [])


def test_triage_opens_one_ticket_at_most(remit_workspace: Path) -> None:
    """Two calls of one turn, and only the first one lands."""
    both = turn(
        tickets__create=[
            {"key": "INC-1", "title": "Pool too small", "body": "See the log."},
            {"key": "INC-2", "title": "Pool too small", "body": "See the log."},
        ]
    )
    fake = FakeExecutor({"tickets.create": {"key": "INC-1", "status": "open", "comments": 0}})
    run = capture_run(remit_workspace, "triage", TASK, model=[both, turn("done")], executor=fake)
    assert_effects(run, [effect("tickets.create", "store:tickets", "ticket:INC-1")])
    assert len(fake.calls) == 1
