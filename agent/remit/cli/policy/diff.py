"""`remit policy diff`: the verdicts that a change of the rules changes, each with a request that shows it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import echo, fitting, json_text, style
from remit.cli.policy.known_names import known_names

if TYPE_CHECKING:
    from remit.analysis.diff import RealNames
    from remit.analysis.solver import Finding, PolicyDifference
    from remit.core import Verdict

_MOST_LINES: Final = 55  # of each kind of change without --all
_MOST_RULES: Final = 6  # below one change
_MOST_NAMED: Final = 100  # changes that are shown by known resources
GATES: Final = ("newly-allowed", "newly-asked", "newly-denied", "wider", "any")
_WORDS: Final[dict[Verdict, str]] = {"allow": "allowed", "ask": "asked", "deny": "denied"}
_TITLES: Final[dict[Verdict, str]] = {
    "allow": "newly allowed",
    "ask": "newly subject to approval",
    "deny": "newly denied",
}
_WAS: Final[dict[Verdict, str]] = {"allow": "allowed", "ask": "subject to approval", "deny": "denied"}
_COLOURS: Final[dict[Verdict, str]] = {"allow": "red", "ask": "yellow", "deny": "green"}


@click.command("diff")
@click.argument("old")
@click.argument("new", required=False)
@click.option("--verify", is_flag=True, help="Let both policies decide every witness again.")
@click.option("--fail-on", type=click.Choice(GATES), multiple=True, help="Exit with 1 if there is such a change.")
@click.option("--limit", default=20, show_default=True, help="How many changes of each kind to show at most.")
@click.option("--all", "show_all", is_flag=True, help="Show every change.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_diff_command(
    old: str, new: str | None, verify: bool, fail_on: tuple[str, ...], limit: int, show_all: bool, as_json: bool
) -> None:
    """Show the requests for which the rules of NEW give another verdict than those of OLD.

    OLD and NEW are folders (a workspace, or its policies) or git revisions. Write git:NAME if a folder has the same name.
    The default of NEW is this workspace. Every change comes with a request that shows it, on a known resource if there is one.
    "No difference" is proved.

    \b
    Examples:
      remit policy diff main
      remit policy diff HEAD~1 --fail-on newly-allowed
      remit policy diff ../old/policies policies --verify
    """
    from remit.analysis.diff import compare_policies, open_source, real_witnesses, verify_witnesses, working_tree
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    here = working_tree(root)
    after = here if new is None else open_source(new, root)
    before = open_source(old, root)
    known = here.rule_set().vocabulary
    found = compare_policies(before.rule_set(known), after.rule_set(known))
    names = known_names(root, here.workspace).with_rules(found.old, found.new)
    limit = len(found.findings) if show_all else limit
    findings = [real_witnesses(found, finding, names) for finding in found.findings[:_MOST_NAMED]]
    found = replace(found, findings=(*findings, *found.findings[_MOST_NAMED:]))
    checked = verify_witnesses(found) if verify else None
    failed = _failed(found, fail_on) or bool(checked and checked.wrong)
    if as_json:
        body = _difference_json(found, limit, names)
        if checked is not None:
            body["verified"] = {"replayed": checked.replayed, "wrong": len(checked.wrong)}
        echo(json_text({"ok": not failed, **body}))
    else:
        _show_difference(found, limit, names, show_all=show_all)
        if checked is not None:
            echo(
                f"{checked.replayed} witnesses decided again by both policies, {len(checked.wrong)} with another verdict"
            )
    sys.exit(1 if failed else 0)


def _failed(found: PolicyDifference, gates: tuple[str, ...]) -> bool:
    """True if a gate fails. Anything unsettled fails every gate, because it may hide a change of any kind."""
    fails = {
        "newly-allowed": bool(found.changed_to("allow")),
        "newly-asked": bool(found.changed_to("ask")),
        "newly-denied": bool(found.changed_to("deny")),
        "wider": not found.no_wider,
        "any": not found.equal,
    }
    return bool(gates) and (bool(found.unsettled) or any(fails[gate] for gate in gates))


def _difference_json(found: PolicyDifference, limit: int, names: RealNames) -> dict[str, Any]:
    return {
        "equal": found.equal,
        "counts": {f"newly_{_WORDS[after]}": len(found.changed_to(after)) for after in _WORDS},
        "changes": [
            _finding_json(found, finding, names) for after in _WORDS for finding in found.changed_to(after)[:limit]
        ],
        "approvers": [vars(change) for change in found.approvers],
        "unsettled": [vars(item) for item in found.unsettled],
    }


def _finding_json(found: PolicyDifference, finding: Finding, names: RealNames) -> dict[str, Any]:
    from remit.analysis.diff import facts_of, find_denied_counterpart

    denied = find_denied_counterpart(found, finding, (item.resource for item in names.like(finding.resource)))
    return {
        "before": finding.before,
        "after": finding.after,
        "action": finding.action,
        "subjects": list(finding.subjects),
        "witness": {"subject": finding.subject, "resource": finding.resource, "facts": facts_of(finding.context)},
        "still_refused": None
        if denied is None
        else {"subject": denied.subject, "resource": denied.resource, "facts": facts_of(denied.context)},
        "added": [rule.model_dump(mode="json") for rule in finding.added],
        "removed": [rule.model_dump(mode="json") for rule in finding.removed],
    }


def _show_difference(found: PolicyDifference, limit: int, names: RealNames, *, show_all: bool) -> None:
    if found.equal:
        echo("no difference: proved for every request")
        return
    for after in _WORDS:
        changes = found.changed_to(after)
        if not changes:
            continue
        echo(style(f"{_TITLES[after]}: {len(changes)}", fg=_COLOURS[after], bold=True))
        blocks = [_finding_lines(found, finding, names) for finding in changes[:limit]]
        lines, left = fitting(blocks, _MOST_LINES, show_all=show_all)
        for line in lines:
            echo(line)
        if left := left + max(len(changes) - limit, 0):
            echo(f"  … and {left} more: --all shows them")
    for approvers in found.approvers:
        for word, who in (("may now", approvers.gained), ("may no longer", approvers.lost)):
            if who:
                echo(f"{', '.join(who)} {word} approve as {approvers.role}")
    for unsettled in found.unsettled[:limit]:
        echo(
            style("not analysed", fg="magenta")
            + f": {unsettled.action} on {unsettled.resource} for {_who(unsettled.subjects)}: {unsettled.why}"
        )
    if found.unsettled:
        echo("requests that are not analysed may hide a change of any kind")


def _finding_lines(found: PolicyDifference, finding: Finding, names: RealNames) -> list[str]:
    from remit.analysis.diff import boundary_text, facts_text, find_denied_counterpart, real_names_text, rule_text

    facts = facts_text(finding.context)
    rules = [
        f"{word} {rule_text(rule)}"
        for word, rules in (("by", finding.added), ("without", finding.removed))
        for rule in rules
    ]
    more = len(rules) - _MOST_RULES
    details = [
        *real_names_text(found, finding, names),
        *rules[:_MOST_RULES],
        *([f"and {more} more rules: --json names them"] if more > 0 else []),
    ]
    denied = find_denied_counterpart(found, finding, (item.resource for item in names.like(finding.resource)))
    details += [f"boundary: {boundary_text(finding, denied)}"] if denied is not None else []
    where = f"{finding.resource}{f' with {facts}' if facts else ''}"
    return [
        f"  {_who(finding.subjects)}: {finding.action} on {where} (was {_WAS[finding.before]})",
        *(f"      {detail}" for detail in details),
    ]


def _who(subjects: tuple[str, ...]) -> str:
    return subjects[0] if len(subjects) == 1 else f"{subjects[0]} and {len(subjects) - 1} more"
