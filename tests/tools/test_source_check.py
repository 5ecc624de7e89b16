"""What a tool's author gets wrong in main.py is found before anything runs: the code is read, and never executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.tools.source_check import check_source
from remit.workspace.loader import load_workspace
from support import ROOT
from support.runs import Remit

MANIFEST = """
name = "words"
version = "1.0.0"
owner = "tests@example.com"
summary = "Counts words"
source = "python"

[always]
env = ["TZ"]
programs = ["git"]

[at_most]
read = ["notes/**"]

[actions.count]
summary = "Count the words of one file"
touches = ["read file:{path}"]
effect = "read"
errors = ["not_text"]
"""
GOOD = '''"""Counts words."""
import os
import subprocess
from pathlib import Path

class NotText(Exception):
    """It is no text."""

def count(path: str, *, limit: int = 5) -> int:
    """Count the words of the file."""
    subprocess.run(["git", "status"])
    os.environ["TZ"]
    try:
        return len(Path(path).read_text().split())
    except UnicodeDecodeError as error:
        raise NotText(path) from error
'''


def found(tmp_path: Path, code: str, manifest: str = MANIFEST) -> list[tuple[str, int | None, str, str]]:
    folder = tmp_path / "tools/words"
    folder.mkdir(parents=True)
    (tmp_path / "remit.toml").write_text("")
    (folder / "tool.toml").write_text(manifest)
    (folder / "main.py").write_text(code)
    return [(item.level, item.line, item.what, item.fix) for item in check_source(load_workspace(tmp_path), "words")]


def test_code_that_does_what_its_manifest_says_has_no_finding(tmp_path: Path) -> None:
    assert found(tmp_path, GOOD) == []


MISTAKES = {
    "a package that the tool does not have": (GOOD.replace("import os\n", "import os, pandas_not_here\n"), "error", 2, "no package of this tool has the module 'pandas_not_here'", "add it to dependencies in main.py (PEP 723), then run `remit tool env words`"),
    "remit itself": (GOOD.replace("import os\n", "import os\nfrom remit.core import Call\n"), "error", 3, "a tool never imports remit", "remove the import"),
    "arguments of any name": (GOOD.replace("*, limit: int = 5", "**others: int"), "error", 9, "parameter 'others' of count gets its value under any name", "write a plain parameter with a type"),
    "arguments in a list": (GOOD.replace("*, limit: int = 5", "*others: int"), "error", 9, "parameter 'others' of count gets its value in a list", "write a plain parameter with a type"),
    "arguments by their place": (GOOD.replace("*, limit", "/, limit"), "error", 9, "parameter 'path' of count gets its value only by its place", "write a plain parameter with a type"),
    "a parameter without a type": (GOOD.replace("limit: int = 5", "limit=5"), "error", 9, "parameter 'limit' of count has no type", "write its type, as in limit: str"),
    "a result without a type": (GOOD.replace(" -> int:", ":"), "error", 9, "the result of count has no type", "write it, as in -> str"),
    "a generator": (GOOD.replace("        return len", "        yield len").replace("-> int", "-> int"), "error", 9, "count is a generator, and a result is one value", "return a list"),
    "an iterator as result": (GOOD.replace("-> int", "-> 'list[int]'").replace("-> 'list[int]'", "-> Iterator[str]"), "error", 9, "count returns an iterator", "write list[…] as its type"),
    "bytes as a part of a result": (GOOD.replace("-> int", "-> list[bytes]"), "warning", 9, "count returns bytes inside of another value", "return bytes alone, a text, or blocks"),
    "no docstring": (GOOD.replace('    """Count the words of the file."""\n', ""), "note", 9, "count has no docstring", "write one"),
    "no function for an action": (GOOD.replace("def count(", "def cuont("), "error", None, "action 'count' has no function of that name", "did you mean cuont?"),
    "a function that is no action": (GOOD + "\ndef helper(a: str) -> str:\n    return a\n", "note", 18, "function 'helper' is no action of the manifest", "write [actions.helper], or name it _helper"),
    "a declared error without a class": (GOOD.replace("NotText", "NoText"), "error", None, "error 'not_text' of count has no exception class NotText", "did you mean NoText?"),
    "an exception that is not declared": (GOOD.replace("raise NotText(path)", "raise Busy(path)") + "\nclass Busy(Exception):\n    pass\n", "note", 16, "Busy is raised, and no action declares it: the call would end as tool_crashed", 'add "busy" to errors of the actions that raise it'),
    "a variable": (GOOD.replace('os.environ["TZ"]', 'os.environ["API_KEY"]'), "warning", 12, "it reads the variable API_KEY, which the manifest does not grant", 'add "API_KEY" to env in [always]'),
    "a variable that may be missing": (GOOD.replace('os.environ["TZ"]', 'os.getenv("API_KEY")'), "note", 12, "it reads the variable API_KEY", 'add "API_KEY" to env in [always]'),
    "a program": (GOOD.replace('["git", ', '["rg", '), "warning", 11, "it starts 'rg', which the manifest does not grant", 'add "rg" to programs in [always]'),
    "a text that is no Python": (GOOD + "def (:\n", "error", 17, "it is no Python: invalid syntax", "fix the code"),
}  # fmt: skip


@pytest.mark.parametrize(("code", "level", "line", "what", "fix"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_a_mistake_in_the_code_is_found_with_its_line_and_what_to_write(
    tmp_path: Path, code: str, level: str, line: int | None, what: str, fix: str
) -> None:
    findings = found(tmp_path, code)
    assert any((one[0], one[1]) == (level, line) and what in one[2] and fix in one[3] for one in findings), findings


RIGHT = {
    "a module that the code can do without": GOOD.replace("import os\n", "import os\ntry:\n    import ujson_not_here\nexcept ImportError:\n    ujson_not_here = None\n"),
    "a module beside main.py": GOOD.replace("import os\n", "import os\nimport beside\n"),
    "a package of Remit itself": GOOD.replace("import os\n", "import os\nimport pydantic\n"),
    "an exception that the code catches": GOOD + "\nclass _Stop(Exception):\n    pass\n\ndef _f() -> None:\n    try:\n        raise _Stop\n    except _Stop:\n        pass\n",
    "an exception below a declared one": GOOD + "\nclass Empty(NotText):\n    pass\n\ndef _f() -> None:\n    raise Empty('a')\n",
    "a generator inside of a function": GOOD.replace("    os.environ", "    def each():\n        yield 1\n    os.environ"),
    "a function that is imported": GOOD.replace("def count(", "from beside import count\n\n\ndef _other("),
}  # fmt: skip


@pytest.mark.parametrize("code", list(RIGHT.values()), ids=list(RIGHT))
def test_what_works_has_no_finding(tmp_path: Path, code: str) -> None:
    (tmp_path / "tools/words").mkdir(parents=True)
    (tmp_path / "tools/words/beside.py").write_text("def count(path: str) -> int: ...\n")
    folder = tmp_path / "tools/words"
    (tmp_path / "remit.toml").write_text("")
    (folder / "tool.toml").write_text(MANIFEST)
    (folder / "main.py").write_text(code)
    assert check_source(load_workspace(tmp_path), "words") == ()


@pytest.mark.parametrize(
    "code",
    [
        "(" * 50_000,
        "x = " + "-" * 100_000 + "1",
        "a" * 2_000_000,
        "if x:\n" + " if x:\n" * 200,
        "\0",
        "f(" * 90 + ")" * 90,
    ],
)
def test_hostile_code_is_read_within_bounds(tmp_path: Path, code: str) -> None:
    assert all(item[0] in ("error", "note") for item in found(tmp_path, code))


def test_the_tools_of_the_starter_do_what_their_manifests_say() -> None:
    workspace = load_workspace(ROOT)
    levels = {item.level for name in workspace.tools for item in check_source(workspace, name)}
    assert levels <= {"note"}


def test_a_tool_that_cannot_be_loaded_or_crashes_says_what_its_author_has_to_write(remit: Remit, session: Path) -> None:
    folder = session / "tools/words"
    folder.mkdir()
    (folder / "tool.toml").write_text(MANIFEST)
    (folder / "main.py").write_text(GOOD.replace("import os\n", "import os, pandas_not_here\n"))
    tried = remit("tool", "try", "words.count", "path=notes/a.txt")
    assert (
        tried.code,
        "add it to dependencies in main.py (PEP 723), then run `remit tool env words`" in tried.err,
    ) == (2, True)
    (folder / "main.py").write_text(
        GOOD.replace('os.environ["TZ"]', 'os.environ["API_KEY"]').replace('subprocess.run(["git", "status"])', "pass")
    )
    (session / "notes").mkdir()
    (session / "notes/a.txt").write_text("a b c")
    crashed = remit("tool", "try", "words.count", "path=notes/a.txt", "--folder", str(session))
    assert (crashed.code, 'add "API_KEY" to env in [always]' in crashed.err) == (1, True), crashed.err
