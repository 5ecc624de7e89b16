"""`remit tool new`: a working tool from a template, a URL or a command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMS = ("words", "package", "http", "command")  # those of `remit.tools.making`, which is not loaded for --help


@click.command("new")
@click.argument("new_name", metavar="NAME")
@click.option(
    "--from", "form", type=click.Choice(_FORMS), default="words", help="What it is made from. Default: words."
)
@click.argument("source", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def new_command(new_name: str, form: str, source: str, as_json: bool) -> None:
    """Write a working tool named NAME into tools/, with cases that pass.

    The forms are words (Python that reads a file), package (Python with a package of its own), http (a web service; SOURCE is the URL
    of its items) and command (a program; SOURCE is its command line, with {name} or {name:file} for each argument).

    \b
    Examples:
      remit tool new words
      remit tool new versions --from package
      remit tool new issues --from http https://api.example.com/v1/issues
      remit tool new lines --from command "wc -l -- {path:file}"
    """
    from remit.tools.making import new_tool
    from remit.workspace import find_workspace

    written = new_tool(find_workspace(Path.cwd()), new_name, form, source)
    if as_json:
        echo(json_text({"ok": True, "files": [str(relative(path)) for path in written]}))
        return
    for line in _written(written):
        echo(line)
    lock = f"remit tool env {new_name}; " if form == "package" else ""
    echo(
        f"next:  {lock}remit tool test {new_name}; remit tool pin {new_name}; then rules: remit policy suggest --tool {new_name} --agent AGENT"
    )


def _written(paths: Iterable[Path]) -> Iterable[str]:
    return (f"wrote {relative(path)}" for path in paths)


def relative(path: Path) -> Path:
    """The path as a person in this folder types it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
