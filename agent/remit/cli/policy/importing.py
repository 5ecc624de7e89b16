"""`remit policy import`: rules of other systems as rules of Remit."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.analysis.importing import Imported


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="The Casbin model of the policy FILE.")
@click.option("--argo-cd", is_flag=True, help="FILE is a policy.csv of Argo CD, whose model is built in.")
@click.option(
    "--tool", default="app", show_default=True, help="The tool or enforcement point whose actions FILE names."
)
@click.option("--kind", default="store", show_default=True, help="The kind of resources whose names begin without /.")
@click.option("--path-kind", default="document", show_default=True, help="The kind of resources that begin with /.")
@click.option(
    "--subjects",
    type=click.Choice(["user", "service", "agent"]),
    default="user",
    show_default=True,
    help="What the subjects of FILE are.",
)
@click.option("--action", "actions", multiple=True, metavar="THEIRS=OURS", help="An action of FILE as one of a tool.")
@click.option("--agent", default="claude", show_default=True, help="The agent of Claude Code's settings.")
@click.option("--approver", default="role:approver", show_default=True, help="The role that approves what they ask.")
@click.option("--write", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Write the rules to a new file.")
@click.option("--cases", type=click.Path(path_type=Path), metavar="FILE", help="Write cases for them to a new file.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def policy_import_command(**options: Any) -> None:
    """Translate a Casbin policy or Claude Code permissions to rules; say of each row what became of it.

    A row is kept, narrowed (it allows less, or denies more), asks a person, or is refused; it never allows more than in FILE. A FILE named
    *.json holds settings of Claude Code. Exit code 1 if a row is refused.

    \b
    Examples:
      remit policy import policy.csv --model model.conf --tool orders
      remit policy import policy.csv --argo-cd -o policies/argo.csv --cases argo-cases.yaml
      remit policy import .claude/settings.json --agent coder
    """
    from remit.analysis.importing import imported_cases

    asked = Import(**options)
    imported = asked.read()
    cases = imported_cases(imported)
    for path, text in ((asked.write, imported.rules_text), (asked.cases, cases)):
        if path is not None:
            _write_new(path, text)
    refused = imported.counts["refused"]
    if asked.as_json:
        rows = [asdict(row) for row in imported.rows]
        body = {"rows": rows, "counts": imported.counts, "renamed": imported.renamed}
        echo(json_text({"ok": not refused, **body, "rules": imported.rules_text, "cases": cases}))
    else:
        _show(imported, rules=asked.write is None)
    sys.exit(1 if refused else 0)


@dataclass(frozen=True, kw_only=True)
class Import:
    """The argument and options of `remit policy import`."""

    file: Path
    model: Path | None
    argo_cd: bool
    tool: str
    kind: str
    path_kind: str
    subjects: str
    actions: tuple[str, ...]
    agent: str
    approver: str
    write: Path | None
    cases: Path | None
    as_json: bool

    def read(self) -> Imported:
        """Translate the file. Raises UsageError and WorkspaceError if it cannot be read."""
        from remit.analysis.importing import ARGO_CD, Names, import_casbin, import_claude_code
        from remit.core.parsing import read_text
        from remit.workspace import find_workspace

        text = read_text(self.file, file=str(self.file))
        if self.file.suffix == ".json":
            agent = f"agent:{self.agent.removeprefix('agent:')}"
            approver = f"role:{self.approver.removeprefix('role:')}"
            # The settings of a project lie in its folder .claude.
            return import_claude_code(
                text, file=self.file.name, agent=agent, approver=approver, project=find_workspace(Path.cwd())
            )
        if (self.model is None) != self.argo_cd:
            raise click.UsageError("name the model of the policy: --model FILE, or --argo-cd")
        model = ARGO_CD if self.model is None else read_text(self.model, file=str(self.model))
        names = Names(
            tool=self.tool,
            kind=self.kind,
            path_kind=self.path_kind,
            subjects=self.subjects,
            actions=dict(map(_action, self.actions)),
        )
        return import_casbin(model, text, file=self.file.name, names=names)


def _action(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not equals or not theirs or "." not in ours:
        raise click.BadParameter(f"{text!r} is not THEIRS=TOOL.ACTION, as GET=orders.read")
    return theirs, ours


def _write_new(path: Path, text: str) -> None:
    from remit.core import UsageError

    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}; name a new file in a folder that exists"
        ) from None


def _show(imported: Imported, *, rules: bool) -> None:
    for row in imported.rows:
        status = style(row.status.ljust(8), fg=_COLOURS[row.status])
        why = f"  ({row.why})" if row.why else ""
        echo(f"{status}  {imported.file}:{row.line}  {row.text}{why}")
    for theirs, ours in imported.renamed.items():
        echo(f"{theirs} is {ours}")
    echo(", ".join(f"{count} {status}" for status, count in imported.counts.items()))
    if rules and imported.rules_text:
        echo(f"\n{imported.rules_text}")


_COLOURS: Final = {"kept": "green", "narrowed": "yellow", "asks": "yellow", "refused": "red"}
