"""What the user's own words and the directory name, and what a text carries that neither of them does.

The words are the task as it was given, before anything else was read; the directory is what actions that may fill it
returned before anything untrusted was read (`journal/reducer.py`). Names are typed: an address is named by that address, a URL by that
URL, and "June 13" names no file 13.
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

UNTRUSTED: Final = "untrusted"  # the label of what somebody else wrote
LINK: Final = "link"
ADDRESS: Final = "address"
ACCOUNT: Final = "account"

SHORTEST_ID: Final = 3  # characters of a name that can be told from other words
SHORTEST_NUMBER: Final = 5  # digits of an id that can be told from a day, a count or a year
SHORTEST_ACCOUNT: Final = 9  # digits of a number that is an account, a card or a telephone
SHORTEST_VALUE: Final = 6  # characters of a labelled value that is looked for in texts
MOST_COMPARED: Final = (
    200_000_000  # names of a result, times the characters of the arguments that may have written them
)
MOST_PARTS: Final = 16  # words of a name of which some may stand for it
REMEMBERED: Final = 2 << 20  # characters of texts of which it is kept what they mention
MOST_MARKS: Final = 3  # accents on one letter

_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"  # or a month: which comes first is the writer's custom
_STAMP = re.compile(
    rf"(?<!\d)(?:(?:19|20)\d\d-(?:0?[1-9]|1[0-2])-{_DAY}(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d{{1,6}})?)?Z?)?"
    rf"|{_DAY}[./]{_DAY}[./](?:(?:19|20)\d\d|\d\d))(?!\d)"
)
_SCHEMED = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,15}://[^\s<>\"'`\\]+")
# A host in capitals throughout, or up to where a sentence begins without a space: "example.com.They". Of any script.
_BARE = re.compile(
    r"(?<![\w.-])(?:(?:[a-z0-9-]+\.)+(?:xn--[a-z0-9-]{2,59}|[a-z]{2,24})(?![_-]*[a-z0-9])"
    r"|(?:[\w-]+\.)+[^\W\d_]{2,24}(?![_-]*[^\W_]))(?::\d+)?(?:/[^\s<>\"'`\\]*)?"
)
_DIALLED = re.compile(
    r"(?<![^\W_])(?<!\.)(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]{3,}\])(?![^\W_]|\.\w)(?::\d+)?(?:/[^\s<>\"'`\\]*)?"
)
_LOOSE = re.compile(r"@|\.{2,}|(?<!\w)\.")  # what is left of an odd address, and dots that are in no name
_NUMBER = re.compile(rf"\+?\d(?:[ ()/\u2010-\u2015\u2212-]{{0,2}}\d){{{SHORTEST_ACCOUNT - 1},}}")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_ENTITY = re.compile(r"&(?:#0*(\d{1,7});?|#[xX]0*([0-9a-fA-F]{1,6});?|[A-Za-z][A-Za-z0-9]{1,31};)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PLAIN = re.compile(r"[^0-9A-Za-z]")
_APART = re.compile(r"[-_\s]+")
_EXTENSION = re.compile(r"\.\w{1,5}$")
_ENDING: Final = ".,;:!?)]}>'\""
# What a name with a dot ends in where it is a file's; endings that hosts have too (zip, sh, md, py) are left out.
_FILES: Final = frozenset(
    ("csv", "doc", "docx", "gif", "htm", "html", "ics", "jpeg", "jpg", "js", "json", "log", "odt", "pdf", "png", "ppt", "pptx", "svg",
     "toml", "tsv", "txt", "xls", "xlsx", "xml", "yaml", "yml")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mentions:
    """The typed names in a text: links without their scheme, addresses in lower case, accounts without punctuation."""

    links: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()


def find_mentions(text: str) -> Mentions:
    """Every link, address and account number in the text."""
    return _MENTIONS(text)


def _find_mentions(text: str) -> Mentions:
    rest, addresses, links = _normalized(text), set[str](), set[str]()
    for found in _SCHEMED.finditer(rest):  # first, because a link may hold an address
        links.add(_comparable_link(found.group()))
    rest = _SCHEMED.sub(" ", rest)
    for found in _MAIL.finditer(rest):
        addresses.add(found.group().lower().rstrip("."))
    rest = _LOOSE.sub(" ", _MAIL.sub(" ", rest))
    for found in _BARE.finditer(rest):
        if not _is_file_name(found.group()):
            links.add(_comparable_link(found.group()))
    rest = _BARE.sub(" ", rest)
    links.update(_comparable_link(found.group()) for found in _DIALLED.finditer(rest))
    rest = _STAMP.sub(" ", _DIALLED.sub(" ", rest))
    accounts = {_alphanumeric(found.group()) for found in _IBAN.finditer(rest)}
    accounts |= {_alphanumeric(found.group()) for found in _NUMBER.finditer(_IBAN.sub(" ", rest))}
    return Mentions(links=frozenset(links), addresses=frozenset(addresses), accounts=frozenset(accounts))


_MENTIONS: Final = Remembered(_find_mentions, most=REMEMBERED)


def names_resource(words: str, resource: str, directory: Collection[str] = ()) -> bool:
    """Whether the words name that resource, typed by its kind; a set of resources is named by its own name.

    An ordinary word names nothing by itself (`naming.py`).
    """
    kind, _, name = resource.partition(":")
    if kind in URL_KINDS or kind == "mail" or name.isdigit() or len(name) < SHORTEST_ID:
        return _contains_name(words, resource)
    return names_thing(words, kind, name, directory) or _contains_account(words, name)


def _contains_name(words: str, resource: str) -> bool:
    """Whether the name of that resource stands in the words, whatever it means there."""
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
    """The resources that the model chose and that the words do not name; the directory says which words are names."""
    chosen = [touch for touch in touches if not touch.fixed]
    people: dict[str, list[str]] = {}
    for touch in chosen:
        people.setdefault(touch.kind, []).append(touch.name)
    whole = {kind for kind, parts in people.items() if names_person(words, kind, parts)}
    return tuple(
        touch.resource
        for touch in chosen
        if touch.kind not in whole and not names_resource(words, touch.resource, directory)
    )


def requests_action(words: str, means: Iterable[str]) -> bool:
    """Whether the words speak of such an act: one of those that stand for it, in whatever case, alone or in the plural."""
    spoken = words.casefold()
    return any(re.search(rf"(?<!\w){re.escape(word.casefold())}s?(?!\w)", spoken) for word in means)


def quotes_all(words: str, texts: Iterable[str]) -> bool:
    """Whether the words hold every one of the texts, each as a whole. Nobody says an empty one."""
    return all(_contains_word(words, text) for text in texts)


def contained_kinds(
    texts: Iterable[str], words: str, directory: Iterable[str], values: Mapping[str, frozenset[str]]
) -> frozenset[str]:
    """What the texts hold that neither the words nor the directory names: "link", "address", "account", and labels.

    `values` are what results under a label held; a text that repeats one carries the label.
    """
    told = find_mentions(words)
    listed = frozenset(directory)
    own = _compact(words) if values else ""
    found: set[str] = set()
    for text in texts:
        in_text = find_mentions(text)
        links = in_text.links - told.links
        if links and not links <= {_comparable_link(one) for one in listed if one.partition(":")[0] in URL_KINDS}:
            found.add(LINK)
        if any(f"mail:{one}" not in listed for one in in_text.addresses - told.addresses):
            found.add(ADDRESS)
        accounts = in_text.accounts - told.accounts
        if accounts and not accounts <= {_alphanumeric(one.partition(":")[2]) for one in listed}:
            found.add(ACCOUNT)
        spelled = _compact(text) if values else ""
        for label, held in values.items():
            if label not in found and any(value not in own for value in _values(held).found(spelled)):
                found.add(label)
    return frozenset(found)


@lru_cache(maxsize=16)
def _values(held: frozenset[str]) -> Values:
    return Values(held)


def kind_of(resource: str) -> str:
    """The kind of a resource: "mail" of `mail:ann@example.com`, "https" of a URL."""
    return resource.partition(":")[0]


def argument_texts(arguments: Mapping[str, Json], names: Collection[str]) -> Iterator[str]:
    """Every text in the arguments, but for those that are the name of a resource that the call touches."""
    return (text for value in arguments.values() for text in _spelled_leaves(value) if text not in names)


def _spelled_leaves(value: Json) -> Iterator[str]:
    """The leaves of a value as texts: numbers and switches in words, an empty list or object as ""."""
    for leaf in leaves(value):
        if isinstance(leaf, str):
            yield leaf
        elif isinstance(leaf, dict | list | tuple):
            yield ""
        elif isinstance(leaf, int | float):
            yield str(leaf).lower()


def traceable_values(value: Json) -> frozenset[str]:
    """What of a labelled result is looked for in texts: its short values that hold a digit, and the names in its long texts.

    In capitals, without hyphens and spaces, as the texts are looked through.
    """
    found: set[str] = set()
    for text in _spelled_leaves(value):
        if SHORTEST_VALUE <= len(text) <= 64 and any(map(str.isdigit, text)):
            found.add(text)
        found.update(_MAIL.findall(text))
        found.update(match.group() for match in _NUMBER.finditer(_STAMP.sub(" ", text)))
        found.update(match.group() for match in _IBAN.finditer(text))
    spelled = (_APART.sub("", _normalized(text)).upper() for text in found)
    return frozenset(text for text in spelled if len(text) >= SHORTEST_NUMBER)


def directory_entries(
    lines: Iterable[Listing], value: Json, words: str, directory: Collection[str] = ()
) -> frozenset[str]:
    """The resources that a result puts into the directory; what names no one thing of its kind is left out.

    A line with an alias lists only what the user's words call by that other name, and what nothing else there is called.
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
                    if line.links:  # with its query, which the resource does not have
                        found.add(canonical_url(line.kind, name).address)
    return frozenset(found)


