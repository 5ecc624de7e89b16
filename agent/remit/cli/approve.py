"""`remit approve`: what waits for a person, and what the person says."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from remit.event import ApprovalRequested
    from remit.house import House
    from remit.record import Record


@click.group("approve", short_help="see and answer what waits for a person")
def approve_command() -> None:
    """See and answer what waits for a person. A request is named RUN, or RUN/STEP.INDEX where a run has several.

    \b
    Examples:
      remit approve list
      remit approve show 3f2a
      remit approve grant 3f2a --role role:oncall-lead
      remit approve reject 3f2a --reason "wrong ticket"
    """


@approve_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(as_json: bool) -> None:
    """List every request that nobody has settled.

    \b
    Examples:
      remit approve list --json
    """
    from remit import house

    opened = house.open_house()
    rows = [(record.run, item) for record in _waiting_runs(opened) for item in _waiting(record)]
    if as_json:
        click.echo(json.dumps([{"run": run, **item.model_dump(mode="json")} for run, item in rows]))
        return
    for run, item in rows:
        roles = ", ".join(f"{missing.count} × {missing.role}" for missing in item.missing)
        click.echo(f"{run[:8]}/{item.step}.{item.index}  {item.summary.splitlines()[0]}  needs {roles}  {_left(item)}")
    if not rows:
        click.echo("nothing waits for approval")


@approve_command.command("show")
@click.argument("request")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show_command(request: str, as_json: bool) -> None:
    """Show exactly what would run, rendered from its canonical arguments.

    \b
    Examples:
      remit approve show 3f2a
    """
    from remit import house

    record, item = _named(house.open_house(), request)
    if as_json:
        click.echo(json.dumps({"run": record.run, **item.model_dump(mode="json")}))
        return
    click.echo(item.summary)
    click.echo("  needs " + ", ".join(f"{missing.count} × {missing.role}" for missing in item.missing))
    click.echo(f"  {_left(item)}")


@approve_command.command("grant")
@click.argument("request")
@click.option("--role", help="The role you approve in; needed where several are asked for.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def grant_command(request: str, role: str | None, as_json: bool) -> None:
    """Approve one call, as the person that your operating-system account is.

    \b
    Examples:
      remit approve grant 3f2a
    """
    from remit import approval, house
    from remit.workspace import subject_of

    opened = house.open_house()
    record, item = _named(opened, request)
    asked = [missing.role for missing in item.missing]
    if role is None and len(asked) > 1:
        raise click.UsageError(f"say in which role: --role {' | '.join(asked)}")
    approver = subject_of(opened.workspace.settings, house.account())
    approval.grant(
        record,
        item,
        approver=approver,
        role=role or asked[0],
        roles_of=opened.policy.roles_of,
        account=house.account(),
        now=time.time_ns(),
    )
    _say(as_json, f"approved as {approver} in {role or asked[0]}", record)


@approve_command.command("reject")
@click.argument("request")
@click.option("--reason", required=True, help="Why; the model reads it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def reject_command(request: str, reason: str, as_json: bool) -> None:
    """Reject one call; one no is enough.

    \b
    Examples:
      remit approve reject 3f2a --reason "wrong ticket"
    """
    from remit import approval, house
    from remit.workspace import subject_of

    opened = house.open_house()
    record, item = _named(opened, request)
    approver = subject_of(opened.workspace.settings, house.account())
    approval.reject(
        record,
        item,
        approver=approver,
        roles_of=opened.policy.roles_of,
        account=house.account(),
        now=time.time_ns(),
        reason=reason,
    )
    _say(as_json, f"rejected as {approver}", record)


def _say(as_json: bool, line: str, record: Record) -> None:
    if as_json:
        click.echo(json.dumps({"ok": True, "run": record.run}))
    else:
        click.echo(f"{line}; if no process waits for it: remit run --resume {record.run[:8]}")


def _waiting_runs(opened: House) -> list[Record]:
    from remit.record import Record

    return [Record(opened.journal, row.run) for row in opened.journal.runs() if row.state == "waiting"]


def _waiting(record: Record) -> list[ApprovalRequested]:
    from remit import approval

    return approval.waiting(record)


def _named(opened: House, request: str) -> tuple[Record, ApprovalRequested]:
    from remit.errors import UsageError
    from remit.record import Record

    run, _, place = request.partition("/")
    record = Record(opened.journal, opened.journal.resolve_run(run))
    found = [item for item in _waiting(record) if place in ("", f"{item.step}.{item.index}")]
    if len(found) != 1:
        places = ", ".join(f"{record.run[:8]}/{item.step}.{item.index}" for item in _waiting(record)) or "none"
        raise UsageError(f"{request!r} names {len(found)} requests; waiting in that run: {places}")
    return record, found[0]


def _left(item: ApprovalRequested) -> str:
    left = (item.expires_at - time.time_ns()) / 1e9
    return f"expires in {left / 60:.0f} min" if left > 0 else "expired"
