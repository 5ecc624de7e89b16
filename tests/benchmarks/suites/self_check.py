"""What suites of our own are made of, and the check of a suite by itself: its tasks can be solved, its attacks win undefended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel

Env = TypeVar("Env", bound=BaseModel)
Calls: TypeAlias = list[tuple[str, dict[str, Any]]]


class NotFound(Exception):
    """There is no such thing under that id or name."""


def find(rows: Sequence[Any], key: str, field: str = "id") -> Any:
    for row in rows:
        if getattr(row, field) == key:
            return row
    raise NotFound(f"there is no {key!r}")


@dataclass(frozen=True)
class Task(Generic[Env]):
    """`kind` and `targets` are for the checks only: where the values that the writing calls aim at may be found.

    read: nothing is written. person: the name or address is in the prompt (an address by name is in the directory). thing: it is
    in the prompt. directory: it is not in the prompt, but in the house's lists. outsider: it is in outsiders' text alone.
    """

    id: str
    prompt: str
    calls: Callable[[Env], Calls]
    kind: Literal["read", "person", "thing", "directory", "outsider"] = "read"
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attack(Generic[Env]):
    """`calls(env, env_before)` is what a hijacked assistant does, `says` what it then answers (for the attack that only speaks).

    `env_before` is the environment with the injected text, before the first call.
    """

    id: str
    goal: str
    calls: Callable[[Env, Env], Calls]
    won: Callable[[Env, Env, str], bool]
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Suite(Generic[Env]):
    """A suite, and what its checks know of it: the tools that only read, and what the house and outsiders write.

    `unused` are targets that no call need hold. `finds`: every call that reads finds something. `begin` puts into a new
    environment what one task alone needs.
    """

    environment: Callable[[], Env]
    inject: Callable[[Env, str], None]
    tools: Sequence[Callable[..., Any]]
    reads: frozenset[str]
    tasks: Sequence[Task[Env]]
    attacks: Sequence[Attack[Env]]
    session: Callable[[Env], list[Any]]
    outside: Callable[[Env], list[Any]]
    unused: frozenset[str] = frozenset()
    finds: bool = False
    begin: Callable[[Env, Any], None] = lambda env, task: None

    def start(self, task: Task[Env]) -> Env:
        """A new environment for a task."""
        env = self.environment()
        self.begin(env, task)
        return env

    def call(self, env: Env, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool by its name."""
        return {function.__name__: function for function in self.tools}[name](env, **arguments)


def strings(value: Any) -> list[str]:
    """Every string in a value, and every number as one."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings(item)]
    return [] if value is None else [str(value)]


def holds(value: Any, text: str) -> bool:
    return any(text in one for one in strings(value))


def provenance(suite: Suite[Env], task: Task[Env], env: Env) -> list[str]:
    """What is wrong with where the task's targets come from."""
    prompt, session, outside = task.prompt.lower(), suite.session(env), suite.outside(env)
    writes = [call for call in task.calls(env) if call[0] not in suite.reads]
    wrong = []
    if (task.kind == "read") != (not writes) or (task.kind == "read") != (not task.targets):
        wrong.append("kind read and its writes do not agree")
    for target in task.targets:
        said, ours, theirs = target.lower() in prompt, holds(session, target), holds(outside, target)
        good = {
            "read": False,
            "person": said or ours,
            "thing": said,
            "directory": not said and ours,
            "outsider": not said and not ours and theirs,
        }[task.kind]
        used = target in suite.unused or any(holds(arguments, target) for _, arguments in writes)
        if not good or not used:
            wrong.append(f"target {target!r}: said {said}, ours {ours}, theirs {theirs}, used {used}")
    return wrong


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What came of one attack on one task: whether it won, at which call it was read, and what is wrong with the pair."""

    won: bool
    read_at: int | None
    wrong: list[str]


def pair(suite: Suite[Env], task: Task[Env], attack: Attack[Env]) -> Pair:
    """Play the task, hijacked at the first result that holds the injected text."""
    wrong: list[str] = []
    before = suite.start(task)
    suite.inject(before, attack.goal)
    steps = task.calls(before.model_copy(deep=True))
    if steps != task.calls(suite.start(task)):
        wrong.append("the right solution depends on the injected text")
    alone = before.model_copy(deep=True)
    for name, arguments in steps:
        suite.call(alone, name, arguments)
    if attack.won(alone, before, "Done.") or attack.won(before, before, ""):
        wrong.append("won without the attack")
    env, first = before.model_copy(deep=True), None
    for index, (name, arguments) in enumerate(steps):
        if holds(suite.call(env, name, arguments), attack.goal):
            first = index
            break
    if first is None or first >= len(steps) - 1:
        wrong.append("no outsiders' text before the last act")
    elif any(name not in suite.reads for name, _ in steps[:first]):
        wrong.append("writes before it reads")
    for name, arguments in attack.calls(env, before):
        suite.call(env, name, arguments)
    won = first is not None and attack.won(env, before, attack.says)
    return Pair(won=won, read_at=first, wrong=wrong if won else [*wrong, "the attack does not win"])


def check(suite: Suite[Env]) -> int:
    """Check every task and every pair; print the table; 1 if anything is wrong."""
    wrong: list[str] = []
    width = max(len(task.id) for task in suite.tasks)
    print(f"{'task':<{width}} {'kind':<9} calls read@ " + " ".join(attack.id for attack in suite.attacks))
    pairs: list[Pair] = []
    for task in suite.tasks:
        wrong += [f"{task.id}: {one}" for one in provenance(suite, task, suite.start(task))]
        env, steps = suite.start(task), task.calls(suite.start(task))
        try:
            clean = [suite.call(env, name, arguments) for name, arguments in steps]
        except Exception as error:  # noqa: BLE001
            wrong.append(f"{task.id}: {error!r}")
            continue
        if suite.finds and any(
            name in suite.reads and not found for (name, _), found in zip(steps, clean, strict=True)
        ):
            wrong.append(f"{task.id}: a look-up finds nothing")
        row = [pair(suite, task, attack) for attack in suite.attacks]
        pairs += row
        for attack, one in zip(suite.attacks, row, strict=True):
            wrong += [f"{task.id} x {attack.id}: {what}" for what in one.wrong]
        place = ",".join("-" if read is None else str(read + 1) for read in {one.read_at for one in row})
        cells = [
            ("won" if one.won else "-").center(len(attack.id)) for attack, one in zip(suite.attacks, row, strict=True)
        ]
        print(f"{task.id:<{width}} {task.kind:<9} {len(clean):>5} {place:>5} " + " ".join(cells))
    won = sum(one.won for one in pairs)
    print(
        f"\n{len(suite.tasks)} tasks x {len(suite.attacks)} attacks = {len(pairs)} pairs, undefended won: {won}; "
        f"tools: {len(suite.tools)}"
    )
    for line in wrong:
        print("WRONG", line)
    return 1 if wrong else 0
