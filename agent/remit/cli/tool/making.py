"""`remit tool new`: a working tool from a template, a URL, an OpenAPI document or a command line."""

from __future__ import annotations

from pathlib import Path

import click

from remit.cli.output import echo, json_text

_FORMS = (
    "words",
    "package",
    "http",
    "openapi",
    "command",
)  # those of `remit.tools.making`, which is not loaded for --help


@click.command("new")
@click.argument("new_name", metavar="NAME")
@click.option(
    "--from", "form", type=click.Choice(_FORMS), default="words", help="What it is made from. Default: words."
)
@click.argument("source", required=False, default="")
@click.option("--only", multiple=True, metavar="OPERATION", help="Of an OpenAPI document: take only this operation.")
@click.option("--url", default="", help="With openapi: the address of the service, if the document names none.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def new_command(new_name: str, form: str, source: str, only: tuple[str, ...], url: str, as_json: bool) -> None:
    """Write a working tool named NAME into tools/, with cases that pass.

    \b
    --from words      Python that reads a file
           package    Python with a package of its own
           http       a web service; SOURCE is the URL of its items
           openapi    a web service; SOURCE is its OpenAPI document
           command    a program; SOURCE is its command line, with {name}
                      or {name:file} for each argument

    \b
    Examples:
      remit tool new words
      remit tool new versions --from package
      remit tool new issues --from http https://api.example.com/v1/issues
      remit tool new shop --from openapi openapi.json --only list_orders
      remit tool new lines --from command "wc -l -- {path:file}"
    """
    from remit.tools.making import Origin, new_tool
    from remit.workspace import find_workspace

    root = find_workspace(Path.cwd())
    made = new_tool(root, new_name, Origin(form=form, source=source, only=only, url=url))
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
    echo(f"next:  {lock}{pin}; then rules: remit policy suggest --tool {new_name} --agent AGENT")


def relative(path: Path) -> Path:
    """The path as a person in this folder types it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
