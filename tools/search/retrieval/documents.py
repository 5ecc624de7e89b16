"""Files become documents: who they are (front matter, or a sidecar file), their text, and its sections.

Markdown is read with markdown-it-py, HTML with the parser of Python, PDF with pypdf. They run where the tool runs: confined, without
network, and with the limits of one call.
"""

import io
import re
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, cast, get_args

from retrieval.passages import Section

if TYPE_CHECKING:
    from markdown_it.token import Token

LARGEST_FILE = 8 << 20
LONGEST_TEXT = 4 << 20  # characters
MOST_PAGES = 2_000
SIDECAR = ".meta.toml"
KEYS = ("id", "title", "version", "valid_from", "valid_until", "supersedes", "owner", "labels", "collection")
Label = Literal["confidential", "internal", "personal"]  # the same as in tool.toml
LABELS: tuple[Label, ...] = get_args(Label)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}){0,8}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
_LINE = re.compile(r"([a-z_]+):[ \t]*(.*)")
_LIGATURES = {
    code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)
}  # as PDF has them: ff, fi
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FRONT = re.compile(r"---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|\Z)", re.DOTALL)


class Unreadable(ValueError):
    """A file is not a document; the message says what is wrong, and what to write."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One version of one document. Dates are ISO 8601, "" if there is none; `supersedes` are pairs of a document and its version."""

    name: str
    version: str
    title: str
    text: str
    sections: list[Section]
    owner: str = ""
    labels: tuple[Label, ...] = ()
    valid_from: str = ""
    valid_until: str = ""
    supersedes: tuple[tuple[str, str], ...] = ()


def read_document(collection: str, path: str, data: bytes, sidecar: bytes | None) -> Document:
    """The document in a file; `path` is relative to the folder of the documents.

    Raises:
        Unreadable: the file has no text that can be read, or its front matter is not valid.
    """
    stem, ending = _parts(path)
    front, data = _front(path, data, sidecar)
    title, text, sections = _READERS[ending](data)
    if len(text) > LONGEST_TEXT:
        raise Unreadable(f"its text has more than {LONGEST_TEXT} characters: split it")
    return _described(collection, stem, front, title, text, sections)


def name_of(collection: str, path: str, data: bytes, sidecar: bytes | None) -> str:
    """The name of the document in a file, from what describes it alone. Raises Unreadable."""
    return f"{collection}/{_own_id(collection, _parts(path)[0], _front(path, data, sidecar)[0])}"


def _parts(path: str) -> tuple[str, str]:
    stem, _, ending = path.rpartition(".")
    if ending.lower() not in _READERS:
        raise Unreadable(f"files that end in .{ending} are not read: write {', '.join(sorted(_READERS))}")
    return stem, ending.lower()


def _own_id(collection: str, stem: str, front: Mapping[str, object]) -> str:
    if front.get("collection", collection) != collection:
        raise Unreadable(f"its front matter says collection {front['collection']!r}: move it there")
    own = _text(front, "id", stem).removeprefix(f"{collection}/")
    if _ID.fullmatch(own) is None:
        raise Unreadable(f"{own!r} is no id: write `id:` with letters, digits and . _ @ + - /")
    return own


def _described(
    collection: str, stem: str, front: Mapping[str, object], title: str, text: str, sections: list[Section]
) -> Document:
    if unknown := [key for key in front if key not in KEYS]:
        raise Unreadable(f"its front matter has the unknown key {unknown[0]!r}: use {', '.join(KEYS)}")
    own = _own_id(collection, stem, front)
    version = _version(_text(front, "version", "1"))
    labels = _items(front.get("labels", []))
    if any(label not in LABELS for label in labels):
        raise Unreadable(f"labels {labels!r}: write a list of {', '.join(LABELS)}")
    since, until = _date(front, "valid_from"), _date(front, "valid_until")
    if since and until and since > until:
        raise Unreadable(f"valid_until {until} is before valid_from {since}")
    return Document(
        name=f"{collection}/{own}",
        version=version,
        title=_text(front, "title", title or stem.rpartition("/")[2])[:200],
        text=text,
        sections=sections,
        owner=_text(front, "owner", "")[:200],
        labels=tuple(dict.fromkeys(cast("list[Label]", labels))),
        valid_from=since,
        valid_until=until,
        supersedes=_superseded(collection, own, version, front.get("supersedes", [])),
    )


