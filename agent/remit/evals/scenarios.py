"""`agent/NAME/evals/*.yaml`: the scenarios of an agent. One row is one scenario.

Each key of a row is a field of `Scenario`, and `docs/how-to/evaluate-an-agent.md` has an example of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from remit.core import FrozenModel, Json, Problem, Refusal, Subject, UsageError, WorkspaceError, near_names
from remit.core.events import ScenarioInfo
from remit.core.parsing import (
    Duration,
    Matching,
    YamlRow,
    check_schema,
    digest,
    digest_bytes,
    duration,
    invalid,
    parse_arguments,
    read_file,
    read_rows,
    read_text,
)
from remit.evals.counterfactual import RecordedRun
from remit.evals.definitions import agent_digest
from remit.evals.worlds import RelativePath, World
from remit.policy.language import GlobError, Pattern, parse_pattern, parse_resource
from remit.runtime.models import ScriptedApproval, ScriptedModel
from remit.tracing import read_trace
from remit.workspace import Agent, Workspace

FOLDER: Final = "evals"  # in the folder of the agent
REPEATS: Final = 4
_NOT_PART: Final = ("repeat", "script")  # keys of a row that its digest does not cover: what is expected stays the same


class _Row(FrozenModel):
    """A mapping in the file: unknown keys are problems."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _listed(value: Json) -> Json:
    """One item as a list of one item."""
    return cast("Json", value) if isinstance(value, list) else [value]


def _seeded(value: Json) -> Json:
    """The name of a seed folder as a world."""
    return {"seed": value} if isinstance(value, str) else value


def _pattern(value: str) -> str:
    try:
        parse_pattern(value)
    except GlobError as error:
        raise invalid(f"is not valid: {error.what}", error.fix) from None
    return value


ResourcePattern = Annotated[str, AfterValidator(_pattern)]
Texts = Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])]


class CallMatch(_Row):
    """Calls of an action that touch a resource which the pattern covers."""

    action: str = Field(description="TOOL.ACTION")
    resource: ResourcePattern = Field(default="**", description='A pattern as in rules: "file:reports/*.md"')

    def matches(self, action: str, resources: Sequence[str]) -> bool:
        """True if such a call is meant."""
        pattern: Pattern = parse_pattern(self.resource)
        return action == self.action and (
            self.resource == "**" or any(pattern.covers(parse_resource(resource)) for resource in resources)
        )

    def __str__(self) -> str:
        return self.action if self.resource == "**" else f"{self.action} of {self.resource}"


class ExpectedEffect(CallMatch):
    """An effect that must land. Absent `times`: once or more."""

    times: Annotated[int, Field(ge=1)] | None = Field(default=None, description="How many such effects land")


class ExpectedRefusal(CallMatch):
    """Refused calls. Absent `at_least` and `at_most`: one or more."""

    code: str | None = Field(default=None, description='The code of the error: "policy_denied"; absent: any')
    at_least: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Absent: 1, and 0 with at_most")
    at_most: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Absent: no limit")

    @property
    def least(self) -> int:
        """The smallest number of such calls."""
        return self.at_least if self.at_least is not None else 1 if self.at_most is None else 0


class ExpectedState(_Row):
    """A file of the world after the run, or a program that looks at the world."""

    file: RelativePath | None = Field(default=None, description="A file of the working folder")
    contains: Texts = Field(default=[], description="Texts that the file contains")
    lacks: Texts = Field(default=[], description="Texts that the file does not contain")
    absent: bool = Field(default=False, description="True: there must be no such file")
    program: RelativePath | None = Field(
        default=None, description="A Python file beside agent.toml; its function `check` returns what is wrong, or None"
    )

    @model_validator(mode="after")
    def _one(self) -> ExpectedState:
        if (self.file is None) == (self.program is None):
            raise invalid("has not exactly one of `file` and `program`", "write one of them")
        if self.program is not None and self.model_fields_set != {"program"}:
            raise invalid("has keys beside `program`", "remove them: the program checks the files itself")
        return self


