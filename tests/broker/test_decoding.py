"""Arguments are decoded before an attempt is recorded: what the types of a tool refuse or change has no effect."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core.events import AttemptBegun, AttemptEnded, CallAnswered
from remit.journal import StoredRecord
from remit.runtime import runner as run
from remit.workspace.session import open_session
from support.lifecycle import RUN, Killed, replayed, resumed_after_kill
from support.principals import OPERATOR
from support.runs import Played
from support.sandbox import kill_sandboxes
from support.workspaces.typed import Bank, bank

LIMIT: Final = """
def _low(value: float) -> float:
    if value > 100:
        raise ValueError("more than 100 needs a second pair of eyes")
    return value

class Order(BaseModel):
    amount: float
    currency: str

    @model_validator(mode="after")
    def small(self):
        if self.amount > 100:
            raise ValueError("more than 100 needs a second pair of eyes")
        return self

def annotated(to: str, amount: Annotated[float, AfterValidator(_low)]) -> str:
    return entered(amount)

def whole(to: str, order: Order) -> str:
    return entered(order.amount)

def inside(to: str, amounts: dict[str, list[Annotated[float, AfterValidator(_low)]]]) -> str:
    return entered(sum(map(sum, amounts.values())))

def optional(to: str, amount: Annotated[float, AfterValidator(_low)] | None = None) -> str:
    return entered(amount)
"""
SHIFTED: Final = """
def shifted(to: str, amount: Annotated[float, AfterValidator(lambda value: value * 10)]) -> str:
    return entered(amount)
"""
WORDS: Final = "more than 100 needs a second pair of eyes"
REFUSED: Final = [
    pytest.param("annotated", {"to": "a1", "amount": 5000}, id="of-an-argument"),
    pytest.param("whole", {"to": "a1", "order": {"amount": 5000, "currency": "EUR"}}, id="of-a-whole-model"),
    pytest.param("inside", {"to": "a1", "amounts": {"x": [5000]}}, id="inside-of-lists-and-objects"),
    pytest.param("optional", {"to": "a1", "amount": 5000}, id="of-an-optional"),
]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """The tool with limits on amounts."""
    return bank(tmp_path_factory.mktemp("limited"), LIMIT)


def attempts(played: Played) -> list[AttemptBegun]:
    return [item.event for item in played.records if isinstance(item.event, AttemptBegun)]


@pytest.mark.parametrize(("action", "arguments"), REFUSED)
def test_a_validator_that_refuses_answers_with_the_words_of_its_author_and_nothing_is_in_doubt(
    limited: Bank, action: str, arguments: dict[str, Any]
) -> None:
    before = limited.effects
    played = limited.play({action: arguments})
    error = played.error(0)
    assert (error["code"], error["attempts"], error["retryable"]) == ("invalid_arguments", 0, False)
    assert WORDS in error["message"]
    assert error["details"]["reason"] == "refused_by_validator"
    assert not [word for word in ("5000", "pydantic", "http", "input_value") if word in str(error)]
    assert (limited.effects, attempts(played)) == (before, [])
    assert StoredRecord(played.opened.journal, played.ended.run).state.in_doubt == ()
    assert replayed(played).reproduced


def test_what_a_validator_accepts_reaches_the_function(limited: Bank) -> None:
    before = limited.effects
    played = limited.play({"annotated": {"to": "a1", "amount": 7}}, {"inside": {"to": "a1", "amounts": {"x": [1, 2]}}})
    assert [played.result(step)["value"] for step in (0, 1)] == ["7.0", "3.0"]
    assert limited.effects == [*before, "7.0", "3.0"]


def test_the_labels_of_the_action_are_on_the_run_once_the_model_has_read_words_of_its_tool(limited: Bank) -> None:
    played = limited.play({"annotated": {"to": "a1", "amount": 5000}})
    assert "seen" in StoredRecord(played.opened.journal, played.ended.run).state.labels
    (answered,) = [item.event for item in played.records if isinstance(item.event, CallAnswered)]
    assert answered.labels == ("seen",)


def test_a_validator_that_changes_an_argument_that_a_condition_reads_is_refused(tmp_path: Path) -> None:
    """The rules allow up to 100; the function would have got ten times that."""
    made = bank(tmp_path, SHIFTED, rules="args.amount <= 100")
    played = made.play({"shifted": {"to": "a1", "amount": 50}})
    error = played.error(0)
    assert (error["code"], error["attempts"]) == ("invalid_arguments", 0)
    assert error["details"] == {"argument": "amount", "reason": "changed_by_validator", "decoded": 500.0}
    assert made.effects == []
    assert replayed(played).reproduced


# ── what a validator may change ──────────────────────────────────────────────────────────────────────────────────────

CHANGING: Final = """
class Account(BaseModel):
    id: str

    @field_validator("id")
    @classmethod
    def moved(cls, value: str) -> str:
        return value + "9"

