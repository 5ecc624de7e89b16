"""`remit init` and `remit doctor`: write a workspace, and test this machine or a model."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.runtime.models import ModelCheck
    from remit.sandbox.selfcheck import TierReport


@click.command("init", short_help="write a starter workspace")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--json", "as_json", is_flag=True, help="Print the written files as JSON.")
def init_command(folder: Path, as_json: bool) -> None:
    """Write a starter workspace into FOLDER: the tools, three example agents, and their policies.

    \b
    Examples:
      remit init my-agents
      cd my-agents && remit run triage "Checkout is failing: find out why"
    """
    from remit.workspace import write_starter

    written = write_starter(folder)
    if as_json:
        echo(json_text({"ok": True, "folder": str(folder), "files": written}))
        return
    echo(f"wrote {len(written)} files into {folder}/")
    enter = "" if folder == Path() else f"cd {folder} && "
    echo(f'next:  {enter}remit run triage "Checkout is failing: find out why and write the report"')


@click.command("doctor", short_help="test the sandbox on this machine, or a model")
@click.option("--model", "model", metavar="MODEL", help="Test this model in place of the sandbox, as openai:gpt-5.")
@click.option(
    "--hooks", "hooks", is_flag=True, help="Play a denied call through the coding agent whose hooks are installed."
)
@click.option("--base-url", "base_url", metavar="URL", help="The address of the model's server.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor_command(model: str | None, hooks: bool, base_url: str | None, as_json: bool) -> None:
    """Test the sandbox on this machine with real escape attempts, and print the fix for each that is not blocked.

    With --model, test a model: Remit's adapter reads answers in the forms that servers send, and the real model gets five short
    questions, which cost a few hundred tokens. No tool runs.

    With --hooks, play a denied call through the real Claude Code, with a scripted model on this machine and the hooks of its settings, and
    say what let it through.

    \b
    Examples:
      remit doctor
      remit doctor --json
      remit doctor --hooks
      remit doctor --model openai:gpt-5
      remit doctor --model openai:qwen3 --base-url http://127.0.0.1:8000/v1
    """
    if model is not None:
        _test_model(model, base_url, as_json=as_json)
        return
    if hooks:
        _test_hooks(as_json=as_json)
        return
    from remit.sandbox import probe

    if sys.stderr.isatty():
        echo("running the escape attempts in each sandbox tier; this takes some seconds …", err=True)
    tiers, accepted = probe(), _accepted()
    ok = any(tier.works for tier in tiers if tier.name in accepted)
    if as_json:
        echo(json_text({"ok": ok, "accepted": accepted, "tiers": [asdict(tier) for tier in tiers]}))
        sys.exit(0 if ok else 1)
    for tier in tiers:
        _show_tier(tier)
    if not ok:
        echo(f"{style('no tool runs here', fg='red')}: remit.toml accepts only {' and '.join(accepted)}")
    sys.exit(0 if ok else 1)


def _test_hooks(*, as_json: bool) -> None:
    """Play a denied call through the coding agent, and exit with 1 if it is not blocked."""
    from remit.cli.hook.checking import check_hooks

    checks = check_hooks()
    ok = all(check.ok for check in checks)
    if as_json:
        echo(json_text({"ok": ok, "checks": [asdict(check) for check in checks]}))
        sys.exit(0 if ok else 1)
    for check in checks:
        echo(f"{style('holds', fg='green') if check.ok else style('FAILS', fg='red')} {check.name}")
        if check.detail:
            echo(f"      {check.detail}")
    sys.exit(0 if ok else 1)


def _test_model(spec: str, base_url: str | None, *, as_json: bool) -> None:
    """Test one model, print what works, and exit with 1 if anything does not."""
    import asyncio

    from remit.runtime.models import check_model

    report = asyncio.run(check_model(spec, base_url=base_url))
    if as_json:
        echo(json_text({"ok": report.ok, **asdict(report)}))
        sys.exit(0 if report.ok else 1)
    echo(f"{report.model}: answers in the forms of servers, read by Remit's adapter")
    if not report.shapes:
        echo("  not tested: a library of the provider reads its answers")
    for check in report.shapes:
        _show_model_check(check, "read")
    echo(f"{report.model}: questions to the real model")
    for check in report.questions:
        _show_model_check(check, "works")
    if report.deviations:
        echo(f"  note: its answers are unusual and are read all the same: {', '.join(report.deviations)}")
    sys.exit(0 if report.ok else 1)


def _show_model_check(check: ModelCheck, good: str) -> None:
    word = style(good, fg="green") if check.ok else style("FAILS", fg="red")
    echo(f"  {word} {check.name}{f': {check.detail}' if check.detail else ''}")
    if check.fix:
        echo(f"         fix: {check.fix}")


def _accepted() -> tuple[str, ...]:
    """The sandbox tiers that this workspace accepts. Without a valid workspace: the tiers that a new one accepts."""
    from remit.core import RemitError
    from remit.workspace import Settings, find_workspace, load_workspace

    try:
        return load_workspace(find_workspace(Path.cwd())).settings.accept
    except RemitError:
        return Settings().accept


def _show_tier(tier: TierReport) -> None:
    mark = style("works", fg="green") if tier.works else style("does not work here", fg="red")
    echo(f"{tier.name}: {mark}")
    for item in tier.checks:
        good, bad = ("allowed", "REFUSED") if item.allowed else ("blocked", "ESCAPED")
        word = style(good, fg="green") if item.held else style(bad, fg="red")
        echo(f"  {word} {item.name}: {item.detail}")
        if not item.held and item.fix:
            echo(f"         fix: {item.fix}")
    if tier.note:
        echo(f"  note: {tier.note}")
    if not tier.works:
        echo(f"  fix: {tier.fix}")
