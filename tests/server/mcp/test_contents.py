"""Images, sounds and files of a result reach an MCP client as content; and features that are not offered are not declared."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from remit.core import ContentObject
from remit.server.mcp.contents import contents
from support import ROOT
from support.mcp_features import NOT_OFFERED, REVISION
from support.served import Caller, serving
from support.workspaces.conformance import conformance_workspace

META = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    conformance_workspace(tmp_path)
    return tmp_path


async def request(caller: Caller, method: str, **params: Any) -> dict[str, Any]:
    headers = {
        "mcp-protocol-version": REVISION,
        "mcp-method": method,
        "mcp-name": params.get("name", params.get("uri", "")),
        "accept": "application/json, text/event-stream",
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    return dict((await caller.send("POST", "/mcp/suite", body, headers=headers)).body)


async def test_images_sounds_and_files_follow_the_text_of_a_result(suite: Path) -> None:
    async with serving(suite) as caller:

        async def shown(name: str) -> list[dict[str, Any]]:
            result = (await request(caller, "tools/call", name=f"test_{name}", arguments={}))["result"]
            assert result["structuredContent"]["ok"], result
            text, *rest = result["content"]
            assert (text["type"], "base64" in text["text"]) == ("text", bool(rest))
            assert not any(item.get("data", "-") in text["text"] for item in rest), "the text has digests"
            return rest

        assert await shown("simple_text") == []
        ((image),) = await shown("image_content")
        assert (image["type"], image["mimeType"]) == ("image", "image/png")
        assert base64.b64decode(image["data"]).startswith(b"\x89PNG")
        ((sound),) = await shown("audio_content")
        assert (sound["type"], sound["mimeType"]) == ("audio", "audio/wav")
        ((file),) = await shown("embedded_resource")
        assert (file["type"], file["resource"]["mimeType"]) == ("resource", "text/plain")
        assert base64.b64decode(file["resource"]["blob"]) == b"a file"
        assert file["resource"]["uri"].startswith("ni:///sha-256;")
        assert [item["type"] for item in await shown("multiple_content_types")] == ["image", "resource"]


def test_bytes_that_the_record_does_not_keep_are_not_shown() -> None:
    block = {"type": "image", "mime_type": "image/png", "base64": {"object": "sha256:a", "bytes": 1}}
    kept, secret = (
        ContentObject(digest="sha256:a", media_type="image/png", size=1, data=data) for data in ("YQ==", "")
    )
    assert [item.type for item in contents([block], [kept])] == ["image"]
    assert [item.type for item in contents({"content": [block]}, [kept])] == ["image"]
    assert (
        contents([block], [secret])
        == contents([block], [])
        == contents(None, [kept])
        == contents("sha256:a", [kept])
        == []
    )


@pytest.mark.parametrize("method", ["prompts/list", "resources/list", "resources/read"])
async def test_features_that_are_not_offered_are_not_declared_and_not_found(suite: Path, method: str) -> None:
    async with serving(suite) as caller:
        declared = (await request(caller, "server/discover"))["result"]["capabilities"]
        assert set(declared) == {"tools", "extensions"}
        assert (await request(caller, method, uri="a"))["error"]["code"] == -32601


def test_the_page_names_every_feature_that_is_not_offered_with_its_reason() -> None:
    page = (ROOT / "docs" / "how-to" / "serve-an-mcp-client.md").read_text()
    table = page.partition("## 6. What is not offered")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    assert [feature for feature, _ in rows[1:]] == list(NOT_OFFERED)
