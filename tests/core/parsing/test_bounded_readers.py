"""Every text from outside is read with bounds, and an error in it is a problem with its file and line."""

from __future__ import annotations

import ast
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from remit.core.errors import RunEnded, WorkspaceError
from remit.core.parsing import load_json, load_toml, load_yaml, parse_json, read_file, read_rows, read_text
from remit.journal import open_journal
from remit.sandbox.packages.requirements import declared_packages
from support import ROOT

TOML = {
    "lists inside each other": "x = 1\na=" + "[" * 5000,
    "closed lists inside each other": "x = 1\na=" + "[" * 500 + "]" * 500,
    "tables inside each other": "x = 1\na=" + "{a=" * 500,
    "a number of 5,000 digits": "a = 1\nx=" + "9" * 5000,
    "a hexadecimal number of 100,000 digits": "a = 1\nx=0x" + "f" * 100_000,
    "a key of 20,000 parts": "x = 1\n" + "a." * 20_000 + "b=1",
    "a header of 20,000 parts": "x = 1\n[" + "a." * 20_000 + "b]",
    "quoted parts of a key": "x = 1\n" + '"a".' * 20_000 + "b=1",
    "spaces between the parts of a key": "x = 1\n" + "a . " * 20_000 + "b=1",
    "a date that is none": "x = 1\na = 2001-99-99",
    "a text that never ends": 'x = 1\na = """' + '"' * 2 + "x" * 1000,
}
YAML = {
    "flow lists inside each other": "[" * 20_000,
    "closed flow lists": "- " + "[" * 900 + "]" * 900,
    "flow mappings inside each other": "- " + "{a: " * 900,
    "dashes in one line": "- " * 20_000 + "x",
    "questions in one line": "? " * 5_000 + "x",
    "indentation": "\n".join(" " * level + "-" for level in range(1200)),
    "a date that is none": "- 2001-99-99",
    "a number of 20,000 digits": "- " + "9" * 20_000,
    "base64 that is none": "- !!binary xx",
    "an unknown tag": "- !!python/object:os.system x",
    "an alias of nothing": "- *a",
    "a merge of no mapping": "- <<: 1\n  a: 2",
    "aliases of aliases": "- &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"- &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "an alias of itself": "- &a [*a]",
    "a null character": "- a\0b",
}


