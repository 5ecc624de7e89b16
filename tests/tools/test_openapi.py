"""`remit tool new --from openapi`: operations become confined, strictly typed actions, and whatever does not fit is named."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit.core.errors import Refusal, UsageError, WorkspaceError
from remit.sandbox import Sandbox
from remit.tools.making.files import Origin, new_tool
from remit.tools.making.openapi.files import TEMPLATE, openapi_files
from remit.tools.making.texts import TAKEN
from remit.tools.workbench import derive_pin, run_tool_cases
from remit.workspace.loader import load_workspace
from remit.workspace.manifest.manifest import Manifest, parse_manifest
from remit.workspace.manifest.resolution import resolve
from support.runs import Remit

ORDER = {
    "type": "object",
    "required": ["id", "item", "count"],
    "properties": {
        "id": {"type": "string", "readOnly": True},
        "item": {"type": "string", "maxLength": 60},
        "count": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 99},
        "note": {"type": "string", "nullable": True},
        "to": {"$ref": "#/components/schemas/Address"},
    },
}
SHOP: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Orders of the shop", "version": "1"},
    "servers": [{"url": "http://api.example.org"}, {"url": "https://api.example.org/v1/"}],
    "security": [{"key": []}],
    "components": {
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer"},
            "inQuery": {"type": "apiKey", "in": "query", "name": "k"},
        },
        "schemas": {
            "Order": ORDER,
            "Address": {"allOf": [{"$ref": "#/components/schemas/Place"}, {"properties": {"street": {"type": "string"}}}]},
            "Place": {"type": "object", "properties": {"city": {"type": "string"}}},
            "Tree": {"type": "object", "properties": {"part": {"$ref": "#/components/schemas/Tree"}}},
        },
    },
    "paths": {
        "/orders": {
            "get": {
                "operationId": "listOrders",
                "summary": "List orders.",
                "description": "List orders. The newest come first.",
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}},
                    {
                        "name": "status[]",
                        "in": "query",
                        "explode": False,
                        "schema": {"type": "array", "items": {"enum": ["open", "paid"], "type": "string"}},
                    },
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
            },
            "post": {
                "operationId": "createOrder",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                },
            },
        },
        "/orders/{orderId}/lines/{line}.json": {
            "parameters": [
                {"name": "orderId", "in": "path", "required": True, "schema": {"type": "string"}},
                {"name": "line", "in": "path", "required": True, "schema": {"type": "integer"}},
            ],
            "get": {"operationId": "str", "summary": "Read one line"},
            "put": {
                "summary": "Change one line",
                "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
            },
        },
    },
}  # fmt: skip


def written(folder: Path, document: Any) -> Path:
    path = folder / "openapi.json"
    path.write_text(json.dumps(document))
    return path


def made(folder: Path, document: Any, **origin: Any) -> tuple[Manifest, dict[str, str], tuple[str, ...]]:
    texts, left_out = openapi_files("shop", written(folder, document), **origin)
    ast.parse(texts["main.py"])
    return parse_manifest(texts["tool.toml"], file="tools/shop/tool.toml"), texts, left_out


def with_operation(**operation: Any) -> dict[str, Any]:
    """The shop, with one more operation that may not fit."""
    return {**SHOP, "paths": {**SHOP["paths"], "/other": {"post": {"operationId": "other", **operation}}}}


def test_an_operation_becomes_an_action_with_its_resources_its_effect_and_no_other_request(tmp_path: Path) -> None:
    manifest, _, left_out = made(tmp_path, SHOP)
    assert {name: (action.touches, action.effect) for name, action in manifest.actions.items()} == {
        "list_orders": (("use collection:orders",), "read"),
        "create_order": (("use collection:orders",), "once"),
        "call_str": (("use order:{order_id}", "use line:{line}"), "read"),
        "put_orders_order_id_lines_line": (("use order:{order_id}", "use line:{line}"), "idempotent"),
    }
    assert manifest.hosts == (
        "GET,POST api.example.org:443/v1/orders",
        "GET,PUT api.example.org:443/v1/orders/*/lines/*.json",
    )
    assert [(item.secret, item.name, item.header, item.template) for item in manifest.credentials] == [
        ("shop", "api.example.org", "Authorization", "Bearer {shop}")
    ]
    assert (manifest.summary, left_out) == ("Orders of the shop", ())


def test_the_tool_passes_its_cases_and_its_arguments_are_checked_by_the_schemas_of_the_service(session: Path) -> None:
    new_tool(session, "shop", Origin(form="openapi", source=str(written(session, SHOP))))
    workspace = load_workspace(session)
    results = asyncio.run(run_tool_cases(workspace, "shop", Sandbox()))
    assert [result.message for result in results] == [""] * 11
    pin = asyncio.run(derive_pin(workspace, workspace.tools["shop"], Sandbox()))
    assert pin.schemas["create_order"].input == {
        "type": "object",
        "properties": {
            "body": {
                "type": "object",
                "properties": {
                    "item": {"type": "string", "maxLength": 60},
                    "count": {"type": "integer", "exclusiveMinimum": 0, "maximum": 99},
                    "note": {"type": ["string", "null"]},
                    "to": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}, "street": {"type": "string"}},
                        "additionalProperties": False,
                    },
                },
                "required": ["item", "count"],
                "additionalProperties": False,
            }
        },
        "required": ["body"],
        "additionalProperties": False,
    }
    assert pin.schemas["list_orders"].description == "List orders. The newest come first."
    manifest = workspace.tools["shop"].manifest

    def resolved(name: str, arguments: dict[str, Any]) -> list[str]:
        _, touches = resolve(manifest, manifest.actions[name], pin.schemas[name], arguments)
        return [touch.resource for touch in touches]

    assert resolved("call_str", {"order_id": "a-1", "line": 7}) == ["order:a-1", "line:7"]
    assert resolved("list_orders", {"status": ["open"]}) == ["collection:orders"]
    for name, arguments in (
        ("call_str", {"order_id": "a/b", "line": 7}),
        ("call_str", {"order_id": "..", "line": 7}),
        ("call_str", {"order_id": "a", "line": "7/x"}),
        ("list_orders", {"status": ["lost"]}),
        ("list_orders", {"limit": 0}),
        ("create_order", {"body": {"item": "tea", "count": 1, "id": "mine"}}),
        ("create_order", {"body": {"item": "tea", "count": 0}}),
        ("create_order", {"body": {"item": "tea", "count": 1, "to": {"city": "x", "zip": "1"}}}),
    ):
        with pytest.raises(Refusal, match="argument"):
            resolved(name, arguments)


def imported(folder: Path, text: str) -> ModuleType:
    (folder / "shop_main.py").write_text(text)
    spec = importlib.util.spec_from_file_location("shop_main", folder / "shop_main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_function_sends_the_request_of_its_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test: what leaves the sandbox is seen in tests/sandbox/egress; here it is what the written code asks for."""
    _, texts, _ = made(tmp_path, SHOP)
    shop, sent = imported(tmp_path, texts["main.py"]), list[httpx.Request]()
    answers = [httpx.Response(200, json={"id": 1}), httpx.Response(204), httpx.Response(200, text="plain")]

    def request(method: str, url: str, *, params: Any, json: Any, **_: Any) -> httpx.Response:
        sent.append(httpx.Request(method, url, params=params, json=json))
        answer = answers[len(sent) - 1] if len(sent) <= len(answers) else httpx.Response(404)
        answer.request = sent[-1]
        return answer

    monkeypatch.setattr(httpx, "request", request)
    assert shop.list_orders(status=["open", "paid"], limit=5) == {"id": 1}
    assert shop.create_order({"item": "tea", "count": 1}) is None
    assert shop.call_str("a 1", 7) == "plain"
    with pytest.raises(shop.NotFound):
        shop.put_orders_order_id_lines_line("a", 1)
    assert [(one.method, str(one.url), one.content) for one in sent] == [
        ("GET", "https://api.example.org/v1/orders?limit=5&status%5B%5D=open%2Cpaid", b""),
        ("POST", "https://api.example.org/v1/orders", b'{"item":"tea","count":1}'),
        ("GET", "https://api.example.org/v1/orders/a%201/lines/7.json", b""),
        ("PUT", "https://api.example.org/v1/orders/a/lines/1.json", b""),
    ]


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ({"requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}}}}, "'Tree' contains itself"),
        ({"requestBody": {"content": {"multipart/form-data": {}}}}, "its body is multipart/form-data, and no JSON"),
        ({"requestBody": {"content": {"application/json": {"schema": {"$ref": "other.json#/Order"}}}}}, "leads to nothing in the same file"),
        ({"requestBody": {"content": {"application/json": {"schema": {"$ref": "https://example.org/x"}}}}}, "leads to nothing in the same file"),
        ({"requestBody": {"content": {"application/json": {"schema": {"not": {"type": "string"}}}}}}, "the keyword 'not'"),
        ({"requestBody": {"content": {"application/json": {"schema": {"type": "string", "pattern": "(?=a)b"}}}}}, "linear time"),
        ({"requestBody": {"content": {"application/json": {"schema": {"enum": ["a\u202eb"]}}}}}, "invisible character"),
        ({"parameters": [{"name": "X-Key", "in": "header", "required": True}]}, "the header parameter 'X-Key'"),
        ({"parameters": [{"name": "f", "in": "query", "required": True, "style": "deepObject", "schema": {"type": "object"}}]}, "a form that the tool cannot send"),
        ({"parameters": [{"name": "id", "in": "path"}]}, "is not in its path"),
        ({"parameters": [{"$ref": "#/components/parameters/None"}]}, "leads to nothing"),
        ({"security": [{"inQuery": []}]}, "security scheme inQuery"),
        ({"security": [{"nothing": []}]}, "security scheme nothing"),
    ],
)  # fmt: skip
def test_an_operation_that_does_not_fit_is_left_out_with_its_reason_and_the_others_stay(
    tmp_path: Path, operation: dict[str, Any], reason: str
) -> None:
    manifest, texts, left_out = made(tmp_path, with_operation(**operation))
    assert "other" not in manifest.actions
    assert len(manifest.actions) == 4
    assert len(left_out) == 1
    assert left_out[0].startswith("other (POST /other): ")
    assert reason in left_out[0]
    assert left_out[0] in texts["tool.toml"]
    fits, _, none = made(tmp_path, with_operation(security=[{"key": []}, {"inQuery": []}]))
    assert ("other" in fits.actions, none) == (True, ())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"openapi": "2.0"}, "is no OpenAPI document of version 3.0 or 3.1"),
        ({"openapi": None, "swagger": "2.0"}, "convert it to OpenAPI 3.1"),
        ({"servers": []}, "name it by --url"),
        ({"servers": [{"url": "https://{region}.example.org"}]}, "write https://"),
        ({"servers": [{"url": "https://api.example.org/?a=b"}]}, "cannot be the address of a service"),
        ({"paths": {}}, "it has no paths"),
        ({"paths": {"/a{b": {"get": {}}}}, "can become an action\n    get_a_b .* 'hosts'"),
        ({"paths": {f"/a{number}": {"get": {}} for number in range(101)}}, "at most 100 actions"),
    ],
)
def test_a_document_of_which_no_tool_can_be_made_is_refused(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        made(tmp_path, {**SHOP, **change})


def test_a_file_that_is_no_document_is_refused_with_its_name(tmp_path: Path) -> None:
    for text, error in (
        ("{", UsageError),
        ("[" * 100, WorkspaceError),
        ("openapi: [", WorkspaceError),
        ("", UsageError),
    ):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(error, match=r"a\.yaml"):
            openapi_files("shop", tmp_path / "a.yaml")
    with pytest.raises(WorkspaceError, match="cannot be read"):
        openapi_files("shop", tmp_path / "none.json")


def test_a_document_in_yaml_with_an_address_of_the_service_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("openapi: 3.1.0\npaths:\n  /items/{id}:\n    get:\n      parameters:\n"
                                     "      - {name: id, in: path, schema: {type: [integer, 'null']}}\n")  # fmt: skip
    with pytest.raises(UsageError, match="no text and no whole number"):
        openapi_files("shop", tmp_path / "a.yaml", url="https://api.example.org")
    (tmp_path / "a.yaml").write_text((tmp_path / "a.yaml").read_text().replace("[integer, 'null']", "integer"))
    texts, _ = openapi_files("shop", tmp_path / "a.yaml", url="https://api.example.org")
    assert 'hosts = [\n    "GET api.example.org:443/items/*",\n]' in texts["tool.toml"]


def test_a_service_on_this_machine_gets_the_ranges_with_which_it_is_reached(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    local, _ = openapi_files("shop", tmp_path / "shop.json", url="https://localhost:8443/v1")
    assert tomllib.loads(local["tool.toml"])["always"]["ranges"] == ["127.0.0.0/8", "::1/128"]
    public, _ = openapi_files("shop", tmp_path / "shop.json", url="https://localhost.example.org/v1")
    assert "ranges" not in public["tool.toml"]


def test_only_the_named_operations_become_actions(remit: Remit, session: Path) -> None:
    document = written(session, with_operation(security=[{"inQuery": []}]))
    chosen = remit("tool", "new", "shop", "--from", "openapi", str(document), "--only", "call_str", "--json").json
    assert chosen == {"ok": True, "files": [f"tools/shop/{name}" for name in ("tool.toml", "main.py", "cases.yaml")], "left_out": []}  # fmt: skip
    assert remit("tool", "schema", "shop").out.startswith("shop__call_str\n  Read one line\n")
    assert "name one of list_orders" in remit("tool", "new", "other", "--from", "openapi", str(document), "--only", "list_order").err  # fmt: skip
    assert "no action: other (POST /other)" in remit("tool", "new", "all", "--from", "openapi", str(document)).err


TEXTS = st.text(max_size=30) | st.sampled_from(
    ['"""', "\\", '"\n[always]\nprograms = ["sh"]\n', "{__import__('os')}", "a\u202eb", "'''", "#", "}"]
)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXTS, min_size=9, max_size=9), kind=st.sampled_from(["string", "integer"]))
def test_no_text_of_a_document_becomes_code_or_a_line_of_a_manifest(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], kind: str
) -> None:
    """Whatever the texts are, the code has one function for each action and imports what the template imports."""
    title, summary, description, operation, wire, path, about, choice, scheme = texts
    document = {
        "openapi": "3.1.0",
        "info": {"title": title},
        "security": [{scheme: []}],
        "components": {"securitySchemes": {scheme: {"type": "apiKey", "in": "header", "name": "X-Key"}}},
        "paths": {
            "/fixed": {"get": {"summary": "Fixed"}},
            f"/a{path}": {
                "get": {
                    "operationId": operation,
                    "summary": summary,
                    "description": description,
                    "parameters": [{"name": wire, "in": "query", "description": about, "schema": {"type": kind, "enum": [choice]}}],
                }
            },
        },
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("o")
    (folder / "openapi.json").write_text(json.dumps(document))
    made_texts, _ = openapi_files("shop", folder / "openapi.json", url="https://api.example.org")
    manifest = parse_manifest(made_texts["tool.toml"], file="t")
    assert (manifest.programs, manifest.env, manifest.url_hosts) == ((), (), ())
    assert all(line.startswith("GET api.example.org:443/") for line in manifest.hosts)
    tree, template = ast.parse(made_texts["main.py"]), ast.parse(TEMPLATE.read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    own = [node.name for node in template.body if isinstance(node, ast.FunctionDef) and node.name.startswith("_")]
    assert functions == [*manifest.actions, *own]
    others = [ast.dump(node) for node in tree.body if not isinstance(node, ast.FunctionDef)]
    assert len(others) == len([node for node in template.body if not isinstance(node, ast.FunctionDef)])
    for node in tree.body[: len(tree.body) - len(own)]:
        if isinstance(node, ast.FunctionDef):
            called = {
                part.func.id
                for part in ast.walk(node)
                if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
            }
            assert called <= {"_request", "_part", "_joined", "WithJsonSchema"}


def test_no_action_hides_a_name_that_the_code_of_the_template_uses() -> None:
    tree = ast.parse(TEMPLATE.read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    local = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    outside = {name for name in used - local - arguments if name.islower() and not name.startswith("_")}
    assert outside - {"error"} <= TAKEN
