"""Test cases of `policies/content_cases.yaml`: texts that content rules must pass, block or redact, one row each."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from remit.core import FrozenModel, Problem
from remit.core.parsing import read_rows
from remit.guardrails.content_rules import CASES, Content, Where
from remit.guardrails.redaction import Redactor
from remit.guardrails.sanitizer import Sanitizer


class ContentCase(FrozenModel):
    """One row. `shown` is the expected text after redaction; None does not check it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    note: str = Field(min_length=1, description="The name of the case")
    where: Where = Field(default="result", description="The kind of text")
    action: str = Field(default="", description="The action of the call; empty: a text outside of a call")
    text: str = Field(description="The text that is checked")
    expect: Literal["pass", "block", "redact"] = Field(description="What the rules must do")
    shown: str | None = Field(default=None, description="The expected text after redaction; absent: not checked")


def check_content(content: Content, text: str) -> tuple[int, list[Problem]]:
    """Run every row: the number of rows, and a problem with its line for each row that fails."""
    problems: list[Problem] = []
    sanitizer, count = Sanitizer(Redactor("cases", off=content.off), content), 0
    for row in read_rows(text, file=CASES):
        count += 1
        try:
            case = ContentCase.model_validate(row.value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            what = f"{'.'.join(map(str, first['loc'])) or 'the row'}: {first['msg'].lower()}"
            fix = f"use {', '.join(ContentCase.model_fields)}"
            problems.append(Problem(file=CASES, line=row.line, what=what, fix=fix))
            continue
        shown = sanitizer.text(case.text, where=case.where, action=case.action)
        blocked = content.blocked(case.text, case.where, case.action) is not None
        got = "block" if blocked else "pass" if shown == case.text else "redact"
        if got != case.expect or (case.shown is not None and shown != case.shown):
            what = f"{case.note}: expected {case.expect}, got {got}" + ("" if blocked else f" as {shown!r}")
            problems.append(
                Problem(file=CASES, line=row.line, what=what, fix="fix the rule; if the rule is right, fix the case")
            )
    return count, problems
