"""`remit tool try --record`: a test case of a real call, with the requests that it made and what came back.

INVARIANT: no secret is written. Of a request, no header is kept at all; of a response, only those in `_KEPT`. Every text is redacted as in
a record, and a case in which a known secret is still found is not written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote

from remit.broker import AttemptOutcome
from remit.core import Call, Json, Refusal, UsageError, WorkspaceError
from remit.core.parsing import parse_json, read_text, table_text
from remit.guardrails import Redactor, is_secret_name
from remit.sandbox import Sandbox
from remit.sandbox.egress import LARGEST_KEPT, Exchange, ExchangeLog
from remit.tools.cases import read_tool_cases
from remit.tools.workbench import ToolCaseResult, attempt, fresh_workspace, known_secrets, play_case
from remit.workspace import Workspace, load_workspace

LARGEST_INLINE: Final = 16 << 10  # characters of a body in cases.yaml; a larger one is a file beside it
LARGEST_SENT: Final = 2 << 10  # bytes of a request's body that a row compares

_FOLDER: Final = "answers"
# What a client may need of a response. Everything else is left out, above all Set-Cookie, WWW-Authenticate and headers of single servers.
_KEPT: Final = re.compile(
    r"content-(?:type|language|disposition)|etag|last-modified|location|link|retry-after"
    r"|(?:x-)?ratelimit-[a-z-]+|x-rate-limit-[a-z-]+|x-total(?:-[a-z-]+)?|x-(?:next-|per-)?page|x-next-cursor"
)
_SIGNATURE: Final = re.compile(
    r"(?i)(?:^|[-_])(?:sig|signature|key|auth|authorization|code|session|jwt|password)(?:$|[-_])"
)
_UNQUOTED: Final = "-._~$!()+,;:@/?"
_JSON: Final = re.compile(r"application/(?:[a-z.+-]+\+)?json\b")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A case that was recorded: its file, how many requests it has, further files with bodies, and its result without the network."""

    file: str
    requests: int
    files: tuple[str, ...]
    result: ToolCaseResult


async def record_case(
    workspace: Workspace,
    name: str,
    arguments: Mapping[str, Json],
    folder: Path,
    sandbox: Sandbox,
    *,
    note: str,
    yes: bool = False,
) -> tuple[Call, AttemptOutcome, Recorded]:
    """Run one action as `try_action` does, add a case of it to `cases.yaml`, and run that case without the network.

    Raises:
        Refusal: as `try_action`.
        UsageError: the call cannot be a case: an argument has a secret, or a response is too large. Nothing is written.
    """
    tool = name.partition(".")[0]
    assert workspace.root is not None
    file = f"tools/{tool}/cases.yaml"
    before = table_text(workspace.root / file, file=file)
    if any(case.note == note for case in read_tool_cases(before, file, tool)):
        raise UsageError(f"{file} has a case {note!r} already: give the new one another note")
    fresh, log = await fresh_workspace(workspace, name, sandbox), ExchangeLog()
    redactor = Redactor("0" * 32, known_secrets(fresh, tool), off=workspace.content.off)
    call, done = await attempt(fresh, name, arguments, folder, sandbox, yes=yes, exchanges=log)
    written = _Case(redactor=redactor, note=note, folder=folder)
    text = written.text(call, done, arguments, log.exchanges)
    whole = before + ("\n" if before.strip() else "") + text
    case = next(item for item in read_tool_cases(whole, file, tool) if item.note == note)
    for path, data in written.bodies.items():
        (workspace.root / "tools" / tool / path).parent.mkdir(exist_ok=True)
        (workspace.root / "tools" / tool / path).write_bytes(data)
    (workspace.root / file).write_text(whole, encoding="utf-8")
    if written.bodies:  # files of the tool's folder, and so of its code
        fresh = await fresh_workspace(load_workspace(workspace.root), name, sandbox)
    result = (await play_case(fresh, case, sandbox)).result
    return call, done, Recorded(file=file, requests=len(log.exchanges), files=tuple(written.bodies), result=result)


