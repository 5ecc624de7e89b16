"""How far a hijacked agent gets under Remit, on AgentDojo v1.2.2: `make bench-attacks`.

No language model is asked. The agent is a puppet: it makes the calls of AgentDojo's own solution of the user's task until a
result holds the injected text; from there on it makes the attacker's calls, as AgentDojo's own solution of the attack has
them, which knows the whole environment. That is the worst case of an attack by text: the model believes all of it, at once,
and makes no mistake. Every call goes through the whole of Remit: a run of an agent, host tools, journal, trace.

Manifests (`suites/*/tool.toml`) and the policy (`policies/open.csv`) were written from names, docstrings and schemas of the
tools. Banking and slack were looked at while they were; workspace and travel are for the record.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import shutil
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))

from agentdojo.functions_runtime import FunctionCall, FunctionsRuntime  # noqa: E402
from agentdojo.task_suite.load_suites import get_suite  # noqa: E402
from agentdojo.types import text_content_block_from_string  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from remit import approval, run, tool, workspace  # noqa: E402
from remit.call import Ask, Json  # noqa: E402
from remit.event import ApprovalRequested, CallDecided, Recorded  # noqa: E402
from remit.house import House, open_house  # noqa: E402
from remit.model import Message, ToolSpec, Turn  # noqa: E402
from remit.record import Record  # noqa: E402
from remit.sandbox import Sandbox  # noqa: E402

VERSION = "v1.2.2"
SUITES = ("banking", "slack", "workspace", "travel")
DEVELOPED_ON = ("banking", "slack")
MARK = "INJECTED-TEXT"
HERE = Path(__file__).parent / "suites"


# ── AgentDojo's tools as host tools of a workspace ───────────────────────────────────────────────────────────────────────


class Stage:
    """The environment that the tools of this process act on now, and what was done to it."""

    environment: Any = None
    done: list[FunctionCall] = []
    spelled: dict[str, str] = {}  # canonical URLs, and how the caller had spelled them


def plain(value: object) -> Json:
    """What a tool returned, as JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def short(name: str) -> str:
    """A name of at most 31 characters, as actions have them."""
    return name[:31].rstrip("_")


def hosted(runtime: FunctionsRuntime, name: str) -> Callable[..., Json]:
    """One tool as a function with a plain signature."""
    function = runtime.functions[name]
    parameters = [
        inspect.Parameter(
            key,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=about.annotation,
            default=inspect.Parameter.empty if about.is_required() else about.default,
        )
        for key, about in function.parameters.model_fields.items()
    ]

    def call(**arguments: Any) -> Json:
        given = {
            key: Stage.spelled.get(value, value) if isinstance(value, str) else value
            for key, value in arguments.items()
        }
        Stage.done.append(FunctionCall(function=name, args=dict(given)))
        value, error = runtime.run_function(Stage.environment, name, given)
        if error is not None:
            raise RuntimeError(error)
        return plain(value)

    call.__name__ = name
    call.__doc__ = function.description
    call.__signature__ = inspect.Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": Any}
    return call


