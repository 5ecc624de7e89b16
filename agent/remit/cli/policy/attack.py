"""`remit attack`: what an untrusted text could make an agent do under today's rules."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import counted, echo, json_text, style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from remit.analysis.attacks import Acceptance, AttackReport, Way
    from remit.workspace import WorkspaceSession

MOST_LINES: Final = 200  # without --all
MOST_SHOWN: Final = 160  # characters of the arguments of a call, without --all
_KEPT: Final = 12  # lines for what follows the calls


@click.command("attack", short_help="try what an untrusted text could make an agent do")
@click.argument("agent")
@click.option("--user", help="The user that the agent acts for. Default: the user of this account.")
@click.option(
    "--accept",
    "accept",
    metavar="FILE",
    help="Calls that may get through: lines ACTION, PATTERN, each with its reason in a comment above.",
)
@click.option("--all", "show_all", is_flag=True, help="Print every call, with all of its arguments.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def attack_command(agent: str, user: str | None, accept: str | None, show_all: bool, as_json: bool) -> None:
    """Try every outward action of AGENT with an attacker's values, after it has read an untrusted text.

    No model is asked and nothing is carried out: the author of the text chooses each call, and the rules decide it. What gets through is
    printed with its steps, the rules that allow it, and a rule that would stop it. Exit code 1 if anything gets through that nobody accepted.

    \b
    Examples:
      remit attack triage
      remit attack triage --accept agent/triage/accepted.csv
      remit attack triage --user dana --json
    """
    from remit.analysis.attacks import attack_agent
    from remit.runtime import acting_subject
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    name = agent.removeprefix("agent:")
    accepted = _accepted(opened, name, accept)
    by = principal_of_process(opened.workspace.settings)
    subject = acting_subject(opened, by, user)
    report = asyncio.run(attack_agent(opened, name, user=subject, by=by, accepted=accepted))
    if as_json:
        echo(json_text(_body(report)))
    else:
        for line in _lines(report, show_all=show_all):
            echo(line)
    sys.exit(0 if report.ok else 1)


def _accepted(opened: WorkspaceSession, agent: str, file: str | None) -> tuple[Acceptance, ...]:
    from remit.analysis.attacks import read_accepted
    from remit.core.parsing import read_text

    actions = opened.workspace.agent(agent).actions
    return () if file is None else read_accepted(read_text(Path(file), file=file), file=file, actions=actions)


def _body(report: AttackReport) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "agent": report.agent,
        "user": report.user,
        "observed": report.observed,
        "actions": list(report.actions),
        "reads": [asdict(read) for read in report.reads],
        "ways": [_way(one) for one in report.ways],
        "words": [_way(one) for one in report.words],
        "accepted": [_way(one) for one in report.accepted],
        "untried": [asdict(one) for one in report.untried],
        "unused": [{"line": one.line, "action": one.action, "resource": one.pattern.text} for one in report.unused],
    }


def _way(way: Way) -> dict[str, Any]:
    body = {key: value for key, value in vars(way).items() if key not in ("reads", "rules")}
    reads = [asdict(read) for read in way.reads]
    return {**body, "reads": reads, "rules": [rule.model_dump(mode="json") for rule in way.rules]}


def _lines(report: AttackReport, *, show_all: bool) -> Iterator[str]:
    """The report, at most `MOST_LINES` lines without `show_all`."""
    through = sorted({way.action for way in report.ways})
    of_all = f"{len(through)} of {counted(len(report.actions), 'outward action')} would get through"
    colour = "green" if report.ok else "red"
    yield style(f"{report.agent} for {report.user}, after an untrusted text: {of_all}", fg=colour, bold=True)
    if report.observed:
        yield "the agent is observed: until that ends, its host tools run whatever is decided"
    if not any(read.untrusted for read in report.reads):
        yield "no action of the agent brings an untrusted text into a run, as the manifests and policies/labels.toml say"
    ends = list(_ends(report, show_all=show_all))
    left = MOST_LINES - len(ends) - 2
    hidden = 0
    for way in report.ways:
        block = list(_of_way(way, show_all=show_all))
        if show_all or len(block) <= left:
            left -= len(block)
            yield from block
        else:
            hidden += 1
    if hidden:
        yield f"… and {counted(hidden, 'more call')}: --all"
    yield from ends


def _of_way(way: Way, *, show_all: bool) -> Iterator[str]:
    from remit.analysis.attacks import TARGETS

    asked = ", in a run whose user asked for such an act" if way.requested and way.target != "named" else ""
    contains = f"; its text contains: {', '.join(way.contains)}" if way.contains else ""
    yield ""
    yield f"{style(way.action, bold=True)}  {TARGETS[way.target]}{asked}{contains}"
    yield f"    task   {way.task}"
    for read in way.reads:
        found = "" if not read.assumed else "  (assumed: no such call was found that the rules allow)"
        yield f"    read   {read.action} {_cut(read.arguments, show_all)}  +{', +'.join(read.labels) or 'no label'}{found}"
    yield f"    act    {way.action} {_cut(way.arguments, show_all)}"
    for rule in way.rules:
        yield f"    allowed by {rule.file}:{rule.line} {rule.note or rule.text}"
    if way.stop:
        yield "    to stop it, add to policies/rules.csv:"
        yield from (f"      {line}" for line in way.stop.splitlines())
    else:
        yield "    no rule was found that stops it and nothing else: narrow the rule that allows it"
    yield "    or accept it, with a reason above, in the file of --accept:"
    yield from (f"      {way.action}, {pattern}" for pattern in dict.fromkeys(way.patterns))


def _ends(report: AttackReport, *, show_all: bool) -> Iterator[str]:
    for one in report.untried:
        yield f"{style('not tried', fg='red')} {one.action}: {one.why}; it counts as one that gets through, until you accept {one.action}, **"
    if report.words:
        names = _names(report.words, show_all)
        yield f"what the user's own wish looks like too, so no rule can tell, and this is not counted: {names}"
    if report.accepted:
        yield f"accepted: {_names(report.accepted, show_all)}"
    for line in report.unused[: None if show_all else _KEPT]:
        yield f"nothing gets through any more by line {line.line} of the accepted: {line.action}, {line.pattern.text}"


def _names(ways: Iterable[Way], show_all: bool) -> str:
    names: Sequence[str] = sorted({way.action for way in ways})
    shown = names if show_all else names[:_KEPT]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more: --all" if len(names) > len(shown) else "")


def _cut(arguments: str, show_all: bool) -> str:
    return arguments if show_all or len(arguments) <= MOST_SHOWN else f"{arguments[:MOST_SHOWN]}…"
