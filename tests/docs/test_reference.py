"""The reference has everything that the code has. The lists here are made in another way than the generator makes them."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from generator import python, reference, schemas, telemetry
from remit.core.errors import ModelCode, OperatorCode
from remit.core.events.event import Event
from remit.core.parsing import TomlTable
from remit.policy.language.facts import FACTS, SIDES
from remit.tracing import read_trace
from remit.tracing.metrics import Metrics
from remit.tracing.spans import Spans
from support import ROOT
from support.documents import help_of

PACKAGE: Final = ROOT / "agent" / "remit"
GOLDEN: Final = sorted((ROOT / "traces" / "golden").rglob("*.jsonl"))
TYPES: Final = {bool: "boolean", int: "int", float: "double", str: "string", tuple: "string[]"}


@cache
def page(name: str) -> str:
    return reference.pages()[f"reference/{name}.md"]


def section(text: str, heading: str) -> str:
    """The text below one heading, up to the next heading of any level."""
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    (found,) = [body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title == heading]
    return found


def first_cells(text: str) -> set[str]:
    """The code in the first cell of each row of the tables."""
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages([str(PACKAGE)], "remit."):
        if ".guest" not in module.name and ".breakout" not in module.name and not module.name.endswith("__main__"):
            yield module.name


def source() -> Mapping[str, str]:
    return {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def below(kind: type) -> set[type]:
    """All classes below one class, once every module is imported."""
    for name in modules():
        importlib.import_module(name)
    found = set(kind.__subclasses__())
    return found.union(*(below_of(one) for one in found))


def below_of(kind: type) -> set[type]:
    return set(kind.__subclasses__()).union(*(below_of(one) for one in kind.__subclasses__()))


# -- commands ----------------------------------------------------------------------------------------------------------


def helped(*words: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """What `--help` prints, of the command and of every command below it."""
    text = help_of(*words)
    yield words, text
    for name in re.findall(r"^  (\S+)", text.partition("\nCommands:\n")[2], re.MULTILINE):
        yield from helped(*words, name)


def test_every_command_and_option_that_help_prints_is_in_the_reference() -> None:
    text, commands, options = page("commands"), 0, 0
    for words, printed in helped():
        listed = first_cells(section(text, f"`{' '.join(('remit', *words))}`"))
        block = printed.partition("\nOptions:\n")[2].partition("\nCommands:\n")[0]
        names = set(
            re.findall(r"(?<![\w-])--?[a-z][a-z-]*", "\n".join(re.findall(r"^  (-.*?)(?:  |$)", block, re.MULTILINE)))
        )
        assert names - {"-h", "--help"} == {name for name in listed if name.startswith("-")}, words
        commands, options = commands + 1, options + len(names)
    assert len(re.findall(r"^##+ `remit", text, re.MULTILINE)) == commands
    assert (commands > 40, options > 100) == (True, True)


# -- files -------------------------------------------------------------------------------------------------------------


def tables_in(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for one in get_args(kind):
        yield from tables_in(one)


def tables_of(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The model and every model below it, by name."""
    found, todo = {model.__name__: model}, [model]
    while todo:
        for field in todo.pop().model_fields.values():
            for one in tables_in(field.annotation):
                if one.__name__ not in found:
                    found[one.__name__] = one
                    todo.append(one)
    return found


def test_every_key_of_every_table_that_a_file_may_have_is_in_the_reference() -> None:
    """A new kind of table that no page has fails, too."""
    documented: set[type] = set()
    for name, text in reference.pages().items():
        if not name.startswith("reference/files/") or name.endswith("README.md"):
            continue
        for kind in below(TomlTable):
            title = kind.__name__.removesuffix("Table")
            keys = {field.alias or key for key, field in kind.model_fields.items()}
            top = first_cells(text.partition("\n## ")[0])
            inner = re.search(rf"^## {title}$", text, re.MULTILINE)
            if keys and keys in (top, first_cells(section(text, title)) if inner else set()):
                documented.add(kind)
    assert {kind.__name__ for kind in below(TomlTable) - documented} == {"_Rule"}  # the base of two tables


def test_every_key_of_a_row_of_cases_is_in_the_reference() -> None:
    readers = sorted(name for name, text in source().items() if re.search(r"in read_rows\(", text))
    assert readers == ["evals/scenarios.py", "guardrails/content_cases.py", "policy/cases.py", "tools/cases.py"]
    for name, model in (
        ("cases", "policy.cases:Case"),
        ("tool-cases", "tools.cases:ToolCase"),
        ("content-cases", "guardrails.content_cases:ContentCase"),
        ("evals", "evals.scenarios:ScenarioRow"),
    ):
        module, _, kind = model.partition(":")
        top = getattr(importlib.import_module(f"remit.{module}"), kind)
        text = page(f"files/{name}")
        assert first_cells(text.partition("\n## ")[0]) == {*top.model_fields} - {"line"}, name
        for inner in set(tables_of(top)) - {kind}:
            fields = tables_of(top)[inner].model_fields
            assert first_cells(section(text, inner)) == {field.alias or key for key, field in fields.items()}, inner


