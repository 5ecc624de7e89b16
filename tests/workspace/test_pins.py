"""What a reviewer pins: functions that carry their manifest's touches, and a lock that nobody edits by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from remit.core.errors import WorkspaceError
from remit.workspace.manifest.manifest import ActionSchema, code_digest, pin
from remit.workspace.manifest.pins import check_schemas, read_lock, write_lock
from support.workspaces.manifests import COMMAND, FILE, WHOLE, parse


def changed(old: str, new: str) -> str:
    assert old in WHOLE
    return WHOLE.replace(old, new, 1)


READ = ActionSchema(
    input={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    output={"type": "string"},
)
WRITE = ActionSchema(
    description="Write.",
    input={
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "service": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": None},
        },
        "required": ["path"],
    },
    output={"type": "null"},
)
HIDDEN: Mapping[str, tuple[str, ...]] = {"write": ("idempotency_key",)}


def faults(
    schemas: Mapping[str, ActionSchema], text: str = WHOLE, hidden: Mapping[str, tuple[str, ...]] = HIDDEN
) -> list[tuple[int | None, str]]:
    found = check_schemas(parse(text), schemas, hidden, file=FILE, text=text)
    return [(problem.line, problem.what) for problem in found]


def with_argument(name: str, schema: Any, *, required: bool = True) -> ActionSchema:
    return ActionSchema(
        input={"type": "object", "properties": {name: schema}, "required": [name] if required else []}, output={}
    )


def test_functions_that_fit_the_manifest_can_be_pinned() -> None:
    assert faults({"read": READ, "write": WRITE}) == []


def test_functions_and_actions_are_the_same_ones() -> None:
    assert faults({"read": READ, "wrote": WRITE}) == [
        (22, "the code has a function 'wrote' that is no action of the manifest"),
        (30, "the code has no function 'write'"),
    ]


def test_a_placeholder_without_an_argument_is_a_problem() -> None:
    assert faults({"read": with_argument("file", {"type": "string"}), "write": WRITE}) == [
        (24, "the placeholder 'path' is no argument")
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer"},
        {},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array"},
        {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        {"anyOf": [{"type": "string"}, {"type": "object"}]},
        {"enum": ["a", 1]},
    ],
)
def test_an_argument_that_may_be_no_text_cannot_name_a_resource(schema: Any) -> None:
    assert faults({"read": with_argument("path", schema), "write": WRITE}) == [
        (24, "argument 'path' names a resource and must be a text or a list of texts")
    ]


ITEM = {"type": "object", "properties": {"id": {"type": "string"}}}


@pytest.mark.parametrize(
    ("items", "fits"),
    [
        (ITEM, True),
        ({"anyOf": [ITEM, {"type": "object"}]}, True),  # an object without declared properties is checked in each call
        ({"type": "object", "properties": {"id": {"type": "number"}}}, False),
        ({"type": "object", "properties": {"name": {"type": "string"}}}, False),
        ({"anyOf": [ITEM, {"type": "string"}]}, False),
        ({"type": "string"}, False),
    ],
)
def test_a_name_inside_of_an_argument_must_always_be_present(items: Any, fits: bool) -> None:
    text = changed('"read file:{path}"', '"use payment:{path/*/id}"')
    schema = with_argument("path", {"type": "array", "items": items})
    expected = [(24, "argument 'path/*/id' names a resource and must be a text or a list of texts")]
    assert faults({"read": schema, "write": WRITE}, text) == ([] if fits else expected)


def test_a_set_must_have_a_folder() -> None:
    text = changed('"read file:{path}"', '"read file:{path}/**"')
    optional = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert faults({"read": with_argument("path", optional, required=False), "write": WRITE}, text) == [
        (24, "argument 'path' names a set of files and has no default")
    ]
    with_default = {"type": "string", "default": "docs"}
    assert faults({"read": with_argument("path", with_default, required=False), "write": WRITE}, text) == []


def test_a_query_must_be_one_text() -> None:
    text = changed('"read file:{path}"', '"use table:{path:sql}"')
    many = with_argument("path", {"type": "array", "items": {"type": "string"}})
    assert faults({"read": many, "write": WRITE}, text) == [(24, "argument 'path' names a resource and must be a text")]


def test_a_keyed_action_takes_a_key() -> None:
    text = changed('effect = "read"', 'effect = "keyed"')
    assert faults({"read": READ, "write": WRITE}, text) == [(25, "'read' has effect = 'keyed' and no key")]
    assert faults({"read": READ, "write": WRITE}, text, {"read": ("idempotency_key",)}) == []


def test_an_unsupported_schema_cannot_be_pinned() -> None:
    odd = with_argument("path", {"type": "string", "not": {"maxLength": 3}})
    assert faults({"read": odd, "write": WRITE}) == [
        (22, "the arguments of 'read': path uses the keyword 'not', which Remit does not support")
    ]


def saying(where: str, word: str) -> ActionSchema:
    """The schema of `read` with the text in one place that a model reads."""
    path: dict[str, Any] = {"type": "string"}
    if where in ("description", "title", "default", "enum", "examples"):
        path[where] = [word] if where in ("enum", "examples") else word
    properties = {"path": path, **({word: {"type": "string"}} if where == "name" else {})}
    given = {"type": "object", "properties": properties, "required": ["path"]}
    output = {"type": "string", "title": word} if where == "result" else {"type": "string"}
    return ActionSchema(description=word if where == "function" else "", input=given, output=output)


PLACES = ("function", "description", "title", "enum", "default", "examples", "name", "result")


@pytest.mark.parametrize("where", PLACES)
def test_text_that_a_reviewer_does_not_see_cannot_be_pinned_and_any_language_can(where: str) -> None:
    """E4: instructions in tag, zero-width, bidirectional, blank or control characters; any language is accepted."""
    for hidden in ("\U000e0049", "\u200b", "\u202e", "\x1b", "\u2028", "\u3164", "\ue000", "\u00a0", "\ufe0f"):
        fault = f"the texts of 'read' have an invisible character U+{ord(hidden):04X}"
        assert faults({"read": saying(where, f"Read{hidden} it"), "write": WRITE}) == [(22, fault)]
    for plain in ("Größe, 東京, Привет, αβγδ", "Lire\n\n\tun fichier", "🚀 at once"):
        assert faults({"read": saying(where, plain), "write": WRITE}) == []


def test_pins_survive_being_written() -> None:
    pins = {
        "files": pin(parse(WHOLE), code_digest({"main.py": b""}), {"read": READ, "write": WRITE}, HIDDEN),
        "grep": pin(parse(COMMAND), code_digest({}), {}, {}),
    }
    assert read_lock(write_lock(pins)) == pins
    assert write_lock(read_lock(write_lock(pins))) == write_lock(dict(reversed(pins.items())))


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ('"format": 1', '"format": 2', 2, "format: input should be 1"),
        ('"string"', '"integer"', 4, "the pin of 'files' was edited by hand"),
        ('"version": "1.0.0"', '"version": "1.0.1", "note": ""', 28, "extra inputs"),
        ('"code":', '"code": "x", "code":', None, "an object has the same key twice"),
        ("{", "{,", 1, "not JSON"),
    ],
)
def test_a_lock_that_was_edited_by_hand_is_refused(old: str, new: str, line: int | None, what: str) -> None:
    text = write_lock({"files": pin(parse(WHOLE), code_digest({}), {"read": READ}, {})})
    assert old in text
    with pytest.raises(WorkspaceError) as error:
        read_lock(text.replace(old, new, 1))
    (problem,) = error.value.problems
    assert problem.line == line
    assert what in problem.what
    assert "remit tool pin" in problem.fix


def test_the_code_digest_covers_what_runs_and_nothing_else() -> None:
    code = {"main.py": b"x", "lib/a.py": b"y"}
    same = {
        **code,
        "tool.toml": b"1",
        "cases.yaml": b"2",
        "__pycache__/main.pyc": b"3",
        ".git/x": b"4",
        "lib/.hidden": b"5",
    }
    assert code_digest(same) == code_digest(code)
    for other in (
        {"main.py": b"y", "lib/a.py": b"x"},
        {"main.py": b"x"},
        {**code, "lib/tool.toml": b""},
        {"main.py": b"x", "a.py": b"y"},
    ):
        assert code_digest(other) != code_digest(code)


PROBED = """\
name = "bank"
version = "1"
owner = "a@b.c"
summary = "s"
[actions.pay]
summary = "s"
touches = ["use account:{name}"]
probe = "paid"
[actions.paid]
summary = "s"
touches = ["use account:{name}"]
effect = "read"
"""


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        pytest.param(
            'probe = "paid"', 'probe = "gone"', "'gone', which is no action of the tool", id="it is not there"
        ),
        pytest.param('effect = "read"', 'effect = "keyed"', "the probe 'paid' has effect 'keyed'", id="it acts itself"),
        pytest.param(
            'probe = "paid"', 'probe = "paid"\neffect = "idempotent"', "the action may be repeated", id="needless"
        ),
        pytest.param(
            '{name}"]\neffect',
            '{name}", "use account:all"]\neffect',
            "which the action does not",
            id="it reaches further",
        ),
    ],
)
def test_a_probe_only_reads_resources_of_its_action(old: str, new: str, what: str) -> None:
    parse(PROBED)
    assert old in PROBED
    with pytest.raises(WorkspaceError, match=what):
        parse(PROBED.replace(old, new, 1))


def test_a_probe_takes_the_actions_arguments_and_can_return_null() -> None:
    def schema(output: Any, **properties: Any) -> ActionSchema:
        return ActionSchema(input={"type": "object", "properties": properties}, output=output)

    text = {"type": "string"}
    maybe = {"anyOf": [text, {"type": "null"}]}
    pay = schema(text, name=text)
    assert faults({"pay": pay, "paid": schema(maybe, name=text)}, PROBED, {}) == []
    assert faults({"pay": pay, "paid": schema(text, name=text, when=text)}, PROBED, {}) == [
        (8, "the probe 'paid' has a parameter 'when', which 'pay' does not have"),
        (8, "the probe 'paid' never returns null for 'not happened'"),
    ]
    nothing = schema({"type": "null"}, name=text)
    assert faults({"pay": nothing, "paid": schema(maybe, name=text)}, PROBED, {}) == [
        (8, "'pay' may return null, which a probe returns for 'not happened'")
    ]
