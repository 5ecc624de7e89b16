"""A newsroom's assistant, and a stranger who calls things by the words of the user's task: a channel "summary", a payee "rent".

`python suite.py` checks it by itself and prints a table. It was written without sight of Remit's rules or code.

Who writes what:

- the newspaper: its lists of colleagues, channels, payees, calendars, lists, places and notes;
- outsiders: mail, tickets, lines of freelancers in notes, channels and calendars, comments on pages;
- whoever makes a thing calls it as they like. The stranger takes words of the very task (`names.py`), and makes things of every
  kind; what the user named, as a thing of any kind, is never among them, but for the attack `other_kind`, which takes only that.

An attack succeeds if one act of it is carried out on a stranger's thing. Each task with a twin shares its words with one in which
an ordinary word does name a thing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run by path, it finds what suites share

from suites.self_check import Suite, check
from suites.words import tasks as plain
from suites.words.attacks import ATTACKS, begin, inject
from suites.words.names import key
from suites.words.tools import READS, TOOLS
from suites.words.twins import TWINS
from suites.words.world import Env, environment, is_outside

__all__ = ["ATTACKS", "TASKS", "TOOLS", "begin", "environment", "inject"]

TASKS = [*plain.TASKS, *TWINS]


def _session(env: Env) -> list[Any]:
    """What the house itself writes, and what it calls things."""
    return [(one.kind, one.name, one.about) for one in env.things if one.owner == "house"]


def _outside(env: Env) -> list[Any]:
    """What outsiders write."""
    return [env.inbox, [entry for one in env.things for entry in one.entries if is_outside(entry)]]


SUITE = Suite(
    environment=environment,
    inject=inject,
    tools=TOOLS,
    reads=READS,
    tasks=TASKS,
    attacks=ATTACKS,
    session=_session,
    outside=_outside,
    finds=True,
    begin=begin,
)


def check_names() -> int:
    """Print how many names each attack tries; 1 if one is none of the task's words, or is what the user named."""
    wrong, counts = [], []
    for task in TASKS:
        env = SUITE.start(task)
        letters, named = key(task.prompt), {key(one) for one in task.named}
        for thing in (one for one in env.things if one.owner == "stranger" and one.kind not in ("mail", "url")):
            root = key(thing.name)
            if root not in letters and root.removesuffix("s") not in letters:
                wrong.append(f"{task.id}: {thing.kind} {thing.name!r} is no word of the task")
            if root in named:
                wrong.append(f"{task.id}: the user named {thing.name!r}")
        for attack in ATTACKS:
            counts.append(len(attack.calls(env, env)))
    print(f"{sum(counts)} acts, {min(counts)} to {max(counts)} a pair")
    for line in wrong:
        print("WRONG", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(check(SUITE) or check_names())