def test_every_key_of_a_script_is_in_the_reference() -> None:
    code = source()["runtime/models/scripted.py"]
    (top,), (turn,) = (
        re.findall(r"self\._only\(document, (\(.+?\))\)", code),
        re.findall(r"self\._only\(item, (\(.+?\))\)", code),
    )
    text = page("files/script")
    assert first_cells(text.partition("\n## ")[0]) == set(ast.literal_eval(top))
    assert {name for name in first_cells(section(text, "Turn")) if name.isidentifier()} >= set(ast.literal_eval(turn))
    assert first_cells(section(text, "Approval")) == {"action", "approver", "role", "note"}


@pytest.mark.parametrize("name", schemas.published())
def test_the_schema_that_editors_read_is_the_one_that_is_checked(name: str) -> None:
    written = schemas.place(name).read_text("utf-8") if schemas.place(name).is_file() else ""
    again = "PYTHONPATH=docs .venv/bin/python -m generator.schemas"
    assert json.loads(written or "null") == json.loads(json.dumps(schemas.published()[name])), again
    assert json.loads(reference.pages()[f"reference/schemas/{name}"]) == json.loads(written)


def test_a_schema_has_a_meaning_for_every_key() -> None:
    without: list[str] = []
    for file in schemas.FILES:
        schema = schemas.schema_of(file)
        for kind in (schema, *schema.get("$defs", {}).values()):
            for key, value in kind.get("properties", {}).items():
                if not any(
                    "description" in one or "$ref" in one
                    for one in (value, value.get("items", {}), *value.get("anyOf", []))
                ):
                    without.append(f"{file.name}: {key}")
    assert [one for one in without if not one.startswith("script: ")] == []


# -- facts and codes ---------------------------------------------------------------------------------------------------


def test_every_fact_of_a_condition_is_in_the_reference_and_no_other() -> None:
    rows = re.findall(r"^\| `(.+?)` \|", page("facts").partition("## Closed")[0], re.MULTILINE)
    calls = set(re.findall(r'func=ast\.Name\(id="(\w+)"', source()["policy/language/conditions.py"]))
    assert {"approved", "approvals", "calls", "len"} <= calls
    assert {name for row in rows for name in re.findall(r"(?<!')\b\w+(?=[.(])|^\w+$", row)} == {*FACTS, *SIDES} | calls


def test_every_error_code_is_in_the_reference_where_its_reader_looks() -> None:
    assert first_cells(section(page("codes"), "Codes that a model reads")) == set(get_args(ModelCode))
    assert first_cells(section(page("codes"), "Codes that end a run")) == set(get_args(OperatorCode))


# -- events, spans, metrics --------------------------------------------------------------------------------------------


def test_every_event_is_in_the_reference_with_its_fields() -> None:
    kinds = {kind for kind in below(Event) if "type" in kind.model_fields and kind.__module__.startswith("remit.")}
    assert len(kinds) > 25
    for kind in kinds:
        fields = {
            name
            for name, field in kind.model_fields.items()
            if name != "type" and (name not in Event.model_fields or field.is_required())
        }
        listed = first_cells(section(page("events"), f"`{kind.model_fields['type'].default}`"))
        assert fields <= listed, kind
    assert len(re.findall(r"^## `", page("events"), re.MULTILINE)) == len(kinds)


def constants(*names: str) -> set[str]:
    """Every text in these modules that is the name of an attribute or of a metric."""
    found = {
        node.value
        for name in names
        for node in ast.walk(ast.parse(source()[f"tracing/{name}.py"]))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in found if re.fullmatch(r"(remit|gen_ai|enduser|error|openinference)(\.[a-z0-9_]+)+", text)}


def test_every_span_attribute_is_in_the_reference_and_no_other() -> None:
    made = constants("attributes", "spans", "portable", "otel_spans")
    assert re.findall(r'f"(remit\.[a-z.]+)\{name\}"', source()["tracing/attributes.py"]) == []
    spans = {"remit.approval", "remit.decide", "remit.span", "remit.object"}  # names of spans and of span events
    listed = {
        name for name in re.findall(r"`([^`\n]+)`", page("spans")) if re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)+", name)
    }
    assert made - spans - listed == set()
    rows = {name for _, attributes in telemetry.SPANS.values() for name in attributes}
    assert rows | {*telemetry.ANY_SPAN, *telemetry.SPAN_EVENTS, *telemetry.OBJECT_EVENTS} <= made
    assert rows <= listed


