"""Pages of lists: each list route takes `limit` and the `next` of the page before, and answers with `next`, null at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, TypeVar

from pydantic import Field

from remit.core import FrozenModel
from remit.server.http.answers import HttpRefusal

MOST: Final = 200  # items of a page
Limit = Annotated[int, Field(ge=1, le=MOST, description="How many items the page has at most")]
NEXT: Final = "The `next` of the page before; absent: the first page"
_T = TypeVar("_T")


class RulesPage(FrozenModel):
    """Which page of what the rules say. A `cursor` counts for the rules of its page only."""

    limit: Limit = MOST
    cursor: Annotated[str | None, Field(pattern=r"^[0-9a-f]{16}\.[0-9]{1,9}$", description=NEXT)] = None


def page_of_rules(items: Sequence[_T], page: RulesPage, digest: str) -> tuple[Sequence[_T], str | None]:
    """The items of the page, and the `next`; `digest` is that of the rules, in whose order the items are.

    Raises HttpRefusal `conflict` if the page before was of other rules: what is between the two pages is not known.
    """
    rules, _, place = (page.cursor or "").partition(".")
    if rules not in ("", digest[-16:]):
        raise HttpRefusal(
            "conflict", "the rules have changed since the page before", next_step="begin with the first page"
        )
    begin = int(place or 0)
    end = begin + page.limit
    return items[begin:end], f"{digest[-16:]}.{end}" if end < len(items) else None
