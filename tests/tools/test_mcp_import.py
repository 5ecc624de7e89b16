"""`remit tool import mcp`: what a server says of itself makes its manifest stricter, never laxer; a person decides the rest."""

from __future__ import annotations

from typing import Any

import pytest

from remit.core.errors import UsageError
from remit.tools.mcp.importing import manifest_of
from remit.tools.mcp.starting import Started, name_of_server, started
from remit.workspace.manifest import Manifest, ServerPin, open_lines, parse_manifest

START = Started(package="mcp-server-kit", texts={}, command=("python", "./main.py"))
FILE = "tools/kit/tool.toml"


def text_of(*tools: dict[str, Any]) -> str:
    listed = {tool["name"]: {"inputSchema": {"type": "object"}, **tool} for tool in tools}
    return manifest_of("kit", START, ServerPin(protocol="2025-11-25", tools=listed))


def tool(name: str, properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object", "properties": properties or {}}, **more}


def read(text: str) -> Manifest:
    return parse_manifest(text, file=FILE)


READS = {"readOnlyHint": True}


def test_a_tool_without_hints_happens_once_and_one_that_names_nothing_and_says_it_reads_is_read_because_nothing_is_granted() -> (
    None
):
    manifest = read(text_of(tool("send"), tool("now", annotations=READS)))
    assert manifest.actions["send"].effect == "once"
    assert manifest.actions["now"].effect == "read"
    assert (manifest.hosts, manifest.url_hosts, manifest.write, manifest.programs) == ((), (), (), ())


@pytest.mark.parametrize(
    "hints", [{}, {"readOnlyHint": True, "destructiveHint": True}, {"idempotentHint": True}, {"readOnlyHint": "yes"}]
)
def test_no_other_hint_makes_an_action_read(hints: dict[str, Any]) -> None:
    assert read(text_of(tool("send", annotations=hints))).actions["send"].effect == "once"


@pytest.mark.parametrize("argument", ["path", "filePath", "repo_path", "source", "directory", "paths"])
def test_an_argument_that_seems_to_name_a_file_is_for_a_person_to_decide(argument: str) -> None:
    text = text_of(tool("look", {argument: {"type": "string"}}, annotations=READS))
    found = [one.problem(FILE).what for one in open_lines(text)]
    assert not read(text).actions
    assert f"action 'look' has a line that is not decided: touches = [\"read file:{{{argument}}}\"]" in found
    assert "action 'look' has a line that is not decided: effect = \"read\"" in found
    assert 'the tool has a line that is not decided: read = ["docs/**"]' in found
    decided = read(text.replace("# decide: ", ""))
    assert decided.actions["look"].touches == (f"read file:{{{argument}}}",)


def test_a_url_and_a_free_text_are_for_a_person_to_decide_and_numbers_and_choices_are_not() -> None:
    text = text_of(
        tool("fetch", {"url": {"type": "string"}}),
        tool("ask", {"query": {"type": "string"}}),
        tool("both", {"file_path": {"type": "string"}, "code": {"type": "string"}}),
        tool("plain", {"path": {"type": "integer"}, "source": {"enum": ["a", "b"]}}),
    )
    assert '# decide: touches = ["use url:{url}"]' in text
    assert '# decide: touches = ["use service:ask"]' in text
    both = read(text.replace("# decide: ", "").replace("www.example.com:443", "**:443")).actions["both"]
    assert both.touches == ("write file:{file_path}", "use service:both")
    assert not any("plain" in one.actions for one in open_lines(text))


def test_names_and_texts_of_a_server_become_names_and_one_line_of_a_manifest() -> None:
    manifest = read(
        text_of(
            tool("Get-Thing", description='Says "hi"\\there. And more.\nA second line'),
            tool("get_thing", description="\u202eevil\x1b[2J"),
            tool("1st", description=""),
            tool("x" * 60),
            tool("remit"),
        )
    )
    assert manifest.actions["get_thing"].tool in ("Get-Thing", "get_thing")
    assert {action.tool for action in manifest.actions.values()} == {"Get-Thing", "get_thing", "1st", "x" * 60, "remit"}
    summaries = {action.tool: action.summary for action in manifest.actions.values()}
    assert summaries["Get-Thing"] == 'Says "hi"\\there'
    assert summaries["get_thing"].isprintable()
    assert all(len(name) <= 31 for name in manifest.actions)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("uvx", "mcp-server-time"), "time"),
        (("uvx", "mcp-server-git==2026.1.1"), "git"),
        (("npx", "-y", "@modelcontextprotocol/server-filesystem", "."), "filesystem"),
        (("npx", "@playwright/mcp@0.0.83"), "playwright"),
        (("uvx", "mcp"), "server"),
    ],
)
def test_a_tool_is_named_after_the_package_of_its_server(words: tuple[str, ...], name: str) -> None:
    assert name_of_server(words) == name


@pytest.mark.parametrize(
    "words", [(), ("docker", "run", "x"), ("uvx",), ("uvx", "--from", "x", "y"), ("npx", "../evil"), ("uvx", "a b")]
)
def test_a_command_line_that_starts_no_package_is_refused_before_anything_is_written(
    words: tuple[str, ...], tmp_path: Any
) -> None:
    with pytest.raises(UsageError):
        started(words, tmp_path)
    assert list(tmp_path.iterdir()) == []
