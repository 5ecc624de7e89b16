"""From what the model wrote to what the call touches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core.calls import ResourceAccess
from remit.core.errors import Refusal
from remit.core.parsing import closed
from remit.workspace.manifest.manifest import Action, ActionSchema, Manifest
from remit.workspace.manifest.resolution import MOST_TOUCHES, check_output, command_schema, fill_argv, resolve

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy

TEXT = {"type": "string"}


def manifest(**changes: Any) -> Manifest:
    given: dict[str, Any] = {
        "name": "files",
        "version": "1",
        "owner": "a@example.com",
        "summary": "s",
        "source": "python",
        "read": ("docs/**", "logs/*.txt"),
        "write": ("reports/**",),
        "stores": ("tickets",),
        "url_hosts": ("*.com:443",),
        "actions": {},
        "digest": "",
    }
    return Manifest(**{**given, **changes})


def schema(required: tuple[str, ...] = (), **properties: Any) -> ActionSchema:
    given = closed({"type": "object", "properties": properties, "required": list(required)})
    return ActionSchema(input=given, output={})


def touch(line: str, *, fixed: bool = False) -> ResourceAccess:
    access, _, resource = line.partition(" ")
    return ResourceAccess.model_validate({"access": access, "resource": resource, "fixed": fixed})


def resolved(
    touches: tuple[str, ...], arguments: dict[str, Any], **properties: Any
) -> tuple[dict[str, Any], list[str]]:
    used, found = resolve(manifest(), Action(name="a", summary="s", touches=touches), schema(**properties), arguments)
    return used, [f"{each.access} {each.resource}" for each in found]


def refused(touches: tuple[str, ...], arguments: dict[str, Any], **properties: Any) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        resolved(touches, arguments, **properties)
    return refusal.value


def test_a_file_argument_becomes_one_resource_and_its_canonical_spelling() -> None:
    assert resolved(
        ("read file:{path}",), {"path": "./docs//a.md", "line": 3}, path=TEXT, line={"type": "integer"}
    ) == (
        {"path": "docs/a.md", "line": 3},
        ["read file:docs/a.md"],
    )


def test_a_folder_becomes_a_set() -> None:
    assert resolved(("read file:{folder}/**",), {"folder": "docs/x/"}, folder=TEXT) == (
        {"folder": "docs/x"},
        ["read file:docs/x/**"],
    )


def test_a_list_gives_one_touch_for_each_element_and_none_twice() -> None:
    paths = {"type": "array", "items": TEXT}
    assert resolved(("read file:{paths}",), {"paths": ["docs/a", "./docs/b", "docs//a"]}, paths=paths) == (
        {"paths": ["docs/a", "docs/b", "docs/a"]},
        ["read file:docs/a", "read file:docs/b"],
    )


def test_an_optional_argument_that_is_not_given_touches_nothing() -> None:
    optional = {"anyOf": [TEXT, {"type": "null"}], "default": None}
    assert resolved(("use service:{service}",), {}, service=optional) == ({"service": None}, [])
    assert resolved(("use service:{service}",), {"service": None}, service=optional) == ({"service": None}, [])
    assert resolved(("use service:{service}",), {}, service=TEXT) == ({}, [])


def test_a_folder_that_is_not_given_is_its_default_and_never_every_folder() -> None:
    touches = ("read file:{folder}/**",)
    assert resolved(touches, {}, folder={**TEXT, "default": "./docs"})[1] == ["read file:docs/**"]
    optional = {"anyOf": [TEXT, {"type": "null"}], "default": "docs"}
    assert refused(touches, {"folder": None}, folder=optional).details["problem"] == "missing"


def test_a_query_touches_its_tables_and_becomes_its_canonical_text() -> None:
    used, found = resolved(("use table:{query:sql}",), {"query": "select * from Orders -- x"}, query=TEXT)
    assert used == {"query": "SELECT * FROM Orders"}
    assert found == ["use table:orders"]


def test_a_url_is_decided_without_its_query_and_given_with_it() -> None:
    used, found = resolved(("use https:{url}",), {"url": "HTTPS://Example.com:443/a?q=1"}, url=TEXT)
    assert used == {"url": "https://example.com/a?q=1"}
    assert found == ["use https://example.com/a"]


def test_constants_and_stores_are_touched_whatever_the_arguments_say() -> None:
    touches = ("write store:tickets", "use ticket:{key}", "use service:mailer")
    used, found = resolve(
        manifest(), Action(name="a", summary="s", touches=touches), schema(key=TEXT), {"key": "INC-7"}
    )
    assert used == {"key": "INC-7"}
    assert found == (
        touch("write store:tickets", fixed=True),
        touch("use ticket:INC-7"),
        touch("use service:mailer", fixed=True),
    )


@pytest.mark.parametrize("path", ["etc/passwd", "docs", "logs/x/a.txt", "logs/a.md", "docs2/a", "reports/a.md", "."])
def test_a_file_outside_the_ceiling_is_denied_without_repeating_it(path: str) -> None:
    refusal = refused(("read file:{path}",), {"path": path}, path=TEXT)
    assert refusal.code == "policy_denied"
    assert refusal.details == {"reason": "outside_manifest", "argument": "path", "access": "read"}
    assert refusal.next_step == "name a file in docs/**, logs/*.txt"


@pytest.mark.parametrize("folder", [".", "logs", "reports", "doc"])
def test_a_set_outside_the_ceiling_is_denied(folder: str) -> None:
    assert refused(("read file:{folder}/**",), {"folder": folder}, folder=TEXT).code == "policy_denied"


def test_what_may_be_read_may_not_be_written() -> None:
    assert refused(("write file:{path}",), {"path": "docs/a.md"}, path=TEXT).code == "policy_denied"
    assert resolved(("write file:{path}",), {"path": "reports/a.md"}, path=TEXT)[1] == ["write file:reports/a.md"]


@pytest.mark.parametrize(
    ("arguments", "details"),
    [
        ({"secret-word": 1}, {"argument": "", "problem": "unknown_property", "expected": ["count", "path"]}),
        ({}, {"argument": "path", "problem": "missing"}),
        ({"path": 7}, {"argument": "path", "problem": "wrong_type", "expected": "string"}),
        ({"path": "docs/a", "count": "secret-word"}, {"argument": "count", "problem": "wrong_type", "expected": "integer"}),
        ({"path": "docs/a", "count": True}, {"argument": "count", "problem": "wrong_type", "expected": "integer"}),
        ({"path": "docs/a", "count": 1.5}, {"argument": "count", "problem": "wrong_type", "expected": "integer"}),
        ({"path": "docs/a", "count": 0}, {"argument": "count", "problem": "too_small"}),
        ({"path": "../secret-word"}, {"argument": "path", "kind": "file", "problem": "parent_folder"}),
    ],
)  # fmt: skip
def test_arguments_are_checked_without_coercion_and_never_repeated(
    arguments: dict[str, Any], details: dict[str, Any]
) -> None:
    with pytest.raises(Refusal) as refusal:
        resolve(
            manifest(),
            Action(name="a", summary="s", touches=("read file:{path}",)),
            schema(("path",), path=TEXT, count={"type": "integer", "minimum": 1, "default": 5}),
            arguments,
        )
    assert refusal.value.code == "invalid_arguments"
    found = dict(refusal.value.details)
    place = found.pop("mismatch", None)  # the same place as a JSON pointer, with the keyword
    assert found == details
    assert place is None or place["pointer"] == "".join(f"/{name}" for name in details["argument"].split(".") if name)
    assert "secret-word" not in str(refusal.value)


def test_a_list_of_too_many_resources_is_refused() -> None:
    many = [f"docs/{number}" for number in range(MOST_TOUCHES + 1)]
    paths = {"type": "array", "items": TEXT}
    assert refused(("read file:{paths}",), {"paths": many}, paths=paths).details["problem"] == "too_many"


def test_an_argument_that_is_neither_text_nor_whole_number_names_nothing() -> None:
    assert refused(("use id:{key}",), {"key": True}, key={"type": "boolean"}).details["problem"] == "wrong_type"
    assert refused(("use id:{key}",), {"key": 7.5}, key={"type": "number"}).details["problem"] == "wrong_type"


def test_a_whole_number_is_the_name_of_the_thing_with_that_number() -> None:
    assert resolved(("use id:{key}",), {"key": 7}, key={"type": "integer"}) == ({"key": 7}, ["use id:7"])


def test_a_proper_name_may_have_several_words_and_no_hidden_ones() -> None:
    assert resolved(("use hotel:{hotel:name}",), {"hotel": "Grand Café"}, hotel=TEXT)[1] == ["use hotel:Grand Café"]
    for odd in ("Grand  Café", " Grand", "Grand\u200b", "a/b", "*", ""):
        assert refused(("use hotel:{hotel:name}",), {"hotel": odd}, hotel=TEXT).code == "invalid_arguments"


PAYMENTS = {"type": "array", "items": {"type": "object"}}


def test_names_may_stand_inside_of_an_argument_and_are_spelled_canonically_there() -> None:
    touches = ("use payment:{payments/*/id}", "use mail:{payments/*/payer/mail}")
    given = [{"id": "card-1", "payer": {"mail": "Ann@Example.com"}}, {"id": 7, "payer": {"mail": "bo@example.com"}}]
    used, found = resolved(touches, {"payments": given}, payments=PAYMENTS)
    assert used["payments"][0] == {"id": "card-1", "payer": {"mail": "ann@example.com"}}
    assert found == ["use payment:card-1", "use payment:7", "use mail:ann@example.com", "use mail:bo@example.com"]
    assert given[0]["payer"] == {"mail": "Ann@Example.com"}
    assert resolved(touches, {}, payments=PAYMENTS) == ({}, [])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([{"id": "a"}, {"no": "b"}], "missing"),
        ([{"id": None}], "missing"),
        ([None], "missing"),
        (["a"], "wrong_type"),
        ([{"id": {"id": "a"}}], "wrong_type"),
        ([{"id": True}], "wrong_type"),
        ([{"id": "a b"}], "not_an_id"),
        ([{"id": "a"}] * (MOST_TOUCHES + 1), "too_many"),
        ({"id": "a"}, "wrong_type"),
    ],
)
def test_an_item_that_does_not_say_what_it_names_is_refused(given: Any, problem: str) -> None:
    refusal = refused(("use payment:{payments/*/id}",), {"payments": given}, payments={})
    assert (refusal.code, refusal.details["problem"]) == ("invalid_arguments", problem)


def test_what_was_given_is_not_changed() -> None:
    given = {"paths": ["./docs/a"]}
    resolved(("read file:{paths}",), given, paths={"type": "array", "items": TEXT})
    assert given == {"paths": ["./docs/a"]}


@UNHURRIED
@given(st.text(alphabet="docs/.ab%\\*", max_size=14))
def test_every_touched_file_lies_below_the_ceiling(path: str) -> None:
    try:
        used, found = resolved(("read file:{path}",), {"path": path}, path=TEXT)
    except Refusal:
        return
    assert found == [f"read file:{used['path']}"]
    assert used["path"].startswith("docs/")


def test_a_result_that_does_not_match_its_schema_is_invalid_output() -> None:
    promised = ActionSchema(
        input={}, output={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    )
    check_output(promised, {"n": 1})
    refused: list[tuple[Any, str, str]] = [
        ({"n": "1"}, "/n", "type"),
        ({}, "/n", "required"),
        ([], "", "type"),
        (None, "", "type"),
    ]
    for value, pointer, keyword in refused:
        with pytest.raises(Refusal) as refusal:
            check_output(promised, value)
        assert refusal.value.code == "invalid_output"
        assert refusal.value.details == {"mismatch": {"pointer": pointer, "keyword": keyword}}
    for value in (float("nan"), 2**60, "\ud800"):
        with pytest.raises(Refusal) as refusal:
            check_output(ActionSchema(input={}, output={}), value)
        assert refusal.value.code == "invalid_output"


def test_a_default_is_never_filled_into_a_result() -> None:
    promised = ActionSchema(input={}, output={"type": "object", "properties": {"n": {"type": "integer", "default": 1}}})
    value: dict[str, Any] = {}
    check_output(promised, value)
    assert value == {}


def test_one_placeholder_is_one_element_of_argv() -> None:
    action = Action(name="a", summary="s", run=("jq", "-r", "--", "{filter}", "{path}"))
    assert fill_argv(action, {"filter": ". | $(x) `y` ; z", "path": "docs/a b"}) == (
        "jq",
        "-r",
        "--",
        ". | $(x) `y` ; z",
        "docs/a b",
    )
    assert fill_argv(action, {"filter": "-n", "path": "docs/a"}) == ("jq", "-r", "--", "-n", "docs/a")
    assert fill_argv(Action(name="a", summary="s"), {"filter": "x"}) == ()
    assert command_schema(action).input["required"] == ["filter", "path"]


def test_only_the_manifest_names_files_of_the_tools_own_folder() -> None:
    action = Action(name="a", summary="s", run=("node", "./main.js", "--", "{path}"))
    assert fill_argv(action, {"path": "./main.js"}, own="/tool") == ("node", "/tool/main.js", "--", "./main.js")


def test_an_argument_that_a_program_would_take_for_an_option_is_refused() -> None:
    action = Action(name="a", summary="s", run=("jq", "{filter}", "{path}"))
    for filter_, problem in (
        ("--from-file", "option"),
        ("a\0b", "not_a_text"),
        (None, "not_a_text"),
        (["a"], "not_a_text"),
    ):
        with pytest.raises(Refusal) as refusal:
            fill_argv(action, {"filter": filter_, "path": "docs/a"})
        assert refusal.value.details == {"argument": "filter", "problem": problem}
