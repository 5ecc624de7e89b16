"""The audit export: every decision of a run as one flat row, in the order of the decisions."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Final

from remit.core import Failed, Json, Rule
from remit.core.events import NANO, ApprovalAnswer, BreakGlassReviewed, CallAnswered, CallDecided, Recorded, RunStarted
from remit.core.parsing import visible, visible_json
from remit.tracing.reports.approvals import answer_lines

# The start of a text that a spreadsheet would calculate instead of show. It can be at the start of a cell, after another
# list separator (it depends on the locale), after a quote that the program does not accept as one, or in a new line.
# A text that already begins with apostrophes gets one more, so that `cell_text` can restore it.
_START: Final = r"((?:\A|[,;|:\n\"'“”])[ ]*)"
_FORMULA: Final = re.compile(_START + r"('*[=+\-@＝＋－＠])")
_HARMLESS: Final = re.compile(_START + r"'('*[=+\-@＝＋－＠])")


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One decision.

    `at` is ISO 8601 in UTC. `verdict` can also be `refused` (the call was not valid) or `erased`. `approvals` are the
    answers of people at that time; an emergency approval has its reason, its end and its review, also a later one. `outcome` is the
    code of the call's result or "ok"; "" if a later decision followed, or if there is no result yet. `enforced` is None if it is erased. `hash` is the event's
    hash in the chain of its run, which `remit trace verify` checks.
    """

    at: str
    run: str
    step: int
    index: int
    round: int
    tenant: str
    agent: str
    user: str
    account: str
    action: str
    resources: tuple[str, ...]
    arguments: Json
    verdict: str
    reason: str
    message: str
    rules: tuple[str, ...]
    approvals: tuple[str, ...]
    outcome: str
    enforced: bool | None
    policy_digest: str
    request_digest: str
    decision_digest: str
    hash: str


COLUMNS: Final = tuple(field.name for field in fields(AuditRow))


def decision_rows(records: Iterable[Recorded]) -> Iterator[AuditRow]:
    """The decisions of one run."""
    records = list(records)
    started = next((item.event for item in records if isinstance(item.event, RunStarted)), None)
    outcomes = {
        (event.step, event.index): event.result.error.code if isinstance(event.result, Failed) else "ok"
        for item in records
        if isinstance(event := item.event, CallAnswered)
    }
    last = {(event.step, event.index): event.round for item in records if isinstance(event := item.event, CallDecided)}
    reviews = [event for item in records if isinstance(event := item.event, BreakGlassReviewed)]
    answers: dict[tuple[int, int], list[ApprovalAnswer]] = {}
    for item in records:
        event = item.event
        if isinstance(event, ApprovalAnswer):
            answers.setdefault((event.step, event.index), []).append(event)
        elif isinstance(event, CallDecided):
            place = (event.step, event.index)
            outcome = outcomes.get(place, "") if event.round == last[place] else ""
            yield _row(item, event, started, tuple(answer_lines([*answers.get(place, ()), *reviews])), outcome)
        elif event is None and item.type == "call.decided":
            yield _erased(item, started)


def _row(
    item: Recorded, event: CallDecided, started: RunStarted | None, approvals: tuple[str, ...], outcome: str
) -> AuditRow:
    decision, call, refused = event.decision, event.call, event.refusal
    verdict, reason, message = "refused", "", ""
    if decision is not None:
        verdict, reason, message = decision.verdict, decision.reason, decision.message
    elif isinstance(refused, Failed):
        reason, message = refused.error.code, refused.error.message
    return AuditRow(
        at=_at(item),
        run=item.run,
        step=event.step,
        index=event.index,
        round=event.round,
        tenant=started.tenant if started else "",
        agent=started.subjects.agent if started else "",
        user=started.subjects.user if started else "",
        account=started.by.account if started else "",
        action=call.action if call else event.proposed.action,
        resources=tuple(dict.fromkeys(touch.resource for touch in call.touches)) if call else (),
        arguments=call.arguments if call else event.proposed.arguments,
        verdict=verdict,
        reason=reason,
        message=message,
        rules=tuple(map(_rule, decision.rules)) if decision else (),
        approvals=approvals,
        outcome=outcome,
        enforced=event.enforced,
        policy_digest=decision.policy_digest if decision else "",
        request_digest=call.request_digest if call else "",
        decision_digest=decision.decision_digest if decision else "",
        hash=item.hash,
    )


def _erased(item: Recorded, started: RunStarted | None) -> AuditRow:
    """The row of an erased decision: its header still shows that there was one."""
    _, step, index, number = item.key.split("/")
    return AuditRow(
        at=_at(item), run=item.run, step=int(step), index=int(index), round=int(number),
        tenant=started.tenant if started else "", agent=started.subjects.agent if started else "",
        user=started.subjects.user if started else "", account=started.by.account if started else "", action="", resources=(), arguments=None, verdict="erased", reason="",
        message="", rules=(), approvals=(), outcome="", enforced=None, policy_digest="", request_digest="", decision_digest="", hash=item.hash,
    )  # fmt: skip


def _rule(rule: Rule) -> str:
    return f"{rule.file}:{rule.line} {rule.note or rule.text}"


def _at(item: Recorded) -> str:
    second, rest = divmod(item.at, NANO)
    return f"{datetime.fromtimestamp(second, UTC).strftime('%Y-%m-%dT%H:%M:%S')}.{rest // 1000:06d}Z"


def decision_as_json(row: AuditRow) -> str:
    """The row as one line of JSON, with every text as it was recorded."""
    return visible_json(json.dumps(asdict(row), ensure_ascii=False, separators=(",", ":")))


def decision_as_csv(row: AuditRow) -> str:
    """The row as one record of CSV (RFC 4180), with lists and arguments as JSON in one field.

    No cell is a formula, whatever separator a spreadsheet uses: every cell is quoted, hidden characters are written as
    numbers, and an apostrophe precedes each character that could begin a formula (at the start of a cell, after a
    separator, in a new line). `cell_text` removes these apostrophes.
    """
    return _csv(map(_cell, asdict(row).values()))


def decision_csv_header() -> str:
    return _csv(COLUMNS)


def cell_text(cell: str) -> str:
    """The original text of a cell that `decision_as_csv` wrote."""
    return _HARMLESS.sub(r"\1\2", cell)


def _csv(cells: Iterable[str]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="", quoting=csv.QUOTE_ALL).writerow(cells)
    return written.getvalue()


def _cell(value: Json) -> str:
    if isinstance(value, int):
        return str(value)
    if value is None:
        return ""
    text = visible(value, but="\n") if isinstance(value, str) else visible_json(json.dumps(value, ensure_ascii=False))
    return _FORMULA.sub(r"\1'\2", text)
