"""The page of commands: each with its arguments and options, from click."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from generator.markdown import code, table
from remit.cli import COMMANDS, remit


def pages() -> dict[str, str]:
    """The one page."""
    return {"reference/commands.md": "# Commands\n\n" + _INTRODUCTION + "".join(_sections())}


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The command and every command below it, each with its words."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            if not inner.hidden:
                yield from walk(inner, (*path, name))


_INTRODUCTION = """Exit codes: 0 success; 1 a refusal, a failed run or a failed check; 2 a usage or workspace error; 130 interrupted.
Every command has `--help`.

"""


def _sections() -> Iterator[str]:
    yield table(
        ("command", "what it does"),
        ((f"[{code(f'remit {name}')}](#remit-{name})", line) for name, (_, line) in COMMANDS.items()),
    )
    for path, command in walk(remit, ("remit",)):
        yield _section(path, command)


def _section(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(path))
    parameters = [one for one in command.get_params(context) if not (isinstance(one, click.Option) and one.hidden)]
    usage = " ".join([*path, *command.collect_usage_pieces(context)])
    options = [one for one in parameters if isinstance(one, click.Option) and "--help" not in one.opts]
    below = command.list_commands(context) if isinstance(command, click.Group) and len(path) > 1 else []
    return "".join(
        [
            f"{'##' if len(path) <= 2 else '###'} {code(' '.join(path))}\n\n",
            f"```text\n{usage}\n```\n\n",
            _help(command),
            table(("command", "what it does"), _commands(path, command, context, below)),
            table(("option", "value", "meaning"), (_option(one, context) for one in options)),
        ]
    )


def _commands(
    path: tuple[str, ...], command: click.Command, context: click.Context, below: list[str]
) -> Iterator[tuple[str, str]]:
    assert isinstance(command, click.Group) or not below
    for name in below:
        inner = command.get_command(context, name) if isinstance(command, click.Group) else None
        if inner is not None and not inner.hidden:
            words = " ".join([*path, name])
            yield f"[{code(words)}](#{words.replace(' ', '-')})", inner.get_short_help_str(200)


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    names = ", ".join(code(name) for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else option.make_metavar(context)
    meaning = option.help or ""
    default = option.get_default(context)
    if option.show_default and default not in (None, False, ()):
        meaning += f" Default: {code(str(default))}."
    if option.required:
        meaning += " Required."
    if option.multiple:
        meaning += " May be repeated."
    return names, code(value), meaning


def _help(command: click.Command) -> str:
    """The help of a command: paragraphs, and blocks after `\\b` as they are."""
    parts: list[str] = []
    for paragraph in (command.help or "").replace("\r", "").split("\n\n"):
        text = inspect.cleandoc(paragraph)
        if text.startswith("\b"):
            title, _, block = inspect.cleandoc(text.removeprefix("\b")).partition("\n")
            parts.append(f"{title}\n\n```text\n{inspect.cleandoc(block)}\n```\n\n")
        elif text:
            parts.append(" ".join(text.split()).replace("<", "&lt;") + "\n\n")
    return "".join(parts)
