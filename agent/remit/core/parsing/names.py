"""One value, one spelling: strict JSON in, canonical JSON and canonical names out.

Policy, approvals, the sandbox and the trace compare strings; so two spellings of one thing become one string here, or are
refused. Nothing after this module parses what the model wrote again.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, cast

import rfc8785

from remit.core.errors import Refusal
from remit.core.parsing.urls import canonical_host, canonical_url

if TYPE_CHECKING:  # `remit.call` loads pydantic, and `remit --help` does not need it
    from collections.abc import Iterable

    from remit.core.calls import Json

LONGEST_ARGUMENTS: Final = 1024 * 1024  # bytes of UTF-8
DEEPEST: Final = 32  # objects and arrays inside each other
LARGEST_INTEGER: Final = 2**53 - 1  # RFC 8785 section 3.2.2.3: what every reader keeps exactly
WRITTEN_AS_INTEGER: Final = 1e21  # RFC 8785 writes larger numbers with an exponent

_plain_json: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False
).encode

# A string that never ends is taken to the end of the text: trying again at each of its quotes would be quadratic.
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[][{}]', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,127}")
_MAILBOX = re.compile(r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*")
_ESCAPED = re.compile(r"%(?:[0-9A-Fa-f]{2}|[uU][0-9A-Fa-f]{4})")
_SCHEME = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*:/")
# Characters that are drawn as nothing although Unicode calls them letters or marks (DerivedCoreProperties.txt,
# Default_Ignorable_Code_Point; U+2800 is a blank braille cell).
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


# -- JSON --------------------------------------------------------------------------------------------------------------


def parse_arguments(text: str) -> dict[str, Json]:
    """The JSON object that the model wrote, or `invalid_arguments`; `details` name the problem and, where known, its offset.

    A whole number has one spelling, so `5.0` is the integer 5. Refused: whatever two readers might read differently
    (duplicate keys, NaN, numbers that no reader keeps exactly, lone surrogates), more than 1 MiB, more than 32 levels.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        _not_json("not_object", "the arguments must be one JSON object")
    return cast("dict[str, Json]", value)


