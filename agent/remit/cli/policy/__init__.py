"""`remit policy`: the commands for the security reviewer."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import echo, json_text, style
from remit.cli.policy.backtest import policy_backtest_command, policy_suggest_command
from remit.cli.policy.check import policy_check_command, policy_fmt_command, policy_test_command
from remit.cli.policy.diff import policy_diff_command
from remit.cli.policy.importing import policy_import_command
from remit.cli.policy.publishing import policy_publish_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from remit.analysis import Holder, Permission
    from remit.core import Confinement, Context, Decision, Request
    from remit.policy import Evaluated, Policy
    from remit.policy.language import Vocabulary


@click.group("policy", short_help="check, test, explain and compare the rules")
def policy_command() -> None:
    """Check, test, explain and compare the rules in policies/.

    \b
    Examples:
      remit policy check
      remit policy test --mutate
      remit policy explain files.read file:secrets/payments.env --agent triage
      remit policy who tickets.close ticket:INC-7
      remit policy diff main
    """


def _clock(_: click.Context, __: click.Parameter, value: str) -> str:
    from remit.policy.language import TIME

    if not TIME.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not a time of day; write hours and minutes, for example 09:30")
    return value


@policy_command.command("explain")
@click.argument("action")
@click.argument("resources", nargs=-1, required=True)
@click.option("--agent", default="", help="The agent that makes the call; none for an action of an enforcement point.")
@click.option("--user", default="none", show_default=True, help="The user that it acts for.")
@click.option("--args", "arguments", default="{}", help="Canonical arguments, as a JSON object.")
@click.option(
    "--subject", default="{}", help="Properties of the user that the enforcement point states: a JSON object."
)
@click.option("--resource", default="{}", help="Properties of the resource that it states: a JSON object.")
@click.option("--label", "labels", multiple=True, help="A label that the run has.")
@click.option("--calls", multiple=True, metavar="ACTION=N", help="Calls that the run has made before.")
@click.option("--approval", "approvals", multiple=True, metavar="ROLE[=N]", help="Approvals that were given.")
@click.option("--named-by-user", is_flag=True, help="The user's task names every resource.")
@click.option("--quoted-by-user", is_flag=True, help="Every string argument occurs in the user's task.")
@click.option("--requested-by-user", is_flag=True, help="The user's task asks for this kind of action.")
@click.option("--identified", is_flag=True, help="The user's task or the directory names every resource.")
@click.option(
    "--contains",
    multiple=True,
    metavar="WHAT",
    help="Classes of data found in the arguments and not named by the user: link, address, …",
)
@click.option(
    "--confinement",
    type=click.Choice(["full", "landlock", "none", "unavailable"]),
    default="full",
    show_default=True,
    help="The confinement that the sandbox gives.",
)
@click.option("--env", help="The environment of the run. Default: that of remit.toml.")
@click.option("--time", "at", default="12:00", show_default=True, callback=_clock, help="The time of day in UTC.")
@click.option("--all", "show_all", is_flag=True, help="Print every rule that matches.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_explain_command(**options: Any) -> None:
    """Show what the rules decide for ACTION on RESOURCES, by which rules, and what would be allowed instead.

    \b
    Examples:
      remit policy explain files.read file:secrets/payments.env --agent triage --user operator
      remit policy explain tickets.create ticket:INC-7 --agent triage --user operator --calls tickets.create=1
    """
    from remit.workspace import find_workspace, load_workspace_and_policy

    workspace, rules = load_workspace_and_policy(find_workspace(Path.cwd()))
    options["env"] = options["env"] or workspace.settings.env
    query = PolicyQuery(**{name: value for name, value in options.items() if name != "show_all"})
    _check_action(rules, query.action)
    query.check_names(rules)
    request = query.request(rules)
    decision = rules.advise(request, rules.decide(request))
    weighed = rules.evaluate(request)
    if query.as_json:
        table = [{**asdict(line), "rule": line.rule.model_dump(mode="json")} for line in weighed]
        echo(json_text({**decision.model_dump(mode="json"), "weighed": table}))
    else:
        echo(f"{style(decision.verdict, fg=_COLOURS[decision.verdict])}: {decision.message}")
        _show_weighed(weighed, options["show_all"])
        _show_advice(rules, request, decision)
        if query.user == "none" and decision.verdict != "allow":
            echo("without --user, the call is for nobody: name the user that the agent acts for")
    sys.exit(0 if decision.verdict == "allow" else 1)


@dataclass(frozen=True, kw_only=True)
class PolicyQuery:
    """The arguments and options of `remit policy explain`."""

    action: str
    resources: tuple[str, ...]
    agent: str
    user: str
    arguments: str
    subject: str
    resource: str
    labels: tuple[str, ...]
    calls: tuple[str, ...]
    approvals: tuple[str, ...]
    named_by_user: bool
    identified: bool
    contains: tuple[str, ...]
    quoted_by_user: bool
    requested_by_user: bool
    confinement: Confinement
    env: str
    at: str
    as_json: bool

    def check_names(self, rules: Policy) -> None:
        """Raise UsageError for a name that no file declares: the answer would be that of nobody, or of nothing."""
        from remit.core import UsageError
        from remit.policy import approver_named
        from remit.policy.language import undeclared_names

        if rules.vocabulary is None or rules.vocabulary.names is None:
            return
        roles = [approver_named(name.partition("=")[0]) for name in self.approvals]
        wrong = undeclared_names(
            rules.vocabulary.names,
            rules.roles,
            subjects=self.subjects,
            env=self.env,
            labels=self.labels,
            approvers=roles,
        )
        for what, fix in wrong:
            raise UsageError(f"{what}: {fix}")

    @property
    def subjects(self) -> tuple[str, ...]:
        """The agent, if there is one, and the user."""
        agent = (f"agent:{self.agent.removeprefix('agent:')}",) if self.agent else ()
        return (*agent, f"user:{self.user.removeprefix('user:')}")

    def request(self, rules: Policy) -> Request:
        """Build the request. Raises UsageError if an option is not a JSON object, or if a tool is called by no agent."""
        from remit.core import Request, UsageError
        from remit.policy.language import Stated

        listed = None if rules.vocabulary is None else rules.vocabulary.points.get(self.action.partition(".")[0])
        if (listed is None) != bool(self.agent):
            what = "is asked by an enforcement point: remove" if self.agent else "is called by an agent: add"
            raise UsageError(f"{self.action} {what} --agent")
        request = Request(
            subjects=self.subjects,
            action=self.action,
            resources=self.resources,
            context=self._context(rules.vocabulary),
        )
        stated = Stated.of(listed or (), _object("--subject", self.subject), _object("--resource", self.resource))
        return rules.entities.of(request, stated)

    def _context(self, vocabulary: Vocabulary | None) -> Context:
        from remit.core import Context
        from remit.guardrails import kind_of
        from remit.policy import approver_named

        known = self.identified or self.named_by_user
        return Context(
            args=_object("--args", self.arguments),
            labels=frozenset(self.labels),
            identified=known,
            unidentified=frozenset() if known else frozenset(map(kind_of, self.resources)),
            contains=frozenset(self.contains),
            quoted_by_user=self.quoted_by_user,
            requested_by_user=self.requested_by_user,
            effect=vocabulary.effect(self.action) if vocabulary else "once",
            confinement=self.confinement,
            calls=dict(map(_counted, self.calls)),
            approvals={approver_named(role): count for role, count in map(_counted, self.approvals)},
            named_by_user=self.named_by_user,
            env=self.env,
            time=self.at,
        )


def _show_weighed(weighed: Iterable[Evaluated], show_all: bool) -> None:
    rows = [
        (
            line.subject if line.named == line.subject else f"{line.subject} as {line.named}",
            line.resource,
            _RESULTS.get(line.says, line.says),
            f"{line.rule.file}:{line.rule.line}",
            line.why,
            line.rule.note or line.rule.text,
        )
        for line in weighed
    ]
    if rows:
        _print_table(("subject", "resource", "result", "rule", "reason", "note"), rows, show_all=show_all)


def _show_advice(rules: Policy, request: Request, decision: Decision) -> None:
    """Show who could approve, what would be allowed instead, and what the model reads about a denial."""
    from remit.analysis import people_text
    from remit.core import BREAK_GLASS

    for item in decision.missing:
        people = people_text(sorted(rules.approvers(item.role, asking=request.subjects)))
        echo(f"needs {item.count} {'approval' if item.count == 1 else 'approvals'} of {item.role}: {people}")
    if decision.break_glass:
        people = people_text(sorted(rules.approvers(BREAK_GLASS, asking=request.subjects)))
        echo(f"or, in an emergency, one approval of {BREAK_GLASS}: {people}")
    if decision.next_step:
        echo(f"next step: {decision.next_step}")
    if (denial := decision.for_model) is not None:
        notes = f" (rules: {', '.join(map(repr, denial.rules))})" if denial.rules else ""
        hint = f"; {denial.next_step}" if denial.next_step else ""
        echo(f"the model reads: {denial.message}{notes}{hint}")


@policy_command.command("who")
@click.argument("action")
@click.argument("resource")
@click.option("--all", "include_never", is_flag=True, help="Print every subject, also those that may never call it.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_who_command(action: str, resource: str, include_never: bool, as_json: bool) -> None:
    """List who may call ACTION on RESOURCE: always, under which conditions, or with whose approval.

    A call needs the permission of the agent and of the user that it acts for. Each is listed by itself.

    \b
    Examples:
      remit policy who tickets.close ticket:INC-7
      remit policy who files.read 'file:secrets/**' --all
    """
    from remit.analysis import find_holders, rules_text, standing_text
    from remit.core import UsageError
    from remit.policy.language import GlobError
    from remit.workspace import find_workspace, load_workspace_and_policy

    _, rules = load_workspace_and_policy(find_workspace(Path.cwd()))
    _check_action(rules, action)
    try:
        found = find_holders(rules, action, resource)
    except GlobError as error:
        raise UsageError(str(error)) from None
    able = [holder for holder in found if holder.standing != "never"]
    if as_json:
        echo(_as_json(found if include_never else able))
        sys.exit(0 if able else 1)
    rows = [
        (holder.subject, standing_text(holder), rules_text(holder.rules))
        for holder in (found if include_never else able)
    ]
    if rows:
        _print_table(("subject", "may", "rules"), rows, show_all=include_never)
    else:
        echo(f"no subject may call {action} on {resource}")
    sys.exit(0 if able else 1)


@policy_command.command("can")
@click.argument("subject")
@click.option("--all", "show_all", is_flag=True, help="Print every row, also of a subject with hundreds of rules.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_can_command(subject: str, show_all: bool, as_json: bool) -> None:
    """List what SUBJECT may do and may not do, including the rules of its roles.

    \b
    Examples:
      remit policy can agent:triage
      remit policy can user:dana
    """
    from remit.analysis import ability_text, list_permissions, rules_text
    from remit.core import UsageError, one_of, spelled
    from remit.workspace import find_workspace, load_workspace_and_policy

    _, rules = load_workspace_and_policy(find_workspace(Path.cwd()))
    if subject not in rules.subjects:
        raise UsageError(f"no rule names {spelled(subject)}: {one_of(subject, rules.subjects)}")
    found = list_permissions(rules, subject)
    able = any(one.standing != "never" and one.rule.effect == "allow" for one in found)
    if as_json:
        echo(_as_json(found))
        sys.exit(0 if able else 1)
    rows = [
        (
            one.action,
            one.resource,
            ability_text(one),
            "" if one.named == subject else f"as {one.named}",
            rules_text((one.rule,)),
            one.rule.note,
        )
        for one in found
    ]
    _print_table(("action", "resource", "may", "", "rule", "note"), rows, show_all=show_all)
    sys.exit(0 if able else 1)


# How the text output words what a rule says; the JSON output has the words of the policy.
_RESULTS: Final[dict[str, str]] = {"near": "close, other resource"}
_MOST_ROWS: Final = 180  # of a table without --all
_COLOURS: Final = {"allow": "green", "ask": "yellow", "deny": "red"}


def _check_action(rules: Policy, action: str) -> None:
    """Refuse a misspelled action: it would be denied to everybody, and that would look like an answer."""
    from remit.core import UsageError, one_of, spelled

    if rules.vocabulary is not None and action not in rules.vocabulary.actions:
        raise UsageError(f"no tool has the action {spelled(action)}: {one_of(action, rules.vocabulary.actions)}")


def _object(option: str, text: str) -> dict[str, Any]:
    from remit.core import Refusal, UsageError
    from remit.core.parsing import parse_arguments

    try:
        return parse_arguments(text)
    except Refusal as refusal:
        raise UsageError(f"{option}: {refusal.message}") from None


def _counted(text: str) -> tuple[str, int]:
    """Parse `name=2`, or `name` for one."""
    name, _, count = text.partition("=")
    if not (count or "1").isdecimal():
        raise click.BadParameter(f"{text!r} has no number after =; write for example {name}=1")
    return name, int(count or 1)


def _as_json(found: Iterable[Holder | Permission]) -> str:
    """Write as JSON. Rules are models, which `asdict` does not convert."""
    return json_text([asdict(one) for one in found], default=lambda rule: rule.model_dump(mode="json"))


def _print_table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, show_all: bool = False) -> None:
    """Print aligned columns; without `show_all`, at most `_MOST_ROWS` rows."""
    shown = rows if show_all else rows[:_MOST_ROWS]
    widths = [max(map(len, column)) for column in zip(titles, *shown, strict=True)]
    for row in (titles, *shown):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        echo(style(line, dim=True) if row is titles else line)
    if len(shown) < len(rows):
        echo(f"… and {len(rows) - len(shown)} more: --all shows them")


for _command in (
    policy_check_command,
    policy_test_command,
    policy_diff_command,
    policy_backtest_command,
    policy_suggest_command,
    policy_fmt_command,
    policy_import_command,
    policy_publish_command,
):
    policy_command.add_command(_command)
