"""A scripted model: its turns, and the approvals for a demonstration, are data: of a YAML file, or of Python.

turns:
  - say: I look at the logs first.
    calls:
      - files__read: {path: logs/checkout.log}     # arguments as a mapping,
      - files__read: '{"path": "logs/a.log"'       # or as the raw text, to write what YAML cannot say
    finish: length                                # optional: the turn was cut off
  - say: The answer.
approvals:
  - {action: tickets.close, approver: user:ben, role: role:lead, note: Ben was asked in the demo}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field, TypeAdapter, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from remit.core import (
    FrozenModel,
    Message,
    ModelError,
    ModelTurn,
    Principal,
    Problem,
    ProposedCall,
    Subject,
    ToolSpec,
    WorkspaceError,
)
from remit.core.parsing import MOST_BITS, load_yaml, read_text

FINISHES: Final = ("stop", "tool_calls", "length", "content_filter")


class ScriptedCall(FrozenModel):
    """One call of a turn. `arguments` is JSON, or the raw text that the script has instead."""

    name: str
    arguments: str


class ScriptedTurn(FrozenModel):
    """One turn. `finish` is "" if the script does not set it."""

    say: str
    calls: tuple[ScriptedCall, ...]
    finish: str


class ScriptedApproval(FrozenModel):
    """One approval that the script gives in place of a person, for requests of that action."""

    action: str = Field(description="TOOL.ACTION")
    approver: Subject = Field(description='Who approves: "user:NAME"')
    role: str = Field(description='In which role: "role:NAME"')
    note: str = Field(default="", description="Why")

    def principal(self, tenant: str) -> Principal:
        """The person that the script names, whom nobody has authenticated."""
        name = self.approver.partition(":")[2]
        return Principal(subject=self.approver, authenticated="script", account=name, issuer="script", tenant=tenant)


class Script(FrozenModel):
    """The whole script. `file` is its name in messages."""

    file: str
    turns: tuple[ScriptedTurn, ...]
    approvals: tuple[ScriptedApproval, ...]


def read_script(path: Path) -> Script:
    """Read one script. Raises WorkspaceError with every problem, each with its line."""
    file = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    return _Reader(file).script(load_yaml(read_text(path, file=file), file=file))


class ScriptedModel:
    """A scripted model: step n gets turn n of the script, whatever the conversation is.

    A turn is a mapping with `say` (its text), `calls` (a list of `{NAME: ARGUMENTS}`) and `finish`; all are optional. An
    approval is a mapping with `action`, `approver`, `role` and `note`: the script gives it in place of a person. `name` is
    what the record of a run calls the model.

    Raises:
        WorkspaceError: a turn or an approval is not valid; with every problem.
    """

    scripted = True

    def __init__(
        self,
        turns: Sequence[Mapping[str, object]],
        *,
        approvals: Sequence[Mapping[str, object]] = (),
        name: str = "script:turns",
    ) -> None:
        document = {"turns": list(turns), "approvals": list(approvals)}
        self._open(_Reader("ScriptedModel").script(document), name)

    @classmethod
    def read(cls, path: Path, *, name: str) -> ScriptedModel:
        """The model whose script is that YAML file. Raises WorkspaceError with every problem, each with its line."""
        model = cls.__new__(cls)
        model._open(read_script(path), name)
        return model

    def _open(self, script: Script, name: str) -> None:
        self.name = name
        self._script = script

    @property
    def approvals(self) -> tuple[ScriptedApproval, ...]:
        """The approvals that the script gives in place of people, for demonstrations and tests only."""
        return self._script.approvals

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        """Turn number `step` of the script. Raises ModelError after the last turn."""
        turns = self._script.turns
        if step >= len(turns):
            raise ModelError(
                f"the script has ended: it has {len(turns)} turns, and turn {step + 1} was requested",
                fix=f"add a turn to {self._script.file}, or make its last turn one without calls",
            )
        turn = turns[step]
        proposed_calls = tuple(
            ProposedCall(name=call.name, arguments=call.arguments, id=f"call_{step}_{index}")
            for index, call in enumerate(turn.calls)
        )
        finish = turn.finish or ("tool_calls" if proposed_calls else "stop")
        return ModelTurn(text=turn.say, proposed_calls=proposed_calls, finish=finish, response_model="script")


class _Reader:
    """Reads a script from data. A problem has its line if the data is of a YAML file, else its place: `turns[1].calls[0]`."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._place = ""
        self._problems: list[Problem] = []

    def script(self, document: Any) -> Script:
        turns: list[ScriptedTurn] = []
        approvals: list[ScriptedApproval] = []
        if not _is_mapping(document):
            self._wrong("a script is a mapping", "write `turns:` and below it one item a turn", 1)
        else:
            self._only(document, ("turns", "approvals"))
            for item, line in self._items(document, "turns"):
                turns.extend(self._turn(item, line))
            for item, line in self._items(document, "approvals"):
                approvals.extend(self._approval(item, line))
            if "turns" not in document:
                self._wrong("the script has no turns", "write `turns:` and below it one item a turn", 1)
        if self._problems:
            raise WorkspaceError(self._problems)
        return Script(file=self._file, turns=tuple(turns), approvals=tuple(approvals))

    def _turn(self, item: Any, line: int | None) -> list[ScriptedTurn]:
        if not _is_mapping(item):
            return self._wrong("a turn is a mapping", "write `- say: …` or `- calls: […]`", line)
        self._only(item, ("say", "calls", "finish"))
        say, finish = item.get("say", ""), item.get("finish", "")
        if not isinstance(say, str):
            self._wrong("`say` is not text", "put it in quotes", _line(item, "say"))
            say = ""
        if "finish" in item and finish not in FINISHES:
            self._wrong(f"`finish` is {finish!r}", f"write one of: {', '.join(FINISHES)}", _line(item, "finish"))
            finish = ""
        calls = [call for call, at in self._items(item, "calls") for call in self._call(call, at)]
        return [ScriptedTurn(say=str(say), calls=tuple(calls), finish=str(finish))]

    def _call(self, item: Any, line: int | None) -> list[ScriptedCall]:
        if not _is_mapping(item) or len(item) != 1:
            return self._wrong("a call is one name with its arguments", "write `- files__read: {path: a.md}`", line)
        ((name, arguments),) = _pairs(item)
        if not isinstance(name, str):
            return self._wrong(f"the call's name is {name!r}", "write the tool's name, as files__read", line)
        if isinstance(arguments, str):
            return [ScriptedCall(name=name, arguments=str(arguments))]
        if not _is_mapping(arguments):
            return self._wrong(
                f"the arguments of {name!r} are neither a mapping nor text", "write {} for no arguments", line
            )
        value = self._plain(arguments, line)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return [ScriptedCall(name=name, arguments=text)]

    def _approval(self, item: Any, line: int | None) -> list[ScriptedApproval]:
        if not _is_mapping(item):
            return self._wrong("an approval is a mapping", "write action, approver and role", line)
        try:
            return [_APPROVAL.validate_python({str(key): value for key, value in _pairs(item)})]
        except ValidationError as error:
            for fault in error.errors():
                name = ".".join(str(part) for part in fault["loc"])
                what = "not the name of a user" if fault["type"] == "string_pattern_mismatch" else fault["msg"].lower()
                self._wrong(
                    f"approval: {name!r}: {what}",
                    "write action, approver (as user:NAME), role and note, as text",
                    line,
                )
            return []

    def _plain(self, value: Any, line: int | None, depth: int = 0) -> Any:
        """The value with JSON types only. A value that JSON cannot represent is a problem."""
        if depth > 64:
            self._wrong("the arguments are nested deeper than 64", "write them as raw JSON text", line)
            return None
        if _is_mapping(value):
            plain: dict[str, Any] = {}
            for key, inner in _pairs(value):
                if not isinstance(key, str):
                    self._wrong(f"the key {key!r} is not text", "put it in quotes", _line(value, key))
                plain[str(key)] = self._plain(inner, _line(value, key) or line, depth + 1)
            return plain
        if _is_list(value):
            return [self._plain(inner, line, depth + 1) for inner in cast("list[Any]", value)]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int) and value.bit_length() <= MOST_BITS:
            return int(value)
        if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
            return float(value)
        shown = "a number of too many digits" if isinstance(value, int) else repr(str(value))
        self._wrong(f"{shown} is not a JSON value", "put it in quotes, or write raw JSON text", line)
        return None

    def _items(self, parent: Any, key: str) -> Iterator[tuple[Any, int | None]]:
        """The items of a list, each with its line."""
        items = parent.get(key)
        if items is None:
            return
        if not _is_list(items):
            self._wrong(f"`{key}` is not a list", "write one `- ` for each item", _line(parent, key))
            return
        lines = _lines(items)
        before = self._place
        for number, item in enumerate(items):
            self._place = f"{before}{'.' if before else ''}{key}[{number}]"
            yield item, lines[number][0] + 1 if number in lines else None
        self._place = before

    def _only(self, mapping: Any, known: tuple[str, ...]) -> None:
        for key, _ in _pairs(mapping):
            if key not in known:
                self._wrong(f"unknown key {key!r}", f"write one of: {', '.join(known)}", _line(mapping, key))

    def _wrong(self, what: str, fix: str, line: int | None) -> list[Any]:
        place = f"{self._place}: " if line is None and self._place else ""
        self._problems.append(Problem(file=self._file, what=f"{place}{what}", fix=fix, line=line))
        return []


def _is_mapping(value: Any) -> bool:
    """True for a mapping. The YAML library is only partly typed, so its values are `Any` and are distinguished at run time."""
    return isinstance(value, Mapping)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


_APPROVAL: Final = TypeAdapter(ScriptedApproval)


def _pairs(mapping: Any) -> list[tuple[Any, Any]]:
    return list(mapping.items())


def _lines(value: Any) -> dict[Any, list[int]]:
    """The place of each item or key, as the YAML library keeps it; empty for data of Python."""
    if not isinstance(value, CommentedMap | CommentedSeq):
        return {}
    document: Any = value
    return document.lc.data or {}


def _line(mapping: Any, key: object) -> int | None:
    lines = _lines(mapping)
    return lines[key][0] + 1 if key in lines else None
