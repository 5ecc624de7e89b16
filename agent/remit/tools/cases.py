"""`tools/<name>/cases.yaml`: the test cases of a tool, which `remit tool test` runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from remit.core import (
    CODES,
    Code,
    Finding,
    FrozenModel,
    Json,
    Problem,
    WorkspaceError,
    finding_of,
    near_names,
    one_of,
    spelled,
)
from remit.core.parsing import YamlRow, read_rows, table_text
from remit.tools.http_rows import HttpRow, wrong_rows
from remit.tools.parts import contains
from remit.workspace import Tool, Workspace

EXPECTATIONS: Final = "value, value_contains, error, files"


class Expected(FrozenModel):
    """The expected result: exactly one of `value`, `value_contains` and `error`. `files`: files that must exist, with their text.

    `value_contains`: a text within the value (within its JSON if it is not a text), or members and items that it must
    have. `error`: an error code, or a declared error of the tool.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    value: Json = Field(default=None, description="The value that the call returns")
    value_contains: Json = Field(default=None, description="A part of the value")
    error: str | None = Field(default=None, description="An error code, or a declared error of the tool")
    files: Mapping[str, str] = Field(default_factory=dict, description="Files that must exist, with their text")

    @model_validator(mode="after")
    def _one(self) -> Expected:
        if len(self.model_fields_set & {"value", "value_contains", "error"}) != 1:
            raise ValueError("expect exactly one of value, value_contains, error")
        return self


class Setup(FrozenModel):
    """What there is before the call: the working folder, text by path, and the answers of services."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    files: Mapping[str, str] = Field(default_factory=dict, description="Text by path")
    http: tuple[HttpRow, ...] = Field(
        default=(), description="Requests of the tool and their answers; a request without a row fails the case"
    )


class ToolCase(FrozenModel):
    """One case. `line`: where it begins in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    note: str = Field(min_length=1, description="The name of the case")
    action: str = Field(description="TOOL.ACTION")
    arguments: dict[str, Json] = Field(default_factory=dict, description="The arguments of the call")
    setup: Setup = Setup()
    expect: Expected
    line: int = 0

    @property
    def files(self) -> Mapping[str, str]:
        return self.setup.files

    def judge(self, *, value: Json, code: Code | None, error: str | None, message: str, folder: Path) -> str:
        """How the result differs from the expected one; "" if it does not."""
        expect = self.expect
        if expect.error is not None:
            return (
                ""
                if expect.error in (code, error)
                else f"expected {expect.error}, got {_got(value, code, error, message)}"
            )
        if code is not None:
            return f"expected a value, got {_got(value, code, error, message)}"
        if "value" in expect.model_fields_set and value != expect.value:
            return f"expected {expect.value!r}, got {value!r}"
        if "value_contains" in expect.model_fields_set and not contains(value, expect.value_contains):
            return f"expected a value that contains {expect.value_contains!r}, got {value!r}"
        for name, text in expect.files.items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                return f"expected the file {name} with {text!r}"
        return ""


_CASES = TypeAdapter(ToolCase)
_KEYS: Final = tuple({**ToolCase.model_fields, **Setup.model_fields, **Expected.model_fields})


def read_tool_cases(text: str, file: str, tool: str) -> tuple[ToolCase, ...]:
    """Read the cases of one tool. Raises WorkspaceError with every problem and its line."""
    problems: list[Problem] = []
    cases: list[ToolCase] = []
    for row in read_rows(text, file=file):
        try:
            case = _CASES.validate_python(row.value).model_copy(update={"line": row.line})
        except ValidationError as error:
            problems.extend(_invalid(error, row, file))
            continue
        if case.action.partition(".")[0] != tool:
            what = f"{case.action!r} is not an action of {tool!r}"
            fix = f"write {tool}.{'ACTION' if '.' in case.action else case.action}"
            problems.append(Problem(file=file, line=row.lines.get("action", row.line), what=what, fix=fix))
        cases.append(case)
    if problems:
        raise WorkspaceError(problems)
    return tuple(cases)


