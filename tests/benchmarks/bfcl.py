"""The tasks of BFCL's multi-turn categories, straight, through the broker, and replayed: `make bench-bfcl`.

800 tasks with 4,625 calls over eight classes of tools, which others wrote (Berkeley Function Calling Leaderboard, `bfcl-eval`; its
wheel is fetched alone and checked by its hash, for it asks for old versions of much else). Of each task the calls of its
ground truth are carried out, in order,

1. straight on the instances;
2. by a run of Remit: each call decided by policy, recorded and carried out as a host tool, one a turn because each stands on
   the one before; manifests and policy are generated from the tools' names, docstrings and signatures alone;
3. by a replay of that run from its trace file, where every call of a tool would be noticed.

Final states of all instances and all results of 1 and 2 must be equal, and 3 must reproduce the run without one call: 800 of 800.

The schemas are the signatures', with any plain type where the hint names one: Python holds nobody to a hint, and the ground
truth itself passes a text for a number. How many calls hints as they stand would have refused is printed.

A result is compared as JSON, and as `str` gives it where JSON cannot say it; what a tool raises, by its text; both alike on both
sides. When a file was last written is the clock's, and left out of the states.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import builtins
import copy
import importlib
import inspect
import json
import multiprocessing
import random
import re
import sys
import time
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from remit.core.calls import JSON_SAFE_INTEGER, ProposedCall, Succeeded
from remit.core.events import CallAnswered
from remit.core.messages import Message, ModelTurn, ToolSpec
from remit.core.parsing import Mismatch, validate
from remit.replay.replayer import replay
from remit.runtime import RunResult
from remit.runtime import runner as run
from remit.sandbox.guest.conformance import described
from remit.sandbox.guest.serving import snake_case
from remit.tracing import read_trace
from remit.workspace.bundle import Bundle, open_bundle
from remit.workspace.session import WorkspaceSession
from suites.fetch import BENCH, fetch
from suites.stage import HostTool, Stage, parameters_of, scratch, with_parameters
from support.principals import OPERATOR

FETCHED = BENCH / "bfcl"
PACKAGES = """
bfcl-eval==2026.3.23 --hash=sha256:3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a
mpmath==1.3.0 --hash=sha256:a0b2b9fe80bbcd81a6647ff13108738cfb482d481d826cc0e02f5b35e5c88d2c
"""
SOURCE = "bfcl_eval.eval_checker.multi_turn_eval.func_source_code"
CATEGORIES = ("base", "long_context", "miss_func", "miss_param")
CLASSES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
STATELESS = frozenset({"MathAPI"})
# A method whose name begins with one of these only looks, and so does everything that computes.
LOOKS = "ls cat pwd du find grep head tail wc sort diff get list view search show display check estimate find verify gallon liter"
HOST = "bfcl_host"  # the module, of this process alone, in which the manifests find the functions


# -- the tools ------------------------------------------------------------------------------------------------------------


@dataclass
class Now:
    """The instances that the functions of the host tools act on now, and how often they were called."""

    instances: dict[str, Any] = field(default_factory=dict[str, Any])
    calls: int = 0


Plain = bool | int | float | str
NOW = Now()
STRICT: dict[tuple[str, str], Any] = {}
BOOKS: dict[str, Bundle] = {}  # all runs of a category stand on the same one


class Failed(Exception):
    """What a method raised."""


def class_of(name: str) -> type:
    return getattr(importlib.import_module(f"{SOURCE}.{CLASSES[name]}"), name)


def methods(name: str) -> dict[str, Callable[..., Any]]:
    found = inspect.getmembers(class_of(name), predicate=inspect.isfunction)
    return {method: function for method, function in found if not method.startswith("_")}


def tool_of(name: str) -> str:
    return CLASSES[name]


def action_of(method: str) -> str:
    """The method's name as an action's: in lower case, and without words before the last where it would be too long."""
    words = snake_case(method).split("_")
    while len("_".join(words)) > 31:
        words.pop(-2)
    return "_".join(words)


def opened(hint: Any) -> Any:
    """The hint with every plain type opened to all of them: the tools take what Python gives them."""
    if hint in (bool, int, float, str):
        return Plain
    of, parts = typing.get_origin(hint), tuple(opened(one) for one in typing.get_args(hint))
    match of:
        case typing.Union | types.UnionType:
            return typing.Union[parts]  # noqa: UP007 - as many as there are
        case builtins.dict:
            return dict[str, parts[1]]
        case builtins.list:
            return list[parts[0]]
        case _:
            return hint


def function_of(name: str, method: str, function: Callable[..., Any], *, strict: bool = False) -> Callable[..., Any]:
    """The method as a plain typed function that acts on the instance that is on the stage."""

    def act(**arguments: Any) -> Any:
        NOW.calls += 1
        try:
            return as_json(getattr(NOW.instances[name], method)(**arguments))
        except Exception as failure:
            raise Failed(str(failure)) from failure

    hints = typing.get_type_hints(function)
    rows = [
        (one.name, hints[one.name] if strict else opened(hints[one.name]), one.default)
        for one in parameters_of(function)
    ]
    return with_parameters(act, method, function.__doc__ or "", rows)


def as_json(value: Any) -> Any:
    """The value where JSON says it exactly, else its text."""
    try:
        again = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return str(value)
    large = any(abs(one) > JSON_SAFE_INTEGER for one in numbers(again))
    return again if again == value and not large else str(value)


def numbers(value: Any) -> list[int]:
    if isinstance(value, dict | list):
        return [found for item in (value.values() if isinstance(value, dict) else value) for found in numbers(item)]
    return [value] if isinstance(value, int) else []


def state_of(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """Everything that an object holds, down to plain values, without the clock's."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return "a time"
        case random.Random():
            return repr(value.getstate())
        case dict():
            return {repr(key): state_of(item, seen) for key, item in value.items()}
        case list() | tuple():
            return [state_of(item, seen) for item in value]
        case set() | frozenset():
            return sorted(repr(item) for item in value)
        case _ if id(value) in seen:
            return f"the one {len(seen) - seen.index(id(value))} above"
        case _ if hasattr(value, "__dict__"):
            inner = (*seen, id(value))
            return {type(value).__name__: {name: state_of(item, inner) for name, item in vars(value).items()}}
        case _:
            return repr(value)


