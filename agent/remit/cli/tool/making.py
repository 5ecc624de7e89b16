"""`remit tool new`: a working tool from a template, a URL, an OpenAPI document or a command line."""

from __future__ import annotations

from pathlib import Path

import click

from remit.cli.output import echo, json_text
from remit.cli.tool.changes import show_diff, write_changes

_FORMS = (
    "words",
    "package",
    "http",
    "openapi",
    "command",
    "langchain",
)  # those of `remit.tools.making`, which is not loaded for --help


@click.command("new")
@click.argument("new_name", metavar="NAME")
@click.option(
    "--from", "form", type=click.Choice(_FORMS), default="words", help="What it is made from. Default: words."
)
@click.argument("source", required=False, default="")
@click.option("--only", multiple=True, metavar="OPERATION", help="Of an OpenAPI document: take only this operation.")
@click.option("--url", default="", help="With openapi: the address of the service, if the document names none.")
@click.option(
    "--reads", is_flag=True, help="With command: the program changes nothing, so no call of it asks a person."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def new_command(
    new_name: str, form: str, source: str, only: tuple[str, ...], url: str, reads: bool, as_json: bool
) -> None:
    """Write a working tool named NAME into tools/, with cases that pass.

    \b
    --from words      Python that reads a file
           package    Python with a package of its own
           http       a web service; SOURCE is the URL of its items
           openapi    a web service; SOURCE is its OpenAPI document
           command    a program; SOURCE is its command line, with {name},
                      {name:int} or {name:file} for each argument, and
                      [--option={name}] for what may be left out
           langchain  functions or LangChain tools of a program; SOURCE is
                      module:LIST. See also: remit tool adopt

    \b
    Examples:
      remit tool new words
      remit tool new versions --from package
      remit tool new issues --from http https://api.example.com/v1/issues
      remit tool new shop --from openapi openapi.json --only list_orders
      remit tool new lines --from command "wc -l -- {path:file}" --reads
      remit tool new history --from command "git log --max-count={n:int} [--since={since}]"
      remit tool new desk --from langchain shop:TOOLS
    """
    from remit.tools.making import Origin, new_tool
    from remit.workspace import find_workspace

    if form == "langchain":
        _adopt(source, new_name, agent="", strict=True, write=True, as_json=as_json)
        return
    root = find_workspace(Path.cwd())
    made = new_tool(root, new_name, Origin(form=form, source=source, only=only, url=url, reads=reads))
    files = [str(relative(root / "tools" / new_name / file)) for file in made.texts]
    if as_json:
        echo(json_text({"ok": True, "files": files, "left_out": list(made.left_out)}))
        return
    for file in files:
        echo(f"wrote {file}")
    for line in made.left_out:
        echo(f"no action: {line}", err=True)
    lock = f"remit tool env {new_name}; " if form == "package" else ""
    pin = f"remit tool test {new_name}; remit tool pin {new_name}"
    if form == "command" and not reads:
        echo(f'a program that only reads: set effect = "read" in tools/{new_name}/tool.toml, or make it with --reads')
    echo(f"next:  {lock}{pin}; then an agent: remit agent new AGENT --tools {new_name} --write")


@click.command("adopt")
@click.argument("entry", metavar="MODULE:TOOLS")
@click.option("--name", "new_name", default="", help="The name of the tool. Default: that of the module.")
@click.option("--agent", "new_agent", default="", help="Write an agent with this name too, which has the tool.")
@click.option("--write", is_flag=True, help="Write the files.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def adopt_command(entry: str, new_name: str, new_agent: str, write: bool, as_json: bool) -> None:
    """Put functions or LangChain tools that you have under Remit: a manifest, cases, and an agent if you name one.

    TOOLS is a list or table in a module beside remit.toml, or an installed one. What each function does is guessed from its name and
    arguments, in lines that begin with "# decide:". An action does not load before you have decided each of them.

    \b
    Examples:
      remit tool adopt shop:TOOLS
      remit tool adopt shop:TOOLS --name desk --agent desk --write
    """
    name = new_name or entry.partition(":")[0].rpartition(".")[2]
    _adopt(entry, name, agent=new_agent, strict=False, write=write, as_json=as_json)


def _adopt(entry: str, name: str, *, agent: str, strict: bool, write: bool, as_json: bool) -> None:
    from remit.analysis import adopt_tools
    from remit.workspace import find_workspace, load_workspace

    if not entry:
        raise click.UsageError("name the list of tools: remit tool new NAME --from langchain MODULE:TOOLS")
    root = find_workspace(Path.cwd())
    adoption = adopt_tools(load_workspace(root), entry, name, agent=agent, strict=strict)
    if write:
        write_changes(root, adoption.changes)
    if as_json:
        body = {"open": adoption.open, "left_out": list(adoption.left_out), "written": write, "diff": adoption.diff}
        echo(json_text({"ok": True, "files": [change.file for change in adoption.changes], **body}))
        return
    show_diff(adoption.diff)
    for line in adoption.left_out:
        echo(f"no action: {line}", err=True)
    if not write:
        ending = f" --name {name}{f' --agent {agent}' if agent else ''} --write"
        echo(f"to write it: remit tool adopt {entry}{ending}")
        return
    decide = f"decide {adoption.open} lines of tools/{name}/tool.toml; " if adoption.open else ""
    who = agent or "AGENT"
    echo(
        f"written; next:  {decide}remit tool pin {name}; then rules: remit policy suggest --tool {name} --agent {who} --write"
    )


def relative(path: Path) -> Path:
    """The path as a person in this folder types it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
