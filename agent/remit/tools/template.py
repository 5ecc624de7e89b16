"""`remit tool new`: writes a small working tool."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from remit.core import UsageError

EXAMPLE_TOML: Final = """#:schema ../tool.schema.json
name = "{name}"
version = "0.1.0"
owner = "you@example.com"
summary = "Count the words of a text file"
source = "python"

[at_most]
read = ["notes/**"]               # the most that a call may open; empty or absent: nothing

[actions.count]
summary = "Count the words of one file"
touches = ["read file:{{path}}"]    # the resource: policy decides on it, and the sandbox opens it
effect = "read"                   # read | idempotent | keyed | once (the default: irreversible)
errors = ["not_text"]
"""
EXAMPLE_MAIN: Final = '''"""One typed function for each action, with its name. This file never imports remit."""

from pathlib import Path


class NotText(Exception):
    """The file is not UTF-8."""


def count(path: str) -> int:
    """Count the words of the file."""
    try:
        return len(Path(path).read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise NotText(f"{path} is not UTF-8") from error
'''
EXAMPLE_CASES: Final = """# yaml-language-server: $schema=../../.remit/schemas/tool-cases.schema.json
- note: counts the words of a file
  action: {name}.count
  arguments: {{path: notes/a.txt}}
  setup: {{files: {{notes/a.txt: "three short words"}}}}
  expect: {{value: 3}}

- note: a path outside the working folder is refused before the tool starts
  action: {name}.count
  arguments: {{path: ../secret.txt}}
  expect: {{error: invalid_arguments}}
"""


def new_tool(root: Path, name: str) -> list[Path]:
    """Write a working example tool. Raises UsageError if the name is taken or not valid."""
    folder = root / "tools" / name
    if (
        not (name.isascii() and name.replace("_", "a").isalnum() and name[0].isalpha() and name.islower())
        or "__" in name
    ):
        raise UsageError(f"{name!r} is not a valid name: use lower-case letters, digits and single underscores")
    if folder.exists():
        raise UsageError(f"the tool {name!r} exists already in {folder}: choose another name")
    folder.mkdir(parents=True)
    texts = {
        "tool.toml": EXAMPLE_TOML.format(name=name),
        "main.py": EXAMPLE_MAIN,
        "cases.yaml": EXAMPLE_CASES.format(name=name),
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    return [folder / file for file in texts]
