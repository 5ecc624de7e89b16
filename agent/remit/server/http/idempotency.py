"""The header Idempotency-Key: a repeated request starts nothing twice.

The key determines the first half of the id of the run that the request starts, and its body the second half. So a repetition finds the
run by the key, in any process of the service, and a different body under the same key is seen without a table of keys. The key counts
as long as the run is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from remit.core import Principal
from remit.core.parsing import digest
from remit.journal import runs_named
from remit.runtime import new_run_id
from remit.server.http.answers import HttpRefusal
from remit.server.http.route import Asked

HEADER: Final = "idempotency-key"
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_HALF: Final = 16  # hex digits


@dataclass(frozen=True, kw_only=True)
class NewRunId:
    """The id of the run that a request starts. `repeats` is True if the same request has started it before."""

    run: str
    repeats: bool = False


async def new_run(asked: Asked) -> NewRunId:
    """The id of the run that the request starts: random, or determined by the key.

    Raises:
        HttpRefusal: `invalid_request`: the header is no key. `conflict`: the key came with another request before.
    """
    given = asked.request.headers.getlist(HEADER)
    if not given:
        return NewRunId(run=new_run_id())
    if len(given) > 1 or _KEY.fullmatch(given[0]) is None:
        raise HttpRefusal("invalid_request", f"{HEADER} is not one text of 1 to 255 printable ASCII characters")
    first = _half(_identity(asked.principal), given[0])
    run = first + _half(first, asked.request.method, asked.request.url.path, _body(asked.body))
    earlier = await asked.workspace.read(runs_named, first)
    # INVARIANT: nothing is awaited from here until the run is driven, so of two requests at one time the second one sees the first.
    earlier += asked.workspace.driven.named(first)
    if not earlier:
        return NewRunId(run=run)
    if run not in earlier:
        raise HttpRefusal(
            "conflict", f"{HEADER} came with another request before", next_step="use a new key for a new request"
        )
    return NewRunId(run=run, repeats=True)


def _identity(by: Principal) -> list[str]:
    """What makes the keys of two principals different."""
    return [by.tenant, by.subject, by.issuer, by.account]


def _body(body: BaseModel) -> object:
    return body.model_dump(mode="json")


def _half(*parts: object) -> str:
    return digest(["remit idempotency", *parts]).removeprefix("sha256:")[:_HALF]
