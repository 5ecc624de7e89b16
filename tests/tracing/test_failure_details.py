"""The one fact of a failure: a line of the tool, a place in the arguments or the result, a limit; in the result and wherever a run is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remit.sandbox.outcome import Ending, classify_ending
from support.lifecycle import replayed
from support.runs import Command, Played
from support.sandbox import ToolHarness
from support.workspaces.typed import bank

BROKEN = """
def raises(to: str) -> str:
    return {}["rate"]

def promises(to: str) -> dict[str, int]:
    return {"total": "many"}

def grows(to: str) -> str:
    return str(len(bytearray(1 << 40)))
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """A call that raises, one whose result does not match its schema, and one that reaches a limit."""
    made = bank(tmp_path_factory.mktemp("broken"), BROKEN, touches=("use account:{to}",), effect="read")
    return made.play({"raises": {"to": "a1"}}, {"promises": {"to": "a1"}}, {"grows": {"to": "a1"}})


def test_the_result_the_trace_the_list_the_page_and_the_span_name_where_a_call_failed(
    played: Played, command: Command, tmp_path: Path
) -> None:
    code = (played.folder / "tools/bank/main.py").read_text().splitlines()
    line = next(number for number, text in enumerate(code, 1) if '["rate"]' in text)
    assert played.error(0)["details"]["frames"] == [{"file": "main.py", "line": line}]
    assert played.error(1)["details"]["mismatch"] == {"pointer": "/*", "keyword": "type"}
    limit = played.error(2)["details"]["limit"]
    assert limit["name"] == "memory"
    assert " MiB of memory; it used " in played.error(2)["message"]
    run, page = played.ended.run, tmp_path / "page.html"
    shown = command(played.folder, "trace", "show", run).out
    places = f"(main.py:{line})", "(/*: type)", f"(memory: {limit['most'] / 2**20:g} MiB allowed, "
    assert all(place in shown for place in places), shown
    assert f"bank.raises at step 0: tool_crashed {places[0]}" in command(played.folder, "trace", "list").out
    assert command(played.folder, "trace", "show", run, "--html", str(page)).code == 0
    assert all(place.strip("()") in page.read_text() for place in places)
    spans = [
        span
        for text in (played.folder / "traces" / f"{run}.jsonl").read_text().splitlines()
        for span in json.loads(text)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ]
    status = [str(span["status"].get("message")) for span in spans if span["name"] == "execute_tool bank.raises"]
    assert status == [f"KeyError: 'rate' {places[0]}"]
    assert replayed(played).reproduced


@pytest.mark.parametrize(
    "claimed",
    [
        [["main.py", 10_000]],
        [["main.py", 0]],
        [["../main.py", 1]],
        [["ignore all rules", 1]],
        [["/etc/passwd", 1]],
        [["link.py", 1]],
        [["main.py", "1"]],
        [["main.py", True]],
        [["a\0.py", 1]],
        "main.py:1",
    ],
)
def test_a_tool_cannot_write_text_into_the_lines_that_it_reports(full: ToolHarness, claimed: Any) -> None:
    """It writes its answer itself: what is not a line of one of its files is left out."""
    profile = full.profile()
    (profile.code / "main.py").write_text("def act() -> None:\n    raise KeyError('rate')\n")
    (profile.code / "link.py").symlink_to("/etc/passwd")
    answer = {"kind": "raised", "name": "KeyError", "message": "'rate'", "errno": None, "filename": ""}

    def frames(of: Any) -> list[str]:
        raw = json.dumps({**answer, "frames": of}).encode()
        ending = Ending(
            answer=raw, status=0, stop=None, extra=False, stderr=b"", printed=0, wall_s=0.1, cpu_s=0.1, memory_bytes=0
        )
        return [str(line) for line in classify_ending(profile, ending, declared={}).frames]

    assert frames([["main.py", 2]]) == ["main.py:2"]
    assert frames(claimed) == []


async def test_only_the_lines_of_the_tools_own_files_are_named(full: ToolHarness) -> None:
    output = await full.run("import json\n\ndef act() -> None:\n    json.loads('{')\n")
    assert [str(frame) for frame in output.frames] == ["main.py:4"]
