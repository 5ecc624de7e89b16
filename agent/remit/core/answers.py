"""Answers: why one is not accepted, and what a grounded one cites.

A passage is a part of a document that a call of the run returned. Its citation names it: `span` is its bytes in the text of the
document as it was ingested, from and to, and `digest` is that of these bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from remit.core.calls import FrozenModel

AnswerCode: TypeAlias = Literal[
    "no_answer",  # no words, a refusal, or a call that is written as text
    "invalid_json",
    "schema_mismatch",
    "wrong_citations",  # of results, for `citations`
    "wrong_effects",
    "low_confidence",
    # Of grounded answers:
    "invalid_claims",  # not a list of claims with quote and citation
    "unsourced_words",  # a member that is no claim
    "nothing_searched",
    "not_retrieved",
    "wrong_document",
    "wrong_version",
    "wrong_section",
    "wrong_span",
    "wrong_digest",
    "source_changed",  # the text in the record is not the one that the digest names, or was retrieved again in another form
    "not_in_force",
    "quote_not_found",
    "number_not_in_quote",
    "name_not_in_quote",  # a link, an address, or an account number
    "two_versions",
    "documents_disagree",
]


class AnswerProblem(FrozenModel):
    """Records one reason why an answer is not accepted. The model and people read the `message`."""

    code: AnswerCode
    message: str

    def __str__(self) -> str:
        return self.message


class Citation(FrozenModel):
    """Records which part of which document in which version: see the module."""

    document: str
    version: str
    section: str  # the headings above it: "Refunds > Late returns"
    span: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
    digest: str


class Source(FrozenModel):
    """Records where a claim of a grounded answer comes from: the item, counted from 1, of the result of a call (STEP.INDEX)."""

    call: str
    item: int
    citation: Citation


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One passage that a call of the run returned: its text, and the days or times between which its document is in force.

    `since` and `until` are ISO 8601 as the tool wrote them, None without a bound; at `until` it is no longer in force.
    """

    source: Source
    text: str
    title: str = ""
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """What the calls of a run returned of documents, in the order of the calls.

    `searched` is True if a call of an action that returns passages has a result, or ended with the tool's error `nothing_found`.
    `invalid` are the items, as (call, item), that have no valid citation. `at` is the time of the answer in Unix nanoseconds.
    """

    passages: tuple[Passage, ...] = ()
    searched: bool = False
    invalid: frozenset[tuple[str, int]] = frozenset()
    at: int = 0


NOTHING_RETRIEVED: Final = Retrieved()
