"""The canonical names of files, hosts, mail addresses, tables and ids.

Policy, approvals, the sandbox and the trace compare texts. So two spellings of one name become one text here, or are
refused. No code after this module parses what the model wrote.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NoReturn

from remit.core.errors import Refusal
from remit.core.parsing.hidden_characters import BLANK
from remit.core.parsing.urls import canonical_host, canonical_url

SLASHED: Final = frozenset(("document", "run", "store"))  # kinds whose names are ids with / between them

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_LONGEST_PATH = 512
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,127}")
_MAILBOX = re.compile(r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*")
_ESCAPED = re.compile(r"%(?:[0-9A-Fa-f]{2}|[uU][0-9A-Fa-f]{4})")
_UNUSUAL = re.compile(r"[^ -~]|[*?\[\]{}\\]")
_SCHEME = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*:/")


def canonical(kind: str, value: str) -> str:
    """The canonical name of that kind. Raises Refusal `invalid_arguments` if `value` is not the name of one thing.

    Kinds: `file` (relative to the working folder), `http`, `https` (without the query), `host`, `mail`, `table`, `document`,
    `run` and `store` (ids with / between them); the name of any other kind is an id. Ids are not changed.
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
        case _ if kind in SLASHED:
            if len(value) > _LONGEST_PATH or not all(map(_ID.fullmatch, value.split("/"))):
                _not_one(kind, "not_an_id", "write parts of letters, digits and . _ @ + -, with / between them")
            return value
        case "table":
            return _table(value)
        case _:
            if _ID.fullmatch(value) is None:
                _not_one(kind, "not_an_id", "write letters, digits and . _ @ + -, at most 128, a letter or digit first")
            return value


def is_name(kind: str, value: str) -> bool:
    """True if `value` is the canonical name of one thing of that kind, without a slash."""
    try:
        return "/" not in value and canonical(kind, value) == value
    except Refusal:
        return False


def proper_name(kind: str, value: str) -> str:
    """A proper name of one or several words. Raises Refusal `invalid_arguments` if `value` is not one."""
    if not value or len(value) > 128 or value != " ".join(value.split(" ")).strip() or "  " in value:
        _not_one(kind, "length", "write the name in at most 128 characters, with single spaces")
    if bad := _first_bad(value):
        _not_one(kind, bad, "write the plain characters of the name")
    if not unicodedata.is_normalized("NFC", value):
        _not_one(kind, "not_normalised", "write it in Unicode form NFC")
    if "/" in value:
        _not_one(kind, "slash", "write the name without a slash")
    return value


def resource_of(kind: str, value: str, *, proper: bool = False) -> str:
    """The resource that a text names. Raises Refusal `invalid_arguments` if it is not the name of one thing."""
    if kind in ("http", "https"):
        return canonical_url(kind, value).resource
    return f"{kind}:{proper_name(kind, value) if proper else canonical(kind, value)}"


def tables_of(sql: str) -> tuple[str, tuple[str, ...]]:
    """A read-only SQLite query, rendered from its syntax tree, and the base tables that it reads, sorted.

    Raises Refusal `invalid_arguments` for anything but one SELECT, for table-valued functions and for functions that can access
    anything else.
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
    if bad := _first_bad(value):
        _not_one("file", bad, "write the plain characters of the name")
    if BLANK.search(value):
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


def _first_bad(value: str) -> str | None:
    """What is wrong with the first character that no name may have; None if there is none."""
    unusual = (match.group() for match in _UNUSUAL.finditer(value))
    return next((problem for problem in map(_bad_character, unusual) if problem), None)


def _bad_character(character: str) -> str | None:
    """What is wrong with one of the characters that `_UNUSUAL` finds."""
    if character in "*?[]{}":
        return "wildcard"
    if character == "\\":
        return "backslash"
    # Cc, Cf, Cs, Co, Cn: controls, bidirectional and invisible marks, and characters without a fixed glyph; Z*: spaces.
    if unicodedata.category(character)[0] in "CZ":
        return "hidden_character"
    if any(lookalike in "./\\%*?[]{}:~" for lookalike in unicodedata.normalize("NFKC", character)):
        return "lookalike"
    return None


def _mail(value: str) -> str:
    # RFC 5321 section 2.4 allows a host to distinguish upper and lower case before the @, and advises against it.
    local, at, domain = value.lower().partition("@")
    if not at or _MAILBOX.fullmatch(local) is None or len(local) > 64:
        _not_one("mail", "not_an_address", "write one plain address such as ann@example.com")
    host = canonical_host("mail", domain)
    if host.startswith("[") or host[-1].isdigit() or len(local) + 1 + len(host) > 254:
        _not_one("mail", "not_an_address", "write one plain address such as ann@example.com")
    return f"{local}@{host}"


def _table(value: str) -> str:
    name = value.lower() if value.isascii() else value  # SQLite ignores case, also in quoted names
    name = name.removeprefix("main.")
    name = "sqlite_schema" if name == "sqlite_master" else name
    # SQLite's own tables give access to all others (sqlite_dbpage is every byte of the file), and pragma_* execute a command.
    own = name.startswith(("sqlite_", "pragma_")) and name != "sqlite_schema"
    if own or _TABLE.fullmatch(name) is None:
        _not_one("table", "not_a_table", "write the plain name of one table of the database")
    return name


def _not_one(kind: str, problem: str, fix: str) -> NoReturn:
    raise Refusal("invalid_arguments", f"not the name of one {kind}: {fix}", details={"kind": kind, "problem": problem})
