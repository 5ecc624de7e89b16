"""Texts of a record never control the terminal and never become a formula in a spreadsheet."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from remit.cli import main
from remit.core.parsing import visible, visible_json
from remit.tracing.reports.audit import AuditRow as AuditRow
from remit.tracing.reports.audit import cell_text, decision_as_csv, decision_as_json
from support import ROOT

HOSTILE = "a\x1b]0;title\x07b\x1b[2J\x1b[32m\x9b31m\x8d\u202edcba\u2066\u200b\u2028\x7f\x00\U000e0041é漢"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
GOLDEN = sorted((ROOT / "traces" / "golden").rglob("*.jsonl"))[:1]


def test_a_hidden_character_is_written_as_its_number_and_all_others_stay() -> None:
    assert visible("\x1b[2J\x9b\u202e\x7f") == "\\u{1b}[2J\\u{9b}\\u{202e}\\u{7f}"
    assert visible("é漢 →\n\tok") == "é漢 →\n\tok"


def test_json_readers_find_the_same_value() -> None:
    written = visible_json(json.dumps({HOSTILE: [HOSTILE]}, ensure_ascii=False))
    assert RAW.search(written) is None
    assert json.loads(written) == {HOSTILE: [HOSTILE]}
    assert "é漢" in written


# -- a trace file of another machine ----------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every text of a JSON value."""
    if isinstance(value, dict):
        return [place for key, item in value.items() for place in places(item, (*path, key))]
    if isinstance(value, list):
        return [place for at, item in enumerate(value) for place in places(item, (*path, at))]
    return [path] if isinstance(value, str) else []


def changed(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    copy = value.copy()
    copy[path[0]] = changed(copy[path[0]], path[1:], text)
    return copy


def hostile_files(path: Path) -> list[tuple[str, list[Any]]]:
    """The trace with the hostile text in each text field of its spans and of their events."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found: list[tuple[str, list[Any]]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines):
        for place in places(line):
            old = line
            for part in place:
                old = old[part]
            name = re.sub(r"\d+", "#", "/".join(map(str, place)))
            body = old if old.startswith("{") else None
            if body is None:
                if name not in seen:
                    seen.add(name)
                    found.append((name, [*lines[:number], changed(line, place, HOSTILE), *lines[number + 1 :]]))
                continue
            try:
                event = json.loads(body)
            except ValueError:
                continue
            for inner in places(event):
                key = f"{event.get('type')}:{re.sub(r'[0-9]+', '#', '/'.join(map(str, inner)))}"
                if key in seen:
                    continue
                seen.add(key)
                written = json.dumps(changed(event, inner, HOSTILE), ensure_ascii=False)
                found.append((key, [*lines[:number], changed(line, place, written), *lines[number + 1 :]]))
    return found


@pytest.mark.parametrize("trace", GOLDEN, ids=lambda path: path.stem)
def test_a_hostile_trace_file_prints_no_raw_control_from_any_field(
    trace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = hostile_files(trace)
    assert len(files) > 60
    reached = 0
    for name, lines in files:
        path = tmp_path / "sent.jsonl"
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        for command in (("show",), ("verify",), ("show", "--json")):
            with suppress(SystemExit):
                main(["trace", command[0], str(path), *command[1:]])
            output = capfd.readouterr()
            written = output.out + output.err
            assert RAW.search(written) is None, (name, command, written[:300])
            assert "internal error" not in written, (name, command, written[:300])
            reached += "\\u{1b}" in written or "\\u001b" in written
    assert reached > 20  # the text does reach the terminal, and is written out there


# -- cells -------------------------------------------------------------------------------------------------------------


def audit_row(text: str) -> AuditRow:
    named: dict[str, Any] = dict.fromkeys(AuditRow.__annotations__, text)
    return AuditRow(
        **{**named, "step": 0, "index": 0, "round": 0, "resources": (text,), "rules": (text,), "approvals": (text,)}
    )


FORMULAS = ("=1+1", "+1", "-1", "@SUM(1)", "=cmd|'/C calc'!A0", "\t=1", "\r=1", "\n=1", "＝1+1", " =1", "'=1", "''=1")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ":"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_NONE], ids=["quotes", "no quotes"])
def test_no_cell_is_a_formula_with_any_separator(separator: str, quoting: Any) -> None:
    for formula in FORMULAS:
        for text in (
            formula,
            f"x{separator}{formula}{separator}",
            f'"{separator}{formula}',
            f"x\n{formula}",
            f"{separator} {formula}",
        ):
            record = io.StringIO(decision_as_csv(audit_row(text)), newline="")
            for cell in (cell for row in csv.reader(record, delimiter=separator, quoting=quoting) for cell in row):
                assert not cell.lstrip(' "').startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d")), (text, cell)


@pytest.mark.parametrize("text", [*FORMULAS, "x;=1", "a, b", 'say "hi"', "it's", "a\nb", "1-2", "'quoted'", "-", ""])
def test_a_reader_of_the_export_gets_each_text_back(text: str) -> None:
    (row,) = csv.reader(io.StringIO(decision_as_csv(audit_row(text)), newline=""))
    cells = dict(zip(AuditRow.__annotations__, row, strict=True))
    if not {"\r", "\t"} & set(text):  # written out by its number, as every hidden character
        assert cell_text(cells["message"]) == text
    assert json.loads(cell_text(cells["resources"])) == [text]


def test_the_export_contains_no_hidden_character() -> None:
    assert RAW.search(decision_as_csv(audit_row(HOSTILE))) is None
    assert RAW.search(decision_as_json(audit_row(HOSTILE))) is None


# -- nothing writes past it --------------------------------------------------------------------------------------------

WRITERS = ("click.echo", "click.secho", "click.style", "print", "sys.stdout.write", "sys.stderr.write", "json.dumps")


def test_commands_write_only_through_the_output_module() -> None:
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "agent" / "remit").rglob("*.py")):
        name = file.relative_to(ROOT / "agent" / "remit").as_posix()
        if name == "cli/output.py" or name.startswith(("sandbox/guest/", "sandbox/selfcheck/breakout/")):
            continue  # the way out itself; and programs that run inside the sandbox
        if name == "cli/local/hooking.py":
            continue  # the answer of a hook, which a coding agent reads, and no person
        # Between a command and a program, JSON is a message, and no output.
        prints_json = name.startswith("cli/") and not name.startswith(("cli/local/", "cli/hook/"))
        writers = WRITERS if prints_json else WRITERS[:-1]
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)}
        if used := calls & set(writers):
            found[name] = used
    assert found == {}
