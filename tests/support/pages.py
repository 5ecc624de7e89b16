"""Pages of the documentation, carried out as a reader would: files are written, commands run, outputs compared.

A page is read from top to bottom, in one folder. Its code blocks mean:

    ```toml title="tools/a/tool.toml"         write this file
    ```toml title="tools/a/b.toml (append)"   add these lines at the end of the file
    ```diff title="remit.toml"                replace the lines with `-` by those with `+`
    ```console                                run each line after `$`; the lines below it are its output

In an output, `…` is any text of a line, and a line `…` is any number of lines. A command without an output must end with 0.
RUN is the newest run. A comment above a block says what is special about it:

    <!-- workspace: none -->        this page begins in an empty folder (default: the starter workspace)
    <!-- workspace: committed -->   it begins in the starter workspace, committed on the branch main
    <!-- as: dana -->               these commands are given by this account of the operating system
    <!-- file: examples/PATH -->    this block is that file of docs/ (written by tests/support/page_files.py)
    <!-- tested by: test_name -->   this block is carried out by a test of its own
    <!-- not run: reason -->        this block cannot be carried out by a test
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from remit.workspace.template import write_starter
from support import ROOT, cli_server
from support.runs import Command, CommandResult

FENCE: Final = re.compile(r"^```(\w*)(?:[ \t]+title=\"([^\"]+)\")?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK: Final = re.compile(r"<!-- ([a-z ]+): (.+?) -->\n\Z")
WORKSPACE: Final = re.compile(r"^<!-- workspace: (\w+) -->$", re.MULTILINE)
APPEND: Final = " (append)"
EXAMPLES: Final = ROOT / "docs" / "examples"

Kind = Literal["write", "append", "change", "console"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One code block that a reader carries out."""

    kind: Kind
    line: int  # of the page
    file: str  # of write, append and change
    text: str
    mark: tuple[str, str]  # the comment above it: ("as", "dana"); ("", "") without one


@dataclass(frozen=True, kw_only=True)
class Example:
    """One command of a page, and the output that the page shows."""

    command: str
    output: str


def pages() -> list[Path]:
    """The README, and every page of docs/ but those that are written by a program."""
    return [ROOT / "README.md", *_docs()]


def _docs() -> list[Path]:
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "model-messages.md"]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page that a reader carries out, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, title, body = match[1], match[2] or "", match[3]
        if not title and language != "console":
            continue
        kind: Kind = "console" if language == "console" else "change" if language == "diff" else "write"
        mark = MARK.search(text[: match.start()])
        found.append(
            Block(
                kind="append" if kind == "write" and title.endswith(APPEND) else kind,
                line=text[: match.start()].count("\n") + 1,
                file=title.removesuffix(APPEND),
                text=body,
                mark=(mark[1], mark[2]) if mark else ("", ""),
            )
        )
    return found


def examples_of(block: Block) -> list[Example]:
    """The commands of a console block. A line that ends with `\\` is continued."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"line {block.line}: a console block begins with `$ `"
    found = []
    for part in parts[1:]:
        command, _, output = part.replace("\\\n", "").partition("\n")
        found.append(Example(command=command, output=output))
    return found


def workspace_of(page: Path) -> str:
    """Where a page begins: `starter`, `committed` or `none`."""
    found = WORKSPACE.search(page.read_text(encoding="utf-8"))
    return found[1] if found else "starter"


def begin(page: Path, folder: Path) -> Path:
    """The folder in which a reader of this page begins."""
    folder.mkdir()
    start = workspace_of(page)
    if start != "none":
        write_starter(folder)
    if start == "committed":
        for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "Start")):
            subprocess.run(["git", *words], cwd=folder, env={"PATH": "/usr/bin:/bin", **GIT}, check=True)
    return folder


def pattern_of(shown: str) -> re.Pattern[str]:
    """What an output must match: the lines of a page, with `…` for what differs from run to run."""
    lines = [re.escape(line.rstrip()).replace("…", ".+") for line in shown.strip().splitlines()]
    return re.compile("\n".join("(?:.*\n)*?.*" if line == ".+" else line for line in lines))


class Reader:
    """Carries out the blocks of one page in `folder`."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder = folder
        self.command = command
        self._account: dict[str, str] = {}

    def follow(self, block: Block) -> None:
        path = self.folder / block.file
        if block.kind == "console":
            self._run(block)
        elif block.kind == "change":
            self._change(path, block)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.read_text(encoding="utf-8") if block.kind == "append" else ""
            path.write_text(before + block.text, encoding="utf-8")

    def _change(self, path: Path, block: Block) -> None:
        lines = block.text.splitlines()
        old = "\n".join(line[1:] for line in lines if line[0] != "+")
        new = "\n".join(line[1:] for line in lines if line[0] != "-")
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"line {block.line}: {block.file} does not have exactly once: {old}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def _run(self, block: Block) -> None:
        kind, account = block.mark
        self._account = {cli_server.ACCOUNT: account} if kind == "as" else {}
        for example in examples_of(block):
            self._check(block, example)

    def _check(self, block: Block, example: Example) -> None:
        command = example.command
        if "RUN" in command.split():
            command = re.sub(r"\bRUN\b", self._newest(), command)
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return
        done = self._done(command)
        text = f"{done.out}{done.err}".strip()
        where = f"line {block.line}: $ {command}\n{text}"
        if example.output.strip():
            assert pattern_of(example.output).fullmatch("\n".join(line.rstrip() for line in text.splitlines())), where
        else:
            assert done.code == 0, where

    def _done(self, command: str) -> CommandResult:
        """The result of a command line of bash. `remit` and Python files are started from a process that has imported Remit."""
        simple = SIMPLE.fullmatch(command)
        if simple is None:
            return self._shell(command)
        words, operator, then = shlex.split(simple[1], comments=True), simple[2], simple[3]
        if words[0] == "python":
            done = cli_server.script(self.folder, *words[1:])
        else:
            done = self.command(self.folder, *words[1:], env=self._account)
        if operator == "|":
            last = self._shell(then, done.out)
            return replace(last, err=done.err + last.err)
        if operator == ">":
            (self.folder / then.strip()).write_text(done.out)
            return replace(done, out="")
        return done

    def _shell(self, command: str, given: str = "") -> CommandResult:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        source = os.pathsep.join((str(ROOT / "agent"), os.environ.get("PYTHONPATH", "")))
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PATH": path, "PYTHONPATH": source, **PYTEST, **GIT},
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return CommandResult(code=done.returncode, out=done.stdout, err=done.stderr)

    def _newest(self) -> str:
        run: str = self.command(self.folder, "trace", "list", "--limit", "1", "--json").json[0]["run"]
        return run[:8]


# A command that needs no shell of its own, and what follows it: a pipe or a file for its output.
SIMPLE: Final = re.compile(r"((?:remit|python \w+\.py)\b[^|<>;&]*)(?:([|>])([^|<>;&]+))?")
# The pytest of a reader has the plug-in of Remit, and not the others that this environment has.
PYTEST: Final = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "remit.testing.plugin"}
GIT: Final = {
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "user.name",
    "GIT_CONFIG_VALUE_0": "Dana",
    "GIT_CONFIG_KEY_1": "user.email",
    "GIT_CONFIG_VALUE_1": "dana@example.com",
}
