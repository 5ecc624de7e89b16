"""`setup.http` of a tool's case: requests that the tool makes, and what their servers answer. No case reaches a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from remit.core import FrozenModel, Json, Refusal
from remit.core.parsing import canonical, invalid, parse_json, read_file
from remit.sandbox.egress import (
    Answer,
    Answers,
    NetworkError,
    NetworkFailure,
    RequestPattern,
    parse_host,
    parse_request,
)
from remit.tools.parts import contains

LARGEST_BODY: Final = 16 << 20  # bytes of a file that is the body of a response

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_VALUE: Final = re.compile(r"[\x20-\x7e\xa0-\xff]{0,8192}")
# What the proxy writes itself for the body that it sends.
_FRAMING: Final = frozenset(("content-length", "transfer-encoding", "connection", "trailer", "upgrade"))


def _request(value: str) -> str:
    try:
        parse_request(value)
    except NetworkError as error:
        raise invalid(error.what, error.fix) from None
    return value


def _headers(value: Mapping[str, str | list[str]]) -> Mapping[str, str | list[str]]:
    for name, given in value.items():
        if _NAME.fullmatch(name) is None or name.lower() in _FRAMING:
            raise invalid(f"has the header {name!r}, which a row cannot set", 'write headers such as "ETag"')
        if not all(_VALUE.fullmatch(item) for item in ([given] if isinstance(given, str) else given)):
            raise invalid(f"has a value of {name!r} that is no header", "write it in one line")
    return value


def _file(value: str) -> str:
    try:
        plain = canonical("file", value) == value and value != "."
    except Refusal:
        plain = False
    if not plain:
        raise invalid(
            f"is {value!r}, which is not a plain relative path", 'write a file of the tool: "answers/page.html"'
        )
    return value


class HttpRow(FrozenModel):
    """One request and its answer. The first row that fits a request answers it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    request: Annotated[str, AfterValidator(_request)] = Field(
        description='A method and a URL: "GET https://api.example.com/items/*"; with a query, only that query'
    )
    sends: Json = Field(
        default=None, description="A part of the request's body: a text, or members and items of its JSON"
    )
    status: int = Field(default=200, ge=200, le=599, description="The status of the response")
    headers: Annotated[Mapping[str, str | list[str]], AfterValidator(_headers)] = Field(
        default_factory=dict, description="The headers of the response"
    )
    body: Json = Field(default=None, description="The body of the response: a text as it is, or a JSON value")
    file: Annotated[str, AfterValidator(_file)] | None = Field(
        default=None, description="In place of `body`: a file of the tool's folder that has it"
    )
    fails: NetworkFailure | None = Field(default=None, description="In place of a response: how the network fails")
    times: int | None = Field(default=None, ge=1, le=1000, description="How often the row answers; absent: any number")

    @model_validator(mode="after")
    def _one(self) -> HttpRow:
        given = self.model_fields_set & {"body", "file", "fails"}
        if len(given) > 1:
            raise invalid(f"has {' and '.join(sorted(given))}", "keep one of body, file and fails")
        if self.fails is not None and self.model_fields_set & {"status", "headers"}:
            raise invalid("fails, and has a status or headers", "remove them: a request that fails has no response")
        return self

    @property
    def pattern(self) -> RequestPattern:
        return parse_request(self.request)

    def answer(self, folder: Path, tool: str) -> Answer:
        """What the proxy answers. `folder` is that of the tool. Raises WorkspaceError if its file cannot be read."""
        body = self._body(folder, tool)
        headers = [
            (name, item)
            for name, given in self.headers.items()
            for item in ([given] if isinstance(given, str) else given)
        ]
        is_json = "body" in self.model_fields_set and not isinstance(self.body, str)
        if is_json and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("content-type", "application/json"))
        return Answer(
            request=self.pattern,
            status=self.status,
            headers=headers,
            body=body,
            times=self.times,
            fails=self.fails,
            accepts=self._accepts,
        )

    def _body(self, folder: Path, tool: str) -> bytes:
        if self.file is not None:
            return read_file(folder / self.file, file=f"tools/{tool}/{self.file}", most=LARGEST_BODY)
        if "body" not in self.model_fields_set:
            return b""
        text = self.body if isinstance(self.body, str) else json.dumps(self.body, ensure_ascii=False)
        return text.encode("utf-8", "replace")

    def _accepts(self, body: bytes) -> bool:
        """True if the body of a request has what the row says of it."""
        if self.sends is None:
            return True
        text = body.decode("utf-8", "replace")
        if isinstance(self.sends, str):
            return self.sends in text
        try:
            return contains(parse_json(text), self.sends)
        except Refusal:
            return False


def answers_of(rows: Sequence[HttpRow], folder: Path, tool: str) -> Answers:
    """The answers of one case. Raises WorkspaceError if a file of them cannot be read."""
    return Answers(rows=tuple(row.answer(folder, tool) for row in rows))


def unanswered(answers: Answers) -> str:
    """Why a case fails whose tool made a request without a row; "" if it made none."""
    if not answers.unanswered:
        return ""
    first, *more = answers.unanswered
    others = f" and {len(more)} more" if more else ""
    fix = "write a row for it, or make the case with `remit tool try ACTION … --record NOTE`"
    return f"no row of setup.http answers {first}{others}: {fix}"


def unused(answers: Answers) -> str:
    """Why a case fails that has a row for which there was no request; "" if it has none."""
    if not answers.unused:
        return ""
    return f"the tool did not request {answers.unused[0]!r}, which setup.http has: remove the row, or correct the tool"


def wrong_rows(rows: Sequence[HttpRow], lines: Sequence[str], folder: Path) -> Iterator[tuple[str, str]]:
    """What is wrong with rows, and the fix: `lines` are those of `hosts` in the manifest, `folder` is that of the tool."""
    allowed = tuple(map(parse_host, lines))
    for row in rows:
        host = row.pattern.host
        if "*" not in host.name and not any(line.covers(host.name, host.port) for line in allowed):
            fix = f'add "{host.name}:{host.port}" to hosts in [always], or remove the row'
            yield f"the tool cannot request {row.request!r}: no line of 'hosts' in tool.toml has that host", fix
        if row.file is not None and not (folder / row.file).is_file():
            yield f"there is no file {row.file!r} in the tool's folder", "write it, or write `body`"
