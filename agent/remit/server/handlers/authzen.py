"""AuthZEN 1.0: decisions and searches for the enforcement points that `remit.toml` lists.

Bodies, answers and statuses are those of the specification: an answer is no result, and unknown members of a body are ignored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from remit.core.events import GivenDecision
from remit.policy.authzen import DecisionPoint, EnforcementPoint, Evaluation, PageError, configuration, search
from remit.server.http.answers import HttpRefusal, json_response
from remit.server.http.bodies import invalid, request_id
from remit.server.http.route import Asked
from remit.server.service import Service

_T = TypeVar("_T")
_MINUTES_OF_DAY: Final = 24 * 60


class Decided(BaseModel):
    """The answer to one question. `context` says why something is denied: `reason` for people, and `remit` for programs."""

    decision: bool
    context: dict[str, Any] = {}


class DecidedEach(BaseModel):
    """The answers to several questions, in their order; of one question alone, its answer."""

    evaluations: list[Decided]


class FoundPage(BaseModel):
    """One page of a search: `results` are subjects, resources or actions."""

    page: dict[str, Any]
    results: list[dict[str, Any]]


async def evaluate(asked: Asked) -> Response:
    return await _one(asked, asked.body)


async def evaluate_each(asked: Asked) -> Response:
    if not asked.body.evaluations:  # then it is one question, as the specification demands
        return await _one(asked, _single(asked.body))
    point = _decision_point(asked)
    answered = await _aside(point, lambda: list(point.evaluate_each(asked.body)))
    _record(asked, point, (one.record for one in answered))
    return json_response({"evaluations": [one.body for one in answered]})


async def find(asked: Asked) -> Response:
    point = _decision_point(asked)
    try:
        found = await _aside(point, lambda: search(point, asked.body))
    except PageError as error:
        raise HttpRefusal("invalid_request", str(error)) from None
    _record(asked, point, (found.record,))
    return json_response(found.body)


async def describe(service: Service, request: Request) -> Response:
    """The addresses, under the name by which the service was called: `HostChecked` knows it."""
    secure = service.settings.certificate or service.settings.behind_proxy
    return json_response(configuration(f"{'https' if secure else 'http'}://{request.headers['host']}"))


def _single(body: Any) -> Evaluation:
    given = {name: value for name in ("subject", "action", "resource") if (value := getattr(body, name)) is not None}
    try:
        return Evaluation.model_validate(given)
    except ValidationError as failure:
        raise invalid(failure, "body") from None


async def _one(asked: Asked, question: Evaluation) -> Response:
    point = _decision_point(asked)
    answered = await _aside(point, lambda: point.evaluate(question))
    _record(asked, point, (answered.record,))
    return json_response(answered.body)


async def _aside(point: DecisionPoint, work: Callable[[], _T]) -> _T:
    """The work, in another thread if it waits for stock Casbin. Without that it takes some 30 µs, less than a change of threads."""
    return work() if point.confirmed is None else await asyncio.to_thread(work)


def _decision_point(asked: Asked) -> DecisionPoint:
    """The rules in force for the enforcement point that asks. INVARIANT: an account that is none gets no decision."""
    point = _enforcement_point(asked)
    asked.workspace.given.check()
    policy, settings, held = asked.client.policy, asked.workspace.settings, asked.workspace.journal.holds()
    return DecisionPoint(
        point=point,
        policy=policy,
        env=settings.env,
        time=_time_of_day(),
        is_disabled=held.__contains__,
        confirmed=asked.workspace.casbin_allows if settings.casbin == "always" else None,
    )


def _enforcement_point(asked: Asked) -> EnforcementPoint:
    """The one whose account asks. INVARIANT: a key that is for other things gets no decision."""
    by = asked.principal
    for point in asked.workspace.settings.enforcement_points.values():
        if point.account == by.subject and (by.scope is None or point.name in by.scope.points):
            return point
    raise HttpRefusal("forbidden", "the account is no enforcement point, or its key is not for that")


def _record(asked: Asked, point: DecisionPoint, decisions: Iterable[GivenDecision]) -> None:
    asked.workspace.given.add(
        asked.principal, point.point.name, point.policy.digest, decisions, request_id(asked.request)
    )


def _time_of_day() -> str:
    hours, minutes = divmod(int(time.time()) // 60 % _MINUTES_OF_DAY, 60)
    return f"{hours:02}:{minutes:02}"