def repeated_names(arguments: Mapping[str, Json], names: Collection[str]) -> frozenset[str]:
    """Those of the resources that the arguments themselves name; all of them where there is too much to compare."""
    texts = [text for value in arguments.values() for text in _spelled_leaves(value)] if names else []
    whole, joined = set(texts), "\n".join(texts)  # no name goes over the end of a line
    if len(names) * len(joined) > MOST_COMPARED:
        return frozenset(names)
    return frozenset(name for name in names if name.partition(":")[2] in whole or _contains_name(joined, name))


def _items_by_alias(line: Listing, value: Json, words: str, directory: Collection[str]) -> Iterator[Json]:
    """The names in the items that the words speak of by their alias. None where that may mean two of them: anybody may
    call a thing as another is called. Links are their sender's, and nobody can take another sender's name."""
    depth = next((at for at, pair in enumerate(zip(line.path, line.alias, strict=False)) if pair[0] != pair[1]), 0)
    by_alias: dict[str, list[Json]] = {}
    for item in _values_at(value, line.path[:depth]):
        alias = next((one for one in _values_at(item, line.alias[depth:]) if isinstance(one, str)), "")
        phrase = _matched_phrase(words, alias)
        if phrase and (" " in phrase or _refers_to_alias(line, words, alias, directory)):
            by_alias.setdefault(phrase, []).append(item)
    for items in by_alias.values():
        for item in items if line.links or len(items) == 1 else ():
            yield from _values_at(item, line.path[depth:])


