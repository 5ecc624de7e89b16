"""Calls that a model wrote slightly wrong: they are repaired where exactly one reading fits, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, create_model

from remit.core.calls import Repair
from remit.core.errors import Refusal
from remit.core.parsing import closed
from remit.workspace.manifest import read_arguments, repaired_name

ACTIONS = ("files.read", "files.write", "tools.list", "sql.query")


class Filter(BaseModel):
    column: str
    limit: int = 10
    values: list[int] = []


SCHEMA: dict[str, Any] = closed(
    create_model(
        "f",
        __config__={"extra": "forbid"},
        path=(str, ...),
        lines=(int, 50),
        count=(int, ...),
        maybe=(int | None, None),
        filters=(list[Filter], []),
        one=(Filter | None, None),
        labels=(dict[str, int], {}),
        either=(str | list[str], "a"),
        mixed=(int | list[int], 1),
    ).model_json_schema()
)
GOOD = {"path": "a", "count": 1}


def read(arguments: Any, *, repair: bool = True) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    found, repairs = read_arguments(text, SCHEMA, repair=repair)
    return found, [(made.kind, made.at) for made in repairs]


@pytest.mark.parametrize(
    ("written", "read_as", "kind", "at"),
    [
        ({"lines": None}, {}, "absent", "lines"),
        ({"filters": None}, {}, "absent", "filters"),
        ({"filters": '[{"column": "c"}]'}, {"filters": [{"column": "c"}]}, "decoded", "filters"),
        ({"filters": ['{"column": "c"}']}, {"filters": [{"column": "c"}]}, "decoded", "filters.0"),
        ({"filters": [{"column": "c", "limit": None}]}, {"filters": [{"column": "c"}]}, "absent", "filters.0.limit"),
        ({"one": '{"column": "c"}'}, {"one": {"column": "c"}}, "decoded", "one"),
        ({"one": {"column": "c", "values": "[1]"}}, {"one": {"column": "c", "values": [1]}}, "decoded", "one.values"),
        ({"labels": ' {"a": 1}'}, {"labels": {"a": 1}}, "decoded", "labels"),
        ({"mixed": "[1, 2]"}, {"mixed": [1, 2]}, "decoded", "mixed"),
    ],
)
def test_what_has_one_reading_is_read_so_and_the_place_is_recorded(
    written: dict[str, Any], read_as: dict[str, Any], kind: str, at: str
) -> None:
    assert read({**GOOD, **written}) == ({**GOOD, **read_as}, [(kind, at)])
    assert read({**GOOD, **written}, repair=False) == ({**GOOD, **written}, [])


def test_several_repairs_of_one_call_are_all_recorded() -> None:
    written = {**GOOD, "lines": None, "filters": json.dumps([{"column": "c", "values": "[3]", "limit": None}])}
    found, repairs = read(written)
    assert found == {**GOOD, "filters": [{"column": "c", "values": [3]}]}
    assert repairs == [
        ("absent", "lines"),
        ("decoded", "filters"),
        ("decoded", "filters.0.values"),
        ("absent", "filters.0.limit"),
    ]


def test_arguments_that_are_one_json_text_are_decoded_once() -> None:
    assert read(json.dumps(json.dumps(GOOD))) == (GOOD, [("decoded", "")])
    for arguments in (json.dumps(json.dumps(json.dumps(GOOD))), json.dumps("path"), json.dumps([GOOD])):
        with pytest.raises(Refusal) as refused:
            read(arguments)
        assert refused.value.details["problem"] in ("not_object", "not_json")
    with pytest.raises(Refusal):
        read(json.dumps(json.dumps(GOOD)), repair=False)


@pytest.mark.parametrize(
    "written",
    [
        {"count": None},  # required: what it stands for is not known
        {"count": "1"},  # a number as text may be an id
        {"path": None},
        {"lines": "null"},
        {"lines": None, "unknown": 1},
        {"lines": None, "count": "x"},
        {"filters": "[1]"},
        {"filters": '[{"column": "c"}] and more'},
        {"filters": '[{"column": "c", "column": "d"}]'},
        {"filters": "column = c"},
        {"labels": '["a"]'},
        {"one": json.dumps(json.dumps({"column": "c"}))},
    ],
)
def test_what_has_no_reading_or_another_fault_stays_as_it_was_written(written: dict[str, Any]) -> None:
    assert read({**GOOD, **written}) == ({**GOOD, **written}, [])


@pytest.mark.parametrize(
    "valid", [{"maybe": None}, {"either": '["a"]'}, {"either": "null"}, {"one": None}, {"lines": 3}]
)
def test_arguments_that_fit_are_never_changed(valid: dict[str, Any]) -> None:
    assert read({**GOOD, **valid}) == ({**GOOD, **valid}, [])


def test_a_call_with_very_many_faults_is_not_repaired() -> None:
    rows = [{"column": "c", "limit": None}] * 65
    assert read({**GOOD, "filters": rows}) == ({**GOOD, "filters": rows}, [])
    assert len(read({**GOOD, "filters": rows[:64]})[1]) == 64


@pytest.mark.parametrize(
    "name",
    [
        "functions.files__read",
        " files__read ",
        "functions.files.read",
        "functions::files__read",
        "default_api:files__read",
        "tools/files__read",
        "function.files__read\n",
        "files__read<|channel|>commentary",
        "files__read()",
    ],
)
def test_a_known_prefix_or_suffix_of_a_name_is_left_out(name: str) -> None:
    assert repaired_name(name, ACTIONS, repair=True) == ("files.read", (Repair(kind="name"),))


@pytest.mark.parametrize("name", ["files__read", "files.read", "tools__list"])
def test_the_name_of_an_action_is_no_repair(name: str) -> None:
    assert repaired_name(name, ACTIONS, repair=True) == (name.replace("__", "."), ())


@pytest.mark.parametrize(
    "name", ["files__reads", "Files__read", "read", "other.files__read", "", "functions.", "<|", "list"]
)
def test_a_name_that_is_only_similar_is_not_read_as_the_action(name: str) -> None:
    action, repairs = repaired_name(name, ACTIONS, repair=True)
    assert action not in ACTIONS
    assert repairs == ()
