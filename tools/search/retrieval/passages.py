"""Sections become passages: parts of at most 200 words of one section, with their bytes in the text of the document."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_WORDS = 200

_PARAGRAPH = re.compile(r"\S[^\n]*(?:\n(?![^\S\n]*(?:\n|\Z))[^\n]*)*")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, kw_only=True)
class Section:
    """The text under one heading: `path` are the headings above it, `start` and `stop` its characters in the text."""

    path: tuple[str, ...]
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A part of one section: `start` and `stop` are bytes of the text in UTF-8."""

    section: str
    text: str
    start: int
    stop: int


def passages_of(text: str, sections: list[Section]) -> Iterator[Passage]:
    """The passages of a document, in order; none crosses a heading."""
    at, before = 0, 0  # characters and the bytes before them
    for section in sections:
        name = " > ".join(section.path)
        for start, stop in _parts(text, section.start, section.stop):
            before += len(text[at:start].encode())
            piece = text[start:stop]
            size = len(piece.encode())
            yield Passage(section=name, text=piece, start=before, stop=before + size)
            at, before = stop, before + size


def _parts(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Whole paragraphs, as many as fit; a longer paragraph is cut between words."""
    begin, end, words = -1, -1, 0
    for paragraph in _PARAGRAPH.finditer(text, start, stop):
        first, last = paragraph.start(), paragraph.start() + len(paragraph.group().rstrip())
        count = sum(1 for _ in _WORD.finditer(text, first, last))
        if begin >= 0 and words + count > MOST_WORDS:
            yield begin, end
            begin, words = -1, 0
        if count > MOST_WORDS:
            yield from _cut(text, first, last)
            continue
        begin = first if begin < 0 else begin
        end, words = last, words + count
    if begin >= 0:
        yield begin, end


def _cut(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    begin, end, words = -1, -1, 0
    for word in _WORD.finditer(text, start, stop):
        if words == MOST_WORDS:
            yield begin, end
            begin, words = -1, 0
        begin = word.start() if begin < 0 else begin
        end, words = word.end(), words + 1
    if begin >= 0:
        yield begin, end
