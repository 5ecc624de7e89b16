"""Limits that all runs share: how much was taken from each, in the parts of its window.

A window is divided into `BUCKETS` parts, each with one counter. So a claim reads at most that many rows, however many calls were
made. A part leaves the window as a whole: what was taken counts up to one part longer than the window, never shorter.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from remit.core import Claim, Exhausted
from remit.journal.storage.core_tables import LIMIT_BUCKET
from remit.journal.storage.database import Sql, Transaction

BUCKETS: Final = 60

_scope = LIMIT_BUCKET.c.scope == sa.bindparam("of")
_USED: Final = Sql(
    sa.select(LIMIT_BUCKET.c.start, LIMIT_BUCKET.c.amount)
    .where(_scope, LIMIT_BUCKET.c.start > sa.bindparam("after"))
    .order_by(LIMIT_BUCKET.c.start)
)
_ADD: Final = Sql(
    LIMIT_BUCKET.update()
    .where(_scope, LIMIT_BUCKET.c.start == sa.bindparam("at"))
    .values(amount=LIMIT_BUCKET.c.amount + sa.bindparam("more"))
)
_NEW: Final = Sql(LIMIT_BUCKET.insert())
_FORGET: Final = Sql(LIMIT_BUCKET.delete().where(_scope, LIMIT_BUCKET.c.start <= sa.bindparam("after")))


def bucket_of(at: int, window_ns: int) -> int:
    """The start of the part of the window that this time (Unix nanoseconds) falls into."""
    width = _width(window_ns)
    return at // width * width


def grant(transaction: Transaction, claim: Claim, now: int) -> None:
    """Grant a claim `now` (Unix nanoseconds) and count it, or raise Exhausted. Called inside the transaction of its event.

    The claim and its event are committed together: after a crash neither is there without the other.
    """
    # A correction of what was granted before. What has left the window since has no row, and needs none.
    if claim.most is None:
        corrected = bucket_of(claim.at, claim.window_ns)
        transaction.execute(_ADD, {"of": claim.scope, "at": corrected, "more": claim.amount})
        return
    transaction.lock(claim.scope)
    width = _width(claim.window_ns)
    after = now - claim.window_ns - (width - 1)
    transaction.execute(_FORGET, {"of": claim.scope, "after": after})
    used = transaction.execute(_USED, {"of": claim.scope, "after": after})
    over = sum(amount for _, amount in used) + claim.amount - claim.most
    if over <= 0:
        add(transaction, claim.scope, bucket_of(now, claim.window_ns), claim.amount)
        return
    # The claim fits as soon as enough of the oldest parts have left the window. None: it is larger than the limit itself.
    for start, amount in used:
        over -= amount
        if over <= 0:
            raise Exhausted(claim, int(start) + width - 1 + claim.window_ns)
    raise Exhausted(claim, None)


def add(transaction: Transaction, scope: str, start: int, amount: int) -> None:
    """Count an amount in the part of the window that begins at `start`."""
    if not transaction.changed(_ADD, {"of": scope, "at": start, "more": amount}):
        transaction.execute(_NEW, {"scope": scope, "start": start, "amount": amount})


def _width(window_ns: int) -> int:
    return max(1, window_ns // BUCKETS)
