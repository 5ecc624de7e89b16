"""`remit diff BASE`: what agents can do after a change that they could not do before."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from remit.cli.output import echo, fitting, json_text, style
from remit.cli.policy.known_names import known_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remit.analysis.diff import ManifestChange, PermissionDiff

_TITLES: Final[dict[Literal["wider", "unknown", "narrower"], str]] = {
    "wider": "new authority",
    "unknown": "not analysed, and therefore not counted as safe",
    "narrower": "less authority",
}
NOTHING: Final = "no new authority"
_MOST: Final = {"wider": 120, "unknown": 15, "narrower": 40}  # lines of each part without --all
_MOST_DETAILS: Final = 8  # lines below one change
_MOST_NAMED: Final = 5  # subjects that a line names
ORGANIZATION: Final = "the organization"  # whose rules lie directly in policies/


@click.command("diff")
@click.argument("base")
@click.argument("new", required=False)
@click.option("--format", "shape", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
@click.option("--fail-on-new", is_flag=True, help="Exit with 1 unless it is proved that there is no new authority.")
@click.option("--all", "show_all", is_flag=True, help="Print every change.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def permission_diff_command(
    base: str, new: str | None, shape: str, fail_on_new: bool, show_all: bool, as_json: bool
) -> None:
    """Compare what agents can really do in BASE and in NEW: rules, manifests, agents, roles and pins together.

    A change is shown by a resource that is known, if there is one: from recorded runs, cases, working folders and rules.

    BASE and NEW are workspaces: a folder or a git revision. Write git:NAME if a folder has the same name. The default of NEW
    is this workspace.

    \b
    Examples:
      remit diff origin/main
      remit diff HEAD~1 --format markdown
      remit diff ../before . --fail-on-new
    """
    from remit.analysis.diff import open_source, permission_diff, working_tree
    from remit.core import UsageError
    from remit.workspace import find_workspace

    root = None if new is not None and Path(new).is_dir() else find_workspace(Path.cwd())
    before = open_source(base, root)
    after = working_tree(root) if new is None and root is not None else open_source(str(new), root)
    for source in (before, after):
        if not source.whole:
            raise UsageError(f"{source.label!r} is not a workspace: name a folder with remit.toml, or a git revision")
    names = known_names(after.root or root, after.workspace)
    found = permission_diff(before.workspace, after.workspace, names)
    if as_json or shape == "json":
        echo(json_text(_json(found)))
    else:
        echo((_markdown if shape == "markdown" else _text)(found, show_all=show_all), nl=False)
    sys.exit(1 if fail_on_new and not found.proved else 0)


def _json(found: PermissionDiff) -> dict[str, object]:
    return {
        "ok": True,
        "no_new_authority": found.proved,
        "sentences": [asdict(item) for item in found.sentences],
        "notes": list(found.notes),
    }


def _text(found: PermissionDiff, *, show_all: bool = False) -> str:
    lines: list[str] = []
    if found.proved:
        lines.append(style(f"{NOTHING}: proved for every agent, action and resource", fg="green"))
    for direction, title in _TITLES.items():
        sentences = found.of(direction)
        if sentences:
            lines.append(style(f"{title}: {len(sentences)}", bold=True))
        for owner, items in _by_owner(found, sentences):
            lines += [f"  {owner}: {len(items)}"] if owner else []
            blocks = ([f"  {item.text}", *(f"      {why}" for why in _details(item))] for item in items)
            most = _MOST[direction] * len(items) // len(sentences)
            shown, left = fitting(blocks, most, show_all=show_all)
            lines += [*shown, f"  {_left(items, left)}: --all shows them"] if left else shown
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines) + "\n"


def _markdown(found: PermissionDiff, *, show_all: bool = False) -> str:
    lines = ["### Authority of the agents", ""]
    if found.proved:
        lines += [f"**{NOTHING}**, proved for every agent, action and resource.", ""]
    for direction, title in _TITLES.items():
        sentences = found.of(direction)
        if sentences:
            lines += [f"**{title}** ({len(sentences)})", ""]
        for owner, items in _by_owner(found, sentences):
            lines += [f"{_plain(owner)} ({len(items)}):", ""] if owner else []
            blocks = ([f"- {_plain(item.text)}", *(f"  - {_plain(why)}" for why in _details(item))] for item in items)
            most = _MOST[direction] * len(items) // len(sentences)
            shown, left = fitting(blocks, most, show_all=show_all)
            lines += (
                [*shown, f"- {_plain(_left(items, left))}: `remit diff --all` shows them", ""] if left else [*shown, ""]
            )
    lines += [f"> {_plain(note)}" for note in found.notes]
    return "\n".join(lines).rstrip("\n") + "\n"


def _details(item: ManifestChange) -> Iterator[str]:
    every = [*item.because, *([f"boundary: {item.boundary}"] if item.boundary else [])]
    yield from every[:_MOST_DETAILS]
    if len(every) > _MOST_DETAILS:
        yield f"and {len(every) - _MOST_DETAILS} more causes: --json has them"


def _left(items: Sequence[ManifestChange], left: int) -> str:
    """How many of the last items are left out, and of whom they are."""
    from collections import Counter

    who = Counter(item.text.partition(" ")[0] for item in items[-left:])
    most = ", ".join(f"{count} of {name}" for name, count in who.most_common(_MOST_NAMED))
    return f"… and {left} more ({most}{', …' if len(who) > _MOST_NAMED else ''})"


def _by_owner(
    found: PermissionDiff, sentences: Sequence[ManifestChange]
) -> Iterator[tuple[str, Sequence[ManifestChange]]]:
    """The sentences by owner: those of the organization first, then by name. Without teams, one group without a title."""
    if not any(item.owner for item in found.sentences):
        yield from [("", sentences)] if sentences else []
        return
    for owner in sorted({item.owner for item in sentences}):
        title = f"team {owner}" if owner else ORGANIZATION
        yield title, [item for item in sentences if item.owner == owner]


def _plain(text: str) -> str:
    """Escape Markdown and HTML in text that the author of a pull request wrote."""
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
    shown = "".join(marks.get(letter, f"\\{letter}" if letter in "\\`*_[]|#!~" else letter) for letter in text)
    return " ".join(shown.split())
