"""The numbers of a text: amounts, dates, times, and words with digits in them, each as a value that does not depend on its form.

One pass over the text, in linear time. What is read, and what is not:

- 1000, 1,000, 1.000, 1 000 and 1'000 are the same: one to three digits, not beginning with 0, and groups of exactly three digits
  behind the same separator. Any other `.` or `,` between digits begins the decimals: 1.5 and 1,5 are the same, 0.125 is a decimal.
- hundred, thousand, million, billion, bn and k multiply the number before them; two to ninety-nine may be words. `one` and `zero`
  count only before a unit, because `one` has other meanings.
- A unit is a currency, a percentage, or a measure of time, data, length, mass or temperature of the table below. Another unit is
  not compared. The first number of a range has the unit of the last: 14-30 days.
- Dates: 2026-06-30, 30.06.2026, 30 June 2026, June 30, 2026, 30 June, June 2026. Of 30/06/2026 day and month are known where one
  is more than 12. Months are English and begin with a capital letter. Times: 14:30.
- Everything else with a digit is compared letter by letter, without regard to case: B2B, v2, 3.2.1, 06/07/2026.
- Not read: ordinals and fractions in words, Roman numerals, numbers in Chinese characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, TypeAlias

Value: TypeAlias = Decimal | str | tuple[int | None, int | None, int | None]  # a date is (year, month, day)

_TOKEN = re.compile(
    r"""(?P<iso>\d{4}-\d{2}-\d{2}(?!\w))
    |(?P<dotted>\d{1,2}\.\d{1,2}\.\d{4}(?!\w))
    |(?P<slashed>\d{1,2}/\d{1,2}/\d{4}(?!\w))
    |(?P<time>\d{1,2}:\d{2}(?::\d{2})?(?!\w))
    |(?P<grouped>(?!0)\d{1,3}(?:(?P<mark>[.,'’\ ])\d{3})(?:(?P=mark)\d{3})*(?!\d)(?:[.,]\d+)?)
    |(?P<version>\d+(?:\.\d+){2,})
    |(?P<plain>\d+(?:[.,]\d+)?)
    |(?P<word>[^\W\d]\w*)
    |(?P<symbol>[%‰°€$£¥₹])""",
    re.VERBOSE,
)


def _rows(table: str) -> dict[str, str]:
    """By each word of a row the first one of it, which stands for the unit."""
    return {word: words[0] for row in table.strip().splitlines() if (words := row.split()) for word in words}


UNITS: Final = _rows(
    """
    % percent pct prozent
    ‰ permille
    eur € euro euros
    usd $ dollar dollars
    gbp £ pound pounds
    jpy ¥ yen
    inr ₹ rupee rupees
    chf franc francs franken
    ms millisecond milliseconds
    s sec secs second seconds sekunde sekunden
    min mins minute minutes minuten
    h hr hrs hour hours stunde stunden heure heures hora horas
    day days tag tage tagen jour jours día días
    week weeks woche wochen semaine semaines semana semanas
    month months monat monate monaten mois meses
    year years yr yrs jahr jahre jahren ans años
    b byte bytes
    kb kilobyte kilobytes
    mb megabyte megabytes
    gb gigabyte gigabytes
    tb terabyte terabytes
    kib
    mib
    gib
    tib
    mm
    cm
    m meter meters metre metres
    km kilometer kilometers kilometre kilometres
    mile miles
    g gram grams
    kg kilogram kilograms kilo kilos
    ton tons tonne tonnes
    l liter liters litre litres
    ° degree degrees grad
    am
    pm
    """
)
_CURRENCIES: Final = frozenset(("eur", "€", "usd", "$", "gbp", "£", "jpy", "¥", "inr", "₹", "chf"))
QUALIFIERS: Final = frozenset(("business", "working", "calendar", "banking", "school", "square", "cubic"))
_SCALES: Final[Mapping[str, int]] = {
    "hundred": 100, "thousand": 1000, "k": 1000, "million": 10**6, "mn": 10**6, "billion": 10**9, "bn": 10**9,
}  # fmt: skip
_SMALL: Final[Mapping[str, int]] = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS: Final[Mapping[str, int]] = {
    word: number * 10
    for number, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
_MONTHS: Final[Mapping[str, int]] = {
    name: number
    for number, row in enumerate(
        (
            "January Jan", "February Feb", "March Mar", "April Apr", "May", "June Jun", "July Jul", "August Aug",
            "September Sep Sept", "October Oct", "November Nov", "December Dec",
        ),
        start=1,
    )
    for name in row.split()
}  # fmt: skip
_ORDINALS: Final = frozenset(("st", "nd", "rd", "th"))
_RANGE = re.compile(r" ?[-–—/] ?| (?:to|or|and|bis) ", re.IGNORECASE)
_LONGEST: Final = 40  # characters of a number; a longer one is compared letter by letter


@dataclass(frozen=True, kw_only=True)
class Number:
    """One number of a text, which stands from `start` to `end` there, with its unit.

    `unit` is "" if none is known. `weak` is True for a word that may have another meaning.
    """

    start: int
    end: int
    value: Value
    unit: str = ""
    weak: bool = False

    def states(self, other: Number, units: Set[str] = frozenset()) -> bool:
        """True if the other number is in a source from which this one may be taken.

        A date may leave out a part, a number that is a year may be taken from a date, and a number may leave out its unit, but not
        that it is a percentage. `units` are those of the source, which may stand apart from its number: 30 (thirty) days.
        """
        if isinstance(self.value, tuple):
            return isinstance(other.value, tuple) and all(
                mine in (None, its) for mine, its in zip(self.value, other.value, strict=True)
            )
        if isinstance(other.value, tuple):
            return not self.unit and isinstance(self.value, Decimal) and self.value == other.value[0]
        if self.value != other.value:
            return False
        if self.unit == other.unit:
            return True
        if "%" in (self.unit, other.unit) or "‰" in (self.unit, other.unit):
            return False
        return not self.unit or (not other.unit and units >= set(self.unit.split()))


def numbers_of(text: str) -> list[Number]:
    """The numbers of a text whose white space is single spaces, in their order."""
    found = list(_Reader(text).read())
    for at in range(len(found) - 2, -1, -1):
        this, following = found[at], found[at + 1]
        if not this.unit and following.unit and _RANGE.fullmatch(text[this.end : following.start]):
            found[at] = replace(this, unit=following.unit)
    return found


def units_in(text: str) -> frozenset[str]:
    """The units that a text names, and the qualifiers of units, wherever they stand."""
    words = (token[0].casefold() for token in _TOKEN.finditer(text))
    return frozenset(UNITS.get(word, word) for word in words if word in UNITS or word in QUALIFIERS)


class _Reader:
    """Reads the tokens of one text from the left."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: Sequence[re.Match[str]] = list(_TOKEN.finditer(text))
        self._at = 0

    def read(self) -> Iterator[Number]:
        while (token := self._token()) is not None:
            start = token.start()
            kind = token.lastgroup
            number = self._date(token, kind) or self._amount(token, kind)
            if number is not None:
                negative = isinstance(number.value, Decimal) and number.value < 0
                yield replace(number, start=start - negative)
            elif kind == "word" and any(unicodedata.category(character)[0] == "N" for character in token[0]):
                yield self._literal(start, token.end())
            else:
                self._at += 1

    def _token(self, ahead: int = 0) -> re.Match[str] | None:
        place = self._at + ahead
        return self._tokens[place] if place < len(self._tokens) else None

    def _near(self, before: re.Match[str], token: re.Match[str] | None, between: Sequence[str]) -> bool:
        return token is not None and self._text[before.end() : token.start()] in between

    def _literal(self, start: int, end: int) -> Number:
        """What begins with this token, up to the next one that does not directly follow it, letter by letter."""
        self._at += 1
        while (token := self._token()) is not None and token.start() == end and token.lastgroup != "symbol":
            end = token.end()
            self._at += 1
        return Number(start=start, end=end, value=self._text[start:end].casefold())

    # ── dates ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _date(self, token: re.Match[str], kind: str | None) -> Number | None:
        text = token[0]
        if kind in ("iso", "dotted", "slashed"):
            first, second, third = map(int, re.split(r"[-./]", text))
            year, month, day = (first, second, third) if kind == "iso" else (third, second, first)
            if kind == "slashed" and first <= 12:  # 06/30/2026, or it is not known which is the day
                year, month, day = (third, first, second) if second > 12 else (third, 0, 0)
            if 1 <= month <= 12 and 1 <= day <= 31:
                self._at += 1
                return Number(start=0, end=token.end(), value=(year, month, day))
            return self._literal(token.start(), token.end())
        if kind == "plain" and text.isdecimal() and len(text) <= 2 and 1 <= int(text) <= 31:
            return self._day_first(int(text))
        if kind == "word" and text in _MONTHS:
            return self._month_first(token)
        return None

    def _day_first(self, day: int) -> Number | None:
        """30 June 2026, 30th of June"""
        last, ahead = self._token(), 1
        assert last is not None
        following = self._token(ahead)
        if following is not None and following[0] in _ORDINALS and following.start() == last.end():
            last, ahead = following, ahead + 1
        following = self._token(ahead)
        if following is not None and following[0] == "of" and self._near(last, following, (" ",)):
            last, ahead = following, ahead + 1
        month = self._token(ahead)
        if month is None or month[0] not in _MONTHS or not self._near(last, month, (" ", ". ", ".", "-")):
            return None
        self._at += ahead + 1
        year, end = self._year_after(month)
        return Number(start=0, end=end, value=(year, _MONTHS[month[0]], day))

    def _month_first(self, month: re.Match[str]) -> Number | None:
        """June 30, 2026, and June 2026"""
        day = self._token(1)
        if day is None or day.lastgroup != "plain" or not self._near(month, day, (" ", ". ")):
            return None
        if len(day[0]) <= 2 and day[0].isdecimal() and 1 <= int(day[0]) <= 31:
            self._at += 2
            last, suffix = day, self._token()
            if suffix is not None and suffix[0] in _ORDINALS and suffix.start() == day.end():
                last = suffix
                self._at += 1
            year, end = self._year_after(last)
            return Number(start=0, end=end, value=(year, _MONTHS[month[0]], int(day[0])))
        self._at += 1
        year, end = self._year_after(month)
        if year is None:
            self._at -= 1
            return None
        return Number(start=0, end=end, value=(year, _MONTHS[month[0]], None))

    def _year_after(self, last: re.Match[str]) -> tuple[int | None, int]:
        """The year that follows, if there is one, and where the date ends."""
        year = self._token()
        if year is None or year.lastgroup != "plain" or not self._near(last, year, (" ", ", ", ". ")):
            return None, last.end()
        if len(year[0]) != 4 or not year[0].isdecimal():
            return None, last.end()
        self._at += 1
        return int(year[0]), year.end()

    # ── amounts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _amount(self, token: re.Match[str], kind: str | None) -> Number | None:
        unit, first = "", token
        if token[0].casefold() in _CURRENCIES:
            following = self._token(1)
            if following is None or not self._near(token, following, ("", " ")) or not _begins_amount(following):
                return None
            self._at += 1
            unit, token, kind = UNITS[token[0].casefold()], following, following.lastgroup
        if kind == "word":
            return self._in_words(token, unit)
        if kind == "time":
            self._at += 1
            return Number(start=0, end=token.end(), value=token[0].lstrip("0") or token[0])
        if kind not in ("grouped", "plain"):
            return self._literal(token.start(), token.end()) if kind == "version" else None
        if len(token[0]) > _LONGEST:
            return self._literal(first.start(), token.end())
        self._at += 1
        suffix = self._token()
        if suffix is not None and suffix.start() == token.end() and suffix.lastgroup == "word":
            if suffix[0] in _ORDINALS:
                self._at += 1
                return Number(start=0, end=suffix.end(), value=_value(token), unit=unit)
            if suffix[0].casefold() not in (*UNITS, *_SCALES):
                self._at -= 1
                return self._literal(first.start(), token.end())
        value = _value(token)
        before = self._text[: first.start()][-2:]
        if before[-1:] in ("-", "−") and not before[:-1].isalnum() and before[:-1] not in (")", "]"):
            value = -value
        return self._measured(value, token, unit)

    def _in_words(self, token: re.Match[str], unit: str) -> Number | None:
        word = token[0].casefold()
        value = _SMALL.get(word, _TENS.get(word))
        if value is None:
            scale = _SCALES.get(word) if len(word) > 2 else None
            if scale is None:
                return None
            self._at += 1
            return self._measured(Decimal(scale), token, unit)
        self._at += 1
        following = self._token()
        if word in _TENS and following is not None and self._near(token, following, ("-", " ")):
            one = _SMALL.get(following[0].casefold(), 0)
            if 1 <= one <= 9:
                value, token = value + one, following
                self._at += 1
        number = self._measured(Decimal(value), token, unit)
        return replace(number, weak=value < 2 and not number.unit and number.value == value)

    def _measured(self, value: Decimal, last: re.Match[str], unit: str) -> Number:
        """The number with the scale and the unit behind it."""
        following = self._token()
        while following is not None and self._near(last, following, ("", " ", "-")):
            word = following[0].casefold()
            if word not in _SCALES or (word == "k" and following.start() != last.end()):
                break
            value, last = value * _SCALES[word], following
            self._at += 1
            following = self._token()
        if unit or following is None or not self._near(last, following, ("", " ", "-")):
            return Number(start=0, end=last.end(), value=value, unit=unit)
        qualifier, word, behind = "", following[0].casefold(), self._token(1)
        if word in QUALIFIERS and behind is not None and self._near(following, behind, (" ", "-")):
            qualifier, word, following = word, behind[0].casefold(), behind
        elif word == "per" and behind is not None and behind[0].casefold() == "cent":
            word, following = "%", behind
        if word not in UNITS:
            return Number(start=0, end=last.end(), value=value)
        self._at += 2 if following is behind else 1
        unit = f"{qualifier} {UNITS[word]}".strip()
        return Number(start=0, end=following.end(), value=value, unit=unit)


def _begins_amount(token: re.Match[str]) -> bool:
    """True if the token may follow a currency: digits, or a number in words."""
    return token.lastgroup in ("grouped", "plain") or token[0].casefold() in {*_SMALL, *_TENS}


def _value(token: re.Match[str]) -> Decimal:
    """The value of digits with separators."""
    text = token[0]
    if token["grouped"] is None:
        return Decimal(text.replace(",", "."))
    mark = token["mark"]
    groups = text.split(mark)
    if len(groups[-1]) == 3 and groups[-1].isdecimal():
        return Decimal("".join(groups))
    whole, _, decimals = groups[-1].replace(",", ".").partition(".")
    if len(whole) != 3:  # the decimals have the separator of the groups: 1.000.5
        whole, decimals = "", groups[-1]
    return Decimal("".join([*groups[:-1], whole]) + "." + decimals)
