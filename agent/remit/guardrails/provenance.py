"""Provenance (taint tracking): what the user and the directory named, and what a text contains beyond that.

The user's words are the task as it was given. The directory holds names from results that were returned before the run read
anything untrusted (`journal/reducer.py`). Names are typed: a URL is named only by that URL, and "June 13" names no file 13.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from remit.core import Json, Listing, Refusal, ResourceAccess
from remit.core.parsing import URL_KINDS, canonical_url, leaves, resource_of
from remit.guardrails.naming import names_person, names_thing, refers_by_alias
from remit.guardrails.remembered import Remembered
from remit.guardrails.repeated import Values

UNTRUSTED: Final = "untrusted"  # the label of results that contain untrusted text
LINK: Final = "link"
ADDRESS: Final = "address"
ACCOUNT: Final = "account"

SHORTEST_ID: Final = 3  # characters; a shorter name is too easily part of the words by accident
SHORTEST_NUMBER: Final = 5  # digits of an id; a shorter number can be a day, a count or a year
SHORTEST_ACCOUNT: Final = 9  # digits; a number of this length is an account, a card or a telephone number
SHORTEST_VALUE: Final = 6  # characters of a labelled value; shorter ones are not searched for
MOST_COMPARED: Final = 200_000_000  # names in a result times characters of the arguments: the bound of one comparison
MOST_PARTS: Final = 16  # words of an alias; of a longer one only the whole is compared
REMEMBERED: Final = 2 << 20  # characters of texts whose results are cached
MOST_MARKS: Final = 3  # combining marks that are kept on one letter

_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"  # or a month: "3/4" is written in both orders
_STAMP = re.compile(
    rf"(?<!\d)(?:(?:19|20)\d\d-(?:0?[1-9]|1[0-2])-{_DAY}(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d{{1,6}})?)?Z?)?"
    rf"|{_DAY}[./]{_DAY}[./](?:(?:19|20)\d\d|\d\d))(?!\d)"
)
_SCHEMED = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,15}://[^\s<>\"'`\\]+")
# A host without a scheme, in any script. It ends where the next sentence begins without a space, as in "example.com.They".
_BARE = re.compile(
    r"(?<![\w.-])(?:(?:[a-z0-9-]+\.)+(?:xn--[a-z0-9-]{2,59}|[a-z]{2,24})(?![_-]*[a-z0-9])"
    r"|(?:[\w-]+\.)+[^\W\d_]{2,24}(?![_-]*[^\W_]))(?::\d+)?(?:/[^\s<>\"'`\\]*)?"
)
_DIALLED = re.compile(
    r"(?<![^\W_])(?<!\.)(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]{3,}\])(?![^\W_]|\.\w)(?::\d+)?(?:/[^\s<>\"'`\\]*)?"
)
_LOOSE = re.compile(r"@|\.{2,}|(?<!\w)\.")  # rests of malformed addresses, and dots that belong to no name
_NUMBER = re.compile(rf"\+?\d(?:[ ()/\u2010-\u2015\u2212-]{{0,2}}\d){{{SHORTEST_ACCOUNT - 1},}}")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_ENTITY = re.compile(r"&(?:#0*(\d{1,7});?|#[xX]0*([0-9a-fA-F]{1,6});?|[A-Za-z][A-Za-z0-9]{1,31};)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PLAIN = re.compile(r"[^0-9A-Za-z]")
_APART = re.compile(r"[-_\s]+")
_EXTENSION = re.compile(r"\.\w{1,5}$")
_ENDING: Final = ".,;:!?)]}>'\""
# Extensions that mark a name with a dot as a file. Extensions that are top-level domains too (zip, sh, md, py) are left out.
_FILES: Final = frozenset(
    ("csv", "doc", "docx", "gif", "htm", "html", "ics", "jpeg", "jpg", "js", "json", "log", "odt", "pdf", "png", "ppt", "pptx", "svg",
     "toml", "tsv", "txt", "xls", "xlsx", "xml", "yaml", "yml")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mentions:
    """The typed names in a text: links without scheme, addresses in lower case, account numbers without punctuation."""

    links: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()


def find_mentions(text: str) -> Mentions:
    """Every link, address and account number in the text."""
    return _MENTIONS(text)


def _find_mentions(text: str) -> Mentions:
    rest, addresses, links = _normalized(text), set[str](), set[str]()
    # INVARIANT: each kind is removed from the text before the next one is searched for, so nothing is counted twice. Links with
    # a scheme are first, because a link can contain an address.
    for match in _SCHEMED.finditer(rest):
        links.add(_comparable_link(match.group()))
    rest = _SCHEMED.sub(" ", rest)
    for match in _MAIL.finditer(rest):
        addresses.add(match.group().lower().rstrip("."))
    rest = _LOOSE.sub(" ", _MAIL.sub(" ", rest))
    for match in _BARE.finditer(rest):
        if not _is_file_name(match.group()):
            links.add(_comparable_link(match.group()))
    rest = _BARE.sub(" ", rest)
    links.update(_comparable_link(match.group()) for match in _DIALLED.finditer(rest))
    # Dates are removed, because a date with a time has enough digits for an account number.
    rest = _STAMP.sub(" ", _DIALLED.sub(" ", rest))
    accounts = {_alphanumeric(match.group()) for match in _IBAN.finditer(rest)}
    accounts |= {_alphanumeric(match.group()) for match in _NUMBER.finditer(_IBAN.sub(" ", rest))}
    return Mentions(links=frozenset(links), addresses=frozenset(addresses), accounts=frozenset(accounts))


_MENTIONS: Final = Remembered(_find_mentions, most=REMEMBERED)


def names_resource(words: str, resource: str, directory: Collection[str] = ()) -> bool:
    """True if the words name the resource as a thing of its kind. A set of resources is named by its own name.

    An ordinary word alone names nothing (`naming.py`).
    """
    kind, _, name = resource.partition(":")
    # URLs, addresses and numbers are typed by their form, so their presence is enough; other names need evidence.
    if kind in URL_KINDS or kind == "mail" or name.isdigit() or len(name) < SHORTEST_ID:
        return _contains_name(words, resource)
    return names_thing(words, kind, name, directory) or _contains_account(words, name)


def _contains_name(words: str, resource: str) -> bool:
    """True if the words contain the name of the resource, in whatever meaning."""
    kind, _, name = resource.partition(":")
    if kind in URL_KINDS:
        return _comparable_link(resource) in find_mentions(words).links
    if kind == "mail":
        return name in find_mentions(words).addresses
    if name.isdigit():
        return len(name) >= SHORTEST_NUMBER and (_contains_word(words, name) or name in find_mentions(words).accounts)
    if kind == "file":
        return _contains_word(words, name)
    if len(name) < SHORTEST_ID:
        return False
    return (
        _contains_word(words, name)
        or (" " in name and _contains_word(words.casefold(), name.casefold()))
        or _contains_account(words, name)
    )


def unnamed_resources(
    words: str, touches: Iterable[ResourceAccess], directory: Collection[str] = ()
) -> tuple[str, ...]:
    """The resources that the model chose and the words do not name. The directory decides which ordinary words are names.

    A first and a last name side by side name a person that is stored as two resources of one kind.
    """
    chosen = [touch for touch in touches if not touch.fixed]
    whole = _named_people(words, chosen) if len(chosen) > 1 else ()
    return tuple(
        touch.resource
        for touch in chosen
        if touch.kind not in whole and not names_resource(words, touch.resource, directory)
    )


def _named_people(words: str, chosen: Iterable[ResourceAccess]) -> Collection[str]:
    """The kinds of which the words name one person by two resources."""
    parts_of: dict[str, list[str]] = {}
    for touch in chosen:
        parts_of.setdefault(touch.kind, []).append(touch.name)
    return {kind for kind, parts in parts_of.items() if names_person(words, kind, parts)}


def requests_action(words: str, means: Iterable[str]) -> bool:
    """True if the words contain one of the request words of an action (`means`), in any case, singular or plural."""
    return (found := _asked_by(tuple(means))) is not None and found.search(words.casefold()) is not None


@lru_cache(maxsize=1024)
def _asked_by(means: tuple[str, ...]) -> re.Pattern[str] | None:
    each = "|".join(re.escape(word.casefold()) for word in means)
    return re.compile(rf"(?<!\w)(?:{each})s?(?!\w)") if each else None


def quotes_all(words: str, texts: Iterable[str]) -> bool:
    """True if the words contain each of the texts as a whole. An empty text is never contained."""
    return all(_contains_word(words, text) for text in texts)


def contained_kinds(
    texts: Iterable[str], words: str, directory: Iterable[str], values: Mapping[str, frozenset[str]]
) -> frozenset[str]:
    """The kinds of names in the texts that neither the words nor the directory has: "link", "address", "account", and labels.

    `values` maps a label to the values of results with that label; a text that repeats such a value contains the label. The value
    "" stands for values that nobody kept: every text contains it.
    """
    named = find_mentions(words)
    listed = frozenset(directory)
    own = _compact(words) if values else ""
    kinds: set[str] = set()
    for text in texts:
        in_text = find_mentions(text)
        links = in_text.links - named.links
        if links and not links <= {_comparable_link(name) for name in listed if name.partition(":")[0] in URL_KINDS}:
            kinds.add(LINK)
        if any(f"mail:{address}" not in listed for address in in_text.addresses - named.addresses):
            kinds.add(ADDRESS)
        accounts = in_text.accounts - named.accounts
        if accounts and not accounts <= {_alphanumeric(name.partition(":")[2]) for name in listed}:
            kinds.add(ACCOUNT)
        compact = _compact(text) if values else ""
        for label, held in values.items():
            # A value that the user wrote too is the user's own, so repeating it reveals nothing.
            if label not in kinds and ("" in held or any(value not in own for value in _values(held).find_in(compact))):
                kinds.add(label)
    return frozenset(kinds)


@lru_cache(maxsize=16)
def _values(held: frozenset[str]) -> Values:
    return Values(held)


def kind_of(resource: str) -> str:
    """The kind of a resource: "mail" for `mail:ann@example.com`, "https" for a URL."""
    return resource.partition(":")[0]


def argument_texts(arguments: Mapping[str, Json], names: Collection[str]) -> Iterator[str]:
    """Every text in the arguments except `names`, the names of resources that the call touches."""
    return (text for value in arguments.values() for text in _leaf_texts(value) if text not in names)


def _leaf_texts(value: Json) -> Iterator[str]:
    """The leaves of a JSON value as texts: numbers and booleans as JSON writes them, an empty list or object as ""."""
    for leaf in leaves(value):
        if isinstance(leaf, str):
            yield leaf
        elif isinstance(leaf, dict | list | tuple):
            yield ""
        elif isinstance(leaf, int | float):
            yield str(leaf).lower()


def traceable_values(value: Json) -> frozenset[str]:
    """The values of a labelled result that identify it in later texts: short values with a digit, and names in long texts.

    They are normalized as `_compact` normalizes the texts: upper case, without hyphens and spaces. Values without a digit are
    left out, because ordinary words occur in texts by accident.
    """
    found: set[str] = set()
    for text in _leaf_texts(value):
        if SHORTEST_VALUE <= len(text) <= 64 and any(map(str.isdigit, text)):
            found.add(text)
        found.update(_MAIL.findall(text))
        found.update(match.group() for match in _NUMBER.finditer(_STAMP.sub(" ", text)))
        found.update(match.group() for match in _IBAN.finditer(text))
    compact = (_APART.sub("", _normalized(text)).upper() for text in found)
    return frozenset(text for text in compact if len(text) >= SHORTEST_NUMBER)


def directory_entries(
    lines: Iterable[Listing], value: Json, words: str, directory: Collection[str] = ()
) -> frozenset[str]:
    """The resources that a result adds to the directory; a value that is not a valid name of its kind is left out.

    A line with an alias adds only items that the user's words mention by that alias, and only if the alias is unique there.
    """
    found: set[str] = set()
    for line in lines:
        for item in _items_by_alias(line, value, words, directory) if line.alias else _values_at(value, line.path):
            if line.links and isinstance(item, str):
                names = [f"{line.kind}://{link}" for link in find_mentions(item).links]
            elif isinstance(item, str | int) and not isinstance(item, bool):
                names = [str(item)]
            else:
                continue
            for name in names:
                with suppress(Refusal):
                    found.add(resource_of(line.kind, name, proper=line.proper))
                    if line.links:  # the link with its query too; the resource has no query
                        found.add(canonical_url(line.kind, name).address)
    return frozenset(found)


def repeated_names(arguments: Mapping[str, Json], names: Collection[str]) -> frozenset[str]:
    """The names that the arguments contain already; all of them if the comparison would take too long."""
    texts = [text for value in arguments.values() for text in _leaf_texts(value)] if names else []
    whole, joined = set(texts), "\n".join(texts)  # no name contains a line break
    if len(names) * len(joined) > MOST_COMPARED:
        return frozenset(names)
    return frozenset(name for name in names if name.partition(":")[2] in whole or _contains_name(joined, name))


def _items_by_alias(line: Listing, value: Json, words: str, directory: Collection[str]) -> Iterator[Json]:
    """The names in the items that the words mention by their alias.

    An alias of two items names neither, because an attacker can give a thing the name of another one. Links are the exception:
    they belong to their sender, and nobody can take the name of another sender.
    """
    # Name and alias are paths into the result; their common beginning leads to the item.
    depth = next((at for at, pair in enumerate(zip(line.path, line.alias, strict=False)) if pair[0] != pair[1]), 0)
    by_alias: dict[str, list[Json]] = {}
    for item in _values_at(value, line.path[:depth]):
        alias = next((text for text in _values_at(item, line.alias[depth:]) if isinstance(text, str)), "")
        phrase = _matched_phrase(words, alias)
        if phrase and (" " in phrase or _refers_to_alias(line, words, alias, directory)):
            by_alias.setdefault(phrase, []).append(item)
    for items in by_alias.values():
        for item in items if line.links or len(items) == 1 else ():
            yield from _values_at(item, line.path[depth:])


def _refers_to_alias(line: Listing, words: str, alias: str, directory: Collection[str]) -> bool:
    if line.links:  # senders choose their own handle, so a capital letter in the words is not enough evidence
        return refers_by_alias(words, "person", alias, directory, capital=False)
    return refers_by_alias(words, line.kind, alias, directory, capital=True)


def _matched_phrase(words: str, alias: str) -> str:
    """The words, in lower case, by which the user mentions the thing with this alias; "" if the user does not.

    They are the whole alias, or at least two of its words in a row and half of it: "grocery list" is `grocery-list-today.docx`.
    """
    if len(alias) < SHORTEST_ID or alias.isdigit():
        return ""
    if _contains_word(words.casefold(), alias.casefold()):
        return alias.casefold()
    parts = _APART.sub(" ", _EXTENSION.sub("", alias)).strip().casefold().split(" ")
    if len(parts) > MOST_PARTS:  # an attacker can choose a long alias to make this slow
        return ""
    text = _SEPARATED(words)
    most = min(len(parts), text.count(" ") + 1)
    for size in range(most, max(2, -(-len(parts) // 2)) - 1, -1):
        for at in range(len(parts) - size + 1):
            if _contains_word(text, phrase := " ".join(parts[at : at + size])):
                return phrase
    return ""


_SEPARATED: Final = Remembered(lambda words: _APART.sub(" ", words).casefold(), most=REMEMBERED)


def _values_at(value: Json, path: Sequence[str]) -> Iterator[Json]:
    """The values at a path into a JSON value; "*" stands for every item or member, "@" for every key."""
    if not path:
        yield value
        return
    first, rest = path[0], path[1:]
    if first == "@" and isinstance(value, dict):
        yield from cast("dict[str, Json]", value)
    elif first == "*" and isinstance(value, list | dict):
        items = cast("Iterable[Json]", value)
        if isinstance(value, dict):
            items = cast("dict[str, Json]", value).values()
        for item in items:
            yield from _values_at(item, rest)
    elif isinstance(value, dict) and first in value:
        yield from _values_at(cast("dict[str, Json]", value)[first], rest)


def _contains_word(words: str, name: str) -> bool:
    """True if the words contain the name as a whole."""
    # A part of a longer name is not a match: neither `secret/a.md` nor `a.md.bak` names `a.md`.
    return (
        bool(name)
        and name in words
        and re.search(rf"(?<![\w./@:%+*-]){re.escape(name)}(?![\w/@:%+*-]|\.\w)", words) is not None
    )


def _contains_account(words: str, name: str) -> bool:
    if not (accounts := find_mentions(words).accounts):
        return False
    # Letters of other scripts would be dropped like punctuation.
    numbered = name.isascii() and sum(map(str.isdigit, name)) >= SHORTEST_NUMBER
    return numbered and _alphanumeric(name) in accounts


def _normalized(text: str) -> str:
    """The text as its reader sees it: HTML entities decoded, wide letters and other digits in ASCII, invisible characters removed.

    Without this, an attacker could write an address that a reader follows and that a search does not find.
    """
    text = _ENTITY.sub(_character, text) if "&" in text else text
    if text.isascii():
        return _CONTROL.sub("", text)
    kept: list[str] = []
    marks = 0
    for character in text.replace("\u3002", ".").replace("\uff61", "."):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MOST_MARKS:  # NFKC sorts the marks of a letter in quadratic time: half a million would take minutes
            kept.append(character)
    plain = unicodedata.normalize("NFKC", "".join(kept))
    shown = (character for character in plain if unicodedata.category(character) not in ("Cf", "Mn", "Me"))
    return _CONTROL.sub("", "".join(str(unicodedata.decimal(character, character)) for character in shown))


def _character(match: re.Match[str]) -> str:
    """The character of an HTML entity. Leading zeros are dropped, because `int` refuses numbers of thousands of digits."""
    if match[1]:
        return html.unescape(f"&#{match[1]};")
    return html.unescape(f"&#x{match[2]};" if match[2] else match[0])


def _comparable_link(text: str) -> str:
    """A link in its form for comparison: without scheme and closing punctuation, the host in lower case."""
    rest = text.partition("://")[2] if "://" in text else text
    host, slash, path = rest.rstrip(_ENDING).lstrip("_-").partition("/")
    return f"{host.lower()}{slash}{path}".rstrip("/")


def _compact(text: str) -> str:
    """The text normalized for the search of labelled values: upper case, without hyphens and spaces."""
    return _COMPACT(text)


_COMPACT: Final = Remembered(lambda text: _APART.sub("", _normalized(text)).upper(), most=REMEMBERED)


def _is_file_name(text: str) -> bool:
    return "/" not in text and text.rpartition(".")[2].lower() in _FILES


def _alphanumeric(text: str) -> str:
    return _PLAIN.sub("", text).upper()
