"""`remit approve`: list requests for approval, show them, and answer them."""

from __future__ import annotations

import sys
import time
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, style
from remit.cli.run_argument import open_for_person
from remit.cli.text_argument import TEXT

LIKE_CALLS = 3  # approvals of like calls, from which on a rule is offered
SHOWN_CHANGES = 20  # of a backtest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    from remit.client import waiting_approvals_of
    from remit.tracing.reports import needs_text
    from remit.workspace import open_acts

    opened = open_for_person()
    if break_glass:
        _list_emergencies(opened, as_json, quiet=False)
        return
    waiting = waiting_approvals_of(opened)
    missing_of = _obstacles(opened, [item.run for item in waiting])
    if as_json:
        rows = [
            {"run": item.run, "obstacle": missing_of.get(item.run, ""), **item.request.model_dump(mode="json")}
            for item in waiting
        ]
        echo(json_text(rows))
        return
    for run, item in ((item.run, item.request) for item in waiting):
        what = f"{item.summary.splitlines()[0]}  needs {needs_text(item)}"
        echo(f"{run[:8]}/{item.step}.{item.index}  {what}  {_left(item)}")
        if run in missing_of:
            echo(f"    {style('cannot go on', fg='red')}: {missing_of[run]}")
    for act in (acts := open_acts(opened.journal)):
        needs = ", ".join(f"{item.count} × {item.role}" for item in act.missing)
        echo(f"act {act.act[:8]}  {act.by.subject} wants to {act.what}  needs {needs}; remit approve act {act.act[:8]}")
    if not waiting and not acts:
        echo("no request waits for approval")
    _list_emergencies(opened, as_json=False, quiet=True)


