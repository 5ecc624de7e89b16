"""`remit search`: the search tool for people. Each command is one call of an agent, or several, decided and recorded like any other."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.client import CallResult, Remit
    from remit.core import Json

_WIDTH: Final = 110
_CHANGES: Final = ("added", "changed", "removed")
_AGENT: Final = click.option(
    "--agent", help="The agent that calls the tool. Default: the only one that has the action."
)
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


@click.group("search", short_help="search and ingest collections of documents")
def search_command() -> None:
    """Search and ingest the collections of documents in the stores of an agent's working folder.

    \b
    Examples:
      remit search ingest handbook
      remit search find "how long can I return a parcel"
      remit search open handbook/refunds
      remit search supersede handbook handbook/refunds 2 handbook/returns 1
      remit search status
    """


@search_command.command("find", short_help="find passages that answer a question")
@click.argument("query")
@click.option("--most", type=click.IntRange(1, 10), default=5, help="How many passages. Default: 5.")
@_AGENT
@_JSON
def find_command(query: str, most: int, agent: str | None, as_json: bool) -> None:
    """Find passages that answer QUERY, in the collections and documents that the rules permit.

    \b
    Examples:
      remit search find "how long can I return a parcel"
      remit search find "late returns" --most 1 --json
    """
    value = _called("find", {"query": query, "most": most}, agent, as_json)
    _show_items(value["items"])
    _show_behind(value["behind"])


@search_command.command("open", short_help="read a document")
@click.argument("document")
@click.option("--version", default="", help="A version. Default: the one in force.")
@click.option("--section", default="", help="Only this section, and those below it.")
@_AGENT
@_JSON
def open_command(document: str, version: str, section: str, agent: str | None, as_json: bool) -> None:
    """Read DOCUMENT, by its name COLLECTION/ID.

    \b
    Examples:
      remit search open handbook/refunds
      remit search open handbook/refunds --section "Refunds > Late returns" --json
    """
    if "/" not in document:
        raise click.UsageError(
            f"{document!r} is no name of a document: write COLLECTION/ID, as `remit search find` shows it"
        )
    value = _called("open", {"document": document, "version": version, "section": section}, agent, as_json)
    _show_items(value["items"])
    if not value["complete"]:
        echo(style(f"there is more; name a section: {'; '.join(value['sections'])}", dim=True))
    _show_behind(value["behind"])


@search_command.command("ingest", short_help="read the changed files of a collection")
@click.argument("collection")
@_AGENT
@_JSON
def ingest_command(collection: str, agent: str | None, as_json: bool) -> None:
    """Read the new, changed and removed files of COLLECTION into its index. Interrupted, it goes on where it stopped.

    \b
    Examples:
      remit search ingest handbook
      remit search ingest handbook --agent librarian --json
    """
    value = _ingested(collection, agent, as_json)
    if as_json:
        echo(json_text(value))
        return
    changes = ", ".join(f"{value[what]} {what}" for what in _CHANGES)
    echo(f"{collection}: {value['documents']} documents in {value['passages']} passages; {changes}")
    for skipped in value["skipped"]:
        echo(f"  skipped {skipped['file']}: {skipped['why']}")


def _ingested(collection: str, agent: str | None, as_json: bool) -> dict[str, Any]:
    """Repeat the call until no file remains; the last value, with the changes of all calls."""
    from remit import Remit

    total = dict.fromkeys(_CHANGES, 0)
    with Remit.open() as client:
        name = _agent(client, "ingest", agent)
        while True:
            result = client.call("search.ingest", {"collection": collection}, agent=name)
            if result.error is not None:
                _fail(result, as_json)
            value = result.value
            total = {key: count + value[key] for key, count in total.items()}
            if not value["remaining"]:
                return {**value, **total}
            left = f"{collection}: {value['documents']} documents, {value['remaining']} files to read …"
            echo(style(left, dim=True), err=True)


@search_command.command("supersede", short_help="state that a version is replaced")
@click.argument("collection")
@click.argument("document")
@click.argument("version")
@click.argument("successor")
@click.argument("successor_version")
@_AGENT
@_JSON
def supersede_command(agent: str | None, as_json: bool, **arguments: str) -> None:
    """State that VERSION of DOCUMENT is replaced by SUCCESSOR_VERSION of SUCCESSOR. It is no longer found.

    \b
    Examples:
      remit search supersede handbook handbook/refunds 2 handbook/refunds 3
      remit search supersede handbook handbook/refunds 2 handbook/returns 1 --json
    """
    value = _called("supersede", arguments, agent, as_json)
    echo(f"{value['document']}@{value['version']} is replaced by {value['successor']}@{value['successor_version']}")


@search_command.command("status", short_help="say what each collection has")
@_AGENT
@_JSON
def status_command(agent: str | None, as_json: bool) -> None:
    """Say what each permitted collection has, and whether its files have changed since it was ingested.

    \b
    Examples:
      remit search status
      remit search status --json
    """
    for each in _called("status", {}, agent, as_json)["collections"]:
        at = f", ingested {each['ingested_at']}" if each["ingested_at"] else ""
        echo(f"{each['collection']}: {each['documents']} documents in force, {each['passages']} passages{at}")
        if each["behind"]:
            _show_behind([each["collection"]])
        for skipped in each["skipped"]:
            echo(f"  skipped {skipped['file']}: {skipped['why']}")


def _called(action: str, arguments: dict[str, Any], agent: str | None, as_json: bool) -> Json:
    """The value of one call. With `--json` it is printed, and the command ends."""
    from remit import Remit

    with Remit.open() as client:
        result = client.call(f"search.{action}", arguments, agent=_agent(client, action, agent))
    if result.error is not None:
        _fail(result, as_json)
    if as_json:
        echo(json_text({**result.value, "run": result.run}))
        sys.exit(0)
    return result.value


def _agent(client: Remit, action: str, named: str | None) -> str:
    """The agent that calls: the named one, or the only one that has the action."""
    if named is not None:
        return named
    found = [name for name, agent in client.session.workspace.agents.items() if f"search.{action}" in agent.actions]
    if len(found) != 1:
        known = f"one of {', '.join(found)}" if found else "an agent with this action in `tools` of its agent.toml"
        raise click.UsageError(f"{len(found)} agents have the action search.{action}: name {known} with --agent")
    return found[0]


def _fail(result: CallResult, as_json: bool) -> None:
    error = result.error
    assert error is not None
    if as_json:
        echo(json_text({"ok": False, "run": result.run, "error": error.model_dump(mode="json")}))
    else:
        echo(f"{style(error.details.get('error', error.code), fg='red')}: {error.message}")
        echo(f"  trace: remit trace show {result.run[:8]}")
    sys.exit(1)


def _show_items(items: list[dict[str, Any]]) -> None:
    for item in items:
        citation = item["citation"]
        dates = item["in_force"]
        force = "".join(f", {word} {dates[word]}" for word in ("from", "until") if dates[word])
        labels = "".join(f" +{label}" for label in item["labels"])
        where = f"{citation['document']}@{citation['version']}  {citation['section'] or item['title']}"
        echo(f"{item['rank']}. {style(where, bold=True)}{force}{style(labels, fg='magenta')}")
        for line in item["text"].splitlines():
            echo(textwrap.fill(line, _WIDTH, initial_indent="   ", subsequent_indent="   "))


def _show_behind(collections: list[str]) -> None:
    for name in collections:
        echo(
            style(f"files of {name} have changed since they were ingested: remit search ingest {name}", fg="yellow"),
            err=True,
        )