class ExpectedAnswer(_Row):
    """What the final answer must be. Letter case does not count."""

    contains: Annotated[
        list[str | list[str]], BeforeValidator(_listed, json_schema_input_type=str | list[str | list[str]])
    ] = Field(default=[], description="Texts that it contains; a list among them stands for any one of its texts")
    lacks: Texts = Field(default=[], description="Texts that it does not contain")
    shape: RelativePath | None = Field(default=None, alias="schema", description="A JSON Schema beside agent.toml")
    cites: list[ResourcePattern] = Field(
        default=[], description="Resources that the run read and that the answer names, or cites by the call"
    )
    members: dict[str, Json] = Field(default={}, description="Members that the answer, a JSON object, has")


class ExpectedJudgement(_Row):
    """What a judge must say of the answer. It counts only if its calibration shows how often it agrees with people."""

    agent: str = Field(description="An agent without tools: the judge")
    question: str = Field(min_length=1, description="What the judge decides: yes is a pass")


class Expected(_Row):
    """What a run must have done. A key that is absent is not checked, but for `outcome`."""

    outcome: str = Field(default="completed", description="completed, failed, stopped, exhausted or escalated")
    effects: list[ExpectedEffect] | None = Field(default=None, description="Exactly these effects land; []: none")
    never: list[CallMatch] = Field(default=[], description="Effects that must never land, in no repeat")
    refused: list[ExpectedRefusal] = Field(default=[], description="Calls that are refused")
    asked: list[CallMatch] | None = Field(default=None, description="Exactly these calls ask for approval; []: none")
    world: Annotated[
        list[ExpectedState], BeforeValidator(_listed, json_schema_input_type=ExpectedState | list[ExpectedState])
    ] = Field(default=[], description="The world after")
    answer: ExpectedAnswer | None = None
    judge: Annotated[
        list[ExpectedJudgement],
        BeforeValidator(_listed, json_schema_input_type=ExpectedJudgement | list[ExpectedJudgement]),
    ] = Field(default=[], description="Questions about the answer that no other key can check")


class Within(_Row):
    """The most that a run may use. Absent: no limit."""

    p95: Duration | None = Field(default=None, description='95 of 100 repeats take at most this long: "90s"')
    calls: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Calls of the model, also refused ones")
    tokens: Annotated[int, Field(ge=0)] | None = Field(default=None, description="Tokens read and written")
    money: Annotated[float, Field(ge=0)] | None = Field(
        default=None, strict=False, description="In the currency of policies/prices.toml"
    )


class ScenarioRow(_Row):
    """One row of the file."""

    name: Annotated[str, Matching(r"[a-z0-9][a-z0-9-]{0,62}", "a name", "write lower-case letters, digits and -")] = (
        Field(description="The name by which reports call it")
    )
    note: str = Field(min_length=1, description="What the agent must show here")
    task: str = Field(min_length=1, description="What the user asks of the agent")
    user: Subject | None = Field(default=None, description="For whom the agent acts; absent: who evaluates")
    world: Annotated[World, BeforeValidator(_seeded, json_schema_input_type=str | World)] = Field(
        default=World(), description="A seed folder, or a mapping; absent: the seed of the agent"
    )
    repeat: Annotated[int, Field(ge=1, le=1000)] = Field(default=REPEATS, description="How often it is played")
    script: RelativePath | None = Field(
        default=None, description="The turns of a scripted model in this scenario, beside agent.toml"
    )
    approvals: list[ScriptedApproval] = Field(
        default=[], description="Given in place of people; all others are rejected"
    )
    expect: Expected = Expected()
    within: Within = Within()


class Scenario(ScenarioRow):
    """One scenario.

    `file` and `line` say where its row begins. `digest` covers its row, its world and the files that it names, but not how often it
    is played and not its script. The seed of its world is that of the agent, if the row has none.
    """

    file: str
    line: int
    digest: str

    @property
    def info(self) -> ScenarioInfo:
        """The scenario as it is recorded."""
        p95 = None if self.within.p95 is None else duration(self.within.p95)
        return ScenarioInfo(name=self.name, note=self.note, digest=self.digest, repeats=self.repeat, p95=p95)


