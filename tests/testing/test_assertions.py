"""Each assertion passes for what it claims, and fails otherwise with a message that says what to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.testing import (
    CapturedRun,
    FakeExecutor,
    assert_denied,
    assert_effects,
    assert_replays,
    capture_run,
    effect,
    turn,
)
from support import ROOT

DONE = turn("done")
GOLDEN = ROOT / "traces" / "golden"

Clerk = Callable[..., Path]


def fake() -> FakeExecutor:
    return FakeExecutor(
        {
            "ledger.look": {"name": "ann", "text": ""},
            "ledger.pay": "paid",
            "ledger.book": "booked",
            "ledger.wire": RuntimeError(),
            "ledger.wired": RuntimeError(),
        }
    )


@pytest.fixture
def ran(clerk: Clerk) -> Callable[..., CapturedRun]:
    """Run these calls of the clerk, all in one turn, with a fake executor."""

    def run(**calls: Any) -> CapturedRun:
        return capture_run(clerk([]), "clerk", "x", model=[turn(**calls), DONE], executor=fake())

    return run


def pays(*given: tuple[str, int]) -> list[Any]:
    return [{"name": name, "amount": amount} for name, amount in given]


def message(failing: Callable[[], object]) -> str:
    """What a failed assertion says, without the description of the run."""
    with pytest.raises(AssertionError) as raised:
        failing()
    text, separator, described = str(raised.value).partition("\nrun ")
    assert separator
    assert ": completed\n  0.0 ledger." in described or ": waiting\n  0.0 ledger." in described
    return text


# Denied


def test_a_denied_call_is_found_by_action_resource_code_and_rule(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__pay=pays(("vault", 1), ("ann", 5)), shell="{}")
    denied = assert_denied(run, "ledger.pay", "account:vault", rule="Nobody touches the vault")
    assert denied.place == "0.0"
    assert_denied(run, "ledger.pay", "account:vault", rule="account:vault, True, deny")
    assert_denied(run, "shell", code="unknown_action")


def test_a_call_that_no_rule_allows_is_denied(clerk: Clerk) -> None:
    calls = turn(ledger__look={"name": "ann"})
    run = capture_run(clerk([]), "clerk", "x", model=[calls, DONE], executor=fake(), user="user:bea")
    assert_denied(run, "ledger.look", "account:ann")
    assert message(lambda: assert_denied(run, "ledger.look", rule="Nobody")) == (
        "call 0.0, ledger.look, was not denied by a rule with 'Nobody'\n  it was decided by no rule: none allows the call"
    )


def test_an_assertion_about_a_call_that_was_not_made_fails(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__look={"name": "vault"})
    assert message(lambda: assert_denied(run, "ledger.pay")) == "the run made no call ledger.pay"
    assert message(lambda: assert_denied(run, "ledger.look", "account:ann")) == (
        "the run made no call ledger.look of account:ann"
    )


def test_one_call_that_is_not_denied_fails_the_assertion_with_its_rules(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__pay=pays(("vault", 1), ("ann", 5)))
    text = message(lambda: assert_denied(run, "ledger.pay"))
    assert text.startswith(
        "call 0.1, ledger.pay, was not refused: it succeeded\n  it was decided by policies/rules.csv:"
    )
    assert "'The clerk pays small amounts'" in text
    waiting = ran(ledger__pay=pays(("ann", 5000)))
    assert "was not refused: it waits for approval" in message(lambda: assert_denied(waiting, "ledger.pay"))


def test_another_code_or_another_rule_fails_the_assertion(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__pay=["{", *pays(("vault", 1))])
    assert message(lambda: assert_denied(run, "ledger.pay")).startswith(
        "call 0.0, ledger.pay, was refused with invalid_arguments, not policy_denied: "
    )
    text = message(lambda: assert_denied(run, "ledger.pay", "account:vault", rule="Triage"))
    assert text.startswith(
        "call 0.1, ledger.pay, was not denied by a rule with 'Triage'\n  it was decided by policies/"
    )
    assert "'Nobody touches the vault'" in text


# Effects


def test_effects_match_in_any_order_by_action_resources_and_arguments(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__pay=pays(("ann", 5), ("ben", 6)), ledger__book={"name": "ann", "amount": 1})
    assert_effects(run, ["ledger.book", "ledger.pay", "ledger.pay"])
    assert_effects(run, [effect("ledger.pay", "account:ben", amount=6), "ledger.pay", effect("ledger.book")])
    assert_effects(run, ["ledger.pay", effect("ledger.pay", "account:ann"), "ledger.book"])
    assert_effects(ran(ledger__look={"name": "ann"}), [])


def test_missing_and_unexpected_effects_are_named_with_their_calls(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__pay=pays(("ann", 5), ("vault", 6)))
    expected = [effect("ledger.pay", "account:vault", amount=6), "ledger.book"]
    assert message(lambda: assert_effects(run, expected)) == (
        "the effects that landed are not the expected ones\n"
        "  missing: ledger.pay account:vault amount=6 (call 0.1 ledger.pay of account:vault: policy_denied, "
        f"{run.call(0, 1).error.message})\n"
        "  missing: ledger.book\n"
        "  not expected: ledger.pay account:ann name='ann' amount=5 memo='' (call 0.0)"
    )


@pytest.mark.parametrize(
    "expected",
    [
        [],
        ["ledger.pay"],
        ["ledger.pay"] * 3,
        ["ledger.pay", effect("ledger.pay", "account:cid")],
        ["ledger.pay", effect("ledger.pay", "account:ann", "account:ben")],
        ["ledger.pay", effect("ledger.pay", amount=7)],
        ["ledger.pay", effect("ledger.pay", unknown=5)],
        [effect("ledger.pay", "account:ann")] * 2,
    ],
)
def test_every_other_list_of_effects_fails(ran: Callable[..., CapturedRun], expected: list[Any]) -> None:
    run = ran(ledger__pay=pays(("ann", 5), ("ben", 6)))
    message(lambda: assert_effects(run, expected))


def test_an_effect_in_doubt_fails_every_assertion_about_effects(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__wire={"name": "ann", "amount": 1})
    for expected in ([], ["ledger.wire"]):
        assert "  may have landed: ledger.wire account:ann" in message(
            lambda expected=expected: assert_effects(run, expected)
        )


def test_a_long_argument_is_cut_in_a_message(ran: Callable[..., CapturedRun]) -> None:
    run = ran(ledger__pay={"name": "ann", "amount": 5, "memo": "x" * 500})
    assert "memo='" + "x" * 56 + "..." in message(lambda: assert_effects(run, []))


# Replays


def test_golden_traces_replay_one_by_one_and_as_a_folder() -> None:
    assert_replays(GOLDEN / "format-1" / "approval-expired.jsonl")
    assert_replays(str(GOLDEN))


def test_a_trace_of_a_captured_run_replays(clerk: Clerk) -> None:
    run = capture_run(clerk([]), "clerk", "x", model=[turn(ledger__look={"name": "ann"}), DONE])
    assert run.trace is not None
    assert_replays(run.trace)


def test_a_changed_trace_fails_and_is_named_with_the_command_that_shows_it(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "deep" / "bad.jsonl"
    bad.parent.mkdir()
    text = (GOLDEN / "format-1" / "budget-spent.jsonl").read_text()
    good.write_text(text)
    lines = text.splitlines(keepends=True)
    number = next(at for at, line in enumerate(lines) if "call.answered" in line and "ann" in line)
    lines[number] = lines[number].replace("ann", "eve")
    bad.write_text("".join(lines))
    with pytest.raises(AssertionError) as raised:
        assert_replays(tmp_path)
    text = str(raised.value)
    assert text.startswith(f"1 of 2 traces are not reproduced\n{bad}: ")
    assert ", tampered: " in text
    assert text.endswith(f"look at: remit replay {bad}")


def test_a_trace_that_cannot_be_replayed_or_found_fails(tmp_path: Path) -> None:
    with pytest.raises(
        AssertionError, match=r"has no trace file \(\*\.jsonl\): write one with `remit trace export RUN"
    ):
        assert_replays(tmp_path)
    (tmp_path / "torn.jsonl").write_text("{}\n")
    with pytest.raises(AssertionError, match=r"torn\.jsonl: it cannot be replayed: "):
        assert_replays(tmp_path)
    with pytest.raises(AssertionError, match=r"gone\.jsonl: it cannot be replayed: .* cannot be read"):
        assert_replays(tmp_path / "gone.jsonl")