def parse_json(text: str) -> Json:
    """Any JSON value, read as strictly as arguments are."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as failure:
        _not_json("lone_surrogate", "the text is not valid Unicode", failure.start)
    if size > LONGEST_ARGUMENTS:
        _not_json("too_long", f"the text is longer than {LONGEST_ARGUMENTS} bytes")
    if text.startswith("\ufeff"):
        _not_json("byte_order_mark", "the text starts with a byte order mark", 0)
    _check_depth(text)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as failure:
        problem = "trailing_text" if failure.msg == "Extra data" else "not_json"
        _not_json(problem, f"the text is not JSON: {failure.msg.lower()}", failure.pos)
    _check_strings(value)
    return value


def canonical_json(value: Json) -> bytes:
    """RFC 8785: the one way to write this value; `invalid_arguments` where JSON cannot say it."""
    try:
        if _is_plain(value):
            with suppress(UnicodeEncodeError):
                return _plain_json(value).encode()
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as failure:
        raise Refusal(
            "invalid_arguments", "the value cannot be written as canonical JSON", details={"problem": "not_canonical"}
        ) from failure


def _is_plain(value: object) -> bool:
    """Whether Python's own encoder, which takes a tenth of the time, writes it as RFC 8785 does.

    Floats are written otherwise there, and keys sorted by UTF-16, which is the order of characters where they are ASCII.
    """
    kind = type(value)
    if kind is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str or not key.isascii() or not _is_plain(item):
                return False
        return True
    if kind is list or kind is tuple:
        for item in cast("list[object]", value):  # noqa: SIM110 - a generator would double the time
            if not _is_plain(item):
                return False
        return True
    return kind is str or value is None or kind is bool or (kind is int and abs(cast("int", value)) <= LARGEST_INTEGER)


def digest(value: Json) -> str:
    """`sha256:` and 64 hex digits over the canonical JSON."""
    return digest_bytes(canonical_json(value))


def digest_bytes(data: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _check_depth(text: str) -> None:
    """Count brackets outside strings, so that the parser never recurses further than `DEEPEST`."""
    depth = 0
    for token in _STRUCTURE.finditer(text):
        match token.group():
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case _:
                continue
        if depth > DEEPEST:
            _not_json("too_deep", f"objects and arrays are nested deeper than {DEEPEST}", token.start())


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        _not_json("duplicate_key", "an object has the same key twice")
    return value


def _integer(digits: str) -> int:
    # Compared by length first: Python refuses to turn thousands of digits into an integer.
    if len(digits) > 17 or abs(number := int(digits)) > LARGEST_INTEGER:
        _not_json("number_out_of_range", f"a whole number is beyond ±{LARGEST_INTEGER}; write it as a string")
    return number


def _float(digits: str) -> float | int:
    number = float(digits)
    if number.is_integer() and abs(number) <= LARGEST_INTEGER:
        return int(number)
    if abs(number) == float("inf") or LARGEST_INTEGER < abs(number) < WRITTEN_AS_INTEGER:
        _not_json("number_out_of_range", "a number is larger than JSON readers keep exactly; write it as a string")
    return number


def _constant(_name: str) -> NoReturn:
    _not_json("not_finite", "NaN and Infinity are not JSON")


def _check_strings(value: Json) -> None:
    stack: list[Json] = [value]
    while stack:
        item: Json = stack.pop()
        if isinstance(item, str) and _SURROGATE.search(item):
            _not_json("lone_surrogate", "a string holds half a character")
        if isinstance(item, list | dict):
            stack.extend(cast("Iterable[Json]", item))
        if isinstance(item, dict):
            stack.extend(cast("dict[str, Json]", item).values())


def _not_json(problem: str, message: str, at: int | None = None) -> NoReturn:
    details = {"problem": problem} if at is None else {"problem": problem, "at": at}
    raise Refusal("invalid_arguments", message, details=details)


# -- names -------------------------------------------------------------------------------------------------------------


def canonical(kind: str, value: str) -> str:
    """The one name of the thing of that kind that `value` spells; `invalid_arguments` where it is not one thing.

    Kinds: `file` (relative to the working folder), `http`, `https` (without the query), `host`, `mail`, `table`; any
    other kind is an id, kept as it is.
    """
    match kind:
        case "file":
            return _file(value)
        case "http" | "https":
            return canonical_url(kind, value).resource
        case "host":
            return canonical_host(kind, value)
        case "mail":
            return _mail(value)
        case "table":
            return _table(value)
        case _:
            if _ID.fullmatch(value) is None:
                _not_one(kind, "not_an_id", "write letters, digits and . _ @ + -, at most 128, a letter or digit first")
            return value


def proper_name(kind: str, value: str) -> str:
    """The one spelling of a proper name, of one or several words; `invalid_arguments` where it is not one."""
    if not value or len(value) > 128 or value != " ".join(value.split(" ")).strip() or "  " in value:
        _not_one(kind, "length", "write the name in at most 128 characters, with single spaces")
    if bad := next((problem for problem in map(_bad_character, value) if problem), None):
        _not_one(kind, bad, "write the plain characters of the name")
    if not unicodedata.is_normalized("NFC", value):
        _not_one(kind, "not_normalised", "write it in Unicode form NFC")
    if "/" in value:
        _not_one(kind, "slash", "write the name without a slash")
    return value


def resource_of(kind: str, value: str, *, proper: bool = False) -> str:
    """The resource that a text names; `invalid_arguments` where it does not name one thing of its kind."""
    if kind in ("http", "https"):
        return canonical_url(kind, value).resource
    return f"{kind}:{proper_name(kind, value) if proper else canonical(kind, value)}"


def tables_of(sql: str) -> tuple[str, tuple[str, ...]]:
    """One reading query of SQLite, rendered from its tree, and the base tables it reads, sorted.

    `invalid_arguments` for anything but one SELECT, for table-valued functions and for functions that reach outside.
    """
    from remit.core.parsing.sql import read_only  # noqa: PLC0415 - sqlglot takes 200 ms to load, and only calls with SQL need it

    return read_only(sql, _table)


def _file(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        _not_one("file", "lone_surrogate", "the name is not valid Unicode")
    if not value or size > 4096:
        _not_one("file", "length", "a name has 1 to 4096 bytes")
    if value.startswith(("/", "~")) or _SCHEME.match(value):
        _not_one("file", "absolute", "write it relative to the working folder")
    if bad := next((problem for problem in map(_bad_character, value) if problem), None):
        _not_one("file", bad, "write the plain characters of the name")
    if _BLANK.search(value):
        _not_one("file", "hidden_character", "write the plain characters of the name")
    if _ESCAPED.search(value):
        _not_one("file", "percent_escape", "write the character itself")
    if not unicodedata.is_normalized("NFC", value):
        _not_one("file", "not_normalised", "write it in Unicode form NFC")
    parts = [part for part in value.split("/") if part not in ("", ".")]
    for part in parts:
        if part == "..":
            _not_one("file", "parent_folder", "name it without '..'")
        if part.endswith((".", " ")) or part.startswith(" "):
            _not_one("file", "dot_or_space_at_end", "no part may end in a dot, or start or end in a space")
        if len(part.encode()) > 255:
            _not_one("file", "length", "a part of a name has at most 255 bytes")
    return "/".join(parts) or "."


def hidden_character(text: str, *, but: str = "") -> str | None:
    """The first character of the text that nobody sees for what it is, as `U+202E`; None where there is none.

    Controls except those in `but`, bidirectional, invisible and tag characters, blanks, and spaces that are not the space.
    """
    if text.isascii() and text.isprintable():
        return None
    return next(
        (f"U+{ord(character):04X}" for character in text if character not in but and _is_hidden(character)), None
    )


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    hidden = category in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") or (category == "Zs" and character != " ")
    return hidden or _BLANK.fullmatch(character) is not None


def _bad_character(character: str) -> str | None:
    if character in "*?[]{}":
        return "wildcard"
    if character == "\\":
        return "backslash"
    if character == " " or (character.isascii() and character.isprintable()):
        return None
    # Cc, Cf, Cs, Co, Cn: controls, bidirectional and invisible marks, and what no font agrees on; Z*: other spaces.
    if unicodedata.category(character)[0] in "CZ":
        return "hidden_character"
    if any(lookalike in "./\\%*?[]{}:~" for lookalike in unicodedata.normalize("NFKC", character)):
        return "lookalike"
    return None


def _mail(value: str) -> str:
    # RFC 5321 section 2.4 lets a host tell cases of the first part apart, and advises against it: one person, one name.
    local, at, domain = value.lower().partition("@")
    if not at or _MAILBOX.fullmatch(local) is None or len(local) > 64:
        _not_one("mail", "not_an_address", "write one plain address such as ann@example.com")
    host = canonical_host("mail", domain)
    if host.startswith("[") or host[-1].isdigit() or len(local) + 1 + len(host) > 254:
        _not_one("mail", "not_an_address", "write one plain address such as ann@example.com")
    return f"{local}@{host}"


def _table(value: str) -> str:
    name = value.lower() if value.isascii() else value  # SQLite tells no cases apart, quoted or not
    name = name.removeprefix("main.")
    name = "sqlite_schema" if name == "sqlite_master" else name
    # SQLite's own tables reach past the others (sqlite_dbpage is every byte of the file), and pragma_* run a command.
    own = name.startswith(("sqlite_", "pragma_")) and name != "sqlite_schema"
    if own or _TABLE.fullmatch(name) is None:
        _not_one("table", "not_a_table", "write the plain name of one table of the database")
    return name


def _not_one(kind: str, problem: str, fix: str) -> NoReturn:
    raise Refusal("invalid_arguments", f"not the name of one {kind}: {fix}", details={"kind": kind, "problem": problem})
