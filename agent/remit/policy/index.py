"""The compiled rules: finds the rows that may match a subject, an action and a resource, without scanning all rows.

    action ─► literal prefix of the pattern ─► rows, each with its subject and the rest of its pattern

A resource is looked up by its own name and by each of its folders. A row found there already matches in action and literal
prefix; its subject is compared, and only the rest of its pattern, from the first wildcard on, is matched by characters.
Prefixes come before subjects because they separate more rules, and each irrelevant row that is visited costs a cache miss.
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

# The characters of a plain segment: printable ASCII except `*`, `/` and the backslash; the first is not a dot either.
# INVARIANT: each repetition is possessive (`*+`), so the regular expression never backtracks and matching is linear.
_FIRST: Final = r"[ -)+-\-0-\[\]-~]"
_OTHERS: Final = r"[ -)+-.0-\[\]-~]*+"
CROWDED: Final = 8  # rows with one prefix that are scanned; more are grouped by subject


class RuleEntry(NamedTuple):  # a tuple, because it is unpacked for every rule that a decision visits
    """One row in the index. `rest` matches what follows the literal prefix; None: anything may follow."""

    subject: str
    rest: Matches | None
    literal: int  # characters of the literal prefix
    holds: Callable[[Context], bool] | None  # None: the row always applies
    denies: bool
    row: RuleRow


Entries: TypeAlias = tuple[RuleEntry, ...]


@dataclass(frozen=True, slots=True)
class RuleTable:
    """All rows with one action column: by literal prefix, and by subject sorted by pattern."""

    by_key: Mapping[str, Entries | dict[str, Entries]]  # a dict by subject if there are more than CROWDED
    by_subject: Mapping[str, tuple[RuleRow, ...]]
    first: int  # the index of the first key of a resource that can be a prefix here; earlier keys are skipped

    def below(self, names: Iterable[str], folder: str) -> Iterator[RuleRow]:
        """The rows whose pattern starts with `folder`, which ends in `/` or `:`."""
        for name in names:
            rows = self.by_subject.get(name, ())
            position = bisect_left(rows, folder, key=_text)
            while position < len(rows) and rows[position].pattern.text.startswith(folder):
                yield rows[position]
                position += 1

    def neighbours(self, names: Iterable[str], text: str, most: int) -> Iterator[RuleRow]:
        """For each name, up to `most` rows before and after the sorted position of `text`: the longest common prefixes."""
        for name in names:
            rows = self.by_subject.get(name, ())
            if len(rows) > 2 * most:
                position = bisect_left(rows, text, key=_text)
                rows = rows[max(0, position - most) : position + most]
            yield from rows


class ResourceKeys(NamedTuple):
    """A resource with its lookup keys: a pattern that matches it has one of `keys` as its literal prefix."""

    text: str
    whole: bool
    keys: list[str]


class Index:
    """Rows by action, literal prefix and subject; immutable."""

    def __init__(self, rows: Sequence[RuleRow]) -> None:
        by_action: dict[str, list[RuleRow]] = {}
        for row in rows:
            by_action.setdefault(row.action, []).append(row)
        compiled: dict[str, tuple[str, Matches | None]] = {}
        self._tables: Final = {action: _table(found, compiled) for action, found in by_action.items()}
        # For each action that a row names, every table that applies; other actions are matched by wildcards only.
        self._by_action: Final = {action: self._tables_of(action) for action in by_action if not action.endswith("*")}
        self._plain: Final = _plain_names({row.pattern.kind for row in rows} - {""})

    def tables(self, action: str) -> tuple[RuleTable, ...]:
        """The tables of rows that apply to an action."""
        return self._by_action.get(action) or self._tables_of(action)

    def plain_keys(self, text: str) -> list[str] | None:
        """The keys of one resource with a plain name, as nearly all have; None if `keys_of` must parse it."""
        # Separate checks were a third of the cost of a decision, so one regular expression makes all of them.
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

    def keys_of(self, text: str) -> ResourceKeys:
        """The keys of any resource of a request.

        Raises:
            GlobError: the resource is not canonical.
        """
        if (plain := self.plain_keys(text)) is not None:
            return ResourceKeys(text, False, plain)
        resource = parse_resource(text)
        name = f"{resource.kind}:{'/'.join(resource.segments)}"
        name = f"{name}/" if resource.whole and resource.segments else name
        keys = ["", f"{resource.kind}:"]
        keys.extend(name[: index + 1] for index, character in enumerate(name) if character == "/")
        if name != keys[-1]:
            keys.append(name)
        return ResourceKeys(text, resource.whole, keys)

    def _tables_of(self, action: str) -> tuple[RuleTable, ...]:
        tool, dot, _ = action.partition(".")
        patterns = dict.fromkeys((action, f"{tool}.*" if dot else "*", "*"))
        return tuple(self._tables[pattern] for pattern in patterns if pattern in self._tables)


def _plain_names(kinds: Collection[str]) -> Callable[[str], re.Match[str] | None]:
    """Matches canonical names of these kinds that are plain ASCII and have no segment that is empty or starts with a dot.

    The kind and its colon are the first group. A name that does not match may still be canonical.
    """
    names = "|".join(map(re.escape, sorted(kinds))) or "(?!)"  # with no kind, nothing matches
    segment = rf"{_FIRST}{_OTHERS}"
    return re.compile(rf"((?:{names}):){segment}(?:/{segment})*+").fullmatch


def entries_for(entries: Entries | dict[str, Entries], names: Collection[str]) -> Iterable[RuleEntry]:
    """The entries under one key for a subject and its roles."""
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
        by_key={
            key: tuple(entries) if len(entries) <= CROWDED else _by_subject(entries) for key, entries in by_key.items()
        },
        by_subject={subject: tuple(sorted(found, key=_text)) for subject, found in by_subject.items()},
        # The keys of a resource are "", its kind, one for each slash, and last its full name.
        first=min(key.count("/") + 1 if key else 0 for key in by_key),
    )


def _by_subject(entries: Iterable[RuleEntry]) -> dict[str, Entries]:
    by_subject: dict[str, list[RuleEntry]] = {}
    for entry in entries:
        by_subject.setdefault(entry.subject, []).append(entry)
    return {subject: tuple(found) for subject, found in by_subject.items()}


def _text(row: RuleRow) -> str:
    return row.pattern.text


def _compiled(pattern: Pattern) -> tuple[str, Matches | None]:
    """The literal prefix of a pattern, up to the last slash before a wildcard, and the matcher of the rest."""
    if not pattern.kind:
        return "", None
    literal: list[str] = []
    for segment in pattern.segments:
        if "*" in segment:
            break
        literal.append(segment)
    else:
        return pattern.text, not_  # no wildcard: `not_` accepts only an empty rest
    rest = pattern.segments[len(literal) :]
    key = f"{pattern.kind}:{''.join(f'{segment}/' for segment in literal)}"
    return key, None if rest == ("**",) else matcher(rest)
