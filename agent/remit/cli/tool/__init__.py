"""`remit tool`: the commands of a tool's developer."""

from __future__ import annotations

import asyncio
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remit.cli.output import echo, json_text, style
from remit.cli.text_argument import TEXT
from remit.cli.tool.importing import import_group
from remit.cli.tool.making import adopt_command, new_command
from remit.cli.tool.tried import cut_line, show_attempt, show_attempt_as_json, show_recorded

if TYPE_CHECKING:
    from remit.broker import AttemptOutcome
    from remit.core import Call, Refusal
    from remit.sandbox import Sandbox
    from remit.tools import Recorded, ToolCaseResult, UsageReport
    from remit.workspace import Workspace


@click.group("tool", short_help="write, try, test and pin tools")
def tool_command() -> None:
    """Write, try, test and pin tools. A tool is a folder with tool.toml, main.py and cases.yaml.

    \b
    Examples:
      remit tool new words
      remit tool try words.count path=notes/a.txt
      remit tool test words
      remit tool pin words
    """


tool_command.add_command(new_command)
tool_command.add_command(import_group)
tool_command.add_command(adopt_command)


@tool_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def tool_list_command(as_json: bool) -> None:
    """List the tools and whether each is pinned.

    \b
    Examples:
      remit tool list
    """
    workspace = _workspace()
    changed = _changed_servers(workspace)
    if as_json:
        rows = [
            {"name": name, "version": item.manifest.version, "pinned": item.pinned, "changed": changed.get(name, ())}
            for name, item in workspace.tools.items()
        ]
        echo(json_text(rows))
        return
    for name, item in workspace.tools.items():
        state = style("pinned", fg="green") if item.pinned else style("not pinned", fg="red")
        state = style("changed", fg="red") if name in changed else state
        echo(f"{name:<16} {item.manifest.version:<9} {state}  {item.manifest.summary}")


def _changed_servers(workspace: Workspace) -> Mapping[str, Sequence[str]]:
    """How servers of tools differ from their pins, by tool, as runs have seen it; no journal is opened without a tool with a server."""
    if workspace.root is None or all(tool.manifest.source != "mcp" for tool in workspace.tools.values()):
        return {}
    from remit.journal import changed_servers
    from remit.workspace import open_journal_of

    with open_journal_of(workspace.root, workspace.settings) as journal:
        return changed_servers(journal)


@tool_command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def tool_show_command(name: str, as_json: bool) -> None:
    """Show the permission card: what the tool may touch at most, and who enforces each line.

    \b
    Examples:
      remit tool show files
    """
    from remit.sandbox.packages import find_environment
    from remit.tools import known_tool, permission_card

    workspace = _workspace()
    found = known_tool(workspace, name)
    own = find_environment(workspace.code(name)) if found.manifest.source == "python" else None
    if as_json:
        packages = dict(own.packages) if own else {}
        body = {
            "pinned": found.pinned,
            "code": found.code,
            "manifest": found.manifest.model_dump(mode="json"),
            "packages": packages,
        }
        echo(json_text(body))
        return
    for line in permission_card(found, own, _changed_servers(workspace).get(name, ())):
        echo(line)
    for agent in workspace.agents.values():
        if agent.observe is not None and found.manifest.hosted and name in workspace.tools_of(agent.name):
            echo(f"  observed         agent {agent.name}: {agent.observe.text}")


@tool_command.command("schema")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def schema_command(name: str, as_json: bool) -> None:
    """Print what a model is offered of the tool: names, descriptions, and the arguments with their JSON Schemas.

    It is made from the present files, and is what a run uses once they are pinned.

    \b
    Examples:
      remit tool schema files
      remit tool schema files --json
    """
    from remit.tools import model_view, spec_lines

    specs = asyncio.run(model_view(_workspace(), name, _sandbox()))
    if as_json:
        echo(json_text([spec.model_dump(mode="json") for spec in specs]))
        return
    for spec in specs:
        for line in spec_lines(spec):
            echo(line)


