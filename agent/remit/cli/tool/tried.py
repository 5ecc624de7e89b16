"""What `remit tool try` prints: the result on standard output, everything else on standard error."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from remit.cli.output import echo, json_text, style

LONGEST_LINE: Final = 1000  # characters of one line that a tool prints

if TYPE_CHECKING:
    from remit.broker import AttemptOutcome
    from remit.core import Call
    from remit.tools import Recorded


def cut_line(text: str, column: int = 0) -> str:
    """What is shown of a part of a line that begins at that column: nothing behind `LONGEST_LINE`, and where it ends."""
    if column + len(text) <= LONGEST_LINE:
        return text
    end = "\n" if text.endswith("\n") else ""
    left = max(0, LONGEST_LINE - column)
    return f"{text[:left]}{' … (cut)' if column <= LONGEST_LINE else ''}{end}"


def show_recorded(recorded: Recorded | None) -> None:
    """Say where the case was written, and whether it passes."""
    if recorded is None:
        return
    for name in recorded.files:
        echo(f"wrote {recorded.file.rpartition('/')[0]}/{name}", err=True)
    passed = recorded.result.passed
    how = "it passes without the network" if passed else f"without the network it fails: {recorded.result.message}"
    echo(f"recorded {recorded.result.note!r} in {recorded.file}, requests: {recorded.requests}; {how}", err=True)


def show_attempt_as_json(call: Call, done: AttemptOutcome, recorded: Recorded | None) -> None:
    nouns = ("refused", "changes", "connections", "frames", "objects")
    body = {key: value for key, value in asdict(done).items() if key not in (*nouns, "spent", "limit", "mismatch")}
    body |= {name: [item.model_dump(mode="json") for item in getattr(done, name)] for name in nouns}
    for name in ("limit", "mismatch"):
        value = getattr(done, name)
        body[name] = None if value is None else value.model_dump(mode="json")
    body["touches"] = [touch.model_dump(mode="json") for touch in call.touches]
    if recorded is not None:
        body["recorded"] = asdict(recorded)
    echo(json_text({"ok": done.code is None, **body}))


def show_attempt(call: Call, done: AttemptOutcome, *, stderr_shown: bool) -> None:
    """Print the result on standard output, everything else on standard error."""
    for touch in call.touches:
        echo(style(f"touches {touch.access} {touch.resource}", dim=True), err=True)
    if not stderr_shown and done.stderr:
        for line in done.stderr.splitlines(keepends=True):
            echo(cut_line(line), nl=False, err=True)
        echo("", err=True, nl=not done.stderr.endswith("\n"))
    _show_accesses(done)
    if done.code is None:
        echo(done.value if isinstance(done.value, str) else json_text(done.value, indent=2))
    else:
        echo(f"{style(done.error or done.code, fg='red')}: {done.message}", err=True)


def _show_accesses(done: AttemptOutcome) -> None:
    """Print what the tool connected to, what it was refused, and what it wrote."""
    from remit.workspace.manifest import network_line

    for connection in done.connections:
        allowed = connection.verdict == "allowed"
        echo(style(str(connection), dim=allowed, fg=None if allowed else "red"), err=True)
        if fix := network_line(connection):
            echo(f"    to allow it, in [always] of tool.toml: {fix}", err=True)
    for item in done.refused:
        if item.allow.startswith("nothing"):  # libraries look for many files outside, and go on without them
            echo(style(f"refused {item.access} {item.what}: no line can allow it", dim=True), err=True)
        else:
            where = f"to allow it, in tool.toml: {item.allow}"
            echo(f"{style('refused', fg='red')} {item.access} {item.what}; {where}", err=True)
    for change in done.changes:
        echo(f"wrote {change.resource} ({change.size} bytes)", err=True)
