"""`remit policy publish`: rules that every process of the workspace has, on all machines."""

from __future__ import annotations

import click

from remit.cli.output import echo, json_text


@click.command("publish")
@click.option("--reason", default="", help="Why; the record and the audit stream have it.")
@click.option("--retract", is_flag=True, help="Let each process have the rules of its own files again.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_publish_command(reason: str, retract: bool, as_json: bool) -> None:
    """Put the rules of policies/ in force for every process that shares the journal: all workers, services and commands.

    They are checked first, as by `remit policy check`. From then on nobody's files count, until other rules are published or they are
    retracted: every process uses the published ones within a second, also for runs that are under way. A process that cannot load them decides nothing.
    Who may do it is decided by the rules in force: remit.policy on policy:rules.

    \b
    Examples:
      remit policy publish --reason "the new limits of the quarter"
      remit policy publish --retract --reason "back to the files"
    """
    from remit.client import publish_rules, publishable_rules, retract_rules
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    by = principal_of_process(opened.workspace.settings)
    if retract:
        retract_rules(opened, by=by, reason=reason)
        what, digest, count = "each process has the rules of its own files again", "", 0
    else:
        rules = publishable_rules(opened)
        publish_rules(opened, rules, by=by, reason=reason)
        digest, count = rules.policy.digest, len(rules.policy.rules)
        what = (
            f"{count} rules are in force for every process of tenant {opened.workspace.settings.tenant}: {digest[:19]}…"
        )
    echo(json_text({"published": not retract, "policy": digest, "rules": count}) if as_json else what)