def test_the_spans_of_every_golden_trace_have_only_the_attributes_and_types_of_the_reference() -> None:
    seen: set[str] = set()
    for path in GOLDEN:
        trace = read_trace(path)
        builder = Spans(trace.run)
        for link in trace.chain.links:
            for span in builder.see(link):
                kind = span.name.partition(" ")[0]
                seen.add(kind)
                what = telemetry.SPANS[kind][1]
                for name, value in span.attributes.items():
                    assert what[name][0] == TYPES[type(value)], (path.name, span.name, name)
                for event in span.events:
                    assert {name: TYPES[type(value)] for name, value in event.attributes.items()} == {
                        name: telemetry.SPAN_EVENTS[name][0] for name in event.attributes
                    }
    assert seen == {*telemetry.SPANS} - {"remit.bundle"}


def test_every_metric_is_in_the_reference_with_its_attributes() -> None:
    names = {
        name
        for name in constants("metrics")
        if re.search(rf'^    "{re.escape(name)}": ', source()["tracing/metrics.py"], re.MULTILINE)
    }
    assert first_cells(page("metrics").partition("## Bucket")[0]) == names
    assert len(names) == 17
    for path in GOLDEN:
        metrics = Metrics()
        for link in read_trace(path).chain.links:
            for measured in metrics.see(link):
                assert set(measured.attributes) <= set(telemetry.METRIC_ATTRIBUTES[measured.name])
    assert {name for names in telemetry.METRIC_ATTRIBUTES.values() for name in names} <= constants("metrics") | {
        "agent",
        "action",
        "code",
        "model",
        "outcome",
        "passing",
    }


def test_every_environment_variable_that_the_code_reads_is_in_the_reference() -> None:
    read = r'(?:environ(?:\.get\(|\[)|value\(f?|VARIABLE: Final = |CAPTURE: Final = )"([A-Z][A-Z0-9_]+)"'
    outside = {name: text for name, text in source().items() if "/guest/" not in name and "/breakout/" not in name}
    names = {name for text in outside.values() for name in re.findall(read, text)}
    assert {"REMIT_UV", "REMIT_BWRAP", "REMIT_CGROUP", "OTEL_SDK_DISABLED"} <= names
    own = {name for text in outside.values() for name in re.findall(r"\bREMIT_[A-Z_]*[A-Z]\b", text)}
    listed = first_cells(page("environment"))
    assert (names | own) - listed == {"PATH"}
    assert {name for name in listed if name.startswith("REMIT_")} == own


# -- the Python API ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", python.MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    public = importlib.import_module(module).__all__
    assert sorted(re.findall(r"^::: (\S+)$", page(f"python/{module}"), re.MULTILINE)) == sorted(
        f"{module}.{name}" for name in public
    )
    assert public


@pytest.mark.parametrize("file", [file for file in schemas.FILES if file.name != "scope"], ids=lambda file: file.name)
def test_a_file_of_the_starter_names_its_schema_and_fits_it(file: schemas.SettingsFile) -> None:
    """Pydantic reads the files; here their keys are compared with the schema that an editor reads."""
    found = [path for path in ROOT.glob(file.path.replace("NAME", "*")) if "work" not in path.relative_to(ROOT).parts]
    if not found:
        assert file.name in (
            "limits",
            "prices",
            "labels",
            "team",
            "content",
            "content-cases",
        )  # optional files, which the starter does not have
    for path in found:
        first = path.read_text("utf-8").splitlines()[0]
        marked = re.fullmatch(r"(?:#:schema |# yaml-language-server: \$schema=)(\S+)", first)
        assert marked is not None, path
        assert (path.parent / marked[1]).resolve() == schemas.place(f"{file.name}.schema.json")
        assert used_keys(path) <= known_keys(schemas.schema_of(file)), path


def used_keys(path: Path) -> set[str]:
    """The keys that a file has outside of values that are free."""
    text = path.read_text("utf-8")
    if path.suffix == ".toml":
        return set(tomllib.loads(text))
    document = YAML(typ="safe").load(text)
    return {key for row in document for key in row} if isinstance(document, list) else set(document)


def known_keys(schema: Mapping[str, Any]) -> set[str]:
    return set((schema["$defs"]["Row"] if schema.get("type") == "array" else schema)["properties"])