# -- the workspace --------------------------------------------------------------------------------------------------------


def manifest(name: str) -> str:
    tool = tool_of(name)
    lines = [
        f'name = "{tool}"',
        'version = "1.0.0"',
        'owner = "bench@example.com"',
        f'summary = "{name} of BFCL"',
        'source = "host"',
        f'host = "{HOST}:{tool}"',
    ]
    for method, function in methods(name).items():
        message = (inspect.getdoc(function) or method).splitlines()[0]
        looks = name in STATELESS or snake_case(method).split("_")[0] in LOOKS.split()
        lines += [
            f"[actions.{action_of(method)}]",
            f"summary = {json.dumps(re.sub(r'[^ -~]', ' ', message)[:100])}",
            f'touches = ["use service:{tool}"]',
            f'effect = "{"read" if looks else "once"}"',
            'errors = ["failed"]',
        ]
    return "\n".join(lines) + "\n"


def build(folder: Path) -> WorkspaceSession:
    """A workspace with the eight classes as host tools, which one agent may call."""
    tools = {tool_of(name): HostTool(manifest=manifest(name), functions=functions(name)) for name in CLASSES}
    rules = [f"# The agent uses {tool}\np, agent:bfcl, {tool}.*, service:{tool}, True, allow" for tool in tools]
    rules += ["# A user may do what the agent does\np, user:bench, *, **, True, allow"]
    stage = Stage(
        agent="bfcl",
        tools=tools,
        rules="\n".join(rules) + "\n",
        prompt="Do the task.\n",
        budget=dict.fromkeys(("steps", "calls", "tries", "retries", "denials"), 1000),
    )
    return stage.build(folder)


def functions(name: str) -> dict[str, Callable[..., Any]]:
    found = {action_of(method): function_of(name, method, one) for method, one in methods(name).items()}
    assert len(found) == len(methods(name))
    return found


