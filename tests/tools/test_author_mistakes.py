"""Mistakes as the author of a tool makes them: `remit check` finds each before anything runs, with its place and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from remit.analysis.check import check_workspace
from remit.core import Finding
from remit.workspace.manifest.pins import LOCK
from remit.workspace.template import write_starter
from support import ROOT
from support.runs import Remit

MANIFEST = """name = "words"
version = "1.0.0"
owner = "tests@example.com"
summary = "Counts words"
source = "python"

[at_most]
read = ["notes/**"]

[actions.count]
summary = "Count the words of one file"
touches = ["read file:{path}"]
effect = "read"
errors = ["not_text"]
"""
CODE = '''import os
from pathlib import Path

class NotText(Exception):
    """No text."""

def count(path: str, limit: int = 5) -> int:
    """Count the words."""
    if limit > 9:
        raise NotText("x")
    return len(Path(path).read_text().split())
'''
CASES = """- note: counts
  action: words.count
  arguments: {path: notes/a.txt}
  setup: {files: {notes/a.txt: a b}}
  expect: {value: 2}
"""
COMMAND = MANIFEST.replace('"python"', '"command"').replace("[at_most]", '[always]\nprograms = ["wc"]\n\n[at_most]').replace('errors = ["not_text"]', 'run = ["wc", "-w", "--", "{path}"]')  # fmt: skip
SERVICE = MANIFEST.replace("[at_most]", '[always]\nhosts = ["api.example.com:443"]\nsecrets = [{ name = "tok", host = "api.example.com:443", header = "Authorization", value = "Bearer {tok}" }]\n\n[at_most]')  # fmt: skip
LAST = "    return len(Path(path).read_text().split())\n"
MAIN, TOML, TABLE = "tools/words/main.py", "tools/words/tool.toml", "tools/words/cases.yaml"


def body(lines: str) -> dict[str, str | None]:
    """The files of a tool whose function ends with these lines."""
    return {"main.py": CODE.replace(LAST, "".join(f"    {line}\n" for line in lines.splitlines()))}


def code(old: str, new: str) -> dict[str, str | None]:
    assert old in CODE
    return {"main.py": CODE.replace(old, new)}


def manifest(old: str, new: str, text: str = MANIFEST) -> dict[str, str | None]:
    assert old in text
    return {"tool.toml": text.replace(old, new), **({"main.py": None} if text == COMMAND else {})}


# The files that differ, the level and place of the finding, and texts of what it says and what to write.
MISTAKES: dict[str, tuple[dict[str, str | None], str, str, str, str]] = {
    # what the manifest says
    "a name without quotes": (manifest('"words"', "words"), "error", f"{TOML}:1", "invalid value", 'texts stand in quotes: write name = "words"'),
    "an argument inside of an argument": (manifest("{path}", "{spec.path}"), "error", f"{TOML}:12", "names a member of an argument by a dot", "give the action an argument of its own for 'path'"),
    "an argument without braces": (manifest("{path}", "path"), "error", f"{TOML}:12", "'path' is not in 'at_most.read'", "write file:{path} if it is an argument"),
    "an argument that no function has": (manifest("{path}", "{pth}"), "error", f"{MAIN}:7", "no such parameter", "did you mean path?"),
    "a key that is near another": (manifest("touches =", "touchs ="), "error", f"{TOML}:12", "unknown key 'actions.count.touchs'", "touches"),
    "an effect that does not exist": (manifest('effect = "read"', 'effect = "reads"'), "error", f"{TOML}:13", "effect", "read"),
    "a file from the root of the machine": (manifest("notes/**", "/notes/**"), "error", f"{TOML}:8", "is not a pattern of files", "relative to the working folder"),
    "a file with a dot": (manifest("notes/**", "./notes/**"), "error", f"{TOML}:8", "is not a pattern of files", 'write it as "docs/**"'),
    "a time without a unit": (manifest("errors =", "limits.wall = 2\nerrors ="), "error", f"{TOML}:14", "unknown key", "remove"),
    "a host with https": (manifest("[at_most]", '[always]\nhosts = ["https://api.example.com"]\n\n[at_most]'), "error", f"{TOML}:8", "https://api.example.com", "api.example.com:443"),
    "a grant that no action uses": (manifest("[actions", 'write = ["notes/**"]\n\n[actions'), "note", f"{TOML}:10", "no action uses 'at_most.write'", "remove it"),
    "a program that is not installed": (manifest("[at_most]", '[always]\nprograms = ["gitt-not-here"]\n\n[at_most]'), "warning", f"{TOML}:8", "'gitt-not-here' is not installed here", "install it, or correct its name"),
    "a program with its options": (manifest('["wc"]', '["wc -w"]', COMMAND), "error", f"{TOML}:8", "'wc -w', which is not a program", "write its name"),
    "a program that is not declared": (manifest('["wc"]', "[]", COMMAND), "error", f"{TOML}:17", "'wc' is not in 'always.programs'", 'write programs = ["wc"] in [always]'),
    "a secret without a value": ({"tool.toml": SERVICE}, "note", f"{TOML}:9", "the secret 'tok' has no value here", "run `remit secret set tok`"),
    "an authority that is missing": (manifest("secrets =", 'ca = { "api.example.com:443" = "ca.pem" }\nsecrets =', SERVICE), "error", "tools/words/ca.pem", "cannot be read", "write the file"),
    # what the code does
    "no main.py": ({"main.py": None}, "error", MAIN, "tool 'words' has no main.py", "write def count(…)"),
    "a package that is missing": (code("import os\n", "import pandas_not_here\n"), "error", f"{MAIN}:1", "no package of this tool has the module", "add it to dependencies in main.py (PEP 723), then run `remit tool env words`"),
    "packages that are not locked": ({"main.py": '# /// script\n# dependencies = ["pandas"]\n# ///\n' + CODE}, "error", f"{MAIN}:1", "not locked", "run `remit tool env words`"),
    "an import of remit": (code("import os\n", "import remit\n"), "error", f"{MAIN}:1", "a tool never imports remit", "remove the import"),
    "a relative import": (code("import os\n", "from .beside import x\n"), "error", f"{MAIN}:1", "a relative import", "write from beside import …"),
    "arguments under any name": (code("limit: int = 5", "**limit: int"), "error", f"{MAIN}:7", "under any name", "write a plain parameter with a type"),
    "arguments by their place": (code("path: str, limit", "path: str, /, limit"), "error", f"{MAIN}:7", "only by its place", "write a plain parameter with a type"),
    "a default None": (code("limit: int = 5", "limit: int = None"), "error", f"{MAIN}:7", "not of its type int", "write limit: int | None"),
    "a default of another type": (code("limit: int = 5", 'limit: int = "5"'), "error", f"{MAIN}:7", "not of its type int", "write a default of the type int"),
    "a generator": (code("    return len", "    yield len"), "error", f"{MAIN}:7", "is a generator", "return a list"),
    "a function without a result": (body("print(path)"), "warning", f"{MAIN}:7", "count never returns a value", "what it prints is not part of it"),
    "a result of any type": (code("-> int", "-> object"), "note", f"{MAIN}:7", "which checks nothing", "write the type"),
    "a docstring is missing": (code('    """Count the words."""\n', ""), "note", f"{MAIN}:7", "has no docstring", "write one"),
    "the same name twice": ({"main.py": CODE + "\ndef count(path: str) -> int:\n    return 1\n"}, "warning", f"{MAIN}:7", "is defined again in line 13", "remove one of them"),
    "an exception that is not declared": (code("NotText", "Busy"), "error", MAIN, "no exception class NotText", "Write class NotText(Exception)"),
    "an exception of one's own": ({"main.py": CODE.replace('raise NotText("x")', 'raise Busy("x")') + "\nclass Busy(Exception):\n    pass\n"}, "note", f"{MAIN}:10", "Busy is raised", 'add "busy" to errors of the actions that raise it'),
    "an exception of Python": (code("raise NotText", "raise ValueError"), "note", f"{MAIN}:10", "ValueError is raised", 'errors = { a_name = "ValueError" }'),
    "a variable that is not granted": (body('os.environ["API_KEY"]\nreturn 1'), "warning", f"{MAIN}:11", "reads the variable API_KEY", 'add "API_KEY" to env in [always]'),
    "a secret that the tool reads": ({**body('os.environ["TOK"]\nreturn 1'), "tool.toml": SERVICE}, "warning", f"{MAIN}:11", "never reaches the tool", "the proxy adds the secret"),
    "a secret over plain HTTP": ({**body('print("http://api.example.com/x")\nreturn 1'), "tool.toml": SERVICE}, "warning", f"{MAIN}:11", "sent only under TLS", "write https://"),
    "a host that is not granted": (body('print("https://api.example.com/x")\nreturn 1'), "note", f"{MAIN}:11", "api.example.com:443, which no line of hosts covers", 'hosts = ["api.example.com:443"]'),
    "a program of a shell": (body('os.system("git log")\nreturn 1'), "warning", f"{MAIN}:11", "it starts a shell", 'write subprocess.run(["program", …])'),
    "a program that is not granted": (body('import subprocess\nsubprocess.run(["git", "log"])\nreturn 1'), "warning", f"{MAIN}:12", "it starts 'git'", 'add "git" to programs in [always]'),
    "a file that may only be read": (body('open(path, "w").write("x")\nreturn 1'), "warning", f"{MAIN}:11", "its touches only read it", 'write "write file:{path}" in touches'),
    "a file that may only be read, by Path": (body('Path(path).write_text("x")\nreturn 1'), "warning", f"{MAIN}:11", "its touches only read it", "the effect of the action"),
    "a file of the tool itself": ({**body('return len(open("data.json").read())'), "data.json": "{}"}, "warning", f"{MAIN}:11", "the tool's own file is beside main.py", "Path(__file__).with_name('data.json')"),
    "a file of the account": (body('return len(open("/home/ann/x").read())'), "warning", f"{MAIN}:11", "sees its working folder", "take it as a parameter"),
    "a question to nobody": (body('input("?")\nreturn 1'), "warning", f"{MAIN}:11", "has nobody to ask", "as a parameter"),
    "an end of the process": (body("import sys\nsys.exit(1)"), "warning", f"{MAIN}:12", "ends the process", "raise an exception"),
    "a wait that is too long": (body("import time\ntime.sleep(60)\nreturn 1"), "warning", f"{MAIN}:12", "it waits 60 s, and a call has 5 s", "wall in [limits]"),
    "no Python": ({"main.py": CODE + "def (:\n"}, "error", f"{MAIN}:12", "it is no Python", "fix the code"),
    # what the cases say
    "a case of a misspelled action": ({"cases.yaml": CASES.replace("words.count", "words.cuont")}, "error", f"{TABLE}:1", "'words.cuont'", "did you mean words.count?"),
    "a case without the tool's name": ({"cases.yaml": CASES.replace("words.count", "count")}, "error", f"{TABLE}:2", "not an action of 'words'", "write words.count"),
    "a case of an error that does not exist": ({"cases.yaml": CASES.replace("value: 2", "error: not_txt")}, "error", f"{TABLE}:1", "is no code, and no declared error", "did you mean not_text?"),
    "a case with a misspelled key": ({"cases.yaml": CASES.replace("setup: {files", "setup: {file")}, "error", f"{TABLE}:4", "setup.file", "did you mean files?"),
}  # fmt: skip


def found(folder: Path, files: dict[str, str | None]) -> list[Finding]:
    """What `remit check` finds in a workspace with this one tool."""
    tool = folder / "tools/words"
    tool.mkdir(parents=True)
    (folder / "remit.toml").write_text("")
    (folder / "policies").mkdir()
    (folder / "policies/rules.csv").write_text("")
    (folder / "policies/model.conf").write_bytes((ROOT / "policies/model.conf").read_bytes())
    for name, text in {"tool.toml": MANIFEST, "main.py": CODE, "cases.yaml": CASES, **files}.items():
        if text is not None:
            (tool / name).write_text(text)
    findings = check_workspace(folder).findings
    places = {item.file for item in findings if item.level == "error"}
    assert all(place.startswith("tools/") or place in (LOCK, "policies/cases.yaml") for place in places), findings
    return [item for item in findings if item.file.startswith("tools/")]


@pytest.mark.parametrize(("files", "level", "place", "what", "fix"), list(MISTAKES.values()), ids=list(MISTAKES))
def test_a_mistake_is_found_before_anything_runs(
    tmp_path: Path, files: dict[str, str | None], level: str, place: str, what: str, fix: str
) -> None:
    findings = found(tmp_path, files)
    assert any((one.level, one.place) == (level, place) and what in one.what and fix in one.fix for one in findings), (
        findings
    )


RIGHT: dict[str, dict[str, str | None]] = {
    "the tool without a mistake": {},
    "a file that is written as its touches say": {**body('open(path, "w").write("x")\nreturn 1'), "tool.toml": MANIFEST.replace('["read file:{path}"]', '["write file:{path}"]').replace("read =", "write =").replace('effect = "read"', 'effect = "idempotent"')},
    "a function that only raises": {"main.py": CODE.replace(LAST, '    raise NotText("x")\n')},
    "a result that may be missing": {"main.py": CODE.replace("-> int", "-> int | None").replace(LAST, "    print(path)\n")},
    "a short wait": body("import time\ntime.sleep(0.1)\nreturn 1"),
    "an exception that the code catches": body("try:\n    raise ValueError\nexcept ValueError:\n    return 1"),
    "a URL of a host that is granted": {**body('print("https://api.example.com/x")\nreturn 1'), "tool.toml": MANIFEST.replace("[at_most]", '[always]\nhosts = ["api.example.com:443"]\n\n[at_most]')},
    "a URL in a docstring": code("Count the words.", "https://example.com/docs"),
    "a whole number as the default of a number": code("limit: int = 5", "limit: float = 5"),
    "a command tool": {"tool.toml": COMMAND, "main.py": None},
}  # fmt: skip


@pytest.mark.parametrize("files", list(RIGHT.values()), ids=list(RIGHT))
def test_what_works_is_not_a_finding(tmp_path: Path, files: dict[str, str | None]) -> None:
    assert found(tmp_path, files) == []


def test_the_starter_has_no_finding_that_a_check_fails_on(tmp_path: Path) -> None:
    write_starter(tmp_path / "ws")
    assert {item.level for item in check_workspace(tmp_path / "ws").findings} <= {"note"}


# What only a run can show: the code of the call, and where its author has to look.
TRIED: dict[str, tuple[dict[str, str | None], tuple[str, ...]]] = {
    "an error that the action declares": (body('raise NotText("no words")'), ("not_text: no words", f"raised in {MAIN}:11")),
    "a result of another type": (code("return len(Path(path).read_text().split())", 'return "three"'), ("invalid_output", "expected integer, got string", f"returned by {MAIN}:7")),
    "a result with a part of another type": ({"main.py": CODE.replace("-> int", "-> dict[str, int]").replace(LAST, '    return {"a": "three"}\n')}, ("invalid_output", "expected integer, got string")),
    "another exception": (body("return 1 // 0"), (f'{Path(MAIN).name}", line 11', "tool_crashed: ZeroDivisionError")),
    "a variable": (body('return len(os.environ["API_KEY"])'), ("tool_crashed: KeyError", 'add "API_KEY" to env in [always]')),
    "a module that is missing": (code("import os\n", "import pandas_not_here\n"), ("add it to dependencies in main.py (PEP 723), then run `remit tool env words`",)),
    "no number": (code("return len(Path(path).read_text().split())", 'return float("nan")'), ("invalid_output", "the result is not JSON")),
    "a result of 10 MB": (code("-> int", "-> str") | {"main.py": CODE.replace("-> int", "-> str").replace(LAST, '    return "x" * 10_000_000\n')}, ("resource_exhausted",)),
}  # fmt: skip


@pytest.mark.parametrize(("files", "shown"), list(TRIED.values()), ids=list(TRIED))
def test_a_call_that_fails_says_where_its_author_has_to_look(
    remit: Remit, session: Path, files: dict[str, str | None], shown: tuple[str, ...]
) -> None:
    tried = played(remit, session, files)
    assert tried[0] != 0
    assert all(text in tried[1] for text in shown), tried[1]


def test_a_set_a_data_class_and_a_long_line_of_output_are_no_failure(remit: Remit, session: Path) -> None:
    made = CODE.replace("-> int", "-> set[str]").replace(LAST, '    print("y" * 60_000)\n    return {"a"}\n')
    code, output = played(remit, session, {"main.py": made})
    assert (code, '"a"' in output, "… (cut)" in output) == (0, True, True), output[:500]
    assert len(output) < 3000


def test_an_argument_that_the_action_does_not_have_is_answered_with_those_that_it_has(
    remit: Remit, session: Path
) -> None:
    code, output = played(remit, session, {}, "path=notes/a.txt", "limt=3")
    assert (code, "known arguments: limit, path" in output) == (1, True), output


def played(remit: Remit, session: Path, files: dict[str, str | None], *pairs: str) -> tuple[int, str]:
    """Try the action with these files: the exit code, and all that is printed."""
    (session / "notes").mkdir()
    (session / "notes/a.txt").write_text("a b c")
    folder = session / "tools/words"
    folder.mkdir()
    for name, text in {"tool.toml": MANIFEST, "main.py": CODE, **files}.items():
        (folder / name).write_text(text or "")
    done = remit("tool", "try", "words.count", *(pairs or ("path=notes/a.txt",)), "--folder", str(session))
    return done.code, done.out + done.err
