"""`remit policy diff`: the verdicts that a change of the rules changes, each with a request that shows it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.analysis.solver import Finding, PolicyDifference
    from remit.core import Verdict

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
@click.option("--limit", default=20, show_default=True, help="How many changes of each kind to show.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_diff_command(
    old: str, new: str | None, verify: bool, fail_on: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Show the requests for which the rules of NEW give another verdict than those of OLD.

    OLD and NEW are folders (a workspace, or its policies) or git revisions. Write git:NAME if a folder has the same name.
    The default of NEW is this workspace. Every change comes with a request that shows it. "No difference" is proved.

    \b
    Examples:
      remit policy diff main
      remit policy diff HEAD~1 --fail-on newly-allowed
      remit policy diff ../old/policies policies --verify
    """
    from remit.analysis.diff import compare_policies, open_source, verify_witnesses, working_tree
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    here = working_tree(root)
    after = here if new is None else open_source(new, root)
    before = open_source(old, root)
    known = here.rule_set().vocabulary
    found = compare_policies(before.rule_set(known), after.rule_set(known))
    checked = verify_witnesses(found) if verify else None
    failed = _failed(found, fail_on) or bool(checked and checked.wrong)
    if as_json:
        body = _difference_json(found, limit)
        if checked is not None:
            body["verified"] = {"replayed": checked.replayed, "wrong": len(checked.wrong)}
        echo(json_text({"ok": not failed, **body}))
    else:
        _show_difference(found, limit)
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


def _difference_json(found: PolicyDifference, limit: int) -> dict[str, Any]:
    return {
        "equal": found.equal,
        "counts": {f"newly_{_WORDS[after]}": len(found.changed_to(after)) for after in _WORDS},
        "changes": [_finding_json(found, finding) for after in _WORDS for finding in found.changed_to(after)[:limit]],
        "approvers": [vars(change) for change in found.approvers],
        "unsettled": [vars(item) for item in found.unsettled],
    }


def _finding_json(found: PolicyDifference, finding: Finding) -> dict[str, Any]:
    from remit.analysis.diff import facts_of, find_denied_counterpart

    denied = find_denied_counterpart(found, finding)
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


def _show_difference(found: PolicyDifference, limit: int) -> None:
    if found.equal:
        echo("no difference: proved for every request")
        return
    for after in _WORDS:
        changes = found.changed_to(after)
        if not changes:
            continue
        echo(style(f"{_TITLES[after]}: {len(changes)}", fg=_COLOURS[after], bold=True))
        for finding in changes[:limit]:
            _show_finding(found, finding)
        if len(changes) > limit:
            echo(f"  … and {len(changes) - limit} more: --limit {len(changes)} shows all")
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


def _show_finding(found: PolicyDifference, finding: Finding) -> None:
    from remit.analysis.diff import facts_text, find_denied_counterpart, rule_text

    facts = facts_text(finding.context)
    echo(
        f"  {_who(finding.subjects)}: {finding.action} on {finding.resource}{f' with {facts}' if facts else ''} (was {_WAS[finding.before]})"
    )
    for word, rules in (("by", finding.added), ("without", finding.removed)):
        for rule in rules:
            echo(f"      {word} {rule_text(rule)}")
    denied = find_denied_counterpart(found, finding)
    if denied is not None:
        facts = facts_text(denied.context)
        echo(
            f"      boundary: still denied for {denied.subject} on {denied.resource}{f' with {facts}' if facts else ''}"
        )


def _who(subjects: tuple[str, ...]) -> str:
    return subjects[0] if len(subjects) == 1 else f"{subjects[0]} and {len(subjects) - 1} more"
