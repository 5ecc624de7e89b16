"""`remit policy diff`: what a change of the rules changes, each with a request that shows it."""

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
_COLOURS: Final[dict[Verdict, str]] = {"allow": "red", "ask": "yellow", "deny": "green"}


@click.command("diff")
@click.argument("old")
@click.argument("new", required=False)
@click.option("--verify", is_flag=True, help="Decide every witness on both sides by the policies themselves.")
@click.option("--fail-on", type=click.Choice(GATES), multiple=True, help="End with 1 where there is such a change.")
@click.option("--limit", default=20, show_default=True, help="How many changes of a kind to show.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_diff_command(
    old: str, new: str | None, verify: bool, fail_on: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Which requests do the rules of NEW allow, ask about or deny, that those of OLD do not?

    OLD and NEW are folders (a workspace, or its policies) or git revisions; git:NAME where a folder has the same name. NEW
    is this workspace where it is left out. Every change comes with a request that shows it; "no difference" is proved.

    \b
    Examples:
      remit policy diff main
      remit policy diff HEAD~1 --fail-on newly-allowed
      remit policy diff ../old/policies policies --verify
    """
    from remit.analysis.diff import compare_policies, open_source, working_tree
    from remit.analysis.diff import verify_witnesses as replay
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    here = working_tree(root)
    after = here if new is None else open_source(new, root)
    before = open_source(old, root)
    known = here.rule_set().vocabulary
    found = compare_policies(before.rule_set(known), after.rule_set(known))
    replayed = replay(found) if verify else None
    failed = _failed(found, fail_on) or bool(replayed and replayed.wrong)
    if as_json:
        body = _difference_json(found, limit)
        if replayed is not None:
            body["verified"] = {"replayed": replayed.replayed, "wrong": len(replayed.wrong)}
        echo(json_text({"ok": not failed, **body}))
    else:
        _show_difference(found, limit)
        if replayed is not None:
            echo(f"{replayed.replayed} witnesses replayed on both sides, {len(replayed.wrong)} came out otherwise")
    sys.exit(1 if failed else 0)


def _failed(found: PolicyDifference, gates: tuple[str, ...]) -> bool:
    """Whether a gate is shut; what could not be settled shuts every gate, for it may hide anything."""
    shut = {
        "newly-allowed": bool(found.changed_to("allow")),
        "newly-asked": bool(found.changed_to("ask")),
        "newly-denied": bool(found.changed_to("deny")),
        "wider": not found.no_wider,
        "any": not found.equal,
    }
    return bool(gates) and (bool(found.unsettled) or any(shut[gate] for gate in gates))


def _difference_json(found: PolicyDifference, limit: int) -> dict[str, Any]:
    return {
        "equal": found.equal,
        "counts": {f"newly_{_WORDS[after]}": len(found.changed_to(after)) for after in _WORDS},
        "changes": [_finding_json(found, one) for after in _WORDS for one in found.changed_to(after)[:limit]],
        "approvers": [vars(one) for one in found.approvers],
        "unsettled": [vars(one) for one in found.unsettled],
    }


def _finding_json(found: PolicyDifference, one: Finding) -> dict[str, Any]:
    from remit.analysis.diff import facts_of, find_denied_counterpart

    stays = find_denied_counterpart(found, one)
    return {
        "before": one.before,
        "after": one.after,
        "action": one.action,
        "subjects": list(one.subjects),
        "witness": {"subject": one.subject, "resource": one.resource, "facts": facts_of(one.context)},
        "still_refused": None
        if stays is None
        else {"subject": stays.subject, "resource": stays.resource, "facts": facts_of(stays.context)},
        "added": [rule.model_dump(mode="json") for rule in one.added],
        "removed": [rule.model_dump(mode="json") for rule in one.removed],
    }


def _show_difference(found: PolicyDifference, limit: int) -> None:
    if found.equal:
        echo("no difference: every request is decided alike, proved")
        return
    for after in _WORDS:
        changes = found.changed_to(after)
        if not changes:
            continue
        echo(style(f"newly {_WORDS[after]}: {len(changes)}", fg=_COLOURS[after], bold=True))
        for one in changes[:limit]:
            _show_finding(found, one)
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
        echo("what is not analysed may hide a difference of any kind")


def _show_finding(found: PolicyDifference, one: Finding) -> None:
    from remit.analysis.diff import facts_text, find_denied_counterpart, rule_text

    facts = facts_text(one.context)
    echo(
        f"  {_who(one.subjects)}: {one.action} on {one.resource}{f' with {facts}' if facts else ''} (was {_WORDS[one.before]})"
    )
    for word, rules in (("by", one.added), ("without", one.removed)):
        for rule in rules:
            echo(f"      {word} {rule_text(rule)}")
    stays = find_denied_counterpart(found, one)
    if stays is not None:
        facts = facts_text(stays.context)
        echo(f"      still refused: {stays.subject} on {stays.resource}{f' with {facts}' if facts else ''}")


def _who(subjects: tuple[str, ...]) -> str:
    return subjects[0] if len(subjects) == 1 else f"{subjects[0]} and {len(subjects) - 1} more"