class Wrapped(BaseModel):
    id: str

    @model_validator(mode="before")
    @classmethod
    def moved(cls, value):
        return {"id": "a9"}

@dataclass
class Held:
    id: str

    def __post_init__(self):
        self.id = "a9"

class Kind(enum.Enum):
    NINE = "a9"

    @classmethod
    def _missing_(cls, value):
        return cls.NINE

After = Annotated[str, AfterValidator(lambda value: value + "9")]
Before = Annotated[str, BeforeValidator(lambda value: value + "9")]
Wrap = Annotated[str, WrapValidator(lambda value, handler: handler(value) + "9")]
Plain = Annotated[str, PlainValidator(lambda value: "a9", json_schema_input_type=str)]
Upper = Annotated[str, StringConstraints(to_upper=True)]
Stacked = Annotated[After, StringConstraints(min_length=1)]
"""
# The type, and what is written for it.
TYPES: Final[dict[str, tuple[str, Any]]] = {
    "after": ("After", "a1"),
    "before": ("Before", "a1"),
    "wrap": ("Wrap", "a1"),
    "plain": ("Plain", "a1"),
    "upper": ("Upper", "a1"),
    "stacked": ("Stacked", "a1"),
    "optional": ("After | None", "a1"),
    "listed": ("list[After]", ["a1", "a2"]),
    "number": ("Annotated[int, AfterValidator(lambda value: value + 1)]", 1),
    "number_list": ("list[Annotated[int, AfterValidator(lambda value: value + 1)]]", [1, 2]),
}
INSIDE: Final[dict[str, tuple[str, Any]]] = {
    "model": ("Account", {"id": "a1"}),
    "whole_model": ("Wrapped", {"id": "a1"}),
    "held": ("Held", {"id": "a1"}),
}
CHANGES: Final = CHANGING + "".join(
    f"\ndef {name}(to: {kind}, memo: str = '') -> str:\n    return entered(to)\n"
    f"\ndef {name}_memo(to: str, memo: {kind}) -> str:\n    return entered(memo)\n"
    for name, (kind, _) in TYPES.items()
)


def test_ten_validators_that_change_the_argument_of_the_resource_are_refused_and_ten_that_change_another_are_not(
    tmp_path: Path,
) -> None:
    made = bank(tmp_path, CHANGES)
    refused = [{name: {"to": written}} for name, (_, written) in TYPES.items()]
    allowed = [{f"{name}_memo": {"to": "a1", "memo": written}} for name, (_, written) in TYPES.items()]
    played = made.play(*refused, *allowed)
    assert len(refused) == len(allowed) == 10
    for step in range(10):
        error = played.error(step)
        assert (error["code"], error["attempts"]) == ("invalid_arguments", 0), TYPES
        assert error["details"]["reason"] == "changed_by_validator"
        assert error["details"]["argument"] == "to"
    received = [played.result(step)["value"] for step in range(10, 20)]
    assert received == ["a19", "a19", "a19", "a9", "A1", "a19", "a19", "['a19', 'a29']", "2", "[2, 3]"]
    assert made.effects == received
    assert replayed(played).reproduced


def test_a_change_of_the_part_of_an_argument_that_names_the_resource_is_refused(tmp_path: Path) -> None:
    source = CHANGING + "".join(
        f"\ndef {name}(to: {kind}) -> str:\n    return entered(to.id)\n" for name, (kind, _) in INSIDE.items()
    )
    made = bank(tmp_path, source, touches=("use account:{to/id}", "write store:ledger"))
    played = made.play(*({name: {"to": written}} for name, (_, written) in INSIDE.items()))
    for step in range(len(INSIDE)):
        assert played.error(step)["details"] == {"argument": "to", "reason": "changed_by_validator"}
    assert made.effects == []


def test_types_that_only_write_the_same_value_in_another_way_are_no_change(tmp_path: Path) -> None:
    """Two arguments of ten are checked here: the account, and the amount, which a condition reads."""
    source = """
class Kind(enum.Enum):
    ONE = "a1"

