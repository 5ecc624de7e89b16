"""`remit serve login`: a link to the pages of the running service for an account of this machine."""

from __future__ import annotations

import click

from remit.cli.output import echo, json_text


@click.command("login", short_help="print a link that logs you in at the pages of the running service")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def login_command(as_json: bool) -> None:
    """Print a link that logs you in at the pages of the service that runs in this workspace, once within 10 minutes.

    The kernel shows the service which account asks: you are its user of [identity] in remit.toml. Open the link in your own browser, and give
    it to nobody.

    \b
    Examples:
      remit serve login
      remit serve login --json
    """
    from pathlib import Path

    from remit.cli.local.peers import NotTrusted
    from remit.cli.local.requesting import NotAnswered, error_text, posted
    from remit.core import UsageError
    from remit.workspace import find_workspace

    try:
        status, answer = posted(find_workspace(Path.cwd()), "/v1/login-links", {})
    except (NotAnswered, NotTrusted) as failure:
        raise UsageError(str(failure)) from None
    if status != 200:
        raise UsageError(error_text(answer, status))
    echo(json_text(answer["value"]) if as_json else answer["value"]["url"])