def _refers_to_alias(line: Listing, words: str, alias: str, directory: Collection[str]) -> bool:
    if line.links:  # a sender's, and whoever sends may choose a handle: a capital is not enough
        return refers_by_alias(words, "person", alias, directory, capital=False)
    return refers_by_alias(words, line.kind, alias, directory, capital=True)


def _matched_phrase(words: str, alias: str) -> str:
    """By which words the user speaks of what is called `alias`, in whatever case; "" where not.

    The whole name; or at least two words in a row that are half of it: "grocery list" is `grocery-list-today.docx`.
    """
    if len(alias) < SHORTEST_ID or alias.isdigit():
        return ""
    if _contains_word(words.casefold(), alias.casefold()):
        return alias.casefold()
    parts = _APART.sub(" ", _EXTENSION.sub("", alias)).strip().casefold().split(" ")
    if len(parts) > MOST_PARTS:  # whoever wrote the name may have made it long
        return ""
    spoken = _SPOKEN(words)
    most = min(len(parts), spoken.count(" ") + 1)
    for size in range(most, max(2, -(-len(parts) // 2)) - 1, -1):
        for at in range(len(parts) - size + 1):
            if _contains_word(spoken, phrase := " ".join(parts[at : at + size])):
                return phrase
    return ""


_SPOKEN: Final = Remembered(lambda words: _APART.sub(" ", words).casefold(), most=REMEMBERED)


def _values_at(value: Json, path: Sequence[str]) -> Iterator[Json]:
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
    # A name must not be a part of a longer one: `a.md` is not named by `secret/a.md` nor by `a.md.bak`.
    return (
        bool(name)
        and name in words
        and re.search(rf"(?<![\w./@:%+*-]){re.escape(name)}(?![\w/@:%+*-]|\.\w)", words) is not None
    )


def _contains_account(words: str, name: str) -> bool:
    plain = _alphanumeric(name) if name.isascii() else ""  # a foreign letter would go with the punctuation
    return sum(map(str.isdigit, plain)) >= SHORTEST_NUMBER and plain in find_mentions(words).accounts


def _normalized(text: str) -> str:
    """The text as whoever follows it reads it: HTML's characters, wide letters and dots and foreign digits as plain ones, and
    nothing invisible or struck through in between."""
    text = _ENTITY.sub(_character, text) if "&" in text else text
    if text.isascii():
        return _CONTROL.sub("", text)
    kept: list[str] = []
    marks = 0
    for character in text.replace("\u3002", ".").replace("\uff61", "."):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MOST_MARKS:  # marks are sorted one by one: of half a million, that would take minutes
            kept.append(character)
    plain = unicodedata.normalize("NFKC", "".join(kept))
    shown = (one for one in plain if unicodedata.category(one) not in ("Cf", "Mn", "Me"))
    return _CONTROL.sub("", "".join(str(unicodedata.decimal(one, one)) for one in shown))


def _character(found: re.Match[str]) -> str:
    """What HTML means by it; of a number only what counts, for Python reads no number of thousands of digits."""
    if found[1]:
        return html.unescape(f"&#{found[1]};")
    return html.unescape(f"&#x{found[2]};" if found[2] else found[0])


def _comparable_link(text: str) -> str:
    """A link as it is compared: without scheme, and without what ends a sentence; the host in lower case."""
    rest = text.partition("://")[2] if "://" in text else text
    host, slash, path = rest.rstrip(_ENDING).lstrip("_-").partition("/")
    return f"{host.lower()}{slash}{path}".rstrip("/")


def _compact(text: str) -> str:
    """The text in which a labelled value is looked for, in whatever case and with or without hyphens and spaces."""
    return _SPELLED(text)


_SPELLED: Final = Remembered(lambda text: _APART.sub("", _normalized(text)).upper(), most=REMEMBERED)


def _is_file_name(text: str) -> bool:
    return "/" not in text and text.rpartition(".")[2].lower() in _FILES


def _alphanumeric(text: str) -> str:
    return _PLAIN.sub("", text).upper()