def path(to: pathlib.Path, amount: decimal.Decimal) -> str:
    return entered(repr(amount))

def member(to: Kind, amount: float) -> str:
    return entered(repr(amount))

def literal(to: Literal[Kind.ONE], amount: Annotated[int, Field(gt=0)]) -> str:
    return entered(to.name)

def several(to: set[str], amount: float) -> str:
    return entered(sorted(to))

def keyed(to: str, amount: float, when: dict[int, datetime.date]) -> str:
    return entered(when[1].year)
"""
    made = bank(tmp_path, source, rules="args.amount <= 100")
    played = made.play(
        {"path": {"to": "a1", "amount": 50}},
        {"member": {"to": "a1", "amount": 50}},
        {"literal": {"to": "a1", "amount": 50}},
        {"several": {"to": ["a2", "a1"], "amount": 50}},
        {"keyed": {"to": "a1", "amount": 50, "when": {"1": "2026-01-02"}}},
    )
    assert [played.result(step) for step in range(5)] == [
        {"ok": True, "value": value, "labels": ["seen"]}
        for value in ("Decimal('50')", "50.0", "ONE", "['a1', 'a2']", "2026")
    ]


# ── what a validator does ────────────────────────────────────────────────────────────────────────────────────────────

ACTING: Final = """
def writes(value: str) -> str:
    entered("by a validator")
    return value

def asks(value: str) -> str:
    urllib.request.urlopen("http://127.0.0.1:1/", timeout=1)
    return value

def sleeps(value: str) -> str:
    time.sleep(60)
    return value

def dies(value: str) -> str:
    os._exit(0)

def fills(value: str) -> str:
    return value + str(len(bytearray(1 << 40)))

def exits(value: str) -> str:
    raise SystemExit(3)

def discloses(value: str) -> str:
    raise LookupError(os.environ.get("BANK_KEY", "no secret"))