def check_tool_cases(workspace: Workspace, name: str) -> tuple[int, list[Finding]]:
    """How many cases a tool has, and what is wrong with them: also names of actions and arguments that it does not have."""
    file = f"tools/{name}/cases.yaml"
    assert workspace.root is not None
    path = workspace.root / file
    if not path.exists() and workspace.tools[name].manifest.source == "hook":  # nothing of it runs here
        return 0, []
    if not path.exists():
        problem = Problem(file=file, what=f"tool {name!r} has no cases", fix="write one case for each action")
        return 0, [finding_of(problem, "tool_case")]
    try:
        cases = read_tool_cases(table_text(path, file=file), file, name)
    except WorkspaceError as error:
        return 0, [finding_of(problem, "tool_case") for problem in error.problems]
    tool = workspace.tools[name]
    known = [f"{name}.{action}" for action in tool.manifest.actions]
    findings: list[Finding] = []
    lines = (*tool.manifest.hosts, *tool.manifest.url_hosts)
    for case in cases:
        for wrong, fix in wrong_rows(case.setup.http, lines, workspace.code(name)):
            what = f"{case.note}: {wrong}"
            findings.append(Finding(level="error", code="tool_case", file=file, line=case.line, what=what, fix=fix))
        if (unknown := _unknown_in(case, tool, known)) is not None:
            what, fix = unknown
            findings.append(Finding(level="error", code="tool_case", file=file, line=case.line, what=what, fix=fix))
    for action in sorted({*known} - {case.action for case in cases}):
        what = f"no case calls {action}"
        findings.append(Finding(level="note", code="tool_case", file=file, what=what, fix="write one"))
    return len(cases), findings


def _unknown_in(case: ToolCase, tool: Tool, known: Sequence[str]) -> tuple[str, str] | None:
    """What the case names that the tool does not have. A case that expects an error may give an unknown argument on purpose."""
    if case.action.partition(".")[2] in tool.manifest.undecided:
        return None  # its open line is a finding by itself
    if case.action not in known:
        return f"{case.note}: no action has the name {spelled(case.action)}", one_of(case.action, known)
    expects, declared = case.expect.error, tool.manifest.actions[case.action.partition(".")[2]].errors
    if expects is not None and expects not in CODES and expects not in declared:
        return f"{case.note}: {spelled(expects)} is no code, and no declared error of {case.action}", one_of(
            expects, (*declared, *CODES)
        )
    schema = tool.pin.schemas.get(case.action.partition(".")[2]) if tool.pinned and tool.pin else None
    properties: dict[str, Json] = {} if schema is None else schema.input.get("properties", {})
    unknown = next((name for name in case.arguments if name not in properties), None)
    if schema is None or unknown is None or case.expect.error is not None:
        return None
    return f"{case.note}: {case.action} has no argument {spelled(unknown)}", one_of(unknown, properties)


def _invalid(error: ValidationError, row: YamlRow, file: str) -> Iterator[Problem]:
    usual = f"a case has note, action, arguments, setup (files, http) and expect ({EXPECTATIONS})"
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "the case"
        line = row.lines.get(str(item["loc"][0]) if item["loc"] else "", row.line)
        own: dict[str, Any] = item.get("ctx", {}) if item["type"] == "wrong" else {}
        if item["type"] == "extra_forbidden" and (near := near_names(str(item["loc"][-1]), _KEYS)):
            own = {"fix": f"did you mean {near[0]}? {usual[0].upper()}{usual[1:]}"}
        what = f"{where} {item['msg']}" if item["type"] == "wrong" else f"{where}: {item['msg'].lower()}"
        yield Problem(file=file, line=line, what=what, fix=own.get("fix", usual))


def _got(value: Json, code: Code | None, error: str | None, message: str) -> str:
    return f"{error or code}: {message}" if code else repr(value)
