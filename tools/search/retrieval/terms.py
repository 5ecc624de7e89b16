"""Texts become terms. The same function serves documents and queries."""

import re
import unicodedata

LONGEST = 48  # characters of a term; the rest of a longer word is cut off

_WORD = re.compile(r"[^\W_]+")
# Languages that are written without spaces: their characters are paired, because a whole sentence would be one word.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f]+")
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
                found.append(_singular(word)[:LONGEST])
        else:
            found.extend(_parts(word))
    return found


def _singular(word: str) -> str:
    """The word without a plural ending: Harman's S stemmer, as in "How effective is suffixing?" (1991)."""
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


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
