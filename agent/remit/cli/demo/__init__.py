"""`remit demo`: an incident that plays at once, in a workspace of its own, without a key and without a clone."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from remit.cli.demo.editing import edit
from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.runtime import RunResult
    from remit.workspace import WorkspaceSession

NAMES: Final = ("rule-change", "tool-update", "slow-upstream", "injected-document", "looping-model", "all")
LEAD: Final = "user:dana"  # whom the rules of the starter make an on-call lead
SERVICE: Final = "service:demo"
TASK: Final = "Checkout is failing: find out why and write the report"
PAGE: Final = "incident.html"
_EVERY_ACCOUNT: Final = '"*" = "user:operator"'
_OPERATORS: Final = "g, user:operator, role:operator\n"
_RULES: Final = f"""# The demonstration may do what operators may; it is no on-call lead
g, {SERVICE}, role:operator
"""
_SCRIPTED_APPROVALS: Final = "\n# An approval in place of a person"


@click.command("demo", short_help="play an incident, with you as the on-call lead")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--incident",
    type=click.Choice(NAMES),
    metavar="NAME",
    help=f"Make one of the incidents to practise on, in place of the demonstration: {', '.join(NAMES)}.",
)
@click.option("--no-browser", is_flag=True, help="Write the page of the run, and do not open it.")
@click.option("--json", "as_json", is_flag=True, help="Print the run and its files as JSON; ask and open nothing.")
def demo_command(folder: Path | None, incident: str | None, no_browser: bool, as_json: bool) -> None:
    """Play an incident in FOLDER, or in a new temporary folder: no clone, no key, no network.

    An agent looks for the cause of a failing checkout and follows an instruction that a customer hid in a log. A script plays the
    model; decisions, sandbox, tools and record are real. service:demo starts the run, and you are the on-call lead: you approve
    or refuse its last call. Then the page of the run opens.

    With --incident, the workspace has a good run and a bad one, and you find the cause: see docs/how-to/five-incidents.md. `all` makes
    the five in one workspace, with a call that waits for you: `remit serve` there shows them in the console.

    \b
    Examples:
      remit demo
      remit demo my-demo --no-browser
      remit demo --incident rule-change practice
    """
    from remit.workspace import write_starter

    chosen = folder or Path(tempfile.mkdtemp(prefix="remit-demo-"))
    write_starter(chosen)
    if incident is not None:
        _make_incident(incident, chosen, as_json)
        return
    _prepare(chosen)
    if not as_json:
        echo(
            style(f"a starter workspace in {chosen}; {SERVICE} starts the run, and you are the on-call lead", dim=True)
        )
    ended = _play(chosen, as_json)
    page = _write_page(chosen, ended.run)
    completed = ended.finished is not None and ended.finished.outcome == "completed"
    if as_json:
        body = {"ok": completed, "run": ended.run, "folder": str(chosen), "page": str(page)}
        echo(json_text({**body, "waiting": [f"{item.step}.{item.index}" for item in ended.waiting]}))
    else:
        _show_page(page, opens=not no_browser and sys.stdout.isatty())
        echo(f"files  cd {chosen}; there, remit trace show {ended.run[:8]} and all other commands work")
    sys.exit(0 if completed else 1)


def _make_incident(name: str, folder: Path, as_json: bool) -> None:
    from remit.cli.demo.incidents import INCIDENTS, make_all

    if name == "all":
        make_all(folder, LEAD)
    else:
        INCIDENTS[name](folder)
    if as_json:
        echo(json_text({"ok": True, "incident": name, "folder": str(folder)}))
        return
    echo(f"the incident {name!r} has happened in {folder}")
    echo(f"next:  cd {folder} && remit trace list")


def _prepare(folder: Path) -> None:
    """Make the person at the terminal the on-call lead, the demonstration a service, and take the scripted approval away."""
    edit(folder / "remit.toml", _EVERY_ACCOUNT, f'"*" = "{LEAD}"')
    edit(folder / "remit.toml", 'users = ["user:dana"', f'users = ["user:dana", "user:operator", "{SERVICE}"')
    edit(folder / "policies/rules.csv", _OPERATORS, _OPERATORS + _RULES)
    script = folder / "agent/triage/script.yaml"
    script.write_text(script.read_text(encoding="utf-8").partition(_SCRIPTED_APPROVALS)[0] + "\n", encoding="utf-8")


def _play(folder: Path, as_json: bool) -> RunResult:
    """Run the agent, and again after the answer of the person at the terminal. Without a terminal, the run stays waiting."""
    from remit.cli.live_output import LiveOutput
    from remit.core import Principal
    from remit.runtime import RunRequest, open_model_of, resume_run, start_run
    from remit.workspace import open_session

    opened = open_session(folder)
    by = Principal(subject=SERVICE, authenticated="script", account="demo", issuer="remit demo")
    output = LiveOutput(as_json=as_json)
    model = open_model_of(opened, "triage")
    request = RunRequest(agent="triage", task=TASK, subject=SERVICE, by=by, model=model)
    shown = None if as_json else output.on_event
    ended = asyncio.run(start_run(opened, request, on_event=shown))
    if ended.waiting and not as_json and sys.stdin.isatty() and _answer(opened, ended):
        ended = asyncio.run(resume_run(opened, ended.run, by=by, on_event=shown))
    if not as_json:
        output.end(ended)
    return ended


def _answer(opened: WorkspaceSession, ended: RunResult) -> bool:
    """Ask the person at the terminal about the waiting calls, and answer as the account of this process.

    False if the person interrupts: the run then stays waiting.
    """
    from remit.client import Remit

    client = Remit(opened)
    echo("\nThe run waits, and no process waits with it. Exactly this call would run:")
    for waiting in (item for item in client.approvals() if item.run == ended.run):
        echo(f"\n{waiting.request.summary}\n")
        try:
            agreed = click.confirm(f"Approve it as {LEAD}, an on-call lead?", default=False)
        except click.Abort:
            echo()
            return False
        if agreed:
            client.approve(waiting)
        else:
            client.reject(waiting, reason="the on-call lead does not agree")
    return True


def _write_page(folder: Path, run: str) -> Path:
    from remit.client import open_trace_of
    from remit.tracing.reports import incident_report
    from remit.tracing.reports.html import write_page
    from remit.workspace import open_session, principal_of_process

    opened = open_session(folder)
    trace = open_trace_of(opened, run, by=principal_of_process(opened.workspace.settings))
    write_page(incident_report(trace, opened), folder / PAGE)
    return folder / PAGE


def _show_page(page: Path, *, opens: bool) -> None:
    opened = opens and webbrowser.open(page.absolute().as_uri())
    echo(f"page   {page}{' is open in your browser' if opened else ''}")
