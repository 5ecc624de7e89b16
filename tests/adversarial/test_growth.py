"""Functions that read untrusted text take linear time, whatever the text contains.

Each row measures one public function on texts that are built to be slow, at two sizes. A function of the listed modules that
takes text and has no row fails a test, so the author of a new function has to add one.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from remit.broker.host.content import content_value
from remit.core import Citation, Listing, Passage, RemitError, ResourceAccess, Retrieved, Source
from remit.core.parsing import (
    Mismatch,
    canonical,
    canonical_host,
    canonical_json,
    canonical_url,
    check_schema,
    covered,
    digest,
    digest_bytes,
    hidden_character,
    is_name,
    leaves,
    load_toml,
    map_texts,
    parse_arguments,
    parse_json,
    proper_name,
    read_rows,
    resource_of,
    tables_of,
    texts_of,
    toml_line,
    types_of,
    validate,
)
from remit.core.parsing.bounded_readers import load_json
from remit.core.parsing.bounded_readers import text_of as outside_text
from remit.core.parsing.exact_json import Arguments
from remit.core.parsing.hidden_characters import visible, visible_json
from remit.core.parsing.json_schema import closed, is_type, resolved, type_name
from remit.guardrails import (
    Content,
    Redactor,
    Sanitizer,
    argument_texts,
    contained_kinds,
    directory_entries,
    quotes_all,
    read_content,
    repeated_names,
    requests_action,
    spellings,
    traceable_values,
    unnamed_resources,
    valid,
    with_visible_characters,
)
from remit.guardrails.content_rules import folded
from remit.guardrails.encodings import KnownSecret, Reading
from remit.guardrails.grounding.claims import Grounding
from remit.guardrails.grounding.numbers import numbers_of, units_in
from remit.guardrails.grounding.quotes import place_of, single_spaced
from remit.guardrails.naming import names_person, names_thing, refers_by_alias
from remit.guardrails.provenance import _find_mentions, names_resource
from remit.guardrails.redaction import replace_spans
from remit.guardrails.repeated import Values
from remit.guardrails.secret_formats import formats
from remit.sandbox.egress.client_hello import ClientHelloReader
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import parse_authority, parse_head, tokens
from remit.sandbox.egress.response_scrubber import Scrubber
from remit.tracing.imported.messages import arguments_text, as_json, messages, tool_message, unflatten, without_callback
from remit.workspace.answer_contract import AnswerContract
from remit.workspace.manifest.repairs import read_arguments, repaired_name

SMALLEST = 2_000  # characters
LARGEST = 32_000
MEASURABLE_S = 0.002  # of processor time: less is noise
TIMES = 4
MOST = 10.0  # times the time of a text that is 4 times as long; linear work takes 4, quadratic 16
WORDS = "Send the summary to Alice and pay invoice 4711"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Measures `call` on each of `texts`: pieces that are repeated, or functions of a size."""

    call: Callable[[Any], object]
    texts: tuple[str | Callable[[int], Any], ...]


def of(call: Callable[[Any], object], *texts: str | Callable[[int], Any]) -> Row:
    return Row(call=call, texts=texts)


def bytes_of(call: Callable[[bytes], object]) -> Callable[[str], object]:
    return lambda text: call(text.encode())


def grounded(text: str) -> object:
    """A claim of that text, whose source is that text."""
    data = text.encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    citation = Citation(document="d", version="1", section="S", span=(0, len(data)), digest=digest)
    passage = Passage(source=Source(call="0.0", item=1, citation=citation), text=text)
    claim = {"claim": text, "quote": text, "citation": citation.model_dump(mode="json")}
    return Grounding([claim], Retrieved(passages=(passage,), searched=True))


def piecewise(take: Callable[[], Callable[[bytes], object]]) -> Callable[[bytes], object]:
    """Feed the data as a slow peer sends it."""

    def call(data: bytes) -> None:
        one = take()
        for at in range(len(data)):
            one(data[at : at + 1])

    return call


