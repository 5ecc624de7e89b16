"""`remit diff BASE`: what agents can do after a change that they could not do before."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remit.analysis.diff import ManifestChange, PermissionDiff

_TITLES: Final[dict[Literal["wider", "unknown", "narrower"], str]] = {
    "wider": "new authority",
    "unknown": "not analysed, and therefore not counted as safe",
    "narrower": "less authority",
}
NOTHING: Final = "no new authority"
ORGANIZATION: Final = "the organization"  # whose rules lie directly in policies/


@click.command("diff")
@click.argument("base")
@click.argument("new", required=False)
@click.option("--format", "shape", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
@click.option("--fail-on-new", is_flag=True, help="Exit with 1 unless it is proved that there is no new authority.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def permission_diff_command(base: str, new: str | None, shape: str, fail_on_new: bool, as_json: bool) -> None:
    """Compare what agents can really do in BASE and in NEW: rules, manifests, agents, roles and pins together.

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
    found = permission_diff(before.workspace, after.workspace)
    if as_json or shape == "json":
        echo(json_text(_json(found)))
    else:
        echo(_markdown(found) if shape == "markdown" else _text(found), nl=False)
    sys.exit(1 if fail_on_new and not found.proved else 0)


def _json(found: PermissionDiff) -> dict[str, object]:
    return {
        "ok": True,
        "no_new_authority": found.proved,
        "sentences": [asdict(item) for item in found.sentences],
        "notes": list(found.notes),
    }


def _text(found: PermissionDiff) -> str:
    lines: list[str] = []
    if found.proved:
        lines.append(style(f"{NOTHING}: proved for every agent, action and resource", fg="green"))
    for direction, title in _TITLES.items():
        if sentences := found.of(direction):
            lines.append(style(f"{title}: {len(sentences)}", bold=True))
        for owner, items in _by_owner(found, sentences):
            lines += [f"  {owner}: {len(items)}"] if owner else []
            for item in items:
                lines.append(f"  {item.text}")
                lines += [f"      {why}" for why in item.because]
                if item.still_refused:
                    lines.append(f"      boundary: still denied for {_request(item)}")
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines) + "\n"


def _markdown(found: PermissionDiff) -> str:
    lines = ["### Authority of the agents", ""]
    if found.proved:
        lines += [f"**{NOTHING}**, proved for every agent, action and resource.", ""]
    for direction, title in _TITLES.items():
        if sentences := found.of(direction):
            lines += [f"**{title}** ({len(sentences)})", ""]
            for owner, items in _by_owner(found, sentences):
                lines += [f"{_plain(owner)} ({len(items)}):", ""] if owner else []
                for item in items:
                    lines.append(f"- {_plain(item.text)}")
                    lines += [f"  - {_plain(why)}" for why in item.because]
                    if item.still_refused:
                        lines.append(f"  - boundary: still denied for {_plain(_request(item))}")
                lines.append("")
    lines += [f"> {_plain(note)}" for note in found.notes]
    return "\n".join(lines).rstrip("\n") + "\n"


def _by_owner(
    found: PermissionDiff, sentences: Sequence[ManifestChange]
) -> Iterator[tuple[str, Sequence[ManifestChange]]]:
    """The sentences by owner: those of the organization first, then by name. Without teams, one group without a title."""
    if not any(item.owner for item in found.sentences):
        yield "", sentences
        return
    for owner in sorted({item.owner for item in sentences}):
        title = f"team {owner}" if owner else ORGANIZATION
        yield title, [item for item in sentences if item.owner == owner]


def _request(item: ManifestChange) -> str:
    denied = item.still_refused or {}
    return f"{denied['subject']}: {denied['action']} on {denied['resource']}"


def _plain(text: str) -> str:
    """Escape Markdown and HTML in text that the author of a pull request wrote."""
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
    shown = "".join(marks.get(letter, f"\\{letter}" if letter in "\\`*_[]|#!~" else letter) for letter in text)
    return " ".join(shown.split())
