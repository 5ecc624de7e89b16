"""The compiled rules: which rows can bear on a subject, an action and a resource, found without looking at the others.

    action ─► literal beginning of the pattern ─► rows, each with its subject and what is left of its pattern to match

A resource is looked up by its own text and by each of its folders. What is found there for a subject or one of its
roles has met action, subject and the literal beginning exactly; only the rest of a pattern, from its first wildcard
on, is matched character by character. Beginnings come before subjects because they tell more rules apart, and each
look at a rule that does not matter costs a miss of the processor's cache.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import not_
from typing import Final, NamedTuple, TypeAlias

from remit.core import Context
from remit.policy.language.loader import RuleRow
from remit.policy.language.patterns import LONGEST, Pattern, matcher, parse_resource

Matches: TypeAlias = Callable[[str], bool]

# The characters of a plain segment: printable ASCII but `*`, `/` and the backslash; the first is no dot either.
# INVARIANT: each repeats possessively (`*+`), and no text is tried in two ways, so matching is linear.
_FIRST: Final = r"[ -)+-\-0-\[\]-~]"
_OTHERS: Final = r"[ -)+-.0-\[\]-~]*+"
CROWDED: Final = 8  # rows that are looked through one by one; more are told apart by their subjects


class RuleEntry(NamedTuple):  # a tuple, because it is taken apart for every rule that a decision looks at
    """One row where it lies in the index. `rest` answers for what follows the literal beginning; None: anything may."""

    subject: str
    rest: Matches | None
    literal: int  # characters of the literal beginning
    holds: Callable[[Context], bool] | None  # None: always
    denies: bool
    row: RuleRow


Entries: TypeAlias = tuple[RuleEntry, ...]


@dataclass(frozen=True, slots=True)
class RuleTable:
    """All rows with one action column: by literal beginning, and by subject in the order of their patterns."""

    by_key: Mapping[str, Entries | dict[str, Entries]]  # where it is crowded, by subject too
    by_subject: Mapping[str, tuple[RuleRow, ...]]
    first: int  # of the keys of a resource, the first that any beginning here can be: those before are not looked up

    def below(self, names: Iterable[str], folder: str) -> Iterator[RuleRow]:
        """The rows whose literal beginning lies in or under `folder`, which ends in `/` or `:`."""
        for name in names:
            rows = self.by_subject.get(name, ())
            at = bisect_left(rows, folder, key=_text)
            while at < len(rows) and rows[at].pattern.text.startswith(folder):
                yield rows[at]
                at += 1

    def beside(self, names: Iterable[str], text: str, most: int) -> Iterator[RuleRow]:
        """For each name, at most `most` rows on each side of where `text` would lie: those that begin most like it."""
        for name in names:
            rows = self.by_subject.get(name, ())
            if len(rows) > 2 * most:
                at = bisect_left(rows, text, key=_text)
                rows = rows[max(0, at - most) : at + most]
            yield from rows


class Asked(NamedTuple):
    """A resource, ready to be looked up: under each of `keys` lie patterns that may match it."""

    text: str
    whole: bool
    keys: list[str]


class Index:
    """Rows by action, literal beginning and subject; never changed once made."""

    def __init__(self, rows: Sequence[RuleRow]) -> None:
        by_action: dict[str, list[RuleRow]] = {}
        for row in rows:
            by_action.setdefault(row.action, []).append(row)
        compiled: dict[str, tuple[str, Matches | None]] = {}
        self._tables: Final = {action: _table(found, compiled) for action, found in by_action.items()}
        # For each action that a row names, every table that bears on it; other actions are met by wildcards only.
        self._by_action: Final = {action: self._tables_of(action) for action in by_action if not action.endswith("*")}
        self._plain: Final = _plain({row.pattern.kind for row in rows} - {""})

    def tables(self, action: str) -> tuple[RuleTable, ...]:
        """The rows that bear on an action."""
        return self._by_action.get(action) or self._tables_of(action)

    def plain_keys(self, text: str) -> list[str] | None:
        """The keys of one resource that is spelled as nearly all are; None where `asked` must read it more closely."""
        # This was a third of the cost of a decision with a check for each oddity, so one match does all checks at once.
        if len(text) > LONGEST or (plain := self._plain(text)) is None:
            return None
        key = ""
        keys = ["", text[: plain.end(1)]]
        folders = text.split("/")
        folders.pop()
        for folder in folders:
            key = f"{key}{folder}/"
            keys.append(key)
        keys.append(text)
        return keys

    def asked(self, text: str) -> Asked:
        """Read a resource of a request.

        Raises:
            GlobError: it is not canonical.
        """
        if (plain := self.plain_keys(text)) is not None:
            return Asked(text, False, plain)
        resource = parse_resource(text)
        name = f"{resource.kind}:{'/'.join(resource.segments)}"
        name = f"{name}/" if resource.whole and resource.segments else name
        keys = ["", f"{resource.kind}:"]
        keys.extend(name[: at + 1] for at, character in enumerate(name) if character == "/")
        if name != keys[-1]:
            keys.append(name)
        return Asked(text, resource.whole, keys)

    def _tables_of(self, action: str) -> tuple[RuleTable, ...]:
        tool, dot, _ = action.partition(".")
        patterns = dict.fromkeys((action, f"{tool}.*" if dot else "*", "*"))
        return tuple(self._tables[pattern] for pattern in patterns if pattern in self._tables)


def _plain(kinds: Collection[str]) -> Callable[[str], re.Match[str] | None]:
    """Matches canonical names of those kinds that are plain ASCII, with no segment that is empty or begins with a dot.

    The kind with its colon is the match's first group. A name that does not match may be canonical all the same.
    """
    names = "|".join(map(re.escape, sorted(kinds))) or "(?!)"  # with no kind, nothing matches
    segment = rf"{_FIRST}{_OTHERS}"
    return re.compile(rf"((?:{names}):){segment}(?:/{segment})*+").fullmatch


def found(entries: Entries | dict[str, Entries], names: Collection[str]) -> Iterable[RuleEntry]:
    """The entries of one place for a subject and its roles."""
    if isinstance(entries, dict):
        return [entry for name in names for entry in entries.get(name, ())]
    return [entry for entry in entries if entry.subject in names]


def _table(rows: list[RuleRow], compiled: dict[str, tuple[str, Matches | None]]) -> RuleTable:
    by_key: dict[str, list[RuleEntry]] = {}
    by_subject: dict[str, list[RuleRow]] = {}
    for row in rows:
        text = row.pattern.text
        if text not in compiled:
            compiled[text] = _compiled(row.pattern)
        key, rest = compiled[text]
        holds, denies = row.condition.test, row.rule.effect == "deny"
        by_key.setdefault(key, []).append(RuleEntry(row.subject, rest, len(key), holds, denies, row))
        by_subject.setdefault(row.subject, []).append(row)
    return RuleTable(
        by_key={key: tuple(entries) if len(entries) <= CROWDED else _crowd(entries) for key, entries in by_key.items()},
        by_subject={subject: tuple(sorted(found, key=_text)) for subject, found in by_subject.items()},
        # The keys of a resource are "", its kind, and one for each slash; a whole text comes after all of its folders.
        first=min(key.count("/") + 1 if key else 0 for key in by_key),
    )


def _crowd(entries: Iterable[RuleEntry]) -> dict[str, Entries]:
    by_subject: dict[str, list[RuleEntry]] = {}
    for entry in entries:
        by_subject.setdefault(entry.subject, []).append(entry)
    return {subject: tuple(found) for subject, found in by_subject.items()}


def _text(row: RuleRow) -> str:
    return row.pattern.text


def _compiled(pattern: Pattern) -> tuple[str, Matches | None]:
    """The literal beginning of a pattern, up to the last slash before a wildcard, and the matcher of the rest."""
    if not pattern.kind:
        return "", None
    literal: list[str] = []
    for segment in pattern.segments:
        if "*" in segment:
            break
        literal.append(segment)
    else:
        return pattern.text, not_
    rest = pattern.segments[len(literal) :]
    key = f"{pattern.kind}:{''.join(f'{segment}/' for segment in literal)}"
    return key, None if rest == ("**",) else matcher(rest)