def _superseded(collection: str, own: str, version: str, value: object) -> tuple[tuple[str, str], ...]:
    """`2` is a version of the same document, `returns@1` a version of another one of the collection."""
    pairs: list[tuple[str, str]] = []
    for each in _items(value):
        name, at, other = str(each).rpartition("@")
        name = name.removeprefix(f"{collection}/") if at else own
        if _ID.fullmatch(name) is None or (name, other) == (own, version):
            raise Unreadable(f"supersedes {each!r}: write a version of it, or ID@VERSION of another document")
        pairs.append((f"{collection}/{name}", _version(other)))
    return tuple(pairs)


def _items(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _text(front: Mapping[str, object], key: str, default: str) -> str:
    value = front.get(key, default)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unreadable(f"{key} is not a text: write {key}: VALUE")
    return " ".join(str(value).split())


def _version(text: str) -> str:
    if _VERSION.fullmatch(text) is None:
        raise Unreadable(f"version {text!r}: write at most 32 letters, digits and . _ + -")
    return text


def _date(front: Mapping[str, object], key: str) -> str:
    value = front.get(key, "")
    try:
        return date.fromisoformat(str(value)).isoformat() if value else ""
    except ValueError:
        raise Unreadable(f"{key} {value!r} is no date: write 2026-01-31") from None


# ---- front matter ----------------------------------------------------------------------------------------------------


def _toml(data: bytes) -> dict[str, object]:
    try:
        return dict(tomllib.loads(data.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Unreadable(f"its file {SIDECAR} is not TOML: {error}") from None


def _front(path: str, data: bytes, sidecar: bytes | None) -> tuple[dict[str, object], bytes]:
    """What describes the document, from front matter or its sidecar file, and the rest of its bytes."""
    front: dict[str, object] = {}
    if _parts(path)[1] in _FRONTED:
        front, text = _front_matter(_decoded(data))
        data = text.encode()
    if sidecar is None:
        return front, data
    if front:
        raise Unreadable(f"it has front matter and a file {path}{SIDECAR}: keep one of them")
    return _toml(sidecar), data


def _front_matter(text: str) -> tuple[dict[str, object], str]:
    """The keys between two lines `---` at the top, and the rest. This is the part of YAML that such keys need: texts and lists."""
    match = _FRONT.match(text)
    if match is None:
        return {}, text
    front: dict[str, object] = {}
    lists: dict[str, list[str]] = {}  # of keys whose items stand on lines of their own
    key = ""
    for line in (match[1] or "").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if key and re.match(r"[ \t]*- ", line):
            lists.setdefault(key, []).append(_scalar(line.strip()[2:]))
        elif (found := _LINE.fullmatch(line)) is not None:
            key = found[1]
            if key in front:
                raise Unreadable(f"its front matter has {key!r} twice: keep one")
            front[key] = _value(found[2].strip())
        else:
            raise Unreadable(f"its front matter has the line {line[:60]!r}: write `key: value`, one on a line")
    return front | lists, text[match.end() :]


def _value(text: str) -> object:
    if text.startswith("["):
        if not text.endswith("]"):
            raise Unreadable(f"its front matter has {text[:60]!r}: write a list on one line, [a, b]")
        return [_scalar(part) for part in text[1:-1].split(",") if part.strip()]
    return _scalar(text)


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text.partition(" #")[0].rstrip()


# ---- formats ---------------------------------------------------------------------------------------------------------

_Read = tuple[str, str, list[Section]]  # title, text, sections


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8: save it as UTF-8") from None


def _plain(data: bytes) -> _Read:
    text = _decoded(data)
    return "", text, [Section(path=(), start=0, stop=len(text))]


def _markdown(data: bytes) -> _Read:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - searches load no parser

    text = _decoded(data)
    tokens = MarkdownIt("commonmark").parse(text)
    text = _without_comments(text, tokens)
    lines = [0]
    for line in text.split("\n"):
        lines.append(lines[-1] + len(line) + 1)
    headings: list[tuple[int, str, int, int]] = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            first, last = token.map
            headings.append(
                (int(token.tag[1]), " ".join(_COMMENT.sub("", inline.content).split()), lines[first], lines[last])
            )
    return _sections(text, headings)


def _without_comments(text: str, tokens: "list[Token]") -> str:
    """The text without HTML comments, which no reader of a page sees. The number of lines stays the same."""
    lines = text.split("\n")
    for token in tokens:
        html = token.type == "html_block" or any(child.type == "html_inline" for child in token.children or ())
        if html and token.map is not None:
            first, last = token.map
            seen = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), "\n".join(lines[first:last]))
            lines[first:last] = seen.split("\n")
    return "\n".join(lines)


def _sections(text: str, headings: list[tuple[int, str, int, int]]) -> _Read:
    """The title, the text, and the sections between headings: level, words, and characters of each heading."""
    title = next((words for level, words, _, _ in headings if level == 1), "")
    sections = [Section(path=(), start=0, stop=headings[0][2] if headings else len(text))]
    above: list[tuple[int, str]] = []
    for number, (level, words, _, stop) in enumerate(headings):
        above = [*(each for each in above if each[0] < level), (level, words)]
        end = headings[number + 1][2] if number + 1 < len(headings) else len(text)
        path = tuple(name for _, name in above)
        sections.append(Section(path=path, start=min(stop, len(text)), stop=end))
    return title, text, sections


class _Page(HTMLParser):
    """The text that a reader of a page sees, and its headings."""

    _BLOCKS = frozenset(
        [
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "br",
            "caption",
            "dd",
            "div",
            "dl",
            "dt",
            "fieldset",
            "figcaption",
            "figure",
            "footer",
            "form",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "header",
            "hr",
            "li",
            "main",
            "nav",
            "ol",
            "p",
            "pre",
            "section",
            "table",
            "td",
            "th",
            "tr",
            "ul",
        ]
    )
    _LINES = frozenset(["br", "dd", "dt", "li", "td", "th", "tr"])
    _NOT_SHOWN = frozenset(["script", "style", "template", "noscript", "iframe", "object", "svg", "title"])
    _VOID = frozenset(
        ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.headings: list[tuple[int, str, int, int]] = []
        self.title = ""
        self._size = 0
        self._hidden_in = ""  # the element that hides what is in it, and how many of its name are open
        self._depth = 0
        self._heading = (-1, 0)  # where the open heading begins: characters, and parts

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden_in == "p" and tag in self._BLOCKS:  # its end tag may be left out
            self._hidden_in = ""
        if self._hidden_in:
            self._depth += tag == self._hidden_in
            return
        given = dict(attrs)
        style = re.sub(r"\s", "", given.get("style") or "").lower()
        hides = tag in self._NOT_SHOWN or "hidden" in given or given.get("aria-hidden") == "true"
        if (hides or "display:none" in style or "visibility:hidden" in style) and tag not in self._VOID:
            self._hidden_in, self._depth = tag, 1
            return
        if tag in self._BLOCKS:
            self._add("\n" if tag in self._LINES else "\n\n")
        if re.fullmatch(r"h[1-6]", tag):
            self._heading = (self._size, len(self.parts))

    def handle_endtag(self, tag: str) -> None:
        if self._hidden_in:
            self._depth -= tag == self._hidden_in
            self._hidden_in = self._hidden_in if self._depth else ""
            return
        start, part = self._heading
        if re.fullmatch(r"h[1-6]", tag) and start >= 0:
            words = " ".join("".join(self.parts[part:]).split())
            if words:
                self.headings.append((int(tag[1]), words, start, self._size))
            self._heading = (-1, 0)
        if tag in self._BLOCKS and tag not in self._LINES:
            self._add("\n\n")

    def handle_data(self, data: str) -> None:
        if self._hidden_in == "title":
            self.title += data
        if not self._hidden_in:
            self._add(data)

    def _add(self, text: str) -> None:
        self.parts.append(text)
        self._size += len(text)


def _html(data: bytes) -> _Read:
    page = _Page()
    page.feed(_decoded(data))
    page.close()
    title, text, sections = _sections("".join(page.parts), page.headings)
    return title or " ".join(page.title.split()), text, sections


def _pdf(data: bytes) -> _Read:
    try:
        from pypdf import PdfReader  # noqa: PLC0415 - optional
    except ImportError:
        raise Unreadable("PDF needs pypdf: pip install 'remit[pdf]'") from None
    try:
        pages = PdfReader(io.BytesIO(data)).pages
        texts: list[str] = [
            pages[number].extract_text().translate(_LIGATURES) for number in range(min(len(pages), MOST_PAGES + 1))
        ]
    except Exception as error:  # noqa: BLE001 - a parser of PDF meets every kind of damage
        raise Unreadable(f"it cannot be read as PDF: {type(error).__name__}") from None
    if len(texts) > MOST_PAGES:
        raise Unreadable(f"it has more than {MOST_PAGES} pages: split it")
    sections: list[Section] = []
    at = 0
    for number, text in enumerate(texts, 1):
        sections.append(Section(path=(f"Page {number}",), start=at, stop=at + len(text)))
        at += len(text) + 1
    whole = "\n".join(texts)
    if not whole.strip():
        raise Unreadable("it has no text, as a scan: recognize its text first")
    return "", whole, sections


_FRONTED = ("md", "markdown", "txt")
_READERS: Mapping[str, Callable[[bytes], _Read]] = {
    "md": _markdown,
    "markdown": _markdown,
    "html": _html,
    "htm": _html,
    "txt": _plain,
    "pdf": _pdf,
}