# -- one task -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of the ground truth."""

    of: str
    method: str
    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """All of them by name, as a model writes them."""
        bound = inspect.signature(methods(self.of)[self.method]).bind(None, *self.positional, **self.named)
        return {name: value for name, value in bound.arguments.items() if name != "self"}


@dataclass(frozen=True, kw_only=True)
class Task:
    id: str
    classes: Sequence[str]
    config: Mapping[str, Any]
    steps: Sequence[Step]
    messages: Sequence[tuple[str, int]]  # of the person, each with how many of the steps follow it


def tasks(category: str) -> list[Task]:
    data = FETCHED / "bfcl_eval" / "data"
    file = f"BFCL_v4_multi_turn_{category}.json"
    rows = [json.loads(line) for line in (data / file).read_text().splitlines()]
    answers = [json.loads(line) for line in (data / "possible_answer" / file).read_text().splitlines()]
    found: list[Task] = []
    for row, answer in zip(rows, answers, strict=True):
        assert row["id"] == answer["id"]
        of = {method: name for name in row["involved_classes"] for method in methods(name)}
        calls = [ast.parse(call, mode="eval").body for turn in answer["ground_truth"] for call in turn]
        steps: list[Step] = []
        for call in calls:
            assert isinstance(call, ast.Call)
            assert isinstance(call.func, ast.Name)
            positional = tuple(ast.literal_eval(one) for one in call.args)
            named = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
            steps.append(Step(of=of[call.func.id], method=call.func.id, positional=positional, named=named))
        texts = ("\n".join(message["content"] for message in turn) for turn in row["question"])
        messages = [(text, len(calls)) for text, calls in zip(texts, answer["ground_truth"], strict=True)]
        classes = row["involved_classes"]
        found.append(Task(id=row["id"], classes=classes, config=row["initial_config"], steps=steps, messages=messages))
    return found


def fits(step: Step) -> bool:
    """Whether the call's arguments are what the hints say."""
    key = (step.of, step.method)
    if key not in STRICT:
        function = function_of(*key, methods(step.of)[step.method], strict=True)
        STRICT[key] = described(function)["input"]
    try:
        validate(STRICT[key], step.arguments)
    except Mismatch:
        return False
    return True


def instances(task: Task, category: str) -> dict[str, Any]:
    made = {name: class_of(name)() for name in task.classes}
    for name, instance in made.items():
        if name not in STATELESS:
            instance._load_scenario(copy.deepcopy(task.config.get(name, {})), long_context=category == "long_context")
    return made


@dataclass(frozen=True, kw_only=True)
class Came:
    """The outcome of a task: each call's result, and everything that the instances hold at the end."""

    results: Sequence[Any]
    state: Any


def straight(task: Task, category: str) -> Came:
    made = instances(task, category)
    results: list[Any] = []
    for step in task.steps:
        try:
            results.append(
                as_json(
                    getattr(made[step.of], step.method)(
                        *copy.deepcopy(step.positional), **copy.deepcopy(dict(step.named))
                    )
                )
            )
        except Exception as failure:  # noqa: BLE001 - what a tool raises is its result
            results.append({"failed": str(failure)})
    return Came(results=results, state=state_of(made))


class Truth:
    """A model that makes the calls of the ground truth, one a turn."""

    name = "bfcl:ground-truth"
    scripted = True

    def __init__(self, task: Task) -> None:
        self._task = task

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        if step >= len(self._task.steps):
            return ModelTurn(text="done", finish="stop")
        call = self._task.steps[step]
        name = f"{tool_of(call.of)}__{action_of(call.method)}"
        return ModelTurn(
            text="",
            proposed_calls=(ProposedCall(name=name, arguments=json.dumps(call.arguments)),),
            finish="tool_calls",
        )


async def brokered(session: WorkspaceSession, task: Task, category: str) -> tuple[Came, RunResult]:
    NOW.instances = instances(task, category)
    start = run.RunRequest(agent="bfcl", task=task.id, subject="user:bench", by=OPERATOR, model=Truth(task))
    ended = await run.start_run(session, start)
    results: list[Any] = []
    for item in session.journal.events(ended.run):
        if isinstance(item.event, CallAnswered):
            result = item.event.result
            received = result.value if isinstance(result, Succeeded) else {result.error.code: result.error.message}
            results.append(
                {"failed": received["tool_failed"]}
                if isinstance(received, dict) and "tool_failed" in received
                else received
            )
    return Came(results=results, state=state_of(NOW.instances)), ended