@pytest.mark.parametrize("text", list(TOML.values()), ids=list(TOML))
def test_a_hostile_toml_text_is_one_problem_with_its_line(text: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        load_toml(text, file="remit.toml")
    (problem,) = refused.value.problems
    assert (problem.file, problem.line) == ("remit.toml", 2)
    assert len(str(problem)) < 500


@pytest.mark.parametrize("text", list(YAML.values()), ids=list(YAML))
def test_a_hostile_yaml_text_is_a_problem(text: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        list(read_rows(text, file="policies/cases.yaml"))
    assert {problem.file for problem in refused.value.problems} == {"policies/cases.yaml"}


JSON = {
    "lists inside each other": "[" * 100_000,
    "a number of 20,000 digits": "9" * 20_000,
    "infinity": '{"a": Infinity}',
    "no number": "[NaN]",
    "half a character": '["\\ud800"]',
    "half a character in a name": '{"\\uDFFF": 1}',
    "nothing": "",
    "bytes that are not UTF-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("text", list(JSON.values()), ids=list(JSON))
def test_a_hostile_json_text_is_a_value_error_and_nothing_else(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the kind is the promise
        load_json(text)


def test_ordinary_texts_are_read_as_before() -> None:
    assert load_toml('a.b = [1, {c = "x.y.z"}]\n[d."e.f"]\ng = 1', file="f") == {
        "a": {"b": [1, {"c": "x.y.z"}]},
        "d": {"e.f": {"g": 1}},
    }
    assert load_toml('t = """' + "[" * 500 + "a." * 500 + '"""', file="f")["t"].startswith("[[")
    assert [row.value for row in read_rows("- &a {x: [[[1]]]}\n- *a\n", file="f")] == [{"x": [[[1]]]}] * 2
    assert load_json('{"a": "\\ud83d\\ude00", "b": 1e3}') == {"a": "\U0001f600", "b": 1000.0}
    assert parse_json("[1]") == [1]


@pytest.mark.parametrize(
    ("read", "small"),
    [
        (lambda n: load_toml("a." * 20 * n + "x", file="f"), 50),
        (lambda n: load_toml("".join(f"[t{i}.b.c]\n" for i in range(n)), file="f"), 2_000),
        (lambda n: load_yaml("- " * n + "x", file="f"), 2_000),
        (lambda n: load_yaml("[" * n, file="f"), 4_000),
        (lambda n: load_json("[" * n), 20_000),
    ],
    ids=["key parts", "headers", "dashes", "brackets", "json"],
)
def test_reading_takes_time_in_proportion_to_the_text(read: Callable[[int], object], small: int) -> None:
    def took(size: int) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            with suppress(WorkspaceError, ValueError):
                read(size)
            best = min(best, time.process_time() - began)
        return best

    assert took(small * 8) < 40 * max(took(small), 0.001)  # eight times the text; 64 times is what quadratic takes


def test_a_block_of_packages_without_an_end_is_read_once(tmp_path: Path) -> None:
    def took(count: int) -> float:
        (tmp_path / "main.py").write_text("# /// script\n# x\n" * count)
        began = time.process_time()
        assert declared_packages(tmp_path).dependencies == ()
        return time.process_time() - began

    assert took(16_000) < 40 * max(took(2_000), 0.001)


@pytest.mark.parametrize(
    ("block", "line"),
    [("a=" + "[" * 5000, 1), ("x=" + "9" * 5000, 1), ("a." * 20_000 + "b=1", 1), ("dependencies = 1", 1)],
    ids=["nesting", "digits", "key", "type"],
)
def test_a_hostile_block_of_packages_is_a_problem_of_main_py(tmp_path: Path, block: str, line: int) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "main.py").write_text(f"# /// script\n# {block}\n# ///\n")
    with pytest.raises(WorkspaceError) as refused:
        declared_packages(folder)
    assert [(item.file, item.line) for item in refused.value.problems] == [("tools/t/main.py", line)]


def test_a_missing_special_or_too_large_file_is_a_problem_and_nothing_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * ((4 << 20) + 1))
    (tmp_path / "bytes").write_bytes(b"a\n\xff")
    reported: dict[str, tuple[str, int | None]] = {}
    for name in ("pipe", "large", "bytes", "none", "."):
        with pytest.raises(WorkspaceError) as refused:
            read_text(tmp_path / name, file=name)
        reported[name] = (refused.value.problems[0].what, refused.value.problems[0].line)
    assert reported == {
        "pipe": ("it is not a regular file", None),
        "large": ("it is larger than 4 MiB", None),
        "bytes": ("the text is not UTF-8", 2),
        "none": ("it cannot be read: No such file or directory", None),
        ".": ("it cannot be read: Is a directory", None),
    }
    assert read_file(tmp_path / "bytes", file="bytes") == b"a\n\xff"


@pytest.mark.parametrize("value", ["'soon'", "1.5", "x'00'", "-1"])
def test_a_journal_row_of_another_type_is_an_error_without_a_traceback(tmp_path: Path, value: str) -> None:
    path = tmp_path / "journal.db"
    with open_journal(path) as journal:
        assert journal.events("r") == []
        database = sqlite3.connect(path)
        database.execute(
            "insert into event (run, seq, at, type, key, prev, hash, payload_digest) "
            f"values ('r', 0, {value}, 'a', 'a', '', 'h', 'd')"
        )
        database.commit()
        database.close()
        with pytest.raises(RunEnded, match="whose at has the wrong type"):
            journal.chain("r")


# -- nothing reads past it ---------------------------------------------------------------------------------------------

READERS = {
    *("tomllib.loads", "tomllib.load", "json.loads", "json.load", "csv.reader", "csv.DictReader", "YAML", "yaml.load"),
}
# What may read by itself, and why.
ALLOWED = {
    "remit/sandbox/guest/": "runs inside the sandbox and imports nothing of Remit",
    "remit/sandbox/selfcheck/breakout/": "runs inside the sandbox",
    "remit/cli/local/": "packets of bounded size; whatever they raise refuses them",
    "remit/cli/hook/installing.py": "files of the package",
    "remit/cli/hook/checking.py": "settings of bounded size, which `remit hook status` has read a moment before",
    "remit/cli/hook/stub_model.py": "a model of this machine, which `remit doctor --hooks` plays to a coding agent",
    "remit/server/pages/assets.py": "files of the package",
    "remit/server/hooks/naming.py": "arguments that the same module has written",
    "remit/cli/demo/": "files that `remit demo` has just written",
    "remit/core/parsing/": "the reader itself, and texts that it wrote",
    "remit/sandbox/cgroups.py": "files of the kernel",
    "remit/sandbox/selfcheck/container.py": "files of the kernel",
    "remit/sandbox/one_shot.py": "a line of process 1, to which no tool has a way; of bounded length",
    "remit/sandbox/live/served.py": "a frame of process 1, to which no tool has a way; of bounded length",
    "remit/sandbox/remote/http_lines.py": "a message that Remit sends",
    "remit/sandbox/live/started.py": "a line of process 1, to which no tool has a way; of bounded length",
    "remit/sandbox/warm/zygote_handle.py": "one line of bounded length; whatever it raises ends the sandbox",
    "remit/sandbox/packages/environment.py": "bytes that are only compared or hashed, and the lock that locked_versions reads",
    "remit/sandbox/packages/node.py": "a lock that npm has just written, which is compared; it is read by locked_node_versions",
    "remit/tools/mcp/starting.py": "a lock that uv or npm has just written, which is copied",
    "remit/runtime/upkeep/folders.py": "files of a working folder, which are only stored and hashed",
    "remit/storage/": "bytes of bounded size, which the caller compares with their digest or verifies as a chain",
    "remit/tracing/object_store.py": "bytes that are compared with their digest",
    "remit/tracing/reports/html/": "files of the package",
    "remit/evals/worlds.py": "files of a seed, which are only hashed",
    "remit/evals/reports/html.py": "a file of the package",
    "remit/tracing/reports/run_diff.py": "texts that canonical_json wrote a moment before",
    "remit/tracing/reports/reconciliation.py": "looks only whether a damaged file has a whole line",
    "remit/journal/lease.py": "files of the kernel",
    "remit/journal/storage/sealed.py": "a part of bounded length that the journal wrote; ValueError becomes RunEnded",
    "remit/guardrails/redaction.py": "a text that was read before; ValueError and RecursionError make it plain text",
    "remit/runtime/models/langchain.py": "arguments of a call, which sent_messages has read a moment before",
    "remit/runtime/models/wire/event_stream.py": "an answer of bounded size, whose repeated members must be kept; ValueError ends the turn",
    "remit/tools/making/templates/": "tools, which run inside the sandbox and import nothing of Remit",
    "remit/tools/cases.py": "what a case's tool wrote, compared with the text that the case expects",
}


def calls(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in READERS or (name.rpartition(".")[2] in ("read_text", "read_bytes") and "." in name):
                found.add(name)
    return found


def test_no_other_code_reads_a_text_from_outside() -> None:
    reading = {
        file.relative_to(ROOT / "agent").as_posix(): found
        for file in sorted((ROOT / "agent" / "remit").rglob("*.py"))
        if (found := calls(file))
    }
    assert {name: found for name, found in reading.items() if not name.startswith(tuple(ALLOWED))} == {}
    unused = [allowed for allowed in ALLOWED if not any(name.startswith(allowed) for name in reading)]
    assert [one for one in unused if not one.endswith("/")] == []


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("name = words", 'texts stand in quotes: write name = "words"'),
        ("name: words", 'write name = "words": a key and its value are separated by ='),
        ("a = True", "write a = true"),
        ("a = “x”", 'write a = "…", with straight quotes'),
        ("b = 1\nb = 2", "write each key once, and each table once"),
        ("a = [1, 2", "correct this line; see toml.io"),
        ("a = " + "x" * 100_000, "correct this line; see toml.io"),
    ],
)
def test_a_line_that_is_no_toml_gets_the_line_that_was_meant(line: str, fix: str) -> None:
    with pytest.raises(WorkspaceError) as refused:
        load_toml(f"x = 1\n{line}\n", file="remit.toml")
    (problem,) = refused.value.problems
    assert problem.fix == fix
