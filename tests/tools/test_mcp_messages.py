"""What an MCP server writes is read or refused: no message and no result of one raises anything else in the process of the broker."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from remit.broker.mcp.content import output_schema, text_of, value_of
from remit.broker.mcp.listing import add_tools, differences
from remit.broker.mcp.messages import NotMcp, read_message

_KINDS = ["text", "image", "audio", "resource_link", "resource"]
_FIELDS = ["type", "text", "data", "mimeType", "uri", "resource", "blob", "name", "inputSchema", "outputSchema", "$ref"]
_ODD: st.SearchStrategy[Any] = st.sampled_from([None, True, -1, 2**53 - 1, 0.5, "", "AA==", "AA=", "é", "#/a", *_KINDS])
_VALUE = st.recursive(
    _ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=4),
    max_leaves=10,
)
_OBJECT = st.dictionaries(st.sampled_from(_FIELDS), _VALUE, max_size=5)
_BLOCK = st.builds(lambda fields, kind: {**fields, "type": kind}, _OBJECT, st.one_of(st.sampled_from(_KINDS), _VALUE))


@given(st.one_of(_VALUE, st.lists(_BLOCK, max_size=3)), _VALUE)
@example([{"type": []}], None)
@example([{"type": {}}], [])
def test_a_result_is_read_or_refused(content: Any, structured: Any) -> None:
    with suppress(NotMcp):
        value, objects = value_of({"content": content, "structuredContent": structured})
        assert isinstance(text_of(value), str)
        assert all(item.size == 0 or item.data for item in objects)


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"]), _VALUE))
@example({"id": []})
@example({"method": {}})
@example({"error": {"code": []}, "id": 1})
def test_a_message_is_read_or_refused(fields: dict[str, Any]) -> None:
    with suppress(NotMcp):
        read_message(json.dumps({"jsonrpc": "2.0", **fields}).encode())


@given(st.one_of(_VALUE, st.lists(_OBJECT, max_size=3)))
@example([{"name": [], "inputSchema": {}}])
def test_a_list_of_tools_is_read_or_refused(tools: Any) -> None:
    listing: dict[str, Any] = {}
    with suppress(NotMcp):
        add_tools(listing, {"tools": tools})
    for tool in listing.values():
        assert output_schema(tool)["type"] == "object"
        assert list(differences(tool, tool)) == []