async def replayed(ended: RunResult) -> tuple[bool, int]:
    """Whether the run is reproduced from its file, and how often a tool was called meanwhile."""
    before = NOW.calls
    trace = read_trace(ended.trace)
    for digest, files in trace.bundles().items():
        if digest not in BOOKS:
            BOOKS[digest] = open_bundle(files)
    found = await replay(trace.records, BOOKS)
    return found.reproduced and found.complete and not any(fault.broken for fault in trace.faults()), NOW.calls - before


# -- all of them ----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Row:
    category: str
    tasks: int = 0
    calls: int = 0
    results: int = 0
    states: int = 0
    reproduced: int = 0
    live: int = 0
    failed: int = 0
    off_hint: int = 0
    straight_s: float = 0.0
    brokered_s: float = 0.0
    replayed_s: float = 0.0
    unequal: list[str] = field(default_factory=list[str])


def _category(category: str, most: int) -> Row:
    row = Row(category=category)
    with scratch() as folder:
        session = build(folder)
        for task in tasks(category)[:most]:
            began = time.perf_counter()
            direct = straight(task, category)
            row.straight_s += time.perf_counter() - began
            began = time.perf_counter()
            through, ended = asyncio.run(brokered(session, task, category))
            row.brokered_s += time.perf_counter() - began
            began = time.perf_counter()
            reproduced, live = asyncio.run(replayed(ended))
            row.replayed_s += time.perf_counter() - began
            row.tasks += 1
            row.calls += len(task.steps)
            row.failed += sum(isinstance(one, dict) and set(one) == {"failed"} for one in direct.results)
            row.off_hint += sum(not fits(step) for step in task.steps)
            row.results += direct.results == through.results
            row.states += direct.state == through.state
            row.reproduced += reproduced
            row.live += live
            if not (direct == through and reproduced and live == 0):
                pairs = zip(direct.results, through.results, strict=False)
                first = next((f"{one!r} is {other!r}" for one, other in pairs if one != other), "its state")
                row.unequal.append(f"{task.id}: {first[:300]}")
    return row


def category(given: tuple[str, int]) -> Row:
    sys.path.append(str(FETCHED))  # last: nothing of it stands before what Remit itself imports
    return _category(*given)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=200, help="of each category")
    most = parser.parse_args().tasks
    fetch("bfcl", PACKAGES)
    began = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(min(len(CATEGORIES), multiprocessing.cpu_count())) as pool:
        rows = pool.map(category, [(name, most) for name in CATEGORIES], chunksize=1)
    took = time.perf_counter() - began
    head = f"{'category':<14}{'tasks':>7}{'calls':>7}{'results equal':>15}{'states equal':>14}{'reproduced':>12}{'live':>6}"
    print(f"{head}{'straight':>11}{'brokered':>11}{'replayed':>11}")
    for row in rows:
        equal = f"{row.results:>15}{row.states:>14}{row.reproduced:>12}{row.live:>6}"
        each = "".join(
            f"{1000 * spent / max(row.calls, 1):>8.2f} ms" for spent in (row.straight_s, row.brokered_s, row.replayed_s)
        )
        print(f"{row.category:<14}{row.tasks:>7}{row.calls:>7}{equal}{each}  a call")
    held = sum(row.tasks - len(row.unequal) for row in rows)
    expected = len(CATEGORIES) * min(most, 200)
    for row in rows:
        for line in row.unequal[:10]:
            print(f"unequal: {line}")
    off, calls = sum(row.off_hint for row in rows), sum(row.calls for row in rows)
    print(f"{off} of {calls} calls are not what the tools' own hints say")
    print(f"{held} of {expected} tasks equal: straight, brokered and replayed; {took:.0f} s")
    out = BENCH / "bfcl.json"
    out.write_text(
        json.dumps({"equal": held, "of": expected, "seconds": took, "rows": [vars(row) for row in rows]}, indent=2)
    )
    return 0 if held == expected else 1


if __name__ == "__main__":
    sys.exit(main())