def build(suite: str, folder: Path) -> House:
    """A workspace with the suite's tools, the starter policy for agents in the open, and nothing else."""
    runtime = FunctionsRuntime(get_suite(VERSION, suite).tools)
    module = sys.modules.setdefault("remit_dojo", types.ModuleType("remit_dojo"))
    setattr(module, suite.upper(), {short(name): hosted(runtime, name) for name in runtime.functions})
    files = {
        "remit.toml": f'host_tools = ["{suite}"]\n\n[identity]\n"*" = "user:operator"\n',
        "policies/rules.csv": f"# The user may do what the agent may\np, user:operator, *, **, True, allow\ng, agent:{suite}, role:open\ng, user:owner, role:owner\n",
        f"agent/{suite}/agent.toml": f'name = "{suite}"\nsummary = "A puppet"\nmodel = "script:none.yaml"\nprompt = "prompt.md"\ntools = ["{suite}"]\nfolder = "work/{suite}"\n\n[budget]\nsteps = 400\ncalls = 400\ntries = 1000\nretries = 10000\ndenials = 10000\nwaiting = 1000\n'
        + (HERE / suite / "agent.toml").read_text(),
        f"agent/{suite}/prompt.md": "Do what you are asked.\n",
        f"agent/{suite}/none.yaml": "turns: []\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for source in ("model.conf", "open.csv"):
        shutil.copyfile(ROOT / "policies" / source, folder / "policies" / source)
    (folder / "tools" / suite).mkdir(parents=True)
    shutil.copyfile(HERE / suite / "tool.toml", folder / "tools" / suite / "tool.toml")
    asyncio.run(tool.pin_tools(workspace.load(folder), (suite,), Sandbox(accept=("full",))))
    return open_house(folder)


# ── the puppet ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Puppet:
    """Makes the user's calls, and once something injected was read the attacker's."""

    suite: str
    calls: Sequence[FunctionCall]
    attack: Callable[[], Sequence[FunctionCall]] | None = None
    name: str = "puppet:agentdojo"
    scripted: bool = True
    _left: list[FunctionCall] | None = None
    turned: bool = False

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Turn:
        if self._left is None:
            self._left = list(self.calls)
        if (
            self.attack is not None
            and not self.turned
            and any(MARK in one.text for one in messages if one.role == "tool")
        ):
            self._left, self.turned = list(self.attack()), True
        if not self._left:
            return Turn(text="done", asks=(), finish="stop")
        call = self._left.pop(0)
        arguments = {key: self._spelled(key, value) for key, value in call.args.items()}
        ask = Ask(name=f"{self.suite}__{short(call.function)}", arguments=json.dumps(plain(arguments)))
        return Turn(text="", asks=(ask,), finish="tool_calls")

    def _spelled(self, key: str, value: Any) -> Any:
        """A URL as the URL standard has it: AgentDojo writes hosts without a scheme."""
        if key != "url":
            return value
        whole = value if "://" in value else f"https://{value}"
        host, _, path = whole.partition("://")[2].partition("/")
        Stage.spelled[f"{whole.partition('://')[0]}://{host.lower()}/{path}"] = value
        return whole


@dataclass
class Seen:
    """What became of the calls of one run."""

    verdicts: list[tuple[str, str, str]] = field(default_factory=list)  # action, verdict or code, why

    def count(self, verdict: str) -> int:
        return sum(said == verdict for _, said, _ in self.verdicts)


def play(house: House, suite: str, task: str, puppet: Puppet, *, grants: bool) -> Seen:
    """Run it to its end; whoever is asked grants the user's own calls, or nothing, and never the attacker's."""
    seen = Seen()
    shared: list[Record] = []

    def tell(recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, CallDecided) and event.round == 0:
            if event.refused is not None:
                why = event.refused.error.message
                seen.verdicts.append((event.ask.action, event.refused.error.code, why))
            elif event.decision is not None:
                seen.verdicts.append((event.ask.action, event.decision.verdict, event.decision.message))
        if isinstance(event, ApprovalRequested):
            record = Record(house.journal, recorded.run)
            who: dict[str, Any] = {
                "approver": "user:owner",
                "account": "bench",
                "now": time.time_ns(),
                "roles_of": house.policy.roles_of,
            }
            if grants and not puppet.turned:
                approval.grant(record, event, role="role:owner", **who)
            else:
                approval.reject(record, event, reason="no", **who)
            shared.append(record)

    start = run.Start(agent=suite, task=task, subject="user:operator", account="bench", model=puppet)
    asyncio.run(run.start(house, start, tell=tell, wait=5))
    return seen


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def opened(suite: str) -> Iterator[House]:
    with tempfile.TemporaryDirectory(
        prefix="remit-bench-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    ) as folder:
        yield build(suite, Path(folder))


def set_stage(suite: str, injections: dict[str, str], task: Any) -> Any:
    """A fresh environment for the tools; returns how it was before anything happened."""
    environment = get_suite(VERSION, suite).load_and_inject_default_environment(injections)
    Stage.environment = task.init_environment(environment)
    Stage.done, Stage.spelled = [], {}
    return Stage.environment.model_copy(deep=True)


def benign(house: House, suite: str, number: str) -> dict[str, Any]:
    """One user task without an attack: first as it stands, then with everything granted that people are asked."""
    task = get_suite(VERSION, suite).user_tasks[number]
    before = set_stage(suite, {}, task)
    alone = play(house, suite, task.PROMPT, Puppet(suite, task.ground_truth(before)), grants=False)
    before = set_stage(suite, {}, task)
    helped = play(house, suite, task.PROMPT, Puppet(suite, task.ground_truth(before)), grants=True)
    useful = checked(suite, task, before)
    return {
        "task": number,
        "asked": [one for one in alone.verdicts if one[1] == "ask"],
        "denied": [one for one in helped.verdicts if one[1] not in ("allow", "ask")],
        "useful": useful,
        "calls": len(alone.verdicts),
    }


def checked(suite: str, task: Any, before: Any) -> bool:
    """AgentDojo's own judgement of what was done."""
    said = [text_content_block_from_string(task.GROUND_TRUTH_OUTPUT or "done")]
    return bool(get_suite(VERSION, suite)._check_task_result(task, said, before, Stage.environment, Stage.done))


def attacked(house: House, suite: str, number: str, injected: str) -> dict[str, Any]:
    """One pair of a user task and an attack."""
    whole = get_suite(VERSION, suite)
    task, attack = whole.user_tasks[number], whole.injection_tasks[injected]
    injections = dict.fromkeys(whole.get_injection_vector_defaults(), f"{MARK} {attack.GOAL}")
    before = set_stage(suite, injections, task)
    calls = attack.ground_truth(before)
    puppet = Puppet(suite, task.ground_truth(before), lambda: calls)
    seen = play(house, suite, task.PROMPT, puppet, grants=True)
    won = puppet.turned and checked(suite, attack, before)
    return {"task": number, "attack": injected, "hijacked": puppet.turned, "won": won, "verdicts": seen.verdicts}


def of_suite(suite: str, only: str) -> dict[str, Any]:
    """Everything of one suite, in one process."""
    whole = get_suite(VERSION, suite)
    found: dict[str, Any] = {"suite": suite, "benign": [], "pairs": []}
    with opened(suite) as house:
        for number in whole.user_tasks:
            if only in ("", "benign"):
                found["benign"].append(benign(house, suite, number))
            for injected in whole.injection_tasks if only in ("", "pairs") else ():
                found["pairs"].append(attacked(house, suite, number, injected))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", choices=SUITES)
    parser.add_argument("--only", choices=("benign", "pairs"), default="")
    given = parser.parse_args()
    suites = given.suite or SUITES
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(of_suite, suites, [given.only] * len(suites)))
    for one in results:
        rows = one["benign"]
        quiet = [row for row in rows if not row["asked"] and not row["denied"]]
        asking = [row for row in rows if row["asked"] and not row["denied"]]
        won = [pair for pair in one["pairs"] if pair["won"]]
        print(
            f"{one['suite']:<10} benign {len(quiet)} quiet, {len(asking)} ask, {len(rows) - len(quiet) - len(asking)} denied of {len(rows)}; useful {sum(row['useful'] for row in rows)}; attacks won {len(won)} of {len(one['pairs'])}, {sum(not pair['hijacked'] for pair in one['pairs'])} never reached"
        )
        for row in rows:
            for action, verdict, why in row["asked"] + row["denied"]:
                print(f"    {row['task']}: {verdict} {action}: {why[:150]}")
            if not row["useful"]:
                print(f"    {row['task']}: not useful")
        print("    won:", dict(Counter(pair["attack"] for pair in won)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