def read_scenarios(workspace: Workspace, agent: str) -> tuple[Scenario, ...]:
    """The scenarios of an agent of a workspace on disk, in the order of its files and rows.

    Raises:
        UsageError: the agent has none.
        WorkspaceError: with every problem of every row.
    """
    assert workspace.root is not None
    folder = workspace.root / "agent" / agent / FOLDER
    reader = _Reader(workspace, workspace.agents[agent], workspace.root)
    for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
        reader.read(path)
    if reader.problems:
        raise WorkspaceError(reader.problems)
    if not reader.scenarios:
        raise UsageError(f"agent {agent!r} has no scenario: write one in agent/{agent}/{FOLDER}/{agent}.yaml")
    return tuple(reader.scenarios)


class _Reader:
    """Reads the files of one agent. A problem is collected, and the pass continues."""

    def __init__(self, workspace: Workspace, agent: Agent, root: Path) -> None:
        self.scenarios: list[Scenario] = []
        self.problems: list[Problem] = []
        self._workspace = workspace
        self._root = root
        self._agent = root / "agent" / agent.name
        self._seed = agent.seed
        self._places: dict[str, str] = {}

    def read(self, path: Path) -> None:
        file = path.relative_to(self._root).as_posix()
        try:
            for row in read_rows(read_text(path, file=file), file=file):
                self._row(row, file)
        except WorkspaceError as error:
            self.problems.extend(error.problems)

    def _row(self, row: YamlRow, file: str) -> None:
        try:
            given = ScenarioRow.model_validate(row.value)
        except ValidationError as error:
            self.problems.extend(_problems(error, row, file))
            return
        if (earlier := self._places.setdefault(given.name, f"{file}:{row.line}")) != f"{file}:{row.line}":
            self._problem(row, file, "name", f"{earlier} has the same name {given.name!r}", "give it another name")
        for action in dict.fromkeys(_actions(given)):
            self._check_action(row, file, action)
        named = {**self._named(given, row, file), **self._recorded(given, row, file)}
        world = given.world.model_copy(update={"seed": given.world.seed or self._seed})
        covered = {key: value for key, value in row.value.items() if key not in _NOT_PART}
        try:
            parts = {"row": covered, "world": world.digest(self._root), "files": named, "judges": self._judges(given)}
        except UsageError as error:
            what, _, fix = str(error).partition(": ")
            self._problem(row, file, "world", what, fix)
            return
        rest = {key: getattr(given, key) for key in given.model_fields_set - {"world"}}
        self.scenarios.append(Scenario(**rest, world=world, file=file, line=row.line, digest=digest(parts)))

    def _judges(self, given: ScenarioRow) -> dict[str, str]:
        """The digests of the judges. Whether they count is checked where the scenarios are played: `judges_of`."""
        agents = self._workspace.agents
        return {one.agent: agent_digest(agents[one.agent]) for one in given.expect.judge if one.agent in agents}

    def _check_action(self, row: YamlRow, file: str, name: str) -> None:
        """An expectation of a misspelled action would say nothing."""
        try:
            self._workspace.action(name)
        except Refusal as refusal:
            line = next((at for key, at in row.lines.items() if f"{name!r}" in repr(row.value[key])), row.line)
            fix = refusal.next_step if refusal.code == "unknown_action" else "decide that line"
            self.problems.append(Problem(file=file, line=line, what=refusal.message, fix=fix or ""))

    def _named(self, scenario: ScenarioRow, row: YamlRow, file: str) -> dict[str, str]:
        """The digests of the files that the expectations name."""
        found: dict[str, str] = {}
        answer = scenario.expect.answer
        shape = None if answer is None else answer.shape
        if scenario.script is not None and not (self._agent / scenario.script).is_file():
            self._problem(
                row, file, "script", f"'script' is {scenario.script!r}, which is not a file", "write that file"
            )
        for name in (shape, *(state.program for state in scenario.expect.world)):
            if name is None:
                continue
            if not (self._agent / name).is_file():
                self._problem(row, file, "expect", f"'expect' names {name!r}, which is not a file", "write that file")
                continue
            data = read_file(self._agent / name, file=name)
            found[name] = digest_bytes(data)
            faults = check_schema(parse_arguments(data.decode())) if name == shape else ()
            for fault in faults:
                self._problem(row, file, "expect", f"{name}: {fault}", "write a JSON Schema of an object")
        return found

    def _recorded(self, given: ScenarioRow, row: YamlRow, file: str) -> dict[str, str]:
        """The digest of the recorded run from which the scenario goes on; empty without one."""
        name, step = given.world.run, given.world.step
        if name is None or step is None:
            return {}
        try:
            run = RecordedRun.of(read_trace(self._agent / name))
        except (UsageError, WorkspaceError) as error:
            what = str(error).partition("\n")[0]
            self._problem(row, file, "world", what, "write it again with `remit eval from RUN --step N --write`")
            return {}
        if step > run.last_step:
            what = f"'step' is {step}, and the steps of the recorded run are 0 to {run.last_step}"
            self._problem(row, file, "world", what, "write one of them")
        if run.started.task != given.task:
            what = f"'task' is not that of the recorded run {name!r}"
            self._problem(row, file, "task", what, f"write {json.dumps(run.started.task, ensure_ascii=False)}")
        return {name: run.records[-1].hash}

    def _problem(self, row: YamlRow, file: str, key: str, what: str, fix: str) -> None:
        self.problems.append(Problem(file=file, line=row.lines.get(key, row.line), what=what, fix=fix))


