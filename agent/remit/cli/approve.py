"""`remit approve`: what waits for a person, and what the person says."""

from __future__ import annotations

import time
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style
from remit.cli.text_argument import WORDS

if TYPE_CHECKING:
    from remit.core.events import ApprovalRequested
    from remit.journal import Record
    from remit.workspace import WorkspaceSession


@click.group("approve", short_help="see and answer what waits for a person")
def approve_command() -> None:
    """See and answer what waits for a person. A request is named RUN, or RUN/STEP.INDEX where a run has several.

    \b
    Examples:
      remit approve list
      remit approve show 3f2a
      remit approve grant 3f2a --role role:oncall-lead
      remit approve reject 3f2a --reason "wrong ticket"
      remit approve revoke 3f2a --reason "I misread the host"
    """


@approve_command.command("list")
@click.option("--break-glass", is_flag=True, help="Only emergency approvals that nobody has reviewed.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(break_glass: bool, as_json: bool) -> None:
    """List every request that nobody has settled, and every emergency approval that nobody has reviewed.

    \b
    Examples:
      remit approve list --json
      remit approve list --break-glass
    """
    from remit.workspace import open_session

    opened = open_session()
    if break_glass:
        _list_emergencies(opened, as_json, quiet=False)
        return
    rows = [(record.run, item) for record in _waiting_runs(opened) for item in _waiting(record)]
    if as_json:
        echo(json_text([{"run": run, **item.model_dump(mode="json")} for run, item in rows]))
        return
    for run, item in rows:
        roles = ", ".join(f"{missing.count} × {missing.role}" for missing in item.missing)
        echo(f"{run[:8]}/{item.step}.{item.index}  {item.summary.splitlines()[0]}  needs {roles}  {_left(item)}")
    if not rows:
        echo("nothing waits for approval")
    _list_emergencies(opened, as_json=False, quiet=True)


def _list_emergencies(opened: WorkspaceSession, as_json: bool, *, quiet: bool) -> None:
    """Approvals in role:break-glass that no second person has reviewed."""
    from remit.broker.approvals import emergencies

    found = [one for one in emergencies(opened.journal) if one.review is None]
    if as_json:
        shown = [{"run": one.run, "at": one.at, **one.granted.model_dump(mode="json")} for one in found]
        echo(json_text(shown))
        return
    for one in found:
        asked = one.requested.summary.splitlines()[0] if one.requested else "erased"
        word = style("break-glass", fg="red")
        echo(f"{word} {one.place}  {asked}  by {one.granted.approver}: {one.granted.reason}")
        echo(f"    review it: remit approve review {one.place} --note …")
    if not found and not quiet:
        echo("every emergency approval has been reviewed")


@approve_command.command("show")
@click.argument("request")
@click.option("--full", is_flag=True, help="Show long values whole, and every argument.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show_command(request: str, full: bool, as_json: bool) -> None:
    """Show exactly what would run, rendered from its canonical arguments; what could deceive the eye is written out.

    \b
    Examples:
      remit approve show 3f2a
      remit approve show 3f2a/4.0 --full
    """
    from remit.broker.approvals import WIDTH, wrapped
    from remit.workspace import open_session

    record, item = _named(open_session(), request)
    if as_json:
        echo(json_text({"run": record.run, **item.model_dump(mode="json")}))
        return
    echo(wrapped(_whole(record, item) if full else item.summary, min(WIDTH, get_terminal_size().columns)))
    echo("  needs " + ", ".join(f"{missing.count} × {missing.role}" for missing in item.missing))
    if item.break_glass:
        echo("  or in an emergency: --role role:break-glass --reason …")
    call = record.state.open.get((item.step, item.index))
    for given in () if call is None else call.grants:
        echo(f"  has the approval of {given.approver} as {given.role}")
    echo(f"  {_left(item)}")


def _whole(record: Record, item: ApprovalRequested) -> str:
    """The summary without folds, rendered again from the recorded call."""
    from remit.broker.approvals import approval_summary
    from remit.core.events import CallDecided
    from remit.guardrails import Redactor, Sanitizer

    decided = record.get(f"call.decided/{item.step}/{item.index}/0")
    if not isinstance(decided, CallDecided) or decided.call is None or decided.decision is None:
        return item.summary
    return approval_summary(decided.call, decided.decision, Sanitizer(Redactor(record.run)), whole=True)


@approve_command.command("grant")
@click.argument("request")
@click.option("--role", help="The role you approve in; needed where several are asked for.")
@click.option("--reason", type=WORDS, default="", help="With role:break-glass: what the emergency is.")
@click.option(
    "--minutes", type=click.IntRange(1, 60), default=15, show_default=True, help="With role:break-glass: how long it counts."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def grant_command(request: str, role: str | None, reason: str, minutes: int, as_json: bool) -> None:
    """Approve one call, as the person that your operating-system account is.

    In an emergency, where the rules let it, role:break-glass approves in place of those who are asked: with a reason, for
    minutes, and on the list until a second person has reviewed it.

    \b
    Examples:
      remit approve grant 3f2a
      remit approve grant 3f2a --role role:break-glass --reason "INC-7: checkout is down, no lead answers"
    """
    from remit.broker.approvals import Approval, approved_within_a_minute, grant_approval
    from remit.core import BREAK_GLASS
    from remit.workspace import open_session, os_account, subject_of

    opened = open_session()
    record, item = _named(opened, request)
    now = time.time_ns()
    asked = [missing.role for missing in item.missing]
    if role is None and len(asked) > 1:
        raise click.UsageError(f"say in which role: --role {' | '.join(asked)}")
    approver, role = subject_of(opened.workspace.settings, os_account()), role or asked[0]
    haste = approved_within_a_minute(opened.journal, record, item, approver=approver, now=now)
    if haste:
        warning = style("in haste", fg="yellow")
        echo(f"{warning}: within a minute you have approved {', '.join(haste)}; the trace says so", err=True)
    grant_approval(
        record,
        item,
        Approval(
            approver=approver,
            role=role,
            account=os_account(),
            reason=reason,
            until=min(now + minutes * 60_000_000_000, item.expires_at) if role == BREAK_GLASS else None,
            hasty=bool(haste),
        ),
        roles_of=opened.policy.roles_of,
        now=now,
    )
    _say(as_json, f"approved as {approver} in {role}", record)


@approve_command.command("reject")
@click.argument("request")
@click.option("--reason", type=WORDS, required=True, help="Why; the model reads it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def reject_command(request: str, reason: str, as_json: bool) -> None:
    """Reject one call; one no is enough.

    \b
    Examples:
      remit approve reject 3f2a --reason "wrong ticket"
    """
    from remit.broker.approvals import reject_approval
    from remit.workspace import open_session, os_account, subject_of

    opened = open_session()
    record, item = _named(opened, request)
    approver = subject_of(opened.workspace.settings, os_account())
    reject_approval(
        record,
        item,
        approver=approver,
        roles_of=opened.policy.roles_of,
        account=os_account(),
        now=time.time_ns(),
        reason=reason,
    )
    _say(as_json, f"rejected as {approver}", record)


@approve_command.command("revoke")
@click.argument("request")
@click.option("--reason", type=WORDS, required=True, help="Why; it stays in the trace.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def revoke_command(request: str, reason: str, as_json: bool) -> None:
    """Take your own approval back, before the call has been carried out.

    \b
    Examples:
      remit approve revoke 3f2a --reason "I misread the host"
    """
    from remit.broker.approvals import revoke_approval
    from remit.workspace import open_session, os_account, subject_of

    opened = open_session()
    record, item = _named(opened, request)
    approver = subject_of(opened.workspace.settings, os_account())
    revoke_approval(record, item, approver=approver, account=os_account(), reason=reason)
    _say(as_json, f"{approver}'s approval is revoked", record)


@approve_command.command("review")
@click.argument("place", metavar="RUN/STEP.INDEX")
@click.option("--note", type=WORDS, required=True, help="What you found; the audit export quotes it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def review_command(place: str, note: str, as_json: bool) -> None:
    """Review an emergency approval, as a second person: neither who gave it nor who asked for it.

    \b
    Examples:
      remit approve list --break-glass
      remit approve review 3f2a9b71/4.0 --note "right call; the lead was on a plane"
    """
    from remit.broker.approvals import emergencies, review
    from remit.core import UsageError
    from remit.workspace import open_session, os_account, subject_of

    opened = open_session()
    run, _, call = place.partition("/")
    found = [
        one
        for one in emergencies(opened.journal)
        if one.review is None and one.run.startswith(run) and call in ("", f"{one.granted.step}.{one.granted.index}")
    ]
    places = dict.fromkeys(one.place for one in found)
    if not run or len(places) != 1:
        raise UsageError(f"{place!r} names {len(places)} calls to review: {', '.join(places) or 'none'}")
    account = os_account()
    reviewer = subject_of(opened.workspace.settings, account)
    for one in found:
        review(
            opened.journal, one, reviewer=reviewer, account=account, roles_of=opened.policy.roles_of, note=note
        )  # fmt: skip
    place = found[0].place
    echo(
        json_text({"ok": True, "place": place, "reviewer": reviewer})
        if as_json
        else f"{place} is reviewed by {reviewer}"
    )


def _say(as_json: bool, line: str, record: Record) -> None:
    if as_json:
        echo(json_text({"ok": True, "run": record.run}))
    else:
        echo(f"{line}; if no process waits for it: remit run --resume {record.run[:8]}")


def _waiting_runs(opened: WorkspaceSession) -> list[Record]:
    from remit.journal import Record

    return [Record(opened.journal, row.run) for row in opened.journal.runs() if row.state == "waiting"]


def _waiting(record: Record) -> list[ApprovalRequested]:
    from remit.broker.approvals import waiting_approvals

    return waiting_approvals(record)


def _named(opened: WorkspaceSession, request: str) -> tuple[Record, ApprovalRequested]:
    from remit.core import UsageError
    from remit.journal import Record

    run, _, place = request.partition("/")
    record = Record(opened.journal, opened.journal.resolve_run(run))
    found = [item for item in _waiting(record) if place in ("", f"{item.step}.{item.index}")]
    if not found and place and (settled := _latest(record, place)) is not None:
        return record, settled  # what can no longer be answered is refused, and the attempt is recorded
    if len(found) != 1:
        places = ", ".join(f"{record.run[:8]}/{item.step}.{item.index}" for item in _waiting(record)) or "none"
        raise UsageError(f"{request!r} names {len(found)} requests; waiting in that run: {places}")
    return record, found[0]


def _latest(record: Record, place: str) -> ApprovalRequested | None:
    """The last request of that call, settled or not."""
    from remit.core.events import ApprovalRequested

    of_call = [item for item in record.every() if isinstance(item, ApprovalRequested)]
    return next((item for item in reversed(of_call) if place == f"{item.step}.{item.index}"), None)


def _left(item: ApprovalRequested) -> str:
    left = (item.expires_at - time.time_ns()) / 1e9
    return f"expires in {left / 60:.0f} min" if left > 0 else "expired"
