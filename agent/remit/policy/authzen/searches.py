"""Searches: which subjects, resources or actions would be permitted. The same rules answer them that answer one question.

Candidates are what the workspace knows: the subjects of rules and roles, the resources that a rule names in full, `policies/entities.jsonl`,
and the actions of the enforcement point. Each candidate is decided, in the order of its name; a page ends when it is full or when so
many candidates were decided that other requests would wait.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from remit.core import Json, Refusal, action_matches
from remit.core.events import GivenDecision
from remit.core.parsing import canonical_json, digest, parse_arguments
from remit.policy.authzen.decision_point import DecisionPoint
from remit.policy.authzen.questions import (
    MOST_RESULTS,
    Action,
    ActionSearch,
    Entity,
    Page,
    ResourceSearch,
    Search,
    SubjectSearch,
)

DEFAULT_RESULTS: Final = 100  # on a page, if the request names no limit
MOST_DECIDED: Final = 1000  # candidates for one page


class PageError(ValueError):
    """The token of a page does not belong to this search."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One page of results. `next_token` is "" if nothing is left."""

    results: tuple[dict[str, Json], ...]
    next_token: str
    record: GivenDecision

    @property
    def body(self) -> dict[str, Json]:
        """What the enforcement point reads."""
        return {
            "page": {"next_token": self.next_token, "count": len(self.results)},
            "results": list(self.results),
        }


def search(point: DecisionPoint, asked: Search) -> Found:
    """One page of a search.

    Raises:
        PageError: the token is of another search, or none that this function made.
    """
    place = _Place.of(point, asked)
    found: list[dict[str, Json]] = []
    last, decided = place.after, 0
    for name in _candidates(point, asked):
        if name <= place.after:
            continue
        if len(found) >= place.limit or decided >= MOST_DECIDED:
            return _page(point, asked, found, place.token(last))
        last, decided = name, decided + 1
        if _allows(point, asked, name):
            found.append(_result(asked, name))
    return _page(point, asked, found, "")


def _page(point: DecisionPoint, asked: Search, results: list[dict[str, Json]], next_token: str) -> Found:
    """The page, and its record. What a search looks for has no name in it."""
    subject = "" if isinstance(asked, SubjectSearch) else asked.subject.id
    resource = "" if isinstance(asked, ResourceSearch) else asked.resource.id
    name = "" if isinstance(asked, ActionSearch) else asked.action.name
    record = GivenDecision(
        subject=f"{asked.subject.type}:{subject}",
        action=point.point.actions.get(name, name),
        resource=f"{asked.resource.type}:{resource}",
        allowed=bool(results),
        code="search",
        found=len(results),
    )
    return Found(results=tuple(results), next_token=next_token, record=record)


def _candidates(point: DecisionPoint, asked: Search) -> list[str]:
    """The names to decide, in their order: ids, or names of actions."""
    match asked:
        case SubjectSearch():
            return _of_type(asked.subject.type, {*point.policy.subjects, *point.policy.entities})
        case ResourceSearch():
            action = point.point.actions.get(asked.action.name, "")
            return _of_type(asked.resource.type, {*_named_resources(point, action), *point.policy.entities})
        case ActionSearch():
            return sorted(point.point.actions)


def _of_type(kind: str, names: set[str]) -> list[str]:
    start = f"{kind}:"
    return sorted(name.removeprefix(start) for name in names if name.startswith(start))


def _named_resources(point: DecisionPoint, action: str) -> Iterator[str]:
    for row in point.policy.rows:
        if "*" not in row.pattern.text and action_matches(action, row.action):
            yield row.pattern.text


def _allows(point: DecisionPoint, asked: Search, name: str) -> bool:
    match asked:
        case SubjectSearch():
            return point.allows(_entity(asked.subject.type, name), asked.action, asked.resource)
        case ResourceSearch():
            return point.allows(asked.subject, asked.action, _entity(asked.resource.type, name))
        case ActionSearch():
            return point.allows(asked.subject, Action(name=name, properties={}), asked.resource)


def _entity(kind: str, name: str) -> Entity:
    return Entity.model_construct(type=kind, id=name, properties={})


def _result(asked: Search, name: str) -> dict[str, Json]:
    match asked:
        case SubjectSearch():
            return {"type": asked.subject.type, "id": name}
        case ResourceSearch():
            return {"type": asked.resource.type, "id": name}
        case ActionSearch():
            return {"name": name}


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a page begins: after the name `after`, with at most `limit` results, in the search with this digest."""

    of_search: str
    after: str
    limit: int

    @classmethod
    def of(cls, point: DecisionPoint, asked: Search) -> _Place:
        whole = asked.model_dump(mode="json", exclude={"page"})
        try:
            of_search = digest({"point": point.point.name, "search": type(asked).__name__, "asked": whole})
        except Refusal:
            raise PageError("the search has a number that is not exact in JSON") from None
        page = asked.page
        if not page.token:
            return cls(of_search=of_search, after="", limit=_limit(page))
        place = _read_token(page.token)
        if place.of_search != of_search or page.limit not in (None, place.limit):
            raise PageError("the token belongs to another search: send the same request with it")
        return place

    def token(self, after: str) -> str:
        """The place after that name. It holds nothing secret: a client that changes it reads another page of its own search."""
        text = canonical_json({"of": self.of_search, "after": after, "limit": self.limit})
        return base64.urlsafe_b64encode(text).decode()


def _limit(page: Page) -> int:
    return DEFAULT_RESULTS if page.limit is None else min(page.limit, MOST_RESULTS)


def _read_token(token: str) -> _Place:
    try:
        place = parse_arguments(base64.b64decode(token, altchars=b"-_", validate=True).decode())
    except (ValueError, Refusal):
        raise PageError("the token is none that this service made") from None
    match place:
        case {"of": str() as of_search, "after": str() as after, "limit": int() as limit} if (
            type(limit) is int and 0 <= limit <= MOST_RESULTS
        ):
            return _Place(of_search=of_search, after=after, limit=limit)
        case _:
            raise PageError("the token is none that this service made")
