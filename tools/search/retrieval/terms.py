"""Texts become terms. The same function serves documents and queries."""

import re
import unicodedata
from functools import lru_cache

LONGEST = 48  # characters of a term; the rest of a longer word is cut off

_WORD = re.compile(r"[^\W_]+")
# Languages that are written without spaces: their characters are paired, because a whole sentence would be one word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f]+")
_VOWEL = re.compile("[aeiouy]")
_VOWELS_THEN_CONSONANTS = re.compile("[aeiouy]+[^aeiouy]+")
_SHORT = re.compile("[^aeiouy][aeiouy][^aeiouywx]$")
STOP_WORDS = frozenset(
    (  # noqa: SIM905 - one word after the other is easier to read
        "a about after again all also an and another any are as at be been before between both but by can could did do "
        "does down during each few for from had has have he her here him his how i if in into is it its just many me "
        "more most much my no nor not of off on once only or other our out over own same she should since so some such "
        "than that the their them then there these they this those through to too under until up us very was we were "
        "what when where which while who whom why will with without would you your"
    ).split()
)  # fmt: skip


def terms_of(text: str) -> list[str]:
    """The terms of a text, in order, without stop words."""
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if word.isascii():
            if word not in STOP_WORDS:
                found.append(_stem(word[:LONGEST]))
        else:
            found.extend(_parts(word))
    return found


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """The word without the endings of plurals and of verbs: the steps 1 and 5a of Porter, "An algorithm for suffix stripping" (1980)."""
    if len(word) < 3 or not word.isalpha():
        return word
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us")):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) else word
    else:
        ending = next((each for each in ("ed", "ing") if word.endswith(each) and _VOWEL.search(word[: -len(each)])), "")
        word = _completed(word[: -len(ending)]) if ending else word
    if word.endswith("y") and _VOWEL.search(word[:-1]):
        word = word[:-1] + "i"
    if word.endswith("e") and (_measure(word[:-1]) > 1 or (_measure(word[:-1]) == 1 and not _SHORT.search(word[:-1]))):
        word = word[:-1]
    return word


def _completed(stem: str) -> str:
    """The stem of a verb as its other forms have it: `hop` of `hopp`, `hope` of `hop`, `size` of `siz`."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and stem[-1] not in "lszaeiouy":
        return stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _SHORT.search(stem) else stem


def _measure(stem: str) -> int:
    """How many times vowels are followed by consonants."""
    return len(_VOWELS_THEN_CONSONANTS.findall(stem))


def _parts(word: str) -> list[str]:
    parts: list[str] = []
    at = 0
    for match in _UNSPACED.finditer(word):
        parts += [word[at : match.start()]] if match.start() > at else []
        run = match.group()
        parts += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        at = match.end()
    rest = word[at:]
    return [*parts, rest[:LONGEST]] if rest else parts