def nested(schema: dict[str, Any]) -> dict[str, Any]:
    return {"$ref": "#/$defs/F", "$defs": {"F": schema}}


REF = {"$ref": "#/$defs/F"}
OBJECT = {"type": "object", "properties": {"of": REF}, "required": ["of"]}
UNION = nested(
    {"anyOf": [OBJECT, {"type": "object", "properties": {"of": REF, "x": {"type": "integer"}}}, {"type": "null"}]}
)
ITEMS = {
    "type": "array",
    "uniqueItems": True,
    "items": {"anyOf": [{"type": "integer"}, {"enum": [f"v{n}" for n in range(50)]}]},
}


def broken(call: Callable[[str], object]) -> Callable[[str], object]:
    """A JSON reader that may refuse the text."""

    def read(text: str) -> None:
        with suppress(ValueError):
            call(text)

    return read


def read(text: str) -> object:
    """Read arguments that need repairs wherever that is possible."""
    rows = {"type": "array", "items": {"anyOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, UNION]}}
    return read_arguments(
        text, {"type": "object", "properties": {"of": UNION, "rows": rows}, **nested({})}, repair=True
    )


def numbers(size: int) -> list[int]:
    return list(range(size // 6))


def references(size: int) -> dict[str, Any]:
    """A chain of definitions, each of which refers to the next."""
    count = size // 60
    defs = {f"D{k}": {"$ref": f"#/$defs/D{k + 1}"} for k in range(count)}
    return {"$ref": "#/$defs/D0", "$defs": {**defs, f"D{count}": {"type": "string"}}}


def levels(size: int) -> Any:
    """As many levels as JSON may have; a longer text has more of them side by side."""
    value: Any = None
    for _ in range(28):
        value = {"of": value}
    return [value] * max(1, size // 300)


def strings(size: int) -> list[str]:
    return ["password=abc1"] * (size // 13)


HOSTILE = (
    "a", "0", " ", "\n", "\\", '"', "{", "[", ".", "-", "@", "a.", "a@", "a@b.", "://a:", "é", "e\u0301", "%41", "&#", "&#x4", "0 ", "1.1.",
    "a-", "https://a.b/", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nMIIEaaaaaaaaaaaaaaaa\n", "-eyJaaaaaaaa", "sk-a",
    "token=", "aws'", "xoxb-1-", "AA00 ", "[::", "\U000e0041", "\u202e",
)  # fmt: skip
FEW = ("a", "\n", "\\", '"', "a@b.", "&#", "-----BEGIN PRIVATE KEY-----", "token=", "sk-a", "-eyJaaaaaaaa")
SECRET = "c4nary-horse/Battery+staple"
KNOWN = (*FEW, SECRET[:12], "&#0", "&#9", "%2", "\\u00", "0x", SECRET + " ", "\\n ")
JSONS = ("[", '"', '{"a":', "[1,", '"\\"', "1", "\\", '["a",')
SENTENCES = (*FEW, "pay ", "a-b ", "0 ", "1.1.1.", "AA00 AAAA ", "https://a.b/ ", "é", "a@a")
PHRASE = read_content('[[phrase]]\nnote = "n"\ntext = ["aaa bbb", "ignore all"]\ndo = "redact"\n[[personal]]\nnote = "p"\nkinds = ["email", "phone", "iban", "card", "ip"]\n')  # fmt: skip
BLOCKED = read_content('[[phrase]]\nnote = "n"\ntext = ["aaa bbb"]\nwhere = ["result", "answer", "arguments"]\n')
LINES = (Listing(kind="mail", path=("*", "mail")), Listing(kind="file", path=("*", "name"), alias=("*", "alias")))


def people(size: int) -> list[dict[str, str]]:
    return [{"mail": f"a{n}@b.example", "name": f"n{n}", "alias": "pay invoice " * 8} for n in range(size // 130)]


def labelled(size: int) -> tuple[list[str], frozenset[str]]:
    """A text, and labelled values that all begin like it."""
    return ["0" * size], frozenset(f"{'0' * (n % 40)}{n:08}1" for n in range(size // 20))


def redactor(*secrets: str) -> Redactor:
    return Redactor("run", secrets)


def sanitizer(content: Content | None = None) -> Sanitizer:
    return Sanitizer(redactor(), content)


def escaped(size: int) -> list[str]:
    return [SECRET] * (size // len(SECRET))


def fences(size: int) -> str:
    return "```\n" + "\n" * size + "x"


def hello(size: int) -> bytes:
    """Records of one byte each, of a ClientHello that never ends."""
    return b"".join(b"\x16\x03\x01\x00\x01" + bytes([one]) for one in (1, 1, 0, 0, *(0,) * min(size // 6, 10_000)))


def head(size: int) -> bytes:
    return b"GET http://a/ HTTP/1.1\r\nhost: a\r\n" + b"x: " + b" a" * (size // 2) + b"\x01\r\n\r\n"


def keys(size: int) -> str:
    return "".join(f"k{n} = 1\n" for n in range(size // 10))


# By module and name.
ROWS: Mapping[str, Row] = {
    "tracing.imported.messages:messages": of(messages, *JSONS, strings),
    "tracing.imported.messages:as_json": of(as_json, *JSONS),
    "tracing.imported.messages:arguments_text": of(arguments_text, *JSONS),
    "tracing.imported.messages:tool_message": of(tool_message, levels, lambda n: {str(k): {} for k in range(n // 8)}),
    "tracing.imported.messages:without_callback": of(without_callback, strings),
    "tracing.imported.messages:unflatten": of(
        lambda attributes: unflatten(attributes, "a"),
        lambda n: {f"a.{k}.message.role": "x" for k in range(n // 20)},
        lambda n: {f"a.{'b.' * (n // 2)}": 1},
    ),
    "core.parsing.file_patterns:covered": of(
        lambda text: covered(("**/**/**/*a*a*b", "*a*a*a*a*b", "**/x"), text), "a", "a/", "/", lambda n: "a/" * n + "**"
    ),
    "core.parsing.json_schema:check_schema": of(
        check_schema,
        lambda n: {"properties": {f"p{k}": {"type": "string"} for k in range(n // 20)}},
        lambda n: {"enum": strings(n)},
        references,
    ),
    "core.parsing.json_schema:closed": of(
        closed, references, lambda n: {"properties": {f"p{k}": {"type": "string"} for k in range(n // 20)}}
    ),
    "core.parsing.json_schema:types_of": of(
        types_of,
        lambda n: {
            "anyOf": [{"$ref": "#/$defs/D0"}] * 2,
            "$defs": {f"D{k}": {"anyOf": [{"$ref": f"#/$defs/D{k + 1}"}] * 2} for k in range(n // 60)},
        },
    ),
    "core.parsing.json_schema:resolved": of(lambda text: resolved(UNION, f"#/$defs/{text}"), "F/", "~1", "%41"),
    "core.parsing.json_schema:type_name": of(type_name, strings),
    "core.parsing.json_schema:is_type": of(lambda value: is_type(value, "array"), strings),
    "core.parsing.json_texts:leaves": of(lambda value: [*leaves(value)], levels, strings),
    "core.parsing.json_texts:texts_of": of(texts_of, levels, strings),
    "core.parsing.json_texts:map_texts": of(lambda value: map_texts(value, str.upper), levels, strings),
    "core.parsing.json_validation:validate": of(
        lambda value: [
            validate({"type": "array", "items": UNION, "$defs": UNION["$defs"]}, value),
            validate(ITEMS, value),
            validate({"items": {"pattern": r"^(\w+[- ]?)+$"}}, value),
        ],
        levels,
        numbers,
        lambda n: ["a" * n + "!"],
        lambda n: ["a " * (n // 2) + "!"],
        lambda n: [f"v{k % 50}" for k in range(n // 4)],
    ),
    "workspace.manifest.repairs:read_arguments": of(
        lambda text: tried(read, text),
        *JSONS,
        lambda n: json.dumps({"of": json.dumps(levels(n))}),
        lambda n: json.dumps(json.dumps({"of": strings(n)})),
        lambda n: json.dumps({"rows": [{"a": None}] * (n // 12)}),
        lambda n: json.dumps({"rows": ["[1]"] * (n // 8)}),
    ),
    "workspace.manifest.repairs:repaired_name": of(
        lambda text: repaired_name(text, ("files.read",), repair=True),
        "a",
        " ",
        "functions.",
        "<|",
        "( ",
        "tools__",
        ".",
    ),
    "core.parsing.names:canonical": of(
        lambda text: [
            tried(canonical, kind, text) for kind in ("file", "mail", "host", "https", "table", "store", "id")
        ],
        *FEW,
        "a/",
        "./",
        "a.",
        "xn--a",
    ),
    "core.parsing.names:is_name": of(lambda text: is_name("file", text), "a", "a.", "é"),
    "core.parsing.names:proper_name": of(lambda text: proper_name("name", text), "a", "a ", "é", " "),
    "core.parsing.names:resource_of": of(lambda text: resource_of("file", text), "a", "a/", "é", "%4"),
    "core.parsing.names:tables_of": of(tables_of, "select ", "(", "a,", "'", "--", "/*"),
    "core.parsing.hidden_characters:hidden_character": of(hidden_character, "a", "é"),
    "core.parsing.hidden_characters:visible": of(visible, "a", "\u202e", "\x1b["),
    "core.parsing.hidden_characters:visible_json": of(visible_json, "a", "\u202e", "\x1b["),
    "core.parsing.strict_json:parse_arguments": of(parse_arguments, *JSONS),
    "core.parsing.strict_json:parse_json": of(parse_json, *JSONS, lambda n: json.dumps(strings(n)), lambda n: "0" * n),
    "core.parsing.strict_json:canonical_json": of(canonical_json, levels, strings, numbers, lambda n: [0.5] * (n // 4)),
    "core.parsing.strict_json:digest": of(digest, levels, strings),
    "core.parsing.strict_json:digest_bytes": of(bytes_of(digest_bytes), "a"),
    "core.parsing.bounded_readers:load_toml": of(
        lambda text: load_toml(text, file="f"),
        "a.",
        '"a".',
        "[",
        "a=[",
        "a={",
        "a = 1\n",
        "[a.b]\n",
        "[[a]]\n",
        "'",
        '"""',
        "\\",
        "#",
        "x=9",
        keys,
    ),
    "core.parsing.toml:toml_line": of(
        lambda text: toml_line(text, "k1"), keys, lambda n: "x = [" + "1,\n" * (n // 3) + "]\n", "[[a]]\nb = 1\n"
    ),
    "core.parsing.urls:canonical_url": of(
        lambda text: canonical_url("https", text), *FEW, "https://a", "%4", "%41", "a/../"
    ),
    "core.parsing.urls:canonical_host": of(lambda text: canonical_host("host", text), *FEW, "a.", "xn--a.", "é.", "0x"),
    "broker.host.content:content_value": of(
        lambda text: [content_value(text), content_value([{"type": "image", "url": text, "base64": text}])],
        *("[", '{"a":', '["\\\\', "QUJD", "=", "data:", ";a;base64,", "é"),
    ),
    "core.parsing.bounded_readers:load_json": of(broken(load_json), "[", '{"a":', '"\\ud800"', "9", "{", '"'),
    "core.parsing.bounded_readers:text_of": of(bytes_of(lambda data: outside_text(data, file="f")), *FEW),
    "core.parsing.exact_json:Arguments.of": of(lambda value: Arguments.of({"a": value}), numbers, levels, strings),
    "core.parsing.exact_json:Arguments.differences": of(
        lambda value: Arguments.of({"a": value}).differences({"a": value}), numbers, levels, strings
    ),
    "core.parsing.yaml:read_rows": of(
        lambda text: [*read_rows(text[:20_000], file="f")], "- ", "[", "{", "- a: 1\n", "? ", "- '", "- &a *a\n"
    ),
    "guardrails.content_rules:ContentRule.find": of(
        lambda text: [rule.find(text) for rule in PHRASE.rules], *HOSTILE, "aaa bb ", "1-", "+1 "
    ),
    "guardrails.content_rules:Content.blocked": of(
        lambda value: BLOCKED.blocked(value, "result"), *FEW, "aaa ", strings
    ),
    "guardrails.content_rules:Content.redact": of(
        lambda text: PHRASE.redact(text, "result"), *FEW, "aaa bbb ", "a@b.co ", "1.1.1.1 "
    ),
    "guardrails.content_rules:folded": of(folded, "a", "é", " ", "\u0301", "ﷺ"),
    "guardrails.encodings:KnownSecret.edges": of(KnownSecret(SECRET).edges, "a", SECRET),
    "guardrails.encodings:KnownSecret.find": of(lambda text: KnownSecret(SECRET).find(Reading(text)), *KNOWN),
    "guardrails.encodings:spellings": of(lambda text: spellings(text[:20_000]), "a", "/", "é"),
    "guardrails.provenance:find_mentions": of(_find_mentions, *HOSTILE, "xn--", "a_", "&#0", "12.", "01/"),
    "guardrails.naming:names_thing": of(
        lambda text: [names_thing(text, "channel", name) for name in ("aaa", "summary")],
        *SENTENCES,
        "channel aaa ",
        "#aaa ",
        '"aaa" ',
    ),
    "guardrails.naming:names_person": of(
        lambda text: names_person(text, "person", ("Ann", "Lee")), *SENTENCES, "Ann ", "Ann Lee "
    ),
    "guardrails.naming:refers_by_alias": of(
        lambda text: refers_by_alias(text, "note", "aaa", capital=True), *SENTENCES, "note aaa ", "called aaa ", "Aaa "
    ),
    "guardrails.provenance:names_resource": of(
        lambda text: [
            names_resource(text, "mail:a@b.co"),
            names_resource(text, "file:a"),
            names_resource(text, "payee:aab aa"),
        ],
        *SENTENCES,
    ),
    "guardrails.provenance:unnamed_resources": of(
        lambda text: unnamed_resources(text, [ResourceAccess(access="read", resource="file:aaa")]), *SENTENCES
    ),
    "guardrails.provenance:requests_action": of(lambda text: requests_action(text, ["pay", "aab"]), *SENTENCES),
    "guardrails.provenance:quotes_all": of(lambda text: quotes_all(text, ["aaa", "pay it"]), *SENTENCES),
    "guardrails.provenance:contained_kinds": of(
        lambda value: contained_kinds(
            value[0], WORDS, (), {"secret": value[1]} if len(value) > 1 else {"s": frozenset(["00000a"])}
        ),
        labelled,
        lambda n: (strings(n),),
        lambda n: (["0" * n],),
        lambda n: (["a@b.co " * (n // 7)],),
    ),
    "guardrails.provenance:argument_texts": of(
        lambda value: [*argument_texts({"a": value}, frozenset(["x"]))], strings, levels
    ),
    "guardrails.provenance:traceable_values": of(traceable_values, strings, *SENTENCES),
    "guardrails.provenance:directory_entries": of(lambda value: directory_entries(LINES, value, WORDS), people),
    "guardrails.provenance:repeated_names": of(
        lambda value: repeated_names({"a": value}, frozenset(f"mail:{text}" for text in value[:50])),
        strings,
        lambda n: [f"a{k}@b.co" for k in range(n // 9)],
    ),
    "guardrails.redaction:Redactor.text": of(lambda text: redactor(SECRET).text(text), *HOSTILE, *KNOWN),
    "guardrails.redaction:Redactor.known": of(lambda text: redactor(SECRET).known(text), *HOSTILE, *KNOWN),
    "guardrails.redaction:Redactor.json_text": of(
        lambda text: redactor(SECRET).json_text(text), *JSONS, *FEW, lambda n: json.dumps(escaped(n))
    ),
    "guardrails.redaction:Redactor.json": of(
        lambda value: redactor(SECRET).json(value), strings, escaped, levels, *FEW
    ),
    "guardrails.redaction:replace_spans": of(
        lambda text: replace_spans(text, [(at, at + 3, "x") for at in range(0, len(text), 2)]), "a"
    ),
    "guardrails.repeated:Values.find_in": of(lambda value: [*Values(value[1]).find_in(value[0][0])], labelled),
    "guardrails.sanitizer:with_visible_characters": of(with_visible_characters, "a", "\u202e", "\U000e0041"),
    "guardrails.sanitizer:valid": of(valid, "a", "\ud800"),
    "guardrails.sanitizer:Sanitizer.text": of(lambda text: sanitizer(PHRASE).text(text), *FEW, "\u202e"),
    "guardrails.sanitizer:Sanitizer.without_known_secrets": of(
        lambda text: sanitizer(PHRASE).without_known_secrets(text), *FEW
    ),
    "guardrails.sanitizer:Sanitizer.answer": of(lambda text: sanitizer(BLOCKED).answer(text), *FEW),
    "guardrails.sanitizer:Sanitizer.json": of(lambda value: sanitizer(PHRASE).json(value), strings, levels, *FEW),
    "guardrails.sanitizer:Sanitizer.blocked": of(
        lambda value: sanitizer(BLOCKED).blocked(value, "result"), strings, *FEW
    ),
    "guardrails.sanitizer:Sanitizer.arguments": of(lambda value: sanitizer().arguments(value), strings, levels),
    "sandbox.egress.requests:parse_head": of(
        parse_head,
        head,
        lambda n: b"GET " + b"a" * n + b"\r\n\r\n",
        lambda n: b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (n // 6) + b"\r\n",
    ),
    "sandbox.egress.requests:parse_authority": of(parse_authority, "a", "a:", "a.", "0x", "xn--"),
    "sandbox.egress.requests:tokens": of(lambda data: [*tokens(data)], lambda n: b"a, " * (n // 3)),
    "sandbox.egress.client_hello:ClientHelloReader.feed": of(piecewise(lambda: ClientHelloReader().feed), hello),
    "sandbox.egress.response_scrubber:Scrubber.clean": of(
        bytes_of(Scrubber(["aaaab", SECRET]).clean), "a", "aaaab", SECRET[:9]
    ),
    "sandbox.egress.response_scrubber:Scrubber.held": of(bytes_of(Scrubber(["aaaab", SECRET]).held), "a", SECRET[:9]),
    "guardrails.grounding.numbers:numbers_of": of(
        numbers_of, *HOSTILE, "1.000", "1 000 ", "1-", "twenty-", "June 5, ", "5 business ", "million ", "\u20ac", "1st"
    ),
    "guardrails.grounding.numbers:units_in": of(units_in, *HOSTILE, "1 day ", "\u20ac"),
    "guardrails.grounding.numbers:Number.states": of(
        lambda text: [one.states(one) for one in numbers_of(text)], "1 ", "June 5, 2020 ", "30 days "
    ),
    "guardrails.grounding.quotes:single_spaced": of(single_spaced, *HOSTILE, " "),
    "guardrails.grounding.quotes:place_of": of(
        lambda text: place_of(text[: len(text) // 2], text, []), "a", "a ", "1 000 "
    ),
    "guardrails.grounding.claims:Grounding": of(grounded, "a ", "1 000 ", "within 30 days "),
    "workspace.answer_contract:AnswerContract.check": of(
        lambda text: AnswerContract(shape=ITEMS).check(text, ()), *JSONS, "```", "\n", fences
    ),
}
for name, finders in formats().items():
    for number, find in enumerate(finders):
        ROWS = {**ROWS, f"guardrails.secret_formats:{name}.{number}": of(find, *HOSTILE)}

# Functions that take no untrusted text, and the reason.
INSIDE: Mapping[str, str] = {
    "guardrails.redaction:secrets_of_environment": "takes names from the settings of this machine",
    "core.parsing.sql:read_only": "played as tables_of, which gives it the names",
    "core.parsing.toml:read_table": "takes what load_toml has read",
    "core.parsing.toml:invalid": "takes words of the code",
    "core.parsing.toml:lines_of": "played as toml_line",
    "core.parsing.toml_fields:duration": "takes a value that its pattern has bounded",
    "core.parsing.toml_fields:size": "takes a value that its pattern has bounded",
    "core.parsing.yaml:table_text": "takes the name of a file",
    "core.parsing.bounded_readers:read_file": "takes the name of a file, whose size is bounded",
    "core.parsing.bounded_readers:read_text": "takes the name of a file, whose size is bounded",
    "core.parsing.bounded_readers:load_yaml": "played as read_rows",
    "core.parsing.bounded_readers:count_of": "takes a number, or a text of at most 19 digits",
    "core.parsing.exact_json:CopyOnRead.get": "takes the name of an argument",
    "core.parsing.json_schema:types_in": "played as types_of",
    "core.parsing.json_schema:compiled": "takes a pattern of a schema that a reviewer pins; what it may become is bounded",
    "guardrails.content_cases:check_content": "plays the reviewer's own cases",
    "guardrails.content_rules:ContentRule.covers": "takes the name of an action",
    "guardrails.content_rules:read_content": "takes what load_toml reads",
    "guardrails.provenance:kind_of": "takes a canonical resource",
    "guardrails.redaction:is_secret_name": "takes one name, with a bounded pattern",
    "core.parsing.json_validation:Mismatch.at": "changes the path only",
    "guardrails.printed_secret:printed_by": "takes what an operator writes, and what a command prints within its bounds",
    "guardrails.redaction:Redactor.learn": "takes secrets, of bounded length",
    "guardrails.sanitizer:Sanitizer.learn": "takes secrets, of bounded length",
    "guardrails.secret_sources:Fetched.present": "takes what an operator writes, and what a command prints within its bounds",
    "guardrails.secret_sources:Fetched.value": "takes what an operator writes, and what a command prints within its bounds",
    "guardrails.secret_sources:SecretSource.of_user": "takes what an operator writes, and the name of a user",
    "guardrails.secrets:RunSecrets.current": "takes names of secrets",
    "guardrails.secrets:RunSecrets.has": "takes names of secrets",
    "guardrails.secrets:RunSecrets.opened": "takes names of secrets",
    "guardrails.secrets:RunSecrets.read": "takes names of secrets",
    "guardrails.secrets:RunSecrets.watch": "takes names of secrets",
    "guardrails.secrets:Secrets.changes": "takes names of secrets",
    "guardrails.secrets:Secrets.get": "takes the name of a secret",
    "guardrails.secrets:Secrets.source": "takes the name of a secret",
    "guardrails.secrets:Secrets.missing": "takes the name of a secret",
    "guardrails.secrets:Secrets.users": "takes the name of a secret",
    "guardrails.secrets:Secrets.values": "takes names of secrets",
    "guardrails.secrets:Secrets.present": "takes names of secrets",
    "guardrails.secrets:Secrets.set": "takes what an operator types",
    "guardrails.secrets:of_user": "takes the names of a secret and of a user",
    "guardrails.secrets:check_value": "takes what an operator types",
    "guardrails.sanitizer:AlreadySanitized.text": "changes nothing",
    "guardrails.sanitizer:AlreadySanitized.answer": "changes nothing",
    "guardrails.sanitizer:AlreadySanitized.without_known_secrets": "changes nothing",
    "guardrails.sanitizer:AlreadySanitized.json": "changes nothing",
    "guardrails.sanitizer:AlreadySanitized.arguments": "changes nothing",
    "sandbox.egress.requests:Head.all": "looks through at most 100 fields",
    "sandbox.egress.requests:RequestReader.complete": "reads a body of bounded size, which h11 takes apart; its head is played in test_own_budget.py",
    "sandbox.egress.requests:malformed": "takes words of the code",
    "sandbox.egress.requests:requested_url": "takes a head whose target is bounded",
    "sandbox.egress.response_scrubber:Body.take": "played as Scrubber.clean and held, piece by piece",
}

PACKAGES = ("core.parsing", "guardrails", "guardrails.grounding")
MODULES = (
    "workspace.manifest.repairs",
    "sandbox.egress.client_hello",
    "tracing.imported.messages",
    "sandbox.egress.requests",
    "sandbox.egress.response_scrubber",
    "workspace.answer_contract",
)


def tried(function: Callable[..., object], *given: object) -> None:
    with suppress(RemitError, Mismatch, Blocked, RecursionError):
        function(*given)


def text_of(text: str | Callable[[int], Any], size: int) -> Any:
    """A piece repeated up to a size, with an end that no pattern can continue with."""
    return text(size) if callable(text) else text * (size // len(text) + 1) + "!"


def seconds(row: Row, value: Any, runs: int) -> float:
    """The smallest processor time of this thread over some runs."""
    times: list[float] = []
    for _ in range(runs):
        begun = time.thread_time()
        tried(row.call, value)
        times.append(time.thread_time() - begun)
    return min(times)


def growth(row: Row, text: str | Callable[[int], Any]) -> tuple[int, float]:
    """The measured size, and the factor in time for a text of 4 times that size; 0 if it is too fast to measure."""
    size = SMALLEST
    while (once := seconds(row, text_of(text, size), 1)) < MEASURABLE_S:
        if size >= LARGEST:
            return size, 0.0
        size *= TIMES
    more = seconds(row, text_of(text, TIMES * size), 1)
    if more < MOST / 2 * once:
        return size, more / once
    # The machine may have been busy: the least of several runs each decides.
    return size, seconds(row, text_of(text, TIMES * size), 3) / seconds(row, text_of(text, size), 5)


@pytest.mark.parametrize("name", ROWS)
def test_functions_that_read_untrusted_text_take_linear_time(name: str) -> None:
    """A text of four times the size takes about four times as long, whatever it contains."""
    row = ROWS[name]
    for text in row.texts:
        size, grown = growth(row, text)
        shown = text if isinstance(text, str) else text(8)
        assert grown < MOST, (
            f"{name} takes {grown:.1f} times as long for {TIMES} times {size} characters like {shown!r}"
        )


def functions() -> Iterator[tuple[str, Any]]:
    """The public functions and methods of the listed modules that take text, by module and name."""
    root = Path(importlib.import_module("remit").__path__[0])
    found = [
        f"{package}.{file.stem}"
        for package in PACKAGES
        for file in sorted((root / package.replace(".", "/")).glob("[a-z]*.py"))
    ]
    for module in (*found, *MODULES):
        members = vars(importlib.import_module(f"remit.{module}"))
        for name, member in members.items():
            if name.startswith("_") or getattr(member, "__module__", "") != f"remit.{module}":
                continue
            inner = vars(member).items() if inspect.isclass(member) else [("", member)]
            for part, function in inner:
                if not part.startswith("_") and takes_text(function):
                    yield f"{module}:{name}.{part}" if part else f"{module}:{name}", function


def takes_text(function: Any) -> bool:
    function = inspect.unwrap(function)
    if not inspect.isfunction(function):
        return False
    texts = ("str", "bytes", "Json", "Reading", "object", "Head")
    given = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    return any(
        word in str(one.annotation).replace("[", " ").replace("]", " ").replace(",", " ").split()
        for one in given
        for word in texts
    )


def test_every_function_that_reads_untrusted_text_is_measured() -> None:
    """A new function needs a row, or a reason why no untrusted text reaches it."""
    found = {name for name, _ in functions()}
    assert len(found) > 50
    assert sorted(found - set(ROWS) - set(INSIDE)) == []
    assert sorted(set(INSIDE) - found) == [], "no longer there"


def test_a_quadratic_function_is_detected() -> None:
    """The counterpart: the measurement distinguishes quadratic from linear time."""

    def quadratic(text: str) -> int:
        return sum(1 for end in range(0, len(text), 8) for at in range(0, end, 8) if text[at] == "b")

    assert growth(of(quadratic, "a"), "a")[1] > MOST
    assert growth(of(str.split, "a "), "a ")[1] < MOST