def _list_emergencies(opened: WorkspaceSession, as_json: bool, *, quiet: bool) -> None:
    """Print the approvals in role:break-glass that no second person has reviewed."""
    from remit.broker.approvals import emergencies
    from remit.tracing.reports import answer_lines

    unreviewed = emergencies(opened.journal)
    if as_json:
        rows = [{"run": item.run, "at": item.at, **item.granted.model_dump(mode="json")} for item in unreviewed]
        echo(json_text(rows))
        return
    for item in unreviewed:
        summary = item.requested.summary.splitlines()[0] if item.requested else "the request was erased"
        echo(f"{style('break-glass', fg='red')} {item.place}  {summary}  {'; '.join(answer_lines([item.granted]))}")
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
    from remit.broker.approvals import WIDTH, open_approval, wrapped
    from remit.client import find_request
    from remit.journal import StoredRecord
    from remit.tracing.reports import answer_lines, needs_text

    opened = open_for_person()
    waiting = find_request(opened, request)
    record, item = StoredRecord(opened.journal, waiting.run), waiting.request
    obstacle = _obstacles(opened, [record.run]).get(record.run, "")
    if as_json:
        echo(json_text({"run": record.run, "obstacle": obstacle, **item.model_dump(mode="json")}))
        return
    echo(wrapped(_whole(record, item) if full else item.summary, min(WIDTH, get_terminal_size().columns)))
    echo(f"  needs {needs_text(item)}")
    if item.break_glass:
        echo("  in an emergency: grant it with --role role:break-glass --reason …")
    state = open_approval(record, item)
    if state is not None:
        echo(f"  state: {state.status(time.time_ns())}")
        for line in answer_lines(state.answers):
            echo(f"  {line}")
    if obstacle:
        echo(f"  {style('once approved, it cannot go on', fg='red')}: {obstacle}")
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
    "--minutes", type=click.IntRange(1, 1440), default=15, show_default=True, help="With role:break-glass or --more: how many minutes the approval is valid."
)  # fmt: skip
@click.option(
    "--more", type=click.IntRange(1, 100), metavar="N", help="Also approve up to N more calls like it, in this run."
)
@click.option("--resource", "resources", multiple=True, help="With --more: a pattern for what these calls may touch. Default: the same resources.")  # fmt: skip
@click.option("--if", "condition", default="", help="With --more: a condition on their arguments. Default: no number is larger.")  # fmt: skip
@click.option("--yes", is_flag=True, help="With --more: do not ask for confirmation; required without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def grant_command(request: str, yes: bool, as_json: bool, **options: Any) -> None:
    """Approve one call, or with --more also further calls like it. You approve as the user of your operating-system account ([identity] in remit.toml).

    In an emergency, role:break-glass replaces the roles that the rules ask for, if the rules allow it. It needs a reason,
    is valid for some minutes, and stays on the list until a second person has reviewed it.

    \b
    Examples:
      remit approve grant 3f2a
      remit approve grant 3f2a --role role:break-glass --reason "INC-7: checkout is down, no lead answers"
      remit approve grant 3f2a --more 5 --minutes 60
      remit approve grant 3f2a --more 5 --resource 'ticket:INC-*' --if "len(args.reason) <= 200"
    """
    from remit.client import Bound, Remit, bound_lines, find_request

    client = Remit.open()
    more, resources, condition = (options.pop(name) for name in ("more", "resources", "condition"))
    if more is None and (resources or condition):
        raise click.UsageError("--resource and --if describe further calls: add --more N")
    bound = None if more is None else Bound(more=more, resources=resources, condition=condition)
    if bound is not None:
        _confirm_bound(bound_lines(client.session, find_request(client.session, request), bound), yes)
    approved = client.approve(request, bound=bound, **options)
    if approved.rapid:
        warning, actions = style("rapid approval", fg="yellow"), ", ".join(approved.rapid)
        echo(f"{warning}: you approved {actions} within the last minute; the trace records this", err=True)
    if approved.like >= LIKE_CALLS:
        many = f"calls like this were approved {approved.like} times"
        echo(f"{many}; to make a rule of it: remit approve rule {approved.place}", err=True)
    _confirm(as_json, f"approved as {approved.approver} in {approved.role}", approved.run, approved.next)


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
    from remit.client import find_request, reject, who_continues
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    waiting = find_request(opened, request)
    by = principal_of_process(opened.workspace.settings)
    reject(opened, opened.policy, waiting, by=by, reason=reason)
    _confirm(as_json, f"rejected as {by.subject}", waiting.run, who_continues(opened, waiting.run))


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
    from remit.client import find_request, revoke, who_continues
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    waiting = find_request(opened, request)
    by = principal_of_process(opened.workspace.settings)
    revoke(opened, waiting, by=by, reason=reason)
    _confirm(as_json, f"the approval of {by.subject} is revoked", waiting.run, who_continues(opened, waiting.run))


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
    from remit.workspace import authorize_run, open_session, principal_of_process

    opened = open_session()
    run, _, call = place.partition("/")
    matches = [
        item
        for item in emergencies(opened.journal)
        if item.run.startswith(run) and call in ("", f"{item.granted.step}.{item.granted.index}")
    ]
    places = dict.fromkeys(item.place for item in matches)
    if not run or len(places) != 1:
        raise UsageError(f"{place!r} matches {len(places)} calls to review, not one: {', '.join(places) or 'none'}")
    by = principal_of_process(opened.workspace.settings)
    for item in matches:
        what = f"review an emergency approval of run {item.run[:8]}"
        authorize_run(opened.policy, opened.journal, item.run, by, "remit.approve", what)
        review(opened.journal, item, by=by, roles_of=opened.policy.roles_of, note=note)
    place = matches[0].place
    line = f"{place} reviewed by {by.subject}"
    echo(json_text({"ok": True, "place": place, "reviewer": by.subject}) if as_json else line)


@approve_command.command("act")
@click.argument("act")
@click.option("--role", help="The role you approve in.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def act_command(act: str, role: str | None, as_json: bool) -> None:
    """Approve an ACT of another person with Remit itself, such as erasing a run. They then do it again.

    \b
    Examples:
      remit approve list
      remit approve act 3f2a91c0
    """
    from remit.workspace import approve_act, open_session, principal_of_process

    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    given = approve_act(opened.policy, opened.journal, act, by, role)
    line = f"approved as {by.subject} in {given.role}; the person who asked now does it again"
    echo(json_text({"ok": True, "act": given.act}) if as_json else line)


@approve_command.command("rule")
@click.argument("place", metavar="RUN/STEP.INDEX")
@click.option("--write", is_flag=True, help="Add the rule and its case to policies/rules.csv and policies/cases.yaml.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def rule_command(place: str, write: bool, as_json: bool) -> None:
    """Make a rule of a call that people approved, so that they need not be asked again.

    Prints the narrowest row that would have allowed it, a case that pins the row, and what the rules would have decided with it on
    every recorded run. Nothing changes without --write.

    \b
    Examples:
      remit approve rule 3f2a/4.0
      remit approve rule 3f2a/4.0 --write
    """
    from remit.analysis import CASES, RULES, added, edit_workspace, rule_from_approval
    from remit.analysis.diff import working_tree
    from remit.core import UsageError
    from remit.journal import list_runs, resolve_run

    opened = open_for_person()
    name, _, call = place.partition("/")
    step, _, index = call.partition(".")
    if not (step.isdecimal() and index.isdecimal()):
        raise UsageError(f"{place!r} names no call: write RUN/STEP.INDEX")
    journal, source = opened.journal, working_tree(opened.root)
    records = journal.events(resolve_run(journal, name))
    runs = (journal.events(row.run) for row in list_runs(journal))
    found = rule_from_approval(source.rule_set(), source.files, records, (int(step), int(index)), runs)
    if write:
        texts = {RULES: found.rules, CASES: found.case}
        edit_workspace(
            opened.root, {file: added(_text(opened.root / file), text).encode() for file, text in texts.items()}
        )
    flips = [f"{flip.run[:8]}/{flip.step}.{flip.index}: {flip.before} -> {flip.after}" for flip in found.backtest.flips]
    if as_json:
        echo(json_text({"ok": True, "rules": found.rules, "case": found.case, "changes": flips, "written": write}))
        return
    echo(f"{found.rules}\n{found.case}")
    echo(f"backtest: {found.backtest.runs} runs, {found.backtest.decided} decisions, {len(flips)} verdicts change")
    for line in flips[:SHOWN_CHANGES]:
        echo(f"  {line}")
    offer = f"to add them: remit approve rule {place} --write"
    echo("added to policies/rules.csv and policies/cases.yaml" if write else offer)


def _text(path: Path) -> str:
    from remit.core.parsing import read_text

    return read_text(path, file=f"policies/{path.name}") if path.exists() else ""


def _confirm_bound(lines: list[str], yes: bool) -> None:
    """Show which further calls are approved too, and ask whether that is meant."""
    for line in lines:
        echo(line, err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("no terminal to ask for confirmation: read the lines above, then add --yes")
        click.confirm("approve this call and those?", abort=True, err=True)


def _confirm(as_json: bool, line: str, run: str, then: str) -> None:
    echo(json_text({"ok": True, "run": run, "next": then}) if as_json else f"{line}; {then}")


def _obstacles(opened: WorkspaceSession, runs: Sequence[str]) -> dict[str, str]:
    """What keeps runs from going on once they are approved, by run: a part of their definition is missing, or was revoked."""
    if not runs:  # most lists are empty, and what follows loads half of what drives a run
        return {}
    import asyncio

    from remit.journal import StoredRecord
    from remit.runtime import resume_obstacle

    known: dict[tuple[str, ...], str] = {}  # runs of one definition lack the same
    found: dict[str, str] = {}
    for run in dict.fromkeys(runs):
        state = StoredRecord(opened.journal, run).state
        definition = (*state.bundles, state.started.agent if state.started else "")
        if definition not in known:
            known[definition] = asyncio.run(resume_obstacle(opened, run))
        if known[definition]:
            found[run] = known[definition]
    return found


def _left(item: ApprovalRequested) -> str:
    left = (item.expires_at - time.time_ns()) / 1e9
    return f"expires in {left / 60:.0f} min" if left > 0 else "expired"
