"""A large workspace: hundreds of tools, dozens of agents, and thousands of rules, all pinned and valid."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from remit.workspace.loader import load_workspace
from remit.workspace.manifest.manifest import ActionSchema, Pin, pin
from remit.workspace.manifest.pins import LOCK, write_lock
from support import ROOT

ACTIONS: Final = ("read", "write", "list")
TOOL: Final = """name = "t{n}"
version = "1.0.0"
owner = "team{team}@example.com"
summary = "Tool {n}"
source = "python"

[at_most]
read = ["p{n}/**"]
write = ["p{n}/out/**"]

[actions.read]
summary = "Read a file"
touches = ["read file:{{path}}"]
effect = "read"

[actions.write]
summary = "Write a file"
touches = ["write file:{{path}}"]
effect = "idempotent"

[actions.list]
summary = "List records"
touches = ["use record:{{path}}"]
effect = "read"
"""
CODE: Final = "".join(f'def {name}(path: str) -> str:\n    """Do it."""\n    return path\n\n\n' for name in ACTIONS)
AGENT: Final = """name = "a{n}"
summary = "Agent {n}"
model = "script:script.yaml"
prompt = "prompt.md"
tools = [{tools}]
"""
SCHEMA: Final = ActionSchema(
    input={
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
        "additionalProperties": False,
    },
    output={"type": "string"},
)


def large_workspace(folder: Path, *, rules: int, tools: int, agents: int, seed: int = 1) -> Path:
    """Write it into the folder. Some of its rules have no effect, as in a workspace that many people edit."""
    dice = random.Random(seed)
    for n in range(tools):
        place = folder / "tools" / f"t{n}"
        place.mkdir(parents=True)
        (place / "tool.toml").write_text(TOOL.format(n=n, team=n % 20))
        (place / "main.py").write_text(CODE)
        case = (
            "- {{note: {name}, action: t{n}.{name}, arguments: {{path: ../x}}, expect: {{error: invalid_arguments}}}}\n"
        )
        (place / "cases.yaml").write_text("".join(case.format(name=name, n=n) for name in ACTIONS))
    for n in range(agents):
        place = folder / "agent" / f"a{n}"
        place.mkdir(parents=True)
        own = sorted(dice.sample(range(tools), min(tools, 12)))
        (place / "agent.toml").write_text(AGENT.format(n=n, tools=", ".join(f'"t{one}"' for one in own)))
        (place / "prompt.md").write_text("Work.\n")
        (place / "script.yaml").write_text("turns: []\n")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "model.conf").write_bytes((ROOT / "policies/model.conf").read_bytes())
    (policies / "rules.csv").write_text("\n".join(_rows(dice, rules, tools, agents)) + "\n")
    (policies / "cases.yaml").write_text(
        '- {note: nobody, agent: agent:a0, user: user:none, action: t0.read, resources: ["file:p0/x"], expect: deny}\n'
    )
    (folder / "remit.toml").write_text('[identity]\n"*" = "user:operator"\n')
    _pin(folder)
    return folder


def _rows(dice: random.Random, rules: int, tools: int, agents: int) -> list[str]:
    links = ["g, user:operator, role:operator", *(f"g, agent:a{n}, role:team{n % 20}" for n in range(agents))]
    rows: list[str] = []
    for _ in range(rules):
        tool = dice.randrange(tools)
        action = dice.choice(ACTIONS)
        who = dice.choice(
            (f"agent:a{dice.randrange(agents)}", f"role:team{dice.randrange(min(20, agents))}", "role:operator")
        )
        tail = dice.choice(("**", "out/**", "docs/*", f"f{dice.randrange(50)}"))
        resource = f"record:{tail.replace('/', '-').replace('**', '*')}" if action == "list" else f"file:p{tool}/{tail}"
        condition = dice.choice(("True", "True", "env == 'local'", "'untrusted' not in labels"))
        rows.append(
            f"p, {who}, t{tool}.{action}, {resource}, {condition}, {'allow' if dice.random() < 0.9 else 'deny'}"
        )
    return [*links, *rows]


def _pin(folder: Path) -> None:
    """Pin every tool, without a sandbox: the schemas of the functions are known."""
    pins: dict[str, Pin] = {
        name: pin(tool.manifest, tool.code, dict.fromkeys(ACTIONS, SCHEMA), dict.fromkeys(ACTIONS, ()))
        for name, tool in load_workspace(folder).tools.items()
    }
    (folder / LOCK).write_text(write_lock(pins))
