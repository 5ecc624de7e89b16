"""`remit report`: what an agent did, what the rules of now would refuse of it, and which rules it lacks."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, runs_read, style
from remit.cli.run_argument import open_for_person
from remit.cli.trace.filters import RunFilter, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from remit.analysis import ObservedWork
    from remit.core.events import Recorded
    from remit.workspace import Agent, WorkspaceSession


@click.command("report", short_help="what an observed agent did, and which rules it lacks")
@click.argument("agent")
@click.option("--since", default="7d", show_default=True, help="Read runs since then: 24h, 7d, a date.")
@click.option("--write", is_flag=True, help="Add the missing rules and their cases to policies/.")
@click.option("--enforce", "actions", multiple=True, metavar="ACTION", help="Enforce this action from now on.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def report_command(agent: str, since: str, write: bool, actions: tuple[str, ...], as_json: bool) -> None:
    """Say what AGENT did, what the rules of now would have refused or asked, and the smallest rules that it lacks.

    --enforce adds actions to `enforce` in agent.toml. It does that only if no recorded call of them lacks a rule; calls that a
    rule refuses are refused from then on. Exit code 1 if a rule is missing.

    \b
    Examples:
      remit report desk
      remit report desk --since 24h --write
      remit report desk --enforce desk.refund
    """
    from remit.cli.monitoring.drift import check_agent
    from remit.workspace import open_session

    opened = open_for_person()
    check_agent(opened, agent)
    found = _work(opened, agent, parse_time(since))
    missing = found.suggested.rules
    if write and missing:
        _write_rules(opened, found)
        opened = open_session(opened.root)
        found = _work(opened, agent, parse_time(since))
    for action in actions:
        _enforce(opened, agent, action, found)
    if as_json:
        echo(json_text({"ok": not found.suggested.missing, "agent": agent, **asdict(found), "enforced": actions}))
    else:
        _show(opened.workspace.agents[agent], found)
        if write and missing:
            echo(f"\nadded to policies/rules.csv and policies/cases.yaml:\n\n{missing}")
        for action in actions:
            echo(f"{action} is enforced: agent/{agent}/agent.toml")
    if found.suggested.missing:
        raise SystemExit(1)


def _work(opened: WorkspaceSession, agent: str, since: int | None) -> ObservedWork:
    from remit.analysis import CASES, observed_work
    from remit.analysis.diff import working_tree
    from remit.core.parsing import table_text
    from remit.workspace import policy_files

    return observed_work(
        working_tree(opened.root).rule_set(),
        policy_files(opened.root),
        opened.workspace,
        _runs(opened, agent, since),
        cases=table_text(opened.root / CASES, file=CASES),
    )


def _runs(opened: WorkspaceSession, agent: str, since: int | None) -> Iterator[Sequence[Recorded]]:
    show, number = runs_read(), count(1)
    for row in RunFilter(agent=agent, since=since).choose(opened, None):
        show(next(number))
        yield opened.journal.events(row.run)


def _write_rules(opened: WorkspaceSession, found: ObservedWork) -> None:
    from remit.analysis import CASES, RULES, added, edit_workspace
    from remit.core.parsing import table_text

    texts = {RULES: found.suggested.rules, CASES: found.suggested.cases}
    edited = {file: added(table_text(opened.root / file, file=file), text).encode() for file, text in texts.items()}
    edit_workspace(opened.root, edited)


def _enforce(opened: WorkspaceSession, agent: str, action: str, found: ObservedWork) -> None:
    """Add the action to `enforce` of the agent. Raises UsageError if a recorded call of it lacks a rule."""
    from remit.analysis import edit_workspace, with_enforced
    from remit.core import UsageError
    from remit.core.parsing import table_text

    if opened.workspace.agents[agent].observe is None:
        raise UsageError(f"agent {agent!r} does not observe: all of its actions are enforced")
    if lacking := found.lacking(action):
        what = f"{lacking} recorded calls of {action} lack a rule and would be refused"
        raise UsageError(f"{what}: add the rules with --write, or let a rule deny these calls")
    file = f"agent/{agent}/agent.toml"
    text = table_text(opened.root / file, file=file)
    edit_workspace(opened.root, {file: with_enforced(text, action, file=file).encode()})


def _show(agent: Agent, found: ObservedWork) -> None:
    let_through = sum(item.let_through for item in found.actions)
    echo(f"agent {agent.name}: {found.runs} runs, {found.calls} calls, {let_through} let through")
    echo(agent.observe.text if agent.observe else "all decisions are enforced")
    width = max((len(item.action) for item in found.actions), default=0)
    if found.actions:
        echo(f"\n{'action':<{width}}  {'calls':>6} {'allowed':>8} {'asked':>6} {'refused':>8}   by the rules of now")
    for item in found.actions:
        numbers = f"{item.calls:>6} {item.allowed:>8} {item.asked:>6} {item.refused:>8}"
        echo(f"{item.action:<{width}}  {numbers}")
    _show_counts("asked, by rule", found.asked_by, "yellow")
    _show_counts("refused by a rule", found.refused_by, "red")
    _show_counts("refused before a decision", found.refused_before, "red")
    _show_counts("refused by other files than the rules, as recorded", found.outside_rules, "red")
    _show_counts("refused because this rule is missing", found.suggested.missing, "red")
    _show_counts("cannot be decided again", found.skipped, "yellow")
    if found.suggested.rules:
        echo(
            f"\nthe smallest rules that let this work pass; --write adds them, with their cases:\n\n{found.suggested.rules}"
        )
        for note in found.suggested.broken:
            echo(style(f"contradicts a case: {note}", fg="red"))
        if found.suggested.still_refused:
            echo(f"{found.suggested.still_refused} calls are refused with these rules too")


def _show_counts(title: str, counts: Mapping[str, int], colour: str) -> None:
    if counts:
        echo(f"\n{style(title, fg=colour)}:")
    for what, number in counts.items():
        echo(f"{number:>6}  {what}")
