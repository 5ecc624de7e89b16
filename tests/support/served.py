"""A service of tests: its requests name their principal in the header Authorization."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs
from starlette.requests import Request

from remit.core import Principal
from remit.server import ROUTES, NotAuthenticated, Service, build_app, serve
from remit.workspace import open_session
from support.principals import principal

ISSUER: Final = "https://login.example.com"


def person(name: str, **changes: Any) -> Principal:
    return principal(name, account=f"sub-{name}", issuer=ISSUER, authenticated="oidc", **changes)


class NamedPrincipals:
    """Authenticates by a name in place of a token."""

    def __init__(self, *known: Principal) -> None:
        self._known = {item.subject.partition(":")[2]: item for item in known}

    async def principal(self, request: Request) -> Principal:
        _, _, name = request.headers.get("authorization", "").partition(" ")
        if name not in self._known:
            raise NotAuthenticated("no such name")
        return self._known[name]


class Everybody:
    """Every request is of user:operator, for clients that send no header."""

    async def principal(self, request: Request) -> Principal:
        return person("operator")


PEOPLE: Final = NamedPrincipals(
    person("operator"),
    person("dana"),
    person("mara"),
    person("zoe"),
    person("eve", tenant="elsewhere"),
    person("service:bot"),
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, with its body as data."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def value(self) -> Any:
        assert self.body["ok"], self.body
        return self.body["value"]

    @property
    def code(self) -> str:
        assert not self.body["ok"], self.body
        return str(self.body["error"]["code"])


class Documented:
    """Checks that answers are as the OpenAPI document says."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._paths = [(_pattern(path), item) for path, item in document["paths"].items()]

    def check(self, method: str, path: str, answer: httpx.Response) -> None:
        operation = next(
            (
                item[method.lower()]
                for pattern, item in self._paths
                if pattern.fullmatch(path) and method.lower() in item
            ),
            None,
        )
        if operation is None:
            assert answer.status_code in (404, 405, 421), (method, path, answer.text)
            return
        assert str(answer.status_code) in operation["responses"], (method, path, answer.status_code, answer.text)
        content = operation["responses"][str(answer.status_code)]["content"]
        media = next(kind for kind in content if answer.headers["content-type"].startswith(kind))
        if media == "application/json":
            schema = {**content[media]["schema"], "components": self._document["components"]}
            jsonschema_rs.Draft202012Validator(schema).validate(answer.json())


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{[a-z]+\\}", "[^/]+", re.escape(path)))


class Caller:
    """Sends requests as one principal."""

    def __init__(self, client: httpx.AsyncClient, service: Service, name: str) -> None:
        self._client = client
        self.service = service
        self.name = name
        self.documented = Documented(service.document)

    @property
    def url(self) -> str:
        return str(self._client.base_url).rstrip("/")

    def as_(self, name: str) -> Caller:
        return Caller(self._client, self.service, name)

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        sent = {"authorization": f"Bearer {self.name}", **(headers or {})}
        if body is not None or content is not None:
            sent.setdefault("content-type", "application/json")
            content = json.dumps(body).encode() if content is None else content
        answer = await self._client.request(method, path, headers=sent, content=content)
        self.documented.check(method, answer.url.path, answer)
        is_json = answer.headers["content-type"] == "application/json"
        return Answer(status=answer.status_code, body=answer.json() if is_json else answer.text, headers=answer.headers)

    async def post(self, path: str, body: object, *, key: str | None = None) -> Answer:
        return await self.send("POST", path, body, headers=None if key is None else {"idempotency-key": key})

    def stream(self, path: str, **headers: str) -> Any:
        sent = {"authorization": f"Bearer {self.name}", "accept": "text/event-stream", **headers}
        return self._client.stream("GET", path, headers=sent)

    async def get(self, path: str) -> Answer:
        return await self.send("GET", path)


@asynccontextmanager
async def listening(*folders: Path, authenticator: Any = PEOPLE) -> AsyncIterator[Caller]:
    """A service of these workspaces on a socket of this machine, which ends as by a signal."""
    async with answering(Service([open_session(folder) for folder in folders], authenticator)) as caller:
        yield caller


@asynccontextmanager
async def answering(service: Service, bound: socket.socket | None = None) -> AsyncIterator[Caller]:
    """The service on a socket of this machine, which ends as by a signal."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    bound = bound or socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(serve(service, sockets=[bound], listening=url.set_result))
    task.add_done_callback(lambda _: url.done() or url.cancel())
    address = await url
    try:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            yield Caller(client, service, "operator")
    finally:
        service.ending.set()
        await asyncio.wait_for(task, 30)


@asynccontextmanager
async def serving(*folders: Path, authenticator: Any = PEOPLE) -> AsyncIterator[Caller]:
    """A service of these workspaces, without a socket; requests are those of user:operator."""
    service = Service([open_session(folder) for folder in folders], authenticator)
    transport = httpx.ASGITransport(build_app(service, ROUTES), raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8340", timeout=60) as client:
            yield Caller(client, service, "operator")
    finally:
        await service.end()
