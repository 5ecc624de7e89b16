"""`remit approve`: list requests for approval, show them, and answer them."""

from __future__ import annotations

import time
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style
from remit.cli.text_argument import TEXT

if TYPE_CHECKING:
    from remit.core.events import ApprovalRequested
    from remit.journal import Record
    from remit.workspace import WorkspaceSession


@click.group("approve", short_help="list, show and answer requests for approval")
def approve_command() -> None:
    """List, show and answer requests for approval.

    REQUEST is RUN, or RUN/STEP.INDEX if the run has several. A unique prefix of the run id is enough.

    \b
    Examples:
      remit approve list
      remit approve show 3f2a
      remit approve grant 3f2a --role role:oncall-lead
      remit approve reject 3f2a --reason "wrong ticket"
      remit approve revoke 3f2a --reason "I misread the host"
    """


@approve_command.command("list")
@click.option("--break-glass", is_flag=True, help="List only emergency approvals that nobody has reviewed.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def approve_list_command(break_glass: bool, as_json: bool) -> None:
    """List the open requests for approval.

    Also lists the emergency approvals that nobody has reviewed.

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
        echo("no request waits for approval")
    _list_emergencies(opened, as_json=False, quiet=True)


def _list_emergencies(opened: WorkspaceSession, as_json: bool, *, quiet: bool) -> None:
    """Print the approvals in role:break-glass that no second person has reviewed."""
    from remit.broker.approvals import emergencies

    unreviewed = [item for item in emergencies(opened.journal) if item.review is None]
    if as_json:
        rows = [{"run": item.run, "at": item.at, **item.granted.model_dump(mode="json")} for item in unreviewed]
        echo(json_text(rows))
        return
    for item in unreviewed:
        summary = item.requested.summary.splitlines()[0] if item.requested else "the request was erased"
        mark = style("break-glass", fg="red")
        echo(f"{mark} {item.place}  {summary}  by {item.granted.approver}: {item.granted.reason}")
        echo(f"    to review it: remit approve review {item.place} --note …")
    if not unreviewed and not quiet:
        echo("every emergency approval has been reviewed")


@approve_command.command("show")
@click.argument("request")
@click.option("--full", is_flag=True, help="Show every argument, and long values in full.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def approve_show_command(request: str, full: bool, as_json: bool) -> None:
    """Show exactly the call that would run.

    The arguments are those that will be used, in canonical form. Hidden and look-alike characters are written as numbers.

    \b
    Examples:
      remit approve show 3f2a
      remit approve show 3f2a/4.0 --full
    """
    from remit.broker.approvals import WIDTH, wrapped
    from remit.workspace import open_session

    record, item = _find_request(open_session(), request)
    if as_json:
        echo(json_text({"run": record.run, **item.model_dump(mode="json")}))
        return
    echo(wrapped(_whole(record, item) if full else item.summary, min(WIDTH, get_terminal_size().columns)))
    echo("  needs " + ", ".join(f"{missing.count} × {missing.role}" for missing in item.missing))
    if item.break_glass:
        echo("  in an emergency: grant it with --role role:break-glass --reason …")
    call = record.state.open.get((item.step, item.index))
    for grant in () if call is None else call.grants:
        echo(f"  approved by {grant.approver} as {grant.role}")
    echo(f"  {_left(item)}")


def _whole(record: Record, item: ApprovalRequested) -> str:
    """The summary with every value in full, rendered again from the recorded call."""
    from remit.broker.approvals import approval_summary
    from remit.core.events import CallDecided
    from remit.guardrails import Redactor, Sanitizer

    decided = record.get(f"call.decided/{item.step}/{item.index}/0")
    if not isinstance(decided, CallDecided) or decided.call is None or decided.decision is None:
        return item.summary
    return approval_summary(decided.call, decided.decision, Sanitizer(Redactor(record.run)), whole=True)


@approve_command.command("grant")
@click.argument("request")
@click.option("--role", help="The role you approve in. Required if the request needs several roles.")
@click.option("--reason", type=TEXT, default="", help="With role:break-glass: the reason for the emergency approval.")
@click.option(
    "--minutes", type=click.IntRange(1, 60), default=15, show_default=True, help="With role:break-glass: how many minutes the approval is valid."
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def grant_command(request: str, role: str | None, reason: str, minutes: int, as_json: bool) -> None:
    """Approve one call. You approve as the user of your operating-system account ([identity] in remit.toml).

    In an emergency, role:break-glass replaces the roles that the rules ask for, if the rules allow it. It needs a reason,
    is valid for some minutes, and stays on the list until a second person has reviewed it.

    \b
    Examples:
      remit approve grant 3f2a
      remit approve grant 3f2a --role role:break-glass --reason "INC-7: checkout is down, no lead answers"
    """
    from remit.broker.approvals import Approval, approved_within_a_minute, grant_approval
    from remit.core import BREAK_GLASS
    from remit.workspace import open_session, os_account, subject_of

    opened = open_session()
    record, item = _find_request(opened, request)
    now = time.time_ns()
    roles = [missing.role for missing in item.missing]
    if role is None and len(roles) > 1:
        raise click.UsageError(f"the request needs several roles; choose yours: --role {' | '.join(roles)}")
    approver, role = subject_of(opened.workspace.settings, os_account()), role or roles[0]
    recent = approved_within_a_minute(opened.journal, record, item, approver=approver, now=now)
    if recent:
        warning = style("rapid approval", fg="yellow")
        echo(f"{warning}: you approved {', '.join(recent)} within the last minute; the trace records this", err=True)
    grant_approval(
        record,
        item,
        Approval(
            approver=approver,
            role=role,
            account=os_account(),
            reason=reason,
            until=min(now + minutes * 60_000_000_000, item.expires_at) if role == BREAK_GLASS else None,
            rapid=bool(recent),
        ),
        roles_of=opened.policy.roles_of,
        now=now,
    )
    _confirm(as_json, f"approved as {approver} in {role}", record)


@approve_command.command("reject")
@click.argument("request")
@click.option("--reason", type=TEXT, required=True, help="Why you reject it. The model reads this text.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def reject_command(request: str, reason: str, as_json: bool) -> None:
    """Reject one call. One rejection is enough, even if several approvals are needed.

    \b
    Examples:
      remit approve reject 3f2a --reason "wrong ticket"
    """
    from remit.broker.approvals import reject_approval
    from remit.workspace import open_session, os_account, subject_of

    opened = open_session()
    record, item = _find_request(opened, request)
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
    _confirm(as_json, f"rejected as {approver}", record)


@approve_command.command("revoke")
@click.argument("request")
@click.option("--reason", type=TEXT, required=True, help="Why you revoke it. The trace keeps this text.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def revoke_command(request: str, reason: str, as_json: bool) -> None:
    """Revoke your own approval before the call runs.

    \b
    Examples:
      remit approve revoke 3f2a --reason "I misread the host"
    """
    from remit.broker.approvals import revoke_approval
    from remit.workspace import open_session, os_account, subject_of

    opened = open_session()
    record, item = _find_request(opened, request)
    approver = subject_of(opened.workspace.settings, os_account())
    revoke_approval(record, item, approver=approver, account=os_account(), reason=reason)
    _confirm(as_json, f"the approval of {approver} is revoked", record)


@approve_command.command("review")
@click.argument("place", metavar="RUN/STEP.INDEX")
@click.option("--note", type=TEXT, required=True, help="Your finding. The audit export contains this text.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def review_command(place: str, note: str, as_json: bool) -> None:
    """Review an emergency approval as a second person.

    Neither its approver nor the user who started the run may review it.

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
    matches = [
        item
        for item in emergencies(opened.journal)
        if item.review is None
        and item.run.startswith(run)
        and call in ("", f"{item.granted.step}.{item.granted.index}")
    ]
    places = dict.fromkeys(item.place for item in matches)
    if not run or len(places) != 1:
        raise UsageError(f"{place!r} matches {len(places)} calls to review, not one: {', '.join(places) or 'none'}")
    account = os_account()
    reviewer = subject_of(opened.workspace.settings, account)
    for item in matches:
        review(
            opened.journal, item, reviewer=reviewer, account=account, roles_of=opened.policy.roles_of, note=note
        )  # fmt: skip
    place = matches[0].place
    echo(
        json_text({"ok": True, "place": place, "reviewer": reviewer}) if as_json else f"{place} reviewed by {reviewer}"
    )


def _confirm(as_json: bool, line: str, record: Record) -> None:
    if as_json:
        echo(json_text({"ok": True, "run": record.run}))
    else:
        echo(f"{line}; if the run is no longer active, resume it: remit run --resume {record.run[:8]}")


def _waiting_runs(opened: WorkspaceSession) -> list[Record]:
    from remit.journal import Record

    return [Record(opened.journal, row.run) for row in opened.journal.runs() if row.state == "waiting"]


def _waiting(record: Record) -> list[ApprovalRequested]:
    from remit.broker.approvals import waiting_approvals

    return waiting_approvals(record)


def _find_request(opened: WorkspaceSession, request: str) -> tuple[Record, ApprovalRequested]:
    from remit.core import UsageError
    from remit.journal import Record

    run, _, place = request.partition("/")
    record = Record(opened.journal, opened.journal.resolve_run(run))
    matches = [item for item in _waiting(record) if place in ("", f"{item.step}.{item.index}")]
    if not matches and place and (closed := _latest(record, place)) is not None:
        return record, closed  # an answer that comes too late is refused later, so that the attempt is recorded
    if len(matches) != 1:
        places = ", ".join(f"{record.run[:8]}/{item.step}.{item.index}" for item in _waiting(record)) or "none"
        raise UsageError(f"{request!r} matches {len(matches)} requests, not one; open in this run: {places}")
    return record, matches[0]


def _latest(record: Record, place: str) -> ApprovalRequested | None:
    """The last request for approval of that call, open or closed."""
    from remit.core.events import ApprovalRequested

    of_call = [item for item in record.every() if isinstance(item, ApprovalRequested)]
    return next((item for item in reversed(of_call) if place == f"{item.step}.{item.index}"), None)


def _left(item: ApprovalRequested) -> str:
    left = (item.expires_at - time.time_ns()) / 1e9
    return f"expires in {left / 60:.0f} min" if left > 0 else "expired"