@tool_command.command("try")
@click.argument("action")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The working folder. Default: a copy of an agent's seed folder.",
)
@click.option("--yes", is_flag=True, help="Required to run an irreversible action.")
@click.option(
    "--record", metavar="NOTE", help="Also write the call as a case of this name, with the answers of its services."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def try_command(
    action: str, pairs: tuple[str, ...], folder: Path | None, yes: bool, record: str | None, as_json: bool
) -> None:
    """Run one action in the sandbox, also if the tool is not pinned.

    It may access only what the arguments name. Its printed output and tracebacks are shown. With --record, the call becomes
    a case in cases.yaml, which runs without the network; no secret and no header of a request is written.

    \b
    Examples:
      remit tool try files.read path=runbooks/payments-pool.md
      remit tool try jira.get key=OPS-7 --record "an open issue"
      remit tool try tickets.close key=INC-2041 reason=fixed --yes
    """
    from remit.cli.check import finding_lines
    from remit.core import Refusal
    from remit.tools import check_source, derive_pin, failed_at, parse_pairs, record_case, scratch_folder, try_action

    workspace = _workspace()
    found, _ = workspace.action(action)
    # A tool that holds a secret may print it in pieces: its output is shown only after redaction of the whole.
    live = not as_json and not found.manifest.exposed
    sandbox = _sandbox(_print_live() if live else None)

    async def run() -> tuple[Call, AttemptOutcome, Recorded | None]:
        schema = (await derive_pin(workspace, found, sandbox)).schemas[action.partition(".")[2]]
        where = nullcontext(folder) if folder else scratch_folder(workspace, found.manifest.name)
        with where as working:
            arguments = parse_pairs(pairs, schema)
            if record is not None:
                return await record_case(workspace, action, arguments, working, sandbox, note=record, yes=yes)
            return *await try_action(workspace, action, arguments, working, sandbox, yes=yes), None

    try:
        call, done, recorded = asyncio.run(run())
    except Refusal as refusal:
        raise _with_lines(workspace, action, pairs, refusal) from None
    if as_json:
        show_attempt_as_json(call, done, recorded)
    else:
        show_attempt(call, done, stderr_shown=live)
        for place in failed_at(workspace, action, done):
            echo(f"    {place}", err=True)
        show_recorded(recorded)
        for line in finding_lines(
            check_source(workspace, action.partition(".")[0]) if done.code == "tool_crashed" else (), show_all=True
        ):
            echo(line, err=True)
    sys.exit(0 if done.code is None else 1)


def _with_lines(workspace: Workspace, name: str, pairs: tuple[str, ...], refusal: Refusal) -> Refusal:
    """The refusal with the lines of tool.toml that would allow the call, if the ceiling of its manifest refused it."""
    from remit.core import Refusal, expected
    from remit.workspace.manifest import ceiling_lines

    if refusal.details.get("reason") != "outside_manifest":
        if (meant := expected(refusal.details)) and refusal.next_step is None:
            return Refusal(refusal.code, refusal.message, details=refusal.details, next_step=meant)
        return refusal
    tool, action = workspace.action(name)
    argument = str(refusal.details.get("argument"))
    given = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    lines = ceiling_lines(tool.manifest, action, str(refusal.details.get("access")), argument, given.get(argument))
    step = "; ".join([str(refusal.next_step), *(f"to allow it, in tool.toml: {line}" for line in lines)])
    return Refusal(refusal.code, refusal.message, details=refusal.details, next_step=step)


@tool_command.command("test")
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def test_command(names: tuple[str, ...], as_json: bool) -> None:
    """Run the test cases of the tools NAMES, or of all tools.

    \b
    Examples:
      remit tool test
      remit tool test files --json
    """
    from remit.tools import known_tool, run_tool_cases

    workspace, sandbox = _workspace(), _sandbox()
    passed, failed = 0, 0
    rows: list[dict[str, Any]] = []
    for name in names or tuple(workspace.tools):
        known_tool(workspace, name)
        for result in asyncio.run(run_tool_cases(workspace, name, sandbox)):
            rows.append(asdict(result))
            passed, failed = passed + result.passed, failed + (not result.passed)
            if not as_json:
                mark = style("ok    ", fg="green") if result.passed else style("failed", fg="red")
                echo(f"{mark} {name}: {result.note}")
                if not result.passed:
                    echo(f"       {result.file}:{result.line}: {result.message}")
    echo(json_text({"ok": not failed, "cases": rows}) if as_json else f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


@tool_command.command("observe")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def observe_command(name: str, as_json: bool) -> None:
    """Run the cases of the tool NAME and compare what it really uses with its manifest.

    Traces the system calls that open, name or start something, of the tool and of every process it starts, and the
    environment variables that Python reads. Undeclared use is a failure (exit code 1). Grants that no case needs are
    listed, with a smaller manifest to paste. The sandbox is the same as in a run, so undeclared use is also refused.

    This is not a security control: a malicious tool can detect that it is observed.

    \b
    Examples:
      remit tool observe files
      remit tool observe files --json
    """
    from remit.tools import observe_tool

    report = asyncio.run(observe_tool(_workspace(), name, None if as_json else _show_case))
    if as_json:
        echo(json_text({"ok": report.ok, **asdict(report)}))
    else:
        _show_report(report)
    sys.exit(0 if report.ok else 1)


def _show_case(result: ToolCaseResult) -> None:
    mark = style("ok    ", fg="green") if result.passed else style("failed", fg="red")
    echo(f"{mark} {result.note}", err=True)
    if not result.passed:
        echo(f"       {result.file}:{result.line}: {result.message}", err=True)


def _show_report(report: UsageReport) -> None:
    refused = f", {report.refused} refused before they started" if report.refused else ""
    echo(f"{report.tool}: {report.played} cases observed{refused}")
    for used in report.used:
        echo(f"  {used.use:<9} {used.what}")
    for item in report.undeclared:
        echo(f"{style('undeclared', fg='red')} {item.file}:{item.line}: {item.action} {item.use} {item.what!r}")
        echo(f"    the line that would allow it: {item.allow}")
    for grant in report.unused:
        where = grant.file if grant.line is None else f"{grant.file}:{grant.line}"
        kept = f"; kept, because without it {grant.needed}: write a case for it" if grant.needed else ""
        echo(f"{style('unused', fg='yellow')} {where}: {grant.key} {grant.grant!r}: no case needs it{kept}")
    for line in report.unjudged:
        echo(f"{style('not checked', fg='yellow')} {line}")
    if report.outside:
        echo(style(f"looked for outside the sandbox, not found: {', '.join(report.outside)}", dim=True))
    if report.smaller:
        echo(f"a smaller manifest; replace these lines of tools/{report.tool}/tool.toml:\n\n{report.smaller}")
    if not (report.undeclared or report.unused or report.unjudged):
        echo("the manifest grants exactly what the cases use")


@tool_command.command("env")
@click.argument("name")
@click.option("--upgrade", is_flag=True, help="Lock the newest versions again.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def env_command(name: str, upgrade: bool, as_json: bool) -> None:
    """Lock and install the packages of the tool, then print the path of its Python interpreter, for an editor.

    A tool names its packages in main.py (PEP 723). Only wheels are installed. Their hashes are in main.py.lock, which is
    part of the pin.

    \b
    Examples:
      remit tool env files
      remit tool env files --upgrade
    """
    from remit.cli.run import print_progress
    from remit.tools import interpreter

    workspace = _workspace()
    found = interpreter(workspace, name, upgrade=upgrade, tell=print_progress)
    if as_json:
        body = {"interpreter": str(found.path), "packages": dict(found.packages), "locked": found.locked}
        echo(json_text({"ok": True, **body}))
        return
    if found.locked:
        print_progress(
            f"locked {len(found.packages)} packages in tools/{name}/main.py.lock; review them, then: remit tool pin {name}"
        )
    echo(found.path)


@tool_command.command("pin")
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def pin_command(names: tuple[str, ...], as_json: bool) -> None:
    """Pin the tools NAMES, or all tools and graphs, in their present state. Writes policies/tools.lock.

    A pin says that a person has reviewed the tool. A tool that differs from its pin does not run. agent:NAME is the graph that
    drives the runs of an agent.

    \b
    Examples:
      remit tool pin files
      remit tool pin agent:shop
    """
    from remit.broker import check_revoked
    from remit.tools import code_of, pin_tools, pinnable, undecided_problems
    from remit.workspace import authorize, check_enabled, open_session, principal_of_process

    opened = open_session()
    workspace, policy = opened.workspace, opened.policy
    by, holds = principal_of_process(workspace.settings), opened.journal.holds()
    check_enabled(opened.journal, by)
    every = names or pinnable(workspace)
    for name in every:
        authorize(policy, by, "remit.publish", name if ":" in name else f"tool:{name}", f"pin {name!r}")
        check_revoked(holds, name, code_of(workspace, name))
    changes = asyncio.run(pin_tools(workspace, every, _sandbox()))
    if as_json:
        echo(json_text({"ok": True, "tools": changes}))
        return
    for name, change in changes.items():
        echo(f"{name}: {change}")
        for problem in undecided_problems(workspace, name) if name in workspace.tools else ():
            echo(f"{style('not pinned', fg='yellow')}: {problem}", err=True)


@tool_command.command("revoke")
@click.argument("code", metavar="NAME|DIGEST")
@click.option("--reason", type=TEXT, required=True, help="Why you revoke it. The model and the trace show this text.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def revoke_command(code: str, reason: str, as_json: bool) -> None:
    """Revoke one version of a tool's code, for ever: it starts and resumes nowhere, and running calls of it are killed.

    DIGEST is that of the code, as policies/tools.lock and `remit tool show --json` have it. NAME is the code of that tool on disk,
    agent:NAME that of an agent's graph. To use it again, change its code and pin it.

    \b
    Examples:
      remit tool revoke http --reason "CVE-2026-1234 in its parser"
      remit tool revoke agent:shop --reason "it pays without looking"
      remit tool revoke sha256:9d0c… --reason "leaks the token into its result"
    """
    from remit.broker import set_hold
    from remit.core.events import CODE
    from remit.tools import code_of, pinnable
    from remit.workspace import authorize, open_session, principal_of_process

    opened = open_session()
    workspace = opened.workspace
    digest = code if code.startswith("sha256:") else code_of(workspace, code)
    if len(digest) != len("sha256:") + 64:
        raise click.BadParameter(f"{digest!r} is no digest: copy it from policies/tools.lock", param_hint="DIGEST")
    by = principal_of_process(workspace.settings)
    name = next((name for name in pinnable(workspace) if code_of(workspace, name) == digest), "unknown")
    resource = name if ":" in name else f"tool:{name}"
    authorize(opened.policy, by, "remit.revoke", resource, f"revoke code {digest}", journal=opened.journal)
    held = set_hold(opened.journal, f"{CODE}{digest}", why=reason, by=by)
    line = f"the code {digest} is revoked: no run starts or goes on with it"
    echo(json_text(held.model_dump(mode="json")) if as_json else line)


def _workspace() -> Workspace:
    from remit.workspace import find_workspace, load_workspace

    return load_workspace(find_workspace(Path.cwd()))


def _sandbox(on_output: Callable[[bytes], None] | None = None) -> Sandbox:
    from remit.sandbox import Sandbox

    return Sandbox(accept=_workspace().settings.accept, on_print=on_output)


def _print_live() -> Callable[[bytes], None]:
    """A callback that prints a tool's output on standard error while the tool runs, of a very long line its beginning."""
    decoder = getincrementaldecoder("utf-8")("replace")
    column = 0

    def show(data: bytes) -> None:
        nonlocal column
        for part in decoder.decode(data).splitlines(keepends=True):
            echo(cut_line(part, column), nl=False, err=True)
            column = 0 if part.endswith("\n") else column + len(part)

    return show
