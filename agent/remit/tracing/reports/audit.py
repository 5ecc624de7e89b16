"""The audit export: every decision of a run as one flat row, in the order in which they were made."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Final

from remit.core import BREAK_GLASS, Failed, Json, Rule
from remit.core.events import NANO, ApprovalGranted, CallAnswered, CallDecided, Recorded, RunStarted
from remit.core.parsing import visible, visible_json

# What a spreadsheet would calculate instead of showing: at the start of a cell, or of what it takes for one where the list
# separator of its country is another, where quotes are no quotes to it, or where a line breaks. Apostrophes that were there
# already get one more, so that the text can be given back.
_START: Final = r"((?:\A|[,;|:\n\"'“”])[ ]*)"
_FORMULA: Final = re.compile(_START + r"('*[=+\-@＝＋－＠])")
_HARMLESS: Final = re.compile(_START + r"'('*[=+\-@＝＋－＠])")


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """One decision. `at` is ISO 8601 in UTC; `verdict` also says `refused` (before it was a call) and `erased`.

    `approvals` are those given by then, as "PERSON as ROLE", for an emergency with its reason and who reviewed it; `outcome`
    is the code of the call's result, "ok", or "" where the decision was not the last or nothing came of it yet. `hash` is
    the event's place in the chain of its run: `remit trace verify` vouches for it.
    """

    at: str
    run: str
    step: int
    index: int
    round: int
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
    policy_digest: str
    request_digest: str
    decision_digest: str
    hash: str


COLUMNS: Final = tuple(field.name for field in fields(AuditRow))


def decision_rows(records: Iterable[Recorded], reviewers: Mapping[tuple[str, str], str]) -> Iterator[AuditRow]:
    """The decisions of one run; `reviewers` says who reviewed an emergency approval, by run and the approval's key."""
    records = list(records)
    started = next((one.event for one in records if isinstance(one.event, RunStarted)), None)
    outcomes = {
        (event.step, event.index): event.result.error.code if isinstance(event.result, Failed) else "ok"
        for one in records
        if isinstance(event := one.event, CallAnswered)
    }
    last = {(event.step, event.index): event.round for one in records if isinstance(event := one.event, CallDecided)}
    granted: dict[tuple[int, int], list[str]] = {}
    for one in records:
        event = one.event
        if isinstance(event, ApprovalGranted):
            place = (event.step, event.index)
            granted.setdefault(place, []).append(_approval(event, reviewers.get((one.run, event.key))))
        elif isinstance(event, CallDecided):
            place = (event.step, event.index)
            outcome = outcomes.get(place, "") if event.round == last[place] else ""
            yield _row(one, event, started, tuple(granted.get(place, ())), outcome)
        elif event is None and one.type == "call.decided":
            yield _erased(one, started)


def _row(
    one: Recorded, event: CallDecided, started: RunStarted | None, approvals: tuple[str, ...], outcome: str
) -> AuditRow:
    decision, call, refused = event.decision, event.call, event.refusal
    verdict, reason, message = "refused", "", ""
    if decision is not None:
        verdict, reason, message = decision.verdict, decision.reason, decision.message
    elif isinstance(refused, Failed):
        reason, message = refused.error.code, refused.error.message
    return AuditRow(
        at=_at(one),
        run=one.run,
        step=event.step,
        index=event.index,
        round=event.round,
        agent=started.subjects.agent if started else "",
        user=started.subjects.user if started else "",
        account=started.account if started else "",
        action=call.action if call else event.proposed.action,
        resources=tuple(dict.fromkeys(touch.resource for touch in call.touches)) if call else (),
        arguments=call.arguments if call else event.proposed.arguments,
        verdict=verdict,
        reason=reason,
        message=message,
        rules=tuple(map(_rule, decision.rules)) if decision else (),
        approvals=approvals,
        outcome=outcome,
        policy_digest=decision.policy_digest if decision else "",
        request_digest=call.request_digest if call else "",
        decision_digest=decision.decision_digest if decision else "",
        hash=one.hash,
    )


def _erased(one: Recorded, started: RunStarted | None) -> AuditRow:
    """Only the header is left, and says that there was a decision."""
    _, step, index, number = one.key.split("/")
    return AuditRow(
        at=_at(one), run=one.run, step=int(step), index=int(index), round=int(number),
        agent=started.subjects.agent if started else "", user=started.subjects.user if started else "",
        account=started.account if started else "", action="", resources=(), arguments=None, verdict="erased", reason="",
        message="", rules=(), approvals=(), outcome="", policy_digest="", request_digest="", decision_digest="", hash=one.hash,
    )  # fmt: skip


def _approval(event: ApprovalGranted, reviewer: str | None) -> str:
    said = f"{event.approver} as {event.role}{' (scripted)' if event.scripted else ''}"
    if event.role != BREAK_GLASS:
        return said
    return f"{said}: {event.reason} ({f'reviewed by {reviewer}' if reviewer else 'not reviewed'})"


def _rule(rule: Rule) -> str:
    return f"{rule.file}:{rule.line} {rule.note or rule.text}"


def _at(one: Recorded) -> str:
    second, rest = divmod(one.at, NANO)
    return f"{datetime.fromtimestamp(second, UTC).strftime('%Y-%m-%dT%H:%M:%S')}.{rest // 1000:06d}Z"


def decision_as_json(row: AuditRow) -> str:
    """One line of JSON, everything as it was recorded."""
    return visible_json(json.dumps(asdict(row), ensure_ascii=False, separators=(",", ":")))


def decision_as_csv(row: AuditRow) -> str:
    """One record of CSV (RFC 4180): lists and arguments as JSON in one field.

    No cell is a formula, wherever a spreadsheet splits the record: every cell stands in quotes, hidden characters are written
    out, and an apostrophe stands before each character that begins a formula at the start of a cell, after a separator and in
    a line of its own. `cell_text` takes the apostrophes away again.
    """
    return _csv(map(_cell, asdict(row).values()))


def decision_csv_header() -> str:
    return _csv(COLUMNS)


def cell_text(cell: str) -> str:
    """The text of a cell as it was before `decision_as_csv` made it harmless."""
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