@dataclass(kw_only=True)
class _Case:
    """The text of one case. `bodies`: large or binary bodies, by their path in the tool's folder."""

    redactor: Redactor
    note: str
    folder: Path
    bodies: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def text(
        self, call: Call, done: AttemptOutcome, arguments: Mapping[str, Json], exchanges: Sequence[Exchange]
    ) -> str:
        if self.redactor.json(dict(arguments)) != dict(arguments):
            raise UsageError("an argument has a secret, which no case may have: record a call without it")
        changed = [change.resource.removeprefix("file:") for change in done.changes if change.digest]
        read = [one.name for one in call.touches if (one.kind, one.access) == ("file", "read")]
        rows = list(self._rows(exchanges))
        lines = [f"- note: {_yaml(self.note)}", f"  action: {call.action}", f"  arguments: {_yaml(dict(arguments))}"]
        if files := self._files([name for name in read if name not in changed]):
            lines += ["  setup:", f"    files: {_yaml(files)}"]
        if rows:
            lines += [] if files else ["  setup:"]
            lines.append("    http:")
            lines += [line for row in rows for line in _row_lines(row)]
        expect: dict[str, Json] = {"error": done.error or done.code}
        if done.code is None:
            expect = {"value": self.redactor.json(done.value)}
            expect |= {"files": files} if (files := self._files(changed)) else {}
        text = "\n".join([*lines, f"  expect: {_yaml(expect)}", ""])
        # INVARIANT: the last look before anything is written.
        if self.redactor.known(text) != text or any(
            self.redactor.known(data.decode("latin-1")) != data.decode("latin-1") for data in self.bodies.values()
        ):
            raise UsageError("the case would have a secret, so it is not written: record a call without it")
        return text

    def _files(self, names: Sequence[str]) -> dict[str, str]:
        """The texts of those files that are short texts without a secret."""
        found: dict[str, str] = {}
        for name in names:
            try:
                text = read_text(self.folder / name, file=name, most=LARGEST_INLINE)
            except WorkspaceError:
                continue
            if self.redactor.text(text) == text:
                found[name] = text
        return found

    def _rows(self, exchanges: Sequence[Exchange]) -> Iterator[dict[str, Json]]:
        requests = [f"{one.method} {self._url(one.url)}" for one in exchanges]
        for number, (request, one) in enumerate(zip(requests, exchanges, strict=True), start=1):
            row: dict[str, Json] = {"request": request} | self._sent(one)
            if requests.count(request) > 1:
                row["times"] = 1
            if one.failure is not None:
                yield row | {"fails": one.failure}
                continue
            if not one.whole or dict(one.headers).get("content-encoding", "identity") != "identity":
                why = "is compressed" if one.whole else f"is incomplete, or has more than {LARGEST_KEPT} bytes"
                raise UsageError(f"the response to {request} {why}, and cannot be a row: write the case by hand")
            headers: dict[str, Json] = {}
            for name, value in one.headers:
                if _KEPT.fullmatch(name):
                    headers[name] = self._url(value) if name == "location" else self.redactor.text(value)
            row |= {"status": one.status} if one.status != 200 else {}
            yield row | ({"headers": headers} if headers else {}) | self._body(one, number)

    def _url(self, url: str) -> str:
        """The URL, in which `*` stands for each secret: a part of the path, or the value of a pair of the query."""
        base, mark, query = url.partition("?")
        start, colon, path = base.partition("://") if "://" in base else ("", "", base)
        parts = ["*" if self.redactor.text(part) != part else part for part in path.split("/")]
        pairs = [
            f"{quote(name, safe=_UNQUOTED)}={'*' if self._is_secret(name, value) else quote(value, safe=_UNQUOTED)}"
            for name, value in parse_qsl(query, keep_blank_values=True)
        ]
        return f"{start}{colon}{'/'.join(parts)}" + (f"?{'&'.join(pairs)}" if mark else "")

    def _is_secret(self, name: str, value: str) -> bool:
        looks = is_secret_name(name) or _SIGNATURE.search(name) is not None
        return looks or self.redactor.text(f"{name}={value}") != f"{name}={value}"

    def _sent(self, one: Exchange) -> dict[str, Json]:
        """What the row compares of the request's body: all of its JSON, if that is short and has no secret."""
        if not one.sent or len(one.sent) > LARGEST_SENT:
            return {}
        try:
            value = parse_json(one.sent.decode())
        except (Refusal, UnicodeDecodeError):
            return {}
        return {"sends": value} if isinstance(value, dict | list) and self.redactor.json(value) == value else {}

    def _body(self, one: Exchange, number: int) -> dict[str, Json]:
        data = bytes(one.body)
        if not data:
            return {}
        try:
            text = self.redactor.text(data.decode())
        except UnicodeDecodeError:
            return {"file": self._kept(data, number, "bin")}
        if _JSON.match(dict(one.headers).get("content-type", "")):
            try:
                value = self.redactor.json(parse_json(data.decode()))
            except Refusal:
                value = None
            if isinstance(value, dict | list) and len(data) <= LARGEST_INLINE:
                return {"body": value}
            text = text if value is None else json.dumps(value, ensure_ascii=False)
        if len(text) > LARGEST_INLINE or not _is_plain(text):
            return {"file": self._kept(text.encode(), number, "txt")}
        return {"body": text}

    def _kept(self, data: bytes, number: int, kind: str) -> str:
        words = "-".join(re.findall(r"[a-z0-9]+", self.note.lower()))[:40] or "case"
        self.bodies[f"{_FOLDER}/{words}-{number}.{kind}"] = data
        return f"{_FOLDER}/{words}-{number}.{kind}"


def _row_lines(row: Mapping[str, Json]) -> Iterator[str]:
    for number, (key, value) in enumerate(row.items()):
        yield f"      {'  ' if number else '- '}{key}: {_yaml(value)}"


def _yaml(value: Json) -> str:
    """The value in one line. JSON is YAML, where its texts have no control characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _is_plain(text: str) -> bool:
    """True if YAML can have the text: no character that is neither printable nor an end of a line."""
    return all(character.isprintable() or character in "\n\t\r" for character in text)
