"""`remit principal`: disables people and services, and enables them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style
from remit.cli.text_argument import TEXT

if TYPE_CHECKING:
    from remit.workspace import WorkspaceSession


@click.group("principal", short_help="disable people and services, and enable them again")
def principal_command() -> None:
    """Disable people and services, and enable them again.

    SUBJECT is user:NAME or service:NAME.

    \b
    Examples:
      remit principal disable user:ann --reason "has left the company"
      remit principal list
      remit principal enable user:ann
    """


@principal_command.command("disable")
@click.argument("subject")
@click.option("--reason", type=TEXT, required=True, help="Why. The trace shows this text.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def disable_command(subject: str, reason: str, as_json: bool) -> None:
    """Disable SUBJECT: within a second it can do nothing, its runs stop, and its sessions and keys end.

    What it asked people to approve is rejected, and so is what it approved and what has not begun.

    \b
    Examples:
      remit principal disable user:ann --reason "laptop stolen"
      remit principal disable service:ci --reason "its key was in a log"
    """
    from remit.client import disable_principal
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    done = disable_principal(opened, subject, by=by, reason=reason)
    unknown = _doubt(opened, subject)
    if as_json:
        body = {**done.hold.model_dump(mode="json"), "voided": list(done.voided), "unknown": unknown or None}
        echo(json_text({"ok": True, **body}))
        return
    echo(f"{subject} is disabled; requests for approval that were rejected: {len(done.voided)}")
    if unknown:
        echo(f"{style('check the name', fg='yellow')}: {unknown}")
    for place in done.voided:
        echo(f"  {place}")


def _doubt(opened: WorkspaceSession, subject: str) -> str:
    """A line if nothing here names the subject; "" if something does. It is disabled in any case: a provider may know people that no file names."""
    from remit.core import near_names
    from remit.journal import RunQuery, list_runs

    settings = opened.workspace.settings
    known = {
        *(settings.identity or {}).values(),
        *(settings.users or ()),
        *(link.member for link in opened.policy.links),
    }
    if subject in known or next(iter(list_runs(opened.journal, RunQuery(user=subject, evaluation=None), page=1)), None):
        return ""
    near = near_names(subject, known)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"no rule, setting or run names {subject}{meant}"


@principal_command.command("enable")
@click.argument("subject")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def enable_command(subject: str, as_json: bool) -> None:
    """Let a disabled SUBJECT ask again. What was rejected stays rejected, and people log in again.

    \b
    Examples:
      remit principal enable user:ann
    """
    from remit.client import enable_principal
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    enable_principal(opened, subject, by=principal_of_process(opened.workspace.settings))
    echo(json_text({"ok": True, "subject": subject}) if as_json else f"{subject} is no longer disabled")


@principal_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def principal_list_command(as_json: bool) -> None:
    """List who is disabled.

    \b
    Examples:
      remit principal list
    """
    from remit.client import disabled_principals
    from remit.workspace import open_session

    found = disabled_principals(open_session().journal)
    if as_json:
        echo(json_text([{"subject": hold.scope, **hold.model_dump(mode="json")} for hold in found]))
        return
    for hold in found:
        echo(f"{hold.scope}  by {hold.by.subject}: {hold.reason}")
    if not found:
        echo("nobody is disabled")
