"""A manifest for functions or LangChain tools that a program has already: they run in its process, unconfined."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from remit.core import Json
from remit.tools.making.guesses import Guess, guess, nouns_of
from remit.tools.making.texts import one_line, toml_value
from remit.workspace.manifest import MARK

_ACTION: Final = re.compile(r"(?!remit$|none$)(?=.{1,31}$)[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class HostFiles:
    """The files of a host tool. `open`: how many lines a person has to decide; `left_out`: functions that cannot be actions, and why."""

    texts: Mapping[str, str]
    open: int
    left_out: tuple[str, ...]


def host_files(name: str, entry: str, described: Mapping[str, Mapping[str, Json]], *, strict: bool) -> HostFiles:
    """The files of a tool for the functions at an entry point.

    `described` has the `description` and `input` of each function, or its `problem`. With `strict`, each action is one that cannot be
    undone on the whole service, so that the tool loads; otherwise its effect and its resources are lines to decide.
    """
    fits = {action: item for action, item in described.items() if not _problem(action, item)}
    guesses = {action: guess(action, item["input"], nouns_of(fits)) for action, item in fits.items()}
    lines = [
        "#:schema ../tool.schema.json",
        f'name = "{name}"',
        'version = "0.1.0"',
        'owner = "you@example.com"',
        f"summary = {toml_value(f'Functions of {entry}')}",
        'source = "host"                   # they run in the process of the agent, unconfined',
        f"host = {toml_value(entry)}",
        *_ceiling(() if strict else guesses.values()),
    ]
    for action, item in fits.items():
        summary = one_line(str(item["description"]).partition("\n")[0], 200).rstrip(".") or action
        lines += ["", f"[actions.{action}]", f"summary = {toml_value(summary)}"]
        lines += _strict(name) if strict else _decisions(name, guesses[action])
    text = "\n".join(lines) + "\n"
    return HostFiles(
        texts={"tool.toml": text, "cases.yaml": _cases(name, fits)},
        open=text.count(f"\n{MARK}"),
        left_out=tuple(
            f"{action}: {_problem(action, item)}" for action, item in described.items() if action not in fits
        ),
    )


def _problem(action: str, item: Mapping[str, Json]) -> str:
    if "problem" in item:
        return str(item["problem"])
    if _ACTION.fullmatch(action) is None:
        return "its name is none of an action: write at most 31 lower-case letters, digits and single _, a letter first"
    return ""


def _ceiling(found: Collection[Guess]) -> Iterator[str]:
    if any(item.files for item in found):
        yield "\n[at_most]"
        yield f'{MARK} read = ["data/**"]'
        if any(line.startswith("write file:") for item in found for line in item.touches):
            yield f'{MARK} write = ["data/**"]'


def _strict(name: str) -> Iterator[str]:
    yield f'touches = ["use service:{name}"]  # name what the arguments name: "use order:{{order_id}}"'
    yield 'effect = "once"                   # the strictest: write "read" if it changes nothing'


def _decisions(name: str, found: Guess) -> Iterator[str]:
    yield f'{MARK} effect = "{found.effect}"'
    yield f"{MARK} touches = {json.dumps(list(found.touches) or [f'use service:{name}'])}"
    if found.methods:
        yield f"{MARK} methods = {json.dumps(list(found.methods))}"
    if found.effect == "read":
        yield f'{MARK} adds_labels = ["untrusted"]'


def _cases(name: str, fits: Mapping[str, Mapping[str, Json]]) -> str:
    """Refusals, which start no function."""
    rows = [
        f"- note: {action} refuses an argument that it does not have\n  action: {name}.{action}\n"
        "  arguments: {no_such_argument: 1}\n  expect: {error: invalid_arguments}\n"
        for action in fits
    ]
    return "# yaml-language-server: $schema=../../.remit/schemas/tool-cases.schema.json\n" + "\n".join(rows)
