"""Types, published schemas and signatures say the same, or the tool cannot be pinned."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from remit.core import Json, WorkspaceError
from remit.core.parsing import check_schema, closed
from remit.sandbox import Action, Sandbox, described, tried
from remit.tools import derive_pin, known_tool
from remit.tools.conformance import disagreements, made_examples
from remit.tools.examples import examples
from remit.workspace import load_workspace
from remit.workspace.manifest import ActionSchema
from support.annotation_forms import DISAGREEING, FORMS, function_of, source_of

PAIRS = int(os.environ.get("REMIT_CONFORMANCE_PAIRS", "2000"))  # `make exact` compares 20,000


def schema_of(function: Any) -> ActionSchema | str:
    """The schema as it is pinned; why it cannot be pinned."""
    found = described(function)
    if "problem" in found:
        return str(found["problem"])
    faults = check_schema(closed(found["input"])) or check_schema(closed(found["output"]))
    return faults[0] if faults else ActionSchema(input=closed(found["input"]), output=closed(found["output"]))


def outcomes(function: Any, schema: ActionSchema, count: int, *, seed: int = 0) -> tuple[list[Json], dict[str, Any]]:
    made = made_examples({"f": schema}, count=count, seed=seed)
    return made, {"f": tried(Action(function), **made["f"])}


def refused_at_pin(function: Any) -> tuple[str, ...]:
    """Why a tool with this function cannot be pinned; empty if it can."""
    schema = schema_of(function)
    if isinstance(schema, str):
        return (schema,)
    made, found = outcomes(function, schema, 40)
    return tuple(item.what for item in disagreements({"f": schema}, made, found, file="main.py"))


def test_pairs_of_a_hundred_forms_agree_or_the_form_cannot_be_pinned() -> None:
    """Each argument that the schema accepts can be decoded and bound, or is refused in words that no JSON Schema can say.

    The values here are others than those of the pin.
    """
    pinned: list[str] = []
    compared: Counter[str] = Counter()
    for name, (annotation, default) in FORMS.items():
        # An alias is a name of a parameter, and a result has none.
        function = function_of(source_of(annotation, default, result="int" if name == "alias" else annotation))
        if refused_at_pin(function):
            continue
        pinned.append(name)
        schema = schema_of(function)
        assert isinstance(schema, ActionSchema)
        expected = PAIRS * 3 // (2 * len(FORMS))  # some forms have few values
        for seed in range(1, 2 + expected // 20):
            made, found = outcomes(function, schema, min(40, expected), seed=seed)
            assert disagreements({"f": schema}, made, found, file=name) == (), name
            compared[name] += len(made["f"]["arguments"]) + len(made["f"]["results"])
            if compared[name] >= expected:
                break
    assert len(FORMS) - len(pinned) <= 5
    assert compared.total() >= PAIRS


@pytest.mark.parametrize("name", DISAGREEING)
def test_a_type_that_disagrees_with_what_it_publishes_is_refused_with_an_example(name: str) -> None:
    annotation, reason = DISAGREEING[name]
    (why,) = refused_at_pin(function_of(source_of(annotation)))
    assert reason in why
    assert '{"x": ' in why


def test_a_result_that_its_schema_does_not_accept_is_refused_with_an_example() -> None:
    result = (
        "Annotated[int, WithJsonSchema({'type': 'integer', 'maximum': 5}), AfterValidator(lambda value: value + 10)]"
    )
    (why,) = refused_at_pin(function_of(source_of("int", result=result)))
    assert "does not accept its result" in why


@pytest.mark.parametrize(
    "name", ["model_config", "model_dump", "model_name", "_x", "self", "schema", "copy", "validate", "json"]
)
def test_a_parameter_may_have_any_name(name: str) -> None:
    function = function_of(source_of("int", name=name))
    schema = schema_of(function)
    assert isinstance(schema, ActionSchema)
    assert list(schema.input["properties"]) == [name]
    assert refused_at_pin(function) == ()


def test_examples_are_valid_different_and_the_same_each_time() -> None:
    function = function_of(source_of("Deep", result="Tree"))
    schema = schema_of(function)
    assert isinstance(schema, ActionSchema)
    made = examples(schema.input, 40)
    assert made == examples(schema.input, 40)
    assert len({str(item) for item in made}) == len(made) == 40
    assert {} not in made  # `x` is required
    assert examples({"type": "string", "pattern": r"^\p{Greek}+$"}, 5) == ()
    assert examples({"enum": []}, 5) == ()


TOML = """
name = "odd"
version = "0.1.0"
owner = "you@example.com"
summary = "A tool"
source = "python"
[actions.f]
summary = "Do it"
touches = []
effect = "read"
"""


def pinning(folder: Path, source: str) -> str:
    """What is wrong with a tool of this source; "" if it can be pinned."""
    (folder / "tools/odd").mkdir(parents=True)
    (folder / "tools/odd/tool.toml").write_text(TOML)
    (folder / "tools/odd/main.py").write_text(source)
    (folder / "remit.toml").write_text("")
    workspace = load_workspace(folder)
    try:
        asyncio.run(derive_pin(workspace, known_tool(workspace, "odd"), Sandbox(accept=("full", "landlock"))))
    except WorkspaceError as error:
        return str(error)
    return ""


def test_a_tool_whose_types_disagree_cannot_be_pinned_and_the_example_and_the_fix_are_shown(tmp_path: Path) -> None:
    message = pinning(tmp_path, source_of(DISAGREEING["another published type"][0]))
    assert 'its schema accepts {"x": ' in message
    assert "valid integer" in message
    assert "remove what overrides the schema" in message


def test_validators_run_at_the_pin_without_effects_and_a_slow_one_ends(tmp_path: Path) -> None:
    writes = "def note(value: int) -> int:\n    open('effect', 'w').write('x')\n    return value\n"
    sleeps = "def wait(value: int) -> int:\n    import time; time.sleep(2); return value\n"
    source = source_of("Annotated[int, AfterValidator(note), AfterValidator(wait)]").replace(
        "class Colour", f"{writes}{sleeps}class Colour", 1
    )
    assert pinning(tmp_path, source) == ""
    assert not list(tmp_path.rglob("effect"))
