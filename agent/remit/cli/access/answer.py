"""`remit answer`: a person answers what an MCP server asks in the middle of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import click

from remit.cli.output import echo, json_text
from remit.cli.run_argument import open_for_person
from remit.cli.text_argument import TEXT

if TYPE_CHECKING:
    from remit.client import OpenQuestion
    from remit.core import Json
    from remit.workspace import WorkspaceSession


@click.command("answer", short_help="answer what an MCP server asks in the middle of a call")
@click.argument("question", required=False)
@click.argument("pairs", nargs=-1, metavar="[FIELD=VALUE]...", type=TEXT)
@click.option("--decline", is_flag=True, help="Give no answer: the server is sent that you decline.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def answer_command(question: str | None, pairs: tuple[str, ...], decline: bool, as_json: bool) -> None:
    """Answer a QUESTION (RUN, or RUN/STEP.INDEX) with a value for each field; without QUESTION, list them all.

    The text of a question is written by the server, not by Remit. Your answer is recorded, and sent to that server.

    \b
    Examples:
      remit answer
      remit answer 3f2a size=2 colour=red
      remit answer 3f2a/4.0 --decline
    """
    opened = open_for_person()
    if question is None:
        _list(opened, as_json)
        return
    from remit.client import answer, find_question
    from remit.workspace import principal_of_process

    if decline is bool(pairs):
        raise click.UsageError("write the fields of the answer as FIELD=VALUE, or --decline")
    found = find_question(opened, question)
    content: Json = None if decline else _content(found, pairs)
    by = principal_of_process(opened.workspace.settings)
    goes_on = answer(opened, opened.policy, found, content, by)
    if as_json:
        echo(json_text({"ok": True, "run": found.run, "question": found.place, "accepted": not decline}))
    else:
        echo(f"recorded: {by.subject} {'declines' if decline else 'answers'} the question of {found.place}; {goes_on}")


def _content(found: OpenQuestion, pairs: tuple[str, ...]) -> dict[str, Json]:
    from remit.tools import parse_fields

    return parse_fields(pairs, found.schema)


def _list(opened: WorkspaceSession, as_json: bool) -> None:
    from remit.broker.approvals import plain
    from remit.client import open_questions

    every = open_questions(opened)
    if as_json:
        rows = [
            {"run": item.run, "question": item.place, "action": item.action, "asks": item.asked.question}
            for item in every
        ]
        echo(json_text(rows))
        return
    for item in every:
        echo(f"{item.place}  the server of {item.action} asks: {plain(item.message)}")
        for line in _fields(item.schema):
            echo(f"    {line}")
        echo(f"    remit answer {item.place} FIELD=VALUE …, or --decline")
    if not every:
        echo("no server asks anything")


def _fields(schema: Mapping[str, Json]) -> Iterator[str]:
    """The fields of an answer, a line each. All of it is text of the server."""
    from remit.broker.approvals import plain

    properties, named = schema.get("properties"), schema.get("required")
    for field, described in cast("dict[str, Json]", properties if isinstance(properties, dict) else {}).items():
        known = cast("dict[str, Json]", described if isinstance(described, dict) else {})
        required = ", required" if isinstance(named, list) and field in named else ""
        enum = cast("list[Json]", known["enum"] if isinstance(known.get("enum"), list) else [])
        choices = f", one of {', '.join(plain(str(one)) for one in enum)}" if enum else ""
        about = plain(str(known.get("description", "")))
        yield f"{plain(field)}: {plain(str(known.get('type', 'any')))}{choices}{required}  {about}"