"""
NAMES: Final = ("writes", "asks", "sleeps", "dies", "fills", "exits", "discloses")


def acting() -> str:
    return ACTING.replace("\ndef ", "\ndef _") + "".join(
        f"\ndef {name}(to: str, memo: Annotated[str, AfterValidator(_{name})]) -> str:\n    return entered(memo)\n"
        for name in NAMES
    )


@pytest.fixture(scope="module")
def active(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return bank(tmp_path_factory.mktemp("active"), acting(), limits='\n[limits]\nwall = "1s"\n')


@pytest.mark.parametrize("name", NAMES)
def test_a_validator_that_writes_sends_sleeps_or_dies_has_no_effect_and_leaves_nothing_in_doubt(
    active: Bank, name: str
) -> None:
    played = active.play({name: {"to": "a1", "memo": "x"}})
    error = played.error(0)
    assert (error["code"], error["attempts"]) == ("invalid_arguments", 0), error
    assert error["details"]["reason"] in ("refused_by_validator", "not_decoded")
    assert (active.effects, attempts(played)) == ([], [])
    assert StoredRecord(played.opened.journal, played.ended.run).state.in_doubt == ()
    assert replayed(played).reproduced


def test_a_process_that_is_killed_between_decoding_and_the_attempt_leaves_nothing_in_doubt(
    limited: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = limited.effects
    limited.script({"annotated": {"to": "a1", "amount": 7}})
    opened = open_session(limited.folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model, run=RUN)

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("remit.broker.execution.check_decoded", die)
        with pytest.raises(Killed):
            asyncio.run(run.start_run(opened, start))
    assert limited.effects == before
    assert StoredRecord(opened.journal, RUN).state.in_doubt == ()
    played = resumed_after_kill(limited.folder)
    assert played.result(0)["ok"]
    assert limited.effects == [*before, "7.0"]
    assert [begun.attempt for begun in attempts(played)] == [1]
    assert replayed(played).reproduced


@pytest.mark.parametrize("head", ["", 'trust = "none"'], ids=["warm", "of-its-own"])
def test_a_sandbox_that_is_killed_between_decoding_and_the_attempt_leaves_nothing_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    made = bank(tmp_path, LIMIT, head=head)
    monkeypatch.setattr("remit.broker.execution.check_decoded", lambda *_, **__: kill_sandboxes())
    played = made.play({"annotated": {"to": "a1", "amount": 7}})
    error = played.error(0)
    assert (error["code"], error["attempts"], error["details"]) == ("tool_crashed", 1, {"effect": "not_landed"})
    assert made.effects == []
    assert StoredRecord(played.opened.journal, played.ended.run).state.in_doubt == ()
    assert replayed(played).reproduced


# ── tools of this process ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bank]:
    """The same tool in this process. Its store is a folder below the one that this process works in."""

    def made(source: str, **given: Any) -> Bank:
        (tmp_path / "hosted").mkdir()
        (tmp_path / "work/clerk").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / "hosted"))
        monkeypatch.delitem(sys.modules, "bank_host", raising=False)
        monkeypatch.chdir(tmp_path / "work/clerk")
        return bank(tmp_path, source, hosted=True, **{"touches": ("use account:{to}",), **given})

    return made


def test_a_tool_of_this_process_is_decoded_before_the_attempt_too(hosted: Callable[..., Bank]) -> None:
    made = hosted(LIMIT)
    played = made.play(
        {"annotated": {"to": "a1", "amount": 5000}},
        {"whole": {"to": "a1", "order": {"amount": 5000, "currency": "EUR"}}},
        {"whole": {"to": "a1", "order": {"amount": 7, "currency": "EUR"}}},
    )
    for step in (0, 1):
        error = played.error(step)
        assert (error["code"], error["attempts"], WORDS in error["message"]) == ("invalid_arguments", 0, True)
    assert played.result(2)["value"] == "7.0"
    assert made.effects == ["7.0"]
    assert replayed(played).reproduced


def test_a_validator_in_this_process_may_not_change_the_argument_of_the_resource(hosted: Callable[..., Bank]) -> None:
    made = hosted(CHANGES)
    played = made.play({"after": {"to": "a1"}}, {"after_memo": {"to": "a1", "memo": "a1"}})
    assert played.error(0)["details"]["reason"] == "changed_by_validator"
    assert made.effects == ["a19"]


def test_the_time_of_a_validator_in_this_process_is_bounded(hosted: Callable[..., Bank]) -> None:
    made = hosted(ACTING.replace("time.sleep(60)", "time.sleep(3)").replace("\ndef ", "\ndef _")
        + "\ndef sleeps(to: str, memo: Annotated[str, AfterValidator(_sleeps)]) -> str:\n    return entered(memo)\n",
        limits='\n[limits]\nwall = "200ms"\n')  # fmt: skip
    played = made.play({"sleeps": {"to": "a1", "memo": "x"}})
    assert played.error(0)["details"] == {"reason": "not_decoded", "cause": "timeout"}
    assert made.effects == []


def test_validators_and_functions_that_never_return_hold_up_neither_other_calls_nor_the_end_of_the_run(
    hosted: Callable[..., Bank],
) -> None:
    """There are more of them than threads in the pool of the event loop."""
    stuck = min(32, (os.cpu_count() or 1) + 4) // 2 + 1
    made = hosted(ACTING.replace("\ndef ", "\ndef _").replace("sleep(60)", "sleep(60 * value.startswith('stuck'))")
        + "\ndef sleeps(to: str, memo: Annotated[str, AfterValidator(_sleeps)]) -> str:\n    return memo\n"
        + "\ndef waits(to: str, memo: str) -> str:\n    return _sleeps(memo)\n"
        + "\ndef pays(to: str) -> str:\n    return entered(to)\n",
        limits='\n[limits]\nwall = "100ms"\n')  # fmt: skip
    calls = [{name: {"to": "a1", "memo": f"stuck {at}"}} for at in range(stuck) for name in ("sleeps", "waits")]
    began = time.monotonic()
    played = made.play(*calls, {"pays": {"to": "a1"}})
    assert {played.error(step)["code"] for step in range(2 * stuck)} == {"invalid_arguments", "outcome_unknown"}
    assert (played.result(2 * stuck).get("value"), made.effects) == ("a1", ["a1"])
    assert time.monotonic() - began < 30


def test_an_import_that_fails_is_an_attempt_without_an_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the arguments, and nothing is in doubt. Each call of this tool imports it."""
    stop = '\nif "BANK_STOP" in os.environ:\n    raise RuntimeError("cannot start")\n'
    made = bank(tmp_path, LIMIT + stop, head='trust = "none"', limits='\n[always]\nenv = ["BANK_STOP"]\n')
    monkeypatch.setenv("BANK_STOP", "1")
    played = made.play({"annotated": {"to": "a1", "amount": 7}})
    (ended,) = [item.event for item in played.records if isinstance(item.event, AttemptEnded)]
    assert (ended.code, ended.landed) == ("tool_crashed", "not_landed")
    assert "cannot start" in ended.message
    assert made.effects == []
