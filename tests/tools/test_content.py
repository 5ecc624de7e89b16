"""Images and files that a Python tool returns are kept beside the result by their digests, and nothing else of a result changes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from remit.broker.host.content import block_value, content_value, with_objects
from remit.core.parsing import digest_bytes
from remit.langchain import RemitMiddleware
from remit.sandbox.guest.conformance import CONTENT, described
from remit.sandbox.guest.decoding import Action, content_blocks
from remit.workspace.session import open_session
from support.runs import Remit
from support.workspaces.langchain import Scripted, says

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOML = """\
name = "pictures"
version = "1"
owner = "a@b.c"
summary = "Pictures"
[actions.draw]
summary = "Draw"
effect = "read"
[actions.mixed]
summary = "Draw and say"
effect = "read"
"""
MAIN = f"""\
from typing import Any


def draw(kind: str) -> bytes:
    return {PNG!r} if kind == "png" else b"\\xff\\x00" + kind.encode()


def mixed() -> list[dict[str, Any]]:
    return [
        {{"type": "text", "text": "a picture"}},
        {{"type": "image", "base64": "{base64.b64encode(PNG).decode()}", "mime_type": "image/png"}},
        {{"type": "document", "data": "abcd"}},
    ]
"""


@pytest.fixture
def pictures(remit: Remit, session: Path) -> Path:
    folder = session / "tools" / "pictures"
    folder.mkdir()
    (folder / "tool.toml").write_text(TOML)
    (folder / "main.py").write_text(MAIN)
    agent = session / "agent/triage/agent.toml"
    agent.write_text(agent.read_text().replace('tools = ["files"', 'tools = ["pictures", "files"', 1))
    rules = session / "policies/rules.csv"
    rows = "p, agent:triage, pictures.*, none:, True, allow\np, role:operator, pictures.*, none:, True, allow\n"
    rules.write_text(f"{rules.read_text()}\n{rows}")
    assert remit("tool", "pin", "pictures").code == 0
    return session


def called(remit: Remit, action: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    done = remit("call", f"pictures.{action}", json.dumps(arguments), "--agent", "triage", "--json").json
    return done["run"], done.get("value")


def kept(root: Path, run: str) -> list[tuple[str, str, bytes]]:
    """The media type, the digest and the bytes of each object that the run recorded."""
    events = [item.event for item in open_session(root).journal.events(run)]
    objects = [item for event in events for item in getattr(event, "objects", ()) or ()]
    return [(item.media_type, item.digest, base64.b64decode(item.data)) for item in objects]


def test_bytes_are_kept_by_their_digest_and_the_result_names_them(remit: Remit, pictures: Path) -> None:
    """An image is known by its first bytes; the run replays, and its result stays short."""
    run, value = called(remit, "draw", {"kind": "png"})
    image = {"object": digest_bytes(PNG), "bytes": len(PNG)}
    assert value == [{"type": "image", "base64": image, "mime_type": "image/png"}]
    assert kept(pictures, run) == [("image/png", digest_bytes(PNG), PNG)]
    assert "reproduced" in remit("replay", run).out
    run, value = called(remit, "draw", {"kind": "x"})
    assert (value[0]["type"], value[0]["mime_type"]) == ("file", "application/octet-stream")
    assert kept(pictures, run) == [("application/octet-stream", digest_bytes(b"\xff\x00x"), b"\xff\x00x")]


def test_blocks_among_others_are_kept_and_the_others_stay_as_they_are(remit: Remit, pictures: Path) -> None:
    run, value = called(remit, "mixed", {})
    assert value[0] == {"type": "text", "text": "a picture"}
    assert value[1]["base64"]["object"] == digest_bytes(PNG)
    assert value[2] == {"type": "document", "data": "abcd"}
    assert [item[0] for item in kept(pictures, run)] == ["image/png"]


def test_the_schema_of_bytes_is_a_list_of_blocks(remit: Remit, pictures: Path) -> None:
    lock = json.loads((pictures / "policies/tools.lock").read_text())
    schema = lock["tools"]["pictures"]["schemas"]["draw"]["output"]
    assert schema == {"type": "array", "items": {"type": "object"}}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_an_image_is_known_by_its_first_bytes(data: bytes, kind: str) -> None:
    (block,) = content_blocks(data)
    assert (block["mime_type"], base64.b64decode(block["base64"])) == (kind, data)
    assert (block["type"] == "image") is kind.startswith("image/")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "data", "base64", "a"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
@example([{"type": []}])
@example([{"type": {"type": "image"}, "base64": "", "mime_type": "image/png"}])
def test_a_result_without_such_blocks_is_unchanged(value: Any) -> None:
    """Only a block that says its `mime_type` is one: another list of a tool may have a field named `data` or `base64`."""
    made = block_value(value)
    assert (made.value, made.objects) == (value, ())


# What a hostile tool may write where a block has a text: no value of it may raise in the process of the broker.
_ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 10**30, 0.5, "", "image", "data:;base64,AA==", "AA==", "é", [], ["image"], {}]
)
_ODD_BLOCK = st.dictionaries(
    st.sampled_from(["type", "base64", "data", "file_data", "mime_type", "media_type", "object", "prefix", "url"]),
    st.recursive(_ODD, lambda inner: st.dictionaries(st.sampled_from(["object", "prefix", "data"]), inner)),
)


@given(st.one_of(_ODD_BLOCK, st.lists(st.one_of(_ODD, _ODD_BLOCK), max_size=4)))
def test_a_hostile_result_is_read_without_an_exception(value: Any) -> None:
    for read in (block_value, content_value):
        made = read(value)
        assert len(with_objects(made.value, made.objects)) <= len(value)


def test_an_object_is_put_back_only_where_one_is_taken_out_and_behind_a_prefix_that_is_a_text() -> None:
    made = block_value(content_blocks(PNG))
    named = {"object": digest_bytes(PNG), "bytes": len(PNG)}
    prefixes: list[Any] = [[], {}, 1, None]
    odd: list[Any] = [{"type": "image", "base64": {**named, "prefix": prefix}} for prefix in prefixes]
    deep: Any = named
    for _ in range(5_000):
        deep = {"a": deep}
    assert with_objects([*odd, {"type": "image", "a": deep}], made.objects) == []
    assert with_objects([{"type": "image", "base64": {**named, "prefix": "x,"}}], made.objects) == [
        {"type": "image", "base64": f"x,{base64.b64encode(PNG).decode()}"}
    ]


@given(st.binary(max_size=64))
def test_what_was_kept_can_be_put_back(data: bytes) -> None:
    blocks = content_blocks(data)
    made = block_value(blocks)
    assert [item.digest for item in made.objects] == ([digest_bytes(data)])
    assert with_objects(made.value, made.objects) == ([] if not data else blocks)


def test_a_function_that_returns_something_else_than_its_bytes_is_refused() -> None:
    def text() -> bytes:
        return "no bytes"  # type: ignore[return-value]

    assert Action(text).encode("no bytes") == "no bytes"


def test_the_model_of_a_langchain_agent_sees_the_image_of_a_sandboxed_tool(pictures: Path) -> None:
    """That of Remit's own loop reads the digest in its place."""
    agent = pictures / "agent/triage/agent.toml"
    agent.write_text(agent.read_text().replace("\nprompt =", "\naccept_parsed_arguments = true\nprompt =", 1))
    model = Scripted(turns=[says(("pictures__draw", {"kind": "png"}))])
    with RemitMiddleware("triage", workspace=pictures, task="draw") as governed:
        state = create_agent(model, [], middleware=[governed]).invoke({"messages": [HumanMessage("draw")]})
    (message,) = [item for item in state["messages"] if item.type == "tool"]
    assert message.status == "success", message.content
    text, image = message.content
    assert json.loads(text["text"])["value"][0]["base64"]["object"] == digest_bytes(PNG)
    assert image == {"type": "image", "base64": base64.b64encode(PNG).decode(), "mime_type": "image/png"}


def test_the_schema_of_a_generator_is_that_of_the_list_which_it_yields() -> None:
    """Its values are no block, whatever its annotation says, so its schema is not that of one."""

    def pieces() -> bytes:  # type: ignore[misc]
        yield b"a"

    def whole() -> bytes:
        return b"a"

    assert described(pieces)["output"] == {"type": "array", "items": {}}
    assert described(whole)["output"] == CONTENT