def _actions(row: ScenarioRow) -> Iterator[str]:
    """The actions that a row names."""
    expect = row.expect
    matches = (*(expect.effects or ()), *expect.never, *expect.refused, *(expect.asked or ()))
    yield from (match.action for match in matches)
    yield from (answer.action for answer in row.world.answers)
    yield from (approval.action for approval in row.approvals)


def script_problems(folder: Path, scenarios: Sequence[Scenario]) -> Iterator[Problem]:
    """Every problem of the scripts that these scenarios of the agent in `folder` name."""
    for script in dict.fromkeys(item.script for item in scenarios if item.script is not None):
        try:
            ScriptedModel.read(folder / script, name="")
        except WorkspaceError as error:
            yield from error.problems


def _problems(error: ValidationError, row: YamlRow, file: str) -> Iterator[Problem]:
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        context: Mapping[str, Any] = item.get("ctx", {})
        known = _keys_at(ScenarioRow, path[:-1])
        if item["type"] == "wrong":
            what, fix = f"{'.'.join(path)} {context['what']}", str(context["fix"])
        elif item["type"] == "extra_forbidden":
            near = near_names(path[-1], known) or known
            what, fix = f"unknown key {'.'.join(path)!r}", f"write one of: {', '.join(near)}"
        else:
            what = f"{'.'.join(path) or 'the row'}: {item['msg'].lower()}"
            fix = f"a scenario has {', '.join(ScenarioRow.model_fields)}"
        yield Problem(file=file, line=row.lines.get(path[0], row.line) if path else row.line, what=what, fix=fix)


def _keys_at(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys of the mapping at that path in a row."""
    schema = kind.model_json_schema()
    place: Any = schema
    for part in path:
        place = _resolved(schema, place)
        place = place.get("items", {}) if part.isdigit() else place.get("properties", {}).get(part, {})
    return [*_resolved(schema, place).get("properties", {})]


def _resolved(schema: Any, place: Any) -> Any:
    for part in (place, *place.get("anyOf", ()), *place.get("allOf", ())):
        if "$ref" in part:
            return schema["$defs"][part["$ref"].rpartition("/")[2]]
        if "items" in part or "properties" in part:
            return part
    return place
