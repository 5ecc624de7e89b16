"""Stock Casbin's own answer to a request that the compiled rules allowed: without it, no call has an effect.

Nothing here uses `index.py` or `matching.py`: an error there, or a change made to them, must not hide a rule from Casbin.
The rows are read again from their text by Casbin's line splitter, roles are those of Casbin's role manager, and Casbin decides.
Only which rows it is asked about is decided here, by a test that is too wide rather than too narrow.
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
from remit.policy.casbin_reference import Fields, Stock
from remit.policy.engine import Policy
from remit.policy.language.casbin_model import model_text
from remit.policy.language.patterns import NOTHING_TOUCHED, GlobError, parse_resource

PATIENCE_S: Final = 5.0  # for one request, which takes a thousandth of a second where the machine is not busy
PATIENCE_FOR_MANY_S: Final = 30.0  # for the cases and witnesses of a whole rulebook


class SecondOpinion:
    """What stock Casbin says under the rules of a policy. Any number of threads may ask.

    Casbin answers in a thread of its own. Whatever goes wrong is a no. After one answer that did not come in time every
    answer is no, without waiting.
    """

    def __init__(self, policy: Policy) -> None:
        self._questions: Final[_Questions] = queue.SimpleQueue()
        self._asking: Final = threading.Lock()
        self._hung = False
        casbin = _Casbin(policy)
        # INVARIANT: the thread holds no reference to this object, so it ends when nothing can ask any more.
        threading.Thread(target=_serve, args=(casbin.allows, self._questions), daemon=True).start()
        weakref.finalize(self, self._questions.put, None)

    def allows(self, request: Request) -> bool:
        """Whether Casbin allows every subject on every resource."""
        return self._answers((request,), PATIENCE_S) == [True]

    def allows_each(self, requests: Sequence[Request]) -> list[bool]:
        """`allows` for each request."""
        return self._answers(requests, PATIENCE_FOR_MANY_S)

    def _answers(self, requests: Sequence[Request], patience: float) -> list[bool]:
        nothing = [False] * len(requests)
        if not self._asking.acquire(timeout=patience):
            return nothing
        try:
            if self._hung:
                return nothing
            answers: queue.SimpleQueue[list[object]] = queue.SimpleQueue()
            self._questions.put((requests, answers))
            return [answer is True for answer in answers.get(timeout=patience)]
        except queue.Empty:
            self._hung = True
            return nothing
        finally:
            self._asking.release()


_Questions: TypeAlias = "queue.SimpleQueue[tuple[Sequence[Request], queue.SimpleQueue[list[object]]] | None]"


def _serve(allows: Callable[[Request], object], questions: _Questions) -> None:
    """Answer until None is asked. A thread for each request would cost more than Casbin's answer."""
    while (question := questions.get()) is not None:
        requests, answers = question
        found: list[object] = []
        for request in requests:
            answer: object = None
            with suppress(Exception):
                answer = allows(request)
            found.append(answer)
        answers.put(found)


class _Casbin:
    """Casbin, asked by one thread, about the rows that bear on a request."""

    def __init__(self, policy: Policy) -> None:
        lines = [*(", ".join(link.fields) for link in policy.links), *(row.rule.text for row in policy.rows)]
        self._stock = Stock(model_text(), lines)
        self._rows: Final = tuple(self._stock.rows)
        self._by_action: Final[dict[str, _Beginnings]] = {}

    def allows(self, request: Request) -> bool:
        beginnings = self._bearing_on(request.action)
        for subject in request.subjects:
            names = {subject, *self._stock.roles_of(subject)}
            for resource in request.resources or (NOTHING_TOUCHED,):
                self._stock.keep_only(list(beginnings.rows(names, resource)))
                if self._stock.enforce(subject, request.action, resource, request.context) is not True:
                    return False
        return bool(request.subjects)

    def _bearing_on(self, action: str) -> _Beginnings:
        if action not in self._by_action:
            self._by_action[action] = _beginnings(row for row in self._rows if action_matches(action, row[1]))
        return self._by_action[action]


@dataclass(frozen=True, kw_only=True)
class _Beginnings:
    """Rows by the beginning of their pattern, up to its first wildcard; `lengths` are those of the beginnings."""

    by_text: dict[str, list[Fields]]
    texts: Sequence[str]
    lengths: Sequence[int]

    def rows(self, names: Collection[str], resource: str) -> Iterator[Fields]:
        """Every row for one of the names that could match the resource: one beginning is the other's beginning."""
        for text in self._texts(resource):
            for row in self.by_text[text]:
                if row[0] in names:
                    yield row

    def _texts(self, resource: str) -> Iterable[str]:
        try:
            parsed = parse_resource(resource)
        except GlobError:
            return self.texts  # Casbin is asked about every row, and answers no
        name = "/".join(parsed.segments) + ("/" if parsed.whole and parsed.segments else "")
        asked = f"{parsed.kind}:{name}"
        shorter = [asked[:length] for length in self.lengths if length <= len(asked)]
        found = [text for text in shorter if text in self.by_text]
        if parsed.whole:
            at = bisect_left(self.texts, asked)
            while at < len(self.texts) and self.texts[at].startswith(asked):
                if self.texts[at] != asked:
                    found.append(self.texts[at])
                at += 1
        return found


def _beginnings(rows: Iterable[Fields]) -> _Beginnings:
    by_text: dict[str, list[Fields]] = {}
    for row in rows:
        by_text.setdefault(row[2].partition("*")[0], []).append(row)
    return _Beginnings(by_text=by_text, texts=sorted(by_text), lengths=sorted({len(text) for text in by_text}))
