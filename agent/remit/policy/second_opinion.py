"""Stock Casbin's own answer to a request that the compiled rules allowed; without it, no call has an effect.

INVARIANT: nothing here uses `index.py` or `matching.py`, so a defect or a change there cannot hide a rule from Casbin.
Casbin's line splitter reads the rows again from their text, Casbin's role manager resolves roles, and Casbin decides. Only the
rows that it is asked about are selected here, by a test that is too wide rather than too narrow.
"""

from __future__ import annotations

import queue
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from remit.core import Request, action_matches
from remit.policy.casbin_reference import Fields, StockEnforcer
from remit.policy.engine import Policy
from remit.policy.language.casbin_model import model_text
from remit.policy.language.patterns import NOTHING_TOUCHED, GlobError, parse_resource

PATIENCE_S: Final = 5.0  # for one request, which takes about a millisecond on an idle machine
PATIENCE_FOR_MANY_S: Final = 30.0  # for all cases and witnesses of a policy


class SecondOpinion:
    """Stock Casbin's answers under the rules of a policy. Thread-safe.

    Casbin runs in its own thread. Any failure counts as no. After one answer that did not arrive in time, every further
    answer is no, without waiting.
    """

    def __init__(self, policy: Policy) -> None:
        self._questions: Final[_Questions] = queue.SimpleQueue()
        self._asking: Final = threading.Lock()
        self._hung = False
        casbin = _CasbinSubset(policy)
        # INVARIANT: the thread holds no reference to this object, so the object is collected when unused, and the thread ends.
        threading.Thread(target=_serve, args=(casbin.allows, self._questions), daemon=True).start()
        weakref.finalize(self, self._questions.put, None)

    def allows(self, request: Request) -> bool:
        """True if Casbin allows every subject on every resource."""
        return self._answers((request,), PATIENCE_S) == [True]

    def allows_each(self, requests: Sequence[Request]) -> list[bool]:
        """`allows` for each request, in order."""
        return self._answers(requests, PATIENCE_FOR_MANY_S)

    def _answers(self, requests: Sequence[Request], patience: float) -> list[bool]:
        all_no = [False] * len(requests)
        if not self._asking.acquire(timeout=patience):
            return all_no
        try:
            if self._hung:
                return all_no
            answers: queue.SimpleQueue[list[object]] = queue.SimpleQueue()
            self._questions.put((requests, answers))
            return [answer is True for answer in answers.get(timeout=patience)]
        except queue.Empty:
            self._hung = True
            return all_no
        finally:
            self._asking.release()


_Questions: TypeAlias = "queue.SimpleQueue[tuple[Sequence[Request], queue.SimpleQueue[list[object]]] | None]"


def _serve(allows: Callable[[Request], object], questions: _Questions) -> None:
    """Answer questions until None arrives. A new thread for each request would cost more than Casbin's answer."""
    while (question := questions.get()) is not None:
        requests, answers = question
        results: list[object] = []
        for request in requests:
            result: object = None
            with suppress(Exception):
                result = allows(request)
            results.append(result)
        answers.put(results)


class _CasbinSubset:
    """Stock Casbin, used by one thread, with only the rows that may match each request."""

    def __init__(self, policy: Policy) -> None:
        lines = [*(", ".join(link.fields) for link in policy.links), *(row.rule.text for row in policy.rows)]
        self._stock = StockEnforcer(model_text(), lines)
        self._rows: Final = tuple(self._stock.rows)
        self._by_action: Final[dict[str, _RowsByPrefix]] = {}

    def allows(self, request: Request) -> bool:
        candidates = self._rows_for(request.action)
        for subject in request.subjects:
            names = {subject, *self._stock.roles_of(subject)}
            for resource in request.resources or (NOTHING_TOUCHED,):
                self._stock.keep_only(list(candidates.rows(names, resource)))
                if self._stock.enforce(subject, request.action, resource, request.context) is not True:
                    return False
        return bool(request.subjects)

    def _rows_for(self, action: str) -> _RowsByPrefix:
        if action not in self._by_action:
            self._by_action[action] = _by_prefix(row for row in self._rows if action_matches(action, row[1]))
        return self._by_action[action]


@dataclass(frozen=True, kw_only=True)
class _RowsByPrefix:
    """Rows by the prefix of their pattern before its first wildcard. `texts` are the sorted prefixes, `lengths` theirs."""

    by_prefix: dict[str, list[Fields]]
    texts: Sequence[str]
    lengths: Sequence[int]

    def rows(self, names: Collection[str], resource: str) -> Iterator[Fields]:
        """Every row for one of the names that could match: its prefix and the resource, one is the start of the other."""
        for prefix in self._prefixes(resource):
            for row in self.by_prefix[prefix]:
                if row[0] in names:
                    yield row

    def _prefixes(self, resource: str) -> Iterable[str]:
        try:
            parsed = parse_resource(resource)
        except GlobError:
            return self.texts  # Casbin gets every row, and answers no
        name = "/".join(parsed.segments) + ("/" if parsed.whole and parsed.segments else "")
        start = f"{parsed.kind}:{name}"
        shorter = [start[:length] for length in self.lengths if length <= len(start)]
        prefixes = [text for text in shorter if text in self.by_prefix]
        if parsed.whole:  # a pattern below the folder may intersect the set, so longer prefixes count too
            position = bisect_left(self.texts, start)
            while position < len(self.texts) and self.texts[position].startswith(start):
                if self.texts[position] != start:
                    prefixes.append(self.texts[position])
                position += 1
        return prefixes


def _by_prefix(rows: Iterable[Fields]) -> _RowsByPrefix:
    by_prefix: dict[str, list[Fields]] = {}
    for row in rows:
        by_prefix.setdefault(row[2].partition("*")[0], []).append(row)
    return _RowsByPrefix(
        by_prefix=by_prefix, texts=sorted(by_prefix), lengths=sorted({len(text) for text in by_prefix})
    )
